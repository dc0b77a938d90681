#include "autograd/trace.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

#include "autograd/rules.h"
#include "graph/stream.h"
#include "ops/table.h"

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
  Stream home;  // that was current while the function was traced
};

namespace {

const Arrays& primals_of(const Node& n) {
  static const Arrays none;
  return n.op == OpId::CustomOutput ? autograd::custom_params(n).call->primals : none;
}

bool has_short_float(const Node* n) { return n->dtype == Dtype::kFloat16 || n->dtype == Dtype::kBFloat16; }

// Whether a fused region may hold the value of a lazy node in more bits than memory would.
bool may_fuse(const Node* n) {
  const Family f = op_info(n->op).family;
  return n->state.load(std::memory_order_acquire) == NodeState::kLazy &&
         (is_elementwise(n->op) || f == Family::kReduce || f == Family::kCast);
}

// Evaluated, or being evaluated: a constant. Its inputs may go at any time, but for what a transform keeps.
bool is_there(const Node* n) {
  return n->state.load(std::memory_order_acquire) != NodeState::kLazy && !n->kept;
}

Arrays placeholders(const Arrays& like) {
  Arrays out;
  for (const Array& a : like) out.push_back(make_node(OpId::Placeholder, a.dtype(), a.shape(), {}));
  return out;
}

// Adds to the recorded nodes those that nobody but recorded nodes holds: what a function made of arrays that
// it captured. `order`: producers first.
void claim_private(const std::vector<Node*>& order, std::unordered_map<const Node*, bool>& recorded) {
  std::unordered_map<const Node*, uint32_t> uses;  // by recorded nodes
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    Node* n = *it;
    const bool lazy = n->state.load(std::memory_order_acquire) == NodeState::kLazy;
    auto& mine = recorded[n];
    mine |= lazy && !n->inputs.empty() && uses[n] == n->refs.load(std::memory_order_relaxed);
    for (Node* in : n->inputs) uses[in] += mine ? 1 : 0;
  }
}

// What replays need of nodes, without what these refer to: a trace of nodes that will be evaluated must not
// keep their memory.
class Shells {
 public:
  Array of(const Node& n) {
    Ref<Params> params = n.params;
    if (n.op == OpId::CustomOutput) {
      const autograd::CustomParams& old = autograd::custom_params(n);
      auto& call = calls_[old.call.get()];
      if (!call) {
        call = std::make_shared<const autograd::CustomCall>(
            autograd::CustomCall{old.call->function, {}, old.call->outputs});
      }
      params = Ref<Params>(new autograd::CustomParams(call, old.index));
    }
    const StreamScope same(Stream{n.stream_index, {n.device, 0}});
    Array shell = make_node(n.op, n.dtype, n.shape, {}, std::move(params));
    if (n.results) {
      Ref<Results> results(new Results);
      for (const auto& one : n.results->items) results->items.push_back({one.shape, one.dtype, nullptr});
      shell.node()->results = std::move(results);
    }
    return shell;
  }

 private:
  std::unordered_map<const autograd::CustomCall*, std::shared_ptr<const autograd::CustomCall>> calls_;
};

}  // namespace

Trace::Trace(const Function& fun, const Arrays& inputs) {
  const Arrays tracers = placeholders(inputs);
  *this = Trace(tracers, fun(tracers), false);
}

