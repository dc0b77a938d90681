#include "tile_testing.h"

namespace lamina {
namespace {

using testing::Buffer;
using testing::Guarded;
using testing::Range;
using testing::range;
using testing::Wider;

struct Row {
  OpId id;
  const char* name;
  Range range;
  int ulp;
};

#define UNARY(id, name, dtypes, result, expression, range, ulp, doc) \
  struct id##Row {                                                   \
    static constexpr DtypeSet kDtypes = dtypes;                      \
    static constexpr RowResult kResult = RowResult::result;          \
    static constexpr Row kRow = {OpId::id, #name, range, ulp};       \
    template <class T>                                               \
    auto operator()([[maybe_unused]] T x) const {                    \
      return expression;                                             \
    }                                                                \
  };
#include "lamina/table/unary.def"
#undef UNARY

template <class F>
void for_each_row(F&& f) {
#define UNARY(id, ...) f(id##Row());
#include "lamina/table/unary.def"
#undef UNARY
}
// Calls f(TypeTag<T>) for every dtype the row computes in.
template <class R, class F>
void for_each_type(R, F&& f) {
  for (int i = 0; i < kNumDtypes; ++i) {
    visit_dtype(static_cast<Dtype>(i), [&]<class T>(TypeTag<T> tag) {
      if constexpr (contains(R::kDtypes, kDtypeOf<T>) && !kIsHalf<T>) f(tag);
    });
  }
}
template <class R, class T>
using ResultOf = typename RowResultType<T, R::kResult>::type;

// Compares one result with the row's expression in the wider type, rounded.
template <class R, class T>
void check(T x, ResultOf<R, T> got) {
  using Out = ResultOf<R, T>;
  auto truth = R()(static_cast<Wider<T, R::kRow.ulp>>(x));
  std::string where = std::string(R::kRow.name) + " " + std::string(dtype_name(kDtypeOf<T>));
  if constexpr (scalar::kIsComplex<Out>) {
    ASSERT_TRUE(testing::close(got, truth, R::kRow.ulp)) << where << " of " << x;
  } else if constexpr (scalar::kIsFloat<Out>) {
    Out want = static_cast<Out>(truth);
    ASSERT_LE(testing::steps_between(got, want), R::kRow.ulp)
        << where << " of " << x << " is " << got << ", not " << want;
    if (want == 0) {
      ASSERT_EQ(std::signbit(got), std::signbit(want)) << where << " of " << x << ": sign of zero";
    }
  } else {
    ASSERT_EQ(+got, +static_cast<Out>(truth)) << where << " of " << +x;
  }
}

class TileUnary : public testing::EveryTarget {};

TEST_P(TileUnary, KeepsEachRowsErrorBound) {
  for_each_row([]<class R>(R row) {
    for_each_type(row, []<class T>(TypeTag<T>) {
      TileFn fn = simd_tile(R::kRow.id, kDtypeOf<T>);
      ASSERT_NE(fn, nullptr);
      std::vector<T> values = testing::draws<T>(20000, R::kRow.range, 7);
      for (T x : testing::special_values<T>()) values.push_back(x);
      Buffer<T> in(values);
      Buffer<ResultOf<R, T>> out(values.size());
      const void* operands[] = {in.data()};
      fn(operands, out.data(), values.size());
      for (size_t i = 0; i < values.size(); ++i) check<R, T>(in[i], out[i]);
    });
  });
}

// Whole ranges of floats around zero, one and the ends of the exponential, in steps a uniform draw would
// miss.
TEST_P(TileUnary, KeepsFloat32BoundsOnDenseStretches) {
  for_each_row([]<class R>(R) {
    if constexpr (contains(R::kDtypes, Dtype::kFloat32) && R::kRow.ulp > 0) {
      TileFn fn = simd_tile(R::kRow.id, Dtype::kFloat32);
      for (uint32_t start : {0x00000000u, 0x007fff00u, 0x34000000u, 0x3effff00u, 0x3f34ff00u, 0x3f7fff00u,
                             0x3fc90f00u, 0x40490f00u, 0x42b17200u, 0x42cff000u, 0x47ffff00u, 0x7f7fff00u}) {
        Buffer<float> in(512), out(512);
        for (uint32_t sign : {0u, 0x80000000u}) {
          for (uint32_t i = 0; i < 512; ++i) in.data()[i] = std::bit_cast<float>(sign | (start + i));
          const void* operands[] = {in.data()};
          fn(operands, out.data(), 512);
          for (size_t i = 0; i < 512; ++i) check<R, float>(in[i], out[i]);
        }
      }
    }
  });
}

TEST_P(TileUnary, EveryLengthWritesItsElementsAndNoOthers) {
  for_each_row([]<class R>(R row) {
    for_each_type(row, []<class T>(TypeTag<T>) {
      using Out = ResultOf<R, T>;
      constexpr size_t kMost = 130;
      TileFn fn = simd_tile(R::kRow.id, kDtypeOf<T>);
      Buffer<T> values(testing::draws<T>(kMost, R::kRow.range, 11));
      Buffer<Out> whole(kMost);
      const void* operands[] = {values.data()};
      fn(operands, whole.data(), kMost);
      for (size_t n = 0; n <= kMost; ++n) {
        Guarded in(n * sizeof(T), sizeof(T)), out(n * sizeof(Out), sizeof(Out));
        std::memcpy(in.data(), values.data(), n * sizeof(T));
        const void* guarded[] = {in.data()};
        fn(guarded, out.data(), n);
        ASSERT_EQ(std::memcmp(out.data(), whole.data(), n * sizeof(Out)), 0) << R::kRow.name << " n = " << n;
        ASSERT_TRUE(out.intact() && in.intact()) << R::kRow.name << " n = " << n;
        if constexpr (sizeof(Out) == sizeof(T)) {
          fn(guarded, in.data(), n);
          ASSERT_EQ(std::memcmp(in.data(), whole.data(), n * sizeof(Out)), 0) << R::kRow.name << " in place";
          ASSERT_TRUE(in.intact()) << R::kRow.name << " in place, n = " << n;
        }
      }
    });
  });
}

TEST_P(TileUnary, NanStaysInItsLane) {
  for_each_row([]<class R>(R) {
    if constexpr (contains(R::kDtypes, Dtype::kFloat32) && R::kResult == RowResult::kSame) {
      TileFn fn = simd_tile(R::kRow.id, Dtype::kFloat32);
      constexpr size_t kLength = 67;
      std::vector<float> values(kLength, 0.5f), clean(kLength), out(kLength);
      const void* operands[] = {values.data()};
      fn(operands, clean.data(), kLength);
      for (size_t at : {size_t{0}, size_t{1}, size_t{15}, size_t{16}, size_t{33}, kLength - 2, kLength - 1}) {
        values.assign(kLength, 0.5f);
        values[at] = std::numeric_limits<float>::quiet_NaN();
        fn(operands, out.data(), kLength);
        for (size_t i = 0; i < kLength; ++i) {
          ASSERT_EQ(std::isnan(out[i]), i == at ? R::kRow.id != OpId::Imag : std::isnan(clean[i]))
              << R::kRow.name << " lane " << i << ", NaN at " << at;
        }
      }
    }
  });
}

TEST_P(TileUnary, OtherDtypesHaveNoKernel) {
  for_each_row([]<class R>(R) {
    for (int i = 0; i < kNumDtypes; ++i) {
      Dtype t = static_cast<Dtype>(i);
      bool computes = contains(R::kDtypes, t) && t != Dtype::kFloat16 && t != Dtype::kBFloat16;
      EXPECT_EQ(simd_tile(R::kRow.id, t) != nullptr, computes) << R::kRow.name << " " << dtype_name(t);
    }
  });
}

LAMINA_INSTANTIATE_TARGETS(TileUnary);

}  // namespace
}  // namespace lamina
