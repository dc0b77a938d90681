#pragma once

#include <cstdint>

namespace lamina {

// Every op, in the order of the tables below.
enum class OpId : uint16_t {
#define UNARY(id, ...) id,
#define BINARY(id, ...) id,
#define TERNARY(id, ...) id,
#define REDUCE(id, ...) id,
#define STRUCTURED(id, ...) id,
#include "lamina/table/binary.def"
#include "lamina/table/reduce.def"
#include "lamina/table/structured.def"
#include "lamina/table/ternary.def"
#include "lamina/table/unary.def"
#undef UNARY
#undef BINARY
#undef TERNARY
#undef REDUCE
#undef STRUCTURED
  kCount
};
inline constexpr int kNumOps = static_cast<int>(OpId::kCount);

}  // namespace lamina
