#include "backend/cpu/rope.h"

#include <gtest/gtest.h>

#include <string>

#include "gemm_testing.h"

namespace lamina::testing {
namespace {

using cpu::rope;
using cpu::RopeArgs;

// A [B, H, T, D] problem whose input lies transposed as [B, T, H, D] and whose output is contiguous.
struct Problem {
  int64_t batch = 2, heads = 3, length = 5, depth;
  Guarded x, out;
  RopeArgs args;

  Problem(int64_t d, int64_t dims, Dtype t, std::mt19937& rng)
      : depth(d), x(random_buffer(2 * 3 * 5 * d, t, rng)), out(2 * 3 * 5 * d, t) {
    args.x = {x.data(), t, {batch, heads, length, d}, {length * heads * d, d, heads * d, 1}};
    args.out = {out.data(), t, args.x.shape, row_major_strides(args.x.shape)};
    args.dims = dims;
  }
  double in(int64_t b, int64_t h, int64_t t, int64_t d) const {
    return x.at(((b * length + t) * heads + h) * depth + d);
  }
  double got(int64_t b, int64_t h, int64_t t, int64_t d) const {
    return out.at(((b * heads + h) * length + t) * depth + d);
  }
};

void check(const Problem& p, const std::vector<int64_t>& offsets, const std::vector<float>& freqs) {
  const RopeArgs& a = p.args;
  ASSERT_TRUE(p.out.guards_whole());
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      for (int64_t t = 0; t < p.length; ++t) {
        const auto offset = static_cast<double>(offsets[offsets.size() == 1 ? 0 : static_cast<size_t>(b)]);
        const double position = a.scale * (static_cast<double>(t) + offset);
        for (int64_t i = 0; i < a.dims / 2; ++i) {
          const double frequency =
              freqs.empty() ? std::pow(a.base, -2.0 * static_cast<double>(i) / static_cast<double>(a.dims))
                            : 1.0 / freqs[static_cast<size_t>(i)];
          const double angle = (a.inverse ? -1 : 1) * position * frequency;
          const int64_t i0 = a.traditional ? 2 * i : i, i1 = a.traditional ? 2 * i + 1 : i + a.dims / 2;
          const double x0 = p.in(b, h, t, i0), x1 = p.in(b, h, t, i1);
          const double y0 = x0 * std::cos(angle) - x1 * std::sin(angle);
          const double y1 = x0 * std::sin(angle) + x1 * std::cos(angle);
          const double noise = 8 * kEps32 * (std::abs(x0) + std::abs(x1));
          const double u = unit_roundoff(a.out.dtype), least = least_step(a.out.dtype);
          ASSERT_NEAR(p.got(b, h, t, i0), y0, noise + u * std::abs(y0) + least) << "t " << t << " i " << i;
          ASSERT_NEAR(p.got(b, h, t, i1), y1, noise + u * std::abs(y1) + least) << "t " << t << " i " << i;
        }
        for (int64_t d = a.dims; d < p.depth; ++d) ASSERT_EQ(p.got(b, h, t, d), p.in(b, h, t, d));
      }
    }
  }
}

TEST(Rope, EverySizeAndOption) {
  std::mt19937 rng(1);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int64_t dims : {2, 6, 16, 32, 34, 64, 128}) {
      for (int64_t rest : {0, 3}) {
        for (bool traditional : {false, true}) {
          for (bool inverse : {false, true}) {
            Problem p(dims + rest, dims, Dtype::kFloat32, rng);
            p.args.traditional = traditional, p.args.inverse = inverse;
            p.args.base = 500.0f, p.args.scale = 0.75f, p.args.offset = 11;
            rope(p.args);
            check(p, {11}, {});
          }
        }
      }
    }
  });
}

TEST(Rope, SixteenBitTypesRoundOnce) {
  std::mt19937 rng(2);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (Dtype t : {Dtype::kFloat16, Dtype::kBFloat16}) {
      Problem p(40, 36, t, rng);
      p.args.offset = 100;
      rope(p.args);
      check(p, {100}, {});
    }
  });
}

TEST(Rope, FarPositionsKeepTheirAccuracy) {
  std::mt19937 rng(3);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int64_t offset : {1000, 131072, 10000000, -5000}) {
      Problem p(32, 32, Dtype::kFloat32, rng);
      p.args.offset = offset;
      rope(p.args);
      check(p, {offset}, {});
    }
  });
}

