#pragma once

#include "bindings/function.h"

namespace lamina::bind {

// What mx.array(o, dtype) makes: a scalar, nested lists, or array data, always a copy. Throws for anything
// else.
Array array_from(PyObject* o, std::optional<Dtype> dtype);

// A Python number as a 0-d array: bool, int32 (int64, uint64 where it needs them), float32, complex64.
Array strong_scalar(PyObject* o, ScalarKind kind, std::optional<Dtype> dtype);

// Nested lists and tuples of numbers and arrays, all of one length at each level.
Array array_from_lists(PyObject* o, std::optional<Dtype> dtype);

// Objects with data of their own: NumPy arrays and scalars, the buffer protocol, DLPack, __array__, and
// objects with an __lamina_array__ or __mlx_array__ method. float64 data becomes `wide` unless dtype says
// otherwise. nullopt where o is none of these.
std::optional<Array> array_from_data(PyObject* o, std::optional<Dtype> dtype, Dtype wide = Dtype::kFloat32);
// The same without a copy: the array keeps o alive and sees its later changes. nullopt where that is not
// possible.
std::optional<Array> adopt_data(PyObject* o, std::optional<Dtype> dtype);

// DLPack capsules; `producer` has a __dlpack__ method.
Array from_dlpack(PyObject* producer, std::optional<bool> copy, std::optional<Dtype> dtype);
bool has_dlpack(PyObject* o);
PyObject* to_dlpack(const Array& a, PyObject* max_version, PyObject* device, std::optional<bool> copy);

// Memory laid out by strides in bytes, copied into an array of its own.
Array copy_strided(const void* data, Dtype dtype, const Shape& shape, const Strides& byte_strides);
// The values of an array in memory of their own.
Array copy_of(const Array& a);

// One number written as an element of dtype t.
void store_number(void* to, Dtype t, PyObject* number, ScalarKind kind);

void add_conversions(const Scope& core);

}  // namespace lamina::bind
