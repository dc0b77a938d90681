#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>

#include "backend/call.h"
#include "backend/step_recorder.h"
#include "backend/tape_epilogue.h"
#include "backend/views.h"
#include "core/fail.h"

namespace lamina {
namespace {

// One run of a plan over the nodes of a job.
class Run {
 public:
  Run(Job& job, const Plan& plan, const Backend& backend) : job_(job), plan_(plan), backend_(backend) {
    if (profiling::on()) recorder_.emplace(job.stream);
  }

  void all() {
    for (const Step& step : plan_.steps) {
      step_ = &step;
      switch (step.kind) {
        case Step::Kind::kView: view(step); break;
        case Step::Kind::kKernel: kernel(step); break;
        case Step::Kind::kTape: tape(step); break;
        case Step::Kind::kWithEpilogue: with_epilogue(step); break;
      }
      for (uint32_t v : step.last_uses) release(v);
    }
  }

 private:
  bool is_node(uint32_t v) const { return v < job_.nodes.size(); }

  // Memory that nobody outside the job needs goes back at once.
  void release(uint32_t v) {
    if (is_node(v) ? job_.wanted[v] : !job_.leaf_owned[v - job_.nodes.size()]) return;
    Node* n = job_.value(v);
    n->buffer.reset();
    if (n->results) {
      for (auto& one : n->results->items) one.buffer.reset();
    }
  }

  void finish(uint32_t v) {
    if (is_node(v)) job_.filled[v] = job_.wanted[v];
  }

  void give_memory(Node& n, BufferRef donated) {
    n.strides = row_major_strides(n.shape);
    n.offset = 0;
    n.buffer = donated ? std::move(donated) : allocate(byte_count(n.shape, n.dtype));
  }

  // The buffer of a value that dies in this step and could hold an output of the given kind; else null.
  BufferRef donor(uint32_t v, Dtype dtype, const Shape& shape) {
    Node* n = job_.value(v);
    if (!dies(v) || !n->buffer || n->dtype != dtype || n->shape != shape || n->offset != 0) return nullptr;
    if (!n->buffer->unique() || !n->buffer->writable() || n->buffer->adopted()) return nullptr;
    if (!n->view().row_contiguous()) return nullptr;
    return n->buffer;
  }

  void view(const Step& step) {
    Node* n = job_.nodes[step.node].get();
    SmallVec<Node*, 8> in;
    for (uint32_t v : job_.inputs(step.node)) in.push_back(job_.value(v));
    const int64_t start = begin();
    run_view(*n, std::span<Node* const>(in.data(), in.size()), backend_);
    if (recorder_ && in[0]->buffer && n->op == OpId::Reshape && n->buffer.get() != in[0]->buffer.get()) {
      recorder_->copied("copy of", n->op, in[0]->view(), n->view(), start);
    }
    finish(step.node);
  }

  // When what comes now began, for the profiles.
  int64_t begin() const { return recorder_ ? profiling::now() : 0; }

  View ready_view(uint32_t v, bool contiguous) {
    View x = job_.value(v)->view();
    if (!contiguous || x.row_contiguous()) return x;
    View dense = x;
    dense.strides = row_major_strides(x.shape);
    temporaries_.push_back(allocate(byte_count(x.shape, x.dtype)));
    dense.data = temporaries_.back()->data();
    const int64_t start = begin();
    if (backend_.computes) backend_.copy(x, dense);
    if (recorder_) recorder_->copied("copy for", job_.nodes[step_->node]->op, x, dense, start);
    return dense;
  }

  const KernelEntry& entry_of(const Node& n) const {
    const KernelEntry& entry = backend_.kernels[static_cast<size_t>(n.op)];
    if (!entry.run) unsupported(n.op, n.dtype, backend_.name);
    return entry;
  }

  // Whether a value's memory is free for others after this step.
  bool dies(uint32_t v) const {
    const bool mine = is_node(v) ? !job_.wanted[v] : job_.leaf_owned[v - job_.nodes.size()] != 0;
    const auto& last = step_->last_uses;
    return mine && std::find(last.begin(), last.end(), v) != last.end();
  }

