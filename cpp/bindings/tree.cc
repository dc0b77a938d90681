#include "bindings/tree.h"

#include <memory>

#include "bindings/from_python.h"

namespace lamina::bind {
namespace {

bool is_named_tuple(PyObject* o) { return PyTuple_Check(o) && PyObject_HasAttrString(o, "_fields"); }

py::object tuple_like(PyObject* model, py::list items) {
  if (!is_named_tuple(model)) return py::tuple(items);
  return borrowed(reinterpret_cast<PyObject*>(Py_TYPE(model))).attr("_make")(items);
}

// A copy of a dict's items: the tree may change while Python code runs.
py::list items_of(PyObject* dict) { return py::reinterpret_steal<py::list>(checked(PyDict_Items(dict))); }

}  // namespace

DepthGuard::DepthGuard() {
  if (Py_EnterRecursiveCall(" in a nested tree of arrays")) throw py::error_already_set();
}
DepthGuard::~DepthGuard() { Py_LeaveRecursiveCall(); }

void collect_arrays(PyObject* tree, std::vector<Array>& out) {
  if (is_array(tree)) {
    out.push_back(value_of(tree));
    return;
  }
  const DepthGuard depth;
  if (PyList_Check(tree)) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(tree); ++i) collect_arrays(PyList_GET_ITEM(tree, i), out);
  } else if (PyTuple_Check(tree)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tree); ++i) collect_arrays(PyTuple_GET_ITEM(tree, i), out);
  } else if (PyDict_Check(tree)) {
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(tree, &at, &key, &value)) collect_arrays(value, out);
  }
}

std::vector<Array> returned_arrays(const py::object& result, const char* name) {
  if (is_array(result.ptr())) return {value_of(result.ptr())};
  const auto items = as_items(result.ptr());
  std::vector<Array> out;
  for (size_t i = 0; items && i < items->size(); ++i) {
    if (!is_array((*items)[i].ptr())) break;
    out.push_back(value_of((*items)[i].ptr()));
  }
  if (!items || out.size() != items->size()) {
    throw ValueError(std::string("[") + name +
                     "] the function must return an array or a sequence of arrays, got " +
                     type_name(result.ptr()));
  }
  return out;
}

Arrays refusing(const lamina::Function& fun, const Arrays& in) {
  try {
    return fun(in);
  } catch (const py::error_already_set& e) {
    if (!e.matches(PyExc_Exception)) throw;
    throw ValueError(e.what());
  }
}

py::object map_leaves(PyObject* tree, const std::function<py::object(PyObject*)>& f) {
  const DepthGuard depth;
  if (PyList_Check(tree) || PyTuple_Check(tree)) {
    const py::object items = owned(PySequence_Fast(tree, "a sequence"));
    py::list out;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.ptr()); ++i) {
      out.append(map_leaves(PySequence_Fast_GET_ITEM(items.ptr(), i), f));
    }
    return PyList_Check(tree) ? py::object(out) : tuple_like(tree, out);
  }
  if (PyDict_Check(tree)) {
    py::dict out;
    for (const py::handle item : items_of(tree)) {
      const py::tuple pair = py::reinterpret_borrow<py::tuple>(item);
      out[pair[0]] = map_leaves(py::object(pair[1]).ptr(), f);
    }
    return out;
  }
  return f(tree);
}

py::object replace_arrays(PyObject* tree, const std::vector<Array>& values, size_t& next) {
  return map_leaves(
      tree, [&](PyObject* leaf) { return is_array(leaf) ? wrapped(values.at(next++)) : borrowed(leaf); });
}

