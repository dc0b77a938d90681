#pragma once

#include "core/view.h"

namespace lamina::reference {

// out[..., m, n] = sum over k of a[..., m, k] * b[..., k, n], by plain loops: one dtype, equal batch axes,
// any strides. Floats accumulate in double, complex64 in complex double, integers modulo 2^64; bool is
// any-of-all.
void matmul(const View& a, const View& b, const View& out);

// out[..., m, n] = sum of a[m, k] * b[k, n] over k in [segments[..., 0], segments[..., 1]), by `multiply`.
// The segments are int64. Throws IndexError for the first that is not within the inner axis.
void segmented_matmul(const View& a, const View& b, const View& segments, const View& out,
                      void (*multiply)(const View& a, const View& b, const View& out));

}  // namespace lamina::reference
