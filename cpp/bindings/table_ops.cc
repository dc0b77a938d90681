#include <fmt/format.h>

#include <set>

#include "bindings/ops.h"
#include "bindings/table_docs.h"
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
#define UNARY(id, name, dtypes, result, scalar, range, ulp, doc)                                \
  if constexpr (OpId::id != OpId::Round) {                                                      \
    def(core, unary_signature(#name), unary_doc(OpId::id), UnaryRow<lamina::name>(),            \
        unary_call<lamina::name>);                                                              \
    if (is_method(#name)) {                                                                     \
      def(type, #name "(self, *, stream: StreamOrDevice = None) -> array", unary_doc(OpId::id), \
          UnaryRow<lamina::name>());                                                            \
    }                                                                                           \
  }
#include "lamina/table/unary.def"
#undef UNARY
#define BINARY(id, name, dtypes, result, scalar, range, ulp, doc)                     \
  def(core, binary_signature(#name), binary_doc(OpId::id), BinaryRow<lamina::name>(), \
      binary_call<lamina::name>);
#include "lamina/table/binary.def"
#undef BINARY
#define REDUCE(id, name, dtypes, result, identity, combine, doc) \
  def_both(core, type, reduce_signature(#name), reduce_doc(OpId::id), ReduceRow<lamina::name>());
#include "lamina/table/reduce.def"
#undef REDUCE
  for (const Alias& a : kAliases) alias(core, a.name, a.existing);
  alias(type, "conj", "conjugate");
}

}  // namespace lamina::bind
