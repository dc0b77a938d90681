#include "quant/fp_blocks.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "lamina/error.h"
#include "quant/formats.h"

namespace lamina {
namespace {

constexpr QuantFormat kFormats[] = {QuantFormat::kMxfp4, QuantFormat::kMxfp8, QuantFormat::kNvfp4};
constexpr float kInf = std::numeric_limits<float>::infinity();

View matrix(void* data, Dtype t, int64_t rows, int64_t cols) {
  const Shape shape{rows, cols};
  return {data, t, shape, row_major_strides(shape)};
}

struct Encoded {
  std::vector<uint8_t> codes, scales;
};

Encoded encode(QuantFormat format, std::vector<float> w, int64_t rows, const float* global_scale = nullptr) {
  const BlockFormat& f = block_format(format);
  const int64_t cols = static_cast<int64_t>(w.size()) / rows;
  Encoded out{std::vector<uint8_t>(static_cast<size_t>(rows * f.row_bytes(cols))),
              std::vector<uint8_t>(static_cast<size_t>(rows * f.row_scale_bytes(cols)))};
  float scale = global_scale ? *global_scale : 0;
  const View global{&scale, Dtype::kFloat32, {}, {}};
  fp_quantize(format, matrix(w.data(), Dtype::kFloat32, rows, cols), global_scale ? &global : nullptr,
              matrix(out.codes.data(), Dtype::kUInt32, rows, f.row_bytes(cols) / 4),
              matrix(out.scales.data(), Dtype::kUInt8, rows, f.row_scale_bytes(cols)));
  return out;
}

std::vector<float> decode(QuantFormat format, const Encoded& e) {
  const BlockFormat& f = block_format(format);
  const auto blocks = static_cast<int64_t>(e.scales.size());
  std::vector<float> out(static_cast<size_t>(blocks * f.block));
  f.decode(e.codes.data(), e.scales.data(), blocks, out.data());
  return out;
}

// One group whose first element is v and the rest zeros.
std::vector<float> group_of(QuantFormat format, float v) {
  std::vector<float> w(static_cast<size_t>(block_format(format).block), 0.0f);
  w[0] = v;
  return w;
}

TEST(FpBlocks, EveryE4m3CodeIsItsOwnNearest) {
  for (int code = 0; code < 256; ++code) {
    const float v = kE4m3[static_cast<size_t>(code)];
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(v));
      continue;
    }
    EXPECT_EQ(e4m3_code(v), code);
    if ((code & 0x7f) == 0x7e) continue;
    // The middle to the next code goes to the even one, what is beside it to the nearer.
    const float next = kE4m3[static_cast<size_t>(code + 1)], middle = (v + next) / 2;
    EXPECT_EQ(e4m3_code(middle), code % 2 == 0 ? code : code + 1);
    EXPECT_EQ(e4m3_code(std::nextafter(middle, v)), code);
    EXPECT_EQ(e4m3_code(std::nextafter(middle, next)), code + 1);
  }
  EXPECT_EQ(e4m3_code(1e30f), 0x7e);
  EXPECT_EQ(e4m3_code(-kInf), 0xfe);
  EXPECT_EQ(e4m3_code(std::nanf("")), 0x7f);
}

TEST(FpBlocks, E2m1TiesGoToTheSmallerSize) {
  for (uint8_t code = 0; code < 8; ++code) {
    const float v = kE2m1[code];
    EXPECT_EQ(e2m1_code(v), code);
    EXPECT_EQ(e2m1_code(-v), code == 0 ? 0 : code | 8);
    if (code == 7) continue;
    const float middle = (v + kE2m1[code + 1]) / 2;
    EXPECT_EQ(e2m1_code(middle), code);
    EXPECT_EQ(e2m1_code(std::nextafter(middle, kInf)), code + 1);
  }
  EXPECT_EQ(e2m1_code(kInf), 7);
  EXPECT_EQ(e2m1_code(-1e9f), 15);
  EXPECT_EQ(e2m1_code(std::nanf("")), 0);
}

TEST(FpBlocks, E8m0IsAPowerOfTwo) {
  for (int code = 0; code < 255; ++code) {
    EXPECT_EQ(kE8m0[static_cast<size_t>(code)], std::ldexp(1.0f, code - 127));
  }
  EXPECT_EQ(kE8m0[255], kInf);
}

