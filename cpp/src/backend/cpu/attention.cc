#include "backend/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/attention_plan.h"
#include "backend/cpu/attention_rows.h"
#include "backend/cpu/gemm_scratch.h"

namespace lamina::cpu {
namespace {

constexpr int64_t kFloat = static_cast<int64_t>(sizeof(float));
constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;

// An addend to a score as one to its binary logarithm: a finite one stays finite.
float binary(float x) {
  constexpr float kMost = std::numeric_limits<float>::max();
  return std::isfinite(x) ? std::clamp(x * kLog2E, -kMost, kMost) : x;
}

template <class T>
void add_mask(const T* mask, int64_t mask_step, int64_t n, bool as_binary, float* scores, int64_t step) {
  for (int64_t j = 0; j < n; ++j) {
    const auto x = static_cast<float>(mask[j * mask_step]);
    scores[j * step] += as_binary ? binary(x) : x;
  }
}

void mask_row(const View& mask, int64_t b, int64_t head, int64_t position, int64_t first, int64_t n,
              bool as_binary, float* scores, int64_t step) {
  const int64_t at =
      b * mask.strides[0] + head * mask.strides[1] + position * mask.strides[2] + first * mask.strides[3];
  const int64_t from = mask.strides[3];
  switch (mask.dtype) {
    case Dtype::kBool:
      for (int64_t j = 0; j < n; ++j) {
        if (!mask.as<uint8_t>()[at + j * from]) scores[j * step] = kMaskedScore;
      }
      return;
    case Dtype::kFloat16: return add_mask(mask.as<float16_t>() + at, from, n, as_binary, scores, step);
    case Dtype::kBFloat16: return add_mask(mask.as<bfloat16_t>() + at, from, n, as_binary, scores, step);
    case Dtype::kFloat64: return add_mask(mask.as<double>() + at, from, n, as_binary, scores, step);
    default: return add_mask(mask.as<float>() + at, from, n, as_binary, scores, step);
  }
}

RowFormat format_of(Dtype t) {
  return t == Dtype::kFloat16    ? RowFormat::kFloat16
         : t == Dtype::kBFloat16 ? RowFormat::kBFloat16
                                 : RowFormat::kFloat32;
}

// Queries, keys and values in arrays; a group is a key head of a batch.
class DenseTask final : public AttentionTask {
 public:
  DenseTask(const AttentionArgs& a, const AttentionPlan& plan)
      : a_(a), plan_(plan), skips_(a.causal && !a.mask && plan.keys >= plan.length) {
    groups = plan.batch * plan.kv_heads, dim = plan.dim, v_dim = plan.v_dim;
    factor = static_cast<float>(static_cast<double>(a.scale) * static_cast<double>(kLog2E));
  }

