#include "backend/cpu/attention.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "gemm_testing.h"

namespace lamina::testing {
namespace {

using cpu::attention;
using cpu::attention_backward;
using cpu::AttentionArgs;
using cpu::AttentionGradArgs;

enum class Layout { kHeadsFirst, kPositionsFirst, kReversed, kSpread };

// A [B, H, L, D] array in a guarded buffer of its own.
struct Heads {
  Guarded buffer;
  View view;

  double at(int64_t b, int64_t h, int64_t l, int64_t d) const { return buffer.at(offset(b, h, l, d)); }
  void set(int64_t b, int64_t h, int64_t l, int64_t d, double x) { buffer.set(offset(b, h, l, d), x); }
  int64_t offset(int64_t b, int64_t h, int64_t l, int64_t d) const {
    const auto first = (static_cast<const char*>(view.data) - static_cast<const char*>(buffer.data())) /
                       static_cast<int64_t>(itemsize(view.dtype));
    return first + b * view.strides[0] + h * view.strides[1] + l * view.strides[2] + d * view.strides[3];
  }
};

Heads make_heads(int64_t b, int64_t h, int64_t l, int64_t d, Dtype t, Layout layout, std::mt19937* rng) {
  const int64_t spread = layout == Layout::kSpread ? 3 : 1, elems = b * h * l * d * spread;
  Heads x{rng ? random_buffer(elems, t, *rng) : Guarded(elems, t), {}};
  Strides strides{h * l * d, l * d, d, 1};
  int64_t first = 0;
  if (layout == Layout::kPositionsFirst) strides = {l * h * d, d, h * d, 1};
  if (layout == Layout::kSpread) strides = {3 * h * l * d, 3 * l * d, 3 * d, 3};
  if (layout == Layout::kReversed) {
    strides = {h * l * d, l * d, -d, -1};
    first = l * d - 1;
  }
  x.view = {static_cast<char*>(x.buffer.data()) + first * static_cast<int64_t>(itemsize(t)),
            t,
            {b, h, l, d},
            strides};
  return x;
}

struct Case {
  int64_t batch = 1, heads = 2, kv_heads = 1, length = 5, keys = 7, dim = 8, v_dim = 8;
  Dtype dtype = Dtype::kFloat32;
  Layout layout = Layout::kHeadsFirst;
  bool causal = false, sinks = false;
  // 0: none; 1: boolean [L, S]; 2: boolean over keys only; 3: additive [B, H, L, S].
  int mask = 0;
};

std::string describe(const Case& t) {
  return "B " + std::to_string(t.batch) + " H " + std::to_string(t.heads) + "/" + std::to_string(t.kv_heads) +
         " L " + std::to_string(t.length) + " S " + std::to_string(t.keys) + " D " + std::to_string(t.dim) +
         "/" + std::to_string(t.v_dim) + " " + std::string(dtype_name(t.dtype)) +
         (t.causal ? " causal" : "") + " mask " + std::to_string(t.mask) + " layout " +
         std::to_string(static_cast<int>(t.layout)) + (t.sinks ? " sinks" : "");
}

struct Problem {
  Heads q, k, v, out;
  Guarded mask, sinks, lse;
  View mask_view, sinks_view;
  AttentionArgs args;

