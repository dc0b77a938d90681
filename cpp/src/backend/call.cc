#include "backend/call.h"

#include <algorithm>

namespace lamina {

PreparedCall::PreparedCall(const CallBody& body, const Backend& b) : backend(&b) {
  for (size_t i = 0; i < body.input_shapes.size(); ++i) {
    inputs_.push_back(make_node(OpId::Placeholder, body.input_dtypes[i], body.input_shapes[i], {}));
  }
  outputs = body.build(inputs_);
  with_job_of(outputs, {}, [this](const Job& planned) { job = planned; });
  job.event.reset();
  job.origins.assign(1, body.origin);
  for (const Array& input : inputs_) {
    const auto at = std::find_if(job.leaves.begin(), job.leaves.end(),
                                 [&](const Ref<Node>& leaf) { return leaf.get() == input.node(); });
    leaf_of_.push_back(at == job.leaves.end() ? -1 : at - job.leaves.begin());
  }
  values_.resize(inputs_.size());
  append_backend_key(job, b);
  plan = find_plan(job, b);
}

void PreparedCall::set_input(size_t input, Node* value, bool owned) {
  values_[input] = Ref<Node>(value);
  if (leaf_of_[input] < 0) return;
  const auto leaf = static_cast<size_t>(leaf_of_[input]);
  const bool is_result = std::any_of(outputs.begin(), outputs.end(),
                                     [&](const Array& out) { return out.node() == inputs_[input].node(); });
  job.leaves[leaf] = Ref<Node>(value);
  job.leaf_owned[leaf] = owned && !is_result;
}

const Node* PreparedCall::given(const Node* n) const {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i].node() == n) return values_[i].get();
  }
  return n;
}

void PreparedCall::clear() {
  for (size_t i = 0; i < inputs_.size(); ++i) set_input(i, inputs_[i].node(), false);
  for (const Ref<Node>& n : job.nodes) {
    n->buffer.reset();
    if (n->results) {
      for (auto& one : n->results->items) one.buffer.reset();
    }
  }
}

CallLease::CallLease(const CallBody& body, const Backend& backend) : body_(body) {
  std::unique_ptr<CallScratch> kept = body.take_scratch();
  prepared_.reset(static_cast<PreparedCall*>(kept.release()));
  if (prepared_ && prepared_->backend == &backend) {
    count_plan_use(prepared_->job);
  } else {
    prepared_ = std::make_unique<PreparedCall>(body, backend);
  }
}

CallLease::~CallLease() {
  prepared_->clear();
  body_.give_back(std::move(prepared_));
}

}  // namespace lamina
