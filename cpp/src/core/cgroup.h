#pragma once

#include <cstdint>
#include <string>

namespace lamina {

// What this process may use of the machine. `root` stands before /proc and /sys, so that tests can fake a
// tree.

// CPUs that the control groups' quota (v1 or v2, the tightest ancestor) allows, e.g. 1.5; 0 where there is
// none.
double cgroup_cpu_quota(const std::string& root = "");
// Bytes that the control groups allow this process, the tightest ancestor's; 0 where there is no limit.
uint64_t cgroup_memory_limit_bytes(const std::string& root = "");
// CPUs in the affinity mask of the calling thread, at least 1.
int affinity_cpu_count();
// CPUs by affinity and quota together (the quota rounded up), at least 1.
int usable_cpu_count();

}  // namespace lamina