  Problem(const Case& t, std::mt19937& rng)
      : q(make_heads(t.batch, t.heads, t.length, t.dim, t.dtype, t.layout, &rng)),
        k(make_heads(t.batch, t.kv_heads, t.keys, t.dim, t.dtype, t.layout, &rng)),
        v(make_heads(t.batch, t.kv_heads, t.keys, t.v_dim, t.dtype, t.layout, &rng)),
        out(make_heads(t.batch, t.heads, t.length, t.v_dim, t.dtype, t.layout, nullptr)),
        mask(mask_elems(t), t.mask == 3 ? Dtype::kFloat32 : Dtype::kFloat16),
        sinks(random_buffer(t.heads, t.dtype, rng)),
        lse(t.batch * t.heads * t.length, Dtype::kFloat32) {
    args.q = q.view, args.k = k.view, args.v = v.view, args.out = out.view;
    args.scale = 1.0f / std::sqrt(static_cast<float>(t.dim));
    args.causal = t.causal;
    args.lse = lse.as<float>();
    const int64_t l = t.length, s = t.keys;
    mask_view = {mask.data(), t.mask == 3 ? Dtype::kFloat32 : Dtype::kBool, {t.batch, t.heads, l, s}, {}};
    mask_view.strides = t.mask == 1   ? Strides{0, 0, s, 1}
                        : t.mask == 2 ? Strides{s, 0, 0, 1}
                                      : Strides{t.heads * l * s, l * s, 1, l};
    std::bernoulli_distribution keep(0.7);
    std::normal_distribution<double> normal;
    for (int64_t i = 0; i < mask_elems(t); ++i) {
      if (t.mask == 3) {
        mask.set(i, keep(rng) ? normal(rng) : -std::numeric_limits<double>::infinity());
      } else {
        mask.as<uint8_t>()[i] = keep(rng);
      }
    }
    if (t.mask) args.mask = &mask_view;
    sinks_view = {sinks.data(), t.dtype, {t.heads}, {1}};
    if (t.sinks) args.sinks = &sinks_view;
  }

  static int64_t mask_elems(const Case& t) {
    if (t.mask == 3) return t.batch * t.heads * t.length * t.keys;
    return t.mask == 2 ? t.batch * t.keys : t.length * t.keys;
  }
};

// What a boolean or causal mask makes of a score; an additive mask is lost on it, unless it is -inf.
constexpr double kHidden = -std::numeric_limits<float>::max();

// The scores of one row in float64.
std::vector<double> scores_of(const Case& t, const Problem& p, int64_t b, int64_t h, int64_t i) {
  const int64_t kv = h / (t.heads / t.kv_heads);
  std::vector<double> scores;
  for (int64_t j = 0; j < t.keys; ++j) {
    double s = 0;
    for (int64_t d = 0; d < t.dim; ++d) s += p.q.at(b, h, i, d) * p.k.at(b, kv, j, d);
    s *= p.args.scale;
    if (t.causal && j > i + t.keys - t.length) s = kHidden;
    if (t.mask) {
      const auto& m = p.mask_view;
      const int64_t at = b * m.strides[0] + h * m.strides[1] + i * m.strides[2] + j * m.strides[3];
      if (t.mask == 3) {
        s = s == kHidden ? static_cast<float>(s + p.mask.at(at)) : s + p.mask.at(at);
      } else if (!m.as<uint8_t>()[at]) {
        s = kHidden;
      }
    }
    scores.push_back(s);
  }
  return scores;
}

void check_row(const Case& t, const Problem& p, int64_t b, int64_t h, int64_t i) {
  const auto scores = scores_of(t, p, b, h, i);
  const double inf = std::numeric_limits<double>::infinity();
  double peak = t.sinks ? p.sinks.at(h) : -inf, total = 0;
  for (double score : scores) peak = std::max(peak, score);
  const auto weight_of = [&](double score) { return std::exp(score - peak); };
  for (double score : scores) total += weight_of(score);
  if (t.sinks) total += std::exp(p.sinks.at(h) - peak);
  const bool hidden_only = peak <= kHidden && peak > -inf;
  const int64_t kv = h / (t.heads / t.kv_heads);
  double q_norm = 0, k_norm = 0;
  for (int64_t d = 0; d < t.dim; ++d) q_norm += std::pow(p.q.at(b, h, i, d), 2);
  for (int64_t j = 0; j < t.keys; ++j) {
    double n = 0;
    for (int64_t d = 0; d < t.dim; ++d) n += std::pow(p.k.at(b, kv, j, d), 2);
    k_norm = std::max(k_norm, n);
  }
  // A score's rounding error is relative to |q||k|; it multiplies every weight, and sums of weights add their
  // own.
  const double score_error =
      kEps32 * (std::sqrt(static_cast<double>(t.dim)) + 4) * p.args.scale * std::sqrt(q_norm * k_norm);
  const double relative = 4 * (score_error + kEps32 * (std::sqrt(static_cast<double>(t.keys)) + 8 +
                                                       (hidden_only ? 0 : std::abs(peak))));
  for (int64_t d = 0; d < t.v_dim; ++d) {
    double want = 0, norm = 0;
    for (int64_t j = 0; j < t.keys; ++j) {
      const double term = weight_of(scores[static_cast<size_t>(j)]) / total * p.v.at(b, kv, j, d);
      want += term, norm += std::abs(term);
    }
    if (peak == -inf) {
      ASSERT_TRUE(std::isnan(p.out.at(b, h, i, d)));
      continue;
    }
    ASSERT_NEAR(p.out.at(b, h, i, d), want,
                relative * norm + unit_roundoff(t.dtype) * std::abs(want) + least_step(t.dtype))
        << "b " << b << " h " << h << " i " << i << " d " << d;
  }
  const double lse = p.lse.at((b * t.heads + h) * t.length + i);
  if (hidden_only) {
    ASSERT_LT(lse, -3e38);
  } else if (peak == -inf) {
    ASSERT_EQ(lse, -inf);
  } else {
    ASSERT_NEAR(lse, peak + std::log(total), relative + kEps32 * std::abs(peak + std::log(total)));
  }
}

void check_case(const Case& t, std::mt19937& rng) {
  SCOPED_TRACE(describe(t));
  Problem p(t, rng);
  attention(p.args);
  ASSERT_TRUE(p.out.buffer.guards_whole() && p.lse.guards_whole());
  for (int64_t b = 0; b < t.batch; ++b) {
    for (int64_t h = 0; h < t.heads; ++h) {
      for (int64_t i = 0; i < t.length; ++i) check_row(t, p, b, h, i);
    }
  }
}

TEST(Attention, SmallSizes) {
  std::mt19937 rng(1);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int64_t length : {1, 2, 3, 15, 16, 17, 31, 33, 40}) {
      for (int64_t keys : {1, 2, 13, 14, 15, 84, 85, 100}) {
        for (bool causal : {false, true}) {
          check_case({.heads = 1, .length = length, .keys = keys, .dim = 5, .v_dim = 9, .causal = causal},
                     rng);
        }
      }
    }
  });
}

