#include <algorithm>
#include <unordered_map>

#include "autograd/backward.h"
#include "graph/eval.h"

namespace lamina {
namespace autograd {
namespace {

bool differentiable(Dtype t) { return is_inexact(t); }

// The transpose of an elementwise derivative for complex operands.
Array complex_vjp(OpId op, ElementwiseRule rule, Grad g) {
  const Array wide = astype(g.out, Dtype::kComplex64);
  switch (op) {
    case OpId::Abs: return multiply(wide, sign(g.x));
    case OpId::Real: return wide;
    case OpId::Imag: return multiply(wide, Array(std::complex<float>(0, 1)));
    case OpId::Conjugate: return conjugate(g.out);
    case OpId::Cast: return wide;
    case OpId::Sign: g.out = wide; return rule(g);  // its own adjoint
    default: g.out = conjugate(wide); return conjugate(rule(g));
  }
}

class Backward {
 public:
  Backward(const Arrays& from, const Arrays& to, const Arrays& cotangents) : from_(from) {
    order_ = nodes_between(from, to, Flow::kBackward);
    for (Node* n : order_) inside_[n] = true;
    for (const Array& a : from) inside_[a.node()] = true;
    for (Node* n : order_) {
      if (n->op == OpId::CustomOutput) ++custom_left_[custom_params(*n).call.get()];
    }
    for (size_t i = 0; i < to.size(); ++i) {
      if (cotangents[i].valid()) add(to[i].node(), cotangents[i]);
    }
  }

  Arrays run() {
    for (auto it = order_.rbegin(); it != order_.rend(); ++it) step(*it);
    Arrays out;
    for (const Array& a : from_) {
      auto found = cotangent_.find(a.node());
      out.push_back(found == cotangent_.end() ? Array() : found->second);
    }
    return out;
  }

 private:
  bool inside(const Array& a) const { return inside_.count(a.node()) > 0 && differentiable(a.dtype()); }

  void add(Node* n, const Array& g) {
    auto [it, fresh] = cotangent_.try_emplace(n, g);
    if (!fresh) it->second = lamina::add(it->second, g);
  }
  void give(const Array& input, const Array& g) {
    if (g.valid() && inside(input)) add(input.node(), astype(g, input.dtype()));
  }

  Array take(Node* n) {
    auto it = cotangent_.find(n);
    if (it == cotangent_.end()) return Array();
    Array g = it->second;
    cotangent_.erase(it);
    return g;
  }

  void step(Node* n) {
    if (n->op == OpId::CustomOutput) return custom(n);
    if (n->op == OpId::Output) {
      const Array g = take(n);
      auto& slots = tuple_[n->inputs[0]];
      slots.resize(n->inputs[0]->results->items.size());
      auto& slot = slots[static_cast<size_t>(n->as<OutputParams>().index)];
      if (g.valid()) slot = slot.valid() ? lamina::add(slot, g) : g;
      return;
    }
    if (n->results) return structured(n, tuple_[n]);
    const Array g = take(n);
    if (!g.valid()) return;
    if (is_elementwise(n->op)) {
      elementwise(n, g);
    } else {
      structured(n, {g});
    }
  }

  void elementwise(Node* n, const Array& g) {
    const Array x(n->inputs[0]);
    if (n->op == OpId::Cast) {
      if (is_complex(g.dtype()) && !is_complex(x.dtype())) return give(x, real(g));
      return give(x, g);
    }
    Grad grad{g, x, Array(), Array(), Array(n)};
    if (n->inputs.size() > 1) grad.y = Array(n->inputs[1]);
    if (n->inputs.size() > 2) grad.z = Array(n->inputs[2]);
    const ElementwiseRules& rules = elementwise_rules(n->op);
    for (size_t i = 0; i < n->inputs.size(); ++i) {
      const Array input(n->inputs[i]);
      if (!rules.by_operand[i] || !inside(input)) continue;
      Array d = is_complex(input.dtype()) ? complex_vjp(n->op, rules.by_operand[i], grad)
                                          : rules.by_operand[i](grad);
      if (d.valid()) give(input, sum_to(d, input.shape()));
    }
  }

  void structured(Node* n, const Arrays& cotangents) {
    const bool any =
        std::any_of(cotangents.begin(), cotangents.end(), [](const Array& c) { return c.valid(); });
    const VjpRule rule = vjp_rule(n->op);
    if (!any || !rule) return;
    const OpCall call = call_of(n);
    std::vector<bool> wants;
    for (const Array& in : call.in) wants.push_back(inside(in));
    const Arrays grads = rule(call, cotangents, wants);
    for (size_t i = 0; i < grads.size(); ++i) {
      if (wants[i]) give(call.in[i], grads[i]);
    }
  }