TEST(FpBlocks, PowerOfTwoScalesReachTheLargestElement) {
  for (const QuantFormat format : {QuantFormat::kMxfp4, QuantFormat::kMxfp8}) {
    const float top = format == QuantFormat::kMxfp8 ? 448.0f : 6.0f;
    for (int e = -126; e <= 119; ++e) {
      const float at = std::ldexp(top, e);
      EXPECT_EQ(encode(format, group_of(format, at), 1).scales[0], 127 + e);
      EXPECT_EQ(encode(format, group_of(format, std::nextafter(at, kInf)), 1).scales[0], 128 + e);
      EXPECT_EQ(decode(format, encode(format, group_of(format, at), 1))[0], at);
    }
    EXPECT_EQ(encode(format, group_of(format, 0.0f), 1).scales[0], 127);
    // Far below the least scale: it stays the least one.
    EXPECT_EQ(encode(format, group_of(format, std::ldexp(top, -130)), 1).scales[0], 0);
  }
}

TEST(FpBlocks, ErrorsAreWithinHalfAStep) {
  for (const QuantFormat format : kFormats) {
    const int64_t block = block_format(format).block;
    std::vector<float> w(static_cast<size_t>(7 * block * 3));
    uint32_t seed = 1;
    for (float& v : w) {
      seed = seed * 1664525u + 1013904223u;
      v = (static_cast<float>(seed >> 8) * 0x1p-23f - 1.0f) * 5.0f;
    }
    const std::vector<float> back = decode(format, encode(format, w, 7));
    for (size_t g = 0; g < w.size() / static_cast<size_t>(block); ++g) {
      float most = 0;
      for (size_t i = 0; i < static_cast<size_t>(block); ++i) {
        most = std::max(most, std::fabs(w[g * static_cast<size_t>(block) + i]));
      }
      // E2M1's widest step is 2 of 6, and a power of two may be twice what is needed; E4M3's steps are 1/8 of
      // the size, or 2^-9 of a scale of at most most / 224. An nvfp4 scale is off by at most 1/16.
      for (size_t i = 0; i < static_cast<size_t>(block); ++i) {
        const float x = w[g * static_cast<size_t>(block) + i], y = back[g * static_cast<size_t>(block) + i];
        const float bound = format == QuantFormat::kMxfp8   ? std::fabs(x) / 16 + most / 224 * 0x1p-10f
                            : format == QuantFormat::kMxfp4 ? most / 3
                                                            : most * (1 / 6.0f + 1 / 15.0f);
        EXPECT_LE(std::fabs(x - y), bound) << x;
      }
    }
  }
}

TEST(FpBlocks, WhatIsNotFiniteDoesNotMoveTheScale) {
  for (const QuantFormat format : kFormats) {
    std::vector<float> w = group_of(format, 3.0f);
    const uint8_t scale = encode(format, w, 1).scales[0];
    w[1] = kInf, w[2] = -kInf, w[3] = std::nanf("");
    const Encoded e = encode(format, w, 1);
    EXPECT_EQ(e.scales[0], scale);
    const std::vector<float> back = decode(format, e);
    const float top = (format == QuantFormat::kMxfp8 ? 448.0f : 6.0f) *
                      (format == QuantFormat::kNvfp4 ? kE4m3[scale] : kE8m0[scale]);
    EXPECT_EQ(back[1], top);
    EXPECT_EQ(back[2], -top);
    EXPECT_TRUE(format == QuantFormat::kMxfp8 ? std::isnan(back[3]) : back[3] == 0.0f);
  }
}

TEST(FpBlocks, AGlobalScaleUsesTheWholeRangeOfScales) {
  std::vector<float> w(64);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i) * 1e-4f - 3e-3f;
  float most = 0;
  for (float v : w) most = std::max(most, std::fabs(v));
  const Encoded e = encode(QuantFormat::kNvfp4, w, 2, &most);
  EXPECT_EQ(*std::max_element(e.scales.begin(), e.scales.end()), 0x7e);
  std::vector<float> back(w.size());
  Encoded copy = e;
  const View global{&most, Dtype::kFloat32, {}, {}};
  nvfp4_dequantize(matrix(copy.codes.data(), Dtype::kUInt32, 2, 4),
                   matrix(copy.scales.data(), Dtype::kUInt8, 2, 2), global,
                   matrix(back.data(), Dtype::kFloat32, 2, 32));
  for (size_t i = 0; i < w.size(); ++i) EXPECT_LE(std::fabs(back[i] - w[i]), most * (1 / 6.0f + 1 / 15.0f));
  const float none = 0;
  for (uint8_t scale : encode(QuantFormat::kNvfp4, std::vector<float>(32, 0.0f), 1, &none).scales) {
    EXPECT_EQ(scale, 0);
  }
}

