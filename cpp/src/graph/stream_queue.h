#pragma once

#include <functional>
#include <mutex>

namespace lamina {

// Guards what is scheduled, and in which order: jobs enter their streams' queues in the order of planning, so
// that whatever a job waits for lies in front of it. Taken before any queue's lock.
extern std::mutex planning_mutex;

// Puts work into the order of the stream, and returns what the caller is to run as soon as it holds no lock:
// the work itself where the stream is idle and `async` is false, or nothing where the stream's thread will
// run it.
std::function<void()> enqueue(int stream, std::function<void()> work, bool async);

}  // namespace lamina
