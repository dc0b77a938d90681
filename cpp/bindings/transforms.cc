#include "lamina/transforms.h"

#include <algorithm>
#include <set>

#include "autograd/vmap.h"
#include "bindings/axes.h"
#include "bindings/callable.h"
#include "bindings/ops.h"
#include "bindings/tree.h"

namespace lamina::bind {
namespace {

py::tuple args_of(PyObject* args) { return py::reinterpret_borrow<py::tuple>(args); }
py::dict kwargs_of(PyObject* kwargs) {
  return kwargs ? py::reinterpret_borrow<py::dict>(kwargs) : py::dict();
}
py::object call_python(PyObject* f, const py::tuple& args, const py::dict& kwargs) {
  return owned(PyObject_Call(f, args.ptr(), kwargs.ptr()));
}

// ---- grad and value_and_grad ----

struct Wanted {
  std::vector<int64_t> positions;
  std::vector<std::string> names;
  bool one_position = false;  // one argument: its gradient comes without a tuple
  bool one_name = false;
};

Wanted wanted_of(const char* function, PyObject* argnums, PyObject* argnames) {
  Wanted w;
  if (PyUnicode_Check(argnames)) {
    w.names.push_back(py::cast<std::string>(borrowed(argnames)));
    w.one_name = true;
  } else if (const auto items = as_items(argnames)) {
    for (const py::object& item : *items) {
      if (!PyUnicode_Check(item.ptr())) {
        throw TypeError(std::string(function) + "(): argument 'argnames' wants str | Sequence[str]");
      }
      w.names.push_back(py::cast<std::string>(item));
    }
  } else {
    throw TypeError(std::string(function) + "(): argument 'argnames' wants str | Sequence[str], got " +
                    type_name(argnames));
  }
  if (argnums == Py_None) {
    if (w.names.empty()) {
      w.positions = {0};
      w.one_position = true;
    }
  } else if (const auto one = as_integer(argnums)) {
    w.positions = {*one};
    w.one_position = true;
  } else if (const auto many = as_integers(argnums)) {
    w.positions.assign(many->begin(), many->end());
    w.one_position = w.positions.size() == 1;
  } else {
    throw TypeError(std::string(function) + "(): argument 'argnums' wants int | Sequence[int] | None, got " +
                    type_name(argnums));
  }
  const std::set<int64_t> distinct(w.positions.begin(), w.positions.end());
  if (distinct.size() != w.positions.size()) {
    throw ValueError(std::string("[") + function + "] argnums names an argument twice");
  }
  for (int64_t p : w.positions) {
    if (p < 0)
      throw ValueError(std::string("[") + function + "] argnums must not be negative, got " +
                       std::to_string(p));
  }
  return w;
}

class GradCall final : public TransformCall {
 public:
  GradCall(const char* name, Wanted wanted, bool with_value)
      : name_(name), wanted_(std::move(wanted)), with_value_(with_value) {}

