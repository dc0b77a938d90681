#include "bindings/table_docs.h"

#include <fmt/format.h>

#include "backend/reference/elementwise_scalar.h"
#include "ops/table.h"

namespace lamina::bind {
namespace {

struct Range {
  double low, high;
};
constexpr Range range(double low, double high) { return {low, high}; }

// What the table says of a row beyond OpInfo.
struct Row {
  int ulp = 0;
  std::string example;
};

template <class T>
std::string printed(T v) {
  if constexpr (std::is_same_v<T, bool>) {
    return fmt::format("array({}, dtype=bool)", v ? "True" : "False");
  } else if constexpr (std::is_integral_v<T>) {
    return fmt::format("array({}, dtype=int32)", v);
  } else {
    return fmt::format("array({:.6g}, dtype=float32)", static_cast<double>(v));
  }
}

template <DtypeSet kDtypes, class F>
std::string unary_example(const char* name, Range r, F f) {
  if constexpr (contains(kDtypes, Dtype::kFloat32)) {
    const double x = r.low <= 0.5 ? 0.5 : r.low + 0.5;
    return fmt::format(">>> mx.{}(mx.array({}))\n{}\n", name, x, printed(f(static_cast<float>(x))));
  } else {
    return fmt::format(">>> mx.{}(mx.array(6))\n{}\n", name, printed(f(int32_t{6})));
  }
}

template <DtypeSet kDtypes, class F>
std::string binary_example(const char* name, F f) {
  if constexpr (contains(kDtypes, Dtype::kFloat32)) {
    return fmt::format(">>> mx.{}(mx.array(2.5), 2)\n{}\n", name, printed(f(2.5f, 2.0f)));
  } else {
    return fmt::format(">>> mx.{}(mx.array(6), 1)\n{}\n", name, printed(f(int32_t{6}, int32_t{1})));
  }
}

Row row_of(OpId id) {
  switch (id) {
#define UNARY(id, name, dtypes, result, scalar, range, ulp, doc)    \
  case OpId::id:                                                    \
    return {ulp, unary_example<(dtypes)>(#name, range, [](auto x) { \
              using T [[maybe_unused]] = decltype(x);               \
              return scalar;                                        \
            })};
#include "lamina/table/unary.def"
#undef UNARY
#define BINARY(id, name, dtypes, result, scalar, range, ulp, doc)     \
  case OpId::id:                                                      \
    return {ulp, binary_example<(dtypes)>(#name, [](auto x, auto y) { \
              using T [[maybe_unused]] = decltype(x);                 \
              return scalar;                                          \
            })};
#include "lamina/table/binary.def"
#undef BINARY
    default: return {};
  }
}

std::string dtype_names(DtypeSet set) {
  if (set == kAnyDtype) return "any dtype";
  std::string out;
  for (int i = 0; i < kNumDtypes; ++i) {
    const auto t = static_cast<Dtype>(i);
    if (contains(set, t)) out += (out.empty() ? "" : ", ") + std::string(dtype_name(t));
  }
  return out;
}

std::string result_text(OpId id, const char* same) {
  switch (op_info(id).result) {
    case ResultRule::kBool: return "Array of bool.";
    case ResultRule::kRealPart: return fmt::format("Array {}; float32 for complex64.", same);
    default: return fmt::format("Array {}.", same);
  }
}

// "Computed in float16, float32, ...; integers become float32 first. Error ... at most 2 units in the last
// place."
std::string dtype_text(OpId id, int ulp) {
  const DtypeSet set = op_info(id).dtypes;
  std::string out = "Computed in " + dtype_names(set);
  if (set != kAnyDtype && contains(set, Dtype::kFloat32) && !contains(set, Dtype::kInt32)) {
    out += "; integers become float32 first";
  }
  out += ".";
  if (ulp > 0)
    out += fmt::format(" Error of float32 and float64 results: at most {} units in the last place.", ulp);
  return out;
}

}  // namespace

std::string unary_doc(OpId id) {
  const Row row = row_of(id);
  return fmt::format(
      "{}\n\nElement by element. {}\n@a Array, NumPy array or number.\n@returns {}\n"
      "@raises ValueError For a dtype that the function is not defined for.\n{}",
      op_info(id).doc, dtype_text(id, row.ulp), result_text(id, "of the shape and computing dtype of `a`"),
      row.example);
}

std::string binary_doc(OpId id) {
  const Row row = row_of(id);
  return fmt::format(
      "{}\n\nElement by element, with broadcasting; x is the first operand, y the second. Dtypes promote to "
      "a common "
      "one; Python numbers take the array's. {}\n"
      "@a First operand: array, NumPy array or number.\n@b Second operand: array, NumPy array or "
      "number.\n@returns {}\n"
      "@raises ValueError For shapes that do not broadcast, or a dtype that the function is not defined "
      "for.\n{}",
      op_info(id).doc, dtype_text(id, row.ulp), result_text(id, "of the broadcast shape and computing dtype"),
      row.example);
}

std::string reduce_doc(OpId id) {
  const OpInfo& info = op_info(id);
  const char* widen =
      info.result == ResultRule::kWiden ? "; bool and 8- and 16-bit integers are widened to 32 bits" : "";
  return fmt::format(
      "{}\n\nOver one, several or all axes{}.\n@axis Axis or axes to reduce over; all of them by default.\n"
      "@raises ValueError For axes that the array has not{}.\n>>> mx.{}(mx.ones((2, 3)), "
      "axis=0).shape\n(3,)\n",
      info.doc, widen, info.result == ResultRule::kSame ? ", or that are empty" : "", info.name);
}

}  // namespace lamina::bind
