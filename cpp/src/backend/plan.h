#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/plan_counters.h"
#include "backend/tape_runner.h"
#include "fusion/region.h"
#include "graph/eval.h"

namespace lamina {

// One thing that a plan does: values are numbered as in the job (nodes, then leaves).
struct Step {
  enum class Kind : uint8_t { kView, kKernel, kTape, kWithEpilogue } kind = Kind::kKernel;
  uint32_t node = 0;                // the node, or the tape's root; kWithEpilogue: the kernel
  std::unique_ptr<BoundTape> tape;  // kTape; kWithEpilogue: what is done to the kernel's tiles
  uint32_t full_value = 0;          // kTape: a value that has the full shape when the plan runs
  std::vector<uint32_t> last_uses;  // values that no later step reads
};

// How to evaluate every graph of one structure, whatever its sizes.
struct Plan {
  std::vector<uint32_t> key;
  std::vector<Step> steps;
};

// What planning saw and decided, for those who want to know why.
struct PlanNotes {
  fusion::Graph graph;
  fusion::Partition parts;
};

// Appends the canonical shapes of all values, so that equal keys mean equal fusion.
void append_shape_key(Job& job);
// Appends what is known only when the job runs: the backend.
void append_backend_key(Job& job, const Backend& backend);
std::shared_ptr<const Plan> make_plan(const Job& job, const Backend& backend, PlanNotes* notes = nullptr);
// The plan of the job's key: kept from earlier, or made now. Thread-safe.
std::shared_ptr<const Plan> find_plan(const Job& job, const Backend& backend);

// Counts an evaluation whose plan is at hand.
void count_plan_use(const Job& job);

// Whether the cache holds the plan of the job's key; counts nothing.
bool plan_is_known(const Job& job);
// A listing of what a job becomes: one line per step, tapes with their instructions.
std::string describe_plan(const Job& job, const Plan& plan);

}  // namespace lamina
