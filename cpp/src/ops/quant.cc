#include <algorithm>

#include "ops/common.h"
#include "quant/affine.h"
#include "quant/formats.h"
#include "quant/gguf_blocks.h"

namespace lamina {
namespace {

using OptArray = std::optional<Array>;

bool is_stored_float(Dtype t) { return is_floating(t) && t != Dtype::kFloat64; }

void check_spec(const QuantSpec& s, std::string_view op) {
  if (s.format == QuantFormat::kAffine) {
    if (affine_supported(s.group_size, s.bits)) return;
    fail<ValueError>(
        op, "group_size {} with {} bits is not supported; group sizes are 32, 64, 128, bits 2 to 6 or 8",
        s.group_size, s.bits);
  }
  const BlockFormat& f = block_format(s.format);
  if (s.group_size != f.block || s.bits != f.bits) {
    fail<ValueError>(op, "mode '{}' has a group_size of {} and {} bits, got {} and {}", f.name, f.block,
                     f.bits, s.group_size, s.bits);
  }
}

void check_affine(const Array& w, const OptArray& scales, const OptArray& biases, const QuantSpec& s,
                  const char* op) {
  if (!scales || !biases) fail<ValueError>(op, "mode 'affine' wants scales and biases, got None");
  if (w.dtype() != Dtype::kUInt32) fail<DtypeError>(op, "w must be uint32 words, got {}", w.dtype());
  if (w.ndim() < 2) fail<ShapeError>(op, "w wants at least 2 axes, got shape {}", w.shape());
  if (!is_stored_float(scales->dtype()) || scales->dtype() != biases->dtype()) {
    fail<DtypeError>(op, "scales and biases must share float32, float16 or bfloat16, got {} and {}",
                     scales->dtype(), biases->dtype());
  }
  Shape wanted = w.shape();
  wanted.back() = wanted.back() * 32 / s.bits / s.group_size;
  if (scales->shape() != wanted || biases->shape() != wanted ||
      wanted.back() * s.group_size * s.bits != w.shape(-1) * 32) {
    fail<ShapeError>(op,
                     "w of {} with group_size {} and {} bits wants scales and biases of {}, got {} and {}",
                     w.shape(), s.group_size, s.bits, wanted, scales->shape(), biases->shape());
  }
}

void check_blocks(const Array& w, const OptArray& scales, const OptArray& biases, const BlockFormat& f,
                  const char* op) {
  if (biases) fail<ValueError>(op, "mode '{}' has no biases, got an array of {}", f.name, biases->shape());
  if (scales.has_value() != (f.scale_bytes > 0)) {
    fail<ValueError>(op, "mode '{}' {} scales, got {}", f.name, f.scale_bytes > 0 ? "wants" : "has no",
                     scales ? "an array" : "None");
  }
  if (w.dtype() != f.code_dtype) {
    fail<DtypeError>(op, "mode '{}' wants w of {}, got {}", f.name, f.code_dtype, w.dtype());
  }
  if (w.ndim() < 2) fail<ShapeError>(op, "w wants at least 2 axes, got shape {}", w.shape());
  const int64_t bytes = w.shape(-1) * static_cast<int64_t>(itemsize(w.dtype()));
  if (bytes % f.code_bytes != 0) {
    fail<ShapeError>(op, "mode '{}' wants rows of whole blocks of {} bytes, got w of {} {}", f.name,
                     f.code_bytes, w.shape(), w.dtype());
  }
  if (!scales) return;
  if (scales->dtype() != Dtype::kUInt8) {
    fail<DtypeError>(op, "mode '{}' wants scales of uint8, got {}", f.name, scales->dtype());
  }
  Shape wanted = w.shape();
  wanted.back() = bytes / f.code_bytes * f.scale_bytes;
  if (scales->shape() != wanted) {
    fail<ShapeError>(op, "mode '{}' and w of {} want scales of {}, got {}", f.name, w.shape(), wanted,
                     scales->shape());
  }
}

// Checks a packed matrix and returns the number of its columns.
int64_t packed_cols(const Array& w, const OptArray& scales, const OptArray& biases, const QuantSpec& s,
                    const char* op) {
  check_spec(s, op);
  if (s.format == QuantFormat::kAffine) {
    check_affine(w, scales, biases, s, op);
    return scales->shape(-1) * s.group_size;
  }
  const BlockFormat& f = block_format(s.format);
  check_blocks(w, scales, biases, f, op);
  return w.shape(-1) * static_cast<int64_t>(itemsize(w.dtype())) / f.code_bytes * f.block;
}

// The global scales of w's matrices along one axis, checked.
OptArray global_scales(const OptArray& g, const Array& w, const QuantSpec& s, const char* op) {
  if (!g) return g;
  if (s.format != QuantFormat::kNvfp4) fail<ValueError>(op, "only mode 'nvfp4' takes a global_scale");
  if (g->dtype() != Dtype::kFloat32) fail<DtypeError>(op, "global_scale must be float32, got {}", g->dtype());
  const int64_t matrices = matrix_count(w);
  if (g->size() != 1 && g->size() != matrices) {
    fail<ShapeError>(op, "global_scale must be one number or one for each of {} matrices, got shape {}",
                     matrices, g->shape());
  }
  return reshape(*g, {g->size()});
}

std::vector<Array> parts_of(const Array& w, const OptArray& scales, const OptArray& biases) {
  std::vector<Array> parts{w};
  if (scales) parts.push_back(*scales);
  if (biases) parts.push_back(*biases);
  return parts;
}

// Columns of the product of x with w (or its transpose), which has `packed` columns.
int64_t product_columns(const Array& x, const Array& w, int64_t packed, bool transpose, const char* op) {
  if (x.shape(-1) == (transpose ? packed : w.shape(-2))) return transpose ? w.shape(-2) : packed;
  fail<ShapeError>(op, "inner dimensions differ: x {} and a quantized matrix of {} by {}", x.shape(),
                   w.shape(-2), packed);
}

Dtype product_dtype(const Array& x, const OptArray& scales, const QuantSpec& s) {
  return s.format == QuantFormat::kAffine ? promote(x.dtype(), scales->dtype()) : x.dtype();
}

}  // namespace

QuantSpec quant_spec(std::string_view mode, const std::optional<int64_t>& group_size,
                     const std::optional<int64_t>& bits, std::string_view op) {
  const std::optional<QuantFormat> format = find_format(mode);
  if (!format) fail<ValueError>(op, "mode must be one of {}, got '{}'", format_names(), mode);
  const bool affine = *format == QuantFormat::kAffine;
  const int64_t group = group_size.value_or(affine ? 64 : block_format(*format).block);
  const int64_t width = bits.value_or(affine ? 4 : block_format(*format).bits);
  // Beyond any format, so that the check below has them in an int.
  const auto narrow = [](int64_t v) { return static_cast<int>(std::clamp<int64_t>(v, -1, 1 << 20)); };
  const QuantSpec spec{*format, narrow(group), narrow(width)};
  check_spec(spec, op);
  return spec;
}

std::vector<Array> quantize(const Array& w, const QuantSpec& s, const OptArray& global_scale) {
  const char* op = "quantize";
  check_spec(s, op);
  if (gguf_number(s.format)) {
    fail<ValueError>(op, "mode '{}' is read from GGUF files and cannot be made here",
                     block_format(s.format).name);
  }
  if (s.format == QuantFormat::kFp8) {
    fail<ValueError>(op, "mode 'fp8' is read from checkpoints and cannot be made here");
  }
  if (w.ndim() < 2) fail<ShapeError>(op, "wants at least 2 axes, got shape {}", w.shape());
  if (!is_stored_float(w.dtype())) {
    fail<DtypeError>(op, "wants float32, float16 or bfloat16, got {}", w.dtype());
  }
  if (w.shape(-1) % s.group_size != 0) {
    fail<ShapeError>(op, "last axis of {} is not a multiple of group_size {}", w.shape(), s.group_size);
  }
  const OptArray global = global_scales(global_scale, w, s, op);
  Shape packed = w.shape(), groups = w.shape();
  groups.back() = w.shape(-1) / s.group_size;
  const Ref<Params> params =
      make_params(QuantParams{s.group_size, s.bits, true, QuantizedMode::kExact, s.format});
  if (s.format != QuantFormat::kAffine) {
    packed.back() = block_format(s.format).row_bytes(w.shape(-1)) / 4;
    const Shape shapes[] = {packed, groups};
    const Dtype dtypes[] = {Dtype::kUInt32, Dtype::kUInt8};
    return make_tuple_node(OpId::AffineQuantize, shapes, dtypes, parts_of(w, global, std::nullopt), params);
  }
  packed.back() = affine_row_words(w.shape(-1), s.bits);
  const Shape shapes[] = {packed, groups, groups};
  const Dtype dtypes[] = {Dtype::kUInt32, w.dtype(), w.dtype()};
  return make_tuple_node(OpId::AffineQuantize, shapes, dtypes, std::span(&w, 1), params);
}

Array dequantize(const Array& w, const OptArray& scales, const OptArray& biases, const QuantSpec& s,
                 const std::optional<Dtype>& dtype, const OptArray& global_scale) {
  const char* op = "dequantize";
  const OptArray global = global_scales(global_scale, w, s, op);
  Shape shape = w.shape();
  const int64_t cols = packed_cols(w, scales, biases, s, op);
  shape.back() = cols;
  if (dtype && !is_floating(*dtype)) fail<DtypeError>(op, "wants a real floating dtype, got {}", *dtype);
  const bool affine = s.format == QuantFormat::kAffine;
  // Blocks with 16-bit scales among their codes need float32 to be exact.
  const Dtype fp_default = global_scale || !scales ? Dtype::kFloat32 : Dtype::kBFloat16;
  const Dtype wanted = dtype.value_or(affine ? scales->dtype() : fp_default);
  // Affine values are rounded to the dtype of the scales first, as in MLX.
  const Dtype stored = affine ? scales->dtype() : is_stored_float(wanted) ? wanted : Dtype::kFloat32;
  const Array out =
      make_node(OpId::AffineDequantize, stored, shape, parts_of(w, scales, affine ? biases : global),
                make_params(QuantParams{s.group_size, s.bits, true, QuantizedMode::kExact, s.format}));
  return wanted == stored ? out : astype(out, wanted);
}

Array quantized_matmul(const Array& x, const Array& w, const OptArray& scales, const OptArray& biases,
                       const QuantSpec& s, bool transpose, QuantizedMode mode) {
  const char* op = "quantized_matmul";
  if (!is_stored_float(x.dtype())) {
    fail<DtypeError>(op, "x must be float32, float16 or bfloat16, got {}", x.dtype());
  }
  if (x.ndim() == 0) fail<ShapeError>(op, "x wants at least 1 axis, got shape ()");
  const int64_t n = product_columns(x, w, packed_cols(w, scales, biases, s, op), transpose, op);
  const Array rows = x.ndim() == 1 ? expand_dims(x, {0}) : x;
  auto batch = [](const Array& a) { return Shape(a.shape().begin(), a.shape().end() - 2); };
  auto widen = [](const Array& a, Shape shape) {
    shape.push_back(a.shape(-2));
    shape.push_back(a.shape(-1));
    return broadcast_to(a, shape);
  };
  Shape shape = batch(rows);
  std::vector<Array> inputs = parts_of(w, scales, biases);
  inputs.insert(inputs.begin(), rows);
  if (w.ndim() > 2) {
    shape = broadcast_shapes(shape, batch(w), op);
    for (Array& a : inputs) a = widen(a, shape);
  }
  shape.push_back(rows.shape(-2));
  shape.push_back(n);
  const Array y = make_node(OpId::QuantizedMatmul, product_dtype(x, scales, s), shape, inputs,
                            make_params(QuantParams{s.group_size, s.bits, transpose, mode, s.format}));
  return x.ndim() == 1 ? squeeze(y, Axes{-2}) : y;
}

Array picked_quantized_matmul(const Array& x, const Array& w, const OptArray& scales, const OptArray& biases,
                              const Array& w_indices, const QuantSpec& s, bool transpose,
                              QuantizedMode mode) {
  const char* op = "gather_qmm";
  const int64_t n = product_columns(x, w, packed_cols(w, scales, biases, s, op), transpose, op);
  const PickedFactors p = picked_factors(x, w_indices, op);
  std::vector<Array> inputs{p.x};
  for (const Array& part : parts_of(w, scales, biases)) inputs.push_back(all_matrices(part));
  inputs.push_back(p.indices);
  Shape shape = p.x.shape();
  shape.back() = n;
  return make_node(OpId::GatherQuantizedMatmul, product_dtype(x, scales, s), shape, inputs,
                   make_params(QuantParams{s.group_size, s.bits, transpose, mode, s.format}));
}

std::vector<Array> quantize(const Array& w, int group_size, int bits) {
  return quantize(w, {QuantFormat::kAffine, group_size, bits});
}

Array dequantize(const Array& w, const Array& scales, const Array& biases, int group_size, int bits) {
  return dequantize(w, scales, biases, {QuantFormat::kAffine, group_size, bits});
}

Array quantized_matmul(const Array& x, const Array& w, const Array& scales, const Array& biases,
                       bool transpose, int group_size, int bits, QuantizedMode mode) {
  return quantized_matmul(x, w, scales, biases, {QuantFormat::kAffine, group_size, bits}, transpose, mode);
}

}  // namespace lamina
