#include "bindings/compile.h"

#include <unistd.h>

#include <atomic>
#include <deque>
#include <exception>
#include <memory>
#include <optional>

#include "autograd/trace.h"
#include "backend/plan_counters.h"
#include "bindings/call_parts.h"
#include "bindings/callable.h"
#include "bindings/ops.h"
#include "bindings/tree.h"
#include "core/fail.h"
#include "export/sizes.h"
#include "graph/call.h"

namespace lamina::bind {
namespace {

std::atomic<bool> compile_enabled{true};

constexpr const char* kCapsule = "lamina.graph";
constexpr size_t kRemembered = 16;  // calls that a new one is compared with

// Whether the arrays belong to a function that is being traced, which wants the nodes. Taken for granted
// where more than a few nodes are waiting below them.
bool in_transform(const std::vector<Array>& arrays) {
  constexpr size_t kMost = 256;
  std::vector<const Node*> lazy;
  const auto add = [&](const Node* n) {
    if (n->state.load(std::memory_order_acquire) == NodeState::kLazy) lazy.push_back(n);
    return n->tracer || n->op == OpId::Placeholder || lazy.size() > kMost;
  };
  for (const Array& a : arrays) {
    if (add(a.node())) return true;
  }
  for (size_t i = 0; i < lazy.size(); ++i) {
    for (const Node* in : lazy[i]->inputs) {
      if (add(in)) return true;
    }
  }
  return false;
}

// What a call replays: a trace for one combination of shapes, or a recording for many.
struct Graph {
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() { forget_origin(origin); }

  bool shapeless = false;
  std::shared_ptr<const Trace> trace;
  std::shared_ptr<const CallBody> body;  // of a trace that is evaluated as a whole
  GenericRecording generic;
  const uint32_t origin = new_origin();
  size_t number = 0;
  std::vector<std::string> why;
  mutable std::atomic<uint64_t> calls{0};

  bool takes(const std::vector<Array>& inputs) const { return !shapeless || fits(generic, inputs); }
  Arrays replay(const std::vector<Array>& inputs, bool counted = true) const {
    const uint32_t mark = counted ? origin : 0;
    if (body && counted && !in_transform(inputs)) {
      calls.fetch_add(1, std::memory_order_relaxed);
      return make_call(body, inputs);
    }
    Arrays outs = trace ? trace->replay(inputs, mark) : play(generic, inputs, mark);
    if (counted) calls.fetch_add(1, std::memory_order_relaxed);
    return outs;
  }
  Arrays pending_constants() const { return trace ? trace->pending_constants() : Arrays{}; }
  size_t nodes() const { return trace ? trace->nodes() : generic.base.nodes.size(); }
};

std::shared_ptr<const CallBody> body_of(const std::shared_ptr<const Trace>& trace,
                                        const std::vector<Array>& inputs, uint32_t origin) {
  auto body = std::make_shared<CallBody>();
  body->build = [trace](std::span<const Array> in) { return trace->replay(Arrays(in.begin(), in.end())); };
  for (const Array& a : inputs) {
    body->input_shapes.push_back(a.shape());
    body->input_dtypes.push_back(a.dtype());
  }
  for (const Array& a : body->build(inputs)) {
    body->output_shapes.push_back(a.shape());
    body->output_dtypes.push_back(a.dtype());
  }
  body->origin = origin;
  return body;
}

py::capsule keep_graph(std::unique_ptr<Graph> graph) {
  return py::capsule(graph.release(), kCapsule,
                     [](PyObject* o) { delete static_cast<Graph*>(PyCapsule_GetPointer(o, kCapsule)); });
}
Graph& graph_of(const py::object& capsule) {
  return *static_cast<Graph*>(PyCapsule_GetPointer(capsule.ptr(), kCapsule));
}

// Dtypes and ranks, and shapes where they matter, as part of a cache key.
py::bytes signature_of(const std::vector<Array>& arrays, bool shapes) {
  std::string text;
  auto put = [&text](int64_t v) { text.append(reinterpret_cast<const char*>(&v), sizeof v); };
  for (const Array& a : arrays) {
    put(static_cast<int64_t>(a.dtype()));
    put(a.ndim());
    for (int64_t d : a.shape()) {
      if (shapes) put(d);
    }
  }
  return py::bytes(text);
}

// Lets one thread at a time trace a function or use its captured state, which holds placeholders meanwhile.
// Python's own lock, so that waiting releases the GIL; a child process begins with a fresh one.
class TraceLock {
 public:
  explicit TraceLock(py::list holder) {
    const auto stale = [&] { return holder.empty() || py::cast<long>(py::object(holder[0])) != getpid(); };
    if (stale()) {
      const py::object fresh = py::module_::import("threading").attr("RLock")();
      // Another thread may have made one while Python ran.
      if (stale()) {
        holder.attr("clear")();
        holder.append(getpid());
        holder.append(fresh);
      }
    }
    lock_ = holder[1];
    lock_.attr("acquire")();
  }
  ~TraceLock() {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    Py_XDECREF(PyObject_CallMethod(lock_.ptr(), "release", nullptr));
    PyErr_Clear();
    PyErr_Restore(type, value, trace);
  }
  TraceLock(const TraceLock&) = delete;
  TraceLock& operator=(const TraceLock&) = delete;

