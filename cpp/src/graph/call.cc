#include "graph/call.h"

#include <utility>

#include "core/fail.h"

namespace lamina {

std::unique_ptr<CallScratch> CallBody::take_scratch() const {
  std::lock_guard lock(mutex_);
  if (scratch_.empty()) return nullptr;
  std::unique_ptr<CallScratch> last = std::move(scratch_.back());
  scratch_.pop_back();
  return last;
}

void CallBody::give_back(std::unique_ptr<CallScratch> scratch) const {
  std::lock_guard lock(mutex_);
  scratch_.push_back(std::move(scratch));
}

bool CallParams::equals(const Params& o) const {
  const auto* other = dynamic_cast<const CallParams*>(&o);
  return other && other->body == body;
}

// One plan serves all bodies: it refers to the node alone, and not to what is inside.
void CallParams::append_structure(std::vector<uint32_t>& key) const {
  key.push_back(static_cast<uint32_t>(body->output_shapes.size()));
}

std::string CallParams::describe() const { return fmt::format("results={}", body->output_shapes.size()); }

std::vector<Array> make_call(std::shared_ptr<const CallBody> body, std::span<const Array> inputs) {
  const CallBody& b = *body;
  if (inputs.size() != b.input_shapes.size()) {
    fail<ValueError>("compile", "the trace has {} inputs, got {}", b.input_shapes.size(), inputs.size());
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].shape() != b.input_shapes[i] || inputs[i].dtype() != b.input_dtypes[i]) {
      fail<ValueError>("compile", "input {} was traced as {} of shape {}, got {} of shape {}", i,
                       b.input_dtypes[i], b.input_shapes[i], inputs[i].dtype(), inputs[i].shape());
    }
  }
  std::vector<Array> outs = make_tuple_node(OpId::Call, b.output_shapes, b.output_dtypes, inputs,
                                            Ref<Params>(new CallParams(std::move(body))));
  for (Array& out : outs) out.node()->origin = b.origin;
  return outs;
}

}  // namespace lamina
