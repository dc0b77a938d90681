#include "backend/cpu/convolution.h"

#include <gtest/gtest.h>

#include "backend/reference/convolution.h"
#include "view_testing.h"

namespace lamina {
namespace {

using namespace view_testing;

struct Case {
  Shape x, w;
  ConvolutionParams p;
};

ConvolutionParams plain(size_t axes, int64_t groups = 1) {
  ConvolutionParams p;
  p.stride = p.kernel_dilation = p.input_dilation = Shape(axes, 1);
  p.padding_lo = p.padding_hi = Shape(axes, 0);
  p.groups = groups;
  return p;
}

// The result's shape; an axis of 0 where the kernel does not fit.
Shape out_shape(const Case& c) {
  Shape out = c.x;
  out.back() = c.w[0];
  for (size_t i = 0; i < c.p.stride.size(); ++i) {
    const int64_t dilated = std::max<int64_t>(0, (c.x[i + 1] - 1) * c.p.input_dilation[i] + 1);
    const int64_t spare =
        dilated + c.p.padding_lo[i] + c.p.padding_hi[i] - (c.w[i + 1] - 1) * c.p.kernel_dilation[i] - 1;
    out[i + 1] = spare < 0 ? 0 : spare / c.p.stride[i] + 1;
  }
  return out;
}

std::string describe(const Case& c) {
  std::string text = "x " + to_string(c.x) + " w " + to_string(c.w) + " stride " + to_string(c.p.stride) +
                     " padding " + to_string(c.p.padding_lo) + to_string(c.p.padding_hi) + " dilation " +
                     to_string(c.p.kernel_dilation) + to_string(c.p.input_dilation);
  return text + " groups " + std::to_string(c.p.groups) + (c.p.flip ? " flipped" : "");
}

// Channels per group and outputs per group that reach every way of computing: small groups, few outputs,
// many.
Case random_case(std::mt19937_64& rng) {
  const auto pick = [&rng](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(rng() % static_cast<uint64_t>(high - low + 1));
  };
  const int64_t kPairs[][3] = {{1, 1, 1},    {1, 1, 7},  {1, 1, 37},  {1, 2, 5}, {3, 17, 1},
                               {5, 9, 2},    {8, 40, 1}, {33, 70, 1}, {4, 4, 8}, {2, 19, 3},
                               {300, 18, 1}, {2, 2, 5},  {8, 8, 3}};
  for (;;) {
    const auto axes = static_cast<size_t>(pick(1, 3));
    const auto& pair = kPairs[pick(0, 12)];
    Case c{{pick(1, 3)}, {pair[1] * pair[2]}, plain(axes, pair[2])};
    const int64_t longest = axes == 1 ? 90 : axes == 2 ? 17 : 7;
    for (size_t i = 0; i < axes; ++i) {
      c.x.push_back(pick(1, longest));
      c.w.push_back(pick(1, axes == 1 ? 7 : 3));
      if (pick(0, 2) == 0) continue;
      c.p.stride[i] = pick(1, 3);
      c.p.kernel_dilation[i] = pick(1, 3);
      c.p.input_dilation[i] = std::max<int64_t>(1, pick(-3, 4));
      c.p.padding_lo[i] = pick(-2, 4);
      c.p.padding_hi[i] = pick(-2, 4);
    }
    c.p.flip = pick(0, 1) == 1;
    c.x.push_back(pair[0] * pair[2]);
    c.w.push_back(pair[0]);
    if (count(out_shape(c)) > 0) return c;
  }
}

// |values| as float64, for the sizes of the sums.
Box magnitudes(const View& v) {
  Box box(Dtype::kFloat64, v.shape);
  visit_dtype(v.dtype, [&]<class T>(std::type_identity<T>) {
    for (int64_t i = 0; i < v.size(); ++i) {
      if constexpr (!std::is_integral_v<T>) {
        value<double>(box, i) = static_cast<double>(std::abs(widen(value<T>(v, i))));
      }
    }
  });
  return box;
}
Box part_of(const View& v, bool imaginary) {
  Box box(Dtype::kFloat64, v.shape);
  visit_dtype(v.dtype, [&]<class T>(std::type_identity<T>) {
    for (int64_t i = 0; i < v.size(); ++i) {
      if constexpr (kIsComplex<T>) {
        const T z = value<T>(v, i);
        value<double>(box, i) = static_cast<double>(imaginary ? z.imag() : z.real());
      } else {
        value<double>(box, i) = imaginary ? 0 : static_cast<double>(widen(value<T>(v, i)));
      }
    }
  });
  return box;
}

double roundoff(Dtype t) {
  switch (t) {
    case Dtype::kFloat16: return 0x1p-11;
    case Dtype::kBFloat16: return 0x1p-8;
    case Dtype::kFloat64: return 0x1p-53;
    default: return 0x1p-24;
  }
}

// The documented bound, and one rounding to the dtype.
void expect_close(const Case& c, const View& x, const View& w, const View& out) {
  const Shape shape = out.shape;
  Box want(Dtype::kFloat64, shape), size(Dtype::kFloat64, shape), part(Dtype::kFloat64, shape);
  const bool complex = is_complex(out.dtype);
  reference::convolution(magnitudes(x), magnitudes(w), size, c.p);
  const double terms = static_cast<double>(count(c.w) / c.w[0]);
  const double eps = out.dtype == Dtype::kFloat64 ? 0x1p-53 : 0x1p-24;
  for (const bool imaginary : {false, true}) {
    if (imaginary && !complex) continue;
    const Box xr = part_of(x, false), xi = part_of(x, true);
    const Box wr = part_of(w, false), wi = part_of(w, true);
    reference::convolution(xr, imaginary ? wi : wr, want, c.p);
    reference::convolution(xi, imaginary ? wr : wi, part, c.p);
    int64_t wrong = 0;
    for (int64_t i = 0; i < out.size(); ++i) {
      const double exact = value<double>(want, i) + (imaginary ? 1 : -1) * value<double>(part, i);
      double got = 0;
      visit_dtype(out.dtype, [&]<class T>(std::type_identity<T>) {
        if constexpr (kIsComplex<T>) {
          got = static_cast<double>(imaginary ? value<T>(out, i).imag() : value<T>(out, i).real());
        } else {
          got = static_cast<double>(widen(value<T>(out, i)));
        }
      });
      const double bound = (terms / 256 + 256) * eps * value<double>(size, i) * (complex ? 2 : 1) +
                           roundoff(out.dtype) * std::abs(exact) + 0x1p-25;
      wrong += !(std::abs(got - exact) <= bound);
    }
    EXPECT_EQ(wrong, 0) << dtype_name(out.dtype) << " " << describe(c);
  }
}

void check(const Case& c, Dtype t, uint64_t seed) {
  const Box x = random_box(t, c.x, Layout::kDense, seed, Values::kNormal);
  const Box w = random_box(t, c.w, Layout::kDense, seed + 1, Values::kNormal);
  const Box out(t, out_shape(c));
  expect_same_for_all_thread_counts(out, [&] {
    std::memset(out.view().data, 0x5A, static_cast<size_t>(out.view().size()) * itemsize(t));
    cpu::convolution(x, w, out, c.p);
  });
  EXPECT_TRUE(out.guards_intact()) << describe(c);
  expect_close(c, x, w, out);
}

constexpr Dtype kDtypes[] = {Dtype::kFloat32, Dtype::kFloat16, Dtype::kBFloat16, Dtype::kFloat64,
                             Dtype::kComplex64};

TEST(Convolution, RandomShapes) {
  for_each_target([] {
    std::mt19937_64 rng(1);
    for (uint64_t i = 0; i < 120; ++i) check(random_case(rng), kDtypes[i % 5], i);
  });
}

// Products large enough for several slabs, strips and threads.
TEST(Convolution, LargerShapes) {
  std::vector<Case> cases = {
      {{3, 30, 29, 24}, {40, 3, 3, 24}, plain(2)},    {{2, 40, 41, 3}, {64, 7, 7, 3}, plain(2)},
      {{2, 33, 34, 48}, {48, 3, 3, 1}, plain(2, 48)}, {{2, 28, 28, 64}, {64, 3, 3, 2}, plain(2, 32)},
      {{1, 5000, 1}, {1, 65, 1}, plain(1)},           {{1, 1, 1, 600}, {40, 1, 1, 600}, plain(2)},
      {{2, 20, 20, 32}, {32, 4, 4, 32}, plain(2)}};
  for (Case& c : cases) {
    for (size_t i = 0; i < c.p.stride.size(); ++i) c.p.padding_lo[i] = c.p.padding_hi[i] = c.w[i + 1] / 2;
  }
  cases[1].p.stride = {2, 2};
  cases.back().p.input_dilation = {2, 2};
  cases.back().p.flip = true;
  for_each_target([&] {
    for (const Case& c : cases) check(c, Dtype::kFloat32, 5);
  });
}

// Gradients of weights: operands in the layouts that they have there give the bits of dense ones.
TEST(Convolution, ManyTaps) {
  std::vector<Case> cases = {
      {{15, 13, 11, 3}, {18, 11, 9, 3}, plain(2)},            // a weight of 3 by 3
      {{1, 30, 7}, {40, 28, 7}, plain(1)},                    // one channel
      {{3, 9, 40, 2}, {18, 5, 20, 2}, plain(2)},              // of a convolution with stride 2
      {{300, 2, 1, 2}, {20, 2, 1, 2}, plain(2)},              // of 1 by 1
      {{1, 3, 30, 140, 5}, {5, 3, 30, 140, 1}, plain(3, 5)},  // a group for every channel
      {{2, 4, 30, 37}, {37, 8, 61, 1}, plain(2, 37)},         // taps that no output has all of
      {{1, 700, 5}, {5, 690, 1}, plain(1, 5)}};
  for (Case& c : cases) {
    for (size_t i = 0; i < c.p.stride.size(); ++i) c.p.padding_lo[i] = c.p.padding_hi[i] = 1;
  }
  cases[2].p.kernel_dilation = {2, 2};
  cases[4].p.padding_lo[0] = cases[4].p.padding_hi[0] = 0;
  cases[5].p.padding_lo = cases[5].p.padding_hi = {3, 17};
  cases[6].p.flip = true;
  for_each_target([&] {
    for (size_t i = 0; i < 5 * cases.size(); ++i) {
      const Case& c = cases[i / 5];
      const Dtype t = kDtypes[i % 5];
      check(c, t, 7);
      const Box x = random_box(t, c.x, Layout::kDense, 7, Values::kNormal);
      const Box w = random_box(t, c.w, Layout::kDense, 8, Values::kNormal);
      const Box want(t, out_shape(c));
      cpu::convolution(x, w, want, c.p);
      for (const Layout layout : {Layout::kDense, Layout::kTransposed, Layout::kNegative}) {
        const Box other_x = random_box(t, c.x, layout, 7, Values::kNormal);
        const Box other_w = random_box(t, c.w, Layout::kTransposed, 8, Values::kNormal);
        const Box got(t, out_shape(c));
        cpu::convolution(other_x, other_w, got, c.p);
        EXPECT_EQ(dense_bytes(got), dense_bytes(want)) << dtype_name(t) << " " << describe(c);
        EXPECT_TRUE(got.guards_intact());
      }
    }
  });
}

TEST(Convolution, ByHand) {
  // 1 2 4 under the kernel 1 10, in every way to read it.
  const float x[] = {1, 2, 4}, w[] = {1, 10};
  struct Row {
    int64_t stride, lo, hi, kernel, input;
    bool flip;
    std::vector<float> want;
  };
  const std::vector<Row> rows = {{1, 0, 0, 1, 1, false, {21, 42}},
                                 {1, 0, 0, 1, 1, true, {12, 24}},
                                 {1, 1, 1, 1, 1, false, {10, 21, 42, 4}},
                                 {2, 1, 1, 1, 1, false, {10, 42}},
                                 {1, 0, 0, 2, 1, false, {41}},
                                 {1, 0, 0, 1, 2, false, {1, 20, 2, 40}},
                                 {3, 1, 2, 2, 2, false, {0, 42}},
                                 {1, -1, 0, 1, 1, false, {42}},
                                 {1, 2, -2, 1, 1, true, {0, 1}}};
  for (const Row& r : rows) {
    Case c{{1, 3, 1}, {1, 2, 1}, {{r.stride}, {r.lo}, {r.hi}, {r.kernel}, {r.input}, 1, r.flip}};
    const Shape shape = out_shape(c);
    ASSERT_EQ(count(shape), static_cast<int64_t>(r.want.size())) << describe(c);
    const View vx{const_cast<float*>(x), Dtype::kFloat32, c.x, row_major_strides(c.x)};
    const View vw{const_cast<float*>(w), Dtype::kFloat32, c.w, row_major_strides(c.w)};
    const auto on_cpu = [](const View& a, const View& b, const View& to, const ConvolutionParams& p) {
      cpu::convolution(a, b, to, p);
    };
    for (const auto kernel : {reference::convolution, +on_cpu}) {
      std::vector<float> got(r.want.size(), -1);
      kernel(vx, vw, {got.data(), Dtype::kFloat32, shape, row_major_strides(shape)}, c.p);
      EXPECT_EQ(got, r.want) << describe(c);
    }
  }
}

TEST(Convolution, NothingToSum) {
  for (const Case& c : {Case{{2, 4, 0}, {3, 2, 0}, plain(1)}, Case{{0, 4, 2}, {3, 2, 2}, plain(1)},
                        Case{{2, 4, 2}, {0, 2, 2}, plain(1)}}) {
    const Box x(Dtype::kFloat32, c.x), w(Dtype::kFloat32, c.w), out(Dtype::kFloat32, out_shape(c));
    cpu::convolution(x, w, out, c.p);
    EXPECT_TRUE(out.guards_intact());
    for (int64_t i = 0; i < out.view().size(); ++i) EXPECT_EQ(value<float>(out, i), 0);
  }
}

// The oracle takes any strides.
TEST(Convolution, ReferenceLayouts) {
  std::mt19937_64 rng(3);
  for (uint64_t i = 0; i < 20; ++i) {
    const Case c = random_case(rng);
    const Box x = random_box(Dtype::kFloat32, c.x, Layout::kDense, i),
              w = random_box(Dtype::kFloat32, c.w, Layout::kDense, i);
    const Box want(Dtype::kFloat32, out_shape(c));
    reference::convolution(x, w, want, c.p);
    for (Layout layout : kOutLayouts) {
      const Box other_x = random_box(Dtype::kFloat32, c.x, layout, i),
                other_w = random_box(Dtype::kFloat32, c.w, layout, i);
      const Box out(Dtype::kFloat32, out_shape(c), layout);
      reference::convolution(other_x, other_w, out, c.p);
      EXPECT_EQ(dense_bytes(out), dense_bytes(want)) << describe(c);
      EXPECT_TRUE(out.guards_intact());
    }
  }
}

}  // namespace
}  // namespace lamina
