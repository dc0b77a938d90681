#pragma once

#include "backend/cost.h"
#include "backend/plan.h"
#include "graph/profiler.h"

namespace lamina {

// Tells the profiles what the steps of one run do. Each call comes after the work, with when it began.
class StepRecorder {
 public:
  explicit StepRecorder(int stream) : stream_(stream) {}

  void copied(const char* why, OpId op, const View& in, const View& out, int64_t start) const;
  void ran_kernel(const KernelCall& call, int64_t start) const;
  void ran_tape(const BoundTape& bound, const Shape& full, std::span<const View> in,
                std::span<const View> out, int64_t start) const;
  void ran_with_epilogue(const KernelCall& call, const BoundTape& bound, std::span<const View> in,
                         std::span<const View> out, int64_t start) const;

 private:
  void add(ProfileEvent::Kind kind, const Cost& cost, int64_t start, std::string_view name,
           const View& result) const;

  int stream_;
};

// A plan that was not in the cache.
void record_planning(const Job& job, int64_t start);

}  // namespace lamina
