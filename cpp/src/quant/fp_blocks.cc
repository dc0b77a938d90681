#include "quant/fp_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/fail.h"
#include "core/thread_pool.h"
#include "quant/formats.h"

namespace lamina {
namespace {

template <class F>
constexpr std::array<float, 256> every_code(F value) {
  std::array<float, 256> out{};
  for (size_t i = 0; i < out.size(); ++i) out[i] = value(static_cast<uint8_t>(i));
  return out;
}

void decode_e2m1(const uint8_t* codes, const uint8_t* scales, const std::array<float, 256>& scale_of,
                 float unit, int group, int64_t blocks, float* dst) {
  for (int64_t b = 0; b < blocks; ++b) {
    const float scale = scale_of[scales[b]] * unit;
    for (int i = 0; i < group / 2; ++i) {
      const uint8_t pair = *codes++;
      *dst++ = kE2m1[pair & 15] * scale;
      *dst++ = kE2m1[pair >> 4] * scale;
    }
  }
}

void e2m1_integers(const uint8_t* codes, const uint8_t* block_scales, const std::array<float, 256>& scale_of,
                   int group, int64_t blocks, uint8_t* ints, float* scales) {
  const auto twice = [](uint8_t code) { return static_cast<uint8_t>(2 * kE2m1[code] + kE2m1Offset); };
  for (int64_t b = 0; b < blocks; ++b) {
    scales[b] = scale_of[block_scales[b]] * 0.5f;
    for (int i = 0; i < group / 2; ++i) {
      const uint8_t pair = *codes++;
      *ints++ = twice(pair & 15);
      *ints++ = twice(pair >> 4);
    }
  }
}

// Middles between neighbouring sizes of E2M1: a size above k of them has code k.
constexpr float kE2m1Middles[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};

// The least power of two (as E8M0, at least 2^-127) that is not less than v > 0.
uint8_t e8m0_above(float v) {
  const uint32_t bits = std::bit_cast<uint32_t>(v), exponent = bits >> 23;
  if (exponent == 0) return bits > 0x00400000u ? 1 : 0;
  return static_cast<uint8_t>(exponent + ((bits & 0x7fffffu) != 0));
}

// A group's scale code, its value without the global scale, and the reciprocal of the latter. Where the value
// is 0, so are all codes.
struct GroupScale {
  uint8_t code;
  float value, inverse;
};
template <class T>
GroupScale scale_of_group(QuantFormat format, float most, const float* global_scale) {
  const auto size = static_cast<float>(T(most / (format == QuantFormat::kMxfp8 ? 448.0f : 6.0f)));
  if (format == QuantFormat::kNvfp4) {
    const float inverse = global_scale ? kNvfp4Span / *global_scale : 1.0f;
    const uint8_t code = std::isnan(size * inverse) ? uint8_t{0} : e4m3_code(size * inverse);
    return {code, kE4m3[code], inverse};
  }
  const uint8_t code = size > 0 ? e8m0_above(size) : uint8_t{127};
  return {code, kE8m0[code], 1.0f};
}

template <class T>
void encode_group(QuantFormat format, const T* w, int64_t step, int64_t group, const float* global_scale,
                  uint8_t* codes, uint8_t* scale) {
  float x[32], most = 0;
  for (int64_t i = 0; i < group; ++i) {
    x[i] = static_cast<float>(w[i * step]);
    const float size = std::fabs(x[i]);
    if (size <= std::numeric_limits<float>::max()) most = std::max(most, size);
  }
  const auto s = scale_of_group<T>(format, most, global_scale);
  *scale = s.code;
  for (int64_t i = 0; i < group; ++i)
    x[i] = s.value == 0 ? 0.0f : static_cast<float>(T(x[i] / s.value)) * s.inverse;
  if (format == QuantFormat::kMxfp8) {
    for (int64_t i = 0; i < group; ++i) codes[i] = e4m3_code(x[i]);
  } else {
    for (int64_t i = 0; i < group / 2; ++i) {
      codes[i] = static_cast<uint8_t>(e2m1_code(x[2 * i]) | e2m1_code(x[2 * i + 1]) << 4);
    }
  }
}

int64_t offset_of_row(const View& v, int64_t row) {
  int64_t offset = 0;
  for (size_t axis = v.shape.size() - 1; axis-- > 0;) {
    offset += row % v.shape[axis] * v.strides[axis];
    row /= v.shape[axis];
  }
  return offset;
}

// The global scale of each row of a batch of matrices, if there is one.
struct GlobalScales {
  const float* first = nullptr;
  int64_t step = 0, rows = 1;

  GlobalScales(const View* v, const View& w) {
    if (!v) return;
    first = v->as<float>();
    const size_t n = w.shape.size();
    rows = n < 2 ? 1 : std::max<int64_t>(1, w.shape[n - 2]);
    if (v->size() > 1) step = v->strides.back();
  }
  const float* of_row(int64_t row) const { return first ? first + row / rows * step : nullptr; }
};

template <class T>
void encode_rows(QuantFormat format, const View& w, const GlobalScales& global, const View& codes,
                 const View& scales) {
  const BlockFormat& f = block_format(format);
  const int64_t cols = w.shape.back(), step = w.strides.back(), groups = cols / f.block;
  parallel_ranges(w.size() / cols, std::max<int64_t>(1, 16384 / cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* src = w.as<T>() + offset_of_row(w, row);
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t at = row * groups + g;
        encode_group(format, src + g * f.block * step, step, f.block, global.of_row(row),
                     codes.as<uint8_t>() + at * f.code_bytes, scales.as<uint8_t>() + at);
      }
    }
  });
}

}  // namespace

