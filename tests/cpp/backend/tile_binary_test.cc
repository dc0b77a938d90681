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

#define BINARY(id, name, dtypes, result, expression, range, ulp, doc) \
  struct id##Row {                                                    \
    static constexpr DtypeSet kDtypes = dtypes;                       \
    static constexpr RowResult kResult = RowResult::result;           \
    static constexpr Row kRow = {OpId::id, #name, range, ulp};        \
    template <class T>                                                \
    auto operator()(T x, T y) const {                                 \
      return expression;                                              \
    }                                                                 \
  };
#include "lamina/table/binary.def"
#undef BINARY

template <class F>
void for_each_row(F&& f) {
#define BINARY(id, ...) f(id##Row());
#include "lamina/table/binary.def"
#undef BINARY
}
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

template <class R, class T>
void check(T x, T y, ResultOf<R, T> got) {
  using Out = ResultOf<R, T>;
  using W = Wider<T, R::kRow.ulp>;
  auto truth = R()(static_cast<W>(x), static_cast<W>(y));
  std::string where = std::string(R::kRow.name) + " " + std::string(dtype_name(kDtypeOf<T>));
  if constexpr (R::kRow.id == OpId::LogAddExp) {
    // The sum cancels where the operands are negative: the error is measured against 1 there.
    if (scalar::isfinite(static_cast<Out>(truth))) {
      auto eps = std::numeric_limits<decltype(std::abs(got))>::epsilon();
      auto bound =
          (R::kRow.ulp + (scalar::kIsComplex<T> ? 8 : 1)) * eps * std::max<double>(1, std::abs(Out(truth)));
      ASSERT_LE(std::abs(W(got) - truth), bound) << where << " of " << x << ", " << y << " is " << got;
      return;
    }
  }
  if constexpr (scalar::kIsComplex<Out>) {
    ASSERT_TRUE(testing::close(got, truth, R::kRow.ulp)) << where << " of " << x << ", " << y;
  } else if constexpr (scalar::kIsFloat<Out>) {
    Out want = static_cast<Out>(truth);
    ASSERT_LE(testing::steps_between(got, want), R::kRow.ulp)
        << where << " of " << x << ", " << y << " is " << got << ", not " << want;
    constexpr bool kEitherZero = R::kRow.id == OpId::Maximum || R::kRow.id == OpId::Minimum;
    if (want == 0 && !kEitherZero) {
      ASSERT_EQ(std::signbit(got), std::signbit(want))
          << where << " of " << x << ", " << y << ": sign of zero";
    }
  } else {
    ASSERT_EQ(+got, +static_cast<Out>(truth)) << where << " of " << +x << ", " << +y;
  }
}

class TileBinary : public testing::EveryTarget {};

TEST_P(TileBinary, KeepsEachRowsErrorBound) {
  for_each_row([]<class R>(R row) {
    for_each_type(row, []<class T>(TypeTag<T>) {
      TileFn fn = simd_tile(R::kRow.id, kDtypeOf<T>);
      ASSERT_NE(fn, nullptr);
      std::vector<T> xs = testing::draws<T>(20000, R::kRow.range, 3),
                     ys = testing::draws<T>(20000, R::kRow.range, 5);
      for (T x : testing::special_values<T>()) {
        for (T y : testing::special_values<T>()) {
          xs.push_back(x);
          ys.push_back(y);
        }
      }
      // Equal operands, too.
      for (size_t i = 0; i < 100; ++i) ys[i] = xs[i];
      Buffer<T> x(xs), y(ys);
      Buffer<ResultOf<R, T>> out(xs.size());
      const void* operands[] = {x.data(), y.data()};
      fn(operands, out.data(), xs.size());
      for (size_t i = 0; i < xs.size(); ++i) check<R, T>(x[i], y[i], out[i]);
    });
  });
}

TEST_P(TileBinary, EveryLengthWritesItsElementsAndNoOthers) {
  for_each_row([]<class R>(R row) {
    for_each_type(row, []<class T>(TypeTag<T>) {
      using Out = ResultOf<R, T>;
      constexpr size_t kMost = 130;
      TileFn fn = simd_tile(R::kRow.id, kDtypeOf<T>);
      Buffer<T> xs(testing::draws<T>(kMost, R::kRow.range, 11)),
          ys(testing::draws<T>(kMost, R::kRow.range, 13));
      Buffer<Out> whole(kMost);
      const void* operands[] = {xs.data(), ys.data()};
      fn(operands, whole.data(), kMost);
      for (size_t n = 0; n <= kMost; ++n) {
        Guarded x(n * sizeof(T), sizeof(T)), y(n * sizeof(T), 2 * sizeof(T)),
            out(n * sizeof(Out), sizeof(Out));
        std::memcpy(x.data(), xs.data(), n * sizeof(T));
        std::memcpy(y.data(), ys.data(), n * sizeof(T));
        const void* guarded[] = {x.data(), y.data()};
        fn(guarded, out.data(), n);
        ASSERT_EQ(std::memcmp(out.data(), whole.data(), n * sizeof(Out)), 0) << R::kRow.name << " n = " << n;
        ASSERT_TRUE(out.intact() && x.intact() && y.intact()) << R::kRow.name << " n = " << n;
        if constexpr (sizeof(Out) == sizeof(T)) {
          for (Guarded* target : {&x, &y}) {
            std::memcpy(x.data(), xs.data(), n * sizeof(T));
            std::memcpy(y.data(), ys.data(), n * sizeof(T));
            fn(guarded, target->data(), n);
            ASSERT_EQ(std::memcmp(target->data(), whole.data(), n * sizeof(Out)), 0)
                << R::kRow.name << " in place";
            ASSERT_TRUE(x.intact() && y.intact()) << R::kRow.name << " in place, n = " << n;
          }
        }
      }
    });
  });
}

TEST_P(TileBinary, OtherDtypesHaveNoKernel) {
  for_each_row([]<class R>(R) {
    for (int i = 0; i < kNumDtypes; ++i) {
      Dtype t = static_cast<Dtype>(i);
      bool computes = contains(R::kDtypes, t) && t != Dtype::kFloat16 && t != Dtype::kBFloat16;
      EXPECT_EQ(simd_tile(R::kRow.id, t) != nullptr, computes) << R::kRow.name << " " << dtype_name(t);
    }
  });
}

LAMINA_INSTANTIATE_TARGETS(TileBinary);

}  // namespace
}  // namespace lamina
