#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lamina {

// What took time in a profiled block.
struct ProfileEvent {
  enum class Kind : uint8_t {
    kKernel,        // one kernel
    kTape,          // elementwise ops and row reductions in one pass; the name lists them
    kWithEpilogue,  // one kernel and, tile by tile, elementwise ops on its result
    kCopy,          // memory put in order for a kernel, or for a reshape that no strides can say
    kPlan,          // a graph of new structure was planned
    kSync,          // a thread waited: for an evaluation, another stream, or room in a stream's queue
  };
  Kind kind = Kind::kKernel;
  std::string name;  // "matmul", "multiply+add+sum", "matmul+add", "copy for matmul", "plan", "eval", "item"
  std::string detail;              // "float32 (64, 64)": the result; "12 nodes" of a plan
  double start = 0, duration = 0;  // seconds; the start counts from the beginning of the block
  int thread = 0;                  // threads are numbered in the order in which they were first seen
  int stream = -1;                 // -1: of no stream
  uint64_t bytes_read = 0;         // each byte of an operand once, whatever broadcasts or repeats it
  uint64_t bytes_written = 0;
  double flops = 0;          // arithmetic of the mathematical definition, not of the algorithm
  size_t active_memory = 0;  // bytes of array memory in use while it ran
};
const char* kind_name(
    ProfileEvent::Kind kind);  // "kernel", "tape", "kernel with epilogue", "copy", "plan", "sync"

// What the machine does at most with num_threads() threads.
struct MachinePeaks {
  double flops = 0;      // float32 multiply-adds a second, counted as two
  double bandwidth = 0;  // bytes a second read from memory
  int threads = 0;
};
// Measured at the first call (and again for another thread count) in a fraction of a second, then kept.
MachinePeaks machine_peaks();

// The least time an event can take is flops / peak flops or bytes / bandwidth, whichever is longer: that is
// its bound. `share` is that time over the time it took; above 1 where caches give more than memory does.
struct Roofline {
  double share = 0;
  bool by_memory = false;
};
Roofline roofline(double flops, double bytes, double seconds, const MachinePeaks& peaks);

// Records what all threads of the process do between start and stop. Several may record at once.
//
//   lamina::Profile profile;
//   profile.start();
//   lamina::eval({y});
//   profile.stop();
//   std::cout << profile.table();
//   profile.save("trace.json");  // opens in Perfetto and chrome://tracing
class Profile {
 public:
  static constexpr size_t kDefaultEvents = 500000;

  // Keeps the first `max_events` events, about 100 bytes each, and counts the others.
  explicit Profile(size_t max_events = kDefaultEvents);
  // Stops.
  ~Profile();
  Profile(Profile&&) noexcept;
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  // Begins anew, without what an earlier block has left. Throws ValueError where it records already.
  void start();
  // Throws ValueError where it does not record.
  void stop();
  bool recording() const;

  // By start. An evaluation that began before start() is not in it.
  std::vector<ProfileEvent> events() const;
  size_t dropped() const;
  // Of the block, until now where it still records.
  double seconds() const;
  // The most bytes of array memory in use at the ends of the block and whenever a step had its memory.
  size_t peak_memory() const;

  // Time by kernel, the longest first, at most `rows` of them; then copies, plans, waits and memory.
  std::string table(size_t rows = 30) const;
  // The events as Chrome trace JSON.
  std::string trace() const;
  // Writes trace() to a file, which appears complete or not at all. Throws IoError.
  void save(const std::string& path) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lamina
