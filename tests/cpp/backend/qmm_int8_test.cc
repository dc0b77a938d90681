#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>

#include "qmm_testing.h"

namespace lamina::testing {
namespace {

using cpu::QmmArgs;
using cpu::QmmMode;
using cpu::quantized_matmul;

// Weights of any format as the integers that the contract speaks of (qmm_kernel.h), [rows][cols] and
// [rows][groups].
struct IntegerWeights {
  IntegerForm form;
  std::vector<uint8_t> codes;
  std::vector<float> scales, biases;
};

// The int8 mode in plain words.
std::vector<float> expected_int8(const IntegerWeights& w, const float* x, int64_t m, int64_t n, int64_t k) {
  const int64_t group = w.form.group, groups = k / group;
  std::vector<float> q(static_cast<size_t>(k)), scales(static_cast<size_t>(groups)), out;
  std::vector<int> sums(static_cast<size_t>(groups));
  for (int64_t i = 0; i < m; ++i, x += k) {
    for (int64_t g = 0; g < groups; ++g) {
      float most = 0;
      for (int64_t s = 0; s < group; ++s) most = std::max(most, std::abs(x[g * group + s]));
      const float inverse = most > 0 ? std::min(127.0f / most, 3.4e38f) : 0.0f;
      int sum = 0;
      for (int64_t s = g * group; s < (g + 1) * group; ++s) {
        q[static_cast<size_t>(s)] = std::nearbyint(x[s] * inverse);
        sum += static_cast<int>(q[static_cast<size_t>(s)]);
      }
      scales[static_cast<size_t>(g)] = most / 127.0f, sums[static_cast<size_t>(g)] = sum;
    }
    for (int64_t j = 0; j < n; ++j) {
      float total = 0;
      for (int64_t g = 0; w.form.biased && g < groups; ++g) {
        const auto at = static_cast<size_t>(g);
        const float x_sum = scales[at] * static_cast<float>(sums[at]);
        total = std::fma(x_sum, w.biases[static_cast<size_t>(j * groups + g)], total);
      }
      for (int64_t g = 0; g < groups; ++g) {
        int dot = 0;
        for (int64_t s = g * group; s < (g + 1) * group; ++s) {
          const int code = w.codes[static_cast<size_t>(j * k + s)] - w.form.offset;
          dot += code * static_cast<int>(q[static_cast<size_t>(s)]);
        }
        const float scaled = static_cast<float>(dot) * scales[static_cast<size_t>(g)];
        total = std::fma(scaled, w.scales[static_cast<size_t>(j * groups + g)], total);
      }
      out.push_back(total);
    }
  }
  return out;
}

// Every number of rows gives the expected bits, and nothing is written outside.
void check_bits(QmmArgs q, const std::vector<float>& want) {
  for (int64_t m : {1, 2, 5, 8, 13, 16, 17, 33}) {
    Guarded y(m * q.n, Dtype::kFloat32);
    q.m = m, q.y = y.data();
    quantized_matmul(q);
    ASSERT_TRUE(y.guards_whole()) << m;
    ASSERT_EQ(std::memcmp(y.data(), want.data(), static_cast<size_t>(m * q.n) * 4), 0) << "m " << m;
  }
}
constexpr int64_t kMostRows = 33;

// Activations of very different sizes.
Guarded activations(int64_t m, int64_t k, std::mt19937& rng) {
  Guarded x = random_buffer(m * k, Dtype::kFloat32, rng);
  for (int64_t i = 0; i < m * k; i += 7) x.set(i, x.at(i) * std::exp2(static_cast<double>(i % 40) - 20));
  return x;
}

// All of the same size, so that all codes are 127, or all -127.
Guarded extreme_activations(int64_t m, int64_t k) {
  Guarded x(m * k, Dtype::kFloat32);
  for (int64_t i = 0; i < m * k; ++i) x.set(i, i / k % 2 ? 3.0 : -3.0);
  return x;
}

void check_affine(QmmCase t, std::mt19937& rng, std::optional<int> byte = {}) {
  SCOPED_TRACE(describe(t));
  t.mode = QmmMode::kInt8, t.m = kMostRows;
  Weights w(1, t.n, t.k, t.group, t.bits, t.s, rng);
  if (byte) std::memset(w.packed.data(), *byte, static_cast<size_t>(w.packed.elems()) * 4);
  Guarded x = byte ? extreme_activations(t.m, t.k) : activations(t.m, t.k, rng);
  Guarded y(t.m * t.n, Dtype::kFloat32);
  IntegerWeights ints{{t.group, 0, (1 << t.bits) - 1, true}, {}, {}, {}};
  for (int64_t j = 0; j < t.n; ++j) {
    for (int64_t s = 0; s < t.k; ++s) {
      ints.codes.push_back(static_cast<uint8_t>(w.code(j, s)));
      if (s % t.group != 0) continue;
      ints.scales.push_back(static_cast<float>(w.scale(j, s)));
      ints.biases.push_back(static_cast<float>(w.bias(j, s)));
    }
  }
  const std::vector<float> want = expected_int8(ints, x.as<float>(), t.m, t.n, t.k);
  const QmmArgs q = args_of(t, x, w, y);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    check_bits(q, want);
  });
}

