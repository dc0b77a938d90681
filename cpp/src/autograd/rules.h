#pragma once

#include <functional>
#include <optional>
#include <span>
#include <typeinfo>
#include <utility>
#include <vector>

#include "lamina/transforms.h"
#include "ops/common.h"

namespace lamina::autograd {

// ---- elementwise rows ----

// What an elementwise rule sees. `out` is a tangent or a cotangent of the result; the rule multiplies it by
// the derivative with respect to one operand, so that one rule serves both directions. It may return an empty
// handle: zero.
struct Grad {
  Array out;
  Array x, y, z;  // the operands, as many as the op has
  Array value;    // the op's result
};
using ElementwiseRule = Array (*)(const Grad&);

// By operand; null where the derivative is zero everywhere.
struct ElementwiseRules {
  ElementwiseRule by_operand[3] = {nullptr, nullptr, nullptr};
};
const ElementwiseRules& elementwise_rules(OpId op);

// ---- structured ops ----

// A node with its operands; for several-output ops `outs` are all its Output nodes' values, else outs[0] is
// the result.
struct OpCall {
  OpId op;
  const Node& node;
  Arrays in;
  Arrays outs;
};

// Gradients of the operands for the cotangents of outs (an empty handle: zero). Only operands with wants[i]
// need one; an empty handle says zero.
using VjpRule = Arrays (*)(const OpCall& call, const Arrays& cotangents, const std::vector<bool>& wants);
// Null for ops through which no gradient flows.
VjpRule vjp_rule(OpId op);

// Which operands the op is linear in, jointly: its tangent is the op itself applied to their tangents, the
// other operands staying as they are.
std::vector<bool> linear_operands(const OpCall& call);

// A node like call's with other operands of the same shapes and dtypes; all outputs.
Arrays rebuild(const OpCall& call, const Arrays& in);

// Of Convolution.
Arrays convolution_rule(const OpCall& call, const Arrays& cotangents, const std::vector<bool>& wants);

// Of SegmentedMatmul.
Arrays segmented_matmul_rule(const OpCall& call, const Arrays& cotangents, const std::vector<bool>& wants);

// Of GatherMatmul and GatherQuantizedMatmul.
Arrays gather_matmul_rule(const OpCall& call, const Arrays& cotangents, const std::vector<bool>& wants);
Arrays gather_quantized_rule(const OpCall& call, const Arrays& cotangents, const std::vector<bool>& wants);

// Sums of a dense gradient of w = scale * q + bias over its groups: those of scales and biases.
std::pair<Array, Array> group_gradients(const Array& dw, const Array& packed, const Array& scales,
                                        int group_size, int bits);
// True for formats whose scales are bytes: nothing but x has a gradient. Throws where one of theirs is
// wanted.
bool has_byte_scales(const char* op, const QuantParams& p, const std::vector<bool>& wants,
                     size_t first_scale);

// The conjugate of matrices, turned.
Array adjoint(const Array& a);
// Operand i, where there are as many.
std::optional<Array> input_at(std::span<const Array> in, size_t i);

// Sums g down to `shape`, which broadcasts to g's.
Array sum_to(const Array& g, const Shape& shape);

// ---- batching ----

// One op under vmap: operands with batched[i] carry the mapped axis of length `size` in front. Returns all
// outputs, each with the mapped axis in front.
struct BatchCall {
  OpCall call;
  std::vector<bool> batched;
  int64_t size;
};
Arrays batch(const BatchCall& b);

// ---- functions with rules of their own ----

// A function with its rules, and whether it is closed: derivatives then do not follow the graph of a call but
// run the rule or, where there is none, the function again.
struct CustomFunction {
  Function fun;
  CustomRules rules;
  bool closed = false;
  size_t captured = 0;  // how many primals, the last ones, are none of the function's arguments
};

// Shared by the CustomOutput nodes of one call.
struct CustomCall {
  CustomFunction function;
  Arrays primals;
  std::vector<std::pair<Shape, Dtype>> outputs;
};
struct CustomParams final : Params {
  std::shared_ptr<const CustomCall> call;
  size_t index;
  CustomParams(std::shared_ptr<const CustomCall> c, size_t i) : call(std::move(c)), index(i) {}
  bool equals(const Params& o) const override { return this == &o; }
  void append_structure(std::vector<uint32_t>&) const override {}
  std::string describe() const override { return "index=" + std::to_string(index); }
};
const CustomParams& custom_params(const Node& n);
// Of the StopGradient nodes that close a call: where the rules are dropped, so are these.
struct ClosedParams final : Params {
  bool equals(const Params& o) const override { return typeid(o) == typeid(*this); }
  void append_structure(std::vector<uint32_t>&) const override {}
  std::string describe() const override { return ""; }
};
inline bool closes_call(const Node& n) { return n.op == OpId::StopGradient && n.params; }
Arrays call_custom(const CustomFunction& function, const Arrays& primals);

// What the rules of a call give, checked: gradients of the primals, tangents of the outputs (empty handles on
// both sides say zero; `wants`: which primals' gradients are needed), outputs over `size` examples with the
// mapped axis in front.
Arrays custom_gradients(const CustomCall& call, const Arrays& cotangents, const Arrays& outputs,
                        const std::vector<bool>& wants);
Arrays custom_tangents(const CustomCall& call, const Arrays& tangents);
Arrays custom_mapped(const CustomCall& call, const Arrays& primals, const std::vector<bool>& mapped,
                     int64_t size);

// ---- graph walks ----

// Which derivatives a walk is for: of a custom call each has its own rule.
enum class Flow { kForward, kBackward };

// Whether derivatives of that kind follow the graph of a custom call's function.
bool is_open(const CustomCall& call, Flow flow);

// What a node's derivatives depend on: its inputs, or a custom call's primals.
Arrays dependencies(const Node& n, Flow flow);

// Nodes between `from` and `to`: those that depend on a node of `from`, producers first, without `from`
// itself.
std::vector<Node*> nodes_between(const Arrays& from, const Arrays& to, Flow flow);

// The op call of a node; Output nodes' producers give all outputs that are in use.
OpCall call_of(Node* n);

}  // namespace lamina::autograd
