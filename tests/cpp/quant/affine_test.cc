#include "quant/affine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "lamina/error.h"

namespace lamina {
namespace {

// Row-contiguous storage of a shape, with its View.
struct Stored {
  std::vector<uint8_t> bytes;
  View view;

  Stored(Dtype t, Shape shape) {
    view = {nullptr, t, shape, row_major_strides(shape)};
    bytes.assign(static_cast<size_t>(view.size()) * itemsize(t) + kGuard, 0xA5);
    view.data = bytes.data();
  }
  bool guard_whole() const {
    for (size_t i = bytes.size() - kGuard; i < bytes.size(); ++i) {
      if (bytes[i] != 0xA5) return false;
    }
    return true;
  }
  float at(int64_t i) const {
    switch (view.dtype) {
      case Dtype::kFloat16: return static_cast<float>(view.as<float16_t>()[i]);
      case Dtype::kBFloat16: return static_cast<float>(view.as<bfloat16_t>()[i]);
      default: return view.as<float>()[i];
    }
  }
  void set(int64_t i, float x) {
    switch (view.dtype) {
      case Dtype::kFloat16: view.as<float16_t>()[i] = float16_t(x); break;
      case Dtype::kBFloat16: view.as<bfloat16_t>()[i] = bfloat16_t(x); break;
      default: view.as<float>()[i] = x;
    }
  }

