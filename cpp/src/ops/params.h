#pragma once

#include "graph/params.h"
#include "lamina/ops.h"

namespace lamina {

// Parameters of the structured ops. `field`: part of the plan; `size`: an argument of it. A visitor may write
// to the fields of parameters that are not const.
#define LAMINA_PARAMS(Type, body)                             \
  friend bool operator==(const Type&, const Type&) = default; \
  template <class V>                                          \
  void fields([[maybe_unused]] V& v) const {                  \
    body                                                      \
  }                                                           \
  template <class V>                                          \
  void fields([[maybe_unused]] V& v) {                        \
    body                                                      \
  }

struct AxesParams {  // reductions, transpose, expand_dims, squeeze
  Axes axes;
  LAMINA_PARAMS(AxesParams, v.field("axes", axes);)
};
struct AxisParams {  // concatenate, sort, argsort, take_along_axis
  int64_t axis = 0;
  LAMINA_PARAMS(AxisParams, v.field("axis", axis);)
};
struct SliceParams {
  Shape start;
  Strides strides;
  LAMINA_PARAMS(SliceParams, v.size("start", start); v.size("strides", strides);)
};
struct SliceUpdateParams {
  Shape start;
  Strides strides;
  LAMINA_PARAMS(SliceUpdateParams, v.size("start", start); v.size("strides", strides);)
};
struct AsStridedParams {
  Strides strides;
  int64_t offset = 0;
  LAMINA_PARAMS(AsStridedParams, v.size("strides", strides); v.size("offset", offset);)
};
struct ArangeParams {
  double start = 0, step = 1;
  int64_t int_start = 0, int_step = 1;
  LAMINA_PARAMS(ArangeParams, v.size("start", start); v.size("step", step); v.size("int_start", int_start);
                v.size("int_step", int_step);)
};
struct GatherParams {
  Axes axes;
  Shape slice_sizes;
  LAMINA_PARAMS(GatherParams, v.field("axes", axes); v.size("slice_sizes", slice_sizes);)
};
struct ScatterParams {
  Axes axes;
  ScatterMode mode = ScatterMode::kSet;
  LAMINA_PARAMS(ScatterParams, v.field("axes", axes); v.field("mode", mode);)
};
struct ScatterAxisParams {
  int64_t axis = 0;
  ScatterMode mode = ScatterMode::kSet;
  LAMINA_PARAMS(ScatterAxisParams, v.field("axis", axis); v.field("mode", mode);)
};
struct ArgReduceParams {
  int64_t axis = 0;
  bool largest = true;
  LAMINA_PARAMS(ArgReduceParams, v.field("axis", axis); v.field("largest", largest);)
};
struct ScanParams {
  ScanKind kind = ScanKind::kSum;
  int64_t axis = 0;
  bool reverse = false, inclusive = true;
  LAMINA_PARAMS(ScanParams, v.field("kind", kind); v.field("axis", axis); v.field("reverse", reverse);
                v.field("inclusive", inclusive);)
};
struct RandomBitsParams {
  int width = 4;
  LAMINA_PARAMS(RandomBitsParams, v.field("width", width);)
};
// Inputs of a packed matrix: its codes, then scales and biases where the format has them.
struct QuantParams {
  int group_size = 64, bits = 4;
  bool transpose = true;
  QuantizedMode mode = QuantizedMode::kExact;
  QuantFormat format = QuantFormat::kAffine;
  QuantSpec spec() const { return {format, group_size, bits}; }
  LAMINA_PARAMS(QuantParams, v.field("group_size", group_size); v.field("bits", bits);
                v.field("transpose", transpose); v.field("mode", mode); v.field("format", format);)
};
// Inputs: x, offset, then freqs where has_freqs.
struct RopeParams {
  int dims = 0;
  bool traditional = false, has_freqs = false, inverse = false;
  float base = 10000, scale = 1;
  LAMINA_PARAMS(RopeParams, v.field("dims", dims); v.field("traditional", traditional);
                v.field("has_freqs", has_freqs); v.field("inverse", inverse); v.size("base", base);
                v.size("scale", scale);)
};
// Inputs: q, k, v, then mask and sinks where present.
struct AttentionParams {
  float scale = 1;
  bool causal = false, has_mask = false, has_sinks = false;
  LAMINA_PARAMS(AttentionParams, v.size("scale", scale); v.field("causal", causal);
                v.field("has_mask", has_mask); v.field("has_sinks", has_sinks);)
};
// Inputs: queries, keys, values, tables, query ends, lengths, then sinks, key scales and value scales where
// present. A window or softcap of 0 is none.
struct PagedAttentionParams {
  float scale = 1, softcap = 0;
  int64_t window = 0;
  bool has_sinks = false, has_key_scales = false, has_value_scales = false;
  LAMINA_PARAMS(PagedAttentionParams, v.size("scale", scale); v.size("softcap", softcap);
                v.size("window", window); v.field("has_sinks", has_sinks);
                v.field("has_key_scales", has_key_scales); v.field("has_value_scales", has_value_scales);)
};
struct QuantizeKvParams {
  int bits = 8;
  LAMINA_PARAMS(QuantizeKvParams, v.field("bits", bits);)
};
// Inputs: x (N, spatial..., C), weight (O, spatial..., C / groups). One entry for each spatial axis.
struct ConvolutionParams {
  Shape stride, padding_lo, padding_hi, kernel_dilation, input_dilation;
  int64_t groups = 1;
  bool flip = false;
  LAMINA_PARAMS(ConvolutionParams, v.size("stride", stride); v.size("padding_lo", padding_lo);
                v.size("padding_hi", padding_hi); v.size("kernel_dilation", kernel_dilation);
                v.size("input_dilation", input_dilation); v.size("groups", groups); v.field("flip", flip);)
};
// From complex or real lines to spectra and back; a real line's spectrum has its first n / 2 + 1 numbers.
enum class FftKind : uint8_t { kForward, kInverse, kRealForward, kRealInverse };
struct FftParams {
  FftKind kind = FftKind::kForward;
  int64_t axis = 0;
  double scale = 1;  // of every result
  LAMINA_PARAMS(FftParams, v.field("kind", kind); v.field("axis", axis); v.size("scale", scale);)
};
struct TriangleParams {  // cholesky, solve_triangular
  bool upper = false;
  LAMINA_PARAMS(TriangleParams, v.field("upper", upper);)
};
// kThin: as many vectors as values; kFull: square matrices of vectors.
enum class SvdMode : uint8_t { kValues, kThin, kFull };
struct SvdParams {
  SvdMode mode = SvdMode::kFull;
  LAMINA_PARAMS(SvdParams, v.field("mode", mode);)
};
struct EigParams {  // eig, eigh; `upper` says which triangle of a Hermitian matrix counts
  bool vectors = true, upper = false;
  LAMINA_PARAMS(EigParams, v.field("vectors", vectors); v.field("upper", upper);)
};
#undef LAMINA_PARAMS

}  // namespace lamina
