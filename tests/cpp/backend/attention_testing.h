#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/attention.h"
#include "gemm_testing.h"

namespace lamina::testing::attend {

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

inline Heads make_heads(int64_t b, int64_t h, int64_t l, int64_t d, Dtype t, Layout layout,
                        std::mt19937* rng) {
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

struct AttentionCase {
  int64_t batch = 1, heads = 2, kv_heads = 1, length = 5, keys = 7, dim = 8, v_dim = 8;
  Dtype dtype = Dtype::kFloat32;
  Layout layout = Layout::kHeadsFirst;
  bool causal = false, sinks = false;
  // 0: none; 1: boolean [L, S]; 2: boolean over keys only; 3: additive [B, H, L, S].
  int mask = 0;
};

inline std::string describe(const AttentionCase& t) {
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

  Problem(const AttentionCase& t, std::mt19937& rng)
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

  static int64_t mask_elems(const AttentionCase& t) {
    if (t.mask == 3) return t.batch * t.heads * t.length * t.keys;
    return t.mask == 2 ? t.batch * t.keys : t.length * t.keys;
  }
};

// What a boolean or causal mask makes of a score; an additive mask is lost on it, unless it is -inf.
inline constexpr double kHidden = -std::numeric_limits<float>::max();

// The scores of one row in float64.
inline std::vector<double> scores_of(const AttentionCase& t, const Problem& p, int64_t b, int64_t h,
                                     int64_t i) {
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

}  // namespace lamina::testing::attend
