#include "bindings/array_object.h"

#include <unistd.h>

#include <atomic>
#include <mutex>
#include <new>

#include "graph/eval.h"

namespace lamina::bind {

PyTypeObject* array_type = nullptr;

namespace {

struct GivenUp {
  std::mutex mutex;
  std::vector<PyObject*> objects;
  std::atomic<bool> any{false};
};
// Never destroyed: buffers may outlive static destruction.
GivenUp& given_up() {
  static GivenUp* g = new GivenUp;
  return *g;
}

bool all_ready(std::span<const Array> arrays) {
  for (const Array& a : arrays) {
    if (!a.is_available()) return false;
  }
  return true;
}

template <class Set>
PyObject* wrap_all(std::vector<Array> values, PyObject* container, Set set) {
  py::object out = owned(container);
  for (size_t i = 0; i < values.size(); ++i) {
    set(out.ptr(), static_cast<Py_ssize_t>(i), checked(wrap(std::move(values[i]))));
  }
  return out.release().ptr();
}

}  // namespace

PyObject* wrap(Array value, PyTypeObject* type) {
  PyObject* self = type->tp_alloc(type, 0);
  if (!self) throw py::error_already_set();
  auto* a = reinterpret_cast<PyArray*>(self);
  new (&a->value) Array(std::move(value));
  a->weak_references = nullptr;
  return self;
}

PyObject* wrap_list(std::vector<Array> values) {
  PyObject* list = PyList_New(static_cast<Py_ssize_t>(values.size()));
  return wrap_all(std::move(values), list,
                  [](PyObject* l, Py_ssize_t i, PyObject* v) { PyList_SET_ITEM(l, i, v); });
}

PyObject* wrap_tuple(std::vector<Array> values) {
  PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(values.size()));
  return wrap_all(std::move(values), tuple,
                  [](PyObject* t, Py_ssize_t i, PyObject* v) { PyTuple_SET_ITEM(t, i, v); });
}

WithoutGil::~WithoutGil() {
  // A daemon thread that comes back while the interpreter shuts down is unwound by force. Frames of C++
  // cannot let that pass: the thread sleeps until the process ends, which is what later versions of Python do
  // themselves.
  try {
    PyEval_RestoreThread(state_);
  } catch (...) {
    while (true) pause();
  }
}

void evaluate_released(std::span<const Array> arrays, const char* why) {
  if (all_ready(arrays)) return;
  {
    WithoutGil released;
    evaluate(arrays, false, why);
  }
  drop_given_up();
}

void async_evaluate_released(std::span<const Array> arrays) {
  if (all_ready(arrays)) return;
  WithoutGil released;
  async_eval(arrays);
}

void give_up(PyObject* owner) noexcept {
  GivenUp& g = given_up();
  bool first = false;
  {
    std::lock_guard lock(g.mutex);
    g.objects.push_back(owner);
    first = !g.any.exchange(true);
  }
  // Backstop for objects given up on a thread that never comes back to Python code.
  if (first && Py_IsInitialized()) {
    Py_AddPendingCall(
        [](void*) {
          drop_given_up();
          return 0;
        },
        nullptr);
  }
}

void drop_given_up() noexcept {
  GivenUp& g = given_up();
  if (!g.any.load(std::memory_order_acquire)) return;
  std::vector<PyObject*> objects;
  {
    std::lock_guard lock(g.mutex);
    objects.swap(g.objects);
    g.any.store(false);
  }
  for (PyObject* o : objects) Py_DECREF(o);
}

}  // namespace lamina::bind
