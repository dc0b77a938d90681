#include <fmt/format.h>

#include "bindings/ops.h"

namespace lamina::bind {
namespace {

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
    "'q8_0', 'iq4_nl' (32), 'q2_k', 'q3_k', 'q4_k', 'q5_k', 'q6_k' or 'iq4_xs' (256).\n";

constexpr const char* kGlobal =
    "@global_scale One float32, mode 'nvfp4' only: the largest size in the whole matrix, which scales all "
    "groups "
    "so that both number formats are used fully.\n";
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
          ">>> w.shape, scales.dtype\n((2, 16), mlx.core.uint8)\n",
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
          "mlx.core.bfloat16\n",
      [](const Array& w, const OptArray& scales, const OptArray& biases, OptInt group, OptInt bits,
         const std::string& mode, const OptArray& global_scale, std::optional<Dtype> t) {
        return dequantize(w, scales, biases, quant_spec(mode, group, bits, "dequantize"), t, global_scale);
      });
}

void add_packed_products(const Scope& core) {
  def(core,
      "quantized_matmul(x: array, w: array, /, scales: array | None = None, biases: array | None = None, "
      "transpose: bool = "
      "True, group_size: int | None = None, bits: int | None = None, mode: str = 'affine', *, stream: "
      "StreamOrDevice = None) -> array",
      std::string("The product with a packed matrix, in its packed layout.\n"
                  "@x Array of float32, float16 or bfloat16.\n"
                  "@transpose Multiply with the transposed matrix.\n") +
          kPacked + kFormat + kRaises +
          ">>> parts = mx.quantize(mx.ones((3, 64)))\n"
          ">>> mx.quantized_matmul(mx.ones((2, 64)), *parts).shape\n(2, 3)\n",
      [](const Array& x, const Array& w, const OptArray& scales, const OptArray& biases, bool transposed,
         OptInt group, OptInt bits, const std::string& mode) {
        const QuantSpec spec = quant_spec(mode, group, bits, "quantized_matmul");
        return quantized_matmul(x, w, scales, biases, spec, transposed);
      });
  def(core,
      "gather_qmm(x: array, w: array, /, scales: array | None = None, biases: array | None = None, "
      "lhs_indices: array | "
      "None = None, rhs_indices: array | None = None, transpose: bool = True, group_size: int | None = None, "
      "bits: int | None = None, mode: str = 'affine', global_scale: array | None = None, *, sorted_indices: "
      "bool = False, stream: StreamOrDevice = None) -> array",
      std::string("The product with packed matrices picked from a batch.\n"
                  "@transpose Multiply with the transposed matrices.\n") +
          kPacked + kFormat +
          "@global_scale Mode 'nvfp4' only: float32, a scale for each of the packed matrices.\n"
          "@lhs_indices Flat indices into the batch of `x`; all of it by default.\n"
          "@rhs_indices Flat indices into the batch of `w`; all of it by default.\n"
          "@sorted_indices Whether the indices ascend; the result is the same.\n" +
          kRaises +
          ">>> parts = mx.quantize(mx.ones((5, 3, 64)))\n"
          ">>> mx.gather_qmm(mx.ones((1, 2, 64)), *parts, rhs_indices=mx.array([4, 0])).shape\n(2, 2, 3)\n",
      [](const Array& x, const Array& w, const OptArray& scales, const OptArray& biases, const OptArray& left,
         const OptArray& right, bool transposed, OptInt group, OptInt bits, const std::string& mode,
         const OptArray& global_scale, bool) {
        const QuantSpec spec = quant_spec(mode, group, bits, "gather_qmm");
        return gather_qmm(x, w, scales, biases, left, right, spec, transposed, global_scale);
      });
}

}  // namespace

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
}

}  // namespace lamina::bind
