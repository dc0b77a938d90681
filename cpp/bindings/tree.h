#pragma once

#include <functional>
#include <vector>

#include "bindings/array_object.h"
#include "lamina/transforms.h"

namespace lamina::bind {

// A level of recursion into a tree; RecursionError where it is too deep.
class DepthGuard {
 public:
  DepthGuard();
  ~DepthGuard();
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;
};

// Trees: lists, tuples and dicts (and their subclasses, nn.Module among them) nested in any way; arrays and
// all other objects are leaves. Dicts are walked in insertion order.

// Appends the arrays of a tree.
void collect_arrays(PyObject* tree, std::vector<Array>& out);
inline std::vector<Array> arrays_of(PyObject* tree) {
  std::vector<Array> out;
  collect_arrays(tree, out);
  return out;
}

// The arrays of what a user's function returned: an array, or a sequence of arrays. Throws ValueError naming
// the transform for anything else.
std::vector<Array> returned_arrays(const py::object& result, const char* name);

// fun(in), with a Python exception thrown as ValueError: for calls whose failure is an answer.
Arrays refusing(const lamina::Function& fun, const Arrays& in);

// A copy of the tree's containers (dicts become plain dicts, named tuples stay) with the i-th array replaced
// by values[next++]; other leaves are the same objects.
py::object replace_arrays(PyObject* tree, const std::vector<Array>& values, size_t& next);

// A copy of the containers in which f gives every leaf's successor.
py::object map_leaves(PyObject* tree, const std::function<py::object(PyObject* leaf)>& f);

// Makes the live containers hold what the pattern holds, its arrays replaced by values[next++]: lists and
// dicts that are in the same place in both keep their identity. Returns what stands for the live tree
// afterwards.
py::object write_back(PyObject* live, PyObject* pattern, const std::vector<Array>& values, size_t& next);

// Remembers the contents of all lists, dicts and arrays of a tree, and puts them back when it goes.
class TreeSnapshot {
 public:
  explicit TreeSnapshot(PyObject* tree) { remember(tree); }
  ~TreeSnapshot();
  TreeSnapshot(const TreeSnapshot&) = delete;
  TreeSnapshot& operator=(const TreeSnapshot&) = delete;

 private:
  void remember(PyObject* tree);
  std::vector<std::pair<py::object, py::object>> contents_;
  std::vector<std::pair<py::object, Array>> arrays_;
};

// A hashable description of a tree: its structure, and every leaf that is not an array. Throws TypeError for
// a leaf that cannot be hashed, naming `function`.
py::object structure_key(PyObject* tree, const char* function);
// The same of captured state, which may hold anything: what cannot be hashed does not take part, but for
// sets. Plain attributes of modules (dicts with attributes) do.
py::object state_key(PyObject* tree);
// What stands for a leaf of captured state in its key; null where it does not take part.
py::object state_constant(PyObject* leaf);
// Calls f(name, value) for the attributes of a dict with attributes.
void for_each_attribute(PyObject* dict, const std::function<void(PyObject* name, PyObject* value)>& f);

// A Python object that C++ code may let go of on any thread, with or without the GIL.
using Held = std::shared_ptr<PyObject>;
Held hold(PyObject* o);

}  // namespace lamina::bind
