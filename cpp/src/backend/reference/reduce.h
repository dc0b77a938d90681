#pragma once

#include "backend/tile_types.h"
#include "core/view.h"

namespace lamina {

// acc[i] joined with element i of each of so many rows, one after the other; `row_bytes` lie between rows.
using JoinRowsFn = void (*)(const void* in, int64_t row_bytes, size_t rows, size_t n, void* acc);

}  // namespace lamina

namespace lamina::reference {

enum class ReduceKind : uint8_t { kSum, kProd, kMax, kMin, kAll, kAny };

// Reduces `in` over `axes` (normalized, distinct, may be empty or all) into `out`, whose axes are those of
// `in` without the reduced ones, or with them at length 1. kSum, kProd: integers and bool accumulate modulo
// 2^64 and are cut to out.dtype (any integer); float16 and bfloat16 accumulate in float32; the others need
// out.dtype == in.dtype. float32 sums are blocked and combined pairwise. kMax, kMin: out.dtype == in.dtype,
// NaN wins, complex by real then imaginary part; an empty reduction gives the lowest or highest value of the
// dtype. kAll, kAny: any dtype to bool; NaN counts as true. One order of summation for given shapes, whatever
// the strides and the thread count. `join`, where given, is the binary op of the reduction for the input's
// dtype, which is also that of its sums; `join_rows` does the same for many rows.
void reduce_general(ReduceKind kind, const View& in, const View& out, const Axes& axes, TileFn join = nullptr,
                    JoinRowsFn join_rows = nullptr);

}  // namespace lamina::reference
