#include <algorithm>
#include <optional>

#include <fmt/format.h>
#include <pybind11/eval.h>

#include "bindings/axes.h"
#include "bindings/callable.h"
#include "bindings/ops.h"
#include "bindings/tree.h"

// checkpoint and custom_function.
namespace lamina::bind {
namespace {

struct WithGil {
  PyGILState_STATE state = PyGILState_Ensure();
  WithGil() = default;
  WithGil(const WithGil&) = delete;
  WithGil& operator=(const WithGil&) = delete;
  ~WithGil() { PyGILState_Release(state); }
};

py::object filled(PyObject* tree, const Arrays& arrays) {
  size_t next = 0;
  return replace_arrays(tree, arrays, next);
}

// The tree with a scalar in place of every array, which keeps no memory and no graph alive.
py::object hollow(PyObject* tree) {
  return filled(tree, Arrays(arrays_of(tree).size(), Array(int64_t{0}, Dtype::kInt32)));
}

// A Python function over trees as one over arrays; remembers the tree of its result.
struct TreeFunction {
  Held fun;
  Held args;    // hollow
  Held kwargs;  // a dict
  std::shared_ptr<Held> result = std::make_shared<Held>();

  TreeFunction(PyObject* f, PyObject* arguments, PyObject* keywords)
      : fun(hold(f)),
        args(hold(hollow(arguments).ptr())),
        kwargs(keywords ? hold(keywords) : hold(py::dict().ptr())) {}

  py::object call(PyObject* f, const py::tuple& arguments) const {
    return owned(PyObject_Call(f, arguments.ptr(), kwargs.get()));
  }
  Arrays operator()(const Arrays& arrays) const {
    const WithGil gil;
    const py::object out = call(fun.get(), filled(args.get(), arrays));
    *result = hold(hollow(out.ptr()).ptr());
    return arrays_of(out.ptr());
  }
  py::object outputs(const Arrays& arrays) const { return filled(result->get(), arrays); }
};

class CheckpointCall final : public TransformCall {
 public:
  py::object call(PyTransform* self, PyObject* args, PyObject* kwargs) override {
    const TreeFunction f(self->function, args, kwargs);
    return f.outputs(lamina::checkpoint(f)(arrays_of(args)));
  }
};

// ---- what rules give ----

// Appends what `given` has for each array of `tree`, None as an empty handle; false where it is another tree.
bool match(PyObject* tree, PyObject* given, Arrays& out) {
  if (given == Py_None) {
    out.resize(out.size() + arrays_of(tree).size());
    return true;
  }
  if (is_array(tree)) {
    if (is_array(given)) out.push_back(value_of(given));
    return is_array(given);
  }
  if (PyDict_Check(tree)) {
    if (!PyDict_Check(given)) return false;
    PyObject *key, *part;
    Py_ssize_t at = 0;
    while (PyDict_Next(tree, &at, &key, &part)) {
      PyObject* one = PyDict_GetItemWithError(given, key);
      if (!one && PyErr_Occurred()) throw py::error_already_set();
      if (!match(part, one ? one : Py_None, out)) return false;
    }
    for (const py::handle name : py::reinterpret_borrow<py::dict>(given).attr("keys")()) {
      if (py::reinterpret_borrow<py::dict>(tree).contains(name)) continue;
      throw ValueError(fmt::format(
          "[custom_function] a rule gave the key {}, wanted keys of {}", std::string(py::repr(name)),
          std::string(py::str(py::reinterpret_borrow<py::dict>(tree).attr("keys")()))));
    }
    return true;
  }
  if (!PyList_Check(tree) && !PyTuple_Check(tree)) return true;
  const auto parts = as_items(tree), ones = as_items(given);
  if (!ones || ones->size() != parts->size()) return false;
  for (size_t i = 0; i < parts->size(); ++i) {
    if (!match((*parts)[i].ptr(), (*ones)[i].ptr(), out)) return false;
  }
  return true;
}

// One array for each of the tree's: the tree itself, or as many arrays in any other.
Arrays arrays_like(PyObject* tree, PyObject* given) {
  Arrays out;
  if (match(tree, given, out)) return out;
  return arrays_of(given);
}

// ---- custom functions ----

// A rule in Python, called with the trees that the function sees; a single argument comes without a tuple.
struct TreeRule {
  TreeFunction f;
  Held rule;

