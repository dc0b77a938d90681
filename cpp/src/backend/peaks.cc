#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "backend/cpu/peak_kernel.h"
#include "core/cpu_caches.h"
#include "core/thread_pool.h"
#include "graph/profiler.h"
#include "memory/system_memory.h"

namespace lamina {
namespace {

constexpr int64_t kLeast = 20'000'000;  // nanoseconds of multiply-adds that are timed

double per_second(double amount, int64_t nanoseconds) {
  return amount * 1e9 / static_cast<double>(std::max<int64_t>(nanoseconds, 1));
}

// All threads at once, in rounds that double until they take long enough.
double measure_flops(int threads) {
  const cpu::PeakKernels& kernels = cpu::peak_kernels();
  std::vector<float> sinks(static_cast<size_t>(threads) * 16);
  std::vector<double> done(static_cast<size_t>(threads) * 8);
  double best = 0;
  for (int64_t rounds = 10000;; rounds *= 2) {
    const int64_t start = profiling::now();
    parallel_for(threads, [&](int64_t t) {
      const auto at = static_cast<size_t>(t);
      done[at * 8] = kernels.multiply_add(rounds, &sinks[at * 16]);
    });
    const int64_t taken = profiling::now() - start;
    double flops = 0;
    for (size_t t = 0; t < static_cast<size_t>(threads); ++t) flops += done[t * 8];
    best = std::max(best, per_second(flops, taken));
    if (taken >= kLeast) return best;
  }
}

// More than the caches hold, but little of the machine's memory.
size_t probe_bytes() {
  const auto cache = static_cast<size_t>(std::max(cpu_caches().l3, cpu_caches().l2));
  const size_t wanted = std::clamp<size_t>(4 * cache, size_t{64} << 20, size_t{256} << 20);
  return std::max<size_t>(std::min(wanted, physical_memory_bytes() / 16), size_t{1} << 20);
}

double measure_bandwidth(int threads) {
  constexpr size_t kPiece = size_t{1} << 20;
  const size_t pieces = probe_bytes() / kPiece, bytes = pieces * kPiece;
  auto* memory = static_cast<char*>(system_block_allocate(bytes));
  if (!memory) return 0;
  const auto count = static_cast<int64_t>(pieces);
  // Untouched pages are all one page of zeros, which the caches hold.
  parallel_for(count, [&](int64_t i) { std::memset(memory + static_cast<size_t>(i) * kPiece, 1, kPiece); });
  std::atomic<uint64_t> sink{0};
  int64_t least = INT64_MAX;
  for (int pass = 0; pass < 4; ++pass) {
    const int64_t start = profiling::now();
    parallel_ranges(count, std::max<int64_t>(1, count / (4 * threads)), [&](int64_t begin, int64_t end) {
      const auto* words = reinterpret_cast<const uint64_t*>(memory + static_cast<size_t>(begin) * kPiece);
      const size_t n = static_cast<size_t>(end - begin) * kPiece / sizeof(uint64_t);
      sink.fetch_xor(cpu::peak_kernels().read(words, n), std::memory_order_relaxed);
    });
    least = std::min(least, profiling::now() - start);
  }
  system_block_free(memory, bytes);
  return per_second(static_cast<double>(bytes), least);
}

}  // namespace

MachinePeaks machine_peaks() {
  // Kept by the recorders' lock, which is not held while measuring: at worst two threads measure.
  static MachinePeaks kept;
  const int threads = num_threads();
  {
    const auto guard = profiling::lock();
    if (kept.threads == threads) return kept;
  }
  MachinePeaks fresh;
  fresh.threads = threads;
  fresh.flops = measure_flops(threads);
  fresh.bandwidth = measure_bandwidth(threads);
  const auto guard = profiling::lock();
  return kept = fresh;
}

Roofline roofline(double flops, double bytes, double seconds, const MachinePeaks& peaks) {
  const double compute = peaks.flops > 0 ? flops / peaks.flops : 0;
  const double memory = peaks.bandwidth > 0 ? bytes / peaks.bandwidth : 0;
  return {seconds > 0 ? std::max(compute, memory) / seconds : 0, memory >= compute};
}

}  // namespace lamina
