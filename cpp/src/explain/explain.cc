#include "lamina/explain.h"

#include <algorithm>
#include <unordered_map>

#include "backend/cost.h"
#include "backend/plan.h"
#include "backend/reference/layout_dtype.h"
#include "backend/views.h"
#include "core/fail.h"

namespace lamina {
namespace {

using fusion::Refusal;
using Kind = Explanation::Kind;
using Source = Explanation::Source;

uint64_t bytes_of(const Explanation::Value& v) {
  uint64_t n = itemsize(v.dtype);
  for (int64_t d : v.shape) n *= static_cast<uint64_t>(d);
  return n;
}

std::string scalar_text(const Node& n) {
  const void* at = n.view().data;
  if (n.dtype == Dtype::kBool) return *static_cast<const uint8_t*>(at) ? "true" : "false";
  return visit_dtype(n.dtype, [at]<class T>(std::type_identity<T>) {
    const auto x = widen(*static_cast<const T*>(at));
    if constexpr (kIsComplex<T>)
      return fmt::format("{}{:+}j", x.real(), x.imag());
    else
      return fmt::format("{}", x);
  });
}

class Builder {
 public:
  // Under the planning lock: nobody evaluates the job's nodes meanwhile.
  Builder(const Arrays& outputs, const std::unordered_map<const Node*, std::string>& names, const Job& job)
      : outputs_(outputs), names_(names), backend_(backend()), job_(job) {
    append_backend_key(job_, backend_);
    out_.plan_known = plan_is_known(job_);
    out_.backend = backend_.name;
    plan_ = make_plan(job_, backend_, &notes_);
  }

  Explanation run() {
    describe_values();
    for (const Step& s : plan_->steps) describe_step(s);
    find_unfused();
    return std::move(out_);
  }

 private:
  uint32_t nodes() const { return static_cast<uint32_t>(job_.nodes.size()); }

  void describe_values() {
    std::unordered_map<const Node*, uint32_t> number;
    const auto count = nodes() + static_cast<uint32_t>(job_.leaves.size());
    for (uint32_t i = 0; i < count; ++i) {
      const Node& n = *job_.value(i);
      number.emplace(&n, i);
      Explanation::Value v;
      const auto named = names_.find(&n);
      if (named != names_.end()) v.name = named->second;
      v.dtype = n.dtype;
      v.shape = n.shape;
      if (i < nodes()) {
        v.op = op_info(n.op).name;
        if (n.params) v.params = n.params->describe();
        v.inputs = notes_.graph.values[i].inputs;
        v.result = job_.wanted[i] != 0;
      } else {
        const bool input = n.op == OpId::Placeholder || named != names_.end();
        v.source = input ? Source::kInput : Source::kConstant;
        v.in_memory = true;
        if (!input && n.op == OpId::Scalar) v.name = scalar_text(n);
      }
      out_.values.push_back(std::move(v));
    }
    layouts_.resize(count);
    for (uint32_t i = nodes(); i < count; ++i) {
      const Node& n = *job_.value(i);
      const bool has_strides = n.ready() && n.strides.size() == n.shape.size();
      layouts_[i] = {has_strides ? n.strides : row_major_strides(n.shape), 0};
    }
    // An output that is there already is no part of the job.
    for (const Array& a : outputs_) {
      if (const auto it = number.find(a.node()); it != number.end()) out_.outputs.push_back(it->second);
    }
  }

  // No memory is there: the node's address stands for it, so that different values lie in different places.
  View view_of(uint32_t v) const {
    Node* n = job_.value(v);
    return {n, n->dtype, n->shape, layouts_[v].strides};
  }

  void describe_step(const lamina::Step& s) {
    Explanation::Step step;
    switch (s.kind) {
      case lamina::Step::Kind::kTape: describe_tape(s, step); break;
      case lamina::Step::Kind::kWithEpilogue: describe_epilogue(s, step); break;
      case lamina::Step::Kind::kKernel: describe_kernel(s, step); break;
      case lamina::Step::Kind::kView: describe_view(s, step); break;
    }
    for (uint32_t v : step.values) out_.values[v].step = static_cast<int>(out_.steps.size());
    for (uint32_t v : step.writes) out_.values[v].in_memory = true;
    out_.steps.push_back(std::move(step));
  }