namespace {

// Deletes the keys of a live dict that the pattern lacks.
void drop_keys(PyObject* live, PyObject* pattern) {
  if (PyDict_Size(live) == PyDict_Size(pattern)) return;
  for (const py::handle item : items_of(live)) {
    const py::object key = py::reinterpret_borrow<py::tuple>(item)[0];
    const int kept = PyDict_Contains(pattern, key.ptr());
    if (kept < 0 || (kept == 0 && PyDict_DelItem(live, key.ptr()) < 0)) throw py::error_already_set();
  }
}

void write_dict(PyObject* live, PyObject* pattern, const std::vector<Array>& values, size_t& next) {
  for (const py::handle item : items_of(pattern)) {
    const py::tuple pair = py::reinterpret_borrow<py::tuple>(item);
    const py::object key = pair[0], part = pair[1];
    PyObject* old = PyDict_GetItemWithError(live, key.ptr());
    if (!old && PyErr_Occurred()) throw py::error_already_set();
    const py::object fresh = write_back(old ? old : Py_None, part.ptr(), values, next);
    if (PyDict_SetItem(live, key.ptr(), fresh.ptr()) < 0) throw py::error_already_set();
  }
  drop_keys(live, pattern);
}

// The written items of a list or a tuple.
py::list written_items(PyObject* live, PyObject* pattern, const std::vector<Array>& values, size_t& next) {
  const py::object now = owned(PySequence_Fast(live, "a sequence"));
  const py::object wanted = owned(PySequence_Fast(pattern, "a sequence"));
  py::list out;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(wanted.ptr()); ++i) {
    const bool there = i < PySequence_Fast_GET_SIZE(now.ptr());
    const py::object old = there ? borrowed(PySequence_Fast_GET_ITEM(now.ptr(), i)) : py::object(py::none());
    out.append(write_back(old.ptr(), PySequence_Fast_GET_ITEM(wanted.ptr(), i), values, next));
  }
  return out;
}

}  // namespace

py::object write_back(PyObject* live, PyObject* pattern, const std::vector<Array>& values, size_t& next) {
  if (is_array(pattern)) return wrapped(values.at(next++));
  const DepthGuard depth;
  if (PyDict_Check(pattern) && PyDict_Check(live)) {
    write_dict(live, pattern, values, next);
    return borrowed(live);
  }
  if (PyList_Check(pattern) && PyList_Check(live)) {
    const py::list items = written_items(live, pattern, values, next);
    if (PyList_SetSlice(live, 0, PyList_GET_SIZE(live), items.ptr()) < 0) throw py::error_already_set();
    return borrowed(live);
  }
  if (PyTuple_Check(pattern) && PyTuple_Check(live)) {
    return tuple_like(pattern, written_items(live, pattern, values, next));
  }
  return replace_arrays(pattern, values, next);
}

void TreeSnapshot::remember(PyObject* tree) {
  const DepthGuard depth;
  if (is_array(tree)) {
    arrays_.emplace_back(borrowed(tree), value_of(tree));
  } else if (PyList_Check(tree)) {
    contents_.emplace_back(borrowed(tree), owned(PyList_GetSlice(tree, 0, PyList_GET_SIZE(tree))));
    for (const py::handle item : py::reinterpret_borrow<py::list>(contents_.back().second))
      remember(item.ptr());
  } else if (PyTuple_Check(tree)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tree); ++i) remember(PyTuple_GET_ITEM(tree, i));
  } else if (PyDict_Check(tree)) {
    py::dict copy;
    if (PyDict_Update(copy.ptr(), tree) < 0) throw py::error_already_set();
    contents_.emplace_back(borrowed(tree), copy);
    for (const py::handle item : items_of(copy.ptr())) {
      remember(py::object(py::reinterpret_borrow<py::tuple>(item)[1]).ptr());
    }
  }
}

TreeSnapshot::~TreeSnapshot() {
  // An exception may be on its way: keep it over these calls.
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  for (auto& [object, old] : arrays_) value_of(object.ptr()) = old;
  for (auto& [container, old] : contents_) {
    if (PyList_Check(container.ptr())) {
      PyList_SetSlice(container.ptr(), 0, PyList_GET_SIZE(container.ptr()), old.ptr());
    } else {
      PyDict_Clear(container.ptr());
      PyDict_Update(container.ptr(), old.ptr());
    }
  }
  PyErr_Restore(type, value, trace);
}

