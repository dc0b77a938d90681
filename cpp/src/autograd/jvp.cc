#include <unordered_map>

#include "autograd/backward.h"
#include "graph/eval.h"

namespace lamina {
namespace autograd {
namespace {

// Derivatives of elementwise ops along a complex tangent that are not the holomorphic rule.
Array complex_jvp(OpId op, ElementwiseRule rule, const Grad& g) {
  switch (op) {
    case OpId::Abs: return real(multiply(conjugate(sign(g.x)), g.out));
    case OpId::Real: return real(g.out);
    case OpId::Imag: return imag(g.out);
    default: return rule(g);
  }
}

class Forward {
 public:
  Forward(const Arrays& from, const Arrays& tangents) {
    for (size_t i = 0; i < from.size(); ++i) {
      if (tangents[i].valid()) tangent_[from[i].node()] = tangents[i];
    }
  }

  Arrays run(const Arrays& from, const Arrays& to) {
    for (Node* n : nodes_between(from, to, Flow::kForward)) step(n);
    Arrays out;
    for (const Array& a : to) out.push_back(of(a.node()));
    return out;
  }

 private:
  Array of(Node* n) const {
    auto it = tangent_.find(n);
    return it == tangent_.end() ? Array() : it->second;
  }

  void step(Node* n) {
    if (n->op == OpId::CustomOutput) return custom(n);
    if (n->op == OpId::Output) {
      const Arrays& all = tuple_[n->inputs[0]];
      const auto k = static_cast<size_t>(n->as<OutputParams>().index);
      if (k < all.size() && all[k].valid()) tangent_[n] = all[k];
      return;
    }
    if (is_elementwise(n->op)) return elementwise(n);
    structured(n);
  }

  void elementwise(Node* n) {
    const Array x(n->inputs[0]);
    if (n->op == OpId::Cast) {
      if (const Array t = of(n->inputs[0]); t.valid() && is_inexact(n->dtype))
        tangent_[n] = astype(t, n->dtype);
      return;
    }
    if (!is_inexact(n->dtype)) return;
    Grad grad{Array(), x, Array(), Array(), Array(n)};
    if (n->inputs.size() > 1) grad.y = Array(n->inputs[1]);
    if (n->inputs.size() > 2) grad.z = Array(n->inputs[2]);
    const ElementwiseRules& rules = elementwise_rules(n->op);
    Array total;
    for (size_t i = 0; i < n->inputs.size(); ++i) {
      grad.out = of(n->inputs[i]);
      if (!grad.out.valid() || !rules.by_operand[i]) continue;
      const bool complex = is_complex(n->inputs[i]->dtype);
      const Array d = complex ? complex_jvp(n->op, rules.by_operand[i], grad) : rules.by_operand[i](grad);
      if (d.valid()) total = total.valid() ? add(total, d) : d;
    }
    if (total.valid()) tangent_[n] = broadcast_to(astype(total, n->dtype), n->shape);
  }

  void structured(Node* n) {
    const OpCall call = call_of(n);
    Arrays in;
    bool all_linear = true, any_tangent = false;
    const std::vector<bool> linear = linear_operands(call);
    for (size_t i = 0; i < call.in.size(); ++i) {
      in.push_back(of(call.in[i].node()));
      all_linear &= !in[i].valid() || linear[i];
      any_tangent |= in[i].valid();
    }
    if (!any_tangent) return;
    Arrays outs;
    if (all_linear) {
      for (size_t i = 0; i < in.size(); ++i) {
        if (!linear[i]) {
          in[i] = call.in[i];
        } else if (!in[i].valid()) {
          in[i] = zeros_like(call.in[i]);
        }
      }
      outs = rebuild(call, in);
    } else if (vjp_rule(n->op)) {
      outs = by_transposition(call, in);
    } else {
      return;
    }
    if (n->results) {
      tuple_[n] = outs;
    } else if (outs[0].valid()) {
      tangent_[n] = outs[0];
    }
  }

  // The op's vjp is linear in the cotangent; the vjp of that map is the Jacobian times the tangent.
  Arrays by_transposition(const OpCall& call, const Arrays& tangents) {
    const TraceScope scope;
    Arrays dummies;
    for (const Array& out : call.outs) {
      dummies.push_back(is_inexact(out.dtype()) ? tracer_of(zeros_like(out)) : Array());
    }
    std::vector<bool> wants;
    for (const Array& t : tangents) wants.push_back(t.valid());
    const Arrays grads = vjp_rule(call.op)(call, dummies, wants);
    Arrays from, to, cotangents;
    for (const Array& d : dummies) {
      if (d.valid()) from.push_back(d);
    }
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!wants[i] || !grads[i].valid()) continue;
      to.push_back(grads[i]);
      cotangents.push_back(astype(tangents[i], grads[i].dtype()));
    }
    const Arrays found = backward(from, to, cotangents);
    Arrays outs;
    for (size_t i = 0, j = 0; i < dummies.size(); ++i)
      outs.push_back(dummies[i].valid() ? found[j++] : Array());
    return outs;
  }

  void custom(Node* n) {
    const CustomParams& p = custom_params(*n);
    if (is_open(*p.call, Flow::kForward)) {
      tangent_[n] = of(n->inputs[0]);
      return;
    }
    auto [it, fresh] = custom_.try_emplace(p.call.get());
    if (fresh) {
      Arrays tangents;
      for (const Array& a : p.call->primals) tangents.push_back(of(a.node()));
      it->second = custom_tangents(*p.call, tangents);
    }
    if (is_inexact(n->dtype)) tangent_[n] = it->second[p.index];
  }

  std::unordered_map<const Node*, Array> tangent_;
  std::unordered_map<const Node*, Arrays> tuple_;
  std::unordered_map<const CustomCall*, Arrays> custom_;
};

}  // namespace
}  // namespace autograd

std::pair<Arrays, Arrays> jvp(const Function& fun, const Arrays& primals, const Arrays& tangents) {
  if (primals.size() != tangents.size()) {
    fail<ValueError>("jvp", "wants one tangent for each of {} primals, got {}", primals.size(),
                     tangents.size());
  }
  const TraceScope scope;
  Arrays tracers, given;
  for (size_t i = 0; i < primals.size(); ++i) {
    if (tangents[i].shape() != primals[i].shape()) {
      fail<ShapeError>("jvp", "primal {} has shape {}, its tangent {}", i, primals[i].shape(),
                       tangents[i].shape());
    }
    tracers.push_back(autograd::tracer_of(primals[i]));
    given.push_back(is_inexact(primals[i].dtype()) ? astype(tangents[i], primals[i].dtype()) : Array());
  }
  Arrays outs = fun(tracers);
  Arrays result = autograd::Forward(tracers, given).run(tracers, outs);
  for (size_t i = 0; i < outs.size(); ++i) {
    if (!result[i].valid()) result[i] = zeros_like(outs[i]);
  }
  return {std::move(outs), std::move(result)};
}

}  // namespace lamina
