#include <functional>

#include "backend/cpu/tile.h"
#include "backend/reference/matmul.h"
#include "backend/reference/reduce.h"
#include "view_testing.h"

namespace lamina {
namespace {

using namespace view_testing;
using reference::ReduceKind;

constexpr ReduceKind kKinds[] = {ReduceKind::kSum, ReduceKind::kProd, ReduceKind::kMax,
                                 ReduceKind::kMin, ReduceKind::kAll,  ReduceKind::kAny};

template <class T>
std::complex<double> number(T x) {
  if constexpr (kIsComplex<T>) {
    return {x.real(), x.imag()};
  } else {
    return static_cast<double>(widen(x));
  }
}

template <class T>
double epsilon_of() {
  if constexpr (std::is_same_v<T, float16_t>) return 0x1p-10;
  if constexpr (std::is_same_v<T, bfloat16_t>) return 0x1p-7;
  if constexpr (std::is_same_v<T, double>) return 0x1p-52;
  return 0x1p-23;
}

// Elements that reduce to one output, in row-major order.
template <class T>
using Group = std::vector<T>;

template <class T>
bool right_sum(ReduceKind kind, const Group<T>& group, const View& out, int64_t i) {
  if constexpr (std::is_integral_v<T>) {
    uint64_t sum = kind == ReduceKind::kSum ? 0 : 1;
    for (T x : group)
      sum = kind == ReduceKind::kSum ? sum + static_cast<uint64_t>(x) : sum * static_cast<uint64_t>(x);
    return visit_itemsize(itemsize(out.dtype), [&]<class R>(std::type_identity<R>) {
      return value<R>(out, i) == static_cast<R>(sum);
    });
  } else {
    std::complex<double> sum = kind == ReduceKind::kSum ? 0.0 : 1.0;
    double size = 0;
    for (T x : group) {
      sum = kind == ReduceKind::kSum ? sum + number(x) : sum * number(x);
      size += std::abs(number(x));
    }
    if (kind == ReduceKind::kProd) size = std::abs(sum);
    // Blocks of 128 joined one by one, then pairwise, then one rounding to the dtype.
    const auto n = static_cast<double>(group.size());
    const double steps = kind == ReduceKind::kProd ? 3 * n : std::min(n, 128.0) + std::log2(n + 1) + 1;
    const double wide = std::is_same_v<T, double> ? 0x1p-52 : 0x1p-23;
    const std::complex<double> got = number(value<T>(out, i));
    return got == sum || std::abs(got - sum) <= size * wide * steps + std::abs(sum) * epsilon_of<T>();
  }
}

template <class T>
bool right_extremum(ReduceKind kind, const Group<T>& group, const View& out, int64_t i) {
  const T got = value<T>(out, i);
  bool any_nan = false, found = false, beaten = false;
  for (T x : group) {
    any_nan |= is_nan(x);
    found |= number(x) == number(got);
    beaten |= kind == ReduceKind::kMax ? less(got, x) : less(x, got);
  }
  return any_nan ? is_nan(got) : found && !beaten;
}

template <class T>
bool right(ReduceKind kind, const Group<T>& group, const View& out, int64_t i) {
  switch (kind) {
    case ReduceKind::kSum:
    case ReduceKind::kProd: return right_sum(kind, group, out, i);
    case ReduceKind::kMax:
    case ReduceKind::kMin: return right_extremum(kind, group, out, i);
    default: break;
  }
  const auto is_true = [](T x) { return number(x) != 0.0; };
  const bool expected = kind == ReduceKind::kAll ? std::all_of(group.begin(), group.end(), is_true)
                                                 : std::any_of(group.begin(), group.end(), is_true);
  return value<uint8_t>(out, i) == static_cast<uint8_t>(expected);
}

Shape reduced_shape(const Shape& shape, const Axes& axes, bool keep) {
  Shape out;
  for (size_t d = 0; d < shape.size(); ++d) {
    const bool reduced = std::find(axes.begin(), axes.end(), static_cast<int64_t>(d)) != axes.end();
    if (!reduced) out.push_back(shape[d]);
    if (reduced && keep) out.push_back(1);
  }
  return out;
}

template <class T>
std::vector<Group<T>> groups_of(const View& in, const Axes& axes) {
  std::vector<Group<T>> groups(static_cast<size_t>(count(reduced_shape(in.shape, axes, false))));
  for (int64_t i = 0; i < in.size(); ++i) {
    int64_t rest = i, target = 0, step = 1;
    for (size_t d = in.shape.size(); d-- > 0; rest /= in.shape[d]) {
      if (std::find(axes.begin(), axes.end(), static_cast<int64_t>(d)) != axes.end()) continue;
      target += rest % in.shape[d] * step;
      step *= in.shape[d];
    }
    groups[static_cast<size_t>(target)].push_back(value<T>(in, i));
  }
  return groups;
}

Dtype out_dtype(ReduceKind kind, Dtype in) {
  if (kind == ReduceKind::kAll || kind == ReduceKind::kAny) return Dtype::kBool;
  if (kind != ReduceKind::kSum && kind != ReduceKind::kProd) return in;
  return in == Dtype::kBool || in == Dtype::kInt8 ? Dtype::kInt32 : in;
}

// The function that the cpu backend gives for extrema.
TileFn joining(ReduceKind kind, Dtype dtype) {
  if (dtype == Dtype::kBool || (kind != ReduceKind::kMax && kind != ReduceKind::kMin)) return nullptr;
  return reduce_cols_tile(kind == ReduceKind::kMax ? OpId::Max : OpId::Min, dtype);
}

void check_reduce(ReduceKind kind, const View& in, const Axes& axes, bool keep,
                  Layout layout = Layout::kDense) {
  SCOPED_TRACE(describe(in) + " over " + to_string(axes) + " kind " + std::to_string(static_cast<int>(kind)));
  const Box out(out_dtype(kind, in.dtype), reduced_shape(in.shape, axes, keep), layout);
  visit_dtype(in.dtype, [&]<class T>(std::type_identity<T>) {
    const std::vector<Group<T>> groups = groups_of<T>(in, axes);
    for (TileFn join : {TileFn{}, joining(kind, in.dtype)}) {
      reference::reduce_general(kind, in, out, axes, join);
      EXPECT_TRUE(out.guards_intact());
      int64_t wrong = 0;
      for (size_t i = 0; i < groups.size(); ++i)
        wrong += !right(kind, groups[i], out, static_cast<int64_t>(i));
      EXPECT_EQ(wrong, 0);
    }
  });
}

const Axes kAxes[] = {{}, {0}, {1}, {2}, {0, 1}, {1, 2}, {0, 2}, {0, 1, 2}};

TEST(Reduce, EveryKindDtypeLayoutAndAxes) {
  for (ReduceKind kind : kKinds) {
    for (Dtype dtype : kAllDtypes) {
      for (Layout layout : kInLayouts) {
        const bool product = kind == ReduceKind::kProd;
        const Values values = !product            ? Values::kNormal
                              : is_inexact(dtype) ? Values::kNearOne
                                                  : Values::kSmall;
        const Box in = random_box(dtype, {3, 7, 18}, layout, 3, values);
        for (const Axes& axes : kAxes) {
          check_reduce(kind, in, axes, axes.size() == 2,
                       layout == Layout::kRepeated ? Layout::kSlice : layout);
        }
      }
    }
  }
}

TEST(Reduce, NansAndInfinities) {
  for (ReduceKind kind : {ReduceKind::kMax, ReduceKind::kMin, ReduceKind::kAll, ReduceKind::kAny}) {
    for (Dtype dtype :
         {Dtype::kFloat16, Dtype::kBFloat16, Dtype::kFloat32, Dtype::kFloat64, Dtype::kComplex64}) {
      for (uint64_t seed = 0; seed < 20; ++seed) {
        const Box in = random_box(dtype, {3, 2, 5}, Layout::kDense, seed, Values::kSpecial);
        for (const Axes& axes : kAxes) check_reduce(kind, in, axes, false);
      }
    }
  }
}

TEST(Reduce, LengthsAroundBlocksAndWidths) {
  for (Dtype dtype : {Dtype::kFloat16, Dtype::kFloat32, Dtype::kInt32}) {
    for (int64_t n : {1, 2, 127, 128, 129, 255, 256, 257, 640, 1023, 1025, 5000}) {
      for (int64_t other : {1, 3, 17, 1030}) {
        if (n * other > 300000) continue;
        const Box rows = random_box(dtype, {n, other}, Layout::kDense, 1, Values::kNormal);
        const Box lines = random_box(dtype, {other, n}, Layout::kDense, 1, Values::kNormal);
        for (ReduceKind kind : {ReduceKind::kSum, ReduceKind::kMax}) {
          check_reduce(kind, rows, {0}, false);
          check_reduce(kind, lines, {1}, false);
        }
      }
    }
  }
}

// Sums keep their bits whatever the threads, and whatever the strides: only lengths count.
TEST(Reduce, ThreadsAndLayoutsDoNotChangeTheResult) {
  for (const Shape& shape : {Shape{3000, 40}, Shape{5, 70000}, Shape{40, 30, 200}, Shape{300000, 1}}) {
    const Box dense = random_box(Dtype::kFloat32, shape, Layout::kDense, 1, Values::kNormal);
    const Box turned = random_box(Dtype::kFloat32, shape, Layout::kTransposed, 1, Values::kNormal);
    for (const Axes& axes : {Axes{0}, Axes{1}, Axes{0, 1}}) {
      const Box out(Dtype::kFloat32, reduced_shape(shape, axes, false)),
          other(Dtype::kFloat32, out.view().shape);
      expect_same_for_all_thread_counts(
          out, [&] { reference::reduce_general(ReduceKind::kSum, dense, out, axes); });
      reference::reduce_general(ReduceKind::kSum, turned, other, axes);
      EXPECT_EQ(dense_bytes(out), dense_bytes(other)) << to_string(shape) << to_string(axes);
    }
  }
}

// A running float32 sum of ones stops at 2^24.
TEST(Reduce, LongSumsStayExact) {
  constexpr int64_t kLength = (int64_t{1} << 24) + 4096;
  float one = 1;
  const View in{&one, Dtype::kFloat32, {kLength, 2}, {0, 0}};
  const Box out(Dtype::kFloat32, {2});
  reference::reduce_general(ReduceKind::kSum, in, out, {0});
  EXPECT_EQ(value<float>(out, 0), static_cast<float>(kLength));
  EXPECT_EQ(value<float>(out, 1), static_cast<float>(kLength));
}

TEST(Reduce, EmptyReductionsGiveTheIdentity) {
  for (Dtype dtype : kAllDtypes) {
    const Box in(dtype, {2, 0, 3});
    for (ReduceKind kind : kKinds) {
      const Box out(out_dtype(kind, dtype), {2, 3}, Layout::kSlice);
      reference::reduce_general(kind, in, out, {1});
      EXPECT_TRUE(out.guards_intact());
      visit_dtype(out.view().dtype, [&]<class T>(std::type_identity<T>) {
        using L = std::numeric_limits<ComputeType<T>>;
        const bool is_bool = dtype == Dtype::kBool || kind == ReduceKind::kAll || kind == ReduceKind::kAny;
        std::complex<double> expected = kind == ReduceKind::kProd || kind == ReduceKind::kAll ? 1.0 : 0.0;
        if (kind == ReduceKind::kMax || kind == ReduceKind::kMin) {
          const bool top = kind == ReduceKind::kMin;
          if constexpr (kIsComplex<T>) {
            const double x = top ? HUGE_VAL : -HUGE_VAL;
            expected = {x, x};
          } else if constexpr (std::is_integral_v<T>) {
            expected = is_bool ? static_cast<double>(top) : static_cast<double>(top ? L::max() : L::lowest());
          } else {
            expected = top ? HUGE_VAL : -HUGE_VAL;
          }
        }
        for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(number(value<T>(out, i)), expected) << dtype_name(dtype);
      });
    }
  }
}

TEST(Reduce, NothingToWrite) {
  const Box in(Dtype::kFloat32, {0, 4}), out(Dtype::kFloat32, {0});
  reference::reduce_general(ReduceKind::kSum, in, out, {1});
  EXPECT_TRUE(out.guards_intact());
}

// ---- matmul

// Unsigned values as the small negative numbers that they were drawn as.
template <class T>
std::complex<double> signed_number(T x) {
  if constexpr (std::is_unsigned_v<T>) {
    return static_cast<double>(static_cast<std::make_signed_t<T>>(x));
  } else {
    return number(x);
  }
}

TEST(Matmul, EveryDtypeAndLayout) {
  constexpr int64_t kBatch = 2, kRows = 5, kInner = 7, kCols = 3;
  for (Dtype dtype : kAllDtypes) {
    for (Layout layout : kInLayouts) {
      const Box a = random_box(dtype, {kBatch, kRows, kInner}, layout, 1),
                b = random_box(dtype, {kBatch, kInner, kCols}, layout, 2);
      const Box out(dtype, {kBatch, kRows, kCols}, layout == Layout::kRepeated ? Layout::kSlice : layout);
      reference::matmul(a, b, out);
      EXPECT_TRUE(out.guards_intact());
      visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
        for (int64_t i = 0; i < kBatch * kRows * kCols; ++i) {
          const int64_t batch = i / kCols / kRows, m = i / kCols % kRows, n = i % kCols;
          // Products of small whole numbers: exact in every dtype, or wrapping to 8 bits.
          std::complex<double> sum = 0;
          for (int64_t k = 0; k < kInner; ++k) {
            const T x = value<T>(a, (batch * kRows + m) * kInner + k);
            const T y = value<T>(b, (batch * kInner + k) * kCols + n);
            sum += signed_number(x) * signed_number(y);
          }
          const T got = value<T>(out, i);
          if (dtype == Dtype::kBool) {
            EXPECT_EQ(value<uint8_t>(out, i), sum != 0.0);
          } else if constexpr (std::is_integral_v<T>) {
            EXPECT_EQ(got, static_cast<T>(static_cast<int64_t>(sum.real())));
          } else {
            EXPECT_EQ(number(got), sum) << dtype_name(dtype);
          }
        }
      });
    }
  }
}

TEST(Matmul, EmptyAxes) {
  const Box a(Dtype::kFloat32, {3, 0}), b(Dtype::kFloat32, {0, 2}),
      out = random_box(Dtype::kFloat32, {3, 2}, Layout::kDense, 1);
  reference::matmul(a, b, out);
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(value<float>(out, i), 0.0f);
  const Box none(Dtype::kFloat32, {0, 3}), square(Dtype::kFloat32, {3, 3}), nothing(Dtype::kFloat32, {0, 3});
  reference::matmul(none, square, nothing);
  EXPECT_TRUE(nothing.guards_intact());
}

}  // namespace
}  // namespace lamina
