#include "autograd/trace.h"

#include <map>
#include <mutex>
#include <unordered_map>

#include "autograd/rules.h"

namespace lamina {

struct Trace::Impl {
  // Operand numbers: inputs first, then recorded nodes, then constants.
  struct Item {
    Array node;
    std::vector<uint32_t> operands;
    std::vector<uint32_t> primals;  // of a custom call, which its gradient refers to
  };
  Arrays inputs;  // placeholders
  std::vector<Item> items;
  Arrays constants;
  std::vector<uint32_t> outputs;
};

namespace {

const Arrays& primals_of(const Node& n) {
  static const Arrays none;
  return n.op == OpId::CustomOutput ? autograd::custom_params(n).call->primals : none;
}

Array placeholder(const Array& like) { return make_node(OpId::Placeholder, like.dtype(), like.shape(), {}); }

}  // namespace

Trace::Trace(const Function& fun, const Arrays& inputs) : impl_(std::make_unique<Impl>()) {
  for (const Array& a : inputs) impl_->inputs.push_back(placeholder(a));
  const Arrays outs = fun(impl_->inputs);
  // First pass: which nodes depend on a placeholder, producers first.
  std::unordered_map<const Node*, bool> depends;
  for (const Array& p : impl_->inputs) depends[p.node()] = true;
  std::vector<Node*> order;
  std::vector<std::pair<Node*, size_t>> stack;
  auto input_count = [](const Node* n) { return n->inputs.size() + primals_of(*n).size(); };
  auto input_at = [](const Node* n, size_t i) {
    return i < n->inputs.size() ? n->inputs[i] : primals_of(*n)[i - n->inputs.size()].node();
  };
  for (const Array& out : outs) {
    if (depends.try_emplace(out.node(), false).second) stack.emplace_back(out.node(), 0);
    while (!stack.empty()) {
      auto& [n, next] = stack.back();
      if (next < input_count(n)) {
        Node* in = input_at(n, next++);
        if (depends.try_emplace(in, false).second) stack.emplace_back(in, 0);
        continue;
      }
      bool any = false;
      for (size_t i = 0; i < input_count(n); ++i) any |= depends[input_at(n, i)];
      if (any) order.push_back(n);
      depends[n] = any;
      stack.pop_back();
    }
  }
  std::unordered_map<const Node*, uint32_t> number;
  for (const Array& p : impl_->inputs) number.emplace(p.node(), static_cast<uint32_t>(number.size()));
  for (Node* n : order) number.emplace(n, static_cast<uint32_t>(number.size()));
  const auto first_constant = static_cast<uint32_t>(number.size());
  auto operand = [&](Node* n) {
    auto [it, fresh] = number.try_emplace(n, first_constant + static_cast<uint32_t>(impl_->constants.size()));
    if (fresh) impl_->constants.emplace_back(n);
    return it->second;
  };
  for (Node* n : order) {
    Impl::Item item{Array(n), {}, {}};
    for (Node* in : n->inputs) item.operands.push_back(operand(in));
    for (const Array& p : primals_of(*n)) item.primals.push_back(operand(p.node()));
    impl_->items.push_back(std::move(item));
  }
  for (const Array& out : outs) impl_->outputs.push_back(operand(out.node()));
}

Trace::~Trace() = default;
Trace::Trace(Trace&&) noexcept = default;

Arrays Trace::pending_constants() const {
  Arrays out;
  // Whether a node depends on an input of a transform that is under way.
  std::unordered_map<const Node*, bool> open;
  std::vector<std::pair<const Node*, size_t>> stack;
  for (const Array& c : impl_->constants) {
    if (c.node()->state.load(std::memory_order_acquire) != NodeState::kLazy) continue;
    if (open.try_emplace(c.node(), false).second) stack.emplace_back(c.node(), 0);
    while (!stack.empty()) {
      auto& [n, next] = stack.back();
      open[n] |= n->op == OpId::Placeholder || n->tracer;
      if (next < n->inputs.size()) {
        const Node* in = n->inputs[next++];
        if (open.try_emplace(in, false).second) stack.emplace_back(in, 0);
        continue;
      }
      for (const Node* in : n->inputs) open[n] |= open[in];
      stack.pop_back();
    }
    if (!open[c.node()]) out.push_back(c);
  }
  return out;
}

size_t Trace::nodes() const { return impl_->items.size(); }

Arrays Trace::replay(const Arrays& inputs, uint32_t origin) const {
  const Impl& t = *impl_;
  if (inputs.size() != t.inputs.size()) {
    fail<ValueError>("compile", "the trace has {} inputs, got {}", t.inputs.size(), inputs.size());
  }
  Arrays values;
  values.reserve(t.inputs.size() + t.items.size() + t.constants.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].shape() != t.inputs[i].shape() || inputs[i].dtype() != t.inputs[i].dtype()) {
      fail<ValueError>("compile", "input {} was traced as {} of shape {}, got {} of shape {}", i,
                       t.inputs[i].dtype(), t.inputs[i].shape(), inputs[i].dtype(), inputs[i].shape());
    }
    values.push_back(inputs[i]);
  }
  const size_t first_constant = t.inputs.size() + t.items.size();
  Arrays in;
  std::unordered_map<const autograd::CustomCall*, std::shared_ptr<const autograd::CustomCall>> calls;
  auto value = [&](uint32_t o) { return o < first_constant ? values[o] : t.constants[o - first_constant]; };
  for (const Impl::Item& item : t.items) {
    in.clear();
    for (uint32_t o : item.operands) in.push_back(value(o));
    const Node& n = *item.node.node();
    Ref<Params> params = n.params;
    if (n.op == OpId::CustomOutput) {
      const autograd::CustomParams& old = autograd::custom_params(n);
      auto& call = calls[old.call.get()];
      if (!call) {
        Arrays primals;
        for (uint32_t o : item.primals) primals.push_back(value(o));
        call = std::make_shared<const autograd::CustomCall>(
            autograd::CustomCall{old.call->fun, old.call->rule, std::move(primals), old.call->outputs});
      }
      params = Ref<Params>(new autograd::CustomParams(call, old.index));
    }
    Array fresh = make_node(n.op, n.dtype, n.shape, in, std::move(params));
    if (n.results) {
      Ref<Results> results(new Results);
      results->items = n.results->items;
      fresh.node()->results = std::move(results);
    }
    values.push_back(std::move(fresh));
  }
  Arrays outs;
  for (uint32_t o : t.outputs) {
    outs.push_back(value(o));
    if (o >= t.inputs.size() && o < first_constant) outs.back().node()->origin = origin;
  }
  return outs;
}

Function compile(const Function& fun) {
  struct Traces {
    std::mutex mutex;
    std::map<std::vector<int64_t>, std::shared_ptr<const Trace>> by_signature;
  };
  auto traces = std::make_shared<Traces>();
  return [fun, traces](const Arrays& inputs) {
    std::vector<int64_t> signature;
    for (const Array& a : inputs) {
      signature.push_back(static_cast<int64_t>(a.dtype()));
      signature.push_back(a.ndim());
      signature.insert(signature.end(), a.shape().begin(), a.shape().end());
    }
    std::shared_ptr<const Trace> trace;
    {
      std::lock_guard lock(traces->mutex);
      if (auto it = traces->by_signature.find(signature); it != traces->by_signature.end())
        trace = it->second;
    }
    if (!trace) {
      trace = std::make_shared<const Trace>(fun, inputs);
      eval(trace->pending_constants());
      std::lock_guard lock(traces->mutex);
      traces->by_signature.emplace(signature, trace);
    }
    return trace->replay(inputs);
  };
}

}  // namespace lamina
