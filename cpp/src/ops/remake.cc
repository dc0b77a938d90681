#include "ops/remake.h"

#include <algorithm>

#include "ops/common.h"
#include "ops/remake_case.h"

namespace lamina {
namespace remaking {

void Case::wrong(std::string_view what) const {
  std::string got;
  for (const Array& a : in) { got += fmt::format("{}{} {}", got.empty() ? "" : ", ", a.dtype(), a.shape()); }
  fail<ValueError>(name(), "wants {}; operands are {}; the result is to be {} {}", what,
                   got.empty() ? "none" : got, dtype(), wanted());
}

namespace {

Types elementwise_results(const Case& c, size_t operands) {
  c.operands(operands, operands);
  const OpInfo& info = op_info(c.recipe.op);
  const bool select = info.family == Family::kTernary;
  if (select) c.want(c.in[0].dtype() == Dtype::kBool, "a bool condition");
  const Dtype t = c.in.back().dtype();
  c.want(contains(info.dtypes, t), "a dtype that the op computes in");
  Shape shape = c.shape(0);
  for (size_t i = 0; i < operands; ++i) {
    c.want(c.in[i].dtype() == t || (select && i == 0), "operands of one dtype");
    shape = broadcast_shapes(shape, c.shape(i), info.name.data());
  }
  Dtype out = t;
  if (info.result == ResultRule::kBool) out = Dtype::kBool;
  if (info.result == ResultRule::kRealPart && is_complex(t)) out = Dtype::kFloat32;
  return {{shape, out}};
}

// Sorted, distinct axes of `ndim`.
void check_axes_of(const Case& c, const Axes& axes, size_t ndim) {
  for (size_t i = 0; i < axes.size(); ++i) {
    c.want(axes[i] >= 0 && axes[i] < static_cast<int64_t>(ndim) && (i == 0 || axes[i - 1] < axes[i]),
           "sorted, distinct axes of the operand");
  }
}

Types reduce_results(const Case& c) {
  c.operands(1, 1);
  const OpInfo& info = op_info(c.recipe.op);
  const Axes& axes = c.as<AxesParams>().axes;
  check_axes_of(c, axes, c.shape(0).size());
  c.want(contains(info.dtypes, c.in[0].dtype()), "a dtype that the op computes in");
  if (info.result == ResultRule::kSame) {
    for (int64_t a : axes) c.want(c.shape(0)[static_cast<size_t>(a)] > 0, "an axis that is not empty");
  }
  const Dtype out = info.result == ResultRule::kBool ? Dtype::kBool : c.in[0].dtype();
  return {{keep_dims(c.shape(0), axes), out}};
}

// Whether elements start + i * step, i < count, all lie in [0, length).
bool box_fits(int64_t start, int64_t step, int64_t count, int64_t length) {
  if (count == 0) return true;
  int64_t last = 0;
  if (__builtin_mul_overflow(count - 1, step, &last) || __builtin_add_overflow(start, last, &last)) {
    return false;
  }
  return start >= 0 && start < length && last >= 0 && last < length;
}

void check_box(const Case& c, const Shape& whole, const Shape& box, const Shape& start,
               const Strides& strides) {
  c.want(start.size() == whole.size() && strides.size() == whole.size() && box.size() == whole.size(),
         "a start and a step for each axis");
  for (size_t i = 0; i < whole.size(); ++i) {
    c.want(box_fits(start[i], strides[i], box[i], whole[i]), "a box inside the operand");
  }
}

Types as_strided_results(const Case& c) {
  const auto& p = c.as<AsStridedParams>();
  const Node& in = *c.in[0].node();
  c.want(in.op == OpId::Contiguous && c.shape(0).size() == 1, "a row-contiguous operand of one axis");
  as_strided(c.in[0], c.wanted(), p.strides, p.offset);  // throws where it leaves the operand
  return {{c.wanted(), c.in[0].dtype()}};
}

Types view_results(const Case& c) {
  const auto from = static_cast<int64_t>(itemsize(c.in[0].dtype()));
  const auto to = static_cast<int64_t>(itemsize(c.dtype()));
  if (from == to) return {{c.shape(0), c.dtype()}};
  c.want(c.in[0].node()->op == OpId::Contiguous, "a row-contiguous operand");
  const Array v = view(c.in[0], c.dtype());
  return {{v.shape(), v.dtype()}};
}

Types transpose_results(const Case& c) {
  const Axes& axes = c.as<AxesParams>().axes;
  Axes sorted = axes;
  std::sort(sorted.begin(), sorted.end());
  check_axes_of(c, sorted, c.shape(0).size());
  c.want(axes.size() == c.shape(0).size(), "each axis once");
  Shape shape;
  for (int64_t a : axes) shape.push_back(c.shape(0)[static_cast<size_t>(a)]);
  return {{shape, c.in[0].dtype()}};
}

Types expand_results(const Case& c) {
  const Axes& axes = c.as<AxesParams>().axes;
  check_axes_of(c, axes, c.shape(0).size() + axes.size());
  const Array out = expand_dims(c.in[0], axes);
  return {{out.shape(), out.dtype()}};
}

Types squeeze_results(const Case& c) {
  const Axes& axes = c.as<AxesParams>().axes;
  check_axes_of(c, axes, c.shape(0).size());
  for (int64_t a : axes) c.want(c.shape(0)[static_cast<size_t>(a)] == 1, "axes of length 1");
  return {{drop_dims(c.shape(0), axes), c.in[0].dtype()}};
}

Types broadcast_results(const Case& c) {
  const Shape common = broadcast_shapes(c.shape(0), c.wanted(), "broadcast_to");
  c.want(common == c.wanted(), "an operand that broadcasts to the result");
  return {{c.wanted(), c.in[0].dtype()}};
}

Types output_results(const Case& c) {
  const int index = c.as<OutputParams>().index;
  const Results* results = c.in[0].node()->results.get();
  c.want(results && index >= 0 && static_cast<size_t>(index) < results->items.size(),
         "one of several results");
  const Results::One& one = results->items[static_cast<size_t>(index)];
  return {{one.shape, one.dtype}};
}

Types view_op_results(const Case& c) {
  c.operands(1, c.recipe.op == OpId::Depends ? SIZE_MAX : 1);
  c.want(c.recipe.op == OpId::Output || !c.in[0].node()->results, "one value, not several results");
  switch (c.recipe.op) {
    case OpId::Output: return output_results(c);
    case OpId::Identity:
    case OpId::StopGradient:
    case OpId::Depends: return {c.like(0)};
    case OpId::Broadcast: return broadcast_results(c);
    case OpId::Transpose: return transpose_results(c);
    case OpId::ExpandDims: return expand_results(c);
    case OpId::Squeeze: return squeeze_results(c);
    case OpId::Reshape:
      c.want(num_elements(c.wanted()) == c.in[0].size(), "a result with as many elements");
      return {{c.wanted(), c.in[0].dtype()}};
    case OpId::Slice: {
      const auto& p = c.as<SliceParams>();
      check_box(c, c.shape(0), c.wanted(), p.start, p.strides);
      return {{c.wanted(), c.in[0].dtype()}};
    }
    case OpId::AsStrided: return as_strided_results(c);
    case OpId::ViewAs: return view_results(c);
    default: c.wrong("an op that can be made from a recipe");
  }
}

}  // namespace
}  // namespace remaking

NodeRecipe recipe_of(const Node& n) {
  NodeRecipe r{n.op, {}, n.params};
  if (n.results) {
    for (const Results::One& one : n.results->items) r.results.push_back({one.shape, one.dtype});
  } else {
    r.results.push_back({n.shape, n.dtype});
  }
  return r;
}

std::vector<ResultType> infer_results(const NodeRecipe& recipe, std::span<const Array> operands) {
  const remaking::Case c{recipe, operands};
  if (recipe.results.empty()) fail<ValueError>(c.name(), "a recipe without results");
  for (const ResultType& r : recipe.results) {
    for (int64_t d : r.shape) c.want(d >= 0, "lengths that are not negative");
    num_elements(r.shape);  // throws where the product overflows
  }
  switch (op_info(recipe.op).family) {
    case Family::kUnary: return remaking::elementwise_results(c, 1);
    case Family::kBinary: return remaking::elementwise_results(c, 2);
    case Family::kTernary: return remaking::elementwise_results(c, 3);
    case Family::kReduce: return remaking::reduce_results(c);
    case Family::kCast: c.operands(1, 1); return {{c.shape(0), c.dtype()}};
    case Family::kView: return remaking::view_op_results(c);
    case Family::kLeaf: c.wrong("an op with operands");
    default: return remaking::kernel_results(c);
  }
}

namespace {

Array make_recipe_node(const NodeRecipe& r, std::span<const Array> operands) {
  if (op_info(r.op).family == Family::kReduce) {
    return reduce_keepdims(r.op, operands[0], static_cast<const ParamsOf<AxesParams>&>(*r.params).value.axes);
  }
  Array out = make_node(r.op, r.results[0].dtype, r.results[0].shape, operands, r.params);
  if (op_info(r.op).family == Family::kTuple) {
    Ref<Results> results(new Results);
    for (const ResultType& t : r.results) results->items.push_back({t.shape, t.dtype, nullptr});
    out.node()->results = std::move(results);
  }
  return out;
}

}  // namespace

Array remake(const NodeRecipe& recipe, std::span<const Array> operands) {
  if (infer_results(recipe, operands) != recipe.results) {
    remaking::Case{recipe, operands}.wrong("the results that follow from its operands");
  }
  return make_recipe_node(recipe, operands);
}

Array remake_inferred(NodeRecipe recipe, std::span<const Array> operands) {
  recipe.results = infer_results(recipe, operands);
  return make_recipe_node(recipe, operands);
}

}  // namespace lamina
