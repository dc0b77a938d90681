#include "backend/reference/concat.h"

#include "backend/reference/copy.h"
#include "backend/reference/layout.h"

namespace lamina::reference {

void concatenate(std::span<const View> ins, const View& out, int64_t axis) {
  int64_t start = 0;
  for (const View& in : ins) {
    const int64_t length = in.shape[static_cast<size_t>(axis)];
    copy(in, slice_axis(out, axis, start, length));
    start += length;
  }
}

}  // namespace lamina::reference
