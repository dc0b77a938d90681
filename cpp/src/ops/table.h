#pragma once

#include <string_view>

#include "graph/op_id.h"
#include "lamina/dtype.h"

namespace lamina {

enum class Family : uint8_t { kUnary, kBinary, kTernary, kReduce, kLeaf, kView, kCast, kKernel, kTuple };
enum class ResultRule : uint8_t { kSame, kBool, kRealPart, kWiden };

// What the tables say of an op. `dtypes` and `result` matter for the first four families only.
struct OpInfo {
  std::string_view name;
  Family family;
  DtypeSet dtypes;
  ResultRule result;
  std::string_view doc;
};
const OpInfo& op_info(OpId id);

inline bool is_elementwise(OpId id) {
  const Family f = op_info(id).family;
  return f == Family::kUnary || f == Family::kBinary || f == Family::kTernary || f == Family::kCast;
}

}  // namespace lamina
