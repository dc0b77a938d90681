// One benchmark per row of the op tables, dtype and size, through the public API. A row added to a table is
// benchmarked by itself. Results are checked on sampled elements against the row's own expression in a wider
// type, within the row's bound.
#include <array>
#include <memory>

#include "backend/reference/elementwise_scalar.h"
#include "bench_support.h"
#include "ops/common.h"

namespace lamina::bench {
namespace {

// ---- types

// The type in which a row's expression gives the truth for operands of type T. Rows with a bound of 0 are
// exact arithmetic, whose double value long double would round twice.
template <class T, int kUlp>
struct WiderOf {
  using type = T;
};
template <int kUlp>
struct WiderOf<float, kUlp> {
  using type = double;
};
template <int kUlp>
struct WiderOf<bfloat16_t, kUlp> {
  using type = double;
};
template <int kUlp>
struct WiderOf<double, kUlp> {
  using type = std::conditional_t<kUlp == 0, double, long double>;
};

template <class W, class T>
W widen(T x) {
  if constexpr (std::is_same_v<T, bfloat16_t>) {
    return static_cast<W>(static_cast<float>(x));
  } else {
    return static_cast<W>(x);
  }
}

// Places of two floats of one type among all floats; their difference counts the steps between them.
int64_t rank_of(float x) {
  const auto bits = static_cast<int64_t>(std::bit_cast<uint32_t>(std::abs(x)));
  return std::signbit(x) ? -bits : bits;
}
int64_t rank_of(double x) {
  const auto bits = std::bit_cast<int64_t>(std::abs(x));
  return std::signbit(x) ? -bits : bits;
}
int64_t rank_of(bfloat16_t x) { return (x.bits & 0x8000u) ? -int64_t{x.bits & 0x7fffu} : int64_t{x.bits}; }

// Whether a result of type T is as near to the truth as the row promises; bfloat16 rounds once more.
template <class T, class W>
bool near(T got, W truth, int ulp) {
  if constexpr (std::is_integral_v<T>) {
    return got == static_cast<T>(truth);
  } else {
    if (std::isnan(truth)) return std::isnan(widen<double>(got));
    const T want = T(static_cast<std::conditional_t<std::is_same_v<T, double>, double, float>>(truth));
    const int64_t a = rank_of(got), b = rank_of(want);
    return !std::isnan(widen<double>(got)) && (a > b ? a - b : b - a) <= (sizeof(T) == 2 ? 1 : ulp);
  }
}
template <class T>
std::string text(T x) {
  return std::to_string(widen<double>(x));
}
template <class T>
std::string complaint(int64_t place, T got, double want) {
  return "element " + std::to_string(place) + ": wanted " + std::to_string(want) + ", got " + text(got);
}

// ---- rows as functors

#define UNARY(id, name, dtypes, result, expression, range, ulp, doc)                      \
  struct id##Row {                                                                        \
    static constexpr const char* kName = #name;                                           \
    static constexpr DtypeSet kDtypes = dtypes;                                           \
    static constexpr ResultRule kResult = ResultRule::result;                             \
    static constexpr Range kRange = range;                                                \
    static constexpr int kUlp = ulp;                                                      \
    static constexpr uint64_t kOperands = 1;                                              \
    static Array run(const Arrays& in) { return lamina::name(in[0]); }                    \
    template <class T>                                                                    \
    static auto of([[maybe_unused]] bool c, [[maybe_unused]] T x, [[maybe_unused]] T y) { \
      return expression;                                                                  \
    }                                                                                     \
  };
#include "lamina/table/unary.def"
#undef UNARY
#define BINARY(id, name, dtypes, result, expression, range, ulp, doc)         \
  struct id##Row {                                                            \
    static constexpr const char* kName = #name;                               \
    static constexpr DtypeSet kDtypes = dtypes;                               \
    static constexpr ResultRule kResult = ResultRule::result;                 \
    static constexpr Range kRange = range;                                    \
    static constexpr int kUlp = ulp;                                          \
    static constexpr uint64_t kOperands = 2;                                  \
    static Array run(const Arrays& in) { return lamina::name(in[0], in[1]); } \
    template <class T>                                                        \
    static auto of([[maybe_unused]] bool c, T x, T y) {                       \
      return expression;                                                      \
    }                                                                         \
  };
#include "lamina/table/binary.def"
#undef BINARY
#define TERNARY(id, name, dtypes, result, expression, doc)                               \
  struct id##Row {                                                                       \
    static constexpr const char* kName = #name;                                          \
    static constexpr DtypeSet kDtypes = dtypes;                                          \
    static constexpr ResultRule kResult = ResultRule::result;                            \
    static constexpr Range kRange = bench::range(-3, 3);                                 \
    static constexpr int kUlp = 0;                                                       \
    static constexpr uint64_t kOperands = 3;                                             \
    static Array run(const Arrays& in) {                                                 \
      return elementwise(OpId::id, in[0].dtype(), in[0].shape(), {in[2], in[0], in[1]}); \
    }                                                                                    \
    template <class T>                                                                   \
    static auto of(bool c, T x, T y) {                                                   \
      return expression;                                                                 \
    }                                                                                    \
  };
