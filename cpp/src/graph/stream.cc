#include "graph/stream.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/fail.h"
#include "core/fork_locks.h"
#include "graph/profiler.h"
#include "graph/stream_queue.h"
#include "lamina/memory.h"

namespace lamina {
namespace {

// A stream's queue. Its thread starts with the first asynchronous submission.
struct Queue {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> work;
  bool busy = false;
  bool has_thread = false;
  size_t unfinished = 0;  // places taken
  size_t most_unfinished = 0, most_length = 0;
};

struct Registry {
  std::mutex mutex;
  std::vector<std::unique_ptr<Queue>> queues;
};

// Never destroyed: detached stream threads may outlive static destruction.
Registry& registry() {
  static Registry* r = new Registry;
  return *r;
}

Queue& queue_of(int stream) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  while (r.queues.size() <= static_cast<size_t>(stream)) r.queues.push_back(std::make_unique<Queue>());
  return *r.queues[static_cast<size_t>(stream)];
}

struct ThreadDefaults {
  Device device;
  int stream = 0;
  bool scoped = false;
  Stream scope;
};
thread_local ThreadDefaults defaults;
thread_local int running_stream = -1;  // the stream whose work this thread is inside of

std::mutex stream_count_mutex;
int stream_count = 1;

// Takes the locks of planning and of all queues, each queue idle where `wanted`; false where one is not.
bool hold_streams(bool wanted) {
  planning_mutex.lock();
  Registry& r = registry();
  r.mutex.lock();
  bool idle = true;
  for (auto& q : r.queues) {
    q->mutex.lock();
    idle &= q->work.empty() && !q->busy;
  }
  return idle || !wanted;
}

void unlock_streams() {
  for (auto& q : registry().queues) q->mutex.unlock();
  registry().mutex.unlock();
  planning_mutex.unlock();
  stream_count_mutex.unlock();
}

// Waits until every stream is idle and holds them all: what a fork would tear apart is finished first.
void lock_streams() {
  const bool outside = running_stream < 0;
  while (true) {
    stream_count_mutex.lock();
    if (hold_streams(outside)) return;
    std::vector<Queue*> queues;
    for (auto& q : registry().queues) queues.push_back(q.get());
    unlock_streams();
    for (Queue* q : queues) {
      std::unique_lock lock(q->mutex);
      q->changed.wait(lock, [q] { return q->work.empty() && !q->busy; });
    }
  }
}

// The threads are gone, and a condition that they wait for cannot be used again.
void renew_streams() {
  Registry& r = registry();
  for (auto& q : r.queues) {
    q->mutex.unlock();
    static_cast<void>(q.release());
    q = std::make_unique<Queue>();
  }
  r.mutex.unlock();
  planning_mutex.unlock();
  stream_count_mutex.unlock();
}

// Registered when the library is loaded: a child forked during a first use would wait for it for ever.
[[maybe_unused]] const int at_fork_streams =
    at_fork(ForkRank::kStreams, {lock_streams, unlock_streams, renew_streams});

void run_inside(int stream, const std::function<void()>& work) {
  const int outer = std::exchange(running_stream, stream);
  work();
  running_stream = outer;
}

void drain(Queue& q, int stream) {
  std::unique_lock lock(q.mutex);
  while (true) {
    q.changed.wait(lock, [&q] { return !q.work.empty() && !q.busy; });
    auto next = std::move(q.work.front());
    q.work.pop_front();
    q.busy = true;
    lock.unlock();
    run_inside(stream, next);
    next = nullptr;
    lock.lock();
    q.busy = false;
    q.changed.notify_all();
  }
}

}  // namespace

std::mutex planning_mutex;

