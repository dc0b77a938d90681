#include "tile_testing.h"

namespace lamina {
namespace {

using testing::Buffer;
using testing::Guarded;

// Every pattern of small types; special values, whole words and random bits of the others.
template <class T>
std::vector<T> inputs() {
  std::vector<T> v;
  if constexpr (scalar::kIsBool<T>) {
    v = {false, true};
  } else if constexpr (kIsHalf<T>) {
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      T x;
      x.bits = static_cast<uint16_t>(bits);
      v.push_back(x);
    }
  } else if constexpr (scalar::kIsInt<T> && sizeof(T) <= 2) {
    for (uint32_t bits = 0; bits < 65536; ++bits) v.push_back(static_cast<T>(bits));
  } else if constexpr (scalar::kIsComplex<T>) {
    std::vector<float> parts = inputs<float>();
    for (size_t i = 0; i < parts.size(); ++i) v.emplace_back(parts[i], parts[(7 * i + 3) % parts.size()]);
  } else {
    v = testing::special_values<T>();
    std::mt19937_64 random(17);
    for (int i = 0; i < 20000; ++i) {
      if constexpr (sizeof(T) == 4) {
        v.push_back(std::bit_cast<T>(static_cast<uint32_t>(random())));
      } else {
        v.push_back(std::bit_cast<T>(random()));
      }
      // Magnitudes between a byte and two words, where truncation and rounding have work to do.
      double unit = std::generate_canonical<double, 53>(random);
      double x = (unit - 0.5) * std::ldexp(1.0, static_cast<int>(random() % 68));
      if constexpr (scalar::kIsFloat<T>) {
        v.push_back(static_cast<T>(x));
      } else {
        v.push_back(scalar::convert<T>(x));
      }
    }
    if constexpr (scalar::kIsFloat<T>) {
      // Halfway cases of float16 and bfloat16, and their neighbours.
      for (uint32_t bits = 0x33000000; bits < 0x47900000; bits += 0x1000) {
        float x = std::bit_cast<float>(bits);
        v.insert(v.end(), {T(x), -T(x), std::nextafter(T(x), T(0)), std::nextafter(T(x), T(1e9))});
      }
    }
  }
  return v;
}

template <class T>
bool same(T a, T b) {
  if constexpr (kIsHalf<T>) {
    return a.bits == b.bits || (std::isnan(float{a}) && std::isnan(float{b}));
  } else if constexpr (scalar::kIsComplex<T>) {
    return same(a.real(), b.real()) && same(a.imag(), b.imag());
  } else if constexpr (scalar::kIsFloat<T>) {
    return std::isnan(a) ? std::isnan(b) : a == b && std::signbit(a) == std::signbit(b);
  } else {
    return a == b;
  }
}

// Calls f(TypeTag<From>, TypeTag<To>) for all pairs.
template <class F>
void for_each_pair(F&& f) {
  for (int from = 0; from < kNumDtypes; ++from) {
    visit_dtype(static_cast<Dtype>(from), [&]<class From>(TypeTag<From> a) {
      for (int to = 0; to < kNumDtypes; ++to) {
        visit_dtype(static_cast<Dtype>(to), [&]<class To>(TypeTag<To> b) { f(a, b); });
      }
    });
  }
}
std::string pair_name(Dtype from, Dtype to) {
  return std::string(dtype_name(from)) + " to " + std::string(dtype_name(to));
}

class TileCast : public testing::EveryTarget {};

TEST_P(TileCast, AgreesWithTheDefinition) {
  for_each_pair([]<class From, class To>(TypeTag<From>, TypeTag<To>) {
    Buffer<From> in(inputs<From>());
    Buffer<To> got(in.size()), want(in.size());
    const void* operands[] = {in.data()};
    cast_tile(kDtypeOf<From>, kDtypeOf<To>)(operands, got.data(), in.size());
    reference_cast(kDtypeOf<From>, kDtypeOf<To>)(operands, want.data(), in.size());
    size_t wrong = 0;
    while (wrong < in.size() && same(got[wrong], want[wrong])) ++wrong;
    EXPECT_EQ(wrong, in.size()) << "first wrong input of " << pair_name(kDtypeOf<From>, kDtypeOf<To>);
  });
}

// Runs fn on every length up to `most`, out of place and where it may be in place, between guard bytes.
void check_lengths(TileFn fn, const std::string& name, const void* values, size_t item, size_t out_item,
                   size_t most) {
  std::vector<unsigned char> whole(most * out_item);
  const void* operands[] = {values};
  fn(operands, whole.data(), most);
  for (size_t n = 0; n <= most; ++n) {
    Guarded in(n * item, item), out(n * out_item, out_item);
    std::memcpy(in.data(), values, n * item);
    const void* guarded[] = {in.data()};
    fn(guarded, out.data(), n);
    ASSERT_EQ(std::memcmp(out.data(), whole.data(), n * out_item), 0) << name << ", n = " << n;
    ASSERT_TRUE(out.intact() && in.intact()) << name << ", n = " << n;
    if (item != out_item) continue;
    fn(guarded, in.data(), n);
    ASSERT_EQ(std::memcmp(in.data(), whole.data(), n * item), 0) << name << " in place, n = " << n;
    ASSERT_TRUE(in.intact()) << name << " in place, n = " << n;
  }
}

TEST_P(TileCast, EveryLengthWritesItsElementsAndNoOthers) {
  constexpr size_t kMost = 130;
  for (int from = 0; from < kNumDtypes; ++from) {
    visit_dtype(static_cast<Dtype>(from), []<class From>(TypeTag<From>) {
      std::vector<From> all = inputs<From>(), some;
      for (size_t i = 0; i < kMost; ++i) some.push_back(all[(i * 977) % all.size()]);
      Buffer<From> values(some);
      for (int i = 0; i < kNumDtypes; ++i) {
        Dtype to = static_cast<Dtype>(i);
        check_lengths(cast_tile(kDtypeOf<From>, to), pair_name(kDtypeOf<From>, to), values.data(),
                      sizeof(From), itemsize(to), kMost);
      }
    });
  }
}

LAMINA_INSTANTIATE_TARGETS(TileCast);

// ---- the definition itself

// The 16-bit value next above or below in magnitude.
template <class H>
long double neighbour(H x, int step) {
  H y;
  y.bits = static_cast<uint16_t>(x.bits + step);
  return static_cast<long double>(static_cast<float>(y));
}
// Whether h is the nearest 16-bit number to x, the even one of two.
template <class H>
bool is_nearest(long double x, H h) {
  long double value = static_cast<float>(h);
  uint16_t magnitude = h.bits & 0x7fff;
  constexpr uint16_t kInfinity = kDtypeOf<H> == Dtype::kFloat16 ? 0x7c00 : 0x7f80;
  H largest;
  largest.bits = kInfinity - 1;
  if (magnitude == kInfinity) {
    // Half a step beyond the largest number counts as infinity.
    long double top = static_cast<float>(largest), below = neighbour(largest, -1);
    return std::abs(x) >= top + (top - below) / 2;
  }
  bool even = (h.bits & 1) == 0;
  long double miss = std::abs(x - value);
  if (magnitude != 0) {
    long double down = std::abs(x - neighbour(h, -1));
    if (down < miss || (down == miss && !even)) return false;
  }
  long double up;
  if (magnitude == kInfinity - 1) {
    long double top = static_cast<float>(largest), below = neighbour(largest, -1);
    up = std::abs(std::abs(x) - (top + (top - below)));
  } else {
    up = std::abs(x - neighbour(h, 1));
  }
  return up > miss || (up == miss && even);
}

template <class From, class H>
void expect_nearest() {
  for (From x : inputs<From>()) {
    H h = scalar::convert<H>(x);
    if constexpr (scalar::kIsFloat<From>) {
      if (std::isnan(x)) {
        ASSERT_TRUE(std::isnan(float{h}));
        continue;
      }
      ASSERT_EQ(std::signbit(x), std::signbit(float{h}));
      if (std::isinf(x)) {
        ASSERT_TRUE(std::isinf(float{h}));
        continue;
      }
    }
    ASSERT_TRUE(is_nearest(static_cast<long double>(x), h))
        << pair_name(kDtypeOf<From>, kDtypeOf<H>) << " of " << +x << " is " << float{h};
  }
}

TEST(CastDefinition, RoundsToTheNearest16BitFloat) {
  expect_nearest<float, float16_t>();
  expect_nearest<double, float16_t>();
  expect_nearest<int32_t, float16_t>();
  expect_nearest<int64_t, float16_t>();
  expect_nearest<uint64_t, float16_t>();
  expect_nearest<float, bfloat16_t>();
  expect_nearest<double, bfloat16_t>();
  expect_nearest<int32_t, bfloat16_t>();
  expect_nearest<uint32_t, bfloat16_t>();
  expect_nearest<int64_t, bfloat16_t>();
  expect_nearest<uint64_t, bfloat16_t>();
}

TEST(CastDefinition, SixteenBitFloatsSurviveARoundTrip) {
  for (float16_t x : inputs<float16_t>()) {
    EXPECT_TRUE(same(scalar::convert<float16_t>(scalar::convert<float>(x)), x)) << x.bits;
    EXPECT_TRUE(same(scalar::convert<float16_t>(scalar::convert<double>(x)), x)) << x.bits;
  }
  for (bfloat16_t x : inputs<bfloat16_t>()) {
    EXPECT_TRUE(same(scalar::convert<bfloat16_t>(scalar::convert<float>(x)), x)) << x.bits;
    EXPECT_TRUE(same(scalar::convert<bfloat16_t>(scalar::convert<double>(x)), x)) << x.bits;
  }
}

TEST(CastDefinition, TruncatesFloatsAsNumPyDoes) {
  using scalar::convert;
  constexpr float kInf = std::numeric_limits<float>::infinity(),
                  kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr int32_t kSmallest = std::numeric_limits<int32_t>::min();
  EXPECT_EQ(convert<int32_t>(-1.9f), -1);
  EXPECT_EQ(convert<int32_t>(1.9f), 1);
  for (float x : {kNan, kInf, -kInf, 3e9f, -3e9f}) EXPECT_EQ(convert<int32_t>(x), kSmallest);
  EXPECT_EQ(convert<int32_t>(2147483647.0), 2147483647);
  EXPECT_EQ(convert<int32_t>(-2147483648.9), kSmallest);
  EXPECT_EQ(convert<uint8_t>(-1.5f), 255);
  EXPECT_EQ(convert<uint8_t>(300.0f), 44);
  EXPECT_EQ(convert<uint8_t>(kNan), 0);
  EXPECT_EQ(convert<int8_t>(130.0f), -126);
  EXPECT_EQ(convert<uint16_t>(70000.0f), 4464);
  EXPECT_EQ(convert<uint32_t>(3e9f), 3000000000u);
  EXPECT_EQ(convert<uint32_t>(-1.0f), 4294967295u);
  EXPECT_EQ(convert<int64_t>(-9.3e18), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(convert<int64_t>(kNan), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(convert<uint64_t>(1e19), 10000000000000000000u);
  EXPECT_EQ(convert<uint64_t>(-1.0), std::numeric_limits<uint64_t>::max());
}

TEST(CastDefinition, BoolComplexAndIntegers) {
  using scalar::convert;
  using C = std::complex<float>;
  EXPECT_TRUE(convert<bool>(std::numeric_limits<float>::quiet_NaN()));
  EXPECT_TRUE(convert<bool>(std::numeric_limits<float>::denorm_min()));
  EXPECT_FALSE(convert<bool>(-0.0f));
  EXPECT_FALSE(convert<bool>(float16_t(-0.0f)));
  EXPECT_TRUE(convert<bool>(C(0, 1)));
  EXPECT_TRUE(convert<bool>(int64_t{1} << 40));
  EXPECT_EQ(convert<float>(C(2, 3)), 2.0f);
  EXPECT_EQ(convert<int32_t>(C(-2.5f, 3)), -2);
  EXPECT_EQ(convert<C>(int64_t{7}), C(7, 0));
  EXPECT_EQ(convert<int8_t>(int32_t{0x1234ff}), -1);
  EXPECT_EQ(convert<uint64_t>(int8_t{-1}), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(convert<float>((int64_t{1} << 53) + 1), 0x1p53f);
}

}  // namespace
}  // namespace lamina
