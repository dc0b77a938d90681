#include <fmt/format.h>

#include "bindings/ops.h"
#include "core/fail.h"

namespace lamina::bind {
namespace {

// tensordot's axes: a count, or two lists.
std::pair<Axes, Axes> contracted_axes(const Any& any, const Array& a) {
  Axes left, right;
  if (const std::optional<int64_t> n = as_integer(any.object)) {
    if (*n < 0) throw ValueError(fmt::format("[tensordot] axes must not be negative, got {}", *n));
    for (int64_t i = 0; i < *n; ++i) {
      left.push_back(a.ndim() - *n + i);
      right.push_back(i);
    }
    return {left, right};
  }
  const auto items = as_items(any.object);
  if (!items || items->size() != 2) any.wrong();
  const std::optional<Axes> l = as_integers((*items)[0].ptr()), r = as_integers((*items)[1].ptr());
  if (!l || !r) any.wrong();
  return {*l, *r};
}

void add_partial_products(const Scope& core) {
  def(core,
      "block_masked_mm(a: array, b: array, /, block_size: int = 64, mask_out: array | None = None, mask_lhs: "
      "array | None = None, mask_rhs: array | None = None, *, stream: StreamOrDevice = None) -> array",
      "The matrix product of factors with square blocks left out, or scaled.\n@b Second factor.\n"
      "@block_size Rows and columns of a block; those at the far edges may be smaller.\n"
      "@mask_out Mask of the product, of shape (..., M / block_size, N / block_size), rounded up. A bool "
      "mask "
      "replaces blocks by 0, others multiply them.\n@mask_lhs Mask of `a`.\n@mask_rhs Mask of `b`.\n"
      "@raises ValueError Where shapes do not fit, or for factors that are not inexact.\n"
      ">>> keep = mx.array([[True, False]])\n>>> mx.block_masked_mm(mx.ones((2, 4)), mx.ones((4, 3)), 2, "
      "mask_lhs=keep)\narray([[2, 2, 2],\n       [2, 2, 2]], dtype=float32)\n",
      [](const Array& a, const Array& b, int64_t block_size, const std::optional<Array>& out,
         const std::optional<Array>& left,
         const std::optional<Array>& right) { return block_masked_mm(a, b, block_size, out, left, right); });
  def(core, "segmented_mm(a: array, b: array, /, segments: array, *, stream: StreamOrDevice = None) -> array",
      "The matrix product over each of several ranges of the inner axis.\n@a First factor, of shape (M, K).\n"
      "@b Second factor, of shape (K, N).\n@segments Where each range begins and ends, integers of shape "
      "(..., "
      "2). The result has shape (..., M, N).\n@raises ValueError Where shapes do not fit.\n"
      "@raises IndexError Where a range leaves the inner axis; when evaluated.\n"
      ">>> mx.segmented_mm(mx.ones((1, 5)), mx.ones((5, 1)), mx.array([[0, 2], [2, 5]])).flatten()\n"
      "array([2, 3], dtype=float32)\n",
      [](const Array& a, const Array& b, const Array& segments) { return segmented_mm(a, b, segments); });
}

void add_products(const Scope& core) {
  def(core, "matmul(a: array, b: array, /, *, stream: StreamOrDevice = None) -> array",
      "The matrix product over the last two axes; leading axes are batches and broadcast.\n"
      "@raises ValueError Where the inner dimensions differ.\n"
      ">>> mx.matmul(mx.array([[1.0, 2.0]]), mx.array([[3.0], [4.0]]))\narray([[11]], dtype=float32)\n",
      [](const Array& a, const Array& b) { return matmul(a, b); });
  def(core,
      "addmm(c: array, a: array, b: array, /, alpha: float = 1.0, beta: float = 1.0, *, stream: "
      "StreamOrDevice = None) "
      "-> array",
      "alpha * (a @ b) + beta * c.\n@c Array that broadcasts to the product.\n@b Second factor.\n@alpha "
      "Factor of the product.\n"
      "@beta Factor of c.\n@raises ValueError Where shapes do not fit.\n"
      ">>> mx.addmm(mx.array([1.0]), mx.array([[1.0, 2.0]]), mx.array([[3.0], [4.0]]))\narray([[12]], "
      "dtype=float32)\n",
      [](const Array& c, const Array& a, const Array& b, double alpha, double beta) {
        return addmm(c, a, b, static_cast<float>(alpha), static_cast<float>(beta));
      });
  def(core, "inner(a: array, b: array, /, *, stream: StreamOrDevice = None) -> array",
      "The sum of products over the last axes.\n@b Second input, its last axis as long as the first's.\n"
      "@raises ValueError Where the last axes differ in length.\n"
      ">>> mx.inner(mx.array([1.0, 2.0]), mx.array([3.0, 4.0]))\narray(11, dtype=float32)\n",
      [](const Array& a, const Array& b) { return inner(a, b); });
  def(core, "outer(a: array, b: array, /, *, stream: StreamOrDevice = None) -> array",
      "All products of an element of `a` and one of `b`, both flattened.\n@b Second input.\n"
      ">>> mx.outer(mx.array([1, 2]), mx.array([3, 4]))\narray([[3, 4],\n       [6, 8]], dtype=int32)\n",
      [](const Array& a, const Array& b) { return outer(a, b); });
  def(core,
      "tensordot(a: array, b: array, /, axes: int | Sequence[Sequence[int]] = 2, *, stream: StreamOrDevice = "
      "None) -> "
      "array",
      "The sum of products over pairs of axes.\n@b Second input.\n"
      "@axes Two lists of axes, or n for the last n of `a` and the first n of `b`.\n"
      "@raises ValueError Where the axes differ in length.\n"
      ">>> mx.tensordot(mx.ones((2, 3)), mx.ones((3, 4)), axes=1).shape\n(2, 4)\n",
      [](const Array& a, const Array& b, Any axes) {
        const auto [left, right] = contracted_axes(axes, a);
        return tensordot(a, b, left, right);
      });
  def(core, "vecdot(a: array, b: array, /, *, axis: int = -1, stream: StreamOrDevice = None) -> array",
      "The dot product along an axis, the first input conjugated.\n@raises ValueError Where the axes differ "
      "in length.\n"
      ">>> mx.vecdot(mx.array([1, 2]), mx.array([3, 4]))\narray(11, dtype=int32)\n",
      [](const Array& a, const Array& b, int64_t axis) { return vecdot(a, b, axis); });
  def(core, "kron(a: array, b: array, *, stream: StreamOrDevice = None) -> array",
      "The Kronecker product.\n@b Second input.\n>>> mx.kron(mx.array([1, 2]), mx.array([1, 10]))\narray([1, "
      "10, 2, 20], dtype=int32)\n",
      [](const Array& a, const Array& b) { return kron(a, b); });
  def(core,
      "gather_mm(a: array, b: array, /, lhs_indices: array | None = None, rhs_indices: array | None = None, "
      "*, "
      "sorted_indices: bool = False, stream: StreamOrDevice = None) -> array",
      "The matrix product of matrices picked from the batches.\n@b Second factor.\n"
      "@lhs_indices Flat indices into the batch of `a`; all of it by default.\n"
      "@rhs_indices Flat indices into the batch of `b`; all of it by default.\n"
      "@sorted_indices Whether the indices ascend; the result is the same.\n@raises ValueError Where shapes "
      "do not fit.\n"
      ">>> mx.gather_mm(mx.ones((1, 2, 3)), mx.ones((5, 3, 4)), rhs_indices=mx.array([4, 0])).shape\n(2, 2, "
      "4)\n",
      [](const Array& a, const Array& b, const std::optional<Array>& left, const std::optional<Array>& right,
         bool) { return gather_mm(a, b, left, right); });
  add_partial_products(core);
}

constexpr const char* kPacked =
    "@w Packed matrix, uint32, as `quantize` makes it; or uint8 blocks of a GGUF file, (..., rows, bytes of "
    "a "
    "row).\n"
    "@scales Scale of each group; None for blocks of GGUF files, which hold theirs.\n"
    "@biases Bias of each group; in mode 'affine' only.\n";
constexpr const char* kFormat =
    "@group_size Elements of a row that share a scale; the mode's default where not given.\n"
    "@bits Bits of an element; the mode's default where not given.\n"
    "@mode The format: 'affine' (groups of 32, 64 or 128; 1 to 6 or 8 bits; 64 and 4 by default), 'mxfp4' "
    "(32, 4), 'mxfp8' (32, 8) or 'nvfp4' (16, 4). For blocks of GGUF files 'q4_0', 'q4_1', 'q5_0', 'q5_1', "
    "'q8_0', 'iq4_nl' (32), 'q2_k', 'q3_k', 'q4_k', 'q5_k', 'q6_k' or 'iq4_xs' (256). For checkpoints of "
    "8-bit "
    "floats 'fp8' (128, 8): E4M3, and float32 scales as uint8, four bytes each; it cannot be made here.\n";

constexpr const char* kGlobal =
    "@global_scale Mode 'nvfp4' only: one float32 (or one for each matrix of a batch), as a rule the largest "
    "size in the matrix, that lets both number formats be used fully.\n";
constexpr const char* kActivations =
    "@activations 'float': x as it is. 'int8': x rounded to 8 bits in each group of the weights, which is "
    "faster; a row then gives the same bits alone as in any batch. Modes 'mxfp8' and 'fp8', and products "
    "with "
    "a matrix that is not transposed, take x as it is either way.\n";
constexpr const char* kRaises = "@raises ValueError For shapes, dtypes or formats that do not fit.\n";

using OptArray = std::optional<Array>;
using OptInt = std::optional<int64_t>;

void add_packing(const Scope& core) {
  def(core,
      "quantize(w: array, /, group_size: int | None = None, bits: int | None = None, mode: str = 'affine', "
      "*, "
      "global_scale: array | None = None, stream: StreamOrDevice = None) -> tuple[array, array, array]",
      std::string("A matrix in few bits: every group of the last axis shares a scale.\n"
                  "@w Matrix of float32, float16 or bfloat16; its last axis a multiple of group_size.\n") +
          kFormat + kGlobal +
          "@returns Packed words (uint32) and scales, in mode 'affine' of w's dtype and followed by biases, "
          "otherwise uint8.\n" +
          kRaises +
          ">>> w, scales, biases = mx.quantize(mx.ones((2, 64)), group_size=32, bits=4)\n"
          ">>> w.shape, scales.shape\n((2, 8), (2, 2))\n"
          ">>> w, scales = mx.quantize(mx.ones((2, 64)), mode='mxfp8')\n"
          ">>> w.shape, scales.dtype\n((2, 16), lamina.core.uint8)\n",
      [](const Array& w, OptInt group, OptInt bits, const std::string& mode, const OptArray& global_scale) {
        return ArrayTuple(quantize(w, quant_spec(mode, group, bits, "quantize"), global_scale));
      });
  def(core,
      "dequantize(w: array, /, scales: array | None = None, biases: array | None = None, group_size: int | "
      "None = None, "
      "bits: int | None = None, mode: str = 'affine', global_scale: array | None = None, dtype: Dtype | None "
      "= "
      "None, *, stream: StreamOrDevice = None) -> array",
      std::string("The matrix that packed words, scales and biases stand for.\n") + kPacked + kFormat +
          kGlobal +
          "@dtype Dtype of the result; by default that of the scales in mode 'affine', float32 with a "
          "global_scale and for GGUF blocks, else bfloat16.\n" +
          kRaises +
          ">>> parts = mx.quantize(mx.ones((2, 64)))\n>>> mx.dequantize(*parts).shape\n(2, 64)\n"
          ">>> mx.dequantize(*mx.quantize(mx.ones((2, 64)), mode='nvfp4'), mode='nvfp4').dtype\n"
          "lamina.core.bfloat16\n",
      [](const Array& w, const OptArray& scales, const OptArray& biases, OptInt group, OptInt bits,
         const std::string& mode, const OptArray& global_scale, std::optional<Dtype> t) {
        return dequantize(w, scales, biases, quant_spec(mode, group, bits, "dequantize"), t, global_scale);
      });
}

QuantizedMode quantized_mode(const std::string& activations, const char* op) {
  if (activations == "float") return QuantizedMode::kExact;
  if (activations == "int8") return QuantizedMode::kInt8;
  fail<ValueError>(op, "activations must be 'float' or 'int8', got '{}'", activations);
}

void add_packed_products(const Scope& core) {
  def(core,
      "quantized_matmul(x: array, w: array, /, scales: array | None = None, biases: array | None = None, "
      "transpose: bool = "
      "True, group_size: int | None = None, bits: int | None = None, mode: str = 'affine', *, activations: "
      "str "
      "= 'float', stream: StreamOrDevice = None) -> array",
      std::string("The product with a packed matrix, in its packed layout.\n"
                  "@x Array of float32, float16 or bfloat16.\n"
                  "@transpose Multiply with the transposed matrix.\n") +
          kPacked + kFormat + kActivations + kRaises +
          ">>> parts = mx.quantize(mx.ones((3, 64)))\n"
          ">>> mx.quantized_matmul(mx.ones((2, 64)), *parts).shape\n(2, 3)\n",
      [](const Array& x, const Array& w, const OptArray& scales, const OptArray& biases, bool transposed,
         OptInt group, OptInt bits, const std::string& mode, const std::string& activations) {
        const char* op = "quantized_matmul";
        return quantized_matmul(x, w, scales, biases, quant_spec(mode, group, bits, op), transposed,
                                quantized_mode(activations, op));
      });
  def(core,
      "gather_qmm(x: array, w: array, /, scales: array | None = None, biases: array | None = None, "
      "lhs_indices: array | "
      "None = None, rhs_indices: array | None = None, transpose: bool = True, group_size: int | None = None, "
      "bits: int | None = None, mode: str = 'affine', global_scale: array | None = None, *, sorted_indices: "
      "bool = False, activations: str = 'float', stream: StreamOrDevice = None) -> array",
      std::string("The product with packed matrices picked from a batch, which are read where they lie.\n"
                  "@transpose Multiply with the transposed matrices.\n") +
          kPacked + kFormat +
          "@global_scale Mode 'nvfp4' only: float32, a scale for each of the packed matrices.\n"
          "@lhs_indices Flat indices into the batch of `x`; all of it by default.\n"
          "@rhs_indices Flat indices into the batch of `w`; all of it by default.\n"
          "@sorted_indices Whether the indices ascend; the result is the same.\n" +
          kActivations + kRaises +
          ">>> parts = mx.quantize(mx.ones((5, 3, 64)))\n"
          ">>> mx.gather_qmm(mx.ones((1, 2, 64)), *parts, rhs_indices=mx.array([4, 0])).shape\n(2, 2, 3)\n",
      [](const Array& x, const Array& w, const OptArray& scales, const OptArray& biases, const OptArray& left,
         const OptArray& right, bool transposed, OptInt group, OptInt bits, const std::string& mode,
         const OptArray& global_scale, bool, const std::string& activations) {
        const char* op = "gather_qmm";
        return gather_qmm(x, w, scales, biases, left, right, quant_spec(mode, group, bits, op), transposed,
                          global_scale, quantized_mode(activations, op));
      });
}

constexpr const char* kQqmmDoc =
    "@x Array of float32, float16 or bfloat16; its rows are quantized.\n"
    "@w Matrix whose last axis is as long as x's: of floats, which are quantized, or packed words (uint32).\n"
    "@scales Scales of a packed `w`.\n@group_size Elements of a row that share a scale; the mode's.\n"
    "@bits Bits of an element; the mode's.\n@mode 'nvfp4', 'mxfp8' or 'mxfp4'.\n"
    "@global_scale_x Mode 'nvfp4' only, with global_scale_w: one float32 for `x`; see `quantize`.\n";

void add_quantized_pairs(const Scope& core) {
  def(core,
      "qqmm(x: array, w: array, scales: array | None = None, group_size: int | None = None, bits: int | None "
      "= "
      "None, mode: str = 'nvfp4', global_scale_x: array | None = None, global_scale_w: array | None = None, "
      "*, "
      "stream: StreamOrDevice = None) -> array",
      std::string("x times the transposed w, both quantized first. Gradients are those of the product of the "
                  "rounded matrices.\n") +
          kQqmmDoc + "@global_scale_w One float32 for `w`, the one it was packed with.\n" + kRaises +
          ">>> mx.qqmm(mx.ones((2, 64)), mx.ones((3, 64)), mode='mxfp8')\n"
          "array([[64, 64, 64],\n       [64, 64, 64]], dtype=float32)\n",
      [](const Array& x, const Array& w, const OptArray& scales, OptInt group, OptInt bits,
         const std::string& mode, const OptArray& global_x, const OptArray& global_w) {
        return qqmm(x, w, scales, quant_spec(mode, group, bits, "qqmm"), global_x, global_w);
      });
  def(core,
      "gather_qqmm(x: array, w: array, /, scales: array | None = None, lhs_indices: array | None = None, "
      "rhs_indices: array | None = None, group_size: int | None = None, bits: int | None = None, mode: str = "
      "'nvfp4', global_scale_x: array | None = None, global_scale_w: array | None = None, *, sorted_indices: "
      "bool = False, stream: StreamOrDevice = None) -> array",
      std::string("`qqmm` of matrices picked from batches.\n") + kQqmmDoc +
          "@global_scale_w One float32 for `w`, or one for each of its matrices.\n"
          "@lhs_indices Flat indices into the batch of `x`; all of it by default.\n"
          "@rhs_indices Flat indices into the batch of `w`; all of it by default.\n"
          "@sorted_indices Whether the indices ascend; the result is the same.\n" +
          kRaises +
          ">>> mx.gather_qqmm(mx.ones((1, 2, 64)), mx.ones((5, 3, 64)), rhs_indices=mx.array([4, 0])).shape\n"
          "(2, 2, 3)\n",
      [](const Array& x, const Array& w, const OptArray& scales, const OptArray& left, const OptArray& right,
         OptInt group, OptInt bits, const std::string& mode, const OptArray& global_x,
         const OptArray& global_w, bool) {
        const QuantSpec spec = quant_spec(mode, group, bits, "gather_qqmm");
        return gather_qqmm(x, w, scales, left, right, spec, global_x, global_w);
      });
}

}  // namespace

void add_linear_algebra(const Scope& core) {
  add_products(core);
  def(core,
      "hadamard_transform(a: array, scale: float | None = None, stream: StreamOrDevice = None) -> array",
      "The product of a Hadamard matrix and the last axis, whose length is m * 2^k with m in (1, 12, 20, "
      "28).\n"
      "@a Array of shape (..., N).\n@scale Factor of the result; 1 / sqrt(N) by default: orthogonal.\n"
      "@raises ValueError For another length, an empty array or complex numbers.\n"
      ">>> mx.hadamard_transform(mx.array([1.0, 2.0]), scale=1.0)\narray([3, -1], dtype=float32)\n",
      [](const Array& a, std::optional<double> scale) { return hadamard_transform(a, scale); });
}

void add_quantization(const Scope& core) {
  def(core, "to_fp8(x: array, *, stream: StreamOrDevice = None) -> array",
      "Floats as the bytes (uint8) of the 8-bit format E4M3, rounded to nearest even. Sizes beyond 448 "
      "become "
      "448; NaN stays NaN.\n@x Array of real floats.\n@raises ValueError For other dtypes.\n"
      ">>> mx.to_fp8(mx.array([1.0, -448.0]))\narray([56, 254], dtype=uint8)\n",
      [](const Array& x) { return to_fp8(x); });
  def(core, "from_fp8(x: array, dtype: Dtype = bfloat16, *, stream: StreamOrDevice = None) -> array",
      "The numbers that bytes of the 8-bit float format E4M3 stand for.\n@x Array of uint8.\n"
      "@dtype A real floating dtype.\n@raises ValueError For other dtypes.\n"
      ">>> mx.from_fp8(mx.array([56, 254], mx.uint8), mx.float32)\narray([1, -448], dtype=float32)\n",
      [](const Array& x, Dtype t) { return from_fp8(x, t); });
  add_packing(core);
  add_packed_products(core);
  add_quantized_pairs(core);
}

}  // namespace lamina::bind