  // A custom call's rule runs once all cotangents of its outputs are known.
  void custom(Node* n) {
    const CustomParams& p = custom_params(*n);
    const CustomCall* call = p.call.get();
    if (is_open(*call, Flow::kBackward)) {
      if (const Array g = take(n); g.valid()) give(Array(n->inputs[0]), g);
      return;
    }
    CustomState& s = custom_[call];
    s.cotangents.resize(call->outputs.size());
    s.outputs.resize(call->outputs.size());
    s.outputs[p.index] = Array(n);
    if (const Array g = take(n); g.valid()) s.cotangents[p.index] = g;
    s.shared = p.call;
    if (--custom_left_[call] > 0) return;
    finish_custom(*call, s);
  }

  struct CustomState {
    Arrays cotangents, outputs;
    std::shared_ptr<const CustomCall> shared;
  };

  void finish_custom(const CustomCall& call, CustomState& s) {
    bool any = false;
    for (const Array& c : s.cotangents) any |= c.valid();
    if (!any) return;
    std::vector<bool> wants;
    for (const Array& p : call.primals) wants.push_back(inside(p));
    const Arrays grads = custom_gradients(call, s.cotangents, s.outputs, wants);
    for (size_t i = 0; i < grads.size(); ++i) {
      if (grads[i].valid()) give(call.primals[i], grads[i]);
    }
  }

  const Arrays& from_;
  std::vector<Node*> order_;
  std::unordered_map<const Node*, bool> inside_;
  std::unordered_map<Node*, Array> cotangent_;
  std::unordered_map<Node*, Arrays> tuple_;
  std::unordered_map<const CustomCall*, CustomState> custom_;
  std::unordered_map<const CustomCall*, int> custom_left_;
};

}  // namespace

Arrays backward(const Arrays& from, const Arrays& to, const Arrays& cotangents) {
  return Backward(from, to, cotangents).run();
}

Array tracer_of(const Array& a) {
  Array t = make_node(OpId::Identity, a.dtype(), a.shape(), {a});
  t.node()->tracer = true;
  return t;
}

}  // namespace autograd

std::pair<Arrays, Arrays> vjp(const Function& fun, const Arrays& primals, const Arrays& cotangents) {
  const TraceScope scope;
  Arrays tracers;
  for (const Array& p : primals) tracers.push_back(autograd::tracer_of(p));
  Arrays outs = fun(tracers);
  if (outs.size() != cotangents.size()) {
    fail<ValueError>("vjp", "wants one cotangent for each of {} outputs, got {}", outs.size(),
                     cotangents.size());
  }
  Arrays given;
  for (size_t i = 0; i < outs.size(); ++i) {
    if (cotangents[i].valid() && cotangents[i].shape() != outs[i].shape()) {
      fail<ShapeError>("vjp", "output {} has shape {}, its cotangent {}", i, outs[i].shape(),
                       cotangents[i].shape());
    }
    given.push_back(cotangents[i].valid() ? astype(cotangents[i], outs[i].dtype()) : Array());
  }
  Arrays grads = autograd::backward(tracers, outs, given);
  for (size_t i = 0; i < grads.size(); ++i) {
    if (!grads[i].valid()) grads[i] = zeros_like(primals[i]);
  }
  return {std::move(outs), std::move(grads)};
}

std::function<std::pair<Arrays, Arrays>(const Arrays&)> value_and_grad(const Function& fun,
                                                                       const std::vector<int>& argnums) {
  return [fun, argnums](const Arrays& args) {
    Arrays primals;
    std::vector<bool> seen(args.size(), false);
    for (int i : argnums) {
      if (i < 0 || static_cast<size_t>(i) >= args.size() || seen[static_cast<size_t>(i)]) {
        fail<ValueError>("value_and_grad", "argnums must be distinct and within {} arguments, got {}",
                         args.size(), i);
      }
      seen[static_cast<size_t>(i)] = true;
      primals.push_back(args[static_cast<size_t>(i)]);
    }
    const TraceScope scope;
    Arrays tracers, call = args;
    for (size_t i = 0; i < primals.size(); ++i) {
      tracers.push_back(autograd::tracer_of(primals[i]));
      call[static_cast<size_t>(argnums[i])] = tracers.back();
    }
    Arrays outs = fun(call);
    if (outs.empty() || outs[0].size() != 1 || outs[0].ndim() != 0) {
      fail<ValueError>("value_and_grad", "the first output must be a 0-d array, got {}",
                       outs.empty() ? "none" : to_string(outs[0].shape()));
    }
    if (!is_inexact(outs[0].dtype())) {
      fail<DtypeError>("value_and_grad", "the first output must be floating, got {}", outs[0].dtype());
    }
    Arrays cotangents(outs.size());
    cotangents[0] = ones_like(outs[0]);
    Arrays grads = autograd::backward(tracers, outs, cotangents);
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].valid()) grads[i] = zeros_like(primals[i]);
    }
    return std::pair(std::move(outs), std::move(grads));
  };
}

std::function<Arrays(const Arrays&)> grad(const Function& fun, const std::vector<int>& argnums) {
  auto both = value_and_grad(fun, argnums);
  return [both](const Arrays& args) { return both(args).second; };
}

}  // namespace lamina