TEST(Attention, FeatureSizes) {
  std::mt19937 rng(2);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int64_t dim : {1, 7, 16, 64, 80, 128, 256}) {
      for (int64_t length : {1, 20}) {
        check_case({.length = length, .keys = 90, .dim = dim, .v_dim = dim, .causal = true}, rng);
        check_case({.length = length, .keys = 90, .dim = dim, .v_dim = 3 + dim / 2}, rng);
      }
    }
  });
}

TEST(Attention, MasksSinksAndHeads) {
  std::mt19937 rng(3);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int mask : {0, 1, 2, 3}) {
      for (bool causal : {false, true}) {
        for (bool sinks : {false, true}) {
          for (int64_t length : {1, 3, 30}) {
            for (int64_t keys : {4, 95}) {
              check_case({.batch = 2,
                          .heads = 4,
                          .kv_heads = 2,
                          .length = length,
                          .keys = keys,
                          .causal = causal,
                          .sinks = sinks,
                          .mask = mask},
                         rng);
            }
          }
        }
      }
    }
  });
}

TEST(Attention, LayoutsAndDtypes) {
  std::mt19937 rng(4);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (Layout layout : {Layout::kHeadsFirst, Layout::kPositionsFirst, Layout::kReversed, Layout::kSpread}) {
      for (Dtype t : {Dtype::kFloat32, Dtype::kFloat16, Dtype::kBFloat16}) {
        for (int64_t length : {1, 2, 40}) {
          check_case({.batch = 2,
                      .heads = 6,
                      .kv_heads = 3,
                      .length = length,
                      .keys = 50,
                      .dim = 16,
                      .v_dim = 24,
                      .dtype = t,
                      .layout = layout,
                      .causal = true},
                     rng);
        }
      }
    }
  });
}

