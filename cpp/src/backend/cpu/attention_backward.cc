#include <algorithm>
#include <cmath>

#include "backend/cpu/attention_plan.h"
#include "backend/cpu/gemm_scratch.h"
#include "backend/cpu/jobs.h"
#include "core/thread_pool.h"

namespace lamina::cpu {
namespace {

constexpr int64_t kFloat = static_cast<int64_t>(sizeof(float));
// Rows taken through a block of keys together: the depth of the products that give dk and dv.
constexpr int64_t kRowBlock = 128;
// Keys of a unit of work. Each keeps its own part of dq; the parts are added in order, so that this fixes the
// sum.
constexpr int64_t kSegment = 12 * kAttentionKeyBlock;

// The mean of the values has this log-sum-exp: a row whose keys are all hidden.
bool is_hidden(float lse) { return lse <= 0.99f * kMaskedScore && lse != -INFINITY; }

// One segment of keys of one key head against all its rows. Tiles are transposed, [key, row], as in the
// forward pass.
class Segment {
 public:
  Segment(const AttentionGradArgs& a, const AttentionPlan& plan, int64_t b, int64_t kv_head, int64_t first)
      : a_(a),
        plan_(plan),
        b_(b),
        kv_head_(kv_head),
        first_(first),
        keys_(std::min(kSegment, plan.keys - first)),
        panels_(ceil_div(std::min(kRowBlock, plan.rows()), width_)),
        depth_(panels_ * width_),
        keys_a_(keys_ * plan.dim * kFloat),
        keys_t_(keys_ * plan.dim * kFloat),
        values_a_(keys_ * plan.v_dim * kFloat),
        dk_(keys_ * plan.dim * kFloat),
        dv_(keys_ * plan.v_dim * kFloat),
        dense_(depth_ * std::max(plan.dim, plan.v_dim) * kFloat),
        queries_t_(depth_ * plan.dim * kFloat),
        queries_b_(kernels_.packed_b_elems(plan.dim, depth_) * kFloat),
        grads_t_(depth_ * plan.v_dim * kFloat),
        grads_b_(kernels_.packed_b_elems(plan.v_dim, depth_) * kFloat),
        weights_(kAttentionKeyBlock * depth_ * kFloat),
        score_grads_(kAttentionKeyBlock * depth_ * kFloat),
        packed_(kAttentionKeyBlock * depth_ * kFloat),
        dq_(depth_ * plan.dim * kFloat),
        rows_state_(4 * depth_ * kFloat) {}

  // Adds to dk and dv of the segment's keys; dq_out, [rows, dim], gets the segment's part of dq.
  void run(float* dq_out) {
    pack_keys();
    std::fill_n(dk_.as<float>(), keys_ * plan_.dim, 0.0f);
    std::fill_n(dv_.as<float>(), keys_ * plan_.v_dim, 0.0f);
    const bool skips = a_.causal && !a_.mask && plan_.keys >= plan_.length;
    for (int64_t row0 = 0; row0 < plan_.rows(); row0 += kRowBlock) {
      const int64_t rows = std::min(kRowBlock, plan_.rows() - row0);
      load_rows(row0, rows);
      std::fill_n(dq_.as<float>(), depth_ * plan_.dim, 0.0f);
      const int64_t end = skips ? std::min(keys_, plan_.last_key(row0 + rows - 1) + 1 - first_) : keys_;
      for (int64_t k0 = 0; k0 < end; k0 += kAttentionKeyBlock) {
        add_block(row0, rows, k0, std::min(kAttentionKeyBlock, keys_ - k0));
      }
      for (int64_t r = 0; r < rows; ++r) {
        const float* from = dq_.as<float>() + r / width_ * width_ * plan_.dim + r % width_;
        for (int64_t d = 0; d < plan_.dim; ++d)
          dq_out[(row0 + r) * plan_.dim + d] = a_.scale * from[d * width_];
      }
    }
    for (int64_t j = 0; j < keys_; ++j) {
      store_row_f32(dk_.as<float>() + j * plan_.dim, plan_.dim,
                    AttentionPlan::keys_of(a_.dk, b_, kv_head_, first_ + j));
      store_row_f32(dv_.as<float>() + j * plan_.v_dim, plan_.v_dim,
                    AttentionPlan::keys_of(a_.dv, b_, kv_head_, first_ + j));
    }
  }

 private:
  float* lse() { return rows_state_.as<float>(); }
  float* delta() { return lse() + depth_; }
  float* hidden() { return lse() + 2 * depth_; }
  float* last() { return lse() + 3 * depth_; }