  // A recorded graph runs as a job of its own, on the values that the node reads.
  void call(const Step& step) {
    Node* n = job_.nodes[step.node].get();
    const CallLease sub(*static_cast<const CallParams&>(*n->params).body, backend_);
    const auto operands = job_.inputs(step.node);
    for (size_t i = 0; i < operands.size(); ++i) {
      const uint32_t v = operands[i];
      const bool once = std::count(operands.begin(), operands.end(), v) == 1;
      sub->set_input(i, job_.value(v), once && dies(v));
    }
    sub->job.stream = job_.stream;
    sub->job.batch_invariant = job_.batch_invariant;
    Run(sub->job, *sub->plan, backend_).all();
    for (size_t o = 0; o < sub->outputs.size(); ++o) {
      n->results->items[o].buffer = result_of(*sub, sub->outputs[o].node());
    }
    finish(step.node);
  }

  // The memory of a result, row-contiguous from the buffer's start.
  BufferRef result_of(PreparedCall& sub, Node* out) const {
    // An output that is an input of the graph stands for what was given.
    const Node* n = sub.given(out);
    if (n->buffer && n->offset == 0 && n->view().row_contiguous()) return n->buffer;
    const View from = n->view();
    View dense = from;
    dense.strides = row_major_strides(from.shape);
    BufferRef memory = allocate(byte_count(from.shape, from.dtype));
    dense.data = memory->data();
    if (backend_.computes) backend_.copy(from, dense);
    return memory;
  }

  void kernel(const Step& step) {
    Node* n = job_.nodes[step.node].get();
    if (n->op == OpId::Call) return call(step);
    const KernelEntry& entry = entry_of(*n);
    std::vector<View> in, out;
    for (uint32_t v : job_.inputs(step.node)) in.push_back(ready_view(v, entry.contiguous_in));
    if (n->results) {
      for (auto& one : n->results->items) {
        one.buffer = allocate(byte_count(one.shape, one.dtype));
        View v;
        v.dtype = one.dtype;
        v.shape = one.shape;
        v.strides = row_major_strides(one.shape);
        v.data = one.buffer->data();
        out.push_back(std::move(v));
      }
    } else if (n->op == OpId::Contiguous && in[0].row_contiguous()) {
      run_shared(*n, step);
      return;
    } else {
      const auto operands = job_.inputs(step.node);
      give_memory(*n, entry.in_place ? donor(operands[0], n->dtype, n->shape) : nullptr);
      out.push_back(n->view());
    }
    const KernelCall call{n->op, n->params.get(), in, out, nullptr, job_.batch_invariant};
    const int64_t start = begin();
    if (backend_.computes) entry.run(call);
    if (recorder_) recorder_->ran_kernel(call, start);
    temporaries_.clear();
    finish(step.node);
  }

  // contiguous() of what is contiguous: no copy.
  void run_shared(Node& n, const Step& step) {
    const Node* in = job_.value(job_.inputs(step.node)[0]);
    if (in->op == OpId::Scalar) {
      give_memory(n, nullptr);
      std::memcpy(n.buffer->data(), in->view().data, itemsize(n.dtype));
    } else {
      n.buffer = in->buffer;
      n.offset = in->offset;
      n.strides = row_major_strides(n.shape);
    }
    finish(step.node);
  }

  void tape(const Step& step) {
    const BoundTape& bound = *step.tape;
    const Shape& full = job_.value(step.full_value)->shape;
    const bool donate = donation_is_safe(bound, full);
    std::vector<View> in, out;
    for (uint32_t v : bound.tape.inputs) in.push_back(job_.value(v)->view());
    give_tape_memory(bound.tape, donate, {}, out);
    const int64_t start = begin();
    if (backend_.computes) run_tape(bound, full, in, out);
    if (recorder_) recorder_->ran_tape(bound, full, in, out, start);
    for (const auto& o : bound.tape.outputs) finish(o.node);
  }

