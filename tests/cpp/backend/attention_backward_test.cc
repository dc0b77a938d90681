#include "attention_testing.h"

namespace lamina::testing::attend {
namespace {

// Gradients in float64, each with a bound on its float32 error.
struct Gradients {
  std::vector<double> dq, dk, dv, dq_tol, dk_tol, dv_tol;
};

// What the gradient needs to know of one row.
struct RowGrads {
  std::vector<double> weights, score_grads, sizes;  // sizes: magnitude of the terms in each score gradient
  bool hidden;
};

RowGrads row_grads(const AttentionCase& t, const Problem& p, const Heads& dout, int64_t b, int64_t h,
                   int64_t i) {
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

Gradients gradients_of(const AttentionCase& t, const Problem& p, const Heads& dout) {
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

  Backward(const AttentionCase& t, Problem& p, std::mt19937& rng)
      : dout(make_heads(t.batch, t.heads, t.length, t.v_dim, t.dtype, t.layout, &rng)),
        dq(make_heads(t.batch, t.heads, t.length, t.dim, t.dtype, t.layout, nullptr)),
        dk(make_heads(t.batch, t.kv_heads, t.keys, t.dim, t.dtype, t.layout, nullptr)),
        dv(make_heads(t.batch, t.kv_heads, t.keys, t.v_dim, t.dtype, t.layout, nullptr)) {
    args.q = p.q.view, args.k = p.k.view, args.v = p.v.view, args.out = p.out.view, args.dout = dout.view;
    args.lse = p.args.lse, args.dq = dq.view, args.dk = dk.view, args.dv = dv.view;
    args.scale = p.args.scale, args.causal = t.causal, args.mask = p.args.mask;
  }
};

void check_backward(const AttentionCase& t, std::mt19937& rng) {
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
  AttentionCase t{.batch = 1,
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
    AttentionCase t{.length = length, .keys = keys};
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
}  // namespace lamina::testing::attend