TEST(Attention, LongerThanEveryBlock) {
  std::mt19937 rng(5);
  check_case({.heads = 2, .kv_heads = 1, .length = 300, .keys = 700, .dim = 16, .causal = true}, rng);
  check_case({.heads = 8, .kv_heads = 2, .length = 1, .keys = 1500, .dim = 32, .v_dim = 32, .causal = true},
             rng);
  check_case({.heads = 1, .length = 4, .keys = 1025, .dim = 32, .v_dim = 32, .mask = 3}, rng);
}

TEST(Attention, RowsWithNothingToAttend) {
  std::mt19937 rng(6);
  for (int64_t length : {2, 60}) {
    for (bool sinks : {false, true}) {
      // More queries than keys: the first rows see none.
      check_case({.length = length, .keys = length / 2, .causal = true, .sinks = sinks}, rng);
      for (int mask : {1, 3}) {
        Case t{.batch = 1, .heads = 2, .length = length, .keys = 300, .sinks = sinks, .mask = mask};
        Problem p(t, rng);
        for (int64_t j = 0; j < t.keys; ++j) {
          if (mask == 1) p.mask.as<uint8_t>()[t.keys + j] = 0;
          for (int64_t h = 0; mask == 3 && h < t.heads; ++h) {
            p.mask.set(h * length * t.keys + 1 + j * length, -std::numeric_limits<double>::infinity());
          }
        }
        attention(p.args);
        for (int64_t h = 0; h < t.heads; ++h) {
          for (int64_t i = 0; i < length; ++i) check_row(t, p, 0, h, i);
        }
      }
    }
  }
}

TEST(Attention, NoKeysGiveZeros) {
  std::mt19937 rng(7);
  for (bool sinks : {false, true}) {
    Problem p({.length = 3, .keys = 0, .sinks = sinks}, rng);
    attention(p.args);
    for (int64_t i = 0; i < p.out.buffer.elems(); ++i) EXPECT_EQ(p.out.buffer.at(i), 0.0);
    for (int64_t i = 0; i < p.lse.elems(); ++i) {
      const double want = sinks ? p.sinks.at(i / 3) : -std::numeric_limits<double>::infinity();
      EXPECT_EQ(p.lse.at(i), want);
    }
  }
}

// Scores of +-200: a softmax without the running peak would overflow, and late large keys must undo early
// ones.
TEST(Attention, LargeScores) {
  std::mt19937 rng(8);
  for (int64_t length : {1, 40}) {
    Case t{.heads = 1, .length = length, .keys = 600, .dim = 4};
    Problem p(t, rng);
    for (int64_t j = 0; j < t.keys; ++j) {
      for (int64_t d = 0; d < t.dim; ++d)
        p.k.set(0, 0, j, d, p.k.at(0, 0, j, d) * static_cast<double>(j) / 6);
    }
    attention(p.args);
    for (int64_t i = 0; i < length; ++i) check_row(t, p, 0, 0, i);
  }
}

TEST(Attention, NotANumberStaysInItsRow) {
  std::mt19937 rng(9);
  for (int64_t length : {4, 40}) {
    Case t{.heads = 1, .length = length, .keys = 300};
    Problem p(t, rng);
    p.q.set(0, 0, 2, 3, std::numeric_limits<double>::quiet_NaN());
    attention(p.args);
    for (int64_t i = 0; i < length; ++i) {
      for (int64_t d = 0; d < t.v_dim; ++d) EXPECT_EQ(std::isnan(p.out.at(0, 0, i, d)), i == 2);
    }
  }
}

