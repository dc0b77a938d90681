#include <fmt/format.h>

#include "bindings/convert.h"
#include "bindings/ops.h"

namespace lamina::bind {
namespace {

using Width = std::pair<int64_t, int64_t>;

std::vector<Array> flattened(std::vector<Array> arrays) {
  for (Array& a : arrays) a = reshape(a, {-1});
  return arrays;
}

// 1, (1,), (1, 2), [(1, 2), (0, 1)]: one width, one pair, or one pair for each axis.
std::vector<Width> pad_widths(const Any& any, int ndim) {
  const auto n = static_cast<size_t>(ndim);
  if (const std::optional<Shape> plain = as_integers(any.object)) {
    if (plain->size() == 1) return std::vector<Width>(n, {(*plain)[0], (*plain)[0]});
    if (plain->size() == 2) return std::vector<Width>(n, {(*plain)[0], (*plain)[1]});
    any.wrong();
  }
  const auto items = as_items(any.object);
  if (!items) any.wrong();
  std::vector<Width> out;
  for (const py::object& item : *items) {
    const std::optional<Shape> pair = as_integers(item.ptr());
    if (!pair || pair->empty() || pair->size() > 2) any.wrong();
    out.push_back({pair->front(), pair->back()});
  }
  if (out.size() == 1) out.resize(n, out[0]);
  return out;
}

Array padded(const Array& a, const Any& widths_any, const std::string& mode, const Any& value) {
  const std::vector<Width> widths = pad_widths(widths_any, a.ndim());
  if (mode == "constant") {
    const ScalarKind kind = scalar_kind(value.object);
    const std::optional<Array> v =
        kind != ScalarKind::kNone ? weak_array(value.object, kind, a.dtype()) : as_array(value.object);
    if (!v) value.wrong();
    return pad(a, widths, *v);
  }
  if (mode == "edge") return pad(a, widths, PadMode::kEdge);
  if (mode == "reflect") return pad(a, widths, PadMode::kReflect);
  if (mode == "symmetric") return pad(a, widths, PadMode::kSymmetric);
  throw ValueError(fmt::format("[pad] mode must be constant, edge, reflect or symmetric, got '{}'", mode));
}

Array rolled(const Array& a, const Shape& shift, const OptAxes& axes) {
  if (!axes) {
    int64_t total = 0;
    for (int64_t s : shift) total += s;
    return reshape(roll(reshape(a, {-1}), {total}, {0}), a.shape());
  }
  if (shift.size() == 1) return roll(a, Shape(axes->size(), shift[0]), *axes);
  if (axes->size() == 1 && shift.size() > 1) return roll(a, shift, Axes(shift.size(), (*axes)[0]));
  return roll(a, shift, *axes);
}

void add_concatenation(const Scope& core) {
  def(core,
      "concatenate(arrays: Sequence[array], axis: int | None = 0, *, stream: StreamOrDevice = None) -> array",
      "The arrays one behind the other along an axis.\n@arrays Arrays that differ in length along that axis "
      "only.\n"
      "@axis The axis; None flattens the arrays first.\n@raises ValueError For no arrays, or shapes that do "
      "not fit.\n"
      ">>> mx.concatenate([mx.array([1, 2]), mx.array([3])])\narray([1, 2, 3], dtype=int32)\n",
      [](const std::vector<Array>& arrays, std::optional<int64_t> axis) {
        return axis ? concatenate(arrays, *axis) : concatenate(flattened(arrays), 0);
      });
  alias(core, "concat", "concatenate");
  def(core, "stack(arrays: Sequence[array], axis: int | None = 0, *, stream: StreamOrDevice = None) -> array",
      "The arrays side by side along a new axis.\n@arrays Arrays of one shape.\n@axis Where the new axis is "
      "in the result.\n"
      "@raises ValueError For no arrays, or different shapes.\n"
      ">>> mx.stack([mx.array([1, 2]), mx.array([3, 4])])\narray([[1, 2],\n       [3, 4]], dtype=int32)\n",
      [](const std::vector<Array>& arrays, std::optional<int64_t> axis) {
        return stack(arrays, axis.value_or(0));
      });
  def(core,
      "meshgrid(*arrays: array, sparse: bool | None = False, indexing: str | None = 'xy', stream: "
      "StreamOrDevice = "
      "None) -> tuple[array, ...]",
      "Coordinate arrays of a grid from the coordinates along its axes.\n@arrays One 1-d array for each "
      "axis.\n"
      "@sparse Leave the arrays at length 1 where they repeat.\n"
      "@indexing 'xy': the first array varies along the second axis; 'ij': along the first.\n"
      "@raises ValueError For another indexing.\n"
      ">>> x, y = mx.meshgrid(mx.arange(2), mx.arange(3))\n>>> x\narray([[0, 1],\n       [0, 1],\n       [0, "
      "1]], dtype=int32)\n",
      [](Rest arrays, std::optional<bool> sparse, std::optional<std::string> indexing) {
        std::vector<Array> inputs;
        for (Py_ssize_t i = 0; i < arrays.count; ++i) {
          const std::optional<Array> a = as_array(arrays.items[i]);
          if (!a) throw TypeError("meshgrid() wants arrays, got " + type_name(arrays.items[i]));
          inputs.push_back(*a);
        }
        const std::string order = indexing.value_or("xy");
        if (order != "xy" && order != "ij") {
          throw ValueError(fmt::format("[meshgrid] indexing must be 'xy' or 'ij', got '{}'", order));
        }
        return ArrayTuple(meshgrid(inputs, sparse.value_or(false), order == "ij"));
      });
}

void add_splitting(const Scope& core, const Scope& type) {
  def_both(core, type,
           "split(a: array, /, indices_or_sections: int | Sequence[int], axis: int = 0, *, stream: "
           "StreamOrDevice = "
           "None) -> list[array]",
           "The array cut into parts along an axis.\n"
           "@indices_or_sections Number of equal parts, or the positions to cut at.\n"
           "@raises ValueError Where the axis does not divide into equal parts.\n"
           ">>> mx.split(mx.arange(4), 2)\n[array([0, 1], dtype=int32), array([2, 3], dtype=int32)]\n",
           [](const Array& a, Any where, int64_t axis) {
             if (const std::optional<int64_t> sections = as_integer(where.object))
               return split(a, *sections, axis);
             const std::optional<Shape> indices = as_integers(where.object);
             if (!indices) where.wrong();
             return split(a, *indices, axis);
           });
  def(core, "unstack(x: array, /, *, axis: int = 0, stream: StreamOrDevice = None) -> tuple[array, ...]",
      "The array's slices along an axis, without that axis.\n>>> mx.unstack(mx.array([[1, 2], [3, 4]]))\n"
      "(array([1, 2], dtype=int32), array([3, 4], dtype=int32))\n",
      [](const Array& x, int64_t axis) {
        std::vector<Array> parts;
        if (x.ndim() == 0) throw ShapeError("[unstack] wants at least 1 axis, got shape ()");
        if (x.shape(static_cast<int>(axis)) > 0) parts = split(x, x.shape(static_cast<int>(axis)), axis);
        for (Array& p : parts) p = squeeze(p, Axes{axis});
        return ArrayTuple(std::move(parts));
      });
}

void add_repetition(const Scope& core) {
  def(core,
      "repeat(array: array, repeats: int, axis: int | None = None, *, stream: StreamOrDevice = None) -> "
      "array",
      "Every element several times in a row.\n@array Input array.\n@repeats How often.\n"
      "@axis Axis to repeat along; None flattens the array first.\n@raises ValueError For a negative "
      "number.\n"
      ">>> mx.repeat(mx.array([1, 2]), 2)\narray([1, 1, 2, 2], dtype=int32)\n",
      [](const Array& a, int64_t repeats, std::optional<int64_t> axis) {
        return axis ? repeat(a, repeats, *axis) : repeat(reshape(a, {-1}), repeats, 0);
      });
  def(core, "tile(a: array, reps: int | Sequence[int], /, *, stream: StreamOrDevice = None) -> array",
      "The array laid out several times along its axes.\n@reps Number of copies along each axis.\n"
      ">>> mx.tile(mx.array([1, 2]), 2)\narray([1, 2, 1, 2], dtype=int32)\n",
      [](const Array& a, const Shape& reps) { return tile(a, reps); });
  def(core,
      "pad(a: array, pad_width: int | Sequence[int] | Sequence[Sequence[int]], mode: str = 'constant', "
      "constant_values: scalar | array = 0, *, stream: StreamOrDevice = None) -> array",
      "The array with values added in front of and behind its axes.\n"
      "@pad_width A number, a pair (before, after), or one pair for each axis.\n"
      "@mode 'constant', 'edge' (the border repeats), 'reflect' (mirrored at it) or 'symmetric' (mirrored "
      "with it).\n"
      "@constant_values The value for mode 'constant'.\n@raises ValueError For negative widths or an unknown "
      "mode.\n"
      ">>> mx.pad(mx.array([1, 2]), (1, 2))\narray([0, 1, 2, 0, 0], dtype=int32)\n"
      ">>> mx.pad(mx.array([1, 2, 3]), 2, mode='reflect')\narray([3, 2, 1, ..., 3, 2, 1], dtype=int32)\n",
      [](const Array& a, Any widths, const std::string& mode, Any value) {
        return padded(a, widths, mode, value);
      });
  def(core,
      "roll(a: array, shift: int | Sequence[int], axis: None | int | Sequence[int] = None, /, *, stream: "
      "StreamOrDevice = None) -> array",
      "The array with its elements moved along axes; what leaves at one end enters at the other.\n"
      "@shift By how many places, for all axes or each of them.\n@axis Axis or axes; None rolls the "
      "flattened array.\n"
      ">>> mx.roll(mx.arange(4), 1)\narray([3, 0, 1, 2], dtype=int32)\n",
      [](const Array& a, const Shape& shift, const OptAxes& axes) { return rolled(a, shift, axes); });
}

void add_diagonals(const Scope& core, const Scope& type) {
  def_both(core, type,
           "diagonal(a: array, offset: int = 0, axis1: int = 0, axis2: int = 1, stream: StreamOrDevice = "
           "None) -> array",
           "A diagonal of the matrices that two axes form.\n@offset 0 the main diagonal, positive above it.\n"
           "@axis1 The rows.\n@axis2 The columns.\n>>> mx.diagonal(mx.array([[1, 2], [3, 4]]))\narray([1, "
           "4], dtype=int32)\n",
           [](const Array& a, int64_t offset, int64_t i, int64_t j) { return diagonal(a, offset, i, j); });
  def_both(core, type, "diag(a: array, /, k: int = 0, *, stream: StreamOrDevice = None) -> array",
           "The diagonal of a matrix, or the matrix with that diagonal.\n@k 0 the main diagonal, positive "
           "above it.\n"
           "@raises ValueError For other than one or two axes.\n>>> mx.diag(mx.array([1, 2]))\narray([[1, "
           "0],\n       [0, 2]], dtype=int32)\n",
           [](const Array& a, int64_t k) { return diag(a, k); });
  def(core,
      "trace(a: array, /, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Dtype | None = None, *, "
      "stream: "
      "StreamOrDevice = None) -> array",
      "The sum of a diagonal.\n@offset 0 the main diagonal, positive above it.\n@axis1 The rows.\n@axis2 The "
      "columns.\n"
      "@dtype Dtype of the result; that of `a` by default.\n>>> mx.trace(mx.array([[1, 2], [3, "
      "4]]))\narray(5, dtype=int32)\n",
      [](const Array& a, int64_t offset, int64_t i, int64_t j, std::optional<Dtype> t) {
        return trace(a, offset, i, j, t);
      });
}

}  // namespace

void add_joining(const Scope& core, const Scope& type) {
  add_concatenation(core);
  add_splitting(core, type);
  add_repetition(core);
  add_diagonals(core, type);
}

}  // namespace lamina::bind