std::function<void()> enqueue(int stream, std::function<void()> work, bool async) {
  // An evaluation inside an evaluation: the stream may be waiting for it, or wait for one that does.
  if (running_stream >= 0) return work;
  Queue& q = queue_of(stream);
  std::lock_guard lock(q.mutex);
  if (!async && !q.busy && q.work.empty()) {
    std::function<void()> now = [&q, stream, todo = std::move(work)] {
      run_inside(stream, todo);
      std::lock_guard done(q.mutex);
      q.busy = false;
      q.changed.notify_all();
    };
    q.busy = true;
    return now;
  }
  // The thread first: where there can be none, nothing is left in the queue.
  if (!q.has_thread) {
    std::thread([&q, stream] { drain(q, stream); }).detach();
    q.has_thread = true;
  }
  q.work.push_back(std::move(work));
  q.most_length = std::max(q.most_length, q.work.size());
  q.changed.notify_all();
  return {};
}

std::shared_ptr<void> place_in_queue(int stream) {
  if (running_stream >= 0) return nullptr;
  Queue& q = queue_of(stream);
  const size_t large = get_memory_limit() / 4 * 3;
  const auto most = [large] {
    return get_active_memory() > large ? kMostUnfinishedOfLarge : kMostUnfinished;
  };
  std::unique_lock lock(q.mutex);
  if (q.unfinished >= most()) {
    const profiling::Wait wait("full queue", stream);
    // Half of it at once, so that the two threads do not take turns at every job.
    q.changed.wait(lock, [&] { return q.unfinished <= most() / 2; });
  }
  q.most_unfinished = std::max(q.most_unfinished, ++q.unfinished);
  lock.unlock();
  return {&q, [](Queue* taken) {
            std::lock_guard guard(taken->mutex);
            --taken->unfinished;
            taken->changed.notify_all();
          }};
}

QueueCounters queue_counters(int stream) {
  Queue& q = queue_of(stream);
  std::lock_guard lock(q.mutex);
  return {q.unfinished, q.most_unfinished, q.work.size(), q.most_length};
}

void synchronize(Stream s) {
  Queue& q = queue_of(s.index);
  const profiling::Wait wait("synchronize", s.index);
  std::unique_lock lock(q.mutex);
  q.changed.wait(lock, [&q] { return q.work.empty() && !q.busy; });
}

std::string to_string(const Device& d) {
  return fmt::format("Device({}, {})", d.type == DeviceType::kCpu ? "cpu" : "gpu", d.index);
}
std::string to_string(const Stream& s) { return fmt::format("Stream({}, {})", to_string(s.device), s.index); }

int device_count(DeviceType type) { return type == DeviceType::kCpu ? 1 : 0; }

Device default_device() { return defaults.device; }
void set_default_device(Device d) {
  if (d.index < 0 || d.index >= device_count(d.type)) {
    fail<ValueError>("device", "{} is not available: this machine and build have {} of that type",
                     to_string(d), device_count(d.type));
  }
  defaults.device = d;
}

Stream default_stream(Device d) { return {defaults.stream, d}; }
void set_default_stream(Stream s) { defaults.stream = s.index; }

Stream new_stream(Device d) {
  std::lock_guard lock(stream_count_mutex);
  if (stream_count > 255) fail<ValueError>("new_stream", "at most 256 streams, wanted another");
  return {stream_count++, d};
}

Stream find_stream(Device d, int index) {
  std::lock_guard lock(stream_count_mutex);
  if (index < 0 || index >= stream_count) {
    fail<ValueError>("stream", "wanted stream {}, this process has {}", index, stream_count);
  }
  return {index, d};
}

Stream current_stream() {
  return defaults.scoped ? defaults.scope : Stream{defaults.stream, defaults.device};
}

StreamScope::StreamScope(Stream stream) : saved_(defaults.scope), had_scope_(defaults.scoped) {
  if (device_count(stream.device.type) <= stream.device.index) {
    fail<ValueError>("stream", "{} is not available on this machine", to_string(stream.device));
  }
  defaults.scope = stream;
  defaults.scoped = true;
}
StreamScope::~StreamScope() {
  defaults.scope = saved_;
  defaults.scoped = had_scope_;
}

}  // namespace lamina
