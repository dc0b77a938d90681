#include <fmt/format.h>

#include <set>

#include "bindings/ops.h"
#include "ops/table.h"

namespace lamina::bind {
namespace {

using Unary = Array (*)(const Array&);
using Binary = Array (*)(const Array&, const Array&);
using Reduce = Array (*)(const Array&, const OptAxes&, bool);

template <Unary Op>
struct UnaryRow {
  Array operator()(const Array& a) const { return Op(a); }
};
template <Unary Op>
PyObject* unary_call(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  if (count != 1 || keywords || !is_array(args[0])) {
    return detail::Bound<UnaryRow<Op>, false>::call(self, args, count, keywords);
  }
  return guarded([&] { return wrap(Op(value_of(args[0]))); });
}

template <Binary Op>
struct BinaryRow {
  Array operator()(Any a, Any b) const {
    Array x, y;
    if (!operand_pair(a.object, b.object, x, y)) (as_array(a.object) ? b : a).wrong();
    return Op(x, y);
  }
};
template <Binary Op>
PyObject* binary_call(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  if (count != 2 || keywords || !is_array(args[0]) || !is_array(args[1])) {
    return detail::Bound<BinaryRow<Op>, false>::call(self, args, count, keywords);
  }
  return guarded([&] { return wrap(Op(value_of(args[0]), value_of(args[1]))); });
}

template <Reduce Op>
struct ReduceRow {
  Array operator()(const Array& a, const OptAxes& axes, bool keepdims) const { return Op(a, axes, keepdims); }
};

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

// "Computed in float16, float32, ...; other dtypes become float32 first."
std::string dtype_text(OpId id) {
  const DtypeSet set = op_info(id).dtypes;
  std::string out = "Computed in " + dtype_names(set);
  if (set != kAnyDtype && contains(set, Dtype::kFloat32)) out += "; integers become float32 first";
  return out + ".";
}

std::string unary_doc(OpId id, const char* name, int ulp) {
  const OpInfo& info = op_info(id);
  std::string out = fmt::format("{} Element by element.\n\n{}", info.doc, dtype_text(id));
  if (ulp > 0)
    out += fmt::format(" Error of float32 and float64 results: at most {} units in the last place.", ulp);
  out += fmt::format("\n@a Array, NumPy array or number.\n@returns {}\n",
                     result_text(id, "of the shape and computing dtype of `a`"));
  out += fmt::format("@raises ValueError For a dtype that the function is not defined for.\n");
  const bool bits = !contains(info.dtypes, Dtype::kFloat32);
  return out + fmt::format(">>> mx.{}(mx.array({})).shape\n(2,)\n", name, bits ? "[1, 2]" : "[0.25, 0.5]");
}

std::string binary_doc(OpId id, const char* name, int ulp) {
  const OpInfo& info = op_info(id);
  std::string out = fmt::format(
      "{} Element by element, with broadcasting.\n\nThe operands' dtypes promote to a common one; "
      "Python numbers take the array's. {}",
      info.doc, dtype_text(id));
  if (ulp > 0)
    out += fmt::format(" Error of float32 and float64 results: at most {} units in the last place.", ulp);
  out +=
      "\n@a First operand: array, NumPy array or number.\n@b Second operand: array, NumPy array or number.\n";
  out += fmt::format("@returns {}\n", result_text(id, "of the broadcast shape and computing dtype"));
  out +=
      "@raises ValueError For shapes that do not broadcast, or a dtype that the function is not defined "
      "for.\n";
  return out + fmt::format(">>> mx.{}(mx.array([1, 2]), mx.array([[1], [3]])).shape\n(2, 2)\n", name);
}

std::string reduce_doc(OpId id, const char* name) {
  const OpInfo& info = op_info(id);
  const char* widen = info.result == ResultRule::kWiden
                          ? " bool and 8- and 16-bit integers are widened to 32 bits first."
                          : "";
  std::string out = fmt::format("{} Over one, several or all axes.{}", info.doc, widen);
  out += "\n@axis Axis or axes to reduce over; all of them by default.\n";
  out += "@raises ValueError For axes that the array has not.\n";
  return out + fmt::format(">>> mx.{}(mx.ones((2, 3)), axis=0).shape\n(3,)\n", name);
}

bool by_position_only(std::string_view name) {
  static const std::set<std::string_view> names = {"arctan2",     "logaddexp", "logical_and", "logical_or",
                                                   "logical_xor", "maximum",   "minimum",     "power"};
  return names.count(name) > 0;
}

std::string unary_signature(std::string_view name) {
  const bool keyword = name.substr(0, 2) == "is" || name == "bitwise_invert";
  const char* parameters = keyword               ? "a: scalar | array, stream"
                           : name == "conjugate" ? "a: scalar | array, *, stream"
                                                 : "a: scalar | array, /, *, stream";
  return fmt::format("{}({}: StreamOrDevice = None) -> array", name, parameters);
}

std::string binary_signature(std::string_view name) {
  const char* between = by_position_only(name) ? ", /, *, " : ", ";
  return fmt::format("{}(a: scalar | array, b: scalar | array{}stream: StreamOrDevice = None) -> array", name,
                     between);
}

std::string reduce_signature(std::string_view name) {
  return fmt::format(
      "{}(a: array, /, axis: None | int | Sequence[int] = None, keepdims: bool = False, *, "
      "stream: StreamOrDevice = None) -> array",
      name);
}

struct Alias {
  const char *name, *existing;
};
constexpr Alias kAliases[] = {
    {"acos", "arccos"},
    {"acosh", "arccosh"},
    {"asin", "arcsin"},
    {"asinh", "arcsinh"},
    {"atan", "arctan"},
    {"atanh", "arctanh"},
    {"atan2", "arctan2"},
    {"pow", "power"},
    {"bitwise_left_shift", "left_shift"},
    {"conj", "conjugate"},
    {"bitwise_right_shift", "right_shift"},
};

// Unary functions that are methods too.
bool is_method(std::string_view name) {
  static const std::set<std::string_view> names = {"abs",   "cos",  "exp",       "log",        "log10",
                                                   "log1p", "log2", "conjugate", "reciprocal", "rsqrt",
                                                   "sin",   "sqrt", "square"};
  return names.count(name) > 0;
}

}  // namespace

void add_table_ops(const Scope& core, const Scope& type) {
#define UNARY(id, name, dtypes, result, scalar, range, ulp, doc)                                            \
  if constexpr (OpId::id != OpId::Round) {                                                                  \
    def(core, unary_signature(#name), unary_doc(OpId::id, #name, ulp), UnaryRow<lamina::name>(),            \
        unary_call<lamina::name>);                                                                          \
    if (is_method(#name)) {                                                                                 \
      def(type, #name "(self, *, stream: StreamOrDevice = None) -> array", unary_doc(OpId::id, #name, ulp), \
          UnaryRow<lamina::name>());                                                                        \
    }                                                                                                       \
  }
#include "lamina/table/unary.def"
#undef UNARY
#define BINARY(id, name, dtypes, result, scalar, range, ulp, doc)                                 \
  def(core, binary_signature(#name), binary_doc(OpId::id, #name, ulp), BinaryRow<lamina::name>(), \
      binary_call<lamina::name>);
#include "lamina/table/binary.def"
#undef BINARY
#define REDUCE(id, name, dtypes, result, identity, combine, doc) \
  def_both(core, type, reduce_signature(#name), reduce_doc(OpId::id, #name), ReduceRow<lamina::name>());
#include "lamina/table/reduce.def"
#undef REDUCE
  for (const Alias& a : kAliases) alias(core, a.name, a.existing);
  alias(type, "conj", "conjugate");
}

}  // namespace lamina::bind
