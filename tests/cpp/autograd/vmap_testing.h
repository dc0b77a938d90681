#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "autograd/vmap.h"
#include "lamina/ops.h"
#include "lamina/transforms.h"

namespace lamina::testing {

// ---- data ----

using Maker = std::function<Array(const Shape&, std::mt19937&)>;

template <class T, class Distribution>
Array draw(const Shape& shape, std::mt19937& rng, Distribution d) {
  std::vector<T> values(static_cast<size_t>(num_elements(shape)));
  for (T& v : values) v = static_cast<T>(d(rng));
  return Array(std::span<const T>(values), shape);
}
inline Maker floats(double low = -1, double high = 1, Dtype dtype = Dtype::kFloat32) {
  return [=](const Shape& s, std::mt19937& rng) {
    return astype(draw<double>(s, rng, std::uniform_real_distribution<double>(low, high)), dtype);
  };
}
// low <= x < high
inline Maker ints(int64_t low, int64_t high, Dtype dtype = Dtype::kInt32) {
  return [=](const Shape& s, std::mt19937& rng) {
    return astype(draw<int64_t>(s, rng, std::uniform_int_distribution<int64_t>(low, high - 1)), dtype);
  };
}
inline Maker bools() { return ints(0, 2, Dtype::kBool); }
inline Maker words() { return ints(0, int64_t{1} << 32, Dtype::kUInt32); }
inline Maker complexes() {
  return [](const Shape& s, std::mt19937& rng) {
    Shape pairs = s;
    pairs.push_back(2);
    return squeeze(view(floats()(pairs, rng), Dtype::kComplex64), Axes{-1});
  };
}

// ---- comparison ----

inline std::vector<double> doubles(const Array& a) {
  const Array wide = contiguous(astype(a, Dtype::kFloat64));
  wide.eval();
  if (wide.size() == 0) return {};
  const double* p = wide.data<double>();
  return {p, p + wide.size()};
}

inline double spacing(Dtype t) {
  switch (t) {
    case Dtype::kFloat16: return 0x1p-10;
    case Dtype::kBFloat16: return 0x1p-7;
    case Dtype::kFloat64: return 0x1p-52;
    default: return 0x1p-23;
  }
}

// Equal shapes and dtypes; values within `steps` spacings of the largest value of `expected`, NaN where NaN.
inline void expect_close(const Array& actual, const Array& expected, double steps) {
  ASSERT_EQ(to_string(actual.shape()), to_string(expected.shape()));
  ASSERT_EQ(dtype_name(actual.dtype()), dtype_name(expected.dtype()));
  if (is_complex(actual.dtype())) {
    expect_close(real(actual), real(expected), steps);
    expect_close(imag(actual), imag(expected), steps);
    return;
  }
  const std::vector<double> a = doubles(actual), e = doubles(expected);
  double largest = 0;
  for (double v : e) largest = std::isfinite(v) ? std::max(largest, std::abs(v)) : largest;
  const double bound = is_inexact(actual.dtype()) ? steps * spacing(actual.dtype()) * largest : 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(e[i])) continue;
    if (a[i] == e[i]) continue;
    ASSERT_LE(std::abs(a[i] - e[i]), bound) << "element " << i << ": " << a[i] << " against " << e[i];
  }
}
inline void expect_all_close(const Arrays& actual, const Arrays& expected, double steps) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    SCOPED_TRACE("output " + std::to_string(i));
    expect_close(actual[i], expected[i], steps);
  }
}

// ---- the oracle ----

inline Array example_of(const Array& a, int axis, int64_t i) {
  Shape start(a.shape().size(), 0), stop = a.shape();
  start[static_cast<size_t>(axis)] = i;
  stop[static_cast<size_t>(axis)] = i + 1;
  return contiguous(squeeze(slice(a, start, stop), Axes{axis}));
}

// What vmap is to give: fun on one example after the other, stacked. -1 in out_axes takes the first
// example's.
inline Function looped(const Function& fun, const std::vector<int>& in_axes, const OutAxes& out_axes) {
  return [=](const Arrays& args) {
    int64_t size = 0;
    for (size_t i = 0; i < args.size(); ++i) {
      if (in_axes[i] >= 0) size = args[i].shape(in_axes[i]);
    }
    std::vector<Arrays> by_output;
    std::vector<int> axes;
    for (int64_t e = 0; e < size; ++e) {
      Arrays in = args;
      for (size_t i = 0; i < in.size(); ++i) {
        if (in_axes[i] >= 0) in[i] = example_of(in[i], in_axes[i], e);
      }
      const Arrays outs = fun(in);
      axes = out_axes(outs);
      by_output.resize(outs.size());
      for (size_t k = 0; k < outs.size(); ++k) by_output[k].push_back(outs[k]);
    }
    Arrays out;
    for (size_t k = 0; k < by_output.size(); ++k) {
      out.push_back(axes[k] < 0 ? by_output[k][0] : stack(by_output[k], axes[k]));
    }
    return out;
  };
}