namespace {

// 1, 1.0 and True are equal keys but not the same constant; nor are 0.0 and -0.0, and a NaN equals nothing.
void add_constant(PyObject* o, py::list& out) {
  out.append(borrowed(reinterpret_cast<PyObject*>(Py_TYPE(o))));
  const ScalarKind kind = scalar_kind(o);
  if (kind == ScalarKind::kFloat || kind == ScalarKind::kComplex) {
    const Py_complex c = PyComplex_AsCComplex(o);
    if (PyErr_Occurred()) throw py::error_already_set();
    out.append(py::bytes(reinterpret_cast<const char*>(&c), sizeof c));
  } else {
    out.append(borrowed(o));
  }
}

// Appends what tells trees apart. What is neither a container nor an array goes to `leaf`, dicts also to
// `dict`.
template <class Leaf, class Dict>
void describe(PyObject* tree, py::list& out, Leaf& leaf, Dict& dict) {
  const DepthGuard depth;
  if (is_array(tree)) {
    out.append(py::ellipsis());
  } else if (PyList_Check(tree) || PyTuple_Check(tree)) {
    out.append(borrowed(reinterpret_cast<PyObject*>(Py_TYPE(tree))));
    const py::object items = owned(PySequence_Fast(tree, "a sequence"));
    out.append(py::int_(PySequence_Fast_GET_SIZE(items.ptr())));
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.ptr()); ++i) {
      describe(PySequence_Fast_GET_ITEM(items.ptr(), i), out, leaf, dict);
    }
  } else if (PyDict_Check(tree)) {
    out.append(borrowed(reinterpret_cast<PyObject*>(&PyDict_Type)));
    out.append(py::int_(PyDict_Size(tree)));
    for (const py::handle item : items_of(tree)) {
      const py::tuple pair = py::reinterpret_borrow<py::tuple>(item);
      out.append(pair[0]);
      describe(py::object(pair[1]).ptr(), out, leaf, dict);
    }
    dict(tree);
  } else {
    leaf(tree);
  }
}

}  // namespace

py::object structure_key(PyObject* tree, const char* function) {
  py::list out;
  auto leaf = [&](PyObject* o) {
    if (PyObject_Hash(o) == -1) {
      PyErr_Clear();
      throw TypeError(std::string(function) +
                      "() wants arguments of arrays, hashable constants, and lists, tuples "
                      "and dicts of them, got " +
                      type_name(o));
    }
    add_constant(o, out);
  };
  auto dict = [](PyObject*) {};
  describe(tree, out, leaf, dict);
  return py::tuple(out);
}

py::object state_constant(PyObject* leaf) {
  const py::object o = PyAnySet_Check(leaf) ? owned(PyFrozenSet_New(leaf)) : borrowed(leaf);
  if (PyObject_Hash(o.ptr()) != -1) return o;
  PyErr_Clear();
  return {};
}

void for_each_attribute(PyObject* dict, const std::function<void(PyObject*, PyObject*)>& f) {
  if (PyDict_CheckExact(dict)) return;
  PyObject* attributes = PyObject_GenericGetDict(dict, nullptr);
  if (!attributes) {  // a class with slots
    PyErr_Clear();
    return;
  }
  for (const py::handle item : items_of(owned(attributes).ptr())) {
    const py::tuple pair = py::reinterpret_borrow<py::tuple>(item);
    const py::object name = pair[0], value = pair[1];
    f(name.ptr(), value.ptr());
  }
}

py::object state_key(PyObject* tree) {
  py::list out;
  auto leaf = [&](PyObject* o) {
    const py::object constant = state_constant(o);
    if (constant) {
      add_constant(constant.ptr(), out);
    } else {
      out.append(py::none());
    }
  };
  auto dict = [&](PyObject* d) {
    for_each_attribute(d, [&](PyObject* name, PyObject* value) {
      out.append(borrowed(name));
      leaf(value);
    });
  };
  describe(tree, out, leaf, dict);
  return py::tuple(out);
}

Held hold(PyObject* o) {
  return Held(Py_NewRef(o), [](PyObject* p) { give_up(p); });
}

}  // namespace lamina::bind
