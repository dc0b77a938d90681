#include "ops/common.h"
#include "quant/affine.h"

namespace lamina {
namespace {

void check_format(int group_size, int bits, const char* op) {
  if (!affine_supported(group_size, bits)) {
    fail<ValueError>(
        op, "group_size {} with {} bits is not supported; group sizes are 32, 64, 128, bits 2 to 6 or 8",
        group_size, bits);
  }
}

void check_packed(const Array& w, const Array& scales, const Array& biases, int group_size, int bits,
                  const char* op) {
  check_format(group_size, bits, op);
  if (w.dtype() != Dtype::kUInt32) fail<DtypeError>(op, "w must be uint32 words, got {}", w.dtype());
  if (w.ndim() < 2) fail<ShapeError>(op, "w wants at least 2 axes, got shape {}", w.shape());
  if (!is_floating(scales.dtype()) || scales.dtype() == Dtype::kFloat64 || scales.dtype() != biases.dtype()) {
    fail<DtypeError>(op, "scales and biases must share float32, float16 or bfloat16, got {} and {}",
                     scales.dtype(), biases.dtype());
  }
  Shape wanted = w.shape();
  wanted.back() = wanted.back() * 32 / bits / group_size;
  if (scales.shape() != wanted || biases.shape() != wanted ||
      wanted.back() * group_size * bits != w.shape(-1) * 32) {
    fail<ShapeError>(op,
                     "w of {} with group_size {} and {} bits wants scales and biases of {}, got {} and {}",
                     w.shape(), group_size, bits, wanted, scales.shape(), biases.shape());
  }
}

}  // namespace

std::vector<Array> quantize(const Array& w, int group_size, int bits) {
  check_format(group_size, bits, "quantize");
  if (w.ndim() < 2) fail<ShapeError>("quantize", "wants at least 2 axes, got shape {}", w.shape());
  if (!is_floating(w.dtype()) || w.dtype() == Dtype::kFloat64) {
    fail<DtypeError>("quantize", "wants float32, float16 or bfloat16, got {}", w.dtype());
  }
  if (w.shape(-1) % group_size != 0) {
    fail<ShapeError>("quantize", "last axis of {} is not a multiple of group_size {}", w.shape(), group_size);
  }
  Shape packed = w.shape(), groups = w.shape();
  packed.back() = affine_row_words(w.shape(-1), bits);
  groups.back() = w.shape(-1) / group_size;
  const Shape shapes[] = {packed, groups, groups};
  const Dtype dtypes[] = {Dtype::kUInt32, w.dtype(), w.dtype()};
  return make_tuple_node(OpId::AffineQuantize, shapes, dtypes, std::span(&w, 1),
                         make_params(QuantParams{group_size, bits, true, QuantizedMode::kExact}));
}

Array dequantize(const Array& w, const Array& scales, const Array& biases, int group_size, int bits) {
  check_packed(w, scales, biases, group_size, bits, "dequantize");
  Shape shape = w.shape();
  shape.back() = scales.shape(-1) * group_size;
  return make_node(OpId::AffineDequantize, scales.dtype(), shape, {w, scales, biases},
                   make_params(QuantParams{group_size, bits, true, QuantizedMode::kExact}));
}

Array quantized_matmul(const Array& x, const Array& w, const Array& scales, const Array& biases,
                       bool transpose, int group_size, int bits, QuantizedMode mode) {
  const char* op = "quantized_matmul";
  check_packed(w, scales, biases, group_size, bits, op);
  if (!is_floating(x.dtype()) || x.dtype() == Dtype::kFloat64) {
    fail<DtypeError>(op, "x must be float32, float16 or bfloat16, got {}", x.dtype());
  }
  if (x.ndim() == 0) fail<ShapeError>(op, "x wants at least 1 axis, got shape ()");
  const int64_t packed = scales.shape(-1) * group_size;
  const int64_t k = transpose ? packed : w.shape(-2), n = transpose ? w.shape(-2) : packed;
  if (x.shape(-1) != k) {
    fail<ShapeError>(op, "inner dimensions differ: x {} and a quantized matrix of {} by {}", x.shape(),
                     w.shape(-2), packed);
  }
  const Array rows = x.ndim() == 1 ? expand_dims(x, {0}) : x;
  const Dtype out = promote(x.dtype(), scales.dtype());
  auto batch = [](const Array& a) { return Shape(a.shape().begin(), a.shape().end() - 2); };
  auto widen = [](const Array& a, Shape shape) {
    shape.push_back(a.shape(-2));
    shape.push_back(a.shape(-1));
    return broadcast_to(a, shape);
  };
  Shape shape = batch(rows);
  std::vector<Array> inputs{rows, w, scales, biases};
  if (w.ndim() > 2) {
    shape = broadcast_shapes(shape, batch(w), op);
    for (Array& a : inputs) a = widen(a, shape);
  }
  shape.push_back(rows.shape(-2));
  shape.push_back(n);
  const Array y = make_node(OpId::QuantizedMatmul, out, shape, inputs,
                            make_params(QuantParams{group_size, bits, transpose, mode}));
  return x.ndim() == 1 ? squeeze(y, Axes{-2}) : y;
}

}  // namespace lamina