  void charge(Explanation::Step& step, const Cost& cost) const {
    step.bytes_read = cost.bytes_read;
    step.bytes_written = cost.bytes_written;
    step.flops = cost.flops;
  }

  void describe_tape(const lamina::Step& s, Explanation::Step& step) {
    const fusion::Tape& tape = s.tape->tape;
    step.kind = Kind::kTape;
    step.values = region_of(s.node).nodes;
    step.phases = tape.phases;
    std::vector<View> in, out;
    for (uint32_t v : tape.inputs) {
      step.reads.push_back(v);
      in.push_back(view_of(v));
    }
    for (const fusion::TapeOutput& o : tape.outputs) {
      layouts_[o.node] = {row_major_strides(job_.value(o.node)->shape), 0};
      step.writes.push_back(o.node);
      out.push_back(view_of(o.node));
    }
    charge(step, tape_cost(tape, s.tape->row_axes, job_.value(s.full_value)->shape, in, out));
  }

  void describe_epilogue(const lamina::Step& s, Explanation::Step& step) {
    const Node& n = *job_.nodes[s.node];
    const fusion::Tape& tape = s.tape->tape;
    const std::vector<uint32_t>& nodes = region_of(tape.outputs[0].node).nodes;
    step.kind = Kind::kWithEpilogue;
    step.values = {s.node};
    step.values.insert(step.values.end(), nodes.begin(), nodes.end());
    layouts_[s.node] = {row_major_strides(n.shape), 0};
    std::vector<View> in, read, written;
    const uint64_t copied = read_operands(s.node, step, in);
    for (uint32_t v : tape.inputs) {
      read.push_back(view_of(v));
      if (v == s.node) continue;
      if (std::find(step.reads.begin(), step.reads.end(), v) == step.reads.end()) step.reads.push_back(v);
    }
    for (const fusion::TapeOutput& o : tape.outputs) {
      layouts_[o.node] = {row_major_strides(job_.value(o.node)->shape), 0};
      step.writes.push_back(o.node);
      written.push_back(view_of(o.node));
    }
    const View result = view_of(s.node);
    charge(step, epilogue_cost({n.op, n.params.get(), in, std::span(&result, 1)}, tape, read, written));
    step.bytes_read += copied;
    step.bytes_written += copied;
  }

  // Views of what a kernel reads, and the bytes that are copied first.
  uint64_t read_operands(uint32_t node, Explanation::Step& step, std::vector<View>& in) const {
    const KernelEntry& entry = backend_.kernels[static_cast<size_t>(job_.nodes[node]->op)];
    uint64_t copied = 0;
    for (uint32_t v : job_.inputs(node)) {
      in.push_back(view_of(v));
      step.reads.push_back(v);
      if (!entry.contiguous_in || in.back().row_contiguous()) continue;
      step.copied.push_back(v);
      copied += static_cast<uint64_t>(in.back().size()) * itemsize(in.back().dtype);
    }
    return copied;
  }

  void describe_kernel(const lamina::Step& s, Explanation::Step& step) {
    const Node& n = *job_.nodes[s.node];
    step.values = step.writes = {s.node};
    layouts_[s.node] = {row_major_strides(n.shape), 0};
    std::vector<View> in, out;
    const uint64_t copied = read_operands(s.node, step, in);
    if (n.op == OpId::Contiguous && in[0].row_contiguous()) {  // the input itself
      step.kind = Kind::kView;
      step.writes.clear();
      out_.values[s.node].in_memory = true;
      return;
    }
    if (n.results) {
      for (auto& one : n.results->items) {
        out.push_back({&one, one.dtype, one.shape, row_major_strides(one.shape)});
      }
    } else {
      out.push_back(view_of(s.node));
    }
    // How many products segmented_mm makes stands in memory.
    if (n.op == OpId::SegmentedMatmul) {
      for (const View& v : in) step.bytes_read += extent_bytes(v);
      step.bytes_written = extent_bytes(out[0]);
    } else {
      charge(step, kernel_cost({n.op, n.params.get(), in, out}));
    }
    step.bytes_read += copied;
    step.bytes_written += copied;
  }