  py::object argument(const py::object& args) const {
    const py::tuple all = py::reinterpret_borrow<py::tuple>(args);
    return all.size() == 1 ? py::object(all[0]) : py::object(all);
  }
  py::object primals(const Arrays& arrays) const { return argument(filled(f.args.get(), arrays)); }
  // The arguments' tree with leaf(i) in place of array i and None in place of what is no array.
  py::object beside(const std::function<py::object(size_t)>& leaf) const {
    size_t next = 0;
    return argument(map_leaves(
        f.args.get(), [&](PyObject* old) { return is_array(old) ? leaf(next++) : py::object(py::none()); }));
  }
  template <class... Args>
  py::object run(const Args&... args) const {
    return f.call(rule.get(), py::make_tuple(args...));
  }
};

struct VjpRule : TreeRule {
  Arrays operator()(const Arrays& arrays, const Arrays& cotangents, const Arrays& outputs) const {
    const WithGil gil;
    const py::object given = run(primals(arrays), f.outputs(cotangents), f.outputs(outputs));
    const py::tuple all = py::reinterpret_borrow<py::tuple>(borrowed(f.args.get()));
    Arrays out;
    if (all.size() == 1 && match(py::object(all[0]).ptr(), given.ptr(), out)) return out;
    return arrays_like(all.ptr(), given.ptr());
  }
};

struct JvpRule : TreeRule {
  Arrays operator()(const Arrays& arrays, const Arrays& tangents) const {
    const WithGil gil;
    const py::object t =
        beside([&](size_t i) { return tangents[i].valid() ? wrapped(tangents[i]) : py::object(py::none()); });
    return arrays_like(f.result->get(), run(primals(arrays), t).ptr());
  }
};

struct VmapRule : TreeRule {
  std::pair<Arrays, std::vector<int>> operator()(const Arrays& arrays, const std::vector<int>& axes) const {
    const WithGil gil;
    const py::object given =
        run(primals(arrays), beside([&](size_t i) {
              return axes[i] < 0 ? py::object(py::none()) : py::object(py::int_(axes[i]));
            }));
    const auto pair = is_array(given.ptr()) ? std::nullopt : as_items(given.ptr());
    if (!pair || pair->size() != 2) {
      throw ValueError("[custom_function] the rule for vmap must return a pair (outputs, axes), returned " +
                       (pair ? std::to_string(pair->size()) + " items" : type_name(given.ptr())));
    }
    return ordered((*pair)[0].ptr(), (*pair)[1].ptr());
  }

 private:
  // Outputs and axes in the order of the function's own outputs, which a dict may not have.
  std::pair<Arrays, std::vector<int>> ordered(PyObject* outputs, PyObject* axes) const {
    const Arrays given = arrays_of(outputs);
    std::vector<int64_t> spread, ranks;
    spread_axes(outputs, axes, spread, "custom_function", "the axes that the rule for vmap returns");
    for (const Array& a : given) ranks.push_back(a.ndim());
    const std::vector<int> resolved =
        resolve_axes(spread, ranks, "custom_function", "the axis that the rule for vmap returns,");
    Arrays marks, order;
    for (size_t i = 0; i < given.size(); ++i) marks.emplace_back(static_cast<int64_t>(i), Dtype::kInt64);
    if (!match(f.result->get(), filled(outputs, marks).ptr(), order)) return {given, resolved};
    std::pair<Arrays, std::vector<int>> out;
    for (const Array& mark : order) {
      const auto at = std::find_if(marks.begin(), marks.end(),
                                   [&](const Array& m) { return mark.valid() && m.node() == mark.node(); });
      const auto i = static_cast<size_t>(at - marks.begin());
      out.first.push_back(i < given.size() ? given[i] : Array());
      out.second.push_back(i < given.size() ? resolved[i] : -1);
    }
    return out;
  }
};

class CustomCall final : public TransformCall {
 public:
  // extra: a dict with "vjp", "jvp" and "vmap" where they were given.
  py::object call(PyTransform* self, PyObject* args, PyObject* kwargs) override {
    const py::dict given = py::reinterpret_borrow<py::dict>(self->extra);
    if (given.empty()) return owned(PyObject_Call(self->function, args, kwargs));
    if (kwargs && !arrays_of(kwargs).empty()) {
      throw TypeError("[custom_function] a function with rules wants its arrays as positional arguments");
    }
    const TreeFunction f(self->function, args, kwargs);
    auto rule = [&](const char* name) { return TreeRule{f, hold(py::object(given[name]).ptr())}; };
    CustomRules rules;
    if (given.contains("vjp")) rules.vjp = VjpRule{rule("vjp")};
    if (given.contains("jvp")) rules.jvp = JvpRule{rule("jvp")};
    if (given.contains("vmap")) rules.vmap = VmapRule{rule("vmap")};
    return f.outputs(lamina::custom_function(f, rules)(arrays_of(args)));
  }
};

// A class in Python: it holds Python functions only.
constexpr const char* kCustomFunction = R"(
class custom_function:
    """A function with rules of its own for gradients, forward derivatives and vectorization.

    Each rule stands for the function in its transform, also where transforms are nested; a transform without a
    rule goes through the function itself. With a rule for ``vjp`` gradients flow to the arguments only, not to
    arrays that the function captured.

    A rule gets the arguments as ``primals``: a tuple, or the argument itself where there is one. Trees and what is
    no array come as they are. Rules stay in compiled functions; exported ones drop them.

    Parameters
    ----------
    f : Callable
        Takes arrays (or trees of them) as positional arguments and returns an array or a tree of arrays. Keyword
        arguments without arrays are passed on to it and to its rules.

    Raises
    ------
    TypeError
        f is not callable, or a function with rules gets an array as a keyword argument.
    ValueError
        When a rule runs that returns another number of arrays, other shapes, or dtypes that do not convert.

    Examples
    --------
    >>> @mx.custom_function
    ... def f(x, scale):
    ...     return mx.sin(x) * scale
    >>> @f.vjp
    ... def _(primals, cotangents, outputs):
    ...     return cotangents * 7, None
    >>> @f.jvp
    ... def _(primals, tangents):
    ...     return tangents[0] * 5
    >>> @f.vmap
    ... def _(primals, axes):
    ...     return mx.sin(primals[0]) * primals[1], axes[0]
    >>> mx.grad(f)(mx.array(0.0), 2.0).item()
    7.0
    >>> mx.jvp(lambda x: f(x, 2.0), [mx.array(0.0)], [mx.array(1.0)])[1][0].item()
    5.0
    >>> mx.vmap(f, in_axes=(0, None))(mx.zeros(3), 2.0)
    array([0, 0, 0], dtype=float32)
    """

