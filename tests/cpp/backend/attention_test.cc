#include "attention_testing.h"

namespace lamina::testing::attend {
namespace {

void check_row(const AttentionCase& t, const Problem& p, int64_t b, int64_t h, int64_t i) {
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

void check_case(const AttentionCase& t, std::mt19937& rng) {
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
    for (int64_t dim : {1, 7, 16, 64, 80, 96, 128, 256}) {
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
        AttentionCase t{.batch = 1, .heads = 2, .length = length, .keys = 300, .sinks = sinks, .mask = mask};
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
    AttentionCase t{.heads = 1, .length = length, .keys = 600, .dim = 4};
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
    AttentionCase t{.heads = 1, .length = length, .keys = 300};
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
      AttentionCase t{.batch = 3,
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

// A row's bits are those it has in a longer or shorter run of queries.
TEST(Attention, ShorterRunsGiveTheSameRows) {
  std::mt19937 rng(11);
  AttentionCase t{
      .heads = 2, .kv_heads = 1, .length = 100, .keys = 300, .dim = 16, .v_dim = 16, .causal = true};
  Problem p(t, rng);
  attention(p.args);
  for (int64_t length : {1, 9, 40, 77}) {
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

}  // namespace
}  // namespace lamina::testing::attend
