#pragma once

#include "backend/cpu/tile.h"

// Lookups of one file of kernels each, for the target in use; nullptr where the file has no SIMD code for the
// pair.
namespace lamina {

TileFn unary_float_tile(OpId id, Dtype compute);
TileFn binary_float_tile(OpId id, Dtype compute);
TileFn integer_tile(OpId id, Dtype compute);
TileFn bool_tile(OpId id);
TileFn complex_tile(OpId id);
TileFn select_tile(Dtype compute);

}  // namespace lamina
