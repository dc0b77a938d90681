#include "lamina/export.h"

#include <unordered_map>

#include "bindings/box.h"
#include "bindings/io.h"
#include "bindings/ops.h"
#include "bindings/tree.h"
#include "export/recording.h"
#include "graph/node.h"
#include "ops/table.h"

namespace lamina::bind {
namespace {

struct Inputs {
  std::vector<Array> positional;
  NamedArrays named;
};

[[noreturn]] void wrong_inputs(const char* function, PyObject* got) {
  throw ValueError(
      std::string("[") + function +
      "] inputs are positional and keyword arrays, or one sequence and one dict of arrays; got " +
      type_name(got));
}

const Array& input_array(const char* function, PyObject* o) {
  if (!is_array(o)) wrong_inputs(function, o);
  return value_of(o);
}

void add_named(const char* function, PyObject* dict, Inputs& out) {
  for (const auto& [key, value] : py::reinterpret_borrow<py::dict>(dict)) {
    if (!PyUnicode_Check(key.ptr())) wrong_inputs(function, key.ptr());
    out.named.emplace_back(py::cast<std::string>(key), input_array(function, value.ptr()));
  }
}

// f(a, b, x=x), f((a, b)), f({"x": x}) and f((a, b), {"x": x}) are the same inputs.
Inputs inputs_of(const char* function, Rest args, const py::dict& kwargs) {
  Inputs out;
  const bool packed = args.count > 0 && !is_array(args.items[0]);
  if (!packed) {
    for (Py_ssize_t i = 0; i < args.count; ++i) {
      out.positional.push_back(input_array(function, args.items[i]));
    }
    add_named(function, kwargs.ptr(), out);
    return out;
  }
  if (args.count > 2 || !kwargs.empty()) wrong_inputs(function, args.items[args.count - 1]);
  for (Py_ssize_t i = 0; i < args.count; ++i) {
    PyObject* o = args.items[i];
    if (PyDict_Check(o) && i + 1 == args.count) {
      add_named(function, o, out);
    } else if ((PyList_Check(o) || PyTuple_Check(o)) && i == 0) {
      const auto items = as_items(o);
      for (const py::object& item : *items) out.positional.push_back(input_array(function, item.ptr()));
    } else {
      wrong_inputs(function, o);
    }
  }
  return out;
}

// The C++ function of a Python one: the positional arrays first, then the named ones.
lamina::Function function_of(const Held& fun, size_t positional, std::vector<std::string> names) {
  return [fun, positional, names = std::move(names)](const Arrays& in) {
    py::tuple args(positional);
    py::dict kwargs;
    for (size_t i = 0; i < positional; ++i) args[i] = wrapped(in[i]);
    for (size_t i = 0; i < names.size(); ++i) kwargs[names[i].c_str()] = wrapped(in[positional + i]);
    return returned_arrays(owned(PyObject_Call(fun.get(), args.ptr(), kwargs.ptr())), "export_function");
  };
}

std::vector<std::string> names_of(const NamedArrays& named) {
  std::vector<std::string> out;
  for (const auto& [name, a] : named) out.push_back(name);
  return out;
}

void check_callable(const char* function, const Any& fun) {
  if (PyCallable_Check(fun.object)) return;
  throw TypeError(std::string(function) + "(): argument 'fun' wants a callable, got " +
                  type_name(fun.object));
}

// ---- files ----

// The exporter records with its own function for each combination of arguments.
struct Exporter {
  std::string path, metadata;
  Held fun;
  std::shared_ptr<FunctionExporter> file;
  std::shared_ptr<lamina::Function> current;
};

Exporter make_exporter(const std::string& path, PyObject* fun, bool shapeless, std::string metadata) {
  Exporter e{path, {}, hold(fun), nullptr, std::make_shared<lamina::Function>()};
  e.file = std::make_shared<FunctionExporter>(
      path, [current = e.current](const Arrays& in) { return (*current)(in); }, std::move(metadata));
  if (shapeless) {
    e.file->set_shapeless([current = e.current](const Arrays& in) { return refusing(*current, in); });
  }
  return e;
}

void record_call(Exporter& e, Rest args, const py::dict& kwargs) {
  const Inputs in = inputs_of("export_function", args, kwargs);
  *e.current = function_of(e.fun, in.positional.size(), names_of(in.named));
  e.file->add(in.positional, in.named);
}

void close_exporter(Exporter& e) {
  const WithoutGil released;
  e.file->close();
}

// ---- the callback form ----

// Names values A, B, ..., Z, AA, ... in the order in which they are first asked for.
class ValueNames {
 public:
  std::string operator()(uint32_t value) {
    const auto [it, fresh] = names_.try_emplace(value);
    if (fresh) {
      for (size_t n = names_.size(); n > 0; n = (n - 1) / 26) {
        it->second.insert(it->second.begin(), static_cast<char>('A' + (n - 1) % 26));
      }
    }
    return it->second;
  }

