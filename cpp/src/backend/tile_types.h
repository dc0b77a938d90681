#pragma once

#include <cstddef>
#include <cstdint>

#include "core/thread_pool.h"

namespace lamina {

// One elementwise op on n elements of contiguous operands: unary in[0]; binary in[0], in[1]; select in[0]
// (bool), in[1], in[2]. `out` may be one of the operands where the item sizes agree; other overlaps are not
// allowed. A bool is one byte, 0 or 1. No alignment beyond that of an element is needed. n may be 0.
using TileFn = void (*)(const void* const* in, void* out, size_t n);

// Writes n elements of `item` bytes (1, 2, 4 or 8), all of them the one at `value`.
using SpreadFn = void (*)(void* out, const void* value, int64_t n, int64_t item);

// Copies whose stores go past the caches. Other threads see them after a fence of the thread that made them.
struct StreamCopy {
  bool (*worth)(int64_t bytes);  // whether an output of that size will not stay in the caches anyway
  void (*copy)(void* to, const void* from, int64_t bytes);
  void (*fence)();
};

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

// What a kernel calls once for every finished tile of its result while it is hot, before it is rounded to the
// result's dtype: `tile` holds rows x cols float32 values, row i at tile + i * ld; row0 and col0 say where it
// lies in the result, whose leading axes are numbered through as rows. It may change the tile in place. Runs
// on pool threads, on disjoint tiles.
using TileEpilogue =
    FunctionRef<void(float* tile, int64_t row0, int64_t rows, int64_t col0, int64_t cols, int64_t ld)>;

}  // namespace lamina
