#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lamina/profile.h"

namespace lamina::profiling {

// Nanoseconds of a clock that only goes forward.
int64_t now();

extern std::atomic<int> recorders;  // how many recorders there are
// The one question that work asks while nothing is profiled.
inline bool on() { return recorders.load(std::memory_order_relaxed) != 0; }

// One thing that happened, for all recorders.
struct Sample {
  ProfileEvent::Kind kind = ProfileEvent::Kind::kKernel;
  int64_t start = 0, end = 0;
  int stream = -1;
  uint64_t bytes_read = 0, bytes_written = 0;
  double flops = 0;
  size_t active_memory = 0;
};

// What one profile has seen. Its members are guarded by the recorders' lock.
class Recorder {
 public:
  explicit Recorder(size_t max_events) : max_events_(max_events) {}
  void add(const Sample& sample, int thread, std::string_view name, std::string_view detail);
  void see_memory(size_t bytes, int64_t at);

  struct Record {
    Sample sample;
    int thread = 0;
    uint32_t name = 0, detail = 0;
  };
  std::vector<Record> records;
  std::vector<const std::string*> texts;  // by number
  size_t dropped = 0;
  int64_t start = 0, end = 0;  // end is 0 while it records
  size_t peak_memory = 0;
  int64_t peak_at = 0;

 private:
  uint32_t number_of(std::string_view text);

  size_t max_events_;
  std::unordered_map<std::string, uint32_t> numbers_;
};

// Puts a new recorder in the place of one that has ended, or of none; false where the old one records.
bool attach(std::shared_ptr<Recorder>& place, size_t max_events);
// False where it does not record.
bool detach(const std::shared_ptr<Recorder>& recorder);
// Held while a recorder is read.
std::unique_lock<std::mutex> lock();

// Gives the sample to all recorders; one that has no memory left counts it as dropped.
void record(const Sample& sample, std::string_view name, std::string_view detail) noexcept;
// Looks at the memory in use, and returns it.
size_t see_memory() noexcept;

// Records how long a thread waited, from here to the end of the scope. `name` must be a literal.
class Wait {
 public:
  explicit Wait(const char* name, int stream = -1) : name_(name), start_(on() ? now() : 0), stream_(stream) {}
  ~Wait() {
    if (start_ != 0) finish();
  }
  Wait(const Wait&) = delete;
  Wait& operator=(const Wait&) = delete;
  // There was nothing to wait for.
  void forget() { start_ = 0; }

 private:
  void finish() const noexcept;

  const char* name_;
  int64_t start_;
  int stream_;
};

}  // namespace lamina::profiling
