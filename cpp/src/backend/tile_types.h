#pragma once

#include <cstddef>
#include <cstdint>

namespace lamina {

// One elementwise op on n elements of contiguous operands: unary in[0]; binary in[0], in[1]; select in[0]
// (bool), in[1], in[2]. `out` may be one of the operands where the item sizes agree; other overlaps are not
// allowed. A bool is one byte, 0 or 1. No alignment beyond that of an element is needed. n may be 0.
using TileFn = void (*)(const void* const* in, void* out, size_t n);

// Folds n contiguous elements into the accumulator *acc (its dtype: reduce_dtype). The order of combination
// depends on n only, never on alignment; rounding errors of a sum grow as log(n), whatever n.
using ReduceFn = void (*)(const void* in, size_t n, void* acc);

// The same for the products of n elements of two operands.
using ReduceProductsFn = void (*)(const void* x, const void* y, size_t n, void* acc);

// Index of the first largest (or smallest) of n > 0 contiguous elements; the first NaN wins over any number.
using ArgReduceFn = int64_t (*)(const void* in, size_t n);

// One row more of n searches side by side: where row[i] is beyond best[i] (or the first NaN), it takes its
// place, and `index` that of at[i], an unsigned integer as wide as an element. best and at have room for 64
// bytes beyond n elements.
using ArgColumnsFn = void (*)(const void* row, size_t n, uint64_t index, void* best, void* at);

}  // namespace lamina