TEST(QmmInt8, AffineBitsAreThoseOfTheContract) {
  std::mt19937 rng(11);
  for (int bits : kAffineBits) {
    for (int group : kAffineGroups) {
      const Dtype scales = group == 32 ? Dtype::kBFloat16 : group == 64 ? Dtype::kFloat16 : Dtype::kFloat32;
      check_affine({.m = 0, .n = 37, .k = 3 * group, .group = group, .bits = bits, .s = scales}, rng);
    }
    check_affine({.m = 0, .n = 5, .k = 32, .group = 32, .bits = bits}, rng);
    check_affine({.m = 0, .n = 67, .k = 832, .bits = bits}, rng);
  }
}

// Random bytes are codes; scales get an ordinary size.
void check_blocks(QuantFormat format, int64_t n, int64_t k, std::mt19937& rng, std::optional<int> byte = {}) {
  const BlockFormat& f = block_format(format);
  SCOPED_TRACE(std::string(f.name) + " n " + std::to_string(n) + " k " + std::to_string(k));
  Guarded codes(n * f.row_bytes(k), Dtype::kUInt8), scales(n * f.row_scale_bytes(k), Dtype::kUInt8);
  auto* bytes = codes.as<uint8_t>();
  for (int64_t i = 0; i < codes.elems(); ++i) bytes[i] = static_cast<uint8_t>(byte ? *byte : rng());
  for (int64_t i = 0; i < scales.elems(); ++i) {
    scales.as<uint8_t>()[i] =
        static_cast<uint8_t>(format == QuantFormat::kNvfp4 ? rng() % 120 : 110 + rng() % 9);
  }
  const int64_t blocks = n * k / f.block;
  for (int64_t i = 0; i < blocks; ++i) {
    for (int64_t place : gguf_scale_places(format)) {
      const float16_t d((static_cast<float>(rng() % 2000) - 1000.0f) / 5000.0f);
      std::memcpy(bytes + i * f.code_bytes + place, &d.bits, 2);
    }
  }
  IntegerWeights ints{f.integers, {}, {}, {}};
  ints.codes.resize(static_cast<size_t>(n * k));
  ints.scales.resize(static_cast<size_t>(n * k / f.integers.group)), ints.biases = ints.scales;
  f.integers.read(bytes, scales.as<uint8_t>(), blocks, ints.codes.data(), ints.scales.data(),
                  ints.biases.data());
  for (uint8_t code : ints.codes) ASSERT_LE(code, f.integers.most);
  Guarded x = byte ? extreme_activations(kMostRows, k) : activations(kMostRows, k, rng);
  const std::vector<float> want = expected_int8(ints, x.as<float>(), kMostRows, n, k);
  QmmArgs q;
  q.n = n, q.k = k, q.format = format, q.group = static_cast<int>(f.block), q.bits = f.bits;
  q.mode = QmmMode::kInt8;
  q.x = x.data(), q.x_row_stride = k, q.y_row_stride = n;
  q.packed = codes.data(), q.scales = scales.elems() > 0 ? scales.data() : nullptr;
  q.scale_dtype = Dtype::kUInt8;
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    check_bits(q, want);
  });
}

// The largest sums that kernels add up in 16 bits.
TEST(QmmInt8, ExtremesDoNotSaturate) {
  std::mt19937 rng(14);
  for (int byte : {0, 255}) {
    for (int bits : kAffineBits) {
      for (int group : kAffineGroups) {
        check_affine({.m = 0, .n = 37, .k = 384, .group = group, .bits = bits}, rng, byte);
      }
    }
    for (int number = 1; is_block_format(static_cast<QuantFormat>(number)); ++number) {
      const auto format = static_cast<QuantFormat>(number);
      if (block_format(format).integers.group > 0) check_blocks(format, 37, 512, rng, byte);
    }
  }
}

TEST(QmmInt8, BlockFormatsBitsAreThoseOfTheContract) {
  std::mt19937 rng(12);
  for (int number = 1; is_block_format(static_cast<QuantFormat>(number)); ++number) {
    const auto format = static_cast<QuantFormat>(number);
    const BlockFormat& f = block_format(format);
    if (f.integers.group == 0) continue;
    check_blocks(format, 37, f.block, rng);
    check_blocks(format, 5, 3 * f.block, rng);
    check_blocks(format, 67, 5 * std::max<int64_t>(f.block, 128), rng);
  }
}

// So many rows that each lane of a kernel may have some of its own, and a few that are left.
TEST(QmmInt8, ManyRowsHaveTheBitsOfTheContract) {
  std::mt19937 rng(15);
  for (QuantFormat format : {QuantFormat::kQ4_0, QuantFormat::kQ4_1, QuantFormat::kQ8_0, QuantFormat::kQ6K}) {
    check_blocks(format, 1003, 1024, rng);
  }
}

