#pragma once

#include <cstdint>
#include <type_traits>

namespace lamina {

// A function reference that never allocates; the callee must outlive the call.
template <class Sig>
class FunctionRef;
template <class R, class... A>
class FunctionRef<R(A...)> {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>) FunctionRef(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* o, A... a) -> R { return (*static_cast<std::remove_reference_t<F>*>(o))(a...); }) {}
  R operator()(A... a) const { return call_(object_, a...); }

 private:
  void* object_;
  R (*call_)(void*, A...);
};

// Threads the process may use: affinity mask and cgroup quota, at least 1; LAMINA_NUM_THREADS overrides.
int default_thread_count();
// Threads that parallel_for uses now, the caller's included.
int num_threads();
void set_num_threads(int n);
// Index of the calling thread in [0, num_threads()) inside a parallel_for body; 0 outside.
int thread_index();

// Runs body(i) for every i in [0, chunks), handed out one by one by an atomic counter. The caller works too.
// Nested calls run on the calling thread. The first exception is rethrown after all chunks have ended.
void parallel_for(int64_t chunks, FunctionRef<void(int64_t)> body);

// Runs body(begin, end) over [0, n) in ranges of at least `grain` items (about 4 ranges a thread).
void parallel_ranges(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t)> body);

}  // namespace lamina
