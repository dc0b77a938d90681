#include <fmt/format.h>

#include "bindings/convert.h"
#include "bindings/index_expr.h"
#include "bindings/numpy_types.h"
#include "graph/node.h"

namespace lamina::bind {
namespace {

using Kind = IndexTerm::Kind;

template <class... Args>
[[noreturn]] void fail_index(fmt::format_string<Args...> format, Args&&... args) {
  throw IndexError("[index] " + fmt::format(format, std::forward<Args>(args)...));
}

// An item as it was written: an array for lists and masks, or the object itself.
struct Item {
  PyObject* object = nullptr;
  Array array;  // valid for arrays, lists and bool
};

bool is_ellipsis(const Item& i) { return !i.array.valid() && i.object == Py_Ellipsis; }
bool is_mask(const Item& i) { return i.array.valid() && i.array.dtype() == Dtype::kBool; }

// Axes of the indexed array that the item takes up.
int64_t consumed(const Item& i) {
  if (is_ellipsis(i) || i.object == Py_None) return 0;
  return is_mask(i) ? i.array.ndim() : 1;
}

Item read_item(PyObject* o) {
  Item item;
  item.object = o;
  if (is_array(o)) {
    item.array = value_of(o);
  } else if (PyBool_Check(o)) {
    item.array = Array(o == Py_True);
  } else if (PyList_Check(o) || PyTuple_Check(o)) {
    item.array = array_from_lists(o, std::nullopt);
    if (item.array.size() == 0) item.array = astype(item.array, Dtype::kInt32);
  } else if (PyFloat_Check(o)) {
    fail_index("a float cannot be an index");
  } else if (o != Py_None && o != Py_Ellipsis && !PySlice_Check(o) && !PyLong_Check(o)) {
    const bool integer = PyIndex_Check(o) && !is_numpy_array(o);
    const std::optional<Array> a = integer ? std::nullopt : array_from_data(o, std::nullopt);
    if (a) item.array = *a;
    if (!a && !integer) {
      fail_index("wanted integers, slices, ..., None, integer or boolean arrays, got {}", type_name(o));
    }
  }
  if (item.array.valid() && !is_integer(item.array.dtype()) && item.array.dtype() != Dtype::kBool) {
    fail_index("index arrays must be integers or booleans, got {}", dtype_name(item.array.dtype()));
  }
  return item;
}

std::vector<Item> read_items(PyObject* index) {
  std::vector<Item> items;
  if (PyTuple_Check(index)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(index); ++i)
      items.push_back(read_item(PyTuple_GET_ITEM(index, i)));
  } else {
    items.push_back(read_item(index));
  }
  return items;
}

int64_t bounded(int64_t i, int64_t length, size_t axis) {
  if (i < -length || i >= length)
    fail_index("index {} is out of bounds for axis {} of length {}", i, axis, length);
  return i < 0 ? i + length : i;
}

IndexTerm whole_axis(int64_t length) {
  IndexTerm t;
  t.stop = length;
  t.whole = true;
  return t;
}

IndexTerm slice_term(PyObject* o, int64_t length) {
  Py_ssize_t start = 0, stop = 0, step = 0;
  if (PySlice_Unpack(o, &start, &stop, &step) < 0) throw py::error_already_set();
  const Py_ssize_t count = PySlice_AdjustIndices(length, &start, &stop, step);
  if (count == length && step == 1) return whole_axis(length);
  IndexTerm t;
  t.start = count == 0 ? 0 : start;
  t.step = count == 0 ? 1 : step;
  t.stop = count == 0 ? 0 : stop;
  // slice() reads a negative stop as counted from the end; before the front it is below -length.
  if (t.step < 0 && t.stop < 0) t.stop = -length - 1;
  return t;
}

IndexTerm array_term(const Array& a, int64_t length, size_t axis, PyObject* written) {
  IndexTerm t;
  t.kind = Kind::kArray;
  t.array = a;
  const bool listed = PyList_Check(written) || PyTuple_Check(written);
  const bool plain = a.dtype() == Dtype::kInt32 || a.dtype() == Dtype::kInt64;
  if (listed && plain &&
      a.is_available()) {  // a list's values are at hand: report a bad one before evaluation
    const View v = a.node()->view();
    for (int64_t i = 0; i < v.size(); ++i) {
      const int64_t value = v.dtype == Dtype::kInt32 ? v.as<int32_t>()[i] : v.as<int64_t>()[i];
      bounded(value, length, axis);
    }
  }
  if (length == 0 && a.size() > 0) fail_index("no index fits axis {} of length 0", axis);
  return t;
}

class Parser {
 public:
  Parser(std::vector<Item> items, const Shape& shape) : items_(std::move(items)), shape_(shape) {}

  IndexExpr parse() {
    int64_t used = 0, ellipses = 0;
    for (const Item& i : items_) {
      used += consumed(i);
      ellipses += is_ellipsis(i);
    }
    const auto ndim = static_cast<int64_t>(shape_.size());
    if (ellipses > 1) fail_index("an index can have one ellipsis (...) only");
    if (used > ndim) fail_index("too many indices: the array has {} axes, {} are indexed", ndim, used);
    for (const Item& i : items_) {
      if (is_ellipsis(i)) {
        add_whole(ndim - used);
      } else {
        add(i);
      }
    }
    add_whole(ndim - static_cast<int64_t>(axis_));
    return std::move(expr_);
  }