#include "lamina/table/ternary.def"
#undef TERNARY
#define REDUCE(id, name, dtypes, result, identity, combine, doc)                                  \
  struct id##Row {                                                                                \
    static constexpr const char* kName = #name;                                                   \
    static constexpr DtypeSet kDtypes = dtypes;                                                   \
    static constexpr ResultRule kResult = ResultRule::result;                                     \
    static Array run(const Arrays& in, const OptAxes& axes) { return lamina::name(in[0], axes); } \
    template <class T>                                                                            \
    static auto start() {                                                                         \
      return identity;                                                                            \
    }                                                                                             \
    template <class A, class T>                                                                   \
    static A fold(A a, T x) {                                                                     \
      return combine;                                                                             \
    }                                                                                             \
  };
#include "lamina/table/reduce.def"
#undef REDUCE

// ---- elementwise rows

// The row's range, cut to numbers that people have: an op on 1e38 can be wrong without showing it.
template <class R>
constexpr Range usual_range() {
  return {std::max(R::kRange.lo, -1e4), std::min(R::kRange.hi, 1e4)};
}

// Operands of rows that answer yes or no: small whole numbers, NaN and infinities, so that each answer
// occurs.
template <class T>
Array deciding_operand(int64_t n, uint64_t seed) {
  Draws draws(seed);
  return array_of<T>({n}, [&](int64_t) {
    const auto whole = static_cast<float>(draws.below(7) - 3);
    if constexpr (std::is_integral_v<T>) return static_cast<T>(whole);
    const float special[] = {NAN, INFINITY, -INFINITY};
    const int64_t pick = draws.below(16);
    return T(pick < 3 ? special[pick] : whole);
  });
}

// Operands x, y and, for ternary rows, the condition.
template <class R, class T>
Arrays elementwise_operands(int64_t n) {
  Arrays in;
  for (uint64_t seed = 1; seed <= std::min<uint64_t>(R::kOperands, 2); ++seed) {
    in.push_back(R::kResult == ResultRule::kBool ? deciding_operand<T>(n, seed)
                                                 : random_array<T>({n}, usual_range<R>(), seed));
  }
  if (R::kOperands == 3) in.push_back(random_array<bool>({n}, {0, 1}, 3));
  return in;
}

template <class R, class T>
std::string check_elementwise(const Arrays& in, const Array& out) {
  using W = typename WiderOf<T, R::kUlp>::type;
  using Out = std::conditional_t<R::kResult == ResultRule::kBool, bool, T>;
  const T *x = in[0].data<T>(), *y = in[in.size() > 1 ? 1 : 0].data<T>();
  const bool* c = in.size() > 2 ? in[2].data<bool>() : nullptr;
  const Out* got = out.data<Out>();
  for (int64_t i : sample_places(out.size())) {
    const auto truth = R::of(c && c[i], widen<W>(x[i]), widen<W>(y[i]));
    if (!near(got[i], truth, R::kUlp)) return complaint(i, got[i], static_cast<double>(truth));
  }
  return "";
}

template <class R, class T>
void add_elementwise(int64_t n) {
  constexpr Dtype kDtype = DtypeOf<T>::value;
  if constexpr (contains(R::kDtypes, kDtype)) {
    add_case(
        {"elementwise/" + std::string(R::kName) + "/" + std::string(dtype_name(kDtype)) + "/" + size_text(n),
         [n] { return elementwise_operands<R, T>(n); }, R::run, check_elementwise<R, T>});
  }
}

// float32 at every size (int32 for the rows that have no float32), the other dtypes in the middle one.
template <class R>
void add_elementwise_row() {
  constexpr bool kFloats = contains(R::kDtypes, Dtype::kFloat32);
  for (int64_t n : kSizes) {
    if (kFloats) add_elementwise<R, float>(n);
    if (!kFloats || n == kSizes[1]) add_elementwise<R, int32_t>(n);
    if (n != kSizes[1]) continue;
    add_elementwise<R, bfloat16_t>(n);
    add_elementwise<R, double>(n);
  }
}

// ---- reductions