 private:
  static constexpr size_t kGuard = 64;
};

Shape with_last(Shape s, int64_t last) {
  s.back() = last;
  return s;
}

// The three outputs of an encoding.
struct Encoded {
  Stored packed, scales, biases;
  Encoded(const View& w, int group, int bits)
      : packed(Dtype::kUInt32, with_last(w.shape, affine_row_words(w.shape.back(), bits))),
        scales(w.dtype, with_last(w.shape, w.shape.back() / group)),
        biases(w.dtype, with_last(w.shape, w.shape.back() / group)) {
    affine_quantize(w, group, bits, packed.view, scales.view, biases.view);
  }
};

uint32_t code_at(const Stored& packed, int64_t row, int64_t i, int bits) {
  uint32_t code = 0;
  for (int b = 0; b < bits; ++b) {
    const int64_t bit = i * bits + b;
    const uint32_t word = packed.view.as<uint32_t>()[row * packed.view.shape.back() + bit / 32];
    code |= (word >> (bit % 32) & 1u) << b;
  }
  return code;
}

void digest(const Stored& s, uint64_t* h) {
  const auto* p = s.view.as<uint8_t>();
  for (size_t i = 0; i < static_cast<size_t>(s.view.size()) * itemsize(s.view.dtype); ++i) {
    *h = (*h ^ p[i]) * 0x100000001b3u;
  }
}

// The weights of affine_golden.py.
Stored golden_weights(Dtype t) {
  Stored w(t, {6, 256});
  for (uint64_t i = 0; i < 6 * 256; ++i) {
    const auto bits = static_cast<uint32_t>(i * 2654435761u + 12345u) / 256;
    const auto row = static_cast<int>(i / 256);
    float x = static_cast<float>(bits) / 0x1p22f - 2.0f + static_cast<float>(row % 3 - 1) * 1.5f;
    if (row == 4) x = 0.0f;
    if (row == 5) x = -0.75f;
    w.set(static_cast<int64_t>(i), x);
  }
  return w;
}

struct Golden {
  Dtype dtype;
  int bits, group;
  uint64_t digest;
};
// Printed by affine_golden.py.
constexpr Golden kGolden[] = {
    {Dtype::kFloat32, 1, 32, 0xacb9ac2710c2ccb9},   {Dtype::kFloat32, 1, 64, 0x4d2dbbf8ed4f409a},
    {Dtype::kFloat32, 1, 128, 0x45b99b0bd9213fff},  {Dtype::kFloat32, 2, 32, 0x1e4da18626fb3088},
    {Dtype::kFloat32, 2, 64, 0x334f0f7997c1e1b3},   {Dtype::kFloat32, 2, 128, 0xc7ecdd4a1d66e0fe},
    {Dtype::kFloat32, 3, 32, 0x171c096c6fb00114},   {Dtype::kFloat32, 3, 64, 0xf808322712359a92},
    {Dtype::kFloat32, 3, 128, 0x3b1b9acbdfc5ffdb},  {Dtype::kFloat32, 4, 32, 0x85f8d95b472e7bf7},
    {Dtype::kFloat32, 4, 64, 0xa8bdaeadd9657cc0},   {Dtype::kFloat32, 4, 128, 0xf70b150a5170a46f},
    {Dtype::kFloat32, 5, 32, 0x37a3997c7a087ab5},   {Dtype::kFloat32, 5, 64, 0x31d1b86f447ddc63},
    {Dtype::kFloat32, 5, 128, 0xb2dbf56ad227c7b0},  {Dtype::kFloat32, 6, 32, 0x1fcbe06716ec5a27},
    {Dtype::kFloat32, 6, 64, 0xc85d293f2af52922},   {Dtype::kFloat32, 6, 128, 0x45f89d3213753470},
    {Dtype::kFloat32, 8, 32, 0xfe1e54c6acbaf7b7},   {Dtype::kFloat32, 8, 64, 0xd0af485cceb12937},
    {Dtype::kFloat32, 8, 128, 0x1e11e7cf21824b27},  {Dtype::kFloat16, 1, 32, 0x0a40de5bb7bef797},
    {Dtype::kFloat16, 1, 64, 0x6d52220753b65c97},   {Dtype::kFloat16, 1, 128, 0x94f1843d02bc35c5},
    {Dtype::kFloat16, 2, 32, 0xacce265db9f525a7},   {Dtype::kFloat16, 2, 64, 0xcaa895b566611e85},
    {Dtype::kFloat16, 2, 128, 0x5dfdb4c6e72ccaec},  {Dtype::kFloat16, 3, 32, 0xfb2fefe68526b544},
    {Dtype::kFloat16, 3, 64, 0x8a2b804c965d927a},   {Dtype::kFloat16, 3, 128, 0x37a4837af22b1d59},
    {Dtype::kFloat16, 4, 32, 0x06f2f1e23b8114db},   {Dtype::kFloat16, 4, 64, 0x92d04e3885f2c746},
    {Dtype::kFloat16, 4, 128, 0x39df54021ffa840b},  {Dtype::kFloat16, 5, 32, 0x1762b1fd63422f22},
    {Dtype::kFloat16, 5, 64, 0xcf693c2603146737},   {Dtype::kFloat16, 5, 128, 0xba8a26672d0a93fe},
    {Dtype::kFloat16, 6, 32, 0x55bf91347d12b39b},   {Dtype::kFloat16, 6, 64, 0x04366235acb07050},
    {Dtype::kFloat16, 6, 128, 0x8511885a75a214bc},  {Dtype::kFloat16, 8, 32, 0xa868bf7206a03288},
    {Dtype::kFloat16, 8, 64, 0x592d84ecba9d7e3c},   {Dtype::kFloat16, 8, 128, 0xcb27349bf9278f28},
    {Dtype::kBFloat16, 1, 32, 0xadf330846b617a54},  {Dtype::kBFloat16, 1, 64, 0x4ee231d3bcedbebb},
    {Dtype::kBFloat16, 1, 128, 0xc859c98bc7a2485c}, {Dtype::kBFloat16, 2, 32, 0xbdfb968db553c03c},
    {Dtype::kBFloat16, 2, 64, 0x32a65d8117a00a53},  {Dtype::kBFloat16, 2, 128, 0x6d5059767b1ae31c},
    {Dtype::kBFloat16, 3, 32, 0x0fcfb6e5e551ba81},  {Dtype::kBFloat16, 3, 64, 0x4510eb27f955d400},
    {Dtype::kBFloat16, 3, 128, 0x5f7294c4aa2ddc20}, {Dtype::kBFloat16, 4, 32, 0xb90319187a05bf12},
    {Dtype::kBFloat16, 4, 64, 0x16883ecb7f755d17},  {Dtype::kBFloat16, 4, 128, 0x0a349875da78f238},
    {Dtype::kBFloat16, 5, 32, 0x9e7da2c6421386fe},  {Dtype::kBFloat16, 5, 64, 0x9f2583fe1bdc55a9},
    {Dtype::kBFloat16, 5, 128, 0xa876ef078d4dce19}, {Dtype::kBFloat16, 6, 32, 0x293e751ca1d96962},
    {Dtype::kBFloat16, 6, 64, 0x40884e5a8d0d479c},  {Dtype::kBFloat16, 6, 128, 0xfd10598b860137b7},
    {Dtype::kBFloat16, 8, 32, 0x0fad98ae60d3bc65},  {Dtype::kBFloat16, 8, 64, 0xcf18010a4ea6bb16},
    {Dtype::kBFloat16, 8, 128, 0x91051dc3c87453bf},
};

TEST(Affine, BitExactWithTheReference) {
  for (const Golden& g : kGolden) {
    const Stored w = golden_weights(g.dtype);
    const Encoded e(w.view, g.group, g.bits);
    const Stored back(g.dtype, w.view.shape);
    affine_dequantize(e.packed.view, e.scales.view, e.biases.view, g.group, g.bits, back.view);
    uint64_t h = 0xcbf29ce484222325u;
    digest(e.packed, &h), digest(e.scales, &h), digest(e.biases, &h), digest(back, &h);
    EXPECT_EQ(h, g.digest) << dtype_name(g.dtype) << " bits " << g.bits << " group " << g.group;
    EXPECT_TRUE(e.packed.guard_whole() && e.scales.guard_whole() && e.biases.guard_whole() &&
                back.guard_whole());
  }
}

// Every code decodes to within half a step of its weight, however the weights are distributed.
TEST(Affine, ErrorIsAtMostHalfAStep) {
  std::mt19937 rng(1);
  for (int bits : kAffineBits) {
    for (int group : kAffineGroups) {
      Stored w(Dtype::kFloat32, {7, 256});
      std::normal_distribution<float> normal;
      for (int64_t i = 0; i < w.view.size(); ++i)
        w.set(i, normal(rng) * std::ldexp(1.0f, static_cast<int>(i % 7)));
      const Encoded e(w.view, group, bits);
      const Stored back(Dtype::kFloat32, w.view.shape);
      affine_dequantize(e.packed.view, e.scales.view, e.biases.view, group, bits, back.view);
      for (int64_t i = 0; i < w.view.size(); ++i) {
        const float step = std::fabs(e.scales.at(i / group));
        // The edge rule may stretch the grid so that the far extreme is clipped by up to half a step more.
        EXPECT_LE(std::fabs(back.at(i) - w.at(i)), 1.001f * step) << "bits " << bits << " i " << i;
      }
    }
  }
}

TEST(Affine, CodesAreALittleEndianBitStream) {
  for (int bits : kAffineBits) {
    // Weights that are their own codes: scale 1, bias 0.
    const int top = (1 << bits) - 1;
    Stored w(Dtype::kFloat32, {1, 64});
    for (int i = 0; i < 64; ++i) w.set(i, static_cast<float>(-(i * 5 % (top + 1))));
    w.set(0, static_cast<float>(-top)), w.set(1, 0.0f);
    const Encoded e(w.view, 32, bits);
    const Stored back(Dtype::kFloat32, w.view.shape);
    affine_dequantize(e.packed.view, e.scales.view, e.biases.view, 32, bits, back.view);
    for (int64_t i = 0; i < 64; ++i) {
      const auto code = static_cast<float>(code_at(e.packed, 0, i, bits));
      EXPECT_EQ(back.at(i), e.scales.at(i / 32) * code + e.biases.at(i / 32));
      if (i < 32) { EXPECT_EQ(back.at(i), w.at(i)) << "bits " << bits; }
    }
  }
}

TEST(Affine, StridedInputsGiveTheSameCodes) {
  const Stored w = golden_weights(Dtype::kFloat32);
  Stored turned(Dtype::kFloat32, {256, 6});
  Stored reversed(Dtype::kFloat32, {6, 256});
  for (int64_t r = 0; r < 6; ++r) {
    for (int64_t c = 0; c < 256; ++c) {
      turned.set(c * 6 + r, w.at(r * 256 + c));
      reversed.set((5 - r) * 256 + 255 - c, w.at(r * 256 + c));
    }
  }
  const View columns{turned.view.data, Dtype::kFloat32, {6, 256}, {1, 6}};
  const View backwards{reversed.view.as<float>() + 6 * 256 - 1, Dtype::kFloat32, {6, 256}, {-256, -1}};
  const View leading{turned.view.data, Dtype::kFloat32, {3, 2, 256}, {2, 1, 6}};
  const Encoded want(w.view, 64, 4);
  for (const View& v : {columns, backwards, leading}) {
    const Encoded got(v, 64, 4);
    EXPECT_EQ(got.packed.bytes, want.packed.bytes);
    EXPECT_EQ(got.scales.bytes, want.scales.bytes);
    EXPECT_EQ(got.biases.bytes, want.biases.bytes);
  }
}

TEST(Affine, DecodesStridedParts) {
  const Stored w = golden_weights(Dtype::kFloat16);
  const Encoded e(w.view, 64, 3);
  Stored plain(Dtype::kFloat16, {6, 256}), part(Dtype::kFloat16, {3, 128});
  affine_dequantize(e.packed.view, e.scales.view, e.biases.view, 64, 3, plain.view);
  // Every other row from the last one up, second half of the columns.
  const auto cut = [](const Stored& s, int64_t cols) {
    const int64_t half = cols / 2;
    return View{s.view.as<uint8_t>() + static_cast<size_t>(5 * cols + half) * itemsize(s.view.dtype),
                s.view.dtype,
                {3, half},
                {-2 * cols, 1}};
  };
  affine_dequantize(cut(e.packed, 24), cut(e.scales, 4), cut(e.biases, 4), 64, 3, part.view);
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t c = 0; c < 128; ++c) EXPECT_EQ(part.at(r * 128 + c), plain.at((5 - 2 * r) * 256 + 128 + c));
  }
}

