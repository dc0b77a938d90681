#include "tile_testing.h"

namespace lamina {
namespace {

using testing::Buffer;
using testing::range;

constexpr OpId kReductions[] = {
#define REDUCE(id, ...) OpId::id,
#include "lamina/table/reduce.def"
#undef REDUCE
};
constexpr DtypeSet allowed(OpId id) {
  switch (id) {
#define REDUCE(id, name, dtypes, ...) \
  case OpId::id:                      \
    return dtypes;
#include "lamina/table/reduce.def"
#undef REDUCE
    default: return 0;
  }
}

template <class F>
void for_each_type(DtypeSet set, F&& f) {
  for (int i = 0; i < kNumDtypes; ++i) {
    visit_dtype(static_cast<Dtype>(i), [&]<class T>(TypeTag<T> tag) {
      if constexpr (!kIsHalf<T>) {
        if (contains(set, kDtypeOf<T>)) f(tag);
      }
    });
  }
}

// Folds `values` from the identity; the accumulator has type A.
template <class A, class T>
A reduced(OpId id, const Buffer<T>& values, size_t first, size_t n) {
  A acc;
  reduce_identity(id, kDtypeOf<T>, &acc);
  reduce_tile(id, kDtypeOf<T>)(values.bytes.data() + first * sizeof(T), n, &acc);
  return acc;
}

// Relative error of a sum or product of n numbers: 32 additions in a lane, a tree of lanes and blocks above.
double growth(size_t n) { return 40 + std::log2(static_cast<double>(n) + 1); }

class TileReduce : public testing::EveryTarget {};

TEST_P(TileReduce, SumsWithLogarithmicError) {
  for_each_type(kFloating & ~dtype_bit(Dtype::kFloat16), []<class T>(TypeTag<T>) {
    if constexpr (scalar::kIsFloat<T>) {
      for (size_t n : {1, 2, 15, 16, 17, 63, 64, 65, 130, 1000, 2048, 2049, 4096, 10000, 131071, 1 << 20}) {
        Buffer<T> x(testing::draws<T>(n, range(-10, 10), n));
        long double exact = 0, size = 0;
        for (size_t i = 0; i < n; ++i) {
          exact += x[i];
          size += std::abs(x[i]);
        }
        double bound = growth(n) * std::numeric_limits<T>::epsilon() / 2 * static_cast<double>(size);
        ASSERT_LE(std::abs(reduced<T>(OpId::Sum, x, 0, n) - exact), bound)
            << dtype_name(kDtypeOf<T>) << " n = " << n;
      }
    }
  });
  // One rounding a step would drift by far more here.
  Buffer<float> tenths(std::vector<float>(1 << 22, 0.1f));
  double exact = static_cast<double>(0.1f) * (1 << 22);
  EXPECT_LE(std::abs(reduced<float>(OpId::Sum, tenths, 0, 1 << 22) - exact),
            growth(1 << 22) * 0x1p-24 * exact);
}

TEST_P(TileReduce, MultipliesFloats) {
  for (size_t n : {1, 5, 16, 100, 1000, 5000}) {
    Buffer<double> x(testing::draws<double>(n, range(0.9, 1.1), n));
    long double exact = 1;
    for (size_t i = 0; i < n; ++i) exact *= x[i];
    double got = reduced<double>(OpId::Prod, x, 0, n);
    EXPECT_LE(std::abs(got / exact - 1), static_cast<double>(n) * std::numeric_limits<double>::epsilon());
  }
}

TEST_P(TileReduce, ComplexSumsAndProducts) {
  using C = std::complex<float>;
  for (size_t n : {1, 3, 8, 33, 130, 1000}) {
    Buffer<C> x(testing::draws<C>(n, range(-1, 1), n));
    std::complex<double> sum = 0;
    double size = 0;
    for (size_t i = 0; i < n; ++i) {
      sum += std::complex<double>(x[i]);
      size += std::abs(x[i]);
    }
    EXPECT_LE(std::abs(std::complex<double>(reduced<C>(OpId::Sum, x, 0, n)) - sum),
              growth(n) * 0x1p-23 * size);
  }
  Buffer<C> turns(std::vector<C>(6, C(0, 1)));
  EXPECT_EQ(reduced<C>(OpId::Prod, turns, 0, 6), C(-1, 0));
}

// Integers are exact, so every length must agree with one element after the other; so must max, min, all and
// any.
TEST_P(TileReduce, EveryLengthAgreesWithTheDefinition) {
  for (OpId id : kReductions) {
    for_each_type(allowed(id), [id]<class T>(TypeTag<T>) {
      bool rounds = (id == OpId::Sum || id == OpId::Prod) && !std::is_integral_v<T>;
      if (rounds) return;
      // Beyond the row stand values that would decide the result.
      std::vector<T> values = testing::draws<T>(300, range(-100, 100), 23);
      for (size_t i = 130; i < 300; ++i) values[i] = i % 2 ? scalar::highest<T>() : scalar::lowest<T>();
      for (size_t n = 0; n <= 130; ++n) {
        for (size_t first : {0, 1, 5}) {
          if (first + n > 130) continue;
          std::vector<T> row(values.begin() + static_cast<ptrdiff_t>(first), values.end());
          for (size_t i = 0; i < n; ++i) row[i] = values[first + i];
          for (size_t i = n; i < row.size(); ++i) row[i] = i % 2 ? scalar::highest<T>() : scalar::lowest<T>();
          Buffer<T> x(row);
          alignas(16) unsigned char got[16] = {}, want[16] = {};
          reduce_identity(id, kDtypeOf<T>, got);
          reduce_identity(id, kDtypeOf<T>, want);
          reduce_tile(id, kDtypeOf<T>)(x.data(), n, got);
          reference_reduce(id, kDtypeOf<T>)(x.data(), n, want);
          ASSERT_EQ(std::memcmp(got, want, itemsize(reduce_dtype(id, kDtypeOf<T>))), 0)
              << "reduction " << static_cast<int>(id) << " " << dtype_name(kDtypeOf<T>) << " n = " << n;
        }
      }
    });
  }
}

TEST_P(TileReduce, BitsDoNotDependOnAlignment) {
  std::vector<float> values = testing::draws<float>(3000, range(-1, 1), 29);
  for (size_t n : {7, 100, 1000, 2900}) {
    std::vector<float> shifted(n + 40, 1e30f);
    float first = reduced<float>(OpId::Sum, Buffer<float>(values), 0, n);
    for (size_t offset = 0; offset < 33; ++offset) {
      std::copy(values.begin(), values.begin() + static_cast<ptrdiff_t>(n),
                shifted.begin() + static_cast<ptrdiff_t>(offset));
      ASSERT_EQ(reduced<float>(OpId::Sum, Buffer<float>(shifted), offset, n), first) << "n = " << n;
    }
  }
}

TEST_P(TileReduce, ContinuesFromTheAccumulator) {
  Buffer<float> x(std::vector<float>{1, 2, 3});
  float acc = 10;
  reduce_tile(OpId::Sum, Dtype::kFloat32)(x.data(), 3, &acc);
  EXPECT_EQ(acc, 16);
  reduce_tile(OpId::Max, Dtype::kFloat32)(x.data(), 3, &acc);
  EXPECT_EQ(acc, 16);
  reduce_tile(OpId::Min, Dtype::kFloat32)(x.data(), 0, &acc);
  EXPECT_EQ(acc, 16);
  bool all = false;
  reduce_tile(OpId::All, Dtype::kFloat32)(x.data(), 3, &all);
  EXPECT_FALSE(all);
}

TEST_P(TileReduce, NanPropagatesFromEveryPlace) {
  for_each_type(kFloating, []<class T>(TypeTag<T>) {
    if constexpr (scalar::kIsFloat<T>) {
      for (size_t n : {1, 16, 67, 130, 3000}) {
        for (size_t at : {size_t{0}, n / 2, n - 1}) {
          std::vector<T> values = testing::draws<T>(n, range(-5, 5), n);
          values[at] = std::numeric_limits<T>::quiet_NaN();
          Buffer<T> x(values);
          for (OpId id : {OpId::Sum, OpId::Prod, OpId::Max, OpId::Min}) {
            ASSERT_TRUE(std::isnan(reduced<T>(id, x, 0, n)))
                << static_cast<int>(id) << " n = " << n << " at " << at;
          }
          ASSERT_EQ(argmax_tile(kDtypeOf<T>)(x.data(), n), static_cast<int64_t>(at));
          ASSERT_EQ(argmin_tile(kDtypeOf<T>)(x.data(), n), static_cast<int64_t>(at));
        }
      }
    }
  });
}

TEST_P(TileReduce, AllAndAnySeeEveryElement) {
  for_each_type(kAnyDtype, []<class T>(TypeTag<T>) {
    for (size_t n = 1; n <= 130; ++n) {
      for (size_t at : {size_t{0}, n / 2, n - 1}) {
        std::vector<T> ones(n, T(1)), zeros(n, T(0));
        ones[at] = T(0);
        zeros[at] = T(1);
        ASSERT_FALSE(reduced<bool>(OpId::All, Buffer<T>(ones), 0, n))
            << dtype_name(kDtypeOf<T>) << " n = " << n;
        ASSERT_TRUE(reduced<bool>(OpId::Any, Buffer<T>(zeros), 0, n))
            << dtype_name(kDtypeOf<T>) << " n = " << n;
        ones[at] = T(1);
        zeros[at] = T(0);
        ASSERT_TRUE(reduced<bool>(OpId::All, Buffer<T>(ones), 0, n))
            << dtype_name(kDtypeOf<T>) << " n = " << n;
        ASSERT_FALSE(reduced<bool>(OpId::Any, Buffer<T>(zeros), 0, n))
            << dtype_name(kDtypeOf<T>) << " n = " << n;
      }
    }
  });
}

TEST_P(TileReduce, ArgumentsAreTheFirstExtremum) {
  for_each_type(kAnyDtype, []<class T>(TypeTag<T>) {
    for (size_t n : {1, 2, 15, 16, 17, 64, 65, 130, 1000}) {
      std::vector<T> values = testing::draws<T>(n, range(-3, 3), n);
      // Ties, on purpose.
      for (size_t i = n / 2; i < n; ++i) values[i] = values[i - n / 2];
      Buffer<T> x(values);
      ASSERT_EQ(argmax_tile(kDtypeOf<T>)(x.data(), n), reference_argmax(kDtypeOf<T>)(x.data(), n)) << n;
      ASSERT_EQ(argmin_tile(kDtypeOf<T>)(x.data(), n), reference_argmin(kDtypeOf<T>)(x.data(), n)) << n;
      int64_t largest = 0, smallest = 0;
      for (size_t i = 1; i < n; ++i) {
        if (scalar::less(x[static_cast<size_t>(largest)], x[i])) largest = static_cast<int64_t>(i);
        if (scalar::less(x[i], x[static_cast<size_t>(smallest)])) smallest = static_cast<int64_t>(i);
      }
      ASSERT_EQ(argmax_tile(kDtypeOf<T>)(x.data(), n), largest) << dtype_name(kDtypeOf<T>) << " n = " << n;
      ASSERT_EQ(argmin_tile(kDtypeOf<T>)(x.data(), n), smallest) << dtype_name(kDtypeOf<T>) << " n = " << n;
      Buffer<T> equal(std::vector<T>(n, scalar::lowest<T>()));
      ASSERT_EQ(argmax_tile(kDtypeOf<T>)(equal.data(), n), 0);
      ASSERT_EQ(argmin_tile(kDtypeOf<T>)(equal.data(), n), 0);
    }
  });
}

template <class T>
void expect_extrema_of_halves() {
  // Around pieces of 1024, with ties, and NaN at every place that matters.
  for (size_t n : {1, 15, 16, 17, 1023, 1024, 1025, 3000}) {
    const std::vector<float> drawn = testing::draws<float>(n, range(-3, 3), n);
    Buffer<T> x{std::vector<T>(drawn.begin(), drawn.end())};
    const auto before = [&](size_t a, size_t b) {
      return static_cast<float>(x[a]) < static_cast<float>(x[b]);
    };
    size_t largest = 0, smallest = 0;
    for (size_t i = 1; i < n; ++i) {
      if (before(largest, i)) largest = i;
      if (before(i, smallest)) smallest = i;
    }
    ASSERT_EQ(argmax_tile(kDtypeOf<T>)(x.data(), n), static_cast<int64_t>(largest)) << n;
    ASSERT_EQ(argmin_tile(kDtypeOf<T>)(x.data(), n), static_cast<int64_t>(smallest)) << n;
    for (size_t at : {size_t{0}, n / 2, n - 1}) {
      Buffer<T> with{std::vector<T>(drawn.begin(), drawn.end())};
      with.data()[at] = T(std::numeric_limits<float>::quiet_NaN());
      ASSERT_EQ(argmax_tile(kDtypeOf<T>)(with.data(), n), static_cast<int64_t>(at)) << n;
      ASSERT_EQ(argmin_tile(kDtypeOf<T>)(with.data(), n), static_cast<int64_t>(at)) << n;
    }
  }
}

TEST_P(TileReduce, ArgumentsOfHalvesAreTheFirstExtremum) {
  if (GetParam() == "sse2") {
    EXPECT_EQ(argmax_tile(Dtype::kBFloat16), nullptr);
    return;
  }
  expect_extrema_of_halves<float16_t>();
  expect_extrema_of_halves<bfloat16_t>();
}

TEST_P(TileReduce, ColumnsFoldElementByElement) {
  std::vector<float> acc = {1, 5, -2}, row = {4, 2, -3};
  const void* operands[] = {acc.data(), row.data()};
  reduce_cols_tile(OpId::Max, Dtype::kFloat32)(operands, acc.data(), 3);
  EXPECT_EQ(acc, (std::vector<float>{4, 5, -2}));
  reduce_cols_tile(OpId::Sum, Dtype::kFloat32)(operands, acc.data(), 3);
  EXPECT_EQ(acc, (std::vector<float>{8, 7, -5}));
  EXPECT_EQ(reduce_cols_tile(OpId::All, Dtype::kFloat32), nullptr);
  EXPECT_EQ(reduce_cols_tile(OpId::All, Dtype::kBool), simd_tile(OpId::LogicalAnd, Dtype::kBool));
  EXPECT_EQ(reduce_cols_tile(OpId::Sum, Dtype::kBool), nullptr);
}

TEST_P(TileReduce, ImpossiblePairsHaveNoKernel) {
  EXPECT_EQ(reduce_tile(OpId::Sum, Dtype::kBool), nullptr);
  EXPECT_EQ(reduce_tile(OpId::Sum, Dtype::kFloat16), nullptr);
  EXPECT_EQ(reduce_tile(OpId::Exp, Dtype::kFloat32), nullptr);
  float acc;
  EXPECT_THROW(reduce_identity(OpId::Sum, Dtype::kBool, &acc), Unsupported);
}

LAMINA_INSTANTIATE_TARGETS(TileReduce);

}  // namespace
}  // namespace lamina