  void describe_view(const lamina::Step& s, Explanation::Step& step) {
    const Node& n = *job_.nodes[s.node];
    const auto inputs = job_.inputs(s.node);
    step.kind = Kind::kView;
    step.values = {s.node};
    step.reads.assign(inputs.begin(), inputs.end());
    out_.values[s.node].in_memory = true;
    std::optional<Layout> layout;
    if (n.op == OpId::Output) {
      layout = Layout{row_major_strides(n.shape), 0};
    } else {
      layout = view_layout(n, *job_.value(inputs[0]), layouts_[inputs[0]]);
    }
    if (layout) {
      layouts_[s.node] = std::move(*layout);
      return;
    }
    // A reshape of strided elements: the copy is what the step does.
    step.kind = Kind::kKernel;
    step.writes = {s.node};
    layouts_[s.node] = {row_major_strides(n.shape), 0};
    step.bytes_read = extent_bytes(view_of(inputs[0]));
    step.bytes_written = extent_bytes(view_of(s.node));
    step.flops = 0;
  }

  bool in_region(uint32_t v) const { return v < nodes() && notes_.parts.region_of[v] >= 0; }

  const fusion::Region& region_of(uint32_t v) const {
    return notes_.parts.regions[static_cast<size_t>(notes_.parts.region_of[v])];
  }

  // What runs node v by itself: "a kernel: matmul".
  std::string alone(uint32_t v) const {
    const Node& n = *job_.nodes[v];
    switch (op_info(n.op).family) {
      case Family::kReduce:
        return fmt::format("a reduction over axes that are not trailing: {} over {}", op_info(n.op).name,
                           n.as<AxesParams>().axes);
      case Family::kView: return fmt::format("a view: {}", op_info(n.op).name);
      default: return fmt::format("a kernel: {}", op_info(n.op).name);
    }
  }

  std::string reason_of(uint32_t producer, uint32_t consumer) const {
    const fusion::Decision& d = notes_.parts.decisions[producer];
    const Node& n = *job_.nodes[producer];
    const Shape& theirs = job_.nodes[d.consumer]->shape;
    switch (d.refusal) {
      case Refusal::kFusionOff: return fmt::format("the {} backend does not fuse", backend_.name);
      case Refusal::kConsumerAlone:
        return fmt::format("{} {}", d.consumer == consumer ? "consumer is" : "another consumer is",
                           alone(d.consumer));
      case Refusal::kTwoRegions: return "consumers are in different tapes";
      case Refusal::kShape: return fmt::format("different shapes: {} and {}", n.shape, theirs);
      case Refusal::kRows: return "reduces other rows than the consumer's tape";
      case Refusal::kReducedTwice: return "the result of a reduction is reduced again";
      case Refusal::kNodeLimit: return "the tape has as many ops as a tape may have";
      case Refusal::kInputLimit: return "the tape would read more values than a tape may";
      case Refusal::kNoEpilogue:
      case Refusal::kRowTape:
      case Refusal::kTaken:
      case Refusal::kNone: break;
    }
    fail<Error>("explain", "value {} was not fused with value {} for no reason", producer, consumer);
  }

