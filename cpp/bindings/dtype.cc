#include "bindings/dtype.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "bindings/box.h"

namespace lamina::bind {
namespace {

PyObject* dtype_objects[kNumDtypes] = {};

std::string& mutable_display_name() {
  static auto* name = new std::string("lamina.core");
  return *name;
}

const char* python_name(Dtype t) { return t == Dtype::kBool ? "bool_" : dtype_name(t).data(); }

PyObject* dtype_repr(PyObject* self) {
  return to_python(fmt::format("{}.{}", display_name(), dtype_name(dtype_of(self))));
}
Py_hash_t dtype_hash(PyObject* self) { return static_cast<Py_hash_t>(dtype_of(self)); }

// Categories are dtype sets with a name.
struct Category {
  const char* name;
  DtypeSet set;
};
constexpr Category kCategories[] = {
    {"generic", kAnyDtype},     {"number", kNumeric},           {"integer", kIntegers},
    {"signedinteger", kSigned}, {"unsignedinteger", kUnsigned}, {"inexact", kInexact},
    {"floating", kFloating},    {"complexfloating", kComplex},
};

PyObject* category_repr(PyObject* self) {
  return to_python(fmt::format("DtypeCategory.{}", Box<Category>::of(self).name));
}

void add_categories(const Scope& core) {
  const Scope type =
      define_box<Category>(core, "lamina.core.DtypeCategory",
                           "A family of dtypes, for `issubdtype`: generic, number, integer, ...",
                           {slot(Py_tp_repr, category_repr)});
  for (const Category& c : kCategories) {
    const py::object object = owned(Box<Category>::make(c));
    if (PyObject_SetAttrString(type.object, c.name, object.ptr()) < 0) throw py::error_already_set();
    if (PyObject_SetAttrString(core.object, c.name, object.ptr()) < 0) throw py::error_already_set();
    remember_property("DtypeCategory", c.name, "DtypeCategory", "");
  }
  def(type, "__reduce__(self) -> str | tuple", "What pickle needs.", [](PyObject* self) {
    return py::make_tuple(py::module_::import("builtins").attr("getattr"),
                          py::make_tuple(borrowed(reinterpret_cast<PyObject*>(Py_TYPE(self))),
                                         std::string(Box<Category>::of(self).name)));
  });
}

// finfo and iinfo.
struct FloatInfo {
  Dtype dtype;
  double max, eps, smallest_normal;
};
FloatInfo float_info(Dtype t) {
  switch (t) {
    case Dtype::kFloat16: return {t, 65504, 0x1p-10, 0x1p-14};
    case Dtype::kBFloat16: return {t, 0x1.fep127, 0x1p-7, 0x1p-126};
    case Dtype::kFloat64: {
      using L = std::numeric_limits<double>;
      return {t, L::max(), L::epsilon(), L::min()};
    }
    case Dtype::kFloat32:
    case Dtype::kComplex64: {
      using L = std::numeric_limits<float>;
      return {Dtype::kFloat32, L::max(), L::epsilon(), L::min()};
    }
    default:
      throw DtypeError(fmt::format("[finfo] wants a floating or complex dtype, got {}", dtype_name(t)));
  }
}

struct IntInfo {
  Dtype dtype;
  int64_t min;
  uint64_t max;
};
IntInfo int_info(Dtype t) {
  if (!is_integer(t)) throw DtypeError(fmt::format("[iinfo] wants an integer dtype, got {}", dtype_name(t)));
  const auto bits = static_cast<unsigned>(itemsize(t)) * 8;
  const uint64_t all = ~uint64_t{0} >> (64 - bits);
  if (is_unsigned_integer(t)) return {t, 0, all};
  return {t, -static_cast<int64_t>(all / 2) - 1, all / 2};
}

PyObject* finfo_repr(PyObject* self) {
  const FloatInfo& f = Box<FloatInfo>::of(self);
  return to_python(
      fmt::format("finfo(min={:.6g}, max={:.6g}, dtype={})", -f.max, f.max, dtype_name(f.dtype)));
}
PyObject* iinfo_repr(PyObject* self) {
  const IntInfo& i = Box<IntInfo>::of(self);
  return to_python(fmt::format("iinfo(min={}, max={}, dtype={})", i.min, i.max, dtype_name(i.dtype)));
}

template <class Info>
void add_reduce(const Scope& type) {
  def(type, "__reduce__(self) -> tuple", "What pickle needs.", [](PyObject* s) {
    return py::make_tuple(borrowed(reinterpret_cast<PyObject*>(Py_TYPE(s))),
                          py::make_tuple(owned(to_python(Box<Info>::of(s).dtype))));
  });
}

void add_infos(const Scope& core) {
  const Scope f =
      define_box<FloatInfo>(core, "lamina.core.finfo", "finfo(dtype)\n--\n\nLimits of a floating dtype.",
                            {slot(Py_tp_repr, finfo_repr)});
  def_constructor(f, "finfo(dtype: Dtype)", "Limits of a floating dtype.",
                  [](Dtype t) { return Box<FloatInfo>::make(float_info(t)); });
  def_property(f, "min: float", "Most negative finite number.",
               [](PyObject* s) { return -Box<FloatInfo>::of(s).max; });
  def_property(f, "max: float", "Largest finite number.",
               [](PyObject* s) { return Box<FloatInfo>::of(s).max; });
  def_property(f, "eps: float", "Distance from 1 to the next number.",
               [](PyObject* s) { return Box<FloatInfo>::of(s).eps; });
  def_property(f, "smallest_normal: float", "Smallest positive normal number.",
               [](PyObject* s) { return Box<FloatInfo>::of(s).smallest_normal; });
  def_property(f, "bits: int", "Bits of one number.",
               [](PyObject* s) { return itemsize(Box<FloatInfo>::of(s).dtype) * 8; });
  def_property(f, "dtype: Dtype", "The dtype; float32 for complex64.",
               [](PyObject* s) { return Box<FloatInfo>::of(s).dtype; });
  add_reduce<FloatInfo>(f);
  const Scope i =
      define_box<IntInfo>(core, "lamina.core.iinfo", "iinfo(dtype)\n--\n\nLimits of an integer dtype.",
                          {slot(Py_tp_repr, iinfo_repr)});
  def_constructor(i, "iinfo(dtype: Dtype)", "Limits of an integer dtype.",
                  [](Dtype t) { return Box<IntInfo>::make(int_info(t)); });
  def_property(i, "min: int", "Smallest value.", [](PyObject* s) { return Box<IntInfo>::of(s).min; });
  def_property(i, "max: int", "Largest value.", [](PyObject* s) { return size_t{Box<IntInfo>::of(s).max}; });
  def_property(i, "bits: int", "Bits of one value.",
               [](PyObject* s) { return itemsize(Box<IntInfo>::of(s).dtype) * 8; });
  def_property(i, "dtype: Dtype", "The dtype.", [](PyObject* s) { return Box<IntInfo>::of(s).dtype; });
  add_reduce<IntInfo>(i);
}

std::optional<Dtype> array_or_dtype(PyObject* o) {
  if (is_dtype(o)) return dtype_of(o);
  if (is_array(o)) return value_of(o).dtype();
  return std::nullopt;
}

bool is_of_kind(Dtype t, std::string_view kind) {
  if (kind == "bool") return t == Dtype::kBool;
  if (kind == "signed integer") return is_signed_integer(t);
  if (kind == "unsigned integer") return is_unsigned_integer(t);
  if (kind == "integral") return is_integer(t);
  if (kind == "real floating") return is_floating(t);
  if (kind == "complex floating") return is_complex(t);
  if (kind == "numeric") return contains(kNumeric, t);
  throw ValueError(
      fmt::format("[isdtype] unknown kind '{}'; wanted bool, signed integer, unsigned integer, integral, "
                  "real floating, complex floating or numeric",
                  kind));
}

bool is_kind(Dtype t, const Any& any, PyObject* kind) {
  if (is_dtype(kind)) return dtype_of(kind) == t;
  if (PyUnicode_Check(kind)) return is_of_kind(t, py::cast<std::string>(borrowed(kind)));
  if (!PyTuple_Check(kind)) any.wrong();
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kind); ++i) {
    if (is_kind(t, any, PyTuple_GET_ITEM(kind, i))) return true;
  }
  return false;
}

