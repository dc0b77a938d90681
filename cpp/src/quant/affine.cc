#include "quant/affine.h"

#include <algorithm>
#include <cmath>

#include "core/fail.h"
#include "core/thread_pool.h"

namespace lamina {
namespace {

constexpr int kMaxGroup = 128;
// Codes are packed and unpacked 32 at a time: exactly `bits` words.
constexpr int kRun = 32;

// Offset in elements of row `row` (leading axes flattened) of a View.
int64_t row_offset(const View& v, int64_t row) {
  int64_t offset = 0;
  for (size_t axis = v.shape.size() - 1; axis-- > 0;) {
    offset += row % v.shape[axis] * v.strides[axis];
    row /= v.shape[axis];
  }
  return offset;
}

int64_t row_count(const View& v) {
  int64_t rows = 1;
  for (size_t axis = 0; axis + 1 < v.shape.size(); ++axis) rows *= v.shape[axis];
  return rows;
}

void pack_run(const uint8_t* codes, int bits, uint32_t* words) {
  uint64_t pending = 0;
  int filled = 0;
  for (int i = 0; i < kRun; ++i) {
    pending |= static_cast<uint64_t>(codes[i]) << filled;
    filled += bits;
    if (filled >= 32) {
      *words++ = static_cast<uint32_t>(pending);
      pending >>= 32;
      filled -= 32;
    }
  }
}

void unpack_run(const uint32_t* words, int64_t step, int bits, uint8_t* codes) {
  const uint32_t mask = (1u << bits) - 1;
  uint64_t pending = 0;
  int filled = 0;
  for (int i = 0; i < kRun; ++i) {
    if (filled < bits) {
      pending |= static_cast<uint64_t>(*words) << filled;
      words += step;
      filled += 32;
    }
    codes[i] = static_cast<uint8_t>(pending & mask);
    pending >>= bits;
    filled -= bits;
  }
}

// One group: x[0..group) to packed words, its scale and bias.
template <class T>
void encode_group(const T* w, int64_t step, int group, int bits, uint32_t* words, T* scale, T* bias) {
  float x[kMaxGroup];
  float lo = INFINITY, hi = -INFINITY;
  for (int i = 0; i < group; ++i) {
    x[i] = static_cast<float>(w[i * step]);
    lo = x[i] < lo ? x[i] : lo;
    hi = x[i] > hi ? x[i] : hi;
  }
  const AffineEdges e = affine_edges(lo, hi, bits);
  const float top = static_cast<float>((1 << bits) - 1);
  uint8_t codes[kMaxGroup];
  for (int i = 0; i < group; ++i) {
    const float code = std::nearbyint((x[i] - e.bias) / e.scale);
    codes[i] = static_cast<uint8_t>(code > 0.0f ? (code < top ? code : top) : 0.0f);
  }
  for (int i = 0; i < group; i += kRun) pack_run(codes + i, bits, words + i / kRun * bits);
  *scale = T(e.scale);
  *bias = T(e.bias);
}

template <class T>
void decode_group(const uint32_t* words, int64_t step, T scale, T bias, int group, int bits, T* w) {
  const float s = static_cast<float>(scale), b = static_cast<float>(bias);
  uint8_t codes[kMaxGroup];
  for (int i = 0; i < group; i += kRun) unpack_run(words + i / kRun * bits * step, step, bits, codes + i);
  for (int i = 0; i < group; ++i) { w[i] = T(static_cast<float>(T(static_cast<float>(codes[i]) * s)) + b); }
}

template <class T>
void quantize_rows(const View& w, int group, int bits, const View& packed, const View& scales,
                   const View& biases) {
  const int64_t cols = w.shape.back(), groups = cols / group, words = affine_row_words(cols, bits);
  const int64_t group_words = group / kRun * bits;
  parallel_ranges(row_count(w), std::max<int64_t>(1, 16384 / cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* src = w.as<T>() + row_offset(w, row);
      for (int64_t g = 0; g < groups; ++g) {
        encode_group(src + g * group * w.strides.back(), w.strides.back(), group, bits,
                     packed.as<uint32_t>() + row * words + g * group_words, scales.as<T>() + row * groups + g,
                     biases.as<T>() + row * groups + g);
      }
    }
  });
}

template <class T>
void dequantize_rows(const View& packed, const View& scales, const View& biases, int group, int bits,
                     const View& w) {
  const int64_t cols = w.shape.back(), groups = cols / group, group_words = group / kRun * bits;
  const int64_t word_step = packed.strides.back();
  parallel_ranges(row_count(w), std::max<int64_t>(1, 16384 / cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const uint32_t* words = packed.as<uint32_t>() + row_offset(packed, row);
      const T* s = scales.as<T>() + row_offset(scales, row);
      const T* b = biases.as<T>() + row_offset(biases, row);
      for (int64_t g = 0; g < groups; ++g) {
        decode_group(words + g * group_words * word_step, word_step, s[g * scales.strides.back()],
                     b[g * biases.strides.back()], group, bits, w.as<T>() + row * cols + g * group);
      }
    }
  });
}

