#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>

namespace lamina {

// Guards what is scheduled, and in which order: jobs enter their streams' queues in the order of planning, so
// that whatever a job waits for lies in front of it. Taken before any queue's lock.
extern std::mutex planning_mutex;

// Puts work into the order of the stream, and returns what the caller is to run as soon as it holds no lock:
// the work itself where the stream is idle and `async` is false, or where the caller is a stream's work; or
// nothing where the stream's thread will run it.
std::function<void()> enqueue(int stream, std::function<void()> work, bool async);

// Asynchronous evaluations that a stream has not finished, at most. More would hide no more of the caller's
// time, and each holds the memory of its inputs.
inline constexpr size_t kMostUnfinished = 64;
// The same while three quarters of the memory limit are in use: one that runs and one that is ready to.
inline constexpr size_t kMostUnfinishedOfLarge = 2;

// Waits until the stream has room for another asynchronous evaluation, and takes its place, which is free
// again when the last copy of the result goes. Called without locks. Whatever it waits for needs nothing of
// the caller; inside the work of a stream, which others may wait for, it takes no place and does not wait.
std::shared_ptr<void> place_in_queue(int stream);

struct QueueCounters {
  size_t unfinished = 0;  // asynchronous evaluations
  size_t most_unfinished = 0;
  size_t length = 0;  // jobs that wait for the stream's thread
  size_t most_length = 0;
};
QueueCounters queue_counters(int stream);

}  // namespace lamina