// out_axes for all outputs: the axis, or the last one where an output has fewer.
inline OutAxes at_axis(int axis) {
  return [axis](const Arrays& outs) {
    std::vector<int> axes;
    for (const Array& a : outs) axes.push_back(std::min(axis, a.ndim()));
    return axes;
  };
}

// ---- cases ----

struct Operand {
  Shape shape;  // of one example
  Maker make = floats();
};

struct Case {
  std::string name;
  Function fun;
  std::vector<Operand> operands;
  // Bound in spacings of the largest expected value; integers are always exact.
  double steps = 0;
};

// An operand's array with axes of the given lengths inserted, the last of them first: {{2, 0}, {3, 1}}.
struct Insertion {
  int axis;
  int64_t length;
};
inline Array make_operand(const Operand& o, const std::vector<Insertion>& inserted, std::mt19937& rng) {
  Shape shape = o.shape;
  for (const Insertion& i : inserted) shape.insert(shape.begin() + i.axis, i.length);
  return o.make(shape, rng);
}

// Where each operand has its mapped axis: 0, in the middle or last; -1 where the mask leaves it out.
inline std::vector<int> axes_for(const Case& c, unsigned mask, int place) {
  std::vector<int> axes;
  for (size_t i = 0; i < c.operands.size(); ++i) {
    const int rank = static_cast<int>(c.operands[i].shape.size());
    axes.push_back((mask >> i & 1) == 0 ? -1 : place == 0 ? 0 : place == 1 ? (rank + 1) / 2 : rank);
  }
  return axes;
}

inline std::string describe(const std::vector<int>& axes) {
  std::string out;
  for (int a : axes) out += std::to_string(a) + " ";
  return out;
}

// One mapped axis, in every set of operands and at several places.
inline void check_once(const Case& c, int64_t size) {
  std::mt19937 rng(7);
  for (unsigned mask = 1; mask < 1u << c.operands.size(); ++mask) {
    for (int at = 0; at < 3; ++at) {
      const std::vector<int> axes = axes_for(c, mask, at);
      SCOPED_TRACE(c.name + " in_axes " + describe(axes));
      Arrays args;
      for (size_t i = 0; i < c.operands.size(); ++i) {
        std::vector<Insertion> inserted;
        if (axes[i] >= 0) inserted.push_back({axes[i], size});
        args.push_back(make_operand(c.operands[i], inserted, rng));
      }
      expect_all_close(vmap_with(c.fun, axes, at_axis(at))(args), looped(c.fun, axes, at_axis(at))(args),
                       c.steps);
      if (::testing::Test::HasFailure()) return;
    }
  }
}

// Two mapped axes: both in all operands, and (crossed) the outer in every other operand, the inner in the
// rest.
inline void check_twice(const Case& c, bool crossed) {
  std::mt19937 rng(11);
  const unsigned all = (1u << c.operands.size()) - 1, odd = 0xaaaaaaaau & all;
  if (crossed && odd == 0) return;
  const std::vector<int> inner = axes_for(c, crossed ? all & ~odd : all, 1),
                         outer = axes_for(c, crossed ? odd : all, 0);
  SCOPED_TRACE(c.name + " nested, inner " + describe(inner) + " outer " + describe(outer));
  Arrays args;
  for (size_t i = 0; i < c.operands.size(); ++i) {
    std::vector<Insertion> inserted;
    if (inner[i] >= 0) inserted.push_back({inner[i], 3});
    if (outer[i] >= 0) inserted.push_back({outer[i], 2});
    args.push_back(make_operand(c.operands[i], inserted, rng));
  }
  const Function mapped = vmap_with(vmap_with(c.fun, inner, at_axis(1)), outer, at_axis(0));
  const Function wanted = looped(looped(c.fun, inner, at_axis(1)), outer, at_axis(0));
  expect_all_close(mapped(args), wanted(args), c.steps);
}

// No examples: only shapes and dtypes are left to be right.
inline void check_empty(const Case& c) {
  SCOPED_TRACE(c.name + " without examples");
  std::mt19937 rng(13);
  const std::vector<int> axes = axes_for(c, (1u << c.operands.size()) - 1, 0);
  Arrays none, one;
  for (const Operand& o : c.operands) {
    none.push_back(make_operand(o, {{0, 0}}, rng));
    one.push_back(make_operand(o, {}, rng));
  }
  const Arrays outs = vmap_with(c.fun, axes, at_axis(0))(none), like = c.fun(one);
  ASSERT_EQ(outs.size(), like.size());
  for (size_t i = 0; i < outs.size(); ++i) {
    Shape shape = like[i].shape();
    shape.insert(shape.begin(), 0);
    outs[i].eval();
    EXPECT_EQ(to_string(outs[i].shape()), to_string(shape));
    EXPECT_EQ(dtype_name(outs[i].dtype()), dtype_name(like[i].dtype()));
  }
}

}  // namespace lamina::testing