TEST(Rope, OffsetsAndFrequencies) {
  std::mt19937 rng(4);
  std::vector<int32_t> each = {7, -2};
  std::vector<int64_t> one = {9};
  const std::vector<float> freqs = {1.0f, 2.5f, 100.0f, 1e6f};
  const View each_view{each.data(), Dtype::kInt32, {2}, {1}}, one_view{one.data(), Dtype::kInt64, {}, {}};
  const View freqs_view{const_cast<float*>(freqs.data()), Dtype::kFloat32, {4}, {1}};
  for (bool own : {false, true}) {
    Problem p(8, 8, Dtype::kFloat32, rng);
    if (own) p.args.freqs = &freqs_view;
    p.args.offsets = &each_view;
    rope(p.args);
    check(p, {7, -2}, own ? freqs : std::vector<float>{});
    p.args.offsets = &one_view;
    rope(p.args);
    check(p, {9}, own ? freqs : std::vector<float>{});
  }
}

TEST(Rope, InverseUndoesTheRotation) {
  std::mt19937 rng(5);
  Problem p(64, 64, Dtype::kFloat32, rng);
  p.args.offset = 3000;
  rope(p.args);
  Problem back(64, 64, Dtype::kFloat32, rng);
  back.args.x = p.args.out, back.args.offset = 3000, back.args.inverse = true;
  rope(back.args);
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t h = 0; h < 3; ++h) {
      for (int64_t t = 0; t < 5; ++t) {
        for (int64_t d = 0; d < 64; ++d) {
          const double pair = std::hypot(p.in(b, h, t, d % 32), p.in(b, h, t, d % 32 + 32));
          EXPECT_NEAR(back.got(b, h, t, d), p.in(b, h, t, d), 16 * kEps32 * pair);
        }
      }
    }
  }
}

TEST(Rope, InPlaceAndReversedFeatures) {
  std::mt19937 rng(6);
  Problem p(16, 12, Dtype::kFloat32, rng);
  rope(p.args);
  // The same features stored backwards, turned in place.
  Guarded backwards(p.x.elems(), Dtype::kFloat32);
  const int64_t n = p.x.elems();
  for (int64_t i = 0; i < n; ++i) backwards.set(n - 1 - i, p.x.at(i));
  RopeArgs a = p.args;
  a.x.data = backwards.as<float>() + n - 1;
  for (int64_t& s : a.x.strides) s = -s;
  a.out = a.x;
  rope(a);
  EXPECT_TRUE(backwards.guards_whole());
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t h = 0; h < 3; ++h) {
      for (int64_t t = 0; t < 5; ++t) {
        for (int64_t d = 0; d < 16; ++d) {
          EXPECT_EQ(backwards.at(n - 1 - (((b * 5 + t) * 3 + h) * 16 + d)), p.got(b, h, t, d));
        }
      }
    }
  }
}

TEST(Rope, BitsDoNotDependOnTheThreads) {
  std::mt19937 rng(7);
  const Shape shape{4, 8, 100, 64};
  Guarded x = random_buffer(num_elements(shape), Dtype::kFloat32, rng);
  RopeArgs a;
  a.dims = 64, a.x = {x.data(), Dtype::kFloat32, shape, row_major_strides(shape)};
  std::vector<Guarded> outs;
  for (int threads : {1, 2, 7}) {
    ThreadCount many(threads);
    Guarded out(x.elems(), Dtype::kFloat32);
    a.out = {out.data(), Dtype::kFloat32, shape, row_major_strides(shape)};
    rope(a);
    outs.push_back(out);
  }
  EXPECT_TRUE(outs[0].same_bits(outs[1]));
  EXPECT_TRUE(outs[0].same_bits(outs[2]));
}

TEST(Rope, EmptyInputs) {
  std::mt19937 rng(8);
  Problem p(8, 8, Dtype::kFloat32, rng);
  for (size_t axis : {0u, 1u, 2u}) {
    RopeArgs a = p.args;
    a.x.shape[axis] = a.out.shape[axis] = 0;
    rope(a);
  }
  for (int64_t i = 0; i < p.out.elems(); ++i) EXPECT_TRUE(p.out.untouched(i));
}

}  // namespace
}  // namespace lamina::testing