 private:
  void add_whole(int64_t count) {
    for (int64_t i = 0; i < count; ++i) expr_.terms.push_back(whole_axis(shape_[axis_++]));
  }

  void add(const Item& i) {
    if (is_mask(i)) return add_mask(i.array);
    if (i.array.valid()) {
      expr_.has_arrays = true;
      expr_.terms.push_back(array_term(i.array, shape_[axis_], axis_, i.object));
      ++axis_;
      return;
    }
    IndexTerm t;
    if (i.object == Py_None) {
      t.kind = Kind::kNewAxis;
    } else if (PySlice_Check(i.object)) {
      t = slice_term(i.object, shape_[axis_++]);
    } else {
      t.kind = Kind::kInteger;
      t.start = bounded(integer(i.object), shape_[axis_], axis_);
      ++axis_;
    }
    expr_.terms.push_back(t);
  }

  static int64_t integer(PyObject* o) {
    int overflow = 0;
    const py::object index = owned(PyNumber_Index(o));
    const long long v = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow) fail_index("index {} is out of bounds", std::string(py::str(index)));
    return v;
  }

  // A mask of k axes selects like k integer arrays: the places of its true elements. One of no axes selects
  // from a new axis of length 1, all of it or nothing.
  void add_mask(const Array& mask) {
    expr_.has_arrays = true;
    for (int64_t d = 0; d < mask.ndim(); ++d) {
      const int64_t length = shape_[axis_ + static_cast<size_t>(d)], have = mask.shape(static_cast<int>(d));
      if (length != have) {
        fail_index("a boolean index of shape {} does not fit axis {} of length {}", to_string(mask.shape()),
                   axis_ + static_cast<size_t>(d), length);
      }
    }
    evaluate_released(mask, "boolean mask");
    if (mask.ndim() == 0) {
      IndexTerm t;
      t.kind = Kind::kArray;
      t.new_axis = true;
      t.array = zeros({mask.item<bool>() ? 1 : 0}, Dtype::kInt32);
      expr_.terms.push_back(t);
      return;
    }
    for (const Array& places : nonzero(mask)) {
      IndexTerm t;
      t.kind = Kind::kArray;
      t.array = places;
      expr_.terms.push_back(t);
      ++axis_;
    }
  }

  std::vector<Item> items_;
  Shape shape_;
  IndexExpr expr_;
  size_t axis_ = 0;
};

}  // namespace

IndexExpr parse_index(PyObject* index, const Shape& shape) {
  return Parser(read_items(index), shape).parse();
}

Array lone_mask(PyObject* index) {
  if (is_array(index)) return value_of(index).dtype() == Dtype::kBool ? value_of(index) : Array();
  if (!is_numpy_array(index)) return Array();
  const std::optional<Array> a = array_from_data(index, std::nullopt);
  return a && a->dtype() == Dtype::kBool ? *a : Array();
}

Array with_mask_axes(const Array& a, const IndexExpr& e) {
  Axes fresh;
  int64_t axis = 0;
  for (const IndexTerm& t : e.terms) {
    if (t.new_axis) fresh.push_back(axis);
    axis += t.kind != Kind::kNewAxis;
  }
  return expand_dims(a, fresh);
}

SliceArguments slice_part(const IndexExpr& e, const Shape& shape) {
  SliceArguments s;
  for (const IndexTerm& t : e.terms) {
    if (t.kind == Kind::kNewAxis) continue;
    const size_t axis = s.start.size();
    const bool integer = t.kind == Kind::kInteger && !e.has_arrays;
    const bool part = t.kind == Kind::kSlice || integer;
    s.start.push_back(part ? t.start : 0);
    s.stop.push_back(t.kind == Kind::kSlice ? t.stop : integer ? t.start + 1 : shape[axis]);
    s.step.push_back(t.kind == Kind::kSlice ? t.step : 1);
  }
  return s;
}

Placement place(const IndexExpr& e) {
  Placement p;
  size_t plain = 0, groups = 0;
  bool inside = false;
  int64_t axis = 0;
  for (const IndexTerm& t : e.terms) {
    const bool advanced = e.is_advanced(t);
    if (advanced) {
      if (!inside && groups++ == 0) p.position = plain;
      p.indices.push_back(t.kind == Kind::kArray ? t.array : Array(t.start, Dtype::kInt64));
      p.axes.push_back(axis);
    } else {
      ++plain;
    }
    inside = advanced;
    axis += t.kind != Kind::kNewAxis;
  }
  if (groups > 1) p.position = 0;
  try {
    p.indices = broadcast_arrays(p.indices);
  } catch (const ShapeError&) {
    std::string shapes;
    for (const Array& i : p.indices) shapes += (shapes.empty() ? "" : ", ") + to_string(i.shape());
    fail_index("index arrays of shapes {} do not broadcast against each other", shapes);
  }
  if (!p.indices.empty()) p.outer = p.indices[0].shape();
  return p;
}

}  // namespace lamina::bind