bool is_subdtype(const Any& left, const Any& right) {
  if (is_dtype(left.object)) {
    if (is_dtype(right.object)) return left.object == right.object;
    if (!Box<Category>::check(right.object)) right.wrong();
    return contains(Box<Category>::of(right.object).set, dtype_of(left.object));
  }
  if (!Box<Category>::check(left.object)) left.wrong();
  if (is_dtype(right.object)) return false;
  if (!Box<Category>::check(right.object)) right.wrong();
  const DtypeSet inner = Box<Category>::of(left.object).set;
  return (inner & Box<Category>::of(right.object).set) == inner;
}

Dtype common_dtype(Rest items) {
  if (items.count == 0) throw ValueError("[result_type] wants at least one array or dtype, got none");
  std::optional<Dtype> common;
  for (Py_ssize_t i = 0; i < items.count; ++i) {
    const std::optional<Dtype> t = array_or_dtype(items.items[i]);
    if (!t) throw TypeError("result_type() wants arrays and dtypes, got " + type_name(items.items[i]));
    common = common ? promote(*common, *t) : *t;
  }
  return *common;
}

void add_queries(const Scope& core) {
  def(core, "issubdtype(arg1: Dtype | DtypeCategory, arg2: Dtype | DtypeCategory) -> bool",
      "True where the first dtype or category lies within the second.\n"
      "@arg1 Dtype or category to look for.\n@arg2 Dtype or category to look in.\n"
      ">>> mx.issubdtype(mx.float32, mx.floating)\nTrue\n>>> mx.issubdtype(mx.integer, mx.inexact)\nFalse\n",
      [](Any l, Any r) { return is_subdtype(l, r); });
  def(core, "isdtype(dtype: Dtype, kind: Dtype | str | tuple[Dtype | str, ...]) -> bool",
      "True where the dtype is of one of the kinds, as the array API standard names them.\n"
      "@kind A dtype, 'bool', 'signed integer', 'unsigned integer', 'integral', 'real floating', 'complex "
      "floating', "
      "'numeric', or a tuple of them.\n@dtype The dtype to test.\n@raises ValueError For an unknown kind.\n"
      ">>> mx.isdtype(mx.int8, ('bool', 'integral'))\nTrue\n",
      [](Dtype t, Any kind) { return is_kind(t, kind, kind.object); });
  def(core, "can_cast(from_: array | Dtype, to: Dtype) -> bool",
      "True where promotion turns the first dtype into the second.\n"
      "@from_ An array or a dtype.\n@to The wanted dtype.\n"
      ">>> mx.can_cast(mx.int32, mx.float32)\nTrue\n>>> mx.can_cast(mx.float32, mx.int32)\nFalse\n",
      [](Any from, Dtype to) {
        const std::optional<Dtype> t = array_or_dtype(from.object);
        if (!t) from.wrong();
        return promote(*t, to) == to;
      });
  def(core, "result_type(*arrays_and_dtypes: array | Dtype) -> Dtype",
      "The dtype that arrays or dtypes promote to together.\n@raises ValueError Without any argument.\n"
      ">>> mx.result_type(mx.int32, mx.float16)\nlamina.core.float16\n",
      [](Rest items) { return common_dtype(items); });
}

}  // namespace