  // Why a tape that reads the result of kernel p is not its epilogue.
  std::string no_epilogue(uint32_t p) const {
    const fusion::Decision& d = notes_.parts.decisions[p];
    const Node& n = *job_.nodes[p];
    const std::string kernel = "producer is " + alone(p);
    const KernelEntry& entry = backend_.kernels[static_cast<size_t>(n.op)];
    switch (d.refusal) {
      case Refusal::kRowTape: return kernel + ", and the tape works on rows";
      case Refusal::kTaken: return kernel + ", and the tape runs with another one";
      case Refusal::kTwoRegions: return kernel + ", whose consumers are in different tapes";
      case Refusal::kConsumerAlone:
        return fmt::format("{}, and another consumer is {}", kernel, alone(d.consumer));
      case Refusal::kShape: {
        const Shape& tape = job_.nodes[region_of(d.consumer).nodes.back()]->shape;
        return fmt::format("{}, and the tape has another shape: {}", kernel, tape);
      }
      default:
        if (entry.takes_epilogue && !entry.takes_epilogue(n.dtype)) {
          return fmt::format("{} of {}, which takes no epilogue", kernel, n.dtype);
        }
        return kernel;
    }
  }

  // Whether v is a view of an array that was there before: nothing could have been fused with it.
  bool views_a_leaf(uint32_t v) const {
    while (v < nodes() && op_info(job_.nodes[v]->op).family == Family::kView) v = job_.inputs(v)[0];
    return v >= nodes();
  }

  void find_unfused() {
    for (uint32_t c = 0; c < nodes(); ++c) {
      std::vector<uint32_t> inputs = notes_.graph.values[c].inputs;
      std::sort(inputs.begin(), inputs.end());
      inputs.erase(std::unique(inputs.begin(), inputs.end()), inputs.end());
      for (uint32_t p : inputs) {
        if (p >= nodes() || (!in_region(p) && !in_region(c))) continue;
        if (in_region(p) && in_region(c) && notes_.parts.region_of[p] == notes_.parts.region_of[c]) continue;
        if (in_region(c) && region_of(c).kernel == static_cast<int64_t>(p)) continue;
        if (in_region(p)) {
          out_.unfused.push_back({p, c, reason_of(p, c)});
        } else if (!views_a_leaf(p)) {
          out_.unfused.push_back({p, c, no_epilogue(p)});
        }
      }
    }
  }

  const Arrays& outputs_;
  const std::unordered_map<const Node*, std::string>& names_;
  const Backend& backend_;
  Job job_;  // a copy, whose key is the backend's too
  std::shared_ptr<const Plan> plan_;
  PlanNotes notes_;
  std::vector<Layout> layouts_;  // by value
  Explanation out_;
};

}  // namespace

uint64_t Explanation::bytes_read() const {
  uint64_t n = 0;
  for (const Step& s : steps) n += s.bytes_read;
  return n;
}

uint64_t Explanation::bytes_written() const {
  uint64_t n = 0;
  for (const Step& s : steps) n += s.bytes_written;
  return n;
}

uint64_t Explanation::bytes_saved() const {
  uint64_t n = 0;
  for (const Value& v : values) n += v.in_memory || v.step < 0 ? 0 : bytes_of(v);
  return n;
}

size_t Explanation::count(Kind kind) const {
  return static_cast<size_t>(
      std::count_if(steps.begin(), steps.end(), [kind](const Step& s) { return s.kind == kind; }));
}

Explanation explain(const Arrays& outputs, const NamedArrays& names, const Arrays& there) {
  std::unordered_map<const Node*, std::string> given;
  for (const auto& [name, a] : names) given.emplace(a.node(), name);
  Explanation out;
  with_job_of(outputs, there, [&](const Job& job) { out = Builder(outputs, given, job).run(); });
  return out;
}

Explanation explain(const Function& fun, const Arrays& inputs, const std::vector<std::string>& names) {
  Arrays placeholders;
  NamedArrays named;
  for (size_t i = 0; i < inputs.size(); ++i) {
    placeholders.push_back(make_node(OpId::Placeholder, inputs[i].dtype(), inputs[i].shape(), {}));
    named.emplace_back(i < names.size() ? names[i] : std::to_string(i), placeholders.back());
  }
  return explain(fun(placeholders), named);
}

}  // namespace lamina
