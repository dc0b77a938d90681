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

struct DepthGuard {
  DepthGuard() {
    if (Py_EnterRecursiveCall(" in a nested tree of arrays")) throw py::error_already_set();
  }
  ~DepthGuard() { Py_LeaveRecursiveCall(); }
};

// A copy of a dict's items: the tree may change while Python code runs.
py::list items_of(PyObject* dict) { return py::reinterpret_steal<py::list>(checked(PyDict_Items(dict))); }

}  // namespace

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

py::object write_back(PyObject* live, PyObject* pattern, const std::vector<Array>& values, size_t& next) {
  if (is_array(pattern)) return wrapped(values.at(next++));
  const DepthGuard depth;
  if (PyDict_Check(pattern) && PyDict_Check(live)) {
    for (const py::handle item : items_of(pattern)) {
      const py::tuple pair = py::reinterpret_borrow<py::tuple>(item);
      const py::object key = pair[0], part = pair[1];
      PyObject* old = PyDict_GetItemWithError(live, key.ptr());
      if (!old && PyErr_Occurred()) throw py::error_already_set();
      const py::object fresh = write_back(old ? old : Py_None, part.ptr(), values, next);
      if (PyDict_SetItem(live, key.ptr(), fresh.ptr()) < 0) throw py::error_already_set();
    }
    return borrowed(live);
  }
  if (PyList_Check(pattern) && PyList_Check(live) && PyList_GET_SIZE(live) == PyList_GET_SIZE(pattern)) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(pattern); ++i) {
      py::object fresh = write_back(PyList_GET_ITEM(live, i), PyList_GET_ITEM(pattern, i), values, next);
      if (PyList_SetItem(live, i, fresh.release().ptr()) < 0) throw py::error_already_set();
    }
    return borrowed(live);
  }
  return replace_arrays(pattern, values, next);
}

void TreeSnapshot::remember(PyObject* tree) {
  const DepthGuard depth;
  if (PyList_Check(tree)) {
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

void describe(PyObject* tree, py::list& out, const char* function) {
  const DepthGuard depth;
  if (is_array(tree)) {
    out.append(py::ellipsis());
  } else if (PyList_Check(tree) || PyTuple_Check(tree)) {
    out.append(borrowed(reinterpret_cast<PyObject*>(Py_TYPE(tree))));
    const py::object items = owned(PySequence_Fast(tree, "a sequence"));
    out.append(py::int_(PySequence_Fast_GET_SIZE(items.ptr())));
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.ptr()); ++i) {
      describe(PySequence_Fast_GET_ITEM(items.ptr(), i), out, function);
    }
  } else if (PyDict_Check(tree)) {
    out.append(borrowed(reinterpret_cast<PyObject*>(&PyDict_Type)));
    out.append(py::int_(PyDict_Size(tree)));
    for (const py::handle item : items_of(tree)) {
      const py::tuple pair = py::reinterpret_borrow<py::tuple>(item);
      out.append(pair[0]);
      describe(py::object(pair[1]).ptr(), out, function);
    }
  } else {
    if (PyObject_Hash(tree) == -1) {
      PyErr_Clear();
      throw TypeError(std::string(function) +
                      "() wants arguments of arrays, hashable constants, and lists, tuples "
                      "and dicts of them, got " +
                      type_name(tree));
    }
    // 1, 1.0 and True are equal keys but not the same constant.
    out.append(borrowed(reinterpret_cast<PyObject*>(Py_TYPE(tree))));
    out.append(borrowed(tree));
  }
}

}  // namespace

py::object structure_key(PyObject* tree, const char* function) {
  py::list out;
  describe(tree, out, function);
  return py::tuple(out);
}

Held hold(PyObject* o) {
  return Held(Py_NewRef(o), [](PyObject* p) { give_up(p); });
}

}  // namespace lamina::bind
