#include "bindings/call_parts.h"

#include <unordered_map>

#include "bindings/tree.h"
#include "lamina/dtype.h"

namespace lamina::bind {
namespace {

using Kind = CallPart::Kind;

constexpr size_t kMostText = 60;

std::string short_repr(PyObject* o) {
  PyObject* repr = PyObject_Repr(o);
  if (!repr) {  // an object that cannot be printed is named by its type
    if (!PyErr_ExceptionMatches(PyExc_Exception)) throw py::error_already_set();
    PyErr_Clear();
    return "<" + type_name(o) + ">";
  }
  const auto text = py::cast<std::string>(owned(repr));
  if (text.size() <= kMostText) return text;
  size_t end = kMostText;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

std::string list_of_keys(PyObject* dict) {
  std::string text;
  // A copy: printing a key may run anything.
  for (const py::handle key : py::reinterpret_steal<py::list>(checked(PyDict_Keys(dict)))) {
    text += (text.empty() ? "" : ", ") + short_repr(key.ptr());
  }
  return text;
}

class Walker {
 public:
  explicit Walker(bool state) : state_(state) {}

  void walk(PyObject* tree, const std::string& path) {
    const DepthGuard depth;
    if (is_array(tree)) {
      const Array& a = value_of(tree);
      parts.push_back({Kind::kArray, path, std::string(dtype_name(a.dtype())), a.shape()});
    } else if (PyList_Check(tree) || PyTuple_Check(tree)) {
      sequence(tree, path);
    } else if (PyDict_Check(tree)) {
      dict(tree, path);
    } else if (!state_ || state_constant(tree)) {
      parts.push_back({Kind::kConstant, path, short_repr(tree), {}});
    }
  }

  std::vector<CallPart> parts;

 private:
  void sequence(PyObject* tree, const std::string& path) {
    const py::tuple items = py::reinterpret_steal<py::tuple>(checked(PySequence_Tuple(tree)));
    parts.push_back({Kind::kContainer, path, type_name(tree) + " of " + std::to_string(items.size()), {}});
    for (size_t i = 0; i < items.size(); ++i) {
      walk(py::object(items[i]).ptr(), path + "[" + std::to_string(i) + "]");
    }
  }

  void dict(PyObject* tree, const std::string& path) {
    parts.push_back({Kind::kContainer, path, type_name(tree) + " with " + list_of_keys(tree), {}});
    for (const py::handle item : py::reinterpret_steal<py::list>(checked(PyDict_Items(tree)))) {
      const py::tuple pair = py::reinterpret_borrow<py::tuple>(item);
      const py::object key = pair[0];
      // Modules are dicts whose items read as attributes.
      const bool attribute = !PyDict_CheckExact(tree) && PyUnicode_Check(key.ptr());
      walk(py::object(pair[1]).ptr(),
           path + (attribute ? "." + py::cast<std::string>(key) : "[" + short_repr(key.ptr()) + "]"));
    }
    if (!state_) return;
    for_each_attribute(tree, [&](PyObject* name, PyObject* value) {
      if (!state_constant(value)) return;
      parts.push_back(
          {Kind::kConstant, path + "." + py::cast<std::string>(borrowed(name)), short_repr(value), {}});
    });
  }

  bool state_;
};

// Names of the parameters that positions fill; "*args" ends the list.
std::vector<std::string> parameter_names(PyObject* fun) {
  std::vector<std::string> names;
  try {
    const py::object inspect = py::module_::import("inspect");
    const py::object parameters = inspect.attr("signature")(borrowed(fun)).attr("parameters");
    for (const py::handle p : parameters.attr("values")()) {
      const auto kind = py::cast<int>(p.attr("kind"));  // 0 and 1: positional, 2: *args
      if (kind > 2) break;
      names.push_back((kind == 2 ? "*" : "") + py::cast<std::string>(p.attr("name")));
    }
  } catch (const py::error_already_set& e) {
    // Without a signature that can be read, arguments are numbered.
    if (!e.matches(PyExc_Exception)) throw;
  }
  return names;
}

std::string text_of(const CallPart& p) {
  return p.kind == Kind::kArray ? p.text + " " + to_string(p.shape) : p.text;
}

void compare(const CallPart& a, const CallPart& b, std::vector<std::string>& out) {
  static constexpr const char* kWords[] = {"array ", "constant ", "structure of "};
  if (a.kind != b.kind) {
    out.push_back(b.path + ": " + text_of(a) + " -> " + text_of(b));
  } else if (a.kind != Kind::kArray) {
    if (a.text != b.text)
      out.push_back(kWords[static_cast<int>(a.kind)] + b.path + ": " + a.text + " -> " + b.text);
  } else {
    if (a.text != b.text) out.push_back("dtype of " + b.path + ": " + a.text + " -> " + b.text);
    if (a.shape != b.shape)
      out.push_back("shape of " + b.path + ": " + to_string(a.shape) + " -> " + to_string(b.shape));
  }
}

}  // namespace

std::vector<CallPart> call_parts(PyObject* fun, PyObject* args, PyObject* kwargs, PyObject* captured) {
  Walker call(false);
  const std::vector<std::string> names = parameter_names(fun);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); ++i) {
    const auto k = static_cast<size_t>(i);
    std::string path = k < names.size() ? names[k] : "";
    if (!names.empty() && names.back()[0] == '*' && k + 1 >= names.size()) {
      path = names.back().substr(1) + "[" + std::to_string(k + 1 - names.size()) + "]";
    } else if (path.empty()) {
      path = "argument " + std::to_string(i);
    }
    call.walk(PyTuple_GET_ITEM(args, i), path);
  }
  PyObject *key, *value;
  Py_ssize_t at = 0;
  while (kwargs && PyDict_Next(kwargs, &at, &key, &value)) {
    call.walk(value, py::cast<std::string>(borrowed(key)));
  }
  if (captured == Py_None) return std::move(call.parts);
  Walker state(true);
  state.walk(captured, "inputs");
  call.parts.insert(call.parts.end(), state.parts.begin(), state.parts.end());
  return std::move(call.parts);
}

std::vector<std::string> array_paths(const std::vector<CallPart>& parts) {
  std::vector<std::string> out;
  for (const CallPart& p : parts) {
    if (p.kind == Kind::kArray) out.push_back(p.path);
  }
  return out;
}

std::vector<std::string> differences(const std::vector<CallPart>& then, const std::vector<CallPart>& now) {
  std::unordered_map<std::string, const CallPart*> old;
  for (const CallPart& p : then) old.emplace(p.path, &p);
  std::vector<std::string> out;
  for (const CallPart& p : now) {
    const auto it = old.find(p.path);
    if (it == old.end()) {
      out.push_back("new: " + p.path + " " + text_of(p));
    } else {
      compare(*it->second, p, out);
      old.erase(it);
    }
  }
  for (const CallPart& p : then) {
    if (old.count(p.path)) out.push_back("gone: " + p.path + " " + text_of(p));
  }
  return out;
}

}  // namespace lamina::bind