// Formats without integers, and weights [k, n], run in the exact mode.
TEST(QmmInt8, OthersAreExact) {
  std::mt19937 rng(13);
  QmmCase t{.m = 5, .n = 64, .k = 64, .transpose = false};
  Weights w(1, t.k, t.n, t.group, t.bits, t.s, rng);
  Guarded x = random_buffer(t.m * t.k, Dtype::kFloat32, rng), exact(t.m * t.n, Dtype::kFloat32), int8 = exact;
  quantized_matmul(args_of(t, x, w, exact));
  t.mode = QmmMode::kInt8;
  quantized_matmul(args_of(t, x, w, int8));
  EXPECT_TRUE(exact.same_bits(int8));
}

TEST(QmmInt8, EveryDtypeIsRoundedOnce) {
  std::mt19937 rng(14);
  for (Dtype dtype : {Dtype::kFloat16, Dtype::kBFloat16}) {
    for (int64_t m : {1, 20}) {
      QmmCase t{.m = m, .n = 70, .k = 512, .x = dtype, .s = dtype, .mode = QmmMode::kInt8};
      Weights w(1, t.n, t.k, t.group, t.bits, t.s, rng);
      Guarded x = random_buffer(m * t.k, dtype, rng), full(m * t.n, Dtype::kFloat32), half(m * t.n, dtype);
      quantized_matmul(args_of(t, x, w, full));
      t.y = dtype;
      quantized_matmul(args_of(t, x, w, half));
      Guarded want(m * t.n, dtype);
      for (int64_t i = 0; i < m * t.n; ++i) want.set(i, full.at(i));
      EXPECT_TRUE(half.same_bits(want)) << dtype_name(dtype) << " m " << m;
    }
  }
}

// The largest codes with the largest activations: no step of the integer dots may saturate.
TEST(QmmInt8, DoesNotSaturate) {
  std::mt19937 rng(15);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int bits : {4, 8}) {
      for (int64_t m : {1, 14}) {
        QmmCase t{.m = m, .n = 40, .k = 256, .group = 128, .bits = bits, .mode = QmmMode::kInt8};
        Weights w(1, t.n, t.k, t.group, t.bits, t.s, rng);
        std::memset(w.packed.data(), 0xff, static_cast<size_t>(t.n * t.k * bits / 8));
        for (int64_t i = 0; i < w.scales.elems(); ++i) w.scales.set(i, 1), w.biases.set(i, 0);
        Guarded x(m * t.k, Dtype::kFloat32), y(m * t.n, Dtype::kFloat32);
        for (int64_t i = 0; i < m * t.k; ++i) x.set(i, i / t.k % 2 ? -127 : 127);
        quantized_matmul(args_of(t, x, w, y));
        for (int64_t i = 0; i < m * t.n; ++i) {
          const double want = (i / t.n % 2 ? -127.0 : 127.0) * ((1 << bits) - 1) * 256;
          ASSERT_EQ(y.at(i), want);
        }
      }
    }
  });
}

TEST(QmmInt8, NonFiniteActivationsStayInTheirRow) {
  std::mt19937 rng(16);
  for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    for (int64_t m : {2, 20}) {
      QmmCase t{.m = m, .n = 40, .k = 128, .mode = QmmMode::kInt8};
      Weights w(1, t.n, t.k, t.group, t.bits, t.s, rng);
      Guarded x = random_buffer(m * t.k, Dtype::kFloat32, rng), y(m * t.n, Dtype::kFloat32);
      x.set(1 * t.k + 127, bad);
      for (int64_t s = 0; s < 64; ++s) x.set(s, 0.0);
      for (int64_t s = 64; s < 128; ++s) x.set(s, 1e-42);
      quantized_matmul(args_of(t, x, w, y));
      for (int64_t i = 0; i < m * t.n; ++i) {
        EXPECT_EQ(std::isnan(y.at(i)), i / t.n == 1) << i;
        if (i < t.n) { EXPECT_NEAR(y.at(i), 0.0, 1e-40); }
      }
    }
  }
}

TEST(QmmInt8, BitsDoNotDependOnTheThreads) {
  std::mt19937 rng(17);
  for_each_target([&](const char* name) {
    if (std::string_view(name) == "sse2") return;
    SCOPED_TRACE(name);
    for (int bits : {3, 4, 8}) {
      for (int64_t m : {1, 6, 30}) {
        QmmCase t{.m = m, .n = 700, .k = 1024, .bits = bits, .mode = QmmMode::kInt8};
        Weights w(1, t.n, t.k, t.group, t.bits, t.s, rng);
        Guarded x = random_buffer(m * t.k, Dtype::kFloat32, rng);
        Guarded want(m * t.n, Dtype::kFloat32);
        {
          ThreadCount one(1);
          quantized_matmul(args_of(t, x, w, want));
        }
        for (int threads : {2, 7}) {
          ThreadCount many(threads);
          Guarded got(m * t.n, Dtype::kFloat32);
          quantized_matmul(args_of(t, x, w, got));
          EXPECT_TRUE(want.same_bits(got)) << describe(t) << " threads " << threads;
        }
      }
    }
  });
}

}  // namespace
}  // namespace lamina::testing