TEST(Attention, BitsDoNotDependOnThreadsNorOnTheBatch) {
  std::mt19937 rng(10);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int64_t length : {1, 4, 100}) {
      Case t{.batch = 3,
             .heads = 4,
             .kv_heads = 2,
             .length = length,
             .keys = 900,
             .dim = 16,
             .v_dim = 16,
             .causal = true};
      Problem p(t, rng);
      ThreadCount one(1);
      attention(p.args);
      const Guarded want = p.out.buffer;
      for (int threads : {2, 7}) {
        ThreadCount many(threads);
        std::memset(p.out.buffer.data(), 0, static_cast<size_t>(p.out.buffer.elems()) * 4);
        attention(p.args);
        EXPECT_TRUE(want.same_bits(p.out.buffer)) << threads << " threads";
      }
      // The last sequence and its last key head alone.
      AttentionArgs alone = p.args;
      const auto cut = [](View& x, int64_t b, int64_t h, int64_t heads) {
        x.data = x.as<float>() + b * x.strides[0] + h * x.strides[1];
        x.shape[0] = 1, x.shape[1] = heads;
      };
      cut(alone.q, 2, 2, 2), cut(alone.k, 2, 1, 1), cut(alone.v, 2, 1, 1);
      Guarded part(2 * length * t.v_dim, Dtype::kFloat32);
      alone.out = {part.data(), Dtype::kFloat32, {1, 2, length, t.v_dim}, {0, length * t.v_dim, t.v_dim, 1}};
      alone.lse = nullptr;
      attention(alone);
      EXPECT_EQ(std::memcmp(part.data(), p.out.buffer.as<float>() + p.out.offset(2, 2, 0, 0),
                            static_cast<size_t>(part.elems()) * 4),
                0);
    }
  });
}

// In the prefill regime a row's bits are those it has in a longer or shorter run of queries.
TEST(Attention, ShorterRunsGiveTheSameRows) {
  std::mt19937 rng(11);
  Case t{.heads = 2, .kv_heads = 1, .length = 100, .keys = 300, .dim = 16, .v_dim = 16, .causal = true};
  Problem p(t, rng);
  attention(p.args);
  for (int64_t length : {9, 40, 77}) {
    AttentionArgs tail = p.args;
    tail.q.data = tail.q.as<float>() + (100 - length) * tail.q.strides[2];
    tail.q.shape[2] = length;
    Guarded part(2 * length * t.v_dim, Dtype::kFloat32);
    tail.out = {part.data(), Dtype::kFloat32, {1, 2, length, t.v_dim}, {0, length * t.v_dim, t.v_dim, 1}};
    tail.lse = nullptr;
    attention(tail);
    for (int64_t h = 0; h < 2; ++h) {
      EXPECT_EQ(std::memcmp(part.as<float>() + h * length * t.v_dim,
                            p.out.buffer.as<float>() + p.out.offset(0, h, 100 - length, 0),
                            static_cast<size_t>(length * t.v_dim) * 4),
                0);
    }
  }
}

// Gradients in float64, each with a bound on its float32 error.
struct Gradients {
  std::vector<double> dq, dk, dv, dq_tol, dk_tol, dv_tol;
};

// What the gradient needs to know of one row.
struct RowGrads {
  std::vector<double> weights, score_grads, sizes;  // sizes: magnitude of the terms in each score gradient
  bool hidden;
};

RowGrads row_grads(const Case& t, const Problem& p, const Heads& dout, int64_t b, int64_t h, int64_t i) {
  RowGrads g;
  const auto scores = scores_of(t, p, b, h, i);
  double peak = -std::numeric_limits<double>::infinity(), total = 0;
  for (double s : scores) peak = std::max(peak, s);
  g.hidden = peak <= kHidden;
  for (double s : scores) total += std::exp(s - peak);
  const int64_t kv = h / (t.heads / t.kv_heads);
  double delta = 0, delta_size = 0;
  for (int64_t d = 0; d < t.v_dim; ++d) {
    delta += p.out.at(b, h, i, d) * dout.at(b, h, i, d);
    delta_size += std::abs(p.out.at(b, h, i, d) * dout.at(b, h, i, d));
  }
  for (int64_t j = 0; j < t.keys; ++j) {
    double change = 0, size = delta_size;
    for (int64_t d = 0; d < t.v_dim; ++d) {
      change += dout.at(b, h, i, d) * p.v.at(b, kv, j, d);
      size += std::abs(dout.at(b, h, i, d) * p.v.at(b, kv, j, d));
    }
    const double weight = std::exp(scores[static_cast<size_t>(j)] - peak) / total;
    g.weights.push_back(weight);
    g.score_grads.push_back(g.hidden ? 0.0 : weight * (change - delta));
    g.sizes.push_back(g.hidden ? 0.0 : weight * size);
  }
  return g;
}