  int64_t rows(int64_t) const override { return plan_.rows(); }
  KeyRange seen(int64_t, int64_t row) const override {
    return {0, skips_ ? plan_.last_key(row) + 1 : plan_.keys};
  }
  void queries(int64_t g, int64_t first, int64_t count, RowPanel& panel, float* copy) const override {
    const bool dense = start(a_.q, dim, panel);
    for (int64_t i = 0; i < count; ++i) {
      append(plan_.row_of(a_.q, batch(g), kv_head(g), first + i), dense, dim, panel, copy + i * dim);
    }
  }
  void keys(int64_t g, int64_t first, int64_t count, RowPanel& panel, float* copy) const override {
    append_keys(a_.k, g, first, count, dim, panel, copy);
  }
  void values(int64_t g, int64_t first, int64_t count, RowPanel& panel, float* copy) const override {
    append_keys(a_.v, g, first, count, v_dim, panel, copy);
  }
  float sink(int64_t g, int64_t row) const override { return binary(score_of_sink(g, row)); }
  float score_of_sink(int64_t g, int64_t row) const {
    if (!a_.sinks) return -INFINITY;
    const int64_t at = plan_.head(kv_head(g), row) * a_.sinks->strides[0];
    float x = 0;
    load_row_f32({static_cast<char*>(a_.sinks->data) + at * static_cast<int64_t>(itemsize(a_.sinks->dtype)),
                  a_.sinks->dtype, 0, 1},
                 1, &x);
    return x;
  }
  void mask(int64_t g, int64_t row, int64_t first, int64_t n, float* scores) const override {
    if (a_.causal && !skips_) {
      const int64_t hidden = std::clamp<int64_t>(plan_.last_key(row) + 1 - first, 0, n);
      std::fill(scores + hidden, scores + n, kMaskedScore);
    }
    if (!a_.mask) return;
    mask_row(*a_.mask, batch(g), plan_.head(kv_head(g), row), plan_.position(row), first, n, true, scores, 1);
  }
  void store(int64_t g, int64_t row, const float* out, float peak, float total) const override {
    // A row of hidden keys alone keeps the score that says so.
    const bool hidden = peak == kMaskedScore;
    store_row(g, row, out, hidden ? kMaskedScore : total == 0 ? -INFINITY : peak * kLn2 + std::log(total));
  }
  void store_row(int64_t g, int64_t row, const float* out, float lse) const {
    store_row_f32(out, v_dim, plan_.row_of(a_.out, batch(g), kv_head(g), row));
    if (a_.lse) a_.lse[plan_.flat_row(batch(g), kv_head(g), row)] = lse;
  }

 private:
  int64_t batch(int64_t g) const { return g / plan_.kv_heads; }
  int64_t kv_head(int64_t g) const { return g % plan_.kv_heads; }

  // Sets the panel's format: that of the rows, or of copies where rows have gaps. Returns which.
  static bool start(const View& x, int64_t depth, RowPanel& panel) {
    const bool dense = x.strides[3] == 1 || depth == 1;
    panel.format = dense ? format_of(x.dtype) : RowFormat::kFloat32;
    panel.row_bytes = depth * static_cast<int64_t>(itemsize(x.dtype));
    return dense;
  }
  static void append(const GemmMatrix& row, bool dense, int64_t depth, RowPanel& panel, float* copy) {
    if (!dense) load_row_f32(row, depth, copy);
    panel.rows[panel.count++] = dense ? row.data : copy;
  }
  void append_keys(const View& x, int64_t g, int64_t first, int64_t count, int64_t depth, RowPanel& panel,
                   float* copy) const {
    const bool dense = start(x, depth, panel);
    if (!dense && !copy) return;
    GemmMatrix row = AttentionPlan::keys_of(x, batch(g), kv_head(g), first);
    const int64_t step = row.row_stride * static_cast<int64_t>(itemsize(x.dtype));
    for (int64_t i = 0; i < count; ++i) {
      append(row, dense, depth, panel, copy ? copy + i * depth : nullptr);
      row.data = static_cast<const char*>(row.data) + step;
    }
  }

  const AttentionArgs& a_;
  const AttentionPlan& plan_;
  const bool skips_;
};

// No keys at all: zeros, and the sinks' own log-sum-exp.
void attend_nothing(const AttentionArgs& a, const AttentionPlan& plan) {
  const DenseTask task(a, plan);
  Scratch zeros(plan.v_dim * kFloat);
  std::fill_n(zeros.as<float>(), plan.v_dim, 0.0f);
  for (int64_t g = 0; g < task.groups; ++g) {
    for (int64_t r = 0; r < plan.rows(); ++r) {
      task.store_row(g, r, zeros.as<float>(), task.score_of_sink(g, r));
    }
  }
}

}  // namespace

void apply_mask_row(const View& mask, int64_t b, int64_t head, int64_t position, int64_t first, int64_t n,
                    float* scores, int64_t step) {
  mask_row(mask, b, head, position, first, n, false, scores, step);
}

void attention(const AttentionArgs& a) {
  const AttentionPlan plan(a.q, a.k, a.v);
  if (plan.batch == 0 || plan.rows() == 0) return;
  if (plan.keys == 0) return attend_nothing(a, plan);
  attend(DenseTask(a, plan));
}

}  // namespace lamina::cpu
