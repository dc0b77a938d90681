#include "autograd/vmap.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <unordered_map>

#include "graph/stream.h"

namespace lamina {
namespace autograd {
namespace {

// What a function is run on under vmap: placeholders with the shape of one example, each standing for an
// array with the mapped axis in front.
struct Examples {
  Arrays placeholders, mapped;
  int64_t size = 0;

  Array add(const Array& in_front) {
    const Shape shape(in_front.shape().begin() + 1, in_front.shape().end());
    Array p = make_node(OpId::Placeholder, in_front.dtype(), shape, {});
    // Whatever is built on it is a tracer too: a walk need not enter anything else.
    p.node()->tracer = true;
    placeholders.push_back(p);
    mapped.push_back(in_front);
    return p;
  }
  // Placeholders in place of the flagged arrays.
  Arrays add_all(const Arrays& arrays, const std::vector<bool>& flags) {
    Arrays out = arrays;
    for (size_t i = 0; i < arrays.size(); ++i) {
      if (flags[i] && arrays[i].valid()) out[i] = add(arrays[i]);
    }
    return out;
  }
};

CustomFunction over_examples(const std::shared_ptr<const CustomCall>& call, const std::vector<bool>& flags,
                             const Examples& around);

// Builds the part of a graph that depends on placeholders again, over all examples at once.
class Batcher {
 public:
  explicit Batcher(const Examples& examples) : examples_(examples) {
    for (size_t i = 0; i < examples.placeholders.size(); ++i) {
      number(examples.placeholders[i].node());
      values_.push_back({examples.mapped[i]});
    }
  }

  // The outputs with the mapped axis in front; an empty handle for one that is the same in every example.
  Arrays run(const Arrays& outs) {
    const size_t first = order_.size();
    for (const Array& out : outs) {
      if (out.valid()) collect(out.node());
    }
    needed_.resize(order_.size(), false);
    for (const Array& out : outs) {
      if (out.valid()) need(out.node());
    }
    // Consumers come after their producers in the order.
    for (size_t i = order_.size(); i-- > first;) {
      if (needed_[i]) need_operands(*order_[i]);
    }
    values_.resize(order_.size());
    for (size_t i = first; i < order_.size(); ++i) {
      if (needed_[i]) values_[i] = build(order_[i]);
    }
    Arrays mapped;
    for (const Array& out : outs) mapped.push_back(out.valid() ? value(out.node()) : Array());
    return mapped;
  }

 private:
  static constexpr int64_t kFree = -1;  // depends on no placeholder

  void number(Node* n) {
    position_[n] = static_cast<int64_t>(order_.size());
    order_.push_back(n);
  }
  int64_t position(const Node* n) const {
    auto it = position_.find(n);
    return it == position_.end() ? kFree : it->second;
  }
  bool depends(const Node* n) const { return position(n) != kFree; }

  // Inputs, then the primals of a custom call.
  static size_t num_operands(const Node& n) {
    return n.inputs.size() + (n.op == OpId::CustomOutput ? custom_params(n).call->primals.size() : 0);
  }
  static Node* operand_at(const Node& n, size_t i) {
    return i < n.inputs.size() ? n.inputs[i] : custom_params(n).call->primals[i - n.inputs.size()].node();
  }

  // Appends the nodes below root that depend on a placeholder, producers first.
  void collect(Node* root) {
    struct Frame {
      Node* node;
      size_t next = 0;
      bool depends = false;
    };
    std::vector<Frame> stack;
    auto enter = [&](Node* n) {
      // A node that is being computed or has been does not depend on a placeholder: that would have thrown.
      if (!n->tracer || n->state.load(std::memory_order_acquire) != NodeState::kLazy) return;
      if (position_.try_emplace(n, kFree).second) stack.push_back({n});
    };
    enter(root);
    while (!stack.empty()) {
      Frame& f = stack.back();
      if (f.next < num_operands(*f.node)) {
        enter(operand_at(*f.node, f.next++));
        continue;
      }
      for (size_t i = 0; i < f.next && !f.depends; ++i) f.depends = depends(operand_at(*f.node, i));
      if (f.depends) number(f.node);
      stack.pop_back();
    }
  }

  void need(const Node* n) {
    if (const int64_t at = position(n); at != kFree) needed_[static_cast<size_t>(at)] = true;
  }
  // A custom call is made again from its primals: what is inside it is not needed.
  void need_operands(const Node& n) {
    const size_t first = n.op == OpId::CustomOutput ? n.inputs.size() : 0;
    for (size_t i = first; i < num_operands(n); ++i) need(operand_at(n, i));
  }

