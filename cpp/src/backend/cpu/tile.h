#pragma once

#include "backend/reference/elementwise.h"
#include "backend/reference/reduce.h"

namespace lamina {

// SIMD kernels over one tile (a few KB in L1), for the target in use (simd_target.h). Contracts as in
// backend/reference/elementwise.h; a pair without SIMD code gives the reference loop, an impossible one
// nullptr. 16-bit floats: cast_tile to float32, compute, cast_tile back.
TileFn simd_tile(OpId id, Dtype compute);
// Two binary ops in one pass over three operands: `outer` of inner(in[0], in[1]) and in[2], in this order
// where `left`, in the other where not. A square gets its operand twice. Null where there is no such pair.
TileFn pair_tile(OpId inner, OpId outer, bool left, Dtype compute);
// Any dtype to any other; float16 and bfloat16 round to nearest even and keep NaN.
TileFn cast_tile(Dtype from, Dtype to);

SpreadFn spread_tile();

// Fold of one row into one accumulator.
ReduceFn reduce_tile(OpId id, Dtype compute);
// Fold of the products of two rows; null where there is none.
ReduceProductsFn reduce_products_tile(OpId id, Dtype compute);
// acc[i] = combine(acc[i], in[i]): fold of a row into a row of accumulators; in[0] the accumulators, in[1]
// the row, out = in[0]. All and any take bool rows only: cast_tile first.
TileFn reduce_cols_tile(OpId id, Dtype compute);
// The same for many rows at a time; null but for sums of float32 and float64.
JoinRowsFn reduce_rows_tile(OpId id, Dtype compute);
ArgReduceFn argmax_tile(Dtype dtype);
ArgReduceFn argmin_tile(Dtype dtype);
// Null for elements of less than 4 bytes, and without SIMD.
ArgColumnsFn arg_columns_tile(bool largest, Dtype dtype);

}  // namespace lamina
