#pragma once

#include <cstdint>
#include <string>

namespace lamina {

// Bytes of a processor's caches. Where the system does not tell, or tells nonsense (some virtual machines),
// the sizes that every x86-64 processor of this build's instruction sets has at least; an L3 of 0 is none
// known.
struct CpuCaches {
  int64_t l1d = int64_t{32} << 10;
  int64_t l2 = int64_t{256} << 10;
  int64_t l3 = 0;
  int l3_cpus = 1;  // that share the L3, as far as the system tells
};

// Those of the first processor that this process may run on; read once.
const CpuCaches& cpu_caches();
// Those of one processor by /sys below `root`; what is not there stays as it is in `otherwise`.
CpuCaches read_cpu_caches(const std::string& root, int cpu, CpuCaches otherwise = {});
// Whether the hardware itself finds the next lines of many operands that are read in turns, so that asking
// for them is in its way. AMD's does (AdamW of 50M numbers on a Zen 3: 28 ms, asked 33), Intel's loses them.
bool follows_many_streams();

}  // namespace lamina