  Array value(const Node* n) const {
    const int64_t at = position(n);
    return at == kFree ? Array() : values_[static_cast<size_t>(at)][0];
  }

  Arrays build(Node* n) {
    std::optional<StreamScope> scope;
    if (const Stream own = Array(n).stream(); own != current_stream()) scope.emplace(own);
    if (n->op == OpId::CustomOutput) return {custom(*n)};
    if (n->op == OpId::Output) {
      const Arrays& all = values_[static_cast<size_t>(position(n->inputs[0]))];
      return {all[static_cast<size_t>(n->as<OutputParams>().index)]};
    }
    BatchCall b{{n->op, *n, {}, {}}, {}, examples_.size};
    for (Node* in : n->inputs) {
      const Array mapped = value(in);
      b.batched.push_back(mapped.valid());
      b.call.in.push_back(mapped.valid() ? mapped : Array(in));
    }
    return batch(b);
  }

  // One new call for all outputs of an old one.
  Array custom(const Node& n) {
    const CustomParams& p = custom_params(n);
    auto [it, fresh] = custom_.try_emplace(p.call.get());
    if (fresh) {
      std::vector<bool> flags;
      Arrays primals;
      for (const Array& a : p.call->primals) {
        flags.push_back(depends(a.node()));
        primals.push_back(flags.back() ? value(a.node()) : a);
      }
      it->second = call_custom(over_examples(p.call, flags, examples_), primals);
    }
    return it->second[p.index];
  }

