#include "backend/cpu/sort.h"
#include <algorithm>
#include <numeric>

#include "backend/cpu/tile.h"
#include "backend/reference/arg_reduce.h"
#include "backend/reference/layout.h"
#include "backend/reference/sort.h"
#include "backend/reference/sort_order.h"
#include "lamina/error.h"
#include "view_testing.h"

namespace lamina {
namespace {

using namespace view_testing;

struct Functions {
  const char* name;
  void (*sort)(const View&, const View&, int64_t);
  void (*argsort)(const View&, const View&, int64_t);
  void (*topk)(const View&, const View&, int64_t);
  void (*argtopk)(const View&, const View&, int64_t);
};
const Functions kFunctions[] = {
    {"reference", reference::sort, reference::argsort, reference::topk, reference::argtopk},
    {"cpu", cpu::sort, cpu::argsort, cpu::topk, cpu::argtopk},
};

// The order by plain cases: NaN after everything; complex by the documented groups.
template <class T>
bool before(T a, T b) {
  if constexpr (kIsComplex<T>) {
    auto group = [](T x) { return (std::isnan(x.real()) ? 2 : 0) + (std::isnan(x.imag()) ? 1 : 0); };
    if (group(a) != group(b)) return group(a) < group(b);
    switch (group(a)) {
      case 0: return a.real() < b.real() || (a.real() == b.real() && a.imag() < b.imag());
      case 1: return a.real() < b.real();
      case 2: return a.imag() < b.imag();
      default: return false;
    }
  } else if constexpr (std::is_integral_v<T>) {
    return a < b;
  } else {
    const auto x = static_cast<double>(widen(a)), y = static_cast<double>(widen(b));
    return std::isnan(y) ? !std::isnan(x) : x < y;
  }
}

// The line that starts at element `line` of the axes other than `axis`.
View line_of(const View& v, int64_t axis, int64_t line) {
  View part = v;
  const View rest = drop_axis(v, axis);
  part.data = element(rest, line);
  part.shape = Shape{v.shape[static_cast<size_t>(axis)]};
  part.strides = Strides{v.strides[static_cast<size_t>(axis)]};
  return part;
}

template <class T>
std::vector<int64_t> stable_order(const View& line) {
  std::vector<int64_t> order(static_cast<size_t>(line.size()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return before(value<T>(line, a), value<T>(line, b)); });
  return order;
}

int64_t index_at(const View& v, int64_t i) {
  return v.dtype == Dtype::kUInt32 ? static_cast<int64_t>(value<uint32_t>(v, i)) : value<int64_t>(v, i);
}

// Equal, or both NaN.
template <class T>
bool same(T a, T b) {
  return !before(a, b) && !before(b, a);
}

// sort, argsort and both topk of every line of `in` against a stable sort.
void check_sorts(const Functions& f, const View& in, int64_t axis, Layout layout, Dtype index_dtype) {
  SCOPED_TRACE(describe(in) + " axis " + std::to_string(axis) + " of " + f.name);
  const int64_t n = in.shape[static_cast<size_t>(axis)];
  Shape part = in.shape;
  part[static_cast<size_t>(axis)] = n / 5;
  const Box sorted(in.dtype, in.shape, layout), order(index_dtype, in.shape, layout);
  const Box top(in.dtype, part, layout), top_order(index_dtype, part, layout);
  f.sort(in, sorted, axis);
  f.argsort(in, order, axis);
  f.topk(in, top, axis);
  f.argtopk(in, top_order, axis);
  EXPECT_TRUE(sorted.guards_intact() && order.guards_intact() && top.guards_intact() &&
              top_order.guards_intact());
  visit_dtype(in.dtype, [&]<class T>(std::type_identity<T>) {
    const int64_t lines = n == 0 ? 0 : in.size() / n;
    int64_t wrong = 0;
    for (int64_t l = 0; l < lines; ++l) {
      const View from = line_of(in, axis, l), to = line_of(sorted, axis, l), at = line_of(order, axis, l);
      const View best = line_of(top, axis, l), best_at = line_of(top_order, axis, l);
      const std::vector<int64_t> expected = stable_order<T>(from);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t source = expected[static_cast<size_t>(i)];
        wrong += index_at(at, i) != source;
        wrong += !same(value<T>(to, i), value<T>(from, source));
        if (const int64_t k = i - (n - n / 5); k >= 0) {
          wrong += index_at(best_at, k) != source;
          wrong += !same(value<T>(best, k), value<T>(from, source));
        }
      }
    }
    EXPECT_EQ(wrong, 0);
  });
}

TEST(Sort, EveryDtypeAndLayout) {
  for (const Functions& f : kFunctions) {
    for (Dtype dtype : kAllDtypes) {
      for (Values values : {Values::kSmall, Values::kSpecial, Values::kBits}) {
        for (Layout layout : kInLayouts) {
          const Layout to = layout == Layout::kRepeated ? Layout::kSlice : layout;
          for (int64_t axis = 0; axis < 3; ++axis) {
            check_sorts(f, random_box(dtype, {4, 11, 3}, layout, 1, values), axis, to, Dtype::kUInt32);
            check_sorts(f, random_box(dtype, {3, 0, 2}, layout, 1, values), axis, to, Dtype::kInt64);
          }
        }
      }
    }
  }
}

TEST(Sort, EveryLength) {
  for (Dtype dtype : {Dtype::kUInt8, Dtype::kFloat16, Dtype::kFloat32, Dtype::kInt64, Dtype::kFloat64}) {
    for (int64_t n = 0; n <= 130; ++n) {
      check_sorts(kFunctions[1],
                  random_box(dtype, {2, n}, Layout::kDense, static_cast<uint64_t>(n), Values::kSpecial), 1,
                  Layout::kDense, Dtype::kUInt32);
    }
    for (int64_t n : {255, 256, 1023, 1024, 1025, 16383, 16385, 40000}) {
      check_sorts(kFunctions[1],
                  random_box(dtype, {n}, Layout::kDense, static_cast<uint64_t>(n), Values::kBits), 0,
                  Layout::kDense, Dtype::kInt64);
    }
  }
}

// Distributions that spread badly over the buckets of the first pass.
TEST(Sort, LongSkewedLines) {
  constexpr int64_t kLength = 150000;
  std::mt19937_64 rng(3);
  const Box ints(Dtype::kInt64, {kLength}), floats(Dtype::kFloat32, {kLength});
  auto check = [&](auto&& draw_int) {
    for (int64_t i = 0; i < kLength; ++i) {
      const auto x = static_cast<int64_t>(draw_int(i));
      value<int64_t>(ints, i) = x;
      value<float>(floats, i) = static_cast<float>(x);
    }
    check_sorts(kFunctions[1], ints, 0, Layout::kDense, Dtype::kUInt32);
    check_sorts(kFunctions[1], floats, 0, Layout::kSlice, Dtype::kUInt32);
  };
  check([](int64_t) { return 7; });
  check([](int64_t i) { return i; });
  check([](int64_t i) { return -i; });
  check([&](int64_t) { return rng() % 3; });
  check([&](int64_t i) { return i == 77 ? int64_t{1} << 62 : static_cast<int64_t>(rng() % 1000); });
  check([&](int64_t i) {
    return i % 2 ? -(int64_t{1} << 60) - static_cast<int64_t>(rng() % 100)
                 : static_cast<int64_t>(rng() % 100000);
  });
}

TEST(Sort, ThreadsDoNotChangeTheResult) {
  for (const Shape& shape : {Shape{200000}, Shape{37, 5000}}) {
    const auto axis = static_cast<int64_t>(shape.size()) - 1;
    const Box in = random_box(Dtype::kFloat32, shape, Layout::kDense, 9, Values::kSpecial);
    const Box wide = random_box(Dtype::kInt64, shape, Layout::kDense, 9, Values::kBits);
    const Box order(Dtype::kUInt32, shape), sorted(Dtype::kFloat32, shape);
    expect_same_for_all_thread_counts(order, [&] { cpu::argsort(in, order, axis); });
    expect_same_for_all_thread_counts(order, [&] { cpu::argsort(wide, order, axis); });
    expect_same_for_all_thread_counts(sorted, [&] { cpu::sort(in, sorted, axis); });
  }
}

TEST(Sort, ZerosOfBothSigns) {
  const Box in(Dtype::kFloat32, {60}), sorted(Dtype::kFloat32, {60}), order(Dtype::kUInt32, {60});
  for (int64_t i = 0; i < 60; ++i) value<float>(in, i) = i % 2 ? -0.0f : 0.0f;
  for (const Functions& f : kFunctions) {
    f.sort(in, sorted, 0);
    f.argsort(in, order, 0);
    for (int64_t i = 0; i < 60; ++i) {
      EXPECT_EQ(std::signbit(value<float>(sorted, i)), i < 30) << f.name;
      EXPECT_EQ(value<uint32_t>(order, i), static_cast<uint32_t>(i)) << f.name;
    }
  }
}

TEST(Partition, PutsTheKthElementInItsPlace) {
  const Box in = random_box(Dtype::kFloat32, {5, 41}, Layout::kDense, 2, Values::kSpecial);
  const Box out(Dtype::kFloat32, {5, 41}), order(Dtype::kUInt32, {5, 41});
  for (auto partition : {&reference::partition, &cpu::partition}) {
    partition(in, out, 17, 1);
    for (int64_t r = 0; r < 5; ++r) {
      const float kth = value<float>(out, r * 41 + 17);
      for (int64_t i = 0; i < 41; ++i) {
        const float x = value<float>(out, r * 41 + i);
        EXPECT_FALSE(i < 17 ? before(kth, x) : before(x, kth));
      }
    }
  }
  for (auto argpartition : {&reference::argpartition, &cpu::argpartition}) {
    argpartition(in, order, 17, 1);
    for (int64_t r = 0; r < 5; ++r) {
      auto at = [&](int64_t i) {
        return value<float>(in, r * 41 + static_cast<int64_t>(value<uint32_t>(order, r * 41 + i)));
      };
      for (int64_t i = 0; i < 41; ++i) EXPECT_FALSE(i < 17 ? before(at(17), at(i)) : before(at(i), at(17)));
    }
  }
}

// ---- arg-reductions

// NumPy's rule: the first extremum, or the first NaN.
template <class T>
int64_t first_extremum(const View& line, bool largest) {
  int64_t best = 0;
  for (int64_t i = 0; i < line.size(); ++i) {
    const T x = value<T>(line, i), y = value<T>(line, best);
    if (is_nan(x)) return i;
    if (largest ? less(y, x) : less(x, y)) best = i;
  }
  return best;
}

void check_arg_reduce(const View& in, int64_t axis, Dtype index_dtype, bool keep_axis) {
  SCOPED_TRACE(describe(in) + " axis " + std::to_string(axis));
  Shape shape = in.shape;
  if (keep_axis) {
    shape[static_cast<size_t>(axis)] = 1;
  } else {
    shape.erase(shape.begin() + axis);
  }
  const Box out(index_dtype, shape, Layout::kSlice);
  for (int which = 0; which < 4; ++which) {
    const bool largest = which % 2 == 0;
    const reference::ArgReduceTiles simd{largest ? argmax_tile(in.dtype) : argmin_tile(in.dtype),
                                         arg_columns_tile(largest, in.dtype)};
    reference::arg_reduce(largest ? reference::ArgReduceKind::kMax : reference::ArgReduceKind::kMin, in, out,
                          axis, which < 2 ? reference::ArgReduceTiles{} : simd);
    visit_dtype(in.dtype, [&]<class T>(std::type_identity<T>) {
      int64_t wrong = 0;
      for (int64_t l = 0; l < count(shape); ++l) {
        wrong += index_at(out, l) != first_extremum<T>(line_of(in, axis, l), largest);
      }
      EXPECT_EQ(wrong, 0) << largest;
    });
    EXPECT_TRUE(out.guards_intact());
  }
}

TEST(ArgReduce, EveryDtypeLayoutAndAxis) {
  for (Dtype dtype : kAllDtypes) {
    for (Layout layout : kInLayouts) {
      for (Values values : {Values::kSmall, Values::kSpecial, Values::kBits}) {
        for (int64_t axis = 0; axis < 3; ++axis) {
          const Box in = random_box(dtype, {4, 9, 5}, layout, 4, values);
          check_arg_reduce(in, axis, axis == 1 ? Dtype::kInt64 : Dtype::kUInt32, axis == 2);
        }
      }
    }
  }
}

TEST(ArgReduce, NansAndExtremaAnywhereInALine) {
  for (int64_t n : {1, 2, 15, 16, 17, 511, 512, 513, 1024, 1500, 70000, 100001}) {
    const Box in(Dtype::kFloat32, {n});
    for (int64_t at : {int64_t{0}, n / 2, n - 1}) {
      for (float special : {std::numeric_limits<float>::quiet_NaN(), 5.0f, -5.0f}) {
        for (int64_t i = 0; i < n; ++i) value<float>(in, i) = static_cast<float>(i % 3);
        value<float>(in, at) = special;
        check_arg_reduce(in, 0, Dtype::kUInt32, false);
      }
    }
  }
}

TEST(ArgReduce, ColumnsOfEveryWidth) {
  for (Dtype dtype : {Dtype::kFloat32, Dtype::kFloat64, Dtype::kInt32, Dtype::kUInt64, Dtype::kInt16}) {
    for (int64_t n = 8; n < 70; ++n) {
      check_arg_reduce(random_box(dtype, {7, n}, Layout::kDense, 4, Values::kSpecial), 0, Dtype::kUInt32,
                       false);
    }
    check_arg_reduce(random_box(dtype, {5, 1030}, Layout::kDense, 4, Values::kSpecial), 0, Dtype::kInt64,
                     false);
  }
}

TEST(ArgReduce, ThreadsDoNotChangeTheResult) {
  const Box in = random_box(Dtype::kBFloat16, {1, 300000}, Layout::kDense, 4), out(Dtype::kUInt32, {1});
  expect_same_for_all_thread_counts(
      out, [&] { reference::arg_reduce(reference::ArgReduceKind::kMax, in, out, 1); });
}

TEST(ArgReduce, AnEmptyAxisHasNoExtremum) {
  const Box in(Dtype::kFloat32, {3, 0}), out(Dtype::kUInt32, {3}), none(Dtype::kUInt32, {0});
  try {
    reference::arg_reduce(reference::ArgReduceKind::kMax, in, out, 1);
    ADD_FAILURE() << "no error";
  } catch (const ValueError& e) {
    EXPECT_STREQ(e.what(), "[arg_reduce] axis 1 of shape (3, 0) is empty: there is no extremum");
  }
  reference::arg_reduce(reference::ArgReduceKind::kMin, in, none, 0);
}

}  // namespace
}  // namespace lamina
