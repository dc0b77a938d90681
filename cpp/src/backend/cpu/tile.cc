#include "backend/cpu/tile.h"

#include "backend/cpu/simd_target.h"
#include "backend/cpu/tile_tables.h"

namespace lamina {
namespace {

constexpr bool is_unary(OpId id) {
  switch (id) {
#define UNARY(id, ...) case OpId::id:
#include "lamina/table/unary.def"
#undef UNARY
    return true;
    default: return false;
  }
}

TileFn find(OpId id, Dtype compute) {
  if (id == OpId::Select) return select_tile(compute);
  switch (compute) {
    case Dtype::kBool: return bool_tile(id);
    case Dtype::kFloat32:
    case Dtype::kFloat64:
      return is_unary(id) ? unary_float_tile(id, compute) : binary_float_tile(id, compute);
    case Dtype::kComplex64: return complex_tile(id);
    default: return integer_tile(id, compute);
  }
}

}  // namespace

TileFn simd_tile(OpId id, Dtype compute) {
  init_simd_target();
  TileFn plain = reference_tile(id, compute);
  TileFn fast = plain ? find(id, compute) : nullptr;
  return fast ? fast : plain;
}

}  // namespace lamina
