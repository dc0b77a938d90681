#include <fmt/format.h>

#include "bindings/ops.h"

namespace lamina::bind {
namespace {

// Integers given one by one or as one sequence: a.reshape(2, 3), a.reshape((2, 3)).
Shape integers(Rest rest, const char* function) {
  if (rest.count == 1) {
    if (const std::optional<Shape> all = as_integers(rest.items[0])) return *all;
  }
  Shape out;
  for (Py_ssize_t i = 0; i < rest.count; ++i) {
    const std::optional<int64_t> v = as_integer(rest.items[i]);
    if (!v)
      throw TypeError(fmt::format("{}() wants integers or one sequence of them, got {}", function,
                                  type_name(rest.items[i])));
    out.push_back(*v);
  }
  return out;
}

std::vector<Array> each_array(Rest rest, const char* function) {
  std::vector<Array> out;
  for (Py_ssize_t i = 0; i < rest.count; ++i) {
    std::optional<Array> a = as_array(rest.items[i]);
    if (!a) throw TypeError(fmt::format("{}() wants arrays, got {}", function, type_name(rest.items[i])));
    out.push_back(*std::move(a));
  }
  return out;
}

void add_reshaping(const Scope& core, const Scope& type) {
  constexpr const char* kReshape =
      "The elements in another shape.\n@shape Lengths of the axes; one of them may be -1 and is computed.\n"
      "@raises ValueError Where the number of elements differs.\n"
      ">>> mx.reshape(mx.arange(4), (2, -1))\narray([[0, 1],\n       [2, 3]], dtype=int32)\n";
  def(core, "reshape(a: array, /, shape: int | Sequence[int], *, stream: StreamOrDevice = None) -> array",
      kReshape, [](const Array& a, const Shape& shape) { return reshape(a, shape); });
  def(type, "reshape(self, *shape: int | Sequence[int], stream: StreamOrDevice = None) -> array", kReshape,
      [](const Array& a, Rest shape) { return reshape(a, integers(shape, "reshape")); });
  def_both(core, type,
           "flatten(a: array, /, start_axis: int = 0, end_axis: int = -1, *, stream: StreamOrDevice = None) "
           "-> array",
           "The axes from `start_axis` to `end_axis` merged into one.\n@start_axis First axis.\n@end_axis "
           "Last axis.\n"
           ">>> mx.flatten(mx.zeros((2, 3, 4)), 1).shape\n(2, 12)\n",
           [](const Array& a, int64_t s, int64_t e) { return flatten(a, s, e); });
  def_both(
      core, type,
      "unflatten(a: array, /, axis: int, shape: Sequence[int], *, stream: StreamOrDevice = None) -> array",
      "One axis split into several.\n@axis The axis to split.\n@shape Lengths of the parts; one may be -1.\n"
      ">>> mx.unflatten(mx.zeros((2, 12)), 1, (3, -1)).shape\n(2, 3, 4)\n",
      [](const Array& a, int64_t axis, const Shape& shape) { return unflatten(a, axis, shape); });
  def_both(core, type,
           "squeeze(a: array, /, axis: None | int | Sequence[int] = None, *, stream: StreamOrDevice = None) "
           "-> array",
           "The array without axes of length 1.\n@axis Axis or axes to drop; all of length 1 by default.\n"
           "@raises ValueError Where an axis has another length.\n>>> mx.squeeze(mx.zeros((1, 3, "
           "1))).shape\n(3,)\n",
           [](const Array& a, const OptAxes& axes) { return squeeze(a, axes); });
  def(core, "expand_dims(a: array, /, axis: int | Sequence[int], *, stream: StreamOrDevice = None) -> array",
      "The array with new axes of length 1.\n@axis Where they are in the result.\n>>> "
      "mx.expand_dims(mx.zeros(3), (0, 2)).shape\n(1, 3, 1)\n",
      [](const Array& a, const Axes& axes) { return expand_dims(a, axes); });
  constexpr const char* kAtLeast = "@returns The array, or a list where several were given.\n";
  def(core, "atleast_1d(*arys: array, stream: StreamOrDevice = None) -> array | list[array]",
      std::string("Arrays with at least one axis.\n") + kAtLeast +
          ">>> mx.atleast_1d(mx.array(1)).shape\n(1,)\n",
      [](Rest rest) {
        std::vector<Array> v = each_array(rest, "atleast_1d");
        for (Array& a : v) a = at_least(a, 1);
        return v.size() == 1 ? wrap(v[0]) : wrap_list(std::move(v));
      });
  def(core, "atleast_2d(*arys: array, stream: StreamOrDevice = None) -> array | list[array]",
      std::string("Arrays with at least two axes.\n") + kAtLeast +
          ">>> mx.atleast_2d(mx.zeros(3)).shape\n(1, 3)\n",
      [](Rest rest) {
        std::vector<Array> v = each_array(rest, "atleast_2d");
        for (Array& a : v) a = at_least(a, 2);
        return v.size() == 1 ? wrap(v[0]) : wrap_list(std::move(v));
      });
  def(core, "atleast_3d(*arys: array, stream: StreamOrDevice = None) -> array | list[array]",
      std::string("Arrays with at least three axes.\n") + kAtLeast +
          ">>> mx.atleast_3d(mx.zeros(3)).shape\n(1, 3, 1)\n",
      [](Rest rest) {
        std::vector<Array> v = each_array(rest, "atleast_3d");
        for (Array& a : v) a = at_least(a, 3);
        return v.size() == 1 ? wrap(v[0]) : wrap_list(std::move(v));
      });
}

void add_permutations(const Scope& core, const Scope& type) {
  constexpr const char* kTranspose =
      "The array with its axes in another order.\n@axes The order; reversed by default.\n"
      "@raises ValueError Where an axis is missing or named twice.\n>>> mx.transpose(mx.zeros((2, 3, "
      "4))).shape\n(4, 3, 2)\n";
  def(core,
      "transpose(a: array, /, axes: Sequence[int] | None = None, *, stream: StreamOrDevice = None) -> array",
      kTranspose, [](const Array& a, const OptAxes& axes) { return transpose(a, axes); });
  alias(core, "permute_dims", "transpose");
  def(type, "transpose(self, *axes: int | Sequence[int] | None, stream: StreamOrDevice = None) -> array",
      kTranspose, [](const Array& a, Rest axes) {
        const bool all = axes.count == 0 || (axes.count == 1 && axes.items[0] == Py_None);
        return all ? transpose(a) : transpose(a, integers(axes, "transpose"));
      });
  def(core, "matrix_transpose(a: array, /, *, stream: StreamOrDevice = None) -> array",
      "The array with its last two axes swapped.\n@raises ValueError For fewer than two axes.\n"
      ">>> mx.matrix_transpose(mx.zeros((2, 3, 4))).shape\n(2, 4, 3)\n",
      [](const Array& a) {
        if (a.ndim() < 2)
          throw ShapeError("[matrix_transpose] wants at least 2 axes, got shape " + to_string(a.shape()));
        return swapaxes(a, -1, -2);
      });
  def_both(core, type,
           "swapaxes(a: array, /, axis1: int, axis2: int, *, stream: StreamOrDevice = None) -> array",
           "The array with two axes exchanged.\n@axis1 One axis.\n@axis2 The other.\n>>> "
           "mx.swapaxes(mx.zeros((2, 3, 4)), 0, 2).shape\n(4, 3, 2)\n",
           [](const Array& a, int64_t i, int64_t j) { return swapaxes(a, i, j); });
  def_both(core, type,
           "moveaxis(a: array, /, source: int, destination: int, *, stream: StreamOrDevice = None) -> array",
           "The array with one axis moved, the others in their order.\n@source The axis.\n@destination Where "
           "it goes.\n"
           ">>> mx.moveaxis(mx.zeros((2, 3, 4)), 0, -1).shape\n(3, 4, 2)\n",
           [](const Array& a, int64_t s, int64_t d) { return moveaxis(a, s, d); });
  def(core,
      "flip(a: array, /, axis: None | int | Sequence[int] = None, *, stream: StreamOrDevice = None) -> array",
      "The array with the order of its elements reversed.\n@axis Axis or axes to reverse; all by default.\n"
      ">>> mx.flip(mx.arange(3))\narray([2, 1, 0], dtype=int32)\n",
      [](const Array& a, const OptAxes& axes) { return flip(a, axes); });
}

void add_broadcasting(const Scope& core) {
  def(core,
      "broadcast_to(a: scalar | array, /, shape: int | Sequence[int], *, stream: StreamOrDevice = None) -> "
      "array",
      "The array repeated to a shape, without a copy.\n@raises ValueError Where it does not broadcast.\n"
      ">>> mx.broadcast_to(mx.array([1, 2]), (2, 2))\narray([[1, 2],\n       [1, 2]], dtype=int32)\n",
      [](const Array& a, const Shape& shape) { return broadcast_to(a, shape); });
  def(core, "broadcast_arrays(*arrays: array, stream: StreamOrDevice = None) -> tuple[array, ...]",
      "The arrays repeated to their common shape.\n@arrays Input arrays.\n@raises ValueError Where they do "
      "not broadcast.\n"
      ">>> [a.shape for a in mx.broadcast_arrays(mx.zeros(3), mx.zeros((2, 1)))]\n[(2, 3), (2, 3)]\n",
      [](Rest arrays) { return ArrayTuple(broadcast_arrays(each_array(arrays, "broadcast_arrays"))); });
  def(core, "broadcast_shapes(*shapes: int | Sequence[int]) -> tuple[int, ...]",
      "The shape that the shapes broadcast to.\n@shapes Shapes.\n@raises ValueError Where they do not "
      "broadcast.\n"
      ">>> mx.broadcast_shapes((1, 2), (3, 1))\n(3, 2)\n",
      [](Rest shapes) {
        Shape out;
        if (shapes.count == 0) throw ValueError("[broadcast_shapes] wants at least one shape, got none");
        for (Py_ssize_t i = 0; i < shapes.count; ++i) {
          const std::optional<Shape> s = as_integers(shapes.items[i]);
          if (!s) throw TypeError("broadcast_shapes() wants shapes, got " + type_name(shapes.items[i]));
          out = broadcast_shapes(out, *s);
        }
        return out;
      });
}

void add_memory_layout(const Scope& core) {
  def(core,
      "contiguous(a: array, /, allow_col_major: bool = False, *, stream: StreamOrDevice = None) -> array",
      "The array in row-major memory without gaps.\n@allow_col_major Accepted; the result is row-major all "
      "the same.\n"
      ">>> memoryview(mx.contiguous(mx.zeros((2, 3)).T)).c_contiguous\nTrue\n",
      [](const Array& a, bool) { return contiguous(a); });
  def(core,
      "as_strided(a: array, /, shape: Sequence[int] | None = None, strides: Sequence[int] | None = None, "
      "offset: int = "
      "0, *, stream: StreamOrDevice = None) -> array",
      "The elements of the flattened array at any strides.\n@shape Lengths of the axes; those of `a` by "
      "default.\n"
      "@strides Steps along the axes in elements; row-major by default.\n@offset The first element.\n"
      "@raises ValueError Where an element lies outside the array.\n"
      ">>> mx.as_strided(mx.arange(4), (3, 2), (1, 1))\narray([[0, 1],\n       [1, 2],\n       [2, 3]], "
      "dtype=int32)\n",
      [](const Array& a, const std::optional<Shape>& shape, const std::optional<Strides>& strides,
         int64_t offset) {
        const Shape lengths = shape.value_or(a.shape());
        return as_strided(a, lengths, strides.value_or(row_major_strides(lengths)), offset);
      });
}

}  // namespace

void add_shape_ops(const Scope& core, const Scope& type) {
  add_reshaping(core, type);
  add_permutations(core, type);
  add_broadcasting(core);
  add_memory_layout(core);
}

}  // namespace lamina::bind