    def __init__(self, f):
        self._rules = {}
        self._call = _make_custom_function(f, self._rules)
        _update_wrapper(self, f, updated=())

    def __call__(self, *args, **kwargs):
        """Call the function; transforms of the result go through its rules."""
        return self._call(*args, **kwargs)

    def _with_rule(self, name, f):
        if not callable(f):
            raise TypeError(f"custom_function.{name}(): argument 'f' wants a callable, got {type(f).__name__}")
        self._rules[name] = f
        return self

    def vjp(self, f):
        """Set ``f(primals, cotangents, outputs)``, which returns a gradient for each primal.

        Cotangents and outputs are trees like what the function returned. None says that a gradient is zero. Returns
        this object.
        """
        return self._with_rule("vjp", f)

    def jvp(self, f):
        """Set ``f(primals, tangents)``, which returns a tangent for each output.

        The tangent of an argument that is not differentiated is None; None for an output says that its tangent is
        zero. Returns this object.
        """
        return self._with_rule("jvp", f)

    def vmap(self, f):
        """Set ``f(primals, axes)``, which returns the outputs over all examples and a tree of their axes.

        The axis is 0 for a mapped array and None for any other; an output that does not depend on mapped ones
        may have the axis None. Returns this object.
        """
        return self._with_rule("vmap", f)
)";

}  // namespace

void add_custom_functions(const Scope& core) {
  def(core, "checkpoint(fun: Callable[P, R]) -> Callable[P, R]",
      "A function like `fun` whose intermediate results are computed again for the gradient instead of "
      "kept. Python runs once, and what is random stays the same.\n"
      "@fun Gradients flow to its arguments and to arrays that it captured.\n"
      ">>> f = mx.checkpoint(lambda x: mx.sin(mx.sin(x)))\n>>> mx.grad(f)(mx.array(0.0)).item()\n1.0\n",
      [](PyObject* fun) {
        return make_transform("checkpoint", fun, py::object(), std::make_unique<CheckpointCall>());
      });
  def(core, "_make_custom_function(fun: Callable, rules: dict) -> Callable",
      "What `custom_function` objects call.", [](PyObject* fun, PyObject* rules) {
        return make_transform("custom_function", fun, borrowed(rules), std::make_unique<CustomCall>());
      });
  py::module_ m = py::reinterpret_borrow<py::module_>(core.object);
  py::dict scope;
  scope["__name__"] = "lamina.core";
  scope["_make_custom_function"] = m.attr("_make_custom_function");
  scope["_update_wrapper"] = py::module_::import("functools").attr("update_wrapper");
  py::exec(kCustomFunction, scope);
  m.attr("custom_function") = scope["custom_function"];
}

}  // namespace lamina::bind