  void pack_keys() {
    for (int64_t k0 = 0; k0 < keys_; k0 += kAttentionKeyBlock) {
      const int64_t n = std::min(kAttentionKeyBlock, keys_ - k0);
      GemmMatrix k = AttentionPlan::keys_of(a_.k, b_, kv_head_, first_ + k0);
      kernels_.pack_a(k, 0, n, 0, plan_.dim, keys_a_.as<float>() + k0 * plan_.dim);
      kernels_.pack_a(AttentionPlan::keys_of(a_.v, b_, kv_head_, first_ + k0), 0, n, 0, plan_.v_dim,
                      values_a_.as<float>() + k0 * plan_.v_dim);
      std::swap(k.row_stride, k.col_stride);
      kernels_.pack_a(k, 0, plan_.dim, 0, n, keys_t_.as<float>() + k0 * plan_.dim);
    }
  }

  // Rows of one operand as panels of columns and as the right-hand side of a product over rows; zeros past
  // the rows.
  void load_operand(const View& x, int64_t row0, int64_t rows, int64_t dim, float factor, float* turned,
                    float* packed) {
    float* dense = dense_.as<float>();
    for (int64_t r = 0; r < rows; ++r) {
      load_scaled_row(plan_.row_of(x, b_, kv_head_, row0 + r), dim, factor, dense + r * dim);
    }
    std::fill(dense + rows * dim, dense + depth_ * dim, 0.0f);
    kernels_.pack_b({dense, Dtype::kFloat32, 1, dim}, 0, dim, 0, depth_, turned);
    kernels_.pack_b({dense, Dtype::kFloat32, dim, 1}, 0, depth_, 0, dim, packed);
  }

  void load_rows(int64_t row0, int64_t rows) {
    load_operand(a_.q, row0, rows, plan_.dim, a_.scale, queries_t_.as<float>(), queries_b_.as<float>());
    load_operand(a_.dout, row0, rows, plan_.v_dim, 1.0f, grads_t_.as<float>(), grads_b_.as<float>());
    // dense_ still holds dout.
    Scratch out_row(plan_.v_dim * kFloat);
    for (int64_t r = 0; r < depth_; ++r) {
      // Rows that are not there have an infinite sum: all their weights are zero.
      lse()[r] = INFINITY, delta()[r] = 0.0f, hidden()[r] = 0.0f;
      if (r >= rows) continue;
      load_row_f32(plan_.row_of(a_.out, b_, kv_head_, row0 + r), plan_.v_dim, out_row.as<float>());
      for (int64_t d = 0; d < plan_.v_dim; ++d) {
        delta()[r] += out_row.as<float>()[d] * dense_.as<float>()[r * plan_.v_dim + d];
      }
      lse()[r] = a_.lse[plan_.flat_row(b_, kv_head_, row0 + r)];
      hidden()[r] = is_hidden(lse()[r]) ? 1.0f : 0.0f;
    }
  }

  // Weights and score gradients of panel p against keys [k0, k0 + n) of the segment.
  void fill_tiles(int64_t p, int64_t row0, int64_t rows, int64_t k0, int64_t n, float* weights,
                  float* grads) {
    kernels_.multiply(n, width_, plan_.dim, keys_a_.as<float>() + k0 * plan_.dim,
                      queries_t_.as<float>() + p * width_ * plan_.dim, weights, width_, false);
    const int64_t row = row0 + p * width_, count = std::min(width_, rows - p * width_);
    if (a_.causal && plan_.last_key(row) < first_ + k0 + n - 1) {
      causal_limits(plan_, row, count, width_, first_ + k0, last());
      softmax_.mask_keys_after(n, width_, last(), weights);
    }
    for (int64_t c = 0; a_.mask && c < count; ++c) {
      apply_mask_row(*a_.mask, b_, plan_.head(kv_head_, row + c), plan_.position(row + c), first_ + k0, n,
                     weights + c, width_);
    }
    softmax_.weights_panel(n, width_, lse() + p * width_, weights);
    kernels_.multiply(n, width_, plan_.v_dim, values_a_.as<float>() + k0 * plan_.v_dim,
                      grads_t_.as<float>() + p * width_ * plan_.v_dim, grads, width_, false);
    softmax_.score_grads(n, width_, weights, delta() + p * width_, grads);
    for (int64_t c = 0; c < count; ++c) {
      if (hidden()[p * width_ + c] == 0.0f) continue;
      // Such a row averages the values whatever its scores are.
      for (int64_t j = 0; j < n; ++j) {
        weights[j * width_ + c] = 1.0f / static_cast<float>(plan_.keys);
        grads[j * width_ + c] = 0.0f;
      }
    }
  }

