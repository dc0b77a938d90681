#include <unordered_map>

#include "autograd/rules.h"

namespace lamina::autograd {

Arrays dependencies(const Node& n, Flow flow) {
  if (n.op == OpId::StopGradient) return {};
  if (n.op == OpId::CustomOutput) {
    const CustomCall& call = *custom_params(n).call;
    if (!is_open(call, flow)) return call.primals;
  }
  Arrays out;
  for (Node* in : n.inputs) out.emplace_back(in);
  return out;
}

std::vector<Node*> nodes_between(const Arrays& from, const Arrays& to, Flow flow) {
  std::unordered_map<const Node*, bool> member;  // of every node that has been left
  for (const Array& a : from) member[a.node()] = true;
  struct Frame {
    Node* node;
    Arrays inputs;
    size_t next = 0;
    bool depends = false;
  };
  std::vector<Node*> order;
  std::vector<Frame> stack;
  auto enter = [&](Node* n) {
    if (!n->tracer || member.count(n)) return;
    member[n] = false;
    stack.push_back({n, dependencies(*n, flow)});
  };
  for (const Array& a : to) {
    enter(a.node());
    while (!stack.empty()) {
      Frame& f = stack.back();
      if (f.next < f.inputs.size()) {
        enter(f.inputs[f.next++].node());
        continue;
      }
      bool depends = false;
      for (const Array& in : f.inputs) {
        auto it = member.find(in.node());
        depends |= it != member.end() && it->second;
      }
      if (depends) {
        member[f.node] = true;
        order.push_back(f.node);
      }
      stack.pop_back();
    }
  }
  return order;
}

namespace {

Array output_of(const Array& tuple, size_t index) {
  const auto& one = tuple.node()->results->items[index];
  return make_node(OpId::Output, one.dtype, one.shape, {tuple},
                   make_params(OutputParams{static_cast<int>(index)}));
}

}  // namespace

OpCall call_of(Node* n) {
  OpCall call{n->op, *n, {}, {}};
  for (Node* in : n->inputs) call.in.emplace_back(in);
  if (n->results) {
    const Array tuple(n);
    for (size_t i = 0; i < n->results->items.size(); ++i) call.outs.push_back(output_of(tuple, i));
  } else {
    call.outs.emplace_back(n);
  }
  return call;
}

Arrays rebuild(const OpCall& call, const Arrays& in) {
  const Node& n = call.node;
  if (n.op == OpId::CustomOutput) {
    const CustomParams& p = custom_params(n);
    return {call_custom(p.call->function, in)[p.index]};
  }
  if (!n.results) return {make_node(n.op, n.dtype, n.shape, in, n.params)};
  std::vector<Shape> shapes;
  std::vector<Dtype> dtypes;
  for (const auto& one : n.results->items) {
    shapes.push_back(one.shape);
    dtypes.push_back(one.dtype);
  }
  return make_tuple_node(n.op, shapes, dtypes, in, n.params);
}

Array sum_to(const Array& g, const Shape& shape) {
  if (g.shape() == shape) return g;
  const size_t shift = g.shape().size() - shape.size();
  Axes reduced, extra;
  for (size_t i = 0; i < g.shape().size(); ++i) {
    if (i < shift) extra.push_back(static_cast<int64_t>(i));
    if (i < shift || (shape[i - shift] == 1 && g.shape()[i] != 1)) reduced.push_back(static_cast<int64_t>(i));
  }
  return squeeze(reduce_keepdims(OpId::Sum, g, reduced), extra);
}

}  // namespace lamina::autograd