Gradients gradients_of(const Case& t, const Problem& p, const Heads& dout) {
  const auto zeros = [](int64_t n) { return std::vector<double>(static_cast<size_t>(n)); };
  const int64_t nq = t.batch * t.heads * t.length * t.dim, nk = t.batch * t.kv_heads * t.keys * t.dim;
  const int64_t nv = t.batch * t.kv_heads * t.keys * t.v_dim;
  Gradients g{zeros(nq), zeros(nk), zeros(nv), zeros(nq), zeros(nk), zeros(nv)};
  const double scale = p.args.scale;
  for (int64_t b = 0; b < t.batch; ++b) {
    for (int64_t h = 0; h < t.heads; ++h) {
      const int64_t kv = h / (t.heads / t.kv_heads);
      for (int64_t i = 0; i < t.length; ++i) {
        const RowGrads row = row_grads(t, p, dout, b, h, i);
        for (int64_t j = 0; j < t.keys; ++j) {
          const auto at = static_cast<size_t>(j);
          const double ds = row.score_grads[at] * scale, size = row.sizes[at] * scale;
          for (int64_t d = 0; d < t.dim; ++d) {
            const auto iq = static_cast<size_t>(((b * t.heads + h) * t.length + i) * t.dim + d);
            const auto ik = static_cast<size_t>(((b * t.kv_heads + kv) * t.keys + j) * t.dim + d);
            g.dq[iq] += ds * p.k.at(b, kv, j, d), g.dq_tol[iq] += size * std::abs(p.k.at(b, kv, j, d));
            g.dk[ik] += ds * p.q.at(b, h, i, d), g.dk_tol[ik] += size * std::abs(p.q.at(b, h, i, d));
          }
          for (int64_t d = 0; d < t.v_dim; ++d) {
            const auto iv = static_cast<size_t>(((b * t.kv_heads + kv) * t.keys + j) * t.v_dim + d);
            g.dv[iv] += row.weights[at] * dout.at(b, h, i, d);
            g.dv_tol[iv] += row.weights[at] * std::abs(dout.at(b, h, i, d));
          }
        }
      }
    }
  }
  return g;
}

void check_gradient(const char* name, const Heads& got, const std::vector<double>& want,
                    const std::vector<double>& size, double relative) {
  SCOPED_TRACE(name);
  ASSERT_TRUE(got.buffer.guards_whole());
  const auto& s = got.view.shape;
  size_t at = 0;
  for (int64_t b = 0; b < s[0]; ++b) {
    for (int64_t h = 0; h < s[1]; ++h) {
      for (int64_t i = 0; i < s[2]; ++i) {
        for (int64_t d = 0; d < s[3]; ++d, ++at) {
          const Dtype t = got.view.dtype;
          const double tol = relative * size[at] + unit_roundoff(t) * std::abs(want[at]) + least_step(t);
          ASSERT_NEAR(got.at(b, h, i, d), want[at], tol)
              << "b " << b << " h " << h << " i " << i << " d " << d;
        }
      }
    }
  }
}

struct Backward {
  Heads dout, dq, dk, dv;
  AttentionGradArgs args;

  Backward(const Case& t, Problem& p, std::mt19937& rng)
      : dout(make_heads(t.batch, t.heads, t.length, t.v_dim, t.dtype, t.layout, &rng)),
        dq(make_heads(t.batch, t.heads, t.length, t.dim, t.dtype, t.layout, nullptr)),
        dk(make_heads(t.batch, t.kv_heads, t.keys, t.dim, t.dtype, t.layout, nullptr)),
        dv(make_heads(t.batch, t.kv_heads, t.keys, t.v_dim, t.dtype, t.layout, nullptr)) {
    args.q = p.q.view, args.k = p.k.view, args.v = p.v.view, args.out = p.out.view, args.dout = dout.view;
    args.lse = p.args.lse, args.dq = dq.view, args.dk = dk.view, args.dv = dv.view;
    args.scale = p.args.scale, args.causal = t.causal, args.mask = p.args.mask;
  }
};

