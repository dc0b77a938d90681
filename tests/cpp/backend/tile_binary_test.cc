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

// What is wrong with one result beside the row's expression in the wider type, rounded; empty where nothing
// is.
template <class R, class T>
std::string complaint(T x, T y, ResultOf<R, T> got) {
  using Out = ResultOf<R, T>;
  using W = Wider<T, R::kRow.ulp>;
  auto truth = R()(static_cast<W>(x), static_cast<W>(y));
  Out want = static_cast<Out>(truth);
  bool fine;
  if constexpr (scalar::kIsComplex<Out>) {
    fine = testing::close(got, truth, R::kRow.ulp);
  } else if constexpr (scalar::kIsFloat<Out>) {
    fine = testing::close(got, want, R::kRow.ulp);
    // Which of two zeros is the larger is left open.
    if (R::kRow.id == OpId::Maximum || R::kRow.id == OpId::Minimum) fine |= got == want;
  } else {
    fine = got == want;
  }
  if constexpr (R::kRow.id == OpId::LogAddExp) {
    // The sum cancels where the operands are negative: the error is measured against 1 there.
    auto eps = std::numeric_limits<decltype(std::abs(got))>::epsilon();
    auto bound = (R::kRow.ulp + (scalar::kIsComplex<T> ? 8 : 1)) * eps * std::max<double>(1, std::abs(want));
    fine |= scalar::isfinite(want) && std::abs(W(got) - truth) <= bound;
  }
  if (fine) return "";
  return testing::text(x) + ", " + testing::text(y) + " give " + testing::text(got) + ", not " +
         testing::text(want);
}

class TileBinary : public testing::EveryTarget {};

TEST_P(TileBinary, KeepsEachRowsErrorBound) {
  for_each_row([]<class R>(R row) {
    for_each_type(row, []<class T>(TypeTag<T>) {
      TileFn fn = simd_tile(R::kRow.id, kDtypeOf<T>);
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
      std::string wrong;
      for (size_t i = 0; i < xs.size() && wrong.empty(); ++i) wrong = complaint<R, T>(x[i], y[i], out[i]);
      EXPECT_EQ(wrong, "") << R::kRow.name << " of " << dtype_name(kDtypeOf<T>);
    });
  });
}

// Runs fn on every length up to `most`, out of place and over either operand, between guard bytes.
void check_lengths(TileFn fn, const char* name, const void* xs, const void* ys, size_t item, size_t out_item,
                   size_t most) {
  std::vector<unsigned char> whole(most * out_item);
  const void* operands[] = {xs, ys};
  fn(operands, whole.data(), most);
  for (size_t n = 0; n <= most; ++n) {
    Guarded x(n * item, item), y(n * item, 2 * item), out(n * out_item, out_item);
    std::memcpy(x.data(), xs, n * item);
    std::memcpy(y.data(), ys, n * item);
    const void* guarded[] = {x.data(), y.data()};
    fn(guarded, out.data(), n);
    ASSERT_EQ(std::memcmp(out.data(), whole.data(), n * out_item), 0) << name << " n = " << n;
    ASSERT_TRUE(out.intact() && x.intact() && y.intact()) << name << " n = " << n;
    if (item != out_item) continue;
    for (Guarded* target : {&x, &y}) {
      std::memcpy(x.data(), xs, n * item);
      std::memcpy(y.data(), ys, n * item);
      fn(guarded, target->data(), n);
      ASSERT_EQ(std::memcmp(target->data(), whole.data(), n * item), 0) << name << " in place, n = " << n;
      ASSERT_TRUE(x.intact() && y.intact()) << name << " in place, n = " << n;
    }
  }
}

TEST_P(TileBinary, EveryLengthWritesItsElementsAndNoOthers) {
  for_each_row([]<class R>(R row) {
    for_each_type(row, []<class T>(TypeTag<T>) {
      constexpr size_t kMost = 130;
      Buffer<T> xs(testing::draws<T>(kMost, R::kRow.range, 11)),
          ys(testing::draws<T>(kMost, R::kRow.range, 13));
      TileFn fn = simd_tile(R::kRow.id, kDtypeOf<T>);
      check_lengths(fn, R::kRow.name, xs.data(), ys.data(), sizeof(T), sizeof(ResultOf<R, T>), kMost);
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