 private:
  py::object lock_;
};

// One call of a compiled function, taken apart.
struct CallOf {
  py::object fun, captured, changed;
  py::tuple call;  // (args, kwargs)
  std::vector<Array> inputs;

  std::vector<CallPart> parts() const {
    return call_parts(fun.ptr(), py::object(call[0]).ptr(), py::object(call[1]).ptr(), captured.ptr());
  }
};

// A function traced once for each structure, constants, dtypes and shapes of its arguments and captured
// state; a shapeless one again only for shapes that no recording of it takes.
class CompiledCall final : public TransformCall {
 public:
  CompiledCall(bool shapeless, bool whole) : shapeless_(shapeless), whole_(whole) {}

  // extra: (inputs, outputs, lock); the first two are trees of captured arrays or None.
  py::object call(PyTransform* self, PyObject* args_in, PyObject* kwargs_in) override {
    const py::object keep = borrowed(reinterpret_cast<PyObject*>(self));
    const py::dict kwargs = kwargs_in ? py::reinterpret_borrow<py::dict>(kwargs_in) : py::dict();
    if (!compile_enabled) return owned(PyObject_Call(self->function, args_in, kwargs.ptr()));
    const py::tuple extra = py::reinterpret_borrow<py::tuple>(self->extra);
    std::optional<TraceLock> lock;
    if (!extra[0].is_none() || !extra[1].is_none()) lock.emplace(extra[2]);
    const CallOf c = take_apart(self, borrowed(args_in), kwargs);
    const py::object key = key_of(c);
    std::vector<Array> outs;
    py::tuple entry = find(self, key, c.inputs, outs);
    if (entry.empty()) {
      if (!lock) {  // another thread may be tracing the same
        lock.emplace(extra[2]);
        entry = find(self, key, c.inputs, outs);
      }
      if (entry.empty()) {
        entry = add(self, key, c);
        outs = graph_of(entry[0]).replay(c.inputs, true);
      }
    }
    size_t next = 0;
    const py::object result = replace_arrays(py::object(entry[1]).ptr(), outs, next);
    write_back(c.changed.ptr(), py::object(entry[2]).ptr(), outs, next);
    return result;
  }

  std::vector<TraceNote> notes(PyTransform* self) const {
    std::vector<TraceNote> out(traced_);
    for (const auto& [key, entries] : py::reinterpret_borrow<py::dict>(self->cache)) {
      for (const py::handle entry : py::reinterpret_borrow<py::list>(entries)) {
        const Graph& g = graph_of(py::reinterpret_borrow<py::tuple>(entry)[0]);
        const PlanCounters plans = plan_counters(g.origin);
        out.at(g.number - 1) = {g.number,     g.why,
                                g.nodes(),    g.calls.load(std::memory_order_relaxed),
                                plans.misses, plans.hits + plans.misses};
      }
    }
    return out;
  }

  Preview preview(PyTransform* self, const py::tuple& args, const py::dict& kwargs) const {
    const py::tuple extra = py::reinterpret_borrow<py::tuple>(self->extra);
    const TraceLock lock(extra[2]);
    const CallOf c = take_apart(self, args, kwargs);
    const std::vector<CallPart> parts = c.parts();
    Preview out;
    out.names = array_paths(parts);
    for (const Array& a : c.inputs) {
      out.inputs.push_back(make_node(OpId::Placeholder, a.dtype(), a.shape(), {}));
    }
    const py::tuple entry = find(self, key_of(c), out.inputs, out.outputs, false);
    if (entry.empty()) {
      out.why = reasons(parts);
      const py::tuple fresh = record(c);
      out.there = graph_of(fresh[0]).pending_constants();
      out.outputs = graph_of(fresh[0]).replay(out.inputs, false);
    } else {
      out.trace = graph_of(entry[0]).number;
    }
    return out;
  }

 private:
  static CallOf take_apart(PyTransform* self, const py::object& args, const py::dict& kwargs) {
    const py::tuple extra = py::reinterpret_borrow<py::tuple>(self->extra);
    CallOf c{self->wrapped_function(), extra[0], extra[1], py::make_tuple(args, kwargs), {}};
    c.inputs = arrays_of(c.call.ptr());
    collect_arrays(c.captured.ptr(), c.inputs);
    return c;
  }

