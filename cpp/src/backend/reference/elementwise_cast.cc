#include "backend/reference/elementwise.h"
#include "backend/reference/elementwise_convert.h"

namespace lamina {
namespace {

template <class To, class From>
void cast_loop(const void* const* in, void* out, size_t n) {
  const From* x = static_cast<const From*>(in[0]);
  To* y = static_cast<To*>(out);
  for (size_t i = 0; i < n; ++i) y[i] = scalar::convert<To>(x[i]);
}

}  // namespace

TileFn reference_cast(Dtype from, Dtype to) {
  return visit_dtype(from, [to](auto from_tag) -> TileFn {
    using From = typename decltype(from_tag)::type;
    return visit_dtype(
        to, [](auto to_tag) -> TileFn { return &cast_loop<typename decltype(to_tag)::type, From>; });
  });
}

}  // namespace lamina
