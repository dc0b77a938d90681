#pragma once

#include <cstdint>

#include "core/thread_pool.h"

namespace lamina::cpu {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// job(i) for i < jobs: on the pool where that is worth it, else in order on the calling thread.
template <class Job>
void run_jobs(int64_t jobs, bool parallel, const Job& job) {
  if (parallel) return parallel_for(jobs, job);
  for (int64_t i = 0; i < jobs; ++i) job(i);
}

}  // namespace lamina::cpu