  // Also of the containers that are written to: what a trace writes fits those that it found.
  py::object key_of(const CallOf& c) const {
    const py::object changed = c.changed.is(c.captured) ? py::object(py::none()) : c.changed;
    return py::make_tuple(structure_key(c.call.ptr(), "compile"), state_key(c.captured.ptr()),
                          state_key(changed.ptr()), signature_of(c.inputs, !shapeless_));
  }

  // The entry that takes the inputs, with its results; empty where there is none.
  static py::tuple find(PyTransform* self, const py::object& key, const std::vector<Array>& inputs,
                        std::vector<Array>& outs, bool counted = true) {
    PyObject* entries = PyDict_GetItemWithError(self->cache, key.ptr());
    if (!entries && PyErr_Occurred()) throw py::error_already_set();
    if (!entries) return py::tuple();
    for (const py::handle entry : py::reinterpret_borrow<py::list>(entries)) {
      const py::tuple one = py::reinterpret_borrow<py::tuple>(entry);
      const Graph& graph = graph_of(one[0]);
      if (!graph.takes(inputs)) continue;
      try {
        outs = graph.replay(inputs, counted);
        return one;
      } catch (const Error&) {
        // An op refuses lengths that a shapeless recording seemed to take: they are recorded anew.
        if (!graph.shapeless) throw;
      }
    }
    return py::tuple();
  }

  // How a call differs from the most similar earlier one.
  std::vector<std::string> reasons(const std::vector<CallPart>& parts) const {
    if (recent_.empty()) return {"first call"};
    std::optional<std::vector<std::string>> fewest;
    for (const auto& then : recent_) {
      std::vector<std::string> d = differences(then, parts);
      if (!fewest || d.size() <= fewest->size()) fewest = std::move(d);
    }
    if (fewest->empty()) return {"a constant or an output container that prints alike"};
    return *fewest;
  }

  py::tuple add(PyTransform* self, const py::object& key, const CallOf& c) {
    std::vector<CallPart> parts = c.parts();
    std::vector<std::string> why = reasons(parts);
    py::tuple entry = record(c);
    // So that the first evaluation is like all others, and one plan serves them.
    evaluate_released(graph_of(entry[0]).pending_constants());
    const py::list fresh;
    PyObject* entries = PyDict_SetDefault(self->cache, key.ptr(), fresh.ptr());
    if (!entries) throw py::error_already_set();
    Graph& graph = graph_of(entry[0]);
    if (whole_ && graph.trace->plain()) graph.body = body_of(graph.trace, c.inputs, graph.origin);
    graph.number = traced_ + 1;
    graph.why = std::move(why);
    recent_.push_back(std::move(parts));
    if (recent_.size() > kRemembered) recent_.pop_front();
    py::reinterpret_borrow<py::list>(entries).append(entry);
    ++traced_;
    return entry;
  }

  py::tuple record(const CallOf& c) const {
    const py::object &fun = c.fun, &captured = c.captured, &changed = c.changed;
    const py::tuple& call = c.call;
    const std::vector<Array>& inputs = c.inputs;
    py::object result, state;
    // Each run finds the state that the call found, and leaves it so.
    const lamina::Function traced = [&](const std::vector<Array>& placeholders) {
      const TreeSnapshot captured_then(captured.ptr()), changed_then(changed.ptr());
      size_t next = 0;
      const py::tuple replaced =
          py::reinterpret_borrow<py::tuple>(replace_arrays(call.ptr(), placeholders, next));
      write_back(captured.ptr(), captured.ptr(), placeholders, next);
      result = owned(PyObject_Call(fun.ptr(), py::object(replaced[0]).ptr(), py::object(replaced[1]).ptr()));
      std::vector<Array> outs = arrays_of(result.ptr());
      collect_arrays(changed.ptr(), outs);
      // A copy of the containers: the live ones go back to what they were.
      state = map_leaves(changed.ptr(), [](PyObject* leaf) { return borrowed(leaf); });
      return outs;
    };
    auto graph = std::make_unique<Graph>();
    graph->shapeless = shapeless_;
    if (shapeless_) {
      // What other lengths give back is not what callers see.
      const lamina::Function probe = [&](const std::vector<Array>& placeholders) {
        const py::object first_result = result, first_state = state;
        Arrays outs;
        std::exception_ptr refused;
        try {
          outs = refusing(traced, placeholders);
        } catch (...) { refused = std::current_exception(); }
        result = first_result;
        state = first_state;
        if (refused) std::rethrow_exception(refused);
        return outs;
      };
      graph->generic = generalize(traced, probe, inputs);
      // A trace keeps the gradients of custom functions, but holds for these lengths alone.
      if (graph->generic.base.custom_rules) graph->generic = {std::move(graph->generic.base), {}, {}, {}};
    }
    if (!shapeless_ || graph->generic.base.custom_rules) {
      graph->trace = std::make_shared<const Trace>(traced, inputs);
    }
    const py::capsule kept = keep_graph(std::move(graph));
    return py::make_tuple(kept, result, state);
  }