uint8_t e2m1_code(float v) {
  const float size = std::fabs(v);
  uint8_t code = 0;
  for (float middle : kE2m1Middles) code = static_cast<uint8_t>(code + (size > middle));
  return code > 0 && v < 0 ? static_cast<uint8_t>(code | 8) : code;
}

uint8_t e4m3_code(float v) {
  if (std::isnan(v)) return 0x7f;
  const uint32_t sign = std::bit_cast<uint32_t>(v) >> 31 << 7;
  const float size = std::min(std::fabs(v), 448.0f);
  if (size < 0x1p-6f)
    return static_cast<uint8_t>(sign | static_cast<uint32_t>(std::nearbyint(size * 512.0f)));
  const uint32_t bits = std::bit_cast<uint32_t>(size);
  const uint32_t rounded = (bits + 0x7ffffu + (bits >> 20 & 1)) >> 20;
  return static_cast<uint8_t>(sign | (rounded - (120u << 3)));
}

const std::array<float, 256> kE4m3 = every_code(e4m3_value);
const std::array<float, 256> kE8m0 = every_code(e8m0_value);

void decode_mxfp4(const uint8_t* codes, const uint8_t* scales, int64_t blocks, float* dst) {
  decode_e2m1(codes, scales, kE8m0, 1.0f, 32, blocks, dst);
}

void decode_nvfp4(const uint8_t* codes, const uint8_t* scales, int64_t blocks, float* dst) {
  decode_e2m1(codes, scales, kE4m3, 1.0f, 16, blocks, dst);
}

void mxfp4_integers(const uint8_t* codes, const uint8_t* block_scales, int64_t blocks, uint8_t* ints,
                    float* scales, float*) {
  e2m1_integers(codes, block_scales, kE8m0, 32, blocks, ints, scales);
}

void nvfp4_integers(const uint8_t* codes, const uint8_t* block_scales, int64_t blocks, uint8_t* ints,
                    float* scales, float*) {
  e2m1_integers(codes, block_scales, kE4m3, 16, blocks, ints, scales);
}

void decode_mxfp8(const uint8_t* codes, const uint8_t* scales, int64_t blocks, float* dst) {
  for (int64_t b = 0; b < blocks; ++b) {
    const float scale = kE8m0[scales[b]];
    for (int i = 0; i < 32; ++i) *dst++ = kE4m3[*codes++] * scale;
  }
}

void decode_fp8(const uint8_t* codes, const uint8_t* scales, int64_t blocks, float* dst) {
  for (int64_t b = 0; b < blocks; ++b) {
    float scale;
    std::memcpy(&scale, scales + 4 * b, 4);
    for (int i = 0; i < 128; ++i) *dst++ = kE4m3[*codes++] * scale;
  }
}

void fp_quantize(QuantFormat format, const View& w, const View* global_scale, const View& codes,
                 const View& scales) {
  const BlockFormat& f = block_format(format);
  Shape code_shape = w.shape, scale_shape = w.shape;
  if (w.shape.empty() || w.shape.back() % f.block != 0) {
    fail<ShapeError>("quantize", "{} wants a last axis divisible by {}, got shape {}", f.name, f.block,
                     w.shape);
  }
  code_shape.back() = f.row_bytes(w.shape.back()) / 4;
  scale_shape.back() = f.row_scale_bytes(w.shape.back());
  if (codes.shape != code_shape || scales.shape != scale_shape) {
    fail<ShapeError>("quantize", "{} wants codes and scales of shapes {} and {}, got {} and {}", f.name,
                     code_shape, scale_shape, codes.shape, scales.shape);
  }
  if (w.size() == 0) return;
  const GlobalScales global(global_scale, w);
  switch (w.dtype) {
    case Dtype::kFloat32: return encode_rows<float>(format, w, global, codes, scales);
    case Dtype::kFloat16: return encode_rows<float16_t>(format, w, global, codes, scales);
    case Dtype::kBFloat16: return encode_rows<bfloat16_t>(format, w, global, codes, scales);
    default: fail<DtypeError>("quantize", "wanted float16, bfloat16 or float32, got {}", w.dtype);
  }
}

void nvfp4_dequantize(const View& codes, const View& scales, const View& global_scale, const View& w) {
  const GlobalScales global(&global_scale, w);
  block_dequantize(QuantFormat::kNvfp4, codes, &scales, w,
                   [&](int64_t row, const uint8_t* c, const uint8_t* s, float* dst) {
                     const float unit = *global.of_row(row) / kNvfp4Span;
                     decode_e2m1(c, s, kE4m3, unit, 16, w.shape.back() / 16, dst);
                   });
}

}  // namespace lamina
