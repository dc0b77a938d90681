#include "backend/reference/copy.h"

#include "backend/reference/layout.h"
#include "backend/reference/layout_dtype.h"

namespace lamina::reference {

void copy(const View& in, const View& out) {
  const auto loop = collapse_views<2>({&out, &in});
  visit_itemsize(itemsize(in.dtype), [&]<class T>(std::type_identity<T>) {
    const int64_t to_step = loop.inner_stride(0), from_step = loop.inner_stride(1);
    for_each_row(loop, 0, loop.size(), [&](const auto& at, int64_t n) {
      char* to = static_cast<char*>(out.data) + at[0];
      const char* from = static_cast<const char*>(in.data) + at[1];
      for (int64_t i = 0; i < n; ++i) std::memcpy(to + i * to_step, from + i * from_step, sizeof(T));
    });
  });
}

}  // namespace lamina::reference