  // Memory for the outputs of a tape, of dying inputs where `donate` and none of `kept`.
  void give_tape_memory(const fusion::Tape& tape, bool donate, std::span<const uint32_t> kept,
                        std::vector<View>& out) {
    for (size_t o = 0; o < tape.outputs.size(); ++o) {
      Node* n = job_.nodes[tape.outputs[o].node].get();
      BufferRef donated;
      for (size_t d = 0; donate && !donated && d < tape.donors[o].size(); ++d) {
        const uint32_t v = tape.inputs[static_cast<size_t>(tape.donors[o][d])];
        if (std::find(kept.begin(), kept.end(), v) == kept.end()) donated = donor(v, n->dtype, n->shape);
      }
      give_memory(*n, std::move(donated));
      out.push_back(n->view());
    }
  }

  // The kernel's own result has no memory: the tape runs on its tiles. What the kernel reads must not change
  // meanwhile; of what the tape reads, a tile's elements are read before they are overwritten.
  void with_epilogue(const Step& step) {
    Node* n = job_.nodes[step.node].get();
    const KernelEntry& entry = entry_of(*n);
    const BoundTape& bound = *step.tape;
    View result;
    result.dtype = n->dtype;
    result.shape = n->shape;
    result.strides = row_major_strides(n->shape);
    std::vector<View> in, read, written;
    for (uint32_t v : job_.inputs(step.node)) in.push_back(ready_view(v, entry.contiguous_in));
    for (size_t i = 0; i < bound.tape.inputs.size(); ++i) {
      const bool product = static_cast<int32_t>(i) == bound.tape.product;
      read.push_back(product ? result : job_.value(bound.tape.inputs[i])->view());
    }
    give_tape_memory(bound.tape, true, job_.inputs(step.node), written);
    const int64_t start = begin();
    const TapeEpilogue tape(bound, n->shape, read, written);
    const auto apply = [&tape](float* tile, int64_t row0, int64_t rows, int64_t col0, int64_t cols,
                               int64_t ld) { tape.apply(tile, row0, rows, col0, cols, ld); };
    const Epilogue epilogue{apply, tape.work()};
    const KernelCall call{n->op, n->params.get(), in, std::span(&result, 1), &epilogue, job_.batch_invariant};
    if (backend_.computes && result.size() > 0) entry.run(call);
    if (recorder_) recorder_->ran_with_epilogue(call, bound, read, written, start);
    temporaries_.clear();
    for (const auto& o : bound.tape.outputs) finish(o.node);
  }

  Job& job_;
  const Plan& plan_;
  const Backend& backend_;
  const Step* step_ = nullptr;
  std::vector<BufferRef> temporaries_;
  std::optional<StepRecorder> recorder_;  // where somebody profiled when the run began
};

class PlanningEngine final : public Engine {
 public:
  void extend_key(Job& job) override { append_shape_key(job); }
  void run(Job& job) override {
    const Backend& b = backend();
    append_backend_key(job, b);
    const std::shared_ptr<const Plan> plan = find_plan(job, b);
    Run(job, *plan, b).all();
  }
};

[[maybe_unused]] const bool installed = [] {
  set_engine(new PlanningEngine);  // lives as long as the process
  return true;
}();

std::mutex backend_mutex;
std::atomic<const Backend*> active{nullptr};

const Backend& named_backend(std::string_view name) {
  for (const Backend* b : {&cpu_backend(), &reference_backend(), &null_backend()}) {
    if (name == b->name) return *b;
  }
  fail<ValueError>("backend", "wanted cpu, reference or null, got '{}'", name);
}

}  // namespace

const Backend& backend() {
  if (const Backend* b = active.load(std::memory_order_acquire)) return *b;
  std::lock_guard lock(backend_mutex);
  const char* name = std::getenv("LAMINA_BACKEND");
  const Backend& b = name && *name ? named_backend(name) : cpu_backend();
  active.store(&b, std::memory_order_release);
  return b;
}

void set_backend(std::string_view name) {
  const Backend& b = named_backend(name);
  std::lock_guard lock(backend_mutex);
  active.store(&b, std::memory_order_release);
}

void unsupported(OpId op, Dtype dtype, const char* backend_name) {
  fail<Unsupported>(op_info(op).name, "dtype {} is not supported by the {} backend", dtype, backend_name);
}

}  // namespace lamina
