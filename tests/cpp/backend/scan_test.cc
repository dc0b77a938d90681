#include "backend/cpu/scan.h"

#include <gtest/gtest.h>

#include <functional>

#include "backend/reference/layout.h"
#include "backend/reference/scan.h"
#include "lamina/error.h"
#include "view_testing.h"

namespace lamina {
namespace {

using namespace view_testing;

using ScanFn = void (*)(ScanKind, const View&, const View&, int64_t, bool, bool);
constexpr ScanKind kKinds[] = {ScanKind::kSum, ScanKind::kProd, ScanKind::kMax, ScanKind::kMin,
                               ScanKind::kLogAddExp};

// What an element is summed up in by the oracle: integers wrap in their own width.
template <class T>
using Exact = std::conditional_t<kIsComplex<T>, std::complex<double>,
                                 std::conditional_t<std::is_integral_v<T>, T, long double>>;

template <class T>
Exact<T> exact(T x) {
  if constexpr (kIsComplex<T>) {
    return {x.real(), x.imag()};
  } else {
    return static_cast<Exact<T>>(widen(x));
  }
}

template <class E>
bool nan_of(E x) {
  if constexpr (std::is_same_v<E, std::complex<double>>) {
    return std::isnan(x.real()) || std::isnan(x.imag());
  } else {
    return x != x;
  }
}
template <class E>
bool below(E a, E b) {
  if constexpr (std::is_same_v<E, std::complex<double>>) {
    return a.real() < b.real() || (a.real() == b.real() && a.imag() < b.imag());
  } else {
    return a < b;
  }
}

// Integers wrap around.
template <class E, class F>
E plain_wrap(E a, E b, F f) {
  if constexpr (std::is_integral_v<E>) {
    return static_cast<E>(f(static_cast<uint64_t>(a), static_cast<uint64_t>(b)));
  } else {
    return f(a, b);
  }
}

template <class E>
E plain_join(ScanKind kind, E a, E b) {
  switch (kind) {
    case ScanKind::kSum: return plain_wrap<E>(a, b, std::plus<>());
    case ScanKind::kProd: return plain_wrap<E>(a, b, std::multiplies<>());
    case ScanKind::kMax: return nan_of(a) ? a : nan_of(b) || below(a, b) ? b : a;
    case ScanKind::kMin: return nan_of(a) ? a : nan_of(b) || below(b, a) ? b : a;
    default: break;
  }
  if constexpr (std::is_integral_v<E>) {
    return E{};
  } else {
    const E high = below(a, b) ? b : a, low = below(a, b) ? a : b;
    if (high == low && std::isinf(std::abs(high))) return high;
    return high + std::log(E{1} + std::exp(low - high));
  }
}

template <class T>
T plain_identity(ScanKind kind, bool is_bool) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  switch (kind) {
    case ScanKind::kSum: return T{};
    case ScanKind::kProd: return from_double<T>(1.0);
    default: break;
  }
  if (is_bool) return from_double<T>(kind == ScanKind::kMin ? 1.0 : 0.0);
  const bool low = kind != ScanKind::kMin;
  if constexpr (std::is_integral_v<T>) {
    return low ? std::numeric_limits<T>::lowest() : std::numeric_limits<T>::max();
  } else if constexpr (kIsComplex<T>) {
    const auto x = static_cast<float>(low ? -kInfinity : kInfinity);
    return {x, x};
  } else {
    return from_double<T>(low ? -kInfinity : kInfinity);
  }
}

template <class T>
double epsilon_of() {
  if constexpr (std::is_same_v<T, float16_t>) return 0x1p-10;
  if constexpr (std::is_same_v<T, bfloat16_t>) return 0x1p-7;
  if constexpr (std::is_same_v<T, double>) return 0x1p-52;
  return 0x1p-23;
}

// One line against the oracle. Rounding of n joins, and one more to the dtype, against the sizes that were
// joined.
template <class T>
void check_line(ScanKind kind, const View& in, const View& out, bool reverse, bool inclusive) {
  const int64_t n = in.size();
  const bool exact_kind = kind == ScanKind::kMax || kind == ScanKind::kMin || std::is_integral_v<T>;
  Exact<T> sum{};
  double size = 0;
  int64_t wrong = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = reverse ? n - 1 - i : i;
    const Exact<T> before = sum, x = exact(value<T>(in, at));
    sum = i == 0 ? x : plain_join(kind, sum, x);
    const T got = value<T>(out, at);
    if (!inclusive && i == 0) {
      const T identity = plain_identity<T>(kind, in.dtype == Dtype::kBool);
      wrong += std::memcmp(&got, &identity, sizeof(T)) != 0;
      continue;
    }
    const Exact<T> truth = inclusive ? sum : before;
    if constexpr (std::is_integral_v<T>) {
      wrong += got != truth;
    } else {
      const Exact<T> result = exact(got);
      size =
          std::max(size + (kind == ScanKind::kLogAddExp ? 1.0 : 0.0), static_cast<double>(std::abs(truth)));
      const double steps = epsilon_of<float>() * static_cast<double>(i + 2);
      const double bound =
          exact_kind ? 0.0
                     : size * ((std::is_same_v<T, double> ? 0x1p-52 * static_cast<double>(i + 2) : steps) +
                               epsilon_of<T>());
      const bool both_nan = nan_of(result) && nan_of(truth);
      wrong += !(both_nan || result == truth || std::abs(result - truth) <= bound);
    }
  }
  EXPECT_EQ(wrong, 0);
}

