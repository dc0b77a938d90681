#pragma once

#include <random>
#include <string>
#include <vector>

#include "backend/cpu/qmm.h"
#include "gemm_testing.h"
#include "quant/affine.h"
#include "quant/formats.h"

namespace lamina::testing {

// Encoded weights in guarded buffers of exactly their size.
struct Weights {
  Guarded packed, scales, biases;
  int64_t rows, cols;
  int group, bits;

  Weights(int64_t matrices, int64_t rows_, int64_t cols_, int group_, int bits_, Dtype t, std::mt19937& rng)
      : packed(matrices * rows_ * affine_row_words(cols_, bits_), Dtype::kFloat32),
        scales(matrices * rows_ * (cols_ / group_), t),
        biases(matrices * rows_ * (cols_ / group_), t),
        rows(rows_),
        cols(cols_),
        group(group_),
        bits(bits_) {
    Guarded w = random_buffer(matrices * rows * cols, t, rng);
    const auto view = [&](Guarded& g, Dtype dtype, int64_t last) {
      const Shape shape{matrices * rows, last};
      return View{g.data(), dtype, shape, row_major_strides(shape)};
    };
    affine_quantize(view(w, t, cols), group, bits, view(packed, Dtype::kUInt32, affine_row_words(cols, bits)),
                    view(scales, t, cols / group), view(biases, t, cols / group));
  }

  uint32_t code(int64_t row, int64_t col) {
    const uint32_t* words = packed.as<uint32_t>() + row * affine_row_words(cols, bits);
    const int64_t bit = col * bits;
    const uint64_t pair = words[bit / 32] | (bit % 32 + bits > 32 ? uint64_t{words[bit / 32 + 1]} << 32 : 0);
    return static_cast<uint32_t>(pair >> (bit % 32)) & ((1u << bits) - 1);
  }
  double scale(int64_t row, int64_t col) const { return scales.at(row * (cols / group) + col / group); }
  double bias(int64_t row, int64_t col) const { return biases.at(row * (cols / group) + col / group); }
  double at(int64_t row, int64_t col) { return scale(row, col) * code(row, col) + bias(row, col); }
};

struct Case {
  int64_t m, n, k;
  int group = 64, bits = 4;
  bool transpose = true;
  Dtype x = Dtype::kFloat32, s = Dtype::kFloat32, y = Dtype::kFloat32;
  cpu::QmmMode mode = cpu::QmmMode::kExact;
};

inline std::string describe(const Case& t) {
  return "m " + std::to_string(t.m) + " n " + std::to_string(t.n) + " k " + std::to_string(t.k) + " group " +
         std::to_string(t.group) + " bits " + std::to_string(t.bits) + (t.transpose ? " T " : " ") +
         std::string(dtype_name(t.x)) + " " + std::string(dtype_name(t.s)) + " " +
         std::string(dtype_name(t.y));
}

inline cpu::QmmArgs args_of(const Case& t, Guarded& x, Weights& w, Guarded& y) {
  cpu::QmmArgs q;
  q.m = t.m, q.n = t.n, q.k = t.k, q.group = t.group, q.bits = t.bits, q.transpose = t.transpose,
  q.mode = t.mode;
  q.x = x.data(), q.x_dtype = t.x, q.x_row_stride = t.k;
  q.packed = w.packed.as<uint32_t>(), q.scales = w.scales.data(), q.biases = w.biases.data(),
  q.scale_dtype = t.s;
  q.y = y.data(), q.y_dtype = t.y, q.y_row_stride = t.n;
  return q;
}

// Places of the float16 fields in a block of a GGUF format.
inline std::vector<int64_t> gguf_scale_places(QuantFormat f) {
  switch (f) {
    case QuantFormat::kQ4_1:
    case QuantFormat::kQ5_1:
    case QuantFormat::kQ4K:
    case QuantFormat::kQ5K: return {0, 2};
    case QuantFormat::kQ2K: return {80, 82};
    case QuantFormat::kQ3K: return {108};
    case QuantFormat::kQ6K: return {208};
    case QuantFormat::kMxfp4:
    case QuantFormat::kMxfp8:
    case QuantFormat::kNvfp4: return {};
    default: return {0};
  }
}

}  // namespace lamina::testing