  const Examples& examples_;
  std::unordered_map<const Node*, int64_t> position_;  // in order_, or kFree
  std::vector<Node*> order_;                           // placeholders first
  std::vector<bool> needed_;
  std::vector<Arrays> values_;  // by position: all results, mapped axis in front
  std::unordered_map<const CustomCall*, Arrays> custom_;
};

// All outputs with the mapped axis in front.
Arrays all_mapped(const Examples& examples, const Arrays& outs) {
  Arrays mapped = Batcher(examples).run(outs);
  for (size_t i = 0; i < outs.size(); ++i) {
    if (outs[i].valid() && !mapped[i].valid()) {
      mapped[i] = broadcast_to(outs[i], in_front(examples.size, outs[i].shape()));
    }
  }
  return mapped;
}

// A custom call's function over all examples.
Function function_over(const Function& fun, const std::vector<bool>& flags, int64_t size) {
  return [fun, flags, size](const Arrays& primals) {
    Examples inside;
    inside.size = size;
    return all_mapped(inside, fun(inside.add_all(primals, flags)));
  };
}

// The same by the call's own rule, which sees nothing but the primals.
Function function_by_rule(const std::shared_ptr<const CustomCall>& call, const std::vector<bool>& flags,
                          const Examples& around) {
  return [call, flags, around](const Arrays& primals) {
    Arrays outs = custom_mapped(*call, primals, flags, around.size);
    const Arrays captured = Batcher(around).run(outs);
    const auto last = flags.end() - static_cast<std::ptrdiff_t>(call->function.captured);
    if (std::find(last, flags.end(), true) != flags.end() ||
        std::any_of(captured.begin(), captured.end(), [](const Array& a) { return a.valid(); })) {
      fail<ValueError>(
          "custom_function",
          "with a rule for vmap a mapped array must be an argument, not captured by the function or "
          "by the rule");
    }
    return outs;
  };
}

// A custom call's vjp rule over all examples; the gradient of an unmapped primal is the sum over them.
auto vjp_over(const CustomRules& rules, const std::vector<bool>& flags, const Examples& around) {
  return [rule = rules.vjp, flags, around](const Arrays& primals, const Arrays& cotangents,
                                           const Arrays& outputs) {
    Examples inside = around;
    const Arrays p = inside.add_all(primals, flags);
    const Arrays c = inside.add_all(cotangents, std::vector<bool>(cotangents.size(), true));
    const Arrays o = inside.add_all(outputs, std::vector<bool>(outputs.size(), true));
    const Arrays grads = rule(p, c, o);
    Arrays mapped = all_mapped(inside, grads);
    // The caller of the rule checks their number and shapes.
    for (size_t i = 0; i < grads.size() && i < flags.size(); ++i) {
      if (!flags[i] && grads[i].valid()) mapped[i] = astype(sum(mapped[i], Axes{0}), grads[i].dtype());
    }
    return mapped;
  };
}

auto jvp_over(const CustomRules& rules, const std::vector<bool>& flags, const Examples& around) {
  return [rule = rules.jvp, flags, around](const Arrays& primals, const Arrays& tangents) {
    Examples inside = around;
    const Arrays p = inside.add_all(primals, flags), t = inside.add_all(tangents, flags);
    return all_mapped(inside, rule(p, t));
  };
}

CustomFunction over_examples(const std::shared_ptr<const CustomCall>& call, const std::vector<bool>& flags,
                             const Examples& around) {
  const CustomFunction& one = call->function;
  const auto captured = flags.end() - static_cast<std::ptrdiff_t>(one.captured);
  const bool any = std::find(flags.begin(), captured, true) != captured;
  CustomFunction all;
  all.closed = one.closed;
  all.captured = one.captured;
  all.fun = any && one.rules.vmap ? function_by_rule(call, flags, around)
                                  : function_over(one.fun, flags, around.size);
  if (one.rules.vjp) all.rules.vjp = vjp_over(one.rules, flags, around);
  if (one.rules.jvp) all.rules.jvp = jvp_over(one.rules, flags, around);
  return all;
}

// The function's arguments for one example.
Arrays open(const Arrays& args, const std::vector<int>& in_axes, Examples& examples) {
  if (args.size() != in_axes.size()) {
    fail<ValueError>("vmap", "wants one entry of in_axes for each argument, got {} for {} arguments",
                     in_axes.size(), args.size());
  }
  constexpr size_t kNone = SIZE_MAX;
  size_t first = kNone;
  for (size_t i = 0; i < args.size(); ++i) {
    const int axis = in_axes[i];
    if (axis < -1 || axis >= args[i].ndim()) {
      fail<ValueError>("vmap", "in_axes[{}] must be -1 or an axis of the argument of shape {}, got {}", i,
                       args[i].shape(), axis);
    }
    if (axis < 0) continue;
    if (first == kNone) first = i;
    const int64_t size = args[i].shape(axis), wanted = args[first].shape(in_axes[first]);
    if (size != wanted) {
      fail<ValueError>(
          "vmap",
          "mapped axes must have one length: argument {} of shape {} has {} along axis {}, argument {} of "
          "shape {} has {} along axis {}",
          first, args[first].shape(), wanted, in_axes[first], i, args[i].shape(), size, axis);
    }
  }
  if (first == kNone) fail<ValueError>("vmap", "wants at least one mapped argument, in_axes has none");
  examples.size = args[first].shape(in_axes[first]);
  Arrays out = args;
  for (size_t i = 0; i < args.size(); ++i) {
    if (in_axes[i] >= 0) out[i] = examples.add(moveaxis(args[i], in_axes[i], 0));
  }
  return out;
}

// Output i with the mapped axis where `axis` wants it; `mapped` is empty where all examples share `one`.
Array place(size_t i, const Array& one, const Array& mapped, int axis, int64_t size) {
  if (axis < -1 || axis > one.ndim()) {
    fail<ValueError>(
        "vmap", "out_axes[{}] must be -1 or an axis of the output of shape {} and the mapped axis, got {}", i,
        one.shape(), axis);
  }
  if (axis >= 0)
    return moveaxis(mapped.valid() ? mapped : broadcast_to(one, in_front(size, one.shape())), 0, axis);
  if (mapped.valid()) {
    fail<ValueError>("vmap", "output {} depends on a mapped argument: out_axes[{}] must be an axis, got -1",
                     i, i);
  }
  return one;
}

}  // namespace
}  // namespace autograd

Function vmap_with(const Function& fun, const std::vector<int>& in_axes, const OutAxes& out_axes) {
  return [fun, in_axes, out_axes](const Arrays& args) {
    autograd::Examples examples;
    const Arrays outs = fun(autograd::open(args, in_axes, examples));
    for (size_t i = 0; i < outs.size(); ++i) {
      if (!outs[i].valid()) fail<ValueError>("vmap", "output {} is an empty array handle", i);
    }
    const std::vector<int> axes = out_axes(outs);
    if (axes.size() != outs.size()) {
      fail<ValueError>("vmap", "wants one entry of out_axes for each output, got {} for {} outputs",
                       axes.size(), outs.size());
    }
    const Arrays mapped = autograd::Batcher(examples).run(outs);
    Arrays placed;
    for (size_t i = 0; i < outs.size(); ++i) {
      placed.push_back(autograd::place(i, outs[i], mapped[i], axes[i], examples.size));
    }
    return placed;
  };
}

Function vmap(const Function& fun, const std::vector<int>& in_axes, const std::vector<int>& out_axes) {
  return vmap_with(fun, in_axes, [out_axes](const Arrays&) { return out_axes; });
}

}  // namespace lamina
