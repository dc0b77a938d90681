#pragma once

#include "core/view.h"

namespace lamina::cpu {

// All along `axis`, which is normalized. Order: ascending, NaN last, -0 equal to 0; complex by real then
// imaginary part, those with a NaN last as in NumPy. `out` has the shape of `in`, any strides, and may not
// overlap it.
void sort(const View& in, const View& out, int64_t axis);
// Zeros of both signs come out as -0, then 0; NaNs as some NaN.
// Indices that sort; stable: equal elements (and NaNs) keep their order. `out` is uint32, uint64 or int64.
void argsort(const View& in, const View& out, int64_t axis);

// Element kth (0 <= kth < length) is where sort would put it, none before is larger, none after is smaller.
// The order inside the two parts is fixed for given values, nothing more.
void partition(const View& in, const View& out, int64_t kth, int64_t axis);
void argpartition(const View& in, const View& out, int64_t kth, int64_t axis);

// The k largest along `axis` (NaN counts as largest) in ascending order; out.shape[axis] == k.
void topk(const View& in, const View& out, int64_t axis);
// Their indices: the last k of argsort.
void argtopk(const View& in, const View& out, int64_t axis);

}  // namespace lamina::cpu
