#include "ops/table.h"

namespace lamina {
namespace {

constexpr ResultRule kSame = ResultRule::kSame;
constexpr ResultRule kBool = ResultRule::kBool;
constexpr ResultRule kRealPart = ResultRule::kRealPart;
constexpr ResultRule kWiden = ResultRule::kWiden;

// In the order of OpId.
constexpr OpInfo kOps[] = {
#define BINARY(id, name, dtypes, result, scalar, range, ulp, doc) \
  {#name, Family::kBinary, dtypes, result, doc},
#define UNARY(id, name, dtypes, result, scalar, range, ulp, doc) {#name, Family::kUnary, dtypes, result, doc},
#define TERNARY(id, name, dtypes, result, scalar, doc) {#name, Family::kTernary, dtypes, result, doc},
#define REDUCE(id, name, dtypes, result, identity, combine, doc) \
  {#name, Family::kReduce, dtypes, result, doc},
#define STRUCTURED(id, name, family, doc) {#name, Family::family, kAnyDtype, kSame, doc},
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
};
static_assert(sizeof kOps / sizeof kOps[0] == kNumOps);

}  // namespace

const OpInfo& op_info(OpId id) { return kOps[static_cast<size_t>(id)]; }

}  // namespace lamina
