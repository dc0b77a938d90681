#include "backend/cpu/copy.h"

#include <numeric>

#include "backend/reference/concat.h"
#include "backend/reference/copy.h"
#include "backend/reference/fill.h"
#include "backend/reference/layout.h"
#include "view_testing.h"

namespace lamina {
namespace {

using namespace view_testing;

using CopyFn = void (*)(const View&, const View&);

void expect_copy(CopyFn copy, Dtype dtype, const Shape& shape, Layout from, Layout to) {
  const Box in = random_box(dtype, shape, from, 7, Values::kBits);
  const Box out(dtype, shape, to);
  copy(in, out);
  EXPECT_EQ(dense_bytes(out), dense_bytes(in)) << describe(in) << " to " << describe(out);
  EXPECT_TRUE(out.guards_intact()) << describe(in) << " to " << describe(out);
}

const Shape kShapes[] = {{},
                         {0},
                         {1},
                         {5},
                         {3, 0, 2},
                         {1, 1},
                         {2, 3},
                         {4, 4},
                         {7, 1, 5},
                         {16, 16},
                         {17, 33},
                         {65, 66},
                         {3, 70, 130},
                         {2, 3, 4, 5},
                         {64, 3},
                         {3, 64},
                         {129, 2},
                         {5, 4, 2, 8},
                         {2, 2, 2, 2, 2, 2, 2},
                         {300},
                         {70, 1, 130}};

TEST(Copy, EveryLayoutToEveryLayout) {
  for (CopyFn copy : {&reference::copy, &cpu::copy}) {
    for (Dtype dtype : {Dtype::kUInt8, Dtype::kFloat16, Dtype::kInt32, Dtype::kComplex64}) {
      for (const Shape& shape : kShapes) {
        for (Layout from : kInLayouts) {
          for (Layout to : kOutLayouts) expect_copy(copy, dtype, shape, from, to);
        }
      }
    }
  }
}

TEST(Copy, AxisPermutations) {
  for (Dtype dtype : {Dtype::kUInt8, Dtype::kBFloat16, Dtype::kFloat32, Dtype::kFloat64}) {
    for (const Shape& shape : {Shape{5, 18, 35}, Shape{66, 4, 19}, Shape{2, 40, 8}, Shape{33, 65, 2}}) {
      std::vector<size_t> order = {0, 1, 2};
      do {
        const Box whole = random_box(dtype, shape, Layout::kDense, 3, Values::kBits);
        View in = whole.view();
        for (size_t d = 0; d < 3; ++d) {
          in.shape[d] = whole.view().shape[order[d]];
          in.strides[d] = whole.view().strides[order[d]];
        }
        const Box out(dtype, in.shape);
        cpu::copy(in, out);
        EXPECT_EQ(dense_bytes(out), dense_bytes(in)) << describe(in);
        EXPECT_TRUE(out.guards_intact());
      } while (std::next_permutation(order.begin(), order.end()));
    }
  }
}

TEST(Copy, TransposesOfEverySizeOnEveryTarget) {
  for_each_target([] {
    for (Dtype dtype : {Dtype::kUInt8, Dtype::kFloat16, Dtype::kFloat32, Dtype::kFloat64}) {
      for (int64_t n = 1; n <= 130; n += n < 36 ? 1 : 7) {
        expect_copy(cpu::copy, dtype, {n, 37}, Layout::kTransposed, Layout::kDense);
        expect_copy(cpu::copy, dtype, {66, n}, Layout::kTransposed, Layout::kDense);
      }
    }
  });
}

TEST(Copy, ManyShortRows) {
  for (Dtype dtype : {Dtype::kUInt8, Dtype::kFloat16, Dtype::kInt32, Dtype::kComplex64}) {
    for (int64_t width : {1, 2, 3, 4, 5, 15, 16}) {
      for (Layout from : kInLayouts) {
        expect_copy(cpu::copy, dtype, {1100, width}, from, Layout::kDense);
        expect_copy(cpu::copy, dtype, {2, 700, width}, Layout::kDense,
                    from == Layout::kRepeated ? Layout::kSlice : from);
      }
    }
  }
}

TEST(Copy, ThreadsDoNotChangeTheResult) {
  for (Layout from : {Layout::kDense, Layout::kTransposed, Layout::kSlice}) {
    const Box in = random_box(Dtype::kFloat32, {700, 800}, from, 5, Values::kBits),
              out(Dtype::kFloat32, {700, 800});
    expect_same_for_all_thread_counts(out, [&] { cpu::copy(in, out); });
    EXPECT_EQ(dense_bytes(out), dense_bytes(in));
  }
}

// Above every possible streaming threshold, at an odd address.
TEST(Copy, ArraysLargerThanTheCache) {
  constexpr int64_t kRows = 4103, kCols = 4200;
  std::vector<uint32_t> from(static_cast<size_t>(kRows * kCols)), to(from.size() + 1);
  std::iota(from.begin(), from.end(), 1u);
  for_each_target([&] {
    for (size_t shift : {size_t{0}, size_t{1}}) {
      std::fill(to.begin(), to.end(), 0u);
      const View in{from.data(), Dtype::kUInt32, {kCols, kRows}, {1, kCols}};
      cpu::copy(in, View{to.data() + shift, Dtype::kUInt32, {kCols, kRows}, {kRows, 1}});
      int64_t wrong = 0;
      for (int64_t c = 0; c < kCols; ++c) {
        for (int64_t r = 0; r < kRows; ++r) {
          wrong += to[shift + static_cast<size_t>(c * kRows + r)] != from[static_cast<size_t>(r * kCols + c)];
        }
      }
      EXPECT_EQ(wrong, 0);
      EXPECT_EQ(to[shift == 0 ? from.size() : 0], 0u);
      std::fill(to.begin(), to.end(), 0u);
      cpu::copy(View{from.data(), Dtype::kUInt32, {kRows, kCols}, {kCols, 1}},
                View{to.data() + shift, Dtype::kUInt32, {kRows, kCols}, {kCols, 1}});
      EXPECT_TRUE(std::equal(from.begin(), from.end(), to.begin() + static_cast<int64_t>(shift)));
    }
  });
}

// A stride-0 view has more elements than memory could hold; loops must count them in 64 bits.
TEST(Layout, WalksPast2To32Elements) {
  constexpr int64_t kRows = int64_t{1} << 33;
  const Shape shape = {kRows, 3};
  const std::array<Strides, 1> strides = {Strides{0, 5}};
  std::vector<int64_t> seen;
  for_each_row<1>(shape, strides, 3 * kRows - 4, 3 * kRows, [&](const auto& at, int64_t n) {
    for (int64_t i = 0; i < n; ++i) seen.push_back(at[0] + 5 * i);
  });
  EXPECT_EQ(seen, (std::vector<int64_t>{10, 0, 5, 10}));
  EXPECT_EQ(Odometer(shape, strides, 3 * kRows - 1).offset(0), 10);
}

TEST(Concatenate, JoinsAlongEveryAxis) {
  for (auto concatenate : {&reference::concatenate, &cpu::concatenate}) {
    for (int64_t axis = 0; axis < 3; ++axis) {
      for (Layout layout : kInLayouts) {
        Shape shapes[3] = {{3, 4, 5}, {3, 4, 5}, {3, 4, 5}};
        shapes[1][static_cast<size_t>(axis)] = 0;
        shapes[2][static_cast<size_t>(axis)] = 7;
        Shape total = shapes[0];
        total[static_cast<size_t>(axis)] += 7;
        std::vector<Box> boxes;
        std::vector<View> ins;
        for (uint64_t i = 0; i < 3; ++i) {
          boxes.push_back(random_box(Dtype::kInt16, shapes[i], layout, i, Values::kBits));
          ins.push_back(boxes.back().view());
        }
        const Box out(Dtype::kInt16, total, Layout::kSlice);
        concatenate(ins, out, axis);
        EXPECT_TRUE(out.guards_intact());
        EXPECT_EQ(dense_bytes(slice_axis(out, axis, 0, shapes[0][static_cast<size_t>(axis)])),
                  dense_bytes(ins[0]));
        EXPECT_EQ(dense_bytes(slice_axis(out, axis, shapes[0][static_cast<size_t>(axis)], 7)),
                  dense_bytes(ins[2]));
      }
    }
  }
}

// ---- loops

// Offsets of all elements in row-major order, operand by operand.
std::vector<int64_t> plain_offsets(const Shape& shape, const std::vector<Strides>& strides) {
  std::vector<int64_t> offsets;
  for (int64_t i = 0; i < count(shape); ++i) {
    for (const Strides& s : strides) {
      int64_t rest = i, offset = 0;
      for (size_t d = shape.size(); d-- > 0; rest /= shape[d]) offset += rest % shape[d] * s[d];
      offsets.push_back(offset);
    }
  }
  return offsets;
}

TEST(Layout, CollapsedLoopsVisitTheSameElements) {
  std::mt19937_64 rng(11);
  for (int round = 0; round < 500; ++round) {
    const size_t rank = rng() % 6;
    Shape shape(rank);
    std::vector<Strides> strides(2, Strides(rank));
    int64_t dense = 1;
    for (size_t d = rank; d-- > 0; dense *= shape[d]) {
      shape[d] = round % 10 == 0 ? static_cast<int64_t>(rng() % 3) : static_cast<int64_t>(rng() % 4) + 1;
      strides[0][d] = dense;
      strides[1][d] = rng() % 2 ? dense : static_cast<int64_t>(rng() % 7) - 3;
    }
    const std::vector<int64_t> expected = plain_offsets(shape, strides);
    Shape merged = shape;
    std::array<Strides, 2> merged_strides = {strides[0], strides[1]};
    std::array<Strides*, 2> pointers = {&merged_strides[0], &merged_strides[1]};
    collapse(merged, pointers);
    ASSERT_FALSE(merged.empty());
    ASSERT_EQ(count(merged), count(shape));
    const bool same = rank > 0 && count(shape) > 0 && strides[0] == strides[1];
    EXPECT_TRUE(!same || merged.size() == 1) << to_string(shape);
    const int64_t n = count(shape), begin = n ? static_cast<int64_t>(rng() % static_cast<uint64_t>(n)) : 0;
    std::vector<int64_t> seen;
    auto visit = [&](const std::array<int64_t, 2>& at, int64_t row) {
      for (int64_t i = 0; i < row; ++i) {
        for (size_t k = 0; k < 2; ++k) seen.push_back(at[k] + i * merged_strides[k].back());
      }
    };
    for_each_row<2>(merged, merged_strides, 0, begin, visit);
    for_each_row<2>(merged, merged_strides, begin, n, visit);
    EXPECT_EQ(seen, expected) << to_string(shape);
    std::vector<int64_t> walked;
    Odometer at(merged, merged_strides, begin);
    for (int64_t left = n - begin; left > 0;) {
      const int64_t step = std::min<int64_t>({left, at.row_left(), static_cast<int64_t>(rng() % 3) + 1});
      for (int64_t i = 0; i < step; ++i) {
        for (size_t k = 0; k < 2; ++k) walked.push_back(at.offset(k) + i * merged_strides[k].back());
      }
      at.advance(step);
      left -= step;
    }
    EXPECT_EQ(walked, std::vector<int64_t>(expected.begin() + 2 * begin, expected.end())) << to_string(shape);
  }
}

TEST(Layout, MergesAndDropsAxes) {
  auto merged = [](Shape shape, Strides strides) {
    std::array<Strides*, 1> pointers = {&strides};
    collapse(shape, pointers);
    return to_string(shape) + to_string(strides);
  };
  EXPECT_EQ(merged({}, {}), "(1,)(0,)");
  EXPECT_EQ(merged({1, 1}, {5, 7}), "(1,)(0,)");
  EXPECT_EQ(merged({3, 0}, {1, 1}), "(0,)(0,)");
  EXPECT_EQ(merged({2, 3, 4}, {12, 4, 1}), "(24,)(1,)");
  EXPECT_EQ(merged({2, 1, 4}, {4, 99, 1}), "(8,)(1,)");
  EXPECT_EQ(merged({2, 3, 4}, {24, 4, 1}), "(2, 12)(24, 1)");
  EXPECT_EQ(merged({2, 3}, {0, 0}), "(6,)(0,)");
  EXPECT_EQ(merged({4, 3}, {-3, -1}), "(12,)(-1,)");
}

TEST(Layout, SortsAxesByTheFirstOperand) {
  Shape shape = {2, 3, 4};
  Strides a = {1, -8, 2}, b = {5, 6, 7};
  std::array<Strides*, 2> strides = {&a, &b};
  sort_axes_by_stride(shape, strides);
  EXPECT_EQ(shape, (Shape{3, 4, 2}));
  EXPECT_EQ(a, (Strides{-8, 2, 1}));
  EXPECT_EQ(b, (Strides{6, 7, 5}));
}

// ---- fills

template <class T>
double real_value(const View& v, int64_t i) {
  if constexpr (kIsComplex<T>) {
    return value<T>(v, i).real();
  } else {
    return static_cast<double>(widen(value<T>(v, i)));
  }
}

TEST(Fill, ArangeEyeAndTri) {
  for (Dtype dtype : kAllDtypes) {
    for (Layout layout : kOutLayouts) {
      visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
        const Box line(dtype, {40}, layout), square(dtype, {2, 5, 7}, layout);
        reference::arange(line, 3.0, 2.0);
        for (int64_t i = 0; i < 40 && dtype != Dtype::kBool; ++i)
          EXPECT_EQ(real_value<T>(line, i), 3.0 + 2.0 * i);
        reference::arange(line, int64_t{5}, int64_t{1});
        for (int64_t i = 0; i < 40 && dtype != Dtype::kBool; ++i) EXPECT_EQ(real_value<T>(line, i), 5.0 + i);
        for (int64_t k : {-6, -1, 0, 2, 9}) {
          reference::eye(square, k);
          for (int64_t i = 0; i < 70; ++i) EXPECT_EQ(real_value<T>(square, i), i % 7 == i / 7 % 5 + k) << k;
          reference::tri(square, k);
          for (int64_t i = 0; i < 70; ++i) EXPECT_EQ(real_value<T>(square, i), i % 7 <= i / 7 % 5 + k) << k;
        }
        EXPECT_TRUE(line.guards_intact() && square.guards_intact());
      });
    }
  }
}

TEST(Fill, ArangeOfLargeIntegersIsExact) {
  const Box line(Dtype::kInt64, {3});
  const int64_t start = (int64_t{1} << 62) + 1;
  reference::arange(line, start, int64_t{-3});
  EXPECT_EQ(value<int64_t>(line, 0), start);
  EXPECT_EQ(value<int64_t>(line, 2), start - 6);
}

}  // namespace
}  // namespace lamina