// Operands for which every step of the reduction matters and nothing overflows.
template <class R, class T>
Array reduce_operand(const Shape& shape) {
  const std::string row = R::kName;
  if (row == "all") return random_array<T>(shape, {1, 2}, 1);
  if (row == "any") return array_of<T>(shape, [](int64_t) { return T(0); });
  if (row == "prod") {
    const double spread = 1 / std::sqrt(static_cast<double>(num_elements(shape)));
    return random_array<T>(shape, {1 - spread, 1 + spread}, 1);
  }
  const double most = std::is_integral_v<T> ? 1000 : 1;
  return random_array<T>(shape, {-most, most}, 1);
}

// Bound of |result - truth| for a reduction of n values: roundings behave like a random walk, and eight
// deviations of it are allowed. Sums and products are joined from pieces, so that a value is rounded some
// thousand times at most, however many there are.
template <class R, class T>
double reduce_bound(int64_t n, double truth, double norm) {
  if (std::is_integral_v<T>) return 0;
  const std::string row = R::kName;
  const double out_eps = std::is_same_v<T, double>       ? 0x1p-53
                         : std::is_same_v<T, bfloat16_t> ? 0x1p-8
                                                         : 0x1p-24;
  const double eps = std::is_same_v<T, double> ? 0x1p-53 : 0x1p-24;
  const double walk = 8 * eps * std::sqrt(std::min(static_cast<double>(n), 4096.0) + 1);
  if (row == "max" || row == "min" || row == "all" || row == "any") return 0;
  // The rounding of a partial sum is relative to that sum, itself about norm / sqrt(n) for mixed signs.
  return walk * std::max(std::abs(truth), 4 * norm / std::sqrt(static_cast<double>(n) + 1)) +
         out_eps * std::abs(truth);
}

template <class R, class T>
std::string check_reduce(const Array& x, const Array& out, int64_t stride, int64_t count) {
  using W = std::conditional_t<std::is_integral_v<T>, T, double>;
  using Out = std::conditional_t<R::kResult == ResultRule::kBool, bool, T>;
  const T* in = x.data<T>();
  const Out* got = out.data<Out>();
  // Axis 0 of a matrix: neighbours of one result are `stride` apart; else they are adjacent.
  for (int64_t i = 0; i < out.size(); i += std::max<int64_t>(1, out.size() / 64)) {
    std::conditional_t<R::kResult == ResultRule::kBool, bool, W> truth = R::template start<W>();
    double norm = 0;
    for (int64_t k = 0; k < count; ++k) {
      const W v = widen<W>(in[stride == 1 ? i * count + k : i + k * stride]);
      truth = R::fold(truth, v), norm += std::abs(static_cast<double>(v));
    }
    const double want = static_cast<double>(truth), value = widen<double>(got[i]);
    if (!(std::abs(value - want) <= reduce_bound<R, T>(count, want, norm))) return complaint(i, got[i], want);
  }
  return "";
}

// All elements, rows of 1024, and columns of a matrix 1024 wide.
template <class R, class T>
void add_reduce(int64_t n) {
  constexpr Dtype kDtype = DtypeOf<T>::value;
  if constexpr (contains(R::kDtypes, kDtype)) {
    const int64_t width = std::min<int64_t>(n, 1024), height = n / width;
    struct Layout {
      const char* name;
      OptAxes axes;
      int64_t stride, count;
    };
    for (const Layout& l : {Layout{"all", std::nullopt, 1, n}, Layout{"rows", Axes{1}, 1, width},
                            Layout{"columns", Axes{0}, width, height}}) {
      if (height == 1 && l.axes) continue;
      add_case({"reduce/" + std::string(R::kName) + "/" + l.name + "/" + std::string(dtype_name(kDtype)) +
                    "/" + size_text(n),
                [=] {
                  return Arrays{reduce_operand<R, T>({height, width})};
                },
                [axes = l.axes](const Arrays& in) { return R::run(in, axes); },
                [stride = l.stride, count = l.count](const Arrays& in, const Array& out) {
                  return check_reduce<R, T>(in[0], out, stride, count);
                }});
    }
  }
}

template <class R>
void add_reduce_row() {
  for (int64_t n : kSizes) {
    add_reduce<R, float>(n);
    if (n != kSizes[1]) continue;
    add_reduce<R, int32_t>(n);
    add_reduce<R, bfloat16_t>(n);
    add_reduce<R, double>(n);
  }
}

[[maybe_unused]] const bool registered = [] {
#define UNARY(id, ...) add_elementwise_row<id##Row>();
#include "lamina/table/unary.def"
#undef UNARY
#define BINARY(id, ...) add_elementwise_row<id##Row>();
#include "lamina/table/binary.def"
#undef BINARY
#define TERNARY(id, ...) add_elementwise_row<id##Row>();
#include "lamina/table/ternary.def"
#undef TERNARY
#define REDUCE(id, ...) add_reduce_row<id##Row>();
#include "lamina/table/reduce.def"
#undef REDUCE
  return true;
}();

}  // namespace
}  // namespace lamina::bench