TEST(Affine, NonFiniteWeightsStayInTheirGroup) {
  Stored w(Dtype::kFloat32, {1, 128});
  for (int i = 0; i < 128; ++i) w.set(i, static_cast<float>(i % 13) - 6.0f);
  const Encoded want(w.view, 32, 4);
  w.set(3, std::numeric_limits<float>::quiet_NaN());
  w.set(40, std::numeric_limits<float>::infinity());
  w.set(70, -std::numeric_limits<float>::infinity());
  const Encoded got(w.view, 32, 4);
  EXPECT_EQ(code_at(got.packed, 0, 3, 4), 0u);
  EXPECT_EQ(got.scales.at(0), want.scales.at(0));
  EXPECT_FALSE(std::isfinite(got.scales.at(1)));
  EXPECT_FALSE(std::isfinite(got.scales.at(2)));
  for (int64_t i = 96; i < 128; ++i) EXPECT_EQ(code_at(got.packed, 0, i, 4), code_at(want.packed, 0, i, 4));
  EXPECT_EQ(got.scales.at(3), want.scales.at(3));
}

TEST(Affine, ManyRowsAcrossThreads) {
  std::mt19937 rng(2);
  Stored w(Dtype::kBFloat16, {40, 25, 64});
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < w.view.size(); ++i) w.set(i, normal(rng));
  const int before = num_threads();
  set_num_threads(1);
  const Encoded one(w.view, 32, 5);
  set_num_threads(7);
  const Encoded seven(w.view, 32, 5);
  set_num_threads(before);
  EXPECT_EQ(one.packed.bytes, seven.packed.bytes);
  EXPECT_EQ(one.scales.bytes, seven.scales.bytes);
}

