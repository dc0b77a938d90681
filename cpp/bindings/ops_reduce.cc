#include <fmt/format.h>

#include "bindings/ops.h"

namespace lamina::bind {
namespace {

constexpr const char* kAxes = "@axis Axis or axes to work over; all of them by default.\n";

void add_moments(const Scope& core, const Scope& type) {
  def_both(core, type,
           "mean(a: array, /, axis: None | int | Sequence[int] = None, keepdims: bool = False, *, stream: "
           "StreamOrDevice = None) -> array",
           std::string("Mean over axes; integers become float32.\n") + kAxes +
               ">>> mx.mean(mx.array([1, 2, 6]))\narray(3, dtype=float32)\n",
           [](const Array& a, const OptAxes& axes, bool keep) { return mean(a, axes, keep); });
  constexpr const char* kVar = ">>> mx.var(mx.array([1.0, 3.0]))\narray(1, dtype=float32)\n";
  constexpr const char* kStd = ">>> mx.std(mx.array([1.0, 3.0]))\narray(1, dtype=float32)\n";
  const std::string var_doc = std::string("Variance over axes; integers become float32.\n") + kAxes;
  const std::string std_doc = std::string("Standard deviation over axes; integers become float32.\n") + kAxes;
  constexpr const char* kModule =
      "(a: array, /, axis: None | int | Sequence[int] = None, keepdims: bool = False, ddof: int = 0, *, "
      "correction: int "
      "| None = None, stream: StreamOrDevice = None) -> array";
  const std::string note = "@correction Another name for ddof, which it replaces where given.\n";
  def_both(core, type, std::string("var") + kModule, var_doc + note + kVar,
           [](const Array& a, const OptAxes& axes, bool keep, int64_t ddof,
              std::optional<int64_t> correction) { return var(a, axes, keep, correction.value_or(ddof)); });
  def_both(
      core, type, std::string("std") + kModule, std_doc + note + kStd,
      [](const Array& a, const OptAxes& axes, bool keep, int64_t ddof, std::optional<int64_t> correction) {
        return std_dev(a, axes, keep, correction.value_or(ddof));
      });
  def(core,
      "median(a: array, /, axis: None | int | Sequence[int] = None, keepdims: bool = False, *, stream: "
      "StreamOrDevice "
      "= None) -> array",
      std::string("Median over axes; integers become float32, and NaN gives NaN.\n") + kAxes +
          "@raises ValueError Over an axis of length 0.\n>>> mx.median(mx.array([3, 1, 2, 10]))\narray(2.5, "
          "dtype=float32)\n",
      [](const Array& a, const OptAxes& axes, bool keep) { return median(a, axes, keep); });
}

void add_exponential(const Scope& core, const Scope& type) {
  def_both(
      core, type,
      "logsumexp(a: array, /, axis: None | int | Sequence[int] = None, keepdims: bool = False, *, stream: "
      "StreamOrDevice = None) -> array",
      std::string("log(sum(exp(a))) over axes without overflow.\n") + kAxes +
          ">>> mx.logsumexp(mx.array([1000.0, 1000.0]))\narray(1000.69, dtype=float32)\n",
      [](const Array& a, const OptAxes& axes, bool keep) { return logsumexp(a, axes, keep); });
  def(core,
      "softmax(a: array, /, axis: None | int | Sequence[int] = None, *, precise: bool = False, stream: "
      "StreamOrDevice = "
      "None) -> array",
      std::string("exp(a) / sum(exp(a)) over axes without overflow.\n") + kAxes +
          "@precise Compute 16-bit floats in float32.\n>>> mx.softmax(mx.array([1.0, 1.0]))\narray([0.5, "
          "0.5], dtype=float32)\n",
      [](const Array& a, const OptAxes& axes, bool precise) { return softmax(a, axes, precise); });
}

void add_extrema(const Scope& core, const Scope& type) {
  constexpr const char* kAxis =
      "@axis The axis; None flattens the array first.\n@raises ValueError Over an axis of length 0.\n";
  def_both(core, type,
           "argmax(a: array, /, axis: None | int = None, keepdims: bool = False, *, stream: StreamOrDevice = "
           "None) -> "
           "array",
           std::string("Index of the first largest element along an axis, uint32.\n") + kAxis +
               ">>> mx.argmax(mx.array([1, 5, 5]))\narray(1, dtype=uint32)\n",
           [](const Array& a, std::optional<int64_t> axis, bool keep) { return argmax(a, axis, keep); });
  def_both(core, type,
           "argmin(a: array, /, axis: None | int = None, keepdims: bool = False, *, stream: StreamOrDevice = "
           "None) -> "
           "array",
           std::string("Index of the first smallest element along an axis, uint32.\n") + kAxis +
               ">>> mx.argmin(mx.array([3, 1, 1]))\narray(1, dtype=uint32)\n",
           [](const Array& a, std::optional<int64_t> axis, bool keep) { return argmin(a, axis, keep); });
  def(core,
      "minmax(a: array, /, axis: None | int | Sequence[int] = None, keepdims: bool = False, *, stream: "
      "StreamOrDevice "
      "= None) -> tuple[array, array]",
      std::string("Smallest and largest element over axes.\n") + kAxes +
          ">>> mx.minmax(mx.array([3, 1, 2]))\n(array(1, dtype=int32), array(3, dtype=int32))\n",
      [](const Array& a, const OptAxes& axes, bool keep) {
        return ArrayTuple(std::vector<Array>{min(a, axes, keep), max(a, axes, keep)});
      });
  def(core,
      "count_nonzero(a: array, /, *, axis: None | int | Sequence[int] = None, keepdims: bool = False, "
      "stream: "
      "StreamOrDevice = None) -> array",
      std::string("Number of elements that are not zero, int32.\n") + kAxes +
          ">>> mx.count_nonzero(mx.array([0, 1, 2]))\narray(2, dtype=int32)\n",
      [](const Array& a, const OptAxes& axes, bool keep) { return count_nonzero(a, axes, keep); });
}

constexpr const char* kScanAxis = "@axis The axis; None flattens the array first.\n";

std::string scan_signature(const char* name, bool dtype) {
  return fmt::format(
      "{}(a: array, /, axis: int | None = None, *, reverse: bool = False, inclusive: bool = True, {}stream: "
      "StreamOrDevice = None) -> array",
      name, dtype ? "dtype: Dtype | None = None, " : "");
}

template <ScanKind kKind>
struct Scan {
  Array operator()(const Array& a, std::optional<int64_t> axis, bool reverse, bool inclusive) const {
    return scan(a, kKind, axis, reverse, inclusive);
  }
};
template <ScanKind kKind>
struct TypedScan {
  Array operator()(const Array& a, std::optional<int64_t> axis, bool reverse, bool inclusive,
                   std::optional<Dtype> t) const {
    return scan(t ? astype(a, *t) : a, kKind, axis, reverse, inclusive);
  }
};

void add_scans(const Scope& core, const Scope& type) {
  const std::string typed =
      std::string(kScanAxis) +
      "@dtype Dtype to accumulate in; that of `a` by default, at least 32 bits for integers.\n";
  def_both(core, type, scan_signature("cumsum", true),
           "Cumulative sum along an axis.\n" + typed +
               ">>> mx.cumsum(mx.array([1, 2, 3]))\narray([1, 3, 6], dtype=int32)\n",
           TypedScan<ScanKind::kSum>());
  def_both(core, type, scan_signature("cumprod", true),
           "Cumulative product along an axis.\n" + typed +
               ">>> mx.cumprod(mx.array([1, 2, 3]))\narray([1, 2, 6], dtype=int32)\n",
           TypedScan<ScanKind::kProd>());
  def_both(core, type, scan_signature("cummax", false),
           std::string("Cumulative maximum along an axis.\n") + kScanAxis +
               ">>> mx.cummax(mx.array([1, 3, 2]))\narray([1, 3, 3], dtype=int32)\n",
           Scan<ScanKind::kMax>());
  def_both(core, type, scan_signature("cummin", false),
           std::string("Cumulative minimum along an axis.\n") + kScanAxis +
               ">>> mx.cummin(mx.array([2, 1, 3]))\narray([2, 1, 1], dtype=int32)\n",
           Scan<ScanKind::kMin>());
  def_both(core, type, scan_signature("logcumsumexp", false),
           std::string("Cumulative log(sum(exp(a))) along an axis.\n") + kScanAxis +
               ">>> mx.logcumsumexp(mx.array([0.0, 0.0]))\narray([0, 0.693147], dtype=float32)\n",
           Scan<ScanKind::kLogAddExp>());
  alias(core, "cumulative_sum", "cumsum");
  alias(core, "cumulative_prod", "cumprod");
}

}  // namespace

void add_reductions(const Scope& core, const Scope& type) {
  add_moments(core, type);
  add_exponential(core, type);
  add_extrema(core, type);
  add_scans(core, type);
}

void add_sorting(const Scope& core, const Scope&) {
  constexpr const char* kAxis = "@axis The axis; None flattens the array first.\n";
  constexpr const char* kKth =
      "@kth The position that is final; negative ones count from the end.\n@raises ValueError Where kth is "
      "out of bounds.\n";
  def(core, "sort(a: array, /, axis: None | int = -1, *, stream: StreamOrDevice = None) -> array",
      std::string("The elements in ascending order, NaN last.\n") + kAxis +
          ">>> mx.sort(mx.array([3, 1, 2]))\narray([1, 2, 3], dtype=int32)\n",
      [](const Array& a, std::optional<int64_t> axis) { return sort(a, axis); });
  def(core, "argsort(a: array, /, axis: None | int = -1, *, stream: StreamOrDevice = None) -> array",
      std::string("The indices that sort the array, uint32; equal elements keep their order.\n") + kAxis +
          ">>> mx.argsort(mx.array([3, 1, 2]))\narray([1, 2, 0], dtype=uint32)\n",
      [](const Array& a, std::optional<int64_t> axis) { return argsort(a, axis); });
  def(core,
      "partition(a: array, /, kth: int, axis: None | int = -1, *, stream: StreamOrDevice = None) -> array",
      std::string(
          "The elements with position kth as in a sort, smaller ones before it and larger ones behind.\n") +
          kKth + kAxis + ">>> mx.partition(mx.array([3, 1, 2]), 1)[1]\narray(2, dtype=int32)\n",
      [](const Array& a, int64_t kth, std::optional<int64_t> axis) { return partition(a, kth, axis); });
  def(core,
      "argpartition(a: array, /, kth: int, axis: None | int = -1, *, stream: StreamOrDevice = None) -> array",
      std::string("The indices that partition the array, uint32.\n") + kKth + kAxis +
          ">>> mx.argpartition(mx.array([3, 1, 2]), 1)[1]\narray(2, dtype=uint32)\n",
      [](const Array& a, int64_t kth, std::optional<int64_t> axis) { return argpartition(a, kth, axis); });
  def(core, "topk(a: array, /, k: int, axis: None | int = -1, *, stream: StreamOrDevice = None) -> array",
      std::string("The k largest elements, in ascending order.\n@k How many.\n@raises ValueError For more "
                  "than there are.\n") +
          kAxis + ">>> mx.topk(mx.array([3, 1, 2]), 2)\narray([2, 3], dtype=int32)\n",
      [](const Array& a, int64_t k, std::optional<int64_t> axis) { return topk(a, k, axis); });
  def(core,
      "searchsorted(sorted_sequence: array, values: array, /, side: str = 'left', *, stream: StreamOrDevice "
      "= None) -> array",
      "Where values go in a sorted sequence to keep it sorted, uint32.\n@sorted_sequence Ascending 1-d "
      "array.\n"
      "@values Values to place.\n@side 'left': before equal elements, 'right': behind them.\n@raises "
      "ValueError For another side.\n"
      ">>> mx.searchsorted(mx.array([1, 2, 4]), mx.array([2, 3]))\narray([1, 2], dtype=uint32)\n",
      [](const Array& sorted, const Array& values, const std::string& side) {
        if (side != "left" && side != "right")
          throw ValueError(fmt::format("[searchsorted] side must be 'left' or 'right', got '{}'", side));
        return searchsorted(sorted, values, side == "right");
      });
  def(core, "diff(a: array, /, n: int = 1, axis: int = -1, *, stream: StreamOrDevice = None) -> array",
      "Differences of neighbours along an axis.\n@n How often to take them.\n@raises ValueError For a "
      "negative n.\n"
      ">>> mx.diff(mx.array([1, 4, 9]))\narray([3, 5], dtype=int32)\n",
      [](const Array& a, int64_t n, int64_t axis) { return diff(a, n, axis); });
  def(core,
      "unique(a: array, /, size: int, return_index: bool = False, return_inverse: bool = False, "
      "return_counts: bool = False, fill_value: scalar | array | None = None, *, stream: StreamOrDevice = "
      "None) "
      "-> array | tuple[array, ...]",
      "The `size` smallest distinct values of all elements, in ascending order. NaNs are distinct.\n"
      "@size How many: shapes do not depend on values.\n"
      "@return_index Give the index in the flattened array of each value's first element too.\n"
      "@return_inverse Give each element's place among the values too, of the shape of `a`.\n"
      "@return_counts Give the number of elements of each value too.\n"
      "@fill_value What follows where there are fewer values, with a count of 0; the smallest value by "
      "default.\n"
      "@returns The values, or a tuple of them and what was asked for.\n"
      "@raises ValueError For a negative size, several fill values, or an empty array without one.\n"
      ">>> mx.unique(mx.array([3, 1, 3]), size=2, return_counts=True)\n"
      "(array([1, 3], dtype=int32), array([1, 2], dtype=int32))\n",
      [](const Array& a, int64_t size, bool index, bool inverse, bool counts, Any fill) -> py::object {
        std::optional<Array> filler;
        if (fill.object != Py_None && !(filler = as_array(fill.object))) fill.wrong();
        const Unique u = unique(a, size, filler);
        std::vector<Array> out{u.values};
        if (index) out.push_back(u.first);
        if (inverse) out.push_back(u.inverse);
        if (counts) out.push_back(u.counts);
        return owned(out.size() == 1 ? to_python(out[0]) : to_python(ArrayTuple(out)));
      });
}

}  // namespace lamina::bind