Trace::Trace(const Arrays& inputs, const Arrays& outs, bool detached) : impl_(std::make_unique<Impl>()) {
  impl_->inputs = inputs;
  impl_->home = current_stream();
  // First pass: all nodes, producers first.
  std::unordered_map<const Node*, bool> depends;
  for (const Array& p : impl_->inputs) depends[p.node()] = true;
  std::vector<Node*> visited;
  std::vector<std::pair<Node*, size_t>> stack;
  auto input_count = [](const Node* n) { return n->inputs.size() + primals_of(*n).size(); };
  auto input_at = [](const Node* n, size_t i) {
    return i < n->inputs.size() ? n->inputs[i] : primals_of(*n)[i - n->inputs.size()].node();
  };
  auto enter = [&](Node* n) {
    if (depends.try_emplace(n, false).second && !is_there(n)) stack.emplace_back(n, 0);
  };
  for (const Array& out : outs) {
    enter(out.node());
    while (!stack.empty()) {
      auto& [n, next] = stack.back();
      if (next < input_count(n)) {
        enter(input_at(n, next++));
        continue;
      }
      visited.push_back(n);
      stack.pop_back();
    }
  }
  // Second pass: which depend on a placeholder, or must be fused as in the function itself, since 16-bit
  // floats are rounded where regions end. What a detached trace captured are inputs of its own.
  const bool rounds = !detached && std::any_of(visited.begin(), visited.end(), has_short_float);
  for (Node* n : visited) {
    bool any = rounds && may_fuse(n);
    for (size_t i = 0; i < input_count(n); ++i) any |= depends[input_at(n, i)];
    depends[n] = any;
  }
  if (detached) claim_private(visited, depends);
  std::vector<Node*> order;
  std::copy_if(visited.begin(), visited.end(), std::back_inserter(order),
               [&](Node* n) { return depends[n]; });
  std::unordered_map<const Node*, uint32_t> number;
  // By position: of an input that is given twice the first one counts.
  auto next = static_cast<uint32_t>(0);
  for (const Array& p : impl_->inputs) number.emplace(p.node(), next++);
  for (Node* n : order) number.emplace(n, next++);
  const uint32_t first_constant = next;
  auto operand = [&](Node* n) {
    auto [it, fresh] = number.try_emplace(n, first_constant + static_cast<uint32_t>(impl_->constants.size()));
    if (fresh) impl_->constants.emplace_back(n);
    return it->second;
  };
  Shells shells;
  for (Node* n : order) {
    Impl::Item item{detached ? shells.of(*n) : Array(n), {}, {}};
    for (Node* in : n->inputs) item.operands.push_back(operand(in));
    for (const Array& p : primals_of(*n)) item.primals.push_back(operand(p.node()));
    impl_->items.push_back(std::move(item));
  }
  for (const Array& out : outs) impl_->outputs.push_back(operand(out.node()));
  if (detached) impl_->inputs = placeholders(inputs);
}

Trace::~Trace() = default;
Trace::Trace(Trace&&) noexcept = default;
Trace& Trace::operator=(Trace&&) noexcept = default;

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
        if (open.try_emplace(in, is_there(in) && in->tracer).second && !is_there(in))
          stack.emplace_back(in, 0);
        continue;
      }
      for (const Node* in : n->inputs) open[n] |= open[in];
      stack.pop_back();
    }
    if (!open[c.node()]) out.push_back(c);
  }
  return out;
}

bool Trace::plain() const {
  const bool ready = std::none_of(impl_->constants.begin(), impl_->constants.end(), [](const Array& c) {
    return c.node()->state.load(std::memory_order_acquire) == NodeState::kLazy;
  });
  return ready && std::all_of(impl_->items.begin(), impl_->items.end(), [this](const Impl::Item& item) {
           return item.node.node()->op != OpId::CustomOutput && item.node.stream() == impl_->home;
         });
}

size_t Trace::nodes() const { return impl_->items.size(); }

Arrays Trace::take_constants() { return std::exchange(impl_->constants, {}); }

Arrays Trace::replay(const Arrays& inputs, uint32_t origin) const {
  return replay(inputs, impl_->constants, origin);
}

Arrays Trace::replay(const Arrays& inputs, const Arrays& constants, uint32_t origin) const {
  const Impl& t = *impl_;
  if (inputs.size() != t.inputs.size()) {
    fail<ValueError>("compile", "the trace has {} inputs, got {}", t.inputs.size(), inputs.size());
  }
  Arrays values;
  values.reserve(t.inputs.size() + t.items.size());
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
  auto value = [&](uint32_t o) { return o < first_constant ? values[o] : constants[o - first_constant]; };
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
            autograd::CustomCall{old.call->function, std::move(primals), old.call->outputs});
      }
      params = Ref<Params>(new autograd::CustomParams(call, old.index));
    }
    // A stream that the function named itself; other work goes where the caller's does.
    std::optional<StreamScope> named;
    if (const Stream own = item.node.stream(); own != t.home) named.emplace(own);
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
