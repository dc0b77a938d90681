#include <atomic>
#include <exception>
#include <optional>

#include "autograd/trace.h"
#include "bindings/callable.h"
#include "bindings/ops.h"
#include "bindings/tree.h"
#include "export/sizes.h"

namespace lamina::bind {
namespace {

std::atomic<bool> compile_enabled{true};

constexpr const char* kCapsule = "lamina.graph";

// What a call replays: a trace for one combination of shapes, or a recording for many.
struct Graph {
  bool shapeless;
  std::optional<Trace> trace;
  GenericRecording generic;

  bool takes(const std::vector<Array>& inputs) const { return !shapeless || fits(generic, inputs); }
  Arrays replay(const std::vector<Array>& inputs) const {
    return trace ? trace->replay(inputs) : play(generic, inputs);
  }
};

py::capsule keep_graph(Graph graph) {
  return py::capsule(new Graph(std::move(graph)), kCapsule,
                     [](PyObject* o) { delete static_cast<Graph*>(PyCapsule_GetPointer(o, kCapsule)); });
}
const Graph& graph_of(const py::object& capsule) {
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

// A function traced once for each structure, constants, dtypes and shapes of its arguments and captured
// state; a shapeless one again only for shapes that no recording of it takes.
class CompiledCall final : public TransformCall {
 public:
  explicit CompiledCall(bool shapeless) : shapeless_(shapeless) {}
  // extra: (inputs, outputs), trees of captured arrays or None.
  py::object call(PyTransform* self, PyObject* args_in, PyObject* kwargs_in) override {
    const py::object fun = self->wrapped_function();
    const py::object args = borrowed(args_in);
    const py::dict kwargs = kwargs_in ? py::reinterpret_borrow<py::dict>(kwargs_in) : py::dict();
    if (!compile_enabled) return owned(PyObject_Call(fun.ptr(), args_in, kwargs.ptr()));
    const py::tuple extra = py::reinterpret_borrow<py::tuple>(self->extra);
    const py::object captured = extra[0], changed = extra[1];
    const py::tuple call = py::make_tuple(args, kwargs);
    std::vector<Array> inputs = arrays_of(call.ptr());
    collect_arrays(captured.ptr(), inputs);
    const py::object key =
        py::make_tuple(structure_key(call.ptr(), "compile"), structure_key_of_state(captured),
                       signature_of(inputs, !shapeless_));
    py::dict cache = py::reinterpret_borrow<py::dict>(self->cache);
    if (!cache.contains(key)) cache[key] = py::list();
    py::list entries = py::reinterpret_borrow<py::list>(py::object(cache[key]));
    py::tuple entry;
    std::optional<Arrays> outs;
    for (size_t i = 0; i < entries.size() && !outs; ++i) {
      entry = py::reinterpret_borrow<py::tuple>(py::object(entries[i]));
      if (graph_of(entry[0]).takes(inputs)) outs = replayed(graph_of(entry[0]), inputs);
    }
    if (!outs) {
      entry = record(fun, call, captured, changed, inputs);
      entries.append(entry);
      outs = graph_of(entry[0]).replay(inputs);
    }
    size_t next = 0;
    const py::object result = replace_arrays(py::object(entry[1]).ptr(), *outs, next);
    write_back(changed.ptr(), py::object(entry[2]).ptr(), *outs, next);
    return result;
  }

 private:
  // The results, or nothing where an op of a shapeless graph refuses lengths that its recording seemed to
  // take.
  static std::optional<Arrays> replayed(const Graph& graph, const std::vector<Array>& inputs) {
    if (!graph.shapeless) return graph.replay(inputs);
    try {
      return graph.replay(inputs);
    } catch (const Error&) { return std::nullopt; }
  }

  // Captured state may hold anything; what is neither a container nor an array does not take part.
  static py::object structure_key_of_state(const py::object& state) {
    const py::object bare = map_leaves(
        state.ptr(), [](PyObject* leaf) { return is_array(leaf) ? borrowed(leaf) : py::object(py::none()); });
    return structure_key(bare.ptr(), "compile");
  }

  py::tuple record(const py::object& fun, const py::tuple& call, const py::object& captured,
                   const py::object& changed, const std::vector<Array>& inputs) const {
    py::object result, state;
    const lamina::Function traced = [&](const std::vector<Array>& placeholders) {
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
    const TreeSnapshot before_inputs(captured.ptr()), before_outputs(changed.ptr());
    Graph graph{shapeless_, std::nullopt, {}};
    if (shapeless_) {
      // What other lengths give back is not what callers see.
      const lamina::Function probe = [&](const std::vector<Array>& placeholders) {
        const py::object first_result = result, first_state = state;
        const TreeSnapshot inputs_then(captured.ptr()), outputs_then(changed.ptr());
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
      graph.generic = generalize(traced, probe, inputs);
      // A trace keeps the gradients of custom functions, but holds for these lengths alone.
      if (graph.generic.base.custom_rules) graph.generic = {std::move(graph.generic.base), {}, {}, {}};
    }
    if (!shapeless_ || graph.generic.base.custom_rules) graph.trace.emplace(traced, inputs);
    py::capsule kept = keep_graph(std::move(graph));
    return py::make_tuple(kept, result, state);
  }

  bool shapeless_;
};

}  // namespace

void add_compile(const Scope& core) {
  def(core,
      "compile(fun: Callable[P, R], inputs: object | None = None, outputs: object | None = None, shapeless: "
      "bool = "
      "False) -> Callable[P, R]",
      "A function that runs `fun` once for each structure, shape and dtype of its arguments and afterwards "
      "builds the "
      "recorded graph without running Python.\n\n"
      "Results are those of plain evaluation bit for bit. Arguments that are not arrays are constants: "
      "another value "
      "means another trace. Evaluating an array inside `fun` while it is traced raises ValueError.\n"
      "@inputs Lists, dicts or modules whose arrays `fun` reads and that change between calls.\n"
      "@outputs Containers that `fun` updates; each call updates them too.\n"
      "@shapeless Look for a graph that holds for other lengths too, by calling `fun` several times with "
      "other lengths: axes whose lengths it may change, as far as its numbers are polynomials of them, vary, "
      "and a call with other lengths there does not run `fun` again. Axes of equal length above 1 vary "
      "together. Python branches on lengths are those of the first call.\n"
      "@raises TypeError An argument cannot be hashed.\n"
      ">>> f = mx.compile(lambda x: mx.exp(x) + 1)\n>>> f(mx.array(0.0)).item()\n2.0\n",
      [](PyObject* fun, PyObject* inputs, PyObject* outputs, bool shapeless) {
        py::object out = make_transform("compile", fun, py::make_tuple(borrowed(inputs), borrowed(outputs)),
                                        std::make_unique<CompiledCall>(shapeless));
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
