#include "backend/step_recorder.h"

#include "core/fail.h"

namespace lamina {

void StepRecorder::add(ProfileEvent::Kind kind, const Cost& cost, int64_t start, std::string_view name,
                       const View& result) const {
  profiling::Sample s;
  s.kind = kind;
  s.start = start;
  s.end = profiling::now();
  s.stream = stream_;
  s.bytes_read = cost.bytes_read;
  s.bytes_written = cost.bytes_written;
  s.flops = cost.flops;
  s.active_memory = profiling::see_memory();
  profiling::record(s, name, fmt::format("{} {}", result.dtype, result.shape));
}

void StepRecorder::copied(const char* why, OpId op, const View& in, const View& out, int64_t start) const {
  add(ProfileEvent::Kind::kCopy, {0, extent_bytes(in), extent_bytes(out)}, start,
      fmt::format("{} {}", why, op_info(op).name), out);
}

void StepRecorder::ran_kernel(const KernelCall& call, int64_t start) const {
  add(ProfileEvent::Kind::kKernel, kernel_cost(call), start, op_info(call.op).name, call.out[0]);
}

void StepRecorder::ran_tape(const BoundTape& bound, const Shape& full, std::span<const View> in,
                            std::span<const View> out, int64_t start) const {
  add(ProfileEvent::Kind::kTape, tape_cost(bound.tape, bound.row_axes, full, in, out), start,
      tape_name(bound.tape), out[0]);
}

void StepRecorder::ran_with_epilogue(const KernelCall& call, const BoundTape& bound, std::span<const View> in,
                                     std::span<const View> out, int64_t start) const {
  add(ProfileEvent::Kind::kWithEpilogue, epilogue_cost(call, bound.tape, in, out), start,
      fmt::format("{}+{}", op_info(call.op).name, tape_name(bound.tape)), out[0]);
}

void record_planning(const Job& job, int64_t start) {
  profiling::Sample s;
  s.kind = ProfileEvent::Kind::kPlan;
  s.start = start;
  s.end = profiling::now();
  s.stream = job.stream;
  s.active_memory = profiling::see_memory();
  profiling::record(s, "plan", fmt::format("{} nodes", job.nodes.size()));
}

}  // namespace lamina