  bool shapeless_, whole_;
  size_t traced_ = 0;
  std::deque<std::vector<CallPart>> recent_;  // the newest at the end
};

const CompiledCall* compiled_of(PyObject* o) {
  PyTransform* transform = as_transform(o);
  return transform ? dynamic_cast<const CompiledCall*>(transform->impl) : nullptr;
}

}  // namespace

bool is_compiled(PyObject* o) { return compiled_of(o) != nullptr; }

std::vector<TraceNote> traces_of(PyObject* compiled) {
  return compiled_of(compiled)->notes(as_transform(compiled));
}

Preview preview_compiled(PyObject* compiled, const py::tuple& args, const py::dict& kwargs) {
  if (!compile_enabled) return preview(as_transform(compiled)->function, args, kwargs);
  return compiled_of(compiled)->preview(as_transform(compiled), args, kwargs);
}

Preview preview(PyObject* fun, const py::tuple& args, const py::dict& kwargs) {
  const py::tuple call = py::make_tuple(args, kwargs);
  Preview out;
  out.names = array_paths(call_parts(fun, args.ptr(), kwargs.ptr(), Py_None));
  for (const Array& a : arrays_of(call.ptr())) {
    out.inputs.push_back(make_node(OpId::Placeholder, a.dtype(), a.shape(), {}));
  }
  size_t next = 0;
  const py::tuple traced = py::reinterpret_borrow<py::tuple>(replace_arrays(call.ptr(), out.inputs, next));
  const py::object result =
      owned(PyObject_Call(fun, py::object(traced[0]).ptr(), py::object(traced[1]).ptr()));
  out.outputs = arrays_of(result.ptr());
  return out;
}

void add_compile(const Scope& core) {
  def(core,
      "compile(fun: Callable[P, R], inputs: object | None = None, outputs: object | None = None, shapeless: "
      "bool = False, *, whole: bool = False) -> Callable[P, R]",
      "A function that runs `fun` once for each structure, shape and dtype of its arguments and afterwards "
      "builds the "
      "recorded graph without running Python.\n\n"
      "Results are those of plain evaluation bit for bit. Arguments that are not arrays are constants: "
      "another value "
      "means another trace. Evaluating an array inside `fun` while it is traced raises ValueError.\n"
      "@inputs Lists, dicts or modules whose arrays `fun` reads and that change between calls. What else "
      "they "
      "hold, and plain attributes of modules, are constants.\n"
      "@outputs Containers that `fun` updates; each call updates them too.\n"
      "@shapeless Look for a graph that holds for other lengths too, by calling `fun` several times with "
      "other lengths: axes whose lengths it may change, as far as its numbers are polynomials of them, vary, "
      "and a call with other lengths there does not run `fun` again. Axes of equal length above 1 vary "
      "together. Python branches on lengths are those of the first call, as far as shorter lengths and one "
      "far "
      "longer show no others.\n"
      "@whole Evaluate what a call gives as one operation: all results together, and nothing fused with it. "
      "A "
      "call then costs little however many operations the function has. Transforms build the graph as usual. "
      "Not together with `shapeless`.\n"
      "@raises TypeError An argument cannot be hashed.\n"
      "@raises ValueError `whole` and `shapeless` are both asked for.\n"
      ">>> f = mx.compile(lambda x: mx.exp(x) + 1)\n>>> f(mx.array(0.0)).item()\n2.0\n",
      [](PyObject* fun, PyObject* inputs, PyObject* outputs, bool shapeless, bool whole) {
        if (shapeless && whole) fail<ValueError>("compile", "wants shapeless or whole, not both");
        py::object out =
            make_transform("compile", fun, py::make_tuple(borrowed(inputs), borrowed(outputs), py::list()),
                           std::make_unique<CompiledCall>(shapeless, whole));
        give_cache(out.ptr());
        return out;
      });
  def(core, "disable_compile() -> None",
      "Makes all compiled functions run as plain Python, for debugging.\n>>> mx.disable_compile()\n>>> "
      "mx.enable_compile()\n",
      [] { compile_enabled = false; });
  def(core, "enable_compile() -> None", "Undoes `disable_compile`.\n>>> mx.enable_compile()\n",
      [] { compile_enabled = true; });
}

}  // namespace lamina::bind
