#include <fmt/format.h>

#include "bindings/array_slots.h"

namespace lamina::bind {
namespace {

using Binary = Array (*)(const Array&, const Array&);
using Unary = Array (*)(const Array&);

// The result of Op for two Python operands; NotImplemented where one of them is nothing an array combines
// with.
template <Binary Op>
PyObject* binary(PyObject* l, PyObject* r) noexcept {
  return guarded([&] {
    if (is_array(l) && is_array(r)) return wrap(Op(value_of(l), value_of(r)));
    Array x, y;
    if (!operand_pair(l, r, x, y)) return Py_NewRef(Py_NotImplemented);
    return wrap(Op(x, y));
  });
}

// `a += b` gives the object of `a` a new value, as other names of it see too.
template <Binary Op>
PyObject* in_place(PyObject* l, PyObject* r) noexcept {
  return guarded([&] {
    Array x, y;
    if (!operand_pair(l, r, x, y)) return Py_NewRef(Py_NotImplemented);
    Array out = Op(x, y);
    x = y = Array();
    value_of(l) = std::move(out);
    return Py_NewRef(l);
  });
}

template <Unary Op>
PyObject* unary(PyObject* self) noexcept {
  return guarded([&] { return wrap(Op(value_of(self))); });
}

PyObject* positive(PyObject* self) noexcept {
  return guarded([&] { return wrap(value_of(self)); });
}

void check_no_modulus(PyObject* modulus) {
  if (modulus != Py_None) throw TypeError("pow(): a third argument is not supported for arrays");
}
PyObject* raise(PyObject* l, PyObject* r, PyObject* modulus) noexcept {
  return guarded([&] {
    check_no_modulus(modulus);
    return binary<power>(l, r);
  });
}
PyObject* raise_in_place(PyObject* l, PyObject* r, PyObject* modulus) noexcept {
  return guarded([&] {
    check_no_modulus(modulus);
    return in_place<power>(l, r);
  });
}

PyObject* divide_with_rest(PyObject* l, PyObject* r) noexcept {
  return guarded([&] {
    Array x, y;
    if (!operand_pair(l, r, x, y)) return Py_NewRef(Py_NotImplemented);
    return wrap_tuple({floor_divide(x, y), remainder(x, y)});
  });
}

PyObject* compare(PyObject* l, PyObject* r, int op) noexcept {
  switch (op) {
    case Py_LT: return binary<less>(l, r);
    case Py_LE: return binary<less_equal>(l, r);
    case Py_EQ: return binary<equal>(l, r);
    case Py_NE: return binary<not_equal>(l, r);
    case Py_GT: return binary<greater>(l, r);
    default: return binary<greater_equal>(l, r);
  }
}

// Identity: == gives an array, so values cannot decide.
Py_hash_t identity_hash(PyObject* self) noexcept {
  return static_cast<Py_hash_t>(reinterpret_cast<uintptr_t>(self) >> 4);
}

// An array that is to become one Python number.
const Array& single(PyObject* self) {
  const Array& a = value_of(self);
  if (a.size() != 1) {
    throw ValueError(
        fmt::format("[item] wants an array of one element to make a Python number of it, got shape {}",
                    to_string(a.shape())));
  }
  return a;
}

int truth(PyObject* self) noexcept {
  return guarded_int([&] {
    const Array& a = single(self);
    evaluate_released(a, "bool");
    if (is_complex(a.dtype())) return a.item<std::complex<float>>() != std::complex<float>() ? 1 : 0;
    return a.item<bool>() ? 1 : 0;
  });
}

py::object real_number(PyObject* self, const char* wanted) {
  const Array& a = single(self);
  if (is_complex(a.dtype())) throw TypeError(fmt::format("{}() of a complex64 array; use .real", wanted));
  return owned(array_item(a));
}

PyObject* to_int(PyObject* self) noexcept {
  return guarded([&] { return checked(PyNumber_Long(real_number(self, "int").ptr())); });
}
PyObject* to_float(PyObject* self) noexcept {
  return guarded([&] { return checked(PyNumber_Float(real_number(self, "float").ptr())); });
}
PyObject* to_index(PyObject* self) noexcept {
  return guarded([&] {
    const Array& a = value_of(self);
    if (a.ndim() != 0 || !is_integer(a.dtype())) {
      throw TypeError(fmt::format("only a 0-d integer array can be an index, got {} of shape {}",
                                  dtype_name(a.dtype()), to_string(a.shape())));
    }
    return array_item(a);
  });
}

}  // namespace

PyObject* array_item(const Array& a) {
  if (a.size() != 1) {
    throw ValueError(fmt::format("[item] wants an array of one element, got shape {}", to_string(a.shape())));
  }
  evaluate_released(a, "item");
  const Dtype t = a.dtype();
  if (t == Dtype::kBool) return PyBool_FromLong(a.item<bool>());
  if (t == Dtype::kUInt64) return checked(PyLong_FromUnsignedLongLong(a.item<uint64_t>()));
  if (is_integer(t)) return checked(PyLong_FromLongLong(a.item<int64_t>()));
  if (!is_complex(t)) return checked(PyFloat_FromDouble(a.item<double>()));
  const auto c = a.item<std::complex<float>>();
  return checked(PyComplex_FromDoubles(static_cast<double>(c.real()), static_cast<double>(c.imag())));
}

void append_number_slots(std::vector<PyType_Slot>& slots) {
  slots.insert(slots.end(), {
                                slot(Py_nb_add, binary<add>),
                                slot(Py_nb_subtract, binary<subtract>),
                                slot(Py_nb_multiply, binary<multiply>),
                                slot(Py_nb_true_divide, binary<divide>),
                                slot(Py_nb_floor_divide, binary<floor_divide>),
                                slot(Py_nb_remainder, binary<remainder>),
                                slot(Py_nb_matrix_multiply, binary<matmul>),
                                slot(Py_nb_and, binary<bitwise_and>),
                                slot(Py_nb_or, binary<bitwise_or>),
                                slot(Py_nb_xor, binary<bitwise_xor>),
                                slot(Py_nb_lshift, binary<left_shift>),
                                slot(Py_nb_rshift, binary<right_shift>),
                                slot(Py_nb_power, raise),
                                slot(Py_nb_divmod, divide_with_rest),
                                slot(Py_nb_inplace_add, in_place<add>),
                                slot(Py_nb_inplace_subtract, in_place<subtract>),
                                slot(Py_nb_inplace_multiply, in_place<multiply>),
                                slot(Py_nb_inplace_true_divide, in_place<divide>),
                                slot(Py_nb_inplace_floor_divide, in_place<floor_divide>),
                                slot(Py_nb_inplace_remainder, in_place<remainder>),
                                slot(Py_nb_inplace_matrix_multiply, in_place<matmul>),
                                slot(Py_nb_inplace_and, in_place<bitwise_and>),
                                slot(Py_nb_inplace_or, in_place<bitwise_or>),
                                slot(Py_nb_inplace_xor, in_place<bitwise_xor>),
                                slot(Py_nb_inplace_lshift, in_place<left_shift>),
                                slot(Py_nb_inplace_rshift, in_place<right_shift>),
                                slot(Py_nb_inplace_power, raise_in_place),
                                slot(Py_nb_negative, unary<negative>),
                                slot(Py_nb_positive, positive),
                                slot(Py_nb_absolute, unary<abs>),
                                slot(Py_nb_invert, unary<bitwise_invert>),
                                slot(Py_nb_bool, truth),
                                slot(Py_nb_int, to_int),
                                slot(Py_nb_float, to_float),
                                slot(Py_nb_index, to_index),
                                slot(Py_tp_richcompare, compare),
                                slot(Py_tp_hash, identity_hash),
                            });
}

}  // namespace lamina::bind