// The shape whose last axis is `last` and whose others are those of `s`.
Shape with_last(Shape s, int64_t last) {
  s.back() = last;
  return s;
}

void check(const char* op, const View& w, int group, int bits, const View& packed, const View& scales,
           const View& biases) {
  if (!affine_supported(group, bits)) {
    fail<ValueError>(op, "wanted a group of 32, 64 or 128 and 1, 2, 3, 4, 5, 6 or 8 bits, got {} and {}",
                     group, bits);
  }
  constexpr DtypeSet kStored =
      dtype_bit(Dtype::kFloat16) | dtype_bit(Dtype::kBFloat16) | dtype_bit(Dtype::kFloat32);
  if (!contains(kStored, w.dtype)) {
    fail<DtypeError>(op, "wanted float16, bfloat16 or float32, got {}", w.dtype);
  }
  if (w.shape.empty() || w.shape.back() % group != 0) {
    fail<ShapeError>(op, "wanted a last axis divisible by the group of {}, got shape {}", group, w.shape);
  }
  if (packed.dtype != Dtype::kUInt32) fail<DtypeError>(op, "wanted uint32 codes, got {}", packed.dtype);
  if (scales.dtype != w.dtype || biases.dtype != w.dtype) {
    fail<DtypeError>(op, "wanted scales and biases of {}, got {} and {}", w.dtype, scales.dtype,
                     biases.dtype);
  }
  const Shape codes = with_last(w.shape, affine_row_words(w.shape.back(), bits));
  const Shape edges = with_last(w.shape, w.shape.back() / group);
  if (packed.shape != codes || scales.shape != edges || biases.shape != edges) {
    fail<ShapeError>(op, "wanted codes, scales and biases of shapes {}, {} and {}, got {}, {} and {}", codes,
                     edges, edges, packed.shape, scales.shape, biases.shape);
  }
}

}  // namespace

AffineEdges affine_edges(float lo, float hi, int bits) {
  const float steps = static_cast<float>((1 << bits) - 1);
  float scale = std::max((hi - lo) / steps, 1e-7f);
  if (bits == 1) return {scale, lo};
  const bool low_edge = std::fabs(lo) > std::fabs(hi);
  if (!low_edge) scale = -scale;
  const float edge = low_edge ? lo : hi;
  const float code = std::nearbyint(edge / scale);
  if (code == 0.0f) return {scale, 0.0f};
  return {edge / code, edge};
}

bool affine_supported(int group, int bits) {
  return std::find(std::begin(kAffineGroups), std::end(kAffineGroups), group) != std::end(kAffineGroups) &&
         std::find(std::begin(kAffineBits), std::end(kAffineBits), bits) != std::end(kAffineBits);
}

void affine_quantize(const View& w, int group, int bits, const View& packed, const View& scales,
                     const View& biases) {
  check("quantize", w, group, bits, packed, scales, biases);
  if (w.size() == 0) return;
  switch (w.dtype) {
    case Dtype::kFloat16: return quantize_rows<float16_t>(w, group, bits, packed, scales, biases);
    case Dtype::kBFloat16: return quantize_rows<bfloat16_t>(w, group, bits, packed, scales, biases);
    default: return quantize_rows<float>(w, group, bits, packed, scales, biases);
  }
}

void affine_dequantize(const View& packed, const View& scales, const View& biases, int group, int bits,
                       const View& w) {
  check("dequantize", w, group, bits, packed, scales, biases);
  if (w.size() == 0) return;
  switch (w.dtype) {
    case Dtype::kFloat16: return dequantize_rows<float16_t>(packed, scales, biases, group, bits, w);
    case Dtype::kBFloat16: return dequantize_rows<bfloat16_t>(packed, scales, biases, group, bits, w);
    default: return dequantize_rows<float>(packed, scales, biases, group, bits, w);
  }
}

}  // namespace lamina