 private:
  std::unordered_map<uint32_t, std::string> names_;
};

py::tuple described(const std::string& name, const ResultType& t) {
  py::tuple shape(t.shape.size());
  for (size_t i = 0; i < t.shape.size(); ++i) shape[i] = t.shape[i];
  return py::make_tuple(name, shape, owned(to_python(t.dtype)));
}

void export_to_callback(PyObject* callback, PyObject* fun, const Inputs& in) {
  Arrays inputs = in.positional;
  for (const auto& [name, a] : in.named) inputs.push_back(a);
  const Recording r = record(function_of(hold(fun), in.positional.size(), names_of(in.named)), inputs);
  ValueNames names;
  auto call = [callback](const char* type, const char* key, const py::list& items) {
    py::dict event;
    event["type"] = type;
    event[key] = items;
    owned(PyObject_CallOneArg(callback, event.ptr()));
  };
  const auto first_node = static_cast<uint32_t>(r.inputs.size() + r.constants.size());
  auto type_of = [&](uint32_t value) -> ResultType {
    if (value < r.inputs.size()) return r.inputs[value];
    if (value >= first_node) return r.nodes[value - first_node].recipe.results[0];
    const Array& a = r.constants[value - r.inputs.size()];
    return {a.shape(), a.dtype()};
  };
  auto all = [&](const std::vector<uint32_t>& values) {
    py::list out;
    for (uint32_t v : values) out.append(described(names(v), type_of(v)));
    return out;
  };
  py::list positional, keywords, constants;
  for (uint32_t i = 0; i < r.inputs.size(); ++i) {
    positional.append(described(names(i), r.inputs[i]));
    if (i >= in.positional.size()) {
      keywords.append(py::make_tuple(in.named[i - in.positional.size()].first, names(i)));
    }
  }
  call("inputs", "inputs", positional);
  call("keyword_inputs", "keywords", keywords);
  call("outputs", "outputs", all(r.outputs));
  for (size_t i = 0; i < r.constants.size(); ++i) {
    const auto value = static_cast<uint32_t>(r.inputs.size() + i);
    constants.append(py::make_tuple(names(value), wrapped(r.constants[i])));
  }
  call("constants", "constants", constants);
  for (uint32_t i = 0; i < r.nodes.size(); ++i) {
    const Recording::Item& item = r.nodes[i];
    py::dict event;
    event["type"] = "primitive";
    event["name"] = std::string(op_info(item.recipe.op).name);
    event["arguments"] = item.recipe.params ? item.recipe.params->describe() : "";
    event["inputs"] = all(item.operands);
    event["outputs"] = all({first_node + i});
    owned(PyObject_CallOneArg(callback, event.ptr()));
  }
}

void run_export(const Any& target, const Any& fun, Rest args, bool shapeless,
                const std::optional<std::string>& metadata, const py::dict& kwargs) {
  check_callable("export_function", fun);
  if (PyCallable_Check(target.object)) {
    if (metadata) throw ValueError("[export_function] metadata is for files, not for a callback");
    export_to_callback(target.object, fun.object, inputs_of("export_function", args, kwargs));
    return;
  }
  Exporter e = make_exporter(path_of(borrowed(target.object)), fun.object, shapeless, metadata.value_or(""));
  record_call(e, args, kwargs);
  close_exporter(e);
}

// ---- what Python sees ----

PyObject* call_imported(PyObject* self, PyObject* args, PyObject* kwargs) {
  return guarded([&] {
    const py::tuple items = py::reinterpret_borrow<py::tuple>(args);
    std::vector<PyObject*> positional;
    for (const py::handle item : items) positional.push_back(item.ptr());
    const Inputs in =
        inputs_of("import_function", {positional.data(), static_cast<Py_ssize_t>(positional.size())},
                  kwargs ? py::reinterpret_borrow<py::dict>(kwargs) : py::dict());
    return wrap_tuple(Box<ImportedFunction>::of(self)(in.positional, in.named));
  });
}

void write_dot(const Any& file, Rest args, const py::dict& kwargs) {
  const Inputs in = inputs_of("export_to_dot", args, {});
  NamedArrays names;
  for (const auto& [key, value] : kwargs) {
    names.emplace_back(py::cast<std::string>(key), input_array("export_to_dot", value.ptr()));
  }
  write_text(file, graph_to_dot(in.positional, names));
}

void add_exporter(const Scope& core) {
  const Scope type =
      define_box<Exporter>(core, "lamina.core.FunctionExporter",
                           "Collects graphs of one function for a file; made by `exporter`.", {});
  def(type, "__call__(self, *args, **kwargs) -> None",
      "Records the function for arrays like these.\n"
      "@raises ValueError There is one of these shapes and dtypes already, or the file is closed.\n"
      ">>> import os, tempfile\n>>> path = os.path.join(tempfile.mkdtemp(), 'f.lamina')\n"
      ">>> with mx.exporter(path, mx.exp) as e:\n...     e(mx.zeros(3))\n",
      [](PyObject* self, Rest args, const py::dict& kwargs) {
        record_call(Box<Exporter>::of(self), args, kwargs);
      });
  def(type, "close(self) -> None",
      "Writes the file, which appears complete or not at all.\n@raises OSError It cannot be written.\n"
      ">>> import os, tempfile\n>>> path = os.path.join(tempfile.mkdtemp(), 'f.lamina')\n"
      ">>> e = mx.exporter(path, mx.exp)\n>>> e(mx.zeros(3))\n>>> e.close()\n",
      [](PyObject* self) { close_exporter(Box<Exporter>::of(self)); });
  def(type, "__enter__(self) -> FunctionExporter", "The exporter itself.",
      [](PyObject* self) { return borrowed(self); });
  def(type,
      "__exit__(self, exc_type: object = None, exc_value: object = None, traceback: object = None) -> None",
      "Closes the exporter; after an exception nothing is written.",
      [](PyObject* self, PyObject* exc_type, PyObject*, PyObject*) {
        if (exc_type == Py_None) close_exporter(Box<Exporter>::of(self));
      });
}

}  // namespace

void add_export(const Scope& core) {
  define_box<ImportedFunction>(core, "lamina.core.ImportedFunction",
                               "A function read by `import_function`: call it with arrays.",
                               {slot(Py_tp_call, &call_imported)});
  add_exporter(core);
  def(core,
      "exporter(file: str, fun: Callable, *, shapeless: bool = False, metadata: str | None = None) -> "
      "FunctionExporter",
      "An object that records a function for several combinations of inputs into one file.\n\n"
      "Call it with example arrays, and close it or leave its `with` block to write the file.\n"
      "@file Path of the file.\n@fun Takes arrays, returns an array or a sequence of arrays.\n"
      "@shapeless Record a graph that holds for other lengths too: the function is called several times, and "
      "axes "
      "whose lengths it may change, as far as its numbers are polynomials of them, vary. Axes of equal "
      "length "
      "above 1 vary together. Python branches on lengths are those of the example.\n"
      "@metadata Text kept in the file.\n"
      ">>> import os, tempfile\n>>> path = os.path.join(tempfile.mkdtemp(), 'add.lamina')\n"
      ">>> with mx.exporter(path, lambda *a: sum(a)) as e:\n"
      "...     e(mx.array(1), mx.array(2))\n...     e(mx.array(1), mx.array(2), mx.array(3))\n"
      ">>> mx.import_function(path)(mx.array(4), mx.array(5))\n(array(9, dtype=int32),)\n",
      [](Any file, Any fun, bool shapeless, std::optional<std::string> metadata) {
        check_callable("exporter", fun);
        return owned(Box<Exporter>::make(
            make_exporter(path_of(borrowed(file.object)), fun.object, shapeless, metadata.value_or(""))));
      });
  def(core,
      "export_function(file_or_callback: str | Callable, fun: Callable, *args, shapeless: bool = False, "
      "metadata: str | None = None, **kwargs) -> None",
      "Writes the graph of a function for inputs of the given shapes and dtypes to a file.\n\n"
      "The file is a safetensors file: the graph stands in its metadata, and arrays that the function holds "
      "itself are its tensors. C++ programs read it with `lamina::import_function`. Gradients of custom "
      "functions are not kept.\n"
      "@file_or_callback Path of the file, or a function that is called with a dict for each part of the "
      "graph.\n"
      "@fun Takes arrays, returns an array or a sequence of arrays.\n"
      "@args Example arrays, or one sequence of them; their values do not matter.\n"
      "@shapeless Record a graph that holds for other lengths too: the function is called several times, and "
      "axes "
      "whose lengths it may change, as far as its numbers are polynomials of them, vary. Axes of equal "
      "length "
      "above 1 vary together. Python branches on lengths are those of the example.\n"
      "@metadata Text kept in the file.\n@kwargs Example arrays that are passed by keyword.\n"
      "@raises ValueError An input or output is no array, or metadata came with a callback.\n"
      "@raises OSError The file cannot be written.\n"
      ">>> import os, tempfile\n>>> path = os.path.join(tempfile.mkdtemp(), 'f.lamina')\n"
      ">>> mx.export_function(path, lambda x, y: x + y, mx.array(1), y=mx.array([1, 2]))\n"
      ">>> mx.import_function(path)(mx.array(3), y=mx.array([1, 2]))\n(array([4, 5], dtype=int32),)\n",
      [](Any target, Any fun, Rest args, bool shapeless, std::optional<std::string> metadata,
         const py::dict& kwargs) { run_export(target, fun, args, shapeless, metadata, kwargs); });
  def(core, "import_function(file: str, return_metadata: bool = False) -> Callable | tuple[Callable, str]",
      "Reads a file of `export_function` or `exporter`.\n\n"
      "The result takes arrays like the recorded ones, or one sequence and one dict of them, and returns a "
      "tuple of arrays. It can be differentiated, mapped and compiled like any function. The file is checked "
      "when it is read.\n"
      "@file Path of the file.\n@return_metadata Return (function, metadata).\n"
      "@raises ValueError The contents are not valid, or name an op that this version lacks.\n"
      "@raises OSError The file cannot be read.\n"
      ">>> import os, tempfile\n>>> path = os.path.join(tempfile.mkdtemp(), 'f.lamina')\n"
      ">>> mx.export_function(path, mx.square, mx.array(1.0), metadata='squares')\n"
      ">>> f, text = mx.import_function(path, return_metadata=True)\n>>> f(mx.array(3.0)), text\n"
      "((array(9, dtype=float32),), 'squares')\n",
      [](Any file, bool return_metadata) -> py::object {
        const std::string path = path_of(borrowed(file.object));
        std::optional<ImportedFunction> f;
        {
          const WithoutGil released;
          f.emplace(import_function(path));
        }
        const py::object out = owned(Box<ImportedFunction>::make(*f));
        if (!return_metadata) return out;
        return py::make_tuple(out, f->metadata());
      });
  def(core, "export_to_dot(file: object, *args, **kwargs) -> None",
      "Writes the unevaluated nodes below some arrays as a Graphviz graph.\n"
      "@file A path, or an object with a write method.\n@args The arrays at the end of the graph.\n"
      "@kwargs Arrays whose names the drawing shows.\n@raises OSError The file cannot be written.\n"
      ">>> import io\n>>> f, x = io.StringIO(), mx.array(1.0)\n>>> mx.export_to_dot(f, mx.exp(x), x=x)\n"
      ">>> 'exp' in f.getvalue()\nTrue\n",
      [](Any file, Rest args, const py::dict& kwargs) { write_dot(file, args, kwargs); });
}

}  // namespace lamina::bind
