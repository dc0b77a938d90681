#include <fmt/format.h>

#include <algorithm>

#include "bindings/convert.h"
#include "graph/eval.h"
#include "graph/node.h"
#include "memory/buffer.h"

namespace lamina::bind {
namespace {

bool is_list(PyObject* o) { return PyList_Check(o) || PyTuple_Check(o); }

std::span<PyObject*> items_of(PyObject* o) {
  return {PySequence_Fast_ITEMS(o), static_cast<size_t>(PySequence_Fast_GET_SIZE(o))};
}

// What nested lists hold: their common shape and the widest kind of number.
class Scan {
 public:
  explicit Scan(PyObject* o) { visit(o, 0); }

  Shape shape;
  ScalarKind kind = ScalarKind::kNone;
  bool wide = false;        // an integer outside int32
  bool has_arrays = false;  // array data among the leaves: shape and kind are not complete then

 private:
  void visit(PyObject* list, size_t depth) {
    if (depth > 100) throw ValueError("[array] lists are nested deeper than 100 levels");
    const auto items = items_of(list);
    const auto length = static_cast<int64_t>(items.size());
    if (depth == shape.size() && !leaves_seen_) {
      shape.push_back(length);
    } else if (depth >= shape.size() || shape[depth] != length) {
      fail_uneven(depth, length);
    }
    for (PyObject* item : items) {
      if (has_arrays) return;
      if (is_list(item)) {
        visit(item, depth + 1);
      } else {
        leaf(item, depth);
      }
    }
    leaves_seen_ |= length > 0 && depth + 1 == shape.size();
    deepest_empty(depth, length);
  }

  void deepest_empty(size_t depth, int64_t length) {
    if (length == 0 && depth + 1 == shape.size()) leaves_seen_ = true;
  }

  void leaf(PyObject* o, size_t depth) {
    ScalarKind k = PyFloat_CheckExact(o) ? ScalarKind::kFloat : scalar_kind(o);
    if (k == ScalarKind::kNone) {
      has_arrays = true;
      return;
    }
    if (depth + 1 != shape.size()) fail_uneven(depth + 1, 0);
    leaves_seen_ = true;
    if (k == ScalarKind::kInt && !wide) wide = is_wide(o);
    kind = std::max(kind, k);
  }

  static bool is_wide(PyObject* o) {
    if (!PyLong_Check(o)) return false;
    int overflow = 0;
    const long long v = PyLong_AsLongLongAndOverflow(o, &overflow);
    return overflow != 0 || v < INT32_MIN || v > INT32_MAX;
  }

  [[noreturn]] void fail_uneven(size_t depth, int64_t length) const {
    throw ShapeError(
        fmt::format("[array] lists of one level must have one length: level {} has {}{}", depth,
                    depth < shape.size() ? fmt::format("{} and ", shape[depth]) : "numbers and ",
                    depth < shape.size() && length > 0 ? std::to_string(length) : "other items"));
  }

  bool leaves_seen_ = false;
};

Dtype default_dtype(const Scan& scan) {
  switch (scan.kind) {
    case ScalarKind::kBool: return Dtype::kBool;
    case ScalarKind::kInt: return scan.wide ? Dtype::kInt64 : Dtype::kInt32;
    case ScalarKind::kComplex: return Dtype::kComplex64;
    default: return Dtype::kFloat32;
  }
}

char* fill(PyObject* list, size_t levels, Dtype t, char* to) {
  for (PyObject* item : items_of(list)) {
    if (levels > 1) {
      to = fill(item, levels - 1, t, to);
      continue;
    }
    if (t == Dtype::kFloat32 && PyFloat_CheckExact(item)) {
      *reinterpret_cast<float*>(to) = static_cast<float>(PyFloat_AS_DOUBLE(item));
    } else {
      store_number(to, t, item, scalar_kind(item));
    }
    to += itemsize(t);
  }
  return to;
}

// The slow way, for lists with arrays among their items: every level is stacked.
Array stacked(PyObject* o) {
  if (!is_list(o)) {
    std::optional<Array> a = as_array(o);
    if (a) return *std::move(a);
    throw TypeError("array() wants lists of numbers and arrays, got an item of type " + type_name(o));
  }
  std::vector<Array> parts;
  for (PyObject* item : items_of(o)) parts.push_back(stacked(item));
  if (parts.empty()) return zeros({0});
  return stack(parts);
}

}  // namespace

Array array_from_lists(PyObject* o, std::optional<Dtype> dtype) {
  const Scan scan(o);
  if (scan.has_arrays) {
    const Array out = stacked(o);
    return dtype ? astype(out, *dtype) : out;
  }
  const Dtype t = dtype.value_or(default_dtype(scan));
  Array out = uninitialized(scan.shape, t);
  fill(o, scan.shape.size(), t, static_cast<char*>(out.node()->buffer->data()));
  return out;
}

}  // namespace lamina::bind