  py::object call(PyTransform* self, PyObject* args_in, PyObject* kwargs_in) override {
    const py::object keep = self->wrapped_function();
    const py::tuple args = args_of(args_in);
    const py::dict kwargs = kwargs_of(kwargs_in);
    check_arguments(args, kwargs);
    std::vector<Array> primals;
    for (int64_t p : wanted_.positions)
      collect_arrays(py::object(args[static_cast<size_t>(p)]).ptr(), primals);
    for (const std::string& n : wanted_.names) collect_arrays(py::object(kwargs[n.c_str()]).ptr(), primals);
    for (const Array& p : primals) {
      if (!is_inexact(p.dtype())) {
        throw ValueError(std::string("[") + name_ +
                         "] gradients are taken with respect to floating arrays, got dtype " +
                         std::string(dtype_name(p.dtype())));
      }
    }
    py::object result;
    auto fun = [&](const std::vector<Array>& tracers) {
      result = with_tracers(keep, args, kwargs, tracers);
      return std::vector<Array>{loss_of(result)};
    };
    std::vector<int> all(primals.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int>(i);
    const auto [outs, grads] = lamina::value_and_grad(fun, all)(primals);
    const py::object gradients = shaped(args, kwargs, grads);
    return with_value_ ? py::object(py::make_tuple(result, gradients)) : gradients;
  }

 private:
  void check_arguments(const py::tuple& args, const py::dict& kwargs) const {
    for (int64_t p : wanted_.positions) {
      if (static_cast<size_t>(p) >= args.size()) {
        throw ValueError(std::string("[") + name_ + "] argnums names argument " + std::to_string(p) +
                         ", but only " + std::to_string(args.size()) + " positional arguments came");
      }
    }
    for (const std::string& n : wanted_.names) {
      if (!kwargs.contains(n)) {
        throw ValueError(std::string("[") + name_ + "] argnames names '" + n +
                         "', which is no keyword argument of the call");
      }
    }
  }

  py::object with_tracers(const py::object& f, const py::tuple& args, const py::dict& kwargs,
                          const std::vector<Array>& tracers) const {
    size_t next = 0;
    py::list positional(args);
    py::dict named = kwargs.attr("copy")();
    for (int64_t p : wanted_.positions) {
      positional[static_cast<size_t>(p)] =
          replace_arrays(py::object(args[static_cast<size_t>(p)]).ptr(), tracers, next);
    }
    for (const std::string& n : wanted_.names) {
      named[n.c_str()] = replace_arrays(py::object(kwargs[n.c_str()]).ptr(), tracers, next);
    }
    return call_python(f.ptr(), py::tuple(positional), named);
  }

  Array loss_of(const py::object& result) const {
    py::object first = result;
    if (PyTuple_Check(result.ptr()) || PyList_Check(result.ptr())) {
      const auto items = as_items(result.ptr());
      if (!items->empty()) first = items->front();
    }
    if (!is_array(first.ptr())) {
      throw ValueError(std::string("[") + name_ +
                       "] the function must return a scalar array, or a tuple that begins with one, got " +
                       type_name(first.ptr()));
    }
    return value_of(first.ptr());
  }

  py::object shaped(const py::tuple& args, const py::dict& kwargs, const std::vector<Array>& grads) const {
    size_t next = 0;
    py::list positional;
    py::dict named;
    for (int64_t p : wanted_.positions) {
      positional.append(replace_arrays(py::object(args[static_cast<size_t>(p)]).ptr(), grads, next));
    }
    for (const std::string& n : wanted_.names) {
      named[n.c_str()] = replace_arrays(py::object(kwargs[n.c_str()]).ptr(), grads, next);
    }
    const py::object by_position =
        wanted_.one_position ? py::object(positional[0]) : py::object(py::tuple(positional));
    if (wanted_.names.empty()) return by_position;
    return py::make_tuple(wanted_.positions.empty() ? py::none() : by_position, named);
  }

  const char* name_;
  Wanted wanted_;
  bool with_value_;
};

// ---- vjp and jvp ----

lamina::Function list_function(PyObject* fun, const char* name) {
  return [fun, name](const std::vector<Array>& primals) {
    py::list args;
    for (const Array& p : primals) args.append(wrapped(p));
    return returned_arrays(call_python(fun, py::tuple(args), py::dict()), name);
  };
}

// ---- vmap ----

class VmapCall final : public TransformCall {
 public:
  // extra: (in_axes, out_axes)
  py::object call(PyTransform* self, PyObject* args_in, PyObject* kwargs_in) override {
    const py::object fun = self->wrapped_function();
    const py::tuple extra = py::reinterpret_borrow<py::tuple>(self->extra);
    const py::object in_axes = extra[0], out_axes = extra[1];
    const py::tuple args = args_of(args_in);
    const py::dict kwargs = kwargs_of(kwargs_in);
    const std::vector<Array> inputs = arrays_of(args.ptr());
    std::vector<int64_t> axes, ndims;
    spread_axes(args.ptr(), in_axes.ptr(), axes, "vmap", "in_axes");
    for (const Array& a : inputs) ndims.push_back(a.ndim());
    const std::vector<int> in = resolve_axes(axes, ndims, "vmap", "in_axes");
    py::object result;
    auto body = [&](const std::vector<Array>& x) {
      size_t next = 0;
      const py::object traced = replace_arrays(args.ptr(), x, next);
      result = call_python(fun.ptr(), py::reinterpret_borrow<py::tuple>(traced), kwargs);
      return arrays_of(result.ptr());
    };
    auto late = [&](const std::vector<Array>& outs) {
      std::vector<int64_t> spread, ranks;
      spread_axes(result.ptr(), out_axes.ptr(), spread, "vmap", "out_axes");
      for (const Array& a : outs) ranks.push_back(a.ndim() + 1);
      return resolve_axes(spread, ranks, "vmap", "out_axes");
    };
    const std::vector<Array> mapped = vmap_with(body, in, late)(inputs);
    size_t next = 0;
    return replace_arrays(result.ptr(), mapped, next);
  }
};

std::vector<Array> list_argument(const Any& a) {
  const auto items = as_items(a.object);
  if (!items) a.wrong();
  std::vector<Array> out;
  for (const py::object& item : *items) {
    auto array = as_array(item.ptr());
    if (!array) a.wrong();
    out.push_back(*std::move(array));
  }
  return out;
}

}  // namespace

void add_transforms(const Scope& core) {
  py::module_ m = py::reinterpret_borrow<py::module_>(core.object);
  add_transform_type(m);
  def(core,
      "grad(fun: Callable[P, R], argnums: int | Sequence[int] | None = None, argnames: str | Sequence[str] = "
      "()) -> "
      "Callable[P, Any]",
      "A function that returns the gradient of `fun`, whose result is a scalar array or a tuple beginning "
      "with one.\n"
      "@argnums Positions of the arguments (arrays or trees of arrays) to differentiate; 0 unless argnames "
      "are given.\n"
      "@argnames Names of keyword arguments to differentiate.\n"
      "@returns Gradients like the argument; a tuple for two and more; with argnames a pair (by position, by "
      "name).\n"
      "@raises ValueError The result is no scalar, or an argument is not floating.\n"
      ">>> mx.grad(lambda x: (x * x).sum())(mx.array([1.0, 2.0]))\narray([2, 4], dtype=float32)\n",
      [](PyObject* fun, PyObject* argnums, PyObject* argnames) {
        return make_transform(
            "grad", fun, py::object(),
            std::make_unique<GradCall>("grad", wanted_of("grad", argnums, argnames), false));
      });
  def(core,
      "value_and_grad(fun: Callable[P, R], argnums: int | Sequence[int] | None = None, argnames: str | "
      "Sequence[str] = "
      "()) -> Callable[P, tuple[R, Any]]",
      "A function that returns the result of `fun` and its gradient, computed together.\n"
      "@argnums As for `grad`.\n@argnames As for `grad`.\n"
      "@returns (value, gradients); where fun returns a tuple, all of it is the value.\n"
      "@raises ValueError The result is no scalar, or an argument is not floating.\n"
      ">>> value, gradient = mx.value_and_grad(lambda x: (x * x).sum())(mx.array([1.0, 2.0]))\n"
      ">>> value.item(), gradient.tolist()\n(5.0, [2.0, 4.0])\n",
      [](PyObject* fun, PyObject* argnums, PyObject* argnames) {
        return make_transform("value_and_grad", fun, py::object(),
                              std::make_unique<GradCall>(
                                  "value_and_grad", wanted_of("value_and_grad", argnums, argnames), true));
      });
  def(core,
      "vjp(fun: Callable, primals: list[array], cotangents: list[array]) -> tuple[list[array], list[array]]",
      "The outputs of `fun` and the products of the cotangents with its Jacobian.\n"
      "@primals Arguments of fun.\n@cotangents One for each output, of its shape.\n"
      "@returns (outputs, one product for each primal).\n"
      "@raises ValueError Numbers or shapes of cotangents and outputs differ.\n"
      ">>> outs, grads = mx.vjp(mx.sin, (mx.array(0.0),), (mx.array(2.0),))\n>>> grads[0].item()\n2.0\n",
      [](PyObject* fun, Any primals, Any cotangents) {
        auto [outs, grads] =
            vjp(list_function(fun, "vjp"), list_argument(primals), list_argument(cotangents));
        return py::object(py::make_tuple(owned(wrap_list(outs)), owned(wrap_list(grads))));
      });
  def(core,
      "jvp(fun: Callable, primals: list[array], tangents: list[array]) -> tuple[list[array], list[array]]",
      "The outputs of `fun` and the products of its Jacobian with the tangents.\n"
      "@primals Arguments of fun.\n@tangents One for each primal, of its shape.\n"
      "@returns (outputs, one product for each output).\n"
      "@raises ValueError Numbers or shapes of tangents and primals differ.\n"
      ">>> outs, tangents = mx.jvp(mx.sin, (mx.array(0.0),), (mx.array(2.0),))\n>>> "
      "tangents[0].item()\n2.0\n",
      [](PyObject* fun, Any primals, Any tangents) {
        auto [outs, products] =
            jvp(list_function(fun, "jvp"), list_argument(primals), list_argument(tangents));
        return py::object(py::make_tuple(owned(wrap_list(outs)), owned(wrap_list(products))));
      });
  def(core, "vmap(fun: Callable[P, R], in_axes: object = 0, out_axes: object = 0) -> Callable[P, R]",
      "A function that maps `fun` over an axis of its arguments and stacks the results, without a loop.\n"
      "@in_axes The mapped axis of each array: an int or None (not mapped) for all, or a tree of them like "
      "the arguments.\n"
      "@out_axes Where the mapped axis goes in each result; None for results that do not depend on it.\n"
      "@raises ValueError Axes out of bounds, or mapped axes of different lengths.\n"
      ">>> mx.vmap(lambda x, y: (x * y).sum(), in_axes=(0, None))(mx.ones((3, 2)), mx.array([1.0, 2.0]))\n"
      "array([3, 3, 3], dtype=float32)\n",
      [](PyObject* fun, PyObject* in_axes, PyObject* out_axes) {
        return make_transform("vmap", fun, py::make_tuple(borrowed(in_axes), borrowed(out_axes)),
                              std::make_unique<VmapCall>());
      });
}

}  // namespace lamina::bind
