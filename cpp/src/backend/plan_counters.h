#pragma once

#include <cstdint>

namespace lamina {

// Evaluations whose plan was in the cache, and those that it was made for.
struct PlanCounters {
  uint64_t hits = 0, misses = 0;
};
PlanCounters plan_counters();

// The same by the trace whose results were evaluated (Node::origin). Numbers are never given twice; 0 is
// none.
uint32_t new_origin();
PlanCounters plan_counters(uint32_t origin);
void forget_origin(uint32_t origin);

}  // namespace lamina