TEST(Affine, EmptyArrays) {
  const Stored w(Dtype::kFloat32, {0, 64});
  const Encoded e(w.view, 32, 4);
  EXPECT_TRUE(e.packed.guard_whole());
}

template <class E, class F>
void expect_raises(F&& f, const std::string& part) {
  try {
    f();
    ADD_FAILURE() << "nothing raised, wanted: " << part;
  } catch (const E& e) { EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what(); }
}

TEST(Affine, WrongRequestsRaise) {
  const Stored w(Dtype::kFloat32, {2, 64}), odd(Dtype::kFloat32, {2, 80}), whole(Dtype::kInt32, {2, 64});
  const Stored packed(Dtype::kUInt32, {2, 8}), edges(Dtype::kFloat32, {2, 2}),
      short_edges(Dtype::kFloat32, {2, 1});
  const auto quantize = [&](const View& x, int group, int bits, const View& p, const View& s) {
    return [=] { affine_quantize(x, group, bits, p, s, s); };
  };
  expect_raises<ValueError>(quantize(w.view, 48, 4, packed.view, edges.view), "got 48 and 4");
  expect_raises<ValueError>(quantize(w.view, 32, 7, packed.view, edges.view), "got 32 and 7");
  expect_raises<DtypeError>(quantize(whole.view, 32, 4, packed.view, edges.view), "got int32");
  expect_raises<ShapeError>(quantize(odd.view, 64, 4, packed.view, edges.view),
                            "group of 64, got shape (2, 80)");
  expect_raises<ShapeError>(quantize(w.view, 32, 4, packed.view, short_edges.view), "(2, 1)");
  expect_raises<DtypeError>(quantize(w.view, 32, 4, w.view, edges.view), "wanted uint32 codes, got float32");
}

}  // namespace
}  // namespace lamina
