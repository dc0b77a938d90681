#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/tile_types.h"
#include "graph/op_id.h"
#include "lamina/dtype.h"

namespace lamina {

// The plain C++ loops over the rows of ops/*.def: definition, fallback, and what the tests compare with.
// Each returns nullptr where the row does not compute in that dtype; 16-bit floats never have an arithmetic
// entry.
TileFn reference_tile(OpId id, Dtype compute);
// Conversion of any dtype to any other, defined for every value. Float to integer truncates as x86 and NumPy
// do: via int32 to dtypes of at most 32 bits (int64 to uint32), keeping the low bits; NaN and what does not
// fit count as the smallest int32 (int64). To bool: x != 0. Complex to real: real part. To floats: nearest,
// ties to even.
TileFn reference_cast(Dtype from, Dtype to);
ReduceFn reference_reduce(OpId id, Dtype compute);
ArgReduceFn reference_argmax(Dtype dtype);
ArgReduceFn reference_argmin(Dtype dtype);

// Dtype of what a row gives for operands (elementwise) or of its accumulator (reductions).
Dtype elementwise_result(OpId id, Dtype compute);
Dtype reduce_dtype(OpId id, Dtype compute);
// Writes the value that leaves an accumulator unchanged: 0, 1, -infinity, ... Throws Unsupported for no such
// pair.
void reduce_identity(OpId id, Dtype compute, void* acc);

}  // namespace lamina
