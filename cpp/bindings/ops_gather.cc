#include "bindings/ops.h"

namespace lamina::bind {
namespace {

std::vector<Array> one_or_more(const Any& any) {
  if (const std::optional<Array> a = as_array(any.object)) return {*a};
  return From<std::vector<Array>>::get(*any.call, any.at);
}

}  // namespace

void add_gathering(const Scope& core) {
  def(core,
      "take(a: array, /, indices: int | array, axis: int | None = None, *, stream: StreamOrDevice = None) -> "
      "array",
      "The elements at integer indices along an axis.\n@axis The axis; None takes from the flattened array.\n"
      "@raises IndexError At evaluation, for an index out of bounds.\n"
      ">>> mx.take(mx.array([5, 6, 7]), mx.array([2, 0]))\narray([7, 5], dtype=int32)\n",
      [](const Array& a, const Array& indices, std::optional<int64_t> axis) {
        return take(a, indices, axis);
      });
  def(core,
      "take_along_axis(a: array, /, indices: array, axis: int | None = -1, *, stream: StreamOrDevice = None) "
      "-> array",
      "One element for each index along an axis.\n@axis The axis; None flattens both first.\n"
      "@raises ValueError Where the shapes differ off the axis.\n"
      ">>> mx.take_along_axis(mx.array([[5, 6], [7, 8]]), mx.array([[1], [0]]), axis=1)\narray([[6],\n       "
      "[7]], dtype=int32)\n",
      [](const Array& a, const Array& indices, std::optional<int64_t> axis) {
        return take_along_axis(a, indices, axis);
      });
  def(core,
      "put_along_axis(a: array, /, indices: array, values: array, axis: int | None = None, *, stream: "
      "StreamOrDevice = "
      "None) -> array",
      "A copy with one element for each index along an axis replaced.\n@values Values that broadcast to the "
      "indices.\n"
      "@axis The axis; None flattens both first.\n@raises ValueError Where the shapes differ off the axis.\n"
      ">>> mx.put_along_axis(mx.zeros((2, 2)), mx.array([[1], [0]]), mx.array(9.0), axis=1)\narray([[0, "
      "9],\n       [9, 0]], dtype=float32)\n",
      [](const Array& a, const Array& indices, const Array& values, std::optional<int64_t> axis) {
        return put_along_axis(a, indices, values, axis);
      });
  def(core,
      "slice(a: array, start_indices: array, axes: Sequence[int], slice_size: Sequence[int], *, stream: "
      "StreamOrDevice "
      "= None) -> array",
      "A box of fixed size whose place is computed.\n@start_indices The first index on each of the axes, an "
      "integer array.\n"
      "@axes The axes the indices belong to.\n@slice_size Lengths of the box along all axes, or along `axes` "
      "alone.\n"
      "@raises ValueError Where the box is larger than the array.\n"
      ">>> mx.slice(mx.arange(6).reshape(2, 3), mx.array([1]), (1,), (2, 2))\narray([[1, 2],\n       [4, "
      "5]], dtype=int32)\n",
      [](const Array& a, const Array& start, const Axes& axes, const Shape& sizes) {
        return slice(a, start, axes, sizes);
      });
  def(core,
      "slice_update(a: array, update: array, start_indices: array, axes: Sequence[int], *, stream: "
      "StreamOrDevice = "
      "None) -> array",
      "A copy with a box whose place is computed replaced.\n@update The new values.\n"
      "@start_indices The first index on each of the axes, an integer array.\n@axes The axes the indices "
      "belong to.\n"
      "@raises ValueError Where the update is larger than the array.\n"
      ">>> mx.slice_update(mx.zeros((3,)), mx.ones((2,)), mx.array([1]), (0,))\narray([0, 1, 1], "
      "dtype=float32)\n",
      [](const Array& a, const Array& update, const Array& start, const Axes& axes) {
        return slice_update(a, update, start, axes);
      });
  def(core,
      "depends(inputs: array | Sequence[array], dependencies: array | Sequence[array]) -> array | "
      "list[array]",
      "The inputs, which are computed after the dependencies.\n@inputs Array or arrays.\n@dependencies Array "
      "or arrays.\n"
      ">>> mx.depends(mx.array(1), mx.array(2))\narray(1, dtype=int32)\n",
      [](Any inputs, Any dependencies) {
        const bool single = as_array(inputs.object).has_value();
        std::vector<Array> out = depends(one_or_more(inputs), one_or_more(dependencies));
        return single ? wrap(out[0]) : wrap_list(std::move(out));
      });
}

}  // namespace lamina::bind