  // Tiles [panel][key][row] as the left operand of a product over all rows of the block.
  void pack_tiles(const float* tiles, int64_t n) {
    for (int64_t i = 0; i < n; i += kernels_.mr) {
      const int64_t height = std::min(kernels_.mr, n - i);
      for (int64_t p = 0; p < panels_; ++p) {
        kernels_.pack_a({tiles + p * n * width_, Dtype::kFloat32, width_, 1}, i, height, 0, width_,
                        packed_.as<float>() + i * depth_ + p * width_ * height);
      }
    }
  }

  void add_block(int64_t row0, int64_t rows, int64_t k0, int64_t n) {
    for (int64_t p = 0; p < panels_; ++p) {
      float* weights = weights_.as<float>() + p * n * width_;
      float* grads = score_grads_.as<float>() + p * n * width_;
      if (p * width_ < rows) {
        fill_tiles(p, row0, rows, k0, n, weights, grads);
        kernels_.multiply(plan_.dim, width_, n, keys_t_.as<float>() + k0 * plan_.dim, grads,
                          dq_.as<float>() + p * width_ * plan_.dim, width_, true);
      } else {
        std::fill_n(weights, n * width_, 0.0f);
        std::fill_n(grads, n * width_, 0.0f);
      }
    }
    pack_tiles(weights_.as<float>(), n);
    kernels_.multiply(n, plan_.v_dim, depth_, packed_.as<float>(), grads_b_.as<float>(),
                      dv_.as<float>() + k0 * plan_.v_dim, plan_.v_dim, true);
    pack_tiles(score_grads_.as<float>(), n);
    kernels_.multiply(n, plan_.dim, depth_, packed_.as<float>(), queries_b_.as<float>(),
                      dk_.as<float>() + k0 * plan_.dim, plan_.dim, true);
  }

  const AttentionGradArgs& a_;
  const AttentionPlan& plan_;
  const GemmKernels<float>& kernels_ = gemm_kernels<float>();
  const AttentionKernels& softmax_ = attention_kernels();
  const int64_t width_ = kernels_.nr;
  const int64_t b_, kv_head_, first_, keys_, panels_, depth_;
  Scratch keys_a_, keys_t_, values_a_, dk_, dv_;
  Scratch dense_, queries_t_, queries_b_, grads_t_, grads_b_;
  Scratch weights_, score_grads_, packed_, dq_, rows_state_;
};

// dq of one row: the segments' parts in order.
void store_dq(const AttentionGradArgs& a, const AttentionPlan& plan, int64_t head, int64_t row,
              int64_t segments, const float* parts) {
  const int64_t b = head / plan.kv_heads, kv_head = head % plan.kv_heads;
  Scratch sum(plan.dim * kFloat);
  std::fill_n(sum.as<float>(), plan.dim, 0.0f);
  for (int64_t s = 0; s < segments; ++s) {
    const float* part = parts + ((head * segments + s) * plan.rows() + row) * plan.dim;
    for (int64_t d = 0; d < plan.dim; ++d) sum.as<float>()[d] += part[d];
  }
  store_row_f32(sum.as<float>(), plan.dim, plan.row_of(a.dq, b, kv_head, row));
}

}  // namespace

void attention_backward(const AttentionGradArgs& a) {
  const AttentionPlan plan(a.q, a.k, a.v);
  const int64_t heads = plan.batch * plan.kv_heads, segments = ceil_div(plan.keys, kSegment);
  if (heads == 0 || (plan.rows() == 0 && plan.keys == 0)) return;
  Scratch parts(heads * segments * plan.rows() * plan.dim * kFloat);
  parallel_for(heads * segments, [&](int64_t unit) {
    const int64_t head = unit % heads, segment = unit / heads;
    Segment(a, plan, head / plan.kv_heads, head % plan.kv_heads, segment * kSegment)
        .run(parts.as<float>() + (head * segments + segment) * plan.rows() * plan.dim);
  });
  parallel_ranges(heads * plan.rows(), std::max<int64_t>(1, 16384 / std::max<int64_t>(plan.dim, 1)),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; ++i) {
                      store_dq(a, plan, i / plan.rows(), i % plan.rows(), segments, parts.as<float>());
                    }
                  });
}

}  // namespace lamina::cpu