const std::string& display_name() { return mutable_display_name(); }
PyObject* dtype_object(Dtype t) { return dtype_objects[static_cast<int>(t)]; }
Dtype dtype_of(PyObject* o) { return Box<Dtype>::of(o); }
bool is_dtype(PyObject* o) { return Box<Dtype>::check(o); }
PyObject* to_python(Dtype t) { return Py_NewRef(dtype_object(t)); }

PyObject* named_default(std::string_view name) {
  for (int i = 0; i < kNumDtypes; ++i) {
    if (dtype_objects[i] && name == python_name(static_cast<Dtype>(i))) return Py_NewRef(dtype_objects[i]);
  }
  return nullptr;
}

void add_dtypes(const Scope& core) {
  const Scope type = define_box<Dtype>(core, "lamina.core.Dtype", "The type of an array's elements.",
                                       {slot(Py_tp_repr, dtype_repr), slot(Py_tp_hash, dtype_hash)});
  for (int i = 0; i < kNumDtypes; ++i) {
    const auto t = static_cast<Dtype>(i);
    dtype_objects[i] = Box<Dtype>::make(t);
    if (PyObject_SetAttrString(core.object, python_name(t), dtype_objects[i]) < 0)
      throw py::error_already_set();
  }
  def_property(type, "size: int", "Bytes of one element.", [](PyObject* s) { return itemsize(dtype_of(s)); });
  def(type, "__reduce__(self) -> str | tuple", "What pickle needs: the dtype's name.",
      [](PyObject* self) { return owned(PyUnicode_FromString(python_name(dtype_of(self)))); });
  add_categories(core);
  add_infos(core);
  add_queries(core);
  def(core, "_set_display_name(name: str)", "Sets the module name that dtypes print with.",
      [](const std::string& name) { mutable_display_name() = name; });
}

}  // namespace lamina::bind
