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

// What is wrong with one result beside the row's expression in the wider type, rounded; empty where nothing
// is.
template <class R, class T>
std::string complaint(T x, ResultOf<R, T> got) {
  using Out = ResultOf<R, T>;
  auto truth = R()(static_cast<Wider<T, R::kRow.ulp>>(x));
  bool fine;
  if constexpr (scalar::kIsComplex<Out>) {
    fine = testing::close(got, truth, R::kRow.ulp);
  } else if constexpr (scalar::kIsFloat<Out>) {
    fine = testing::close(got, static_cast<Out>(truth), R::kRow.ulp);
  } else {
    fine = got == static_cast<Out>(truth);
  }
  if (fine) return "";
  return testing::text(x) + " gives " + testing::text(got) + ", not " +
         testing::text(static_cast<Out>(truth));
}
void expect_none(const std::string& complaint, const Row& row, Dtype dtype) {
  EXPECT_EQ(complaint, "") << row.name << " of " << dtype_name(dtype);
}

class TileUnary : public testing::EveryTarget {};

TEST_P(TileUnary, KeepsEachRowsErrorBound) {
  for_each_row([]<class R>(R row) {
    for_each_type(row, []<class T>(TypeTag<T>) {
      TileFn fn = simd_tile(R::kRow.id, kDtypeOf<T>);
      std::vector<T> values = testing::draws<T>(20000, R::kRow.range, 7);
      for (T x : testing::special_values<T>()) values.push_back(x);
      Buffer<T> in(values);
      Buffer<ResultOf<R, T>> out(values.size());
      const void* operands[] = {in.data()};
      fn(operands, out.data(), values.size());
      std::string wrong;
      for (size_t i = 0; i < values.size() && wrong.empty(); ++i) wrong = complaint<R, T>(in[i], out[i]);
      expect_none(wrong, R::kRow, kDtypeOf<T>);
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
          std::string wrong;
          for (size_t i = 0; i < 512 && wrong.empty(); ++i) wrong = complaint<R, float>(in[i], out[i]);
          expect_none(wrong, R::kRow, Dtype::kFloat32);
        }
      }
    }
  });
}

// Runs fn on every length up to `values`, out of place and where it may be in place, between guard bytes.
void check_lengths(TileFn fn, const char* name, const void* values, size_t item, size_t out_item,
                   size_t most) {
  std::vector<unsigned char> whole(most * out_item);
  const void* operands[] = {values};
  fn(operands, whole.data(), most);
  for (size_t n = 0; n <= most; ++n) {
    Guarded in(n * item, item), out(n * out_item, out_item);
    std::memcpy(in.data(), values, n * item);
    const void* guarded[] = {in.data()};
    fn(guarded, out.data(), n);
    ASSERT_EQ(std::memcmp(out.data(), whole.data(), n * out_item), 0) << name << " n = " << n;
    ASSERT_TRUE(out.intact() && in.intact()) << name << " n = " << n;
    if (item != out_item) continue;
    fn(guarded, in.data(), n);
    ASSERT_EQ(std::memcmp(in.data(), whole.data(), n * item), 0) << name << " in place, n = " << n;
    ASSERT_TRUE(in.intact()) << name << " in place, n = " << n;
  }
}

TEST_P(TileUnary, EveryLengthWritesItsElementsAndNoOthers) {
  for_each_row([]<class R>(R row) {
    for_each_type(row, []<class T>(TypeTag<T>) {
      constexpr size_t kMost = 130;
      Buffer<T> values(testing::draws<T>(kMost, R::kRow.range, 11));
      TileFn fn = simd_tile(R::kRow.id, kDtypeOf<T>);
      check_lengths(fn, R::kRow.name, values.data(), sizeof(T), sizeof(ResultOf<R, T>), kMost);
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