void check_scan(ScanFn scan, ScanKind kind, const View& in, int64_t axis, Layout layout, bool reverse,
                bool inclusive) {
  SCOPED_TRACE(describe(in) + " axis " + std::to_string(axis) + " kind " +
               std::to_string(static_cast<int>(kind)) + (reverse ? " reverse" : "") +
               (inclusive ? "" : " exclusive"));
  const Box out(in.dtype, in.shape, layout);
  scan(kind, in, out, axis, reverse, inclusive);
  EXPECT_TRUE(out.guards_intact());
  const View lines_in = drop_axis(in, axis), lines_out = drop_axis(out, axis);
  visit_dtype(in.dtype, [&]<class T>(std::type_identity<T>) {
    for (int64_t l = 0; l < lines_in.size() && in.size() > 0; ++l) {
      View from = lines_in, to = lines_out;
      from.data = element(lines_in, l);
      to.data = element(lines_out, l);
      from.shape = to.shape = Shape{in.shape[static_cast<size_t>(axis)]};
      from.strides = Strides{in.strides[static_cast<size_t>(axis)]};
      to.strides = Strides{out.view().strides[static_cast<size_t>(axis)]};
      check_line<T>(kind, from, to, reverse, inclusive);
    }
  });
}

bool supported(ScanKind kind, Dtype dtype) { return kind != ScanKind::kLogAddExp || is_inexact(dtype); }

TEST(Scan, EveryKindDtypeAndLayout) {
  for (ScanFn scan : {&reference::scan, &cpu::scan}) {
    for (ScanKind kind : kKinds) {
      for (Dtype dtype : kAllDtypes) {
        if (!supported(kind, dtype)) continue;
        for (Layout layout : kInLayouts) {
          const Layout to = layout == Layout::kRepeated ? Layout::kDense : layout;
          const Box in = random_box(dtype, {3, 10, 11}, layout, 8), empty(dtype, {2, 0, 3}, layout);
          for (int64_t axis = 0; axis < 3; ++axis) {
            for (int flags = 0; flags < 4; ++flags) {
              check_scan(scan, kind, in, axis, to, flags & 1, flags & 2);
              check_scan(scan, kind, empty, axis, to, flags & 1, flags & 2);
            }
          }
        }
      }
    }
  }
}

TEST(Scan, SpecialValues) {
  for (ScanFn scan : {&reference::scan, &cpu::scan}) {
    for (ScanKind kind : {ScanKind::kMax, ScanKind::kMin, ScanKind::kLogAddExp}) {
      for (Dtype dtype : {Dtype::kFloat16, Dtype::kBFloat16, Dtype::kFloat32, Dtype::kFloat64}) {
        const Box in = random_box(dtype, {8, 70}, Layout::kDense, 5, Values::kSpecial);
        for (int64_t axis : {0, 1}) check_scan(scan, kind, in, axis, Layout::kDense, axis == 1, true);
      }
    }
  }
  const Box in = random_box(Dtype::kComplex64, {8, 20}, Layout::kDense, 5);
  value<complex64_t>(in, 25) = {1.0f, std::numeric_limits<float>::quiet_NaN()};
  check_scan(cpu::scan, ScanKind::kMax, in, 1, Layout::kDense, false, true);
}

