#include "export/recording.h"

#include <unordered_map>

#include "autograd/rules.h"
#include "core/fail.h"

namespace lamina {
namespace {

class Recorder {
 public:
  explicit Recorder(const Arrays& placeholders) {
    for (const Array& p : placeholders) {
      numbers_.emplace(p.node(), static_cast<uint32_t>(numbers_.size()));
      out_.inputs.push_back({p.shape(), p.dtype()});
    }
  }

  Recording run(const Arrays& outputs) {
    std::vector<Node*> order;
    for (const Array& o : outputs) collect(o.node(), order);
    auto next = static_cast<uint32_t>(out_.inputs.size());
    for (Node* n : constants_) {
      numbers_.emplace(n, next++);
      out_.constants.emplace_back(n);
    }
    for (Node* n : order) {
      if (n->op == OpId::Call) {
        fail<Unsupported>("export_function",
                          "reads a graph that is evaluated as a whole: export its function");
      }
      const bool output = n->op == OpId::CustomOutput;
      if (output || autograd::closes_call(*n)) {
        numbers_.emplace(n, numbers_.at(n->inputs[0]));
        out_.custom_rules |= output;
        continue;
      }
      Recording::Item item{recipe_of(*n), {}};
      for (Node* in : n->inputs) item.operands.push_back(numbers_.at(in));
      numbers_.emplace(n, next++);
      out_.nodes.push_back(std::move(item));
    }
    for (const Array& o : outputs) out_.outputs.push_back(numbers_.at(o.node()));
    return std::move(out_);
  }

 private:
  // Appends the nodes below n that are to be computed, producers first, and notes the others as constants.
  void collect(Node* root, std::vector<Node*>& order) {
    std::vector<std::pair<Node*, size_t>> stack;
    auto enter = [&](Node* n) {
      if (numbers_.count(n) || !seen_.emplace(n, true).second) return;
      if (n->op == OpId::Placeholder) {
        fail<ValueError>("export_function",
                         "an output depends on an input of another function that is being transformed");
      }
      if (n->state.load(std::memory_order_acquire) != NodeState::kLazy) {
        constants_.push_back(n);
      } else {
        stack.emplace_back(n, 0);
      }
    };
    enter(root);
    while (!stack.empty()) {
      auto& [n, next] = stack.back();
      if (next < n->inputs.size()) {
        enter(n->inputs[next++]);
      } else {
        order.push_back(n);
        stack.pop_back();
      }
    }
  }

  Recording out_;
  std::unordered_map<const Node*, uint32_t> numbers_;
  std::unordered_map<const Node*, bool> seen_;
  std::vector<Node*> constants_;
};

}  // namespace

Recording record(const Function& fun, const Arrays& inputs) {
  Arrays placeholders;
  for (const Array& a : inputs) {
    placeholders.push_back(make_node(OpId::Placeholder, a.dtype(), a.shape(), {}));
  }
  const Arrays outputs = fun(placeholders);
  return Recorder(placeholders).run(outputs);
}

Arrays play(const Recording& recording, const Arrays& inputs) {
  Arrays values = inputs;
  values.insert(values.end(), recording.constants.begin(), recording.constants.end());
  Arrays operands;
  for (const Recording::Item& item : recording.nodes) {
    operands.clear();
    for (uint32_t o : item.operands) operands.push_back(values[o]);
    values.push_back(remake(item.recipe, operands));
  }
  Arrays outputs;
  for (uint32_t o : recording.outputs) outputs.push_back(values[o]);
  return outputs;
}

}  // namespace lamina
