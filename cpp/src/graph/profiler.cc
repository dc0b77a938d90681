#include "graph/profiler.h"

#include <algorithm>
#include <chrono>

#include "core/fork_locks.h"
#include "lamina/memory.h"

namespace lamina::profiling {
namespace {

std::mutex recorders_mutex;
// Never destroyed: a stream's thread may still record while the process exits.
std::vector<std::shared_ptr<Recorder>>& attached() {
  static auto* list = new std::vector<std::shared_ptr<Recorder>>;
  return *list;
}

[[maybe_unused]] const int at_fork_recorders = at_fork(
    ForkRank::kProfiles,
    {[] { recorders_mutex.lock(); }, [] { recorders_mutex.unlock(); }, [] { recorders_mutex.unlock(); }});

int this_thread() {
  static constinit std::atomic<int> next{0};
  constinit thread_local int number = -1;
  if (number < 0) number = next.fetch_add(1, std::memory_order_relaxed);
  return number;
}

}  // namespace

std::atomic<int> recorders{0};

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

uint32_t Recorder::number_of(std::string_view text) {
  // Room first: a name whose number has no text would be read beyond the end.
  if (texts.size() == texts.capacity()) texts.reserve(2 * texts.size() + 16);
  const auto [it, fresh] = numbers_.try_emplace(std::string(text), static_cast<uint32_t>(texts.size()));
  if (fresh) texts.push_back(&it->first);
  return it->second;
}

void Recorder::add(const Sample& sample, int thread, std::string_view name, std::string_view detail) {
  if (records.size() >= max_events_) {
    ++dropped;
    return;
  }
  records.push_back({sample, thread, number_of(name), number_of(detail)});
}

void Recorder::see_memory(size_t bytes, int64_t at) {
  if (bytes <= peak_memory) return;
  peak_memory = bytes;
  peak_at = at;
}

bool attach(std::shared_ptr<Recorder>& place, size_t max_events) {
  auto fresh = std::make_shared<Recorder>(max_events);
  const std::lock_guard guard(recorders_mutex);
  if (place && place->end == 0) return false;
  attached().push_back(fresh);
  fresh->start = now();
  fresh->see_memory(get_active_memory(), fresh->start);
  place.swap(fresh);
  recorders.fetch_add(1, std::memory_order_relaxed);
  return true;
}

bool detach(const std::shared_ptr<Recorder>& recorder) {
  const std::lock_guard guard(recorders_mutex);
  if (!recorder || recorder->end != 0) return false;
  recorder->end = now();
  recorder->see_memory(get_active_memory(), recorder->end);
  recorders.fetch_sub(1, std::memory_order_relaxed);
  std::erase(attached(), recorder);
  return true;
}

std::unique_lock<std::mutex> lock() { return std::unique_lock(recorders_mutex); }

void record(const Sample& sample, std::string_view name, std::string_view detail) noexcept {
  const int thread = this_thread();
  const std::lock_guard guard(recorders_mutex);
  for (const auto& r : attached()) {
    try {
      r->add(sample, thread, name, detail);
    } catch (...) {  // no memory for it
      ++r->dropped;
    }
  }
}

size_t see_memory() noexcept {
  const size_t bytes = get_active_memory();
  const int64_t at = now();
  const std::lock_guard guard(recorders_mutex);
  for (const auto& r : attached()) r->see_memory(bytes, at);
  return bytes;
}

void Wait::finish() const noexcept {
  Sample s;
  s.kind = ProfileEvent::Kind::kSync;
  s.start = start_;
  s.end = now();
  s.stream = stream_;
  s.active_memory = get_active_memory();
  record(s, name_, "");
}

}  // namespace lamina::profiling