TEST(Scan, EveryLengthOnEveryTarget) {
  for_each_target([] {
    for (ScanKind kind : {ScanKind::kSum, ScanKind::kProd, ScanKind::kMax, ScanKind::kMin}) {
      for (Dtype dtype :
           {Dtype::kInt32, Dtype::kUInt32, Dtype::kInt64, Dtype::kUInt64, Dtype::kFloat32, Dtype::kFloat64}) {
        for (int64_t n = 1; n <= 130; n += n < 70 ? 1 : 9) {
          const Box in = random_box(dtype, {2, n}, Layout::kDense, static_cast<uint64_t>(n));
          for (int flags = 0; flags < 4; ++flags)
            check_scan(cpu::scan, kind, in, 1, Layout::kDense, flags & 1, flags & 2);
        }
      }
    }
  });
}

TEST(Scan, LinesAroundAndBeyondABlock) {
  for (Dtype dtype : {Dtype::kInt32, Dtype::kFloat32, Dtype::kFloat64, Dtype::kFloat16}) {
    for (int64_t n : {16383, 16384, 16385, 32768, 70001}) {
      for (int flags = 0; flags < 4; ++flags) {
        const Box in = random_box(dtype, {n}, Layout::kDense, static_cast<uint64_t>(n), Values::kNormal);
        check_scan(cpu::scan, ScanKind::kSum, in, 0, Layout::kDense, flags & 1, flags & 2);
        check_scan(cpu::scan, ScanKind::kMax, in, 0, Layout::kDense, flags & 1, flags & 2);
      }
    }
  }
}

TEST(Scan, ThreadsDoNotChangeTheResult) {
  std::mt19937_64 rng(2);
  std::normal_distribution<float> normal;
  for (const Shape& shape : {Shape{1, 300000}, Shape{40, 4000}, Shape{3, 100000}}) {
    const Box in(Dtype::kFloat32, shape), out(Dtype::kFloat32, shape);
    for (int64_t i = 0; i < count(shape); ++i) value<float>(in, i) = normal(rng);
    for (int flags = 0; flags < 4; ++flags) {
      for (int64_t axis : {0, 1}) {
        expect_same_for_all_thread_counts(
            out, [&] { cpu::scan(ScanKind::kSum, in, out, axis, flags & 1, flags & 2); });
      }
    }
  }
}

TEST(Scan, InPlace) {
  for (const Shape& shape : {Shape{100000}, Shape{2, 33}, Shape{5, 300}}) {
    for (Dtype dtype : {Dtype::kInt32, Dtype::kInt16}) {
      const auto last = static_cast<int64_t>(shape.size()) - 1;
      for (int64_t axis = 0; axis <= last; ++axis) {
        for (int flags = 0; flags < 4; ++flags) {
          const Box in = random_box(dtype, shape, Layout::kDense, 6), apart(dtype, shape);
          cpu::scan(ScanKind::kSum, in, apart, axis, flags & 1, flags & 2);
          cpu::scan(ScanKind::kSum, in, in, axis, flags & 1, flags & 2);
          EXPECT_EQ(dense_bytes(in), dense_bytes(apart)) << describe(in);
        }
      }
    }
  }
}

TEST(Scan, LogAddExpIsForInexactDtypes) {
  const Box in = random_box(Dtype::kInt32, {4}, Layout::kDense, 1), out(Dtype::kInt32, {4});
  for (ScanFn scan : {&reference::scan, &cpu::scan}) {
    try {
      scan(ScanKind::kLogAddExp, in, out, 0, false, true);
      ADD_FAILURE() << "no error";
    } catch (const DtypeError& e) {
      EXPECT_STREQ(e.what(), "[scan] logaddexp is for floating and complex dtypes, got int32");
    }
  }
}

}  // namespace
}  // namespace lamina