void check_backward(const Case& t, std::mt19937& rng) {
  SCOPED_TRACE(describe(t));
  Problem p(t, rng);
  attention(p.args);
  Backward back(t, p, rng);
  attention_backward(back.args);
  const Gradients g = gradients_of(t, p, back.dout);
  // Scores of unit normal rows are a few units large; their rounding multiplies every weight.
  const double relative =
      4 * kEps32 * (std::sqrt(static_cast<double>(t.dim + t.v_dim + t.keys + t.length)) + 24);
  check_gradient("dq", back.dq, g.dq, g.dq_tol, relative);
  check_gradient("dk", back.dk, g.dk, g.dk_tol, relative);
  check_gradient("dv", back.dv, g.dv, g.dv_tol, relative);
}

TEST(AttentionBackward, SmallSizes) {
  std::mt19937 rng(20);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int64_t length : {1, 2, 17, 33}) {
      for (int64_t keys : {1, 14, 40, 85}) {
        for (bool causal : {false, true}) {
          check_backward(
              {.heads = 2, .length = length, .keys = keys, .dim = 5, .v_dim = 35, .causal = causal}, rng);
        }
      }
    }
  });
}

TEST(AttentionBackward, MasksLayoutsAndDtypes) {
  std::mt19937 rng(21);
  for (int mask : {0, 1, 2, 3}) {
    for (Layout layout : {Layout::kHeadsFirst, Layout::kPositionsFirst, Layout::kReversed, Layout::kSpread}) {
      for (Dtype t : {Dtype::kFloat32, Dtype::kBFloat16}) {
        check_backward({.batch = 2,
                        .heads = 4,
                        .kv_heads = 2,
                        .length = 30,
                        .keys = 60,
                        .dim = 16,
                        .v_dim = 16,
                        .dtype = t,
                        .layout = layout,
                        .causal = mask == 0,
                        .mask = mask},
                       rng);
      }
    }
  }
}

TEST(AttentionBackward, LongerThanEveryBlock) {
  std::mt19937 rng(22);
  check_backward(
      {.heads = 2, .kv_heads = 1, .length = 150, .keys = 1100, .dim = 16, .v_dim = 16, .causal = true}, rng);
}

// More queries than keys: the first rows see none, average the values, and pass no gradient to their scores.
TEST(AttentionBackward, HiddenRows) {
  std::mt19937 rng(23);
  for (int64_t length : {6, 50}) check_backward({.length = length, .keys = length / 2, .causal = true}, rng);
}

TEST(AttentionBackward, BitsDoNotDependOnTheThreads) {
  std::mt19937 rng(24);
  Case t{.batch = 1,
         .heads = 2,
         .kv_heads = 1,
         .length = 200,
         .keys = 1200,
         .dim = 32,
         .v_dim = 32,
         .causal = true};
  Problem p(t, rng);
  attention(p.args);
  Backward back(t, p, rng);
  std::vector<Guarded> seen;
  for (int threads : {1, 2, 7}) {
    ThreadCount many(threads);
    attention_backward(back.args);
    for (const Heads* x : {&back.dq, &back.dk, &back.dv}) seen.push_back(x->buffer);
  }
  for (size_t i = 3; i < seen.size(); ++i) EXPECT_TRUE(seen[i].same_bits(seen[i % 3]));
}

TEST(AttentionBackward, NoKeysAndNoQueries) {
  std::mt19937 rng(25);
  for (auto [length, keys] : {std::pair<int64_t, int64_t>{3, 0}, {0, 3}}) {
    Case t{.length = length, .keys = keys};
    Problem p(t, rng);
    attention(p.args);
    Backward back(t, p, rng);
    attention_backward(back.args);
    for (const Heads* x : {&back.dq, &back.dk, &back.dv}) {
      for (int64_t i = 0; i < x->buffer.elems(); ++i) EXPECT_EQ(x->buffer.at(i), 0.0);
    }
  }
}

}  // namespace
}  // namespace lamina::testing
