#include <fmt/format.h>

#include "bindings/ops.h"

namespace lamina::bind {
namespace {

// What all of them say of their operands.
std::string convolution_doc(int axes, const char* summary, const char* raises, const char* example) {
  const char* spatial[] = {"", "L", "H, W", "D, H, W"};
  const char* kernel[] = {"", "K", "KH, KW", "KD, KH, KW"};
  const char* which = axes == 1 ? "" : ", one number or one for each spatial axis";
  return fmt::format(
      "{}\n"
      "@input Array of shape (N, {}, C), floating-point or complex.\n"
      "@weight Array of shape (O, {}, C / groups).\n"
      "@stride Distance between neighbouring windows{}.\n"
      "@padding Zeros before and behind the input{}; a negative number crops.\n"
      "@dilation Distance between neighbouring weights{}.\n"
      "@groups Number of groups of channels that are convolved on their own.\n"
      "@returns Shape (N, {}, O) with the new lengths, of the promoted dtype.\n"
      "@raises ValueError {}\n{}",
      summary, spatial[axes], kernel[axes], which, which, which, spatial[axes], raises, example);
}

constexpr const char* kRaises =
    "Where ranks, channels or groups do not fit, a number is out of range, a dtype is an integer, or the "
    "kernel is "
    "longer than the padded input.";
constexpr const char* kTransposedRaises =
    "Where ranks, channels or groups do not fit, a number is out of range, a dtype is an integer, or no "
    "output is "
    "left.";

std::string transposed_doc(int axes, const char* example) {
  const char* summary =
      "Transposed convolution, channels last: the map from a convolution's outputs to its inputs.\n\n"
      "Each input is spread over the outputs under the kernel that starts `stride` further on than its "
      "neighbour's; "
      "an axis gets `(L - 1) * stride + dilation * (K - 1) + 1 - 2 * padding + output_padding` outputs.";
  std::string text = convolution_doc(axes, summary, kTransposedRaises, example);
  const size_t at = text.find("@padding");
  text.replace(at, text.find('\n', at) - at,
               "@padding Outputs left out at both ends; a negative number adds zeros.");
  return text.insert(text.find("@groups"), "@output_padding Outputs added at the far end.\n");
}

void add_plain(const Scope& core) {
  def(core,
      "conv1d(input: array, weight: array, /, stride: int = 1, padding: int = 0, dilation: int = 1, groups: "
      "int = "
      "1, *, stream: StreamOrDevice = None) -> array",
      convolution_doc(
          1, "Convolution over one spatial axis, channels last; the weights are not reversed.", kRaises,
          ">>> x = mx.array([1.0, 2.0, 4.0]).reshape(1, 3, 1)\n"
          ">>> mx.conv1d(x, mx.array([1.0, 10.0]).reshape(1, 2, 1)).tolist()\n[[[21.0], [42.0]]]\n"),
      [](const Array& x, const Array& w, int64_t stride, int64_t padding, int64_t dilation, int64_t groups) {
        return conv1d(x, w, {stride}, {padding}, {dilation}, groups);
      });
  def(core,
      "conv2d(input: array, weight: array, /, stride: int | tuple[int, int] = 1, padding: int | tuple[int, "
      "int] = "
      "0, dilation: int | tuple[int, int] = 1, groups: int = 1, *, stream: StreamOrDevice = None) -> array",
      convolution_doc(
          2, "Convolution over two spatial axes, channels last; the weights are not reversed.", kRaises,
          ">>> mx.conv2d(mx.ones((1, 5, 6, 3)), mx.ones((8, 3, 3, 3)), stride=(2, 1)).shape\n(1, 2, 4, 8)\n"),
      [](const Array& x, const Array& w, const Shape& stride, const Shape& padding, const Shape& dilation,
         int64_t groups) { return conv2d(x, w, stride, padding, dilation, groups); });
  def(core,
      "conv3d(input: array, weight: array, /, stride: int | tuple[int, int, int] = 1, padding: int | "
      "tuple[int, "
      "int, int] = 0, dilation: int | tuple[int, int, int] = 1, groups: int = 1, *, stream: StreamOrDevice = "
      "None) "
      "-> array",
      convolution_doc(3, "Convolution over three spatial axes, channels last; the weights are not reversed.",
                      kRaises,
                      ">>> mx.conv3d(mx.ones((1, 4, 4, 4, 2)), mx.ones((3, 2, 2, 2, 2)), padding=1).shape\n"
                      "(1, 5, 5, 5, 3)\n"),
      [](const Array& x, const Array& w, const Shape& stride, const Shape& padding, const Shape& dilation,
         int64_t groups) { return conv3d(x, w, stride, padding, dilation, groups); });
}

void add_transposed(const Scope& core) {
  def(core,
      "conv_transpose1d(input: array, weight: array, /, stride: int = 1, padding: int = 0, dilation: int = "
      "1, "
      "output_padding: int = 0, groups: int = 1, *, stream: StreamOrDevice = None) -> array",
      transposed_doc(1,
                     ">>> x = mx.array([1.0, 2.0]).reshape(1, 2, 1)\n"
                     ">>> mx.conv_transpose1d(x, mx.array([1.0, 10.0]).reshape(1, 2, 1)).tolist()\n"
                     "[[[1.0], [12.0], [20.0]]]\n"),
      [](const Array& x, const Array& w, int64_t stride, int64_t padding, int64_t dilation,
         int64_t output_padding, int64_t groups) {
        return conv_transpose1d(x, w, {stride}, {padding}, {dilation}, {output_padding}, groups);
      });
  def(core,
      "conv_transpose2d(input: array, weight: array, /, stride: int | tuple[int, int] = 1, padding: int | "
      "tuple[int, int] = 0, dilation: int | tuple[int, int] = 1, output_padding: int | tuple[int, int] = 0, "
      "groups: "
      "int = 1, *, stream: StreamOrDevice = None) -> array",
      transposed_doc(2,
                     ">>> mx.conv_transpose2d(mx.ones((1, 4, 4, 3)), mx.ones((8, 2, 2, 3)), stride=2).shape\n"
                     "(1, 8, 8, 8)\n"),
      [](const Array& x, const Array& w, const Shape& stride, const Shape& padding, const Shape& dilation,
         const Shape& output_padding, int64_t groups) {
        return conv_transpose2d(x, w, stride, padding, dilation, output_padding, groups);
      });
  def(core,
      "conv_transpose3d(input: array, weight: array, /, stride: int | tuple[int, int, int] = 1, padding: int "
      "| "
      "tuple[int, int, int] = 0, dilation: int | tuple[int, int, int] = 1, output_padding: int | tuple[int, "
      "int, "
      "int] = 0, groups: int = 1, *, stream: StreamOrDevice = None) -> array",
      transposed_doc(
          3,
          ">>> mx.conv_transpose3d(mx.ones((1, 2, 2, 2, 2)), mx.ones((4, 2, 2, 2, 2)), stride=2).shape\n"
          "(1, 4, 4, 4, 4)\n"),
      [](const Array& x, const Array& w, const Shape& stride, const Shape& padding, const Shape& dilation,
         const Shape& output_padding, int64_t groups) {
        return conv_transpose3d(x, w, stride, padding, dilation, output_padding, groups);
      });
}

// conv_general's padding: for both ends alike, or two lists.
std::pair<Shape, Shape> padding_of(const Any& any) {
  if (const std::optional<Shape> both = as_integers(any.object)) return {*both, *both};
  const auto items = as_items(any.object);
  if (!items || items->size() != 2) any.wrong();
  const std::optional<Shape> lo = as_integers((*items)[0].ptr()), hi = as_integers((*items)[1].ptr());
  if (!lo || !hi) any.wrong();
  return {*lo, *hi};
}

void add_general(const Scope& core) {
  def(core,
      "conv_general(input: array, weight: array, /, stride: int | Sequence[int] = 1, padding: int | "
      "Sequence[int] | "
      "tuple[Sequence[int], Sequence[int]] = 0, kernel_dilation: int | Sequence[int] = 1, input_dilation: "
      "int | "
      "Sequence[int] = 1, groups: int = 1, flip: bool = False, *, stream: StreamOrDevice = None) -> array",
      std::string("Convolution over 1 to 3 spatial axes, channels last, with every parameter of its kind.\n"
                  "@input Array of shape (N, spatial..., C), floating-point or complex.\n"
                  "@weight Array of shape (O, spatial..., C / groups).\n"
                  "@stride Distance between neighbouring windows, one number or one for each spatial axis.\n"
                  "@padding Zeros before and behind the input, one number, one for each spatial axis, or a "
                  "pair of lists: "
                  "before and behind; negative numbers crop.\n"
                  "@kernel_dilation Distance between neighbouring weights.\n"
                  "@input_dilation Distance between neighbouring inputs; zeros lie between them.\n"
                  "@groups Number of groups of channels that are convolved on their own.\n"
                  "@flip Whether the kernel is read backwards along the spatial axes.\n"
                  "@returns Shape (N, spatial..., O) with the new lengths, of the promoted dtype.\n"
                  "@raises ValueError ") +
          kRaises +
          "\n>>> x = mx.array([1.0, 2.0, 4.0]).reshape(1, 3, 1)\n"
          ">>> w = mx.array([1.0, 10.0]).reshape(1, 2, 1)\n"
          ">>> mx.conv_general(x, w, padding=([1], [0]), flip=True).tolist()\n[[[1.0], [12.0], [24.0]]]\n",
      [](const Array& x, const Array& w, const Shape& stride, Any padding, const Shape& kernel_dilation,
         const Shape& input_dilation, int64_t groups, bool flipped) {
        const auto [lo, hi] = padding_of(padding);
        return conv_general(x, w, {stride, lo, hi, kernel_dilation, input_dilation, groups, flipped});
      });
  def(core, "convolve(a: array, v: array, /, mode: str = 'full', *, stream: StreamOrDevice = None) -> array",
      "The convolution of two sequences, the second one reversed, as in NumPy.\n"
      "@a Array of shape (N,), floating-point or complex.\n@v Array of shape (M,).\n"
      "@mode 'full': every overlap, N + M - 1 elements; 'same': the middle max(N, M) of them; 'valid': whole "
      "overlaps, |N - M| + 1 elements.\n"
      "@raises ValueError For another mode, arrays that are empty or not of one axis, or integers.\n"
      ">>> mx.convolve(mx.array([1.0, 2.0, 3.0]), mx.array([1.0, 10.0]))\narray([1, 12, 23, 30], "
      "dtype=float32)\n",
      [](const Array& a, const Array& v, const std::string& mode) {
        if (mode == "full") return convolve(a, v, ConvolveMode::kFull);
        if (mode == "same") return convolve(a, v, ConvolveMode::kSame);
        if (mode == "valid") return convolve(a, v, ConvolveMode::kValid);
        throw ValueError(fmt::format("[convolve] wants mode 'full', 'same' or 'valid', got '{}'", mode));
      });
}

}  // namespace

void add_convolutions(const Scope& core) {
  add_plain(core);
  add_transposed(core);
  add_general(core);
}

}  // namespace lamina::bind