TEST(FpBlocks, AnyStrides) {
  for (const QuantFormat format : kFormats) {
    const BlockFormat& f = block_format(format);
    const int64_t rows = 3, cols = 2 * f.block;
    std::vector<float> w(static_cast<size_t>(rows * cols)), turned(w.size());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        const float v = std::sin(static_cast<float>(r * cols + c));
        w[static_cast<size_t>(r * cols + c)] = turned[static_cast<size_t>(c * rows + r)] = v;
      }
    }
    const Encoded want = encode(format, w, rows);
    Encoded got = want;
    std::fill(got.codes.begin(), got.codes.end(), 0);
    const View codes = matrix(got.codes.data(), Dtype::kUInt32, rows, f.row_bytes(cols) / 4);
    const View scales = matrix(got.scales.data(), Dtype::kUInt8, rows, f.row_scale_bytes(cols));
    fp_quantize(format, {turned.data(), Dtype::kFloat32, {rows, cols}, {1, rows}}, nullptr, codes, scales);
    EXPECT_EQ(got.codes, want.codes);
    EXPECT_EQ(got.scales, want.scales);

    // Codes and scales with a step between them decode as dense ones do.
    const int64_t words = f.row_bytes(cols) / 4, bytes = f.row_scale_bytes(cols);
    std::vector<uint32_t> wide(static_cast<size_t>(rows * words * 2));
    std::vector<uint8_t> wide_scales(static_cast<size_t>(rows * bytes * 3));
    for (int64_t i = 0; i < rows * words; ++i) {
      std::memcpy(&wide[static_cast<size_t>(2 * i)], want.codes.data() + 4 * i, 4);
    }
    for (int64_t i = 0; i < rows * bytes; ++i) {
      wide_scales[static_cast<size_t>(3 * i)] = want.scales[static_cast<size_t>(i)];
    }
    std::vector<float> back(w.size());
    const View spread{wide_scales.data(), Dtype::kUInt8, {rows, bytes}, {3 * bytes, 3}};
    block_dequantize(format, {wide.data(), Dtype::kUInt32, {rows, words}, {2 * words, 2}}, &spread,
                     matrix(back.data(), Dtype::kFloat32, rows, cols));
    EXPECT_EQ(back, decode(format, want));
  }
}

TEST(FpBlocks, ErrorsNameBothSides) {
  std::vector<float> w(48);
  std::vector<uint8_t> codes(64), scales(8);
  const auto text = [](const auto& f) -> std::string {
    try {
      f();
    } catch (const Error& e) { return e.what(); }
    return "no error";
  };
  const View c = matrix(codes.data(), Dtype::kUInt32, 1, 8), s = matrix(scales.data(), Dtype::kUInt8, 1, 2);
  EXPECT_EQ(text([&] {
              fp_quantize(QuantFormat::kMxfp4, matrix(w.data(), Dtype::kFloat32, 1, 48), nullptr, c, s);
            }),
            "[quantize] mxfp4 wants a last axis divisible by 32, got shape (1, 48)");
  EXPECT_EQ(
      text([&] { block_dequantize(QuantFormat::kMxfp4, s, &s, matrix(w.data(), Dtype::kFloat32, 1, 32)); }),
      "[dequantize] mxfp4 wants codes of uint32 and scales of uint8, got uint8 and uint8");
  EXPECT_EQ(
      text([&] { block_dequantize(QuantFormat::kMxfp4, c, &s, matrix(w.data(), Dtype::kFloat32, 1, 32)); }),
      "[dequantize] mxfp4 wants codes and scales of shapes (1, 4) and (1, 1), got (1, 8) and (1, 2)");
  EXPECT_EQ(text([&] {
              block_dequantize(QuantFormat::kNvfp4, c, nullptr, matrix(w.data(), Dtype::kFloat32, 1, 32));
            }),
            "[dequantize] nvfp4 wants scales");
  EXPECT_EQ(text([&] { block_format(QuantFormat::kAffine); }), "[quantize] format 0 has no blocks");
}

}  // namespace
}  // namespace lamina
