#include "backend/cpu/attention.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/attention_plan.h"
#include "backend/cpu/gemm_scratch.h"
#include "core/thread_pool.h"

namespace lamina::cpu {
namespace {

// Rows of a job, at most: they share the packing of keys and values.
constexpr int64_t kRowBlock = 256;
// Keys of a unit of work in the decode regime. It fixes the order of summation.
constexpr int64_t kKeySplit = 256;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t kFloat = static_cast<int64_t>(sizeof(float));

template <class T>
void add_mask(const T* mask, int64_t mask_step, int64_t n, float* scores, int64_t step) {
  for (int64_t j = 0; j < n; ++j) scores[j * step] += static_cast<float>(mask[j * mask_step]);
}

// Peak and total of a row's softmax before any key: its sink, if it has one.
struct Start {
  float peak, total;
};
Start start_of(const AttentionArgs& a, int64_t head) {
  if (!a.sinks) return {-INFINITY, 0.0f};
  const GemmMatrix sink{static_cast<char*>(a.sinks->data) +
                            head * a.sinks->strides[0] * static_cast<int64_t>(itemsize(a.sinks->dtype)),
                        a.sinks->dtype, 0, 1};
  float x = 0;
  load_row_f32(sink, 1, &x);
  return {x, x == -INFINITY ? 0.0f : 1.0f};
}

void write_lse(const AttentionArgs& a, const AttentionPlan& plan, int64_t b, int64_t kv_head, int64_t row,
               float peak, float total) {
  if (a.lse) a.lse[plan.flat_row(b, kv_head, row)] = total == 0.0f ? -INFINITY : peak + std::log(total);
}

// Up to kRowBlock rows of one key head against all their keys. Scores are kept transposed, [key, row], so
// that every softmax step works down the lanes and the weights are at once a packed operand of the second
// product.
class RowBlock {
 public:
  RowBlock(const AttentionArgs& a, const AttentionPlan& plan, int64_t b, int64_t kv_head, int64_t row0,
           int64_t rows)
      : a_(a),
        plan_(plan),
        b_(b),
        kv_head_(kv_head),
        row0_(row0),
        rows_(rows),
        panels_(ceil_div(rows, width_)),
        queries_(panels_ * width_ * plan.dim * kFloat),
        packed_k_(kAttentionKeyBlock * plan.dim * kFloat),
        packed_v_(kAttentionKeyBlock * plan.v_dim * kFloat),
        tile_(kAttentionKeyBlock * width_ * kFloat),
        sums_(panels_ * width_ * plan.v_dim * kFloat),
        state_(panels_ * width_ * 3 * kFloat),
        last_(width_ * kFloat) {}

  void run() {
    start();
    const bool skips = a_.causal && !a_.mask && plan_.keys >= plan_.length;
    const int64_t end = skips ? std::min(plan_.keys, plan_.last_key(row0_ + rows_ - 1) + 1) : plan_.keys;
    for (int64_t k0 = 0; k0 < end; k0 += kAttentionKeyBlock) {
      const int64_t keys = std::min(kAttentionKeyBlock, plan_.keys - k0);
      kernels_.pack_a(AttentionPlan::keys_of(a_.k, b_, kv_head_, k0), 0, keys, 0, plan_.dim,
                      packed_k_.as<float>());
      GemmMatrix v = AttentionPlan::keys_of(a_.v, b_, kv_head_, k0);
      std::swap(v.row_stride, v.col_stride);
      kernels_.pack_a(v, 0, plan_.v_dim, 0, keys, packed_v_.as<float>());
      for (int64_t p = 0; p < panels_; ++p) {
        const int64_t newest = plan_.last_key(row0_ + std::min((p + 1) * width_, rows_) - 1);
        // Whole register tiles of keys: hidden ones among them add exact zeros.
        const int64_t seen =
            skips ? ceil_div(std::max<int64_t>(newest + 1 - k0, 0), kernels_.mr) * kernels_.mr : keys;
        if (seen > 0) attend(p, k0, keys, std::min(keys, seen));
      }
    }
    finish();
  }

 private:
  float* peak(int64_t p) { return state_.as<float>() + p * width_; }
  float* total(int64_t p) { return peak(panels_ + p); }
  float* fade(int64_t p) { return peak(2 * panels_ + p); }

  void start() {
    Scratch dense(rows_ * plan_.dim * kFloat);
    for (int64_t r = 0; r < rows_; ++r) {
      load_scaled_row(plan_.row_of(a_.q, b_, kv_head_, row0_ + r), plan_.dim, a_.scale,
                      dense.as<float>() + r * plan_.dim);
    }
    const GemmMatrix turned{dense.as<float>(), Dtype::kFloat32, 1, plan_.dim};
    kernels_.pack_b(turned, 0, plan_.dim, 0, rows_, queries_.as<float>());
    std::fill_n(sums_.as<float>(), panels_ * width_ * plan_.v_dim, 0.0f);
    for (int64_t r = 0; r < panels_ * width_; ++r) {
      const Start s = start_of(a_, plan_.head(kv_head_, row0_ + std::min(r, rows_ - 1)));
      peak(0)[r] = s.peak, total(0)[r] = s.total;
    }
  }

  // Panel p against the first `seen` keys of the packed block.
  void attend(int64_t p, int64_t k0, int64_t keys, int64_t seen) {
    float* tile = tile_.as<float>();
    float* sums = sums_.as<float>() + p * width_ * plan_.v_dim;
    kernels_.multiply(seen, width_, plan_.dim, packed_k_.as<float>(),
                      queries_.as<float>() + p * width_ * plan_.dim, tile, width_, false);
    const int64_t first = row0_ + p * width_, count = std::min(width_, rows_ - p * width_);
    if (a_.causal && plan_.last_key(first) < k0 + seen - 1) {
      causal_limits(plan_, first, count, width_, k0, last_.as<float>());
      softmax_.mask_keys_after(seen, width_, last_.as<float>(), tile);
    }
    for (int64_t c = 0; a_.mask && c < count; ++c) {
      apply_mask_row(*a_.mask, b_, plan_.head(kv_head_, first + c), plan_.position(first + c), k0, seen,
                     tile + c, width_);
    }
    if (softmax_.softmax_panel(seen, width_, tile, peak(p), total(p), fade(p))) {
      softmax_.scale_columns(plan_.v_dim, width_, fade(p), sums);
    }
    for (int64_t d = 0; d < plan_.v_dim; d += kernels_.mr) {
      kernels_.multiply(std::min(kernels_.mr, plan_.v_dim - d), width_, seen,
                        packed_v_.as<float>() + d * keys, tile, sums + d * width_, width_, true);
    }
  }

  void finish() {
    Scratch row(plan_.v_dim * kFloat);
    for (int64_t r = 0; r < rows_; ++r) {
      const int64_t p = r / width_, c = r % width_;
      const float inverse = 1.0f / total(p)[c];
      const float* sums = sums_.as<float>() + p * width_ * plan_.v_dim + c;
      for (int64_t d = 0; d < plan_.v_dim; ++d) row.as<float>()[d] = sums[d * width_] * inverse;
      store_row_f32(row.as<float>(), plan_.v_dim, plan_.row_of(a_.out, b_, kv_head_, row0_ + r));
      write_lse(a_, plan_, b_, kv_head_, row0_ + r, peak(p)[c], total(p)[c]);
    }
  }

  const AttentionArgs& a_;
  const AttentionPlan& plan_;
  const GemmKernels<float>& kernels_ = gemm_kernels<float>();
  const AttentionKernels& softmax_ = attention_kernels();
  const int64_t width_ = kernels_.nr;
  const int64_t b_, kv_head_, row0_, rows_, panels_;
  // Panels of queries, the packed block of keys and values, scores of a panel, transposed sums of values per
  // panel, then peak, total and fade of every row, and the causal limits of a panel.
  Scratch queries_, packed_k_, packed_v_, tile_, sums_, state_, last_;
};

void attend_blocks(const AttentionArgs& a, const AttentionPlan& plan) {
  const int64_t width = gemm_kernels<float>().nr, heads = plan.batch * plan.kv_heads;
  int64_t block = std::min(kRowBlock, ceil_div(plan.rows(), width) * width);
  while (block > width && heads * ceil_div(plan.rows(), block) < 4 * num_threads()) {
    block = ceil_div(block / 2, width) * width;
  }
  const int64_t blocks = ceil_div(plan.rows(), block);
  parallel_for(heads * blocks, [&](int64_t job) {
    // Late rows see most keys under a causal mask: they go first.
    const int64_t row0 = (blocks - 1 - job / heads) * block, h = job % heads;
    RowBlock(a, plan, h / plan.kv_heads, h % plan.kv_heads, row0, std::min(block, plan.rows() - row0)).run();
  });
}

// Few rows: keys in splits of fixed size, each with its own softmax; the splits are merged in order.
class Decode {
 public:
  Decode(const AttentionArgs& a, const AttentionPlan& plan)
      : a_(a),
        plan_(plan),
        rows_(plan.rows()),
        splits_(ceil_div(plan.keys, kKeySplit)),
        record_(plan.v_dim + 2),
        records_(plan.batch * plan.kv_heads * splits_ * rows_ * record_ * kFloat) {}

  void run() {
    const int64_t heads = plan_.batch * plan_.kv_heads;
    parallel_for(heads * splits_, [&](int64_t unit) { split(unit / splits_, unit % splits_); });
    parallel_ranges(heads, std::max<int64_t>(1, 65536 / (splits_ * rows_ * record_)),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t h = begin; h < end; ++h) merge(h);
                    });
  }

 private:
  // Values, peak and total of one row of one split.
  float* record(int64_t h, int64_t s, int64_t r) {
    return records_.as<float>() + ((h * splits_ + s) * rows_ + r) * record_;
  }

  // The matrix itself where its rows are contiguous, else a float32 copy.
  static GemmMatrix dense_rows(const GemmMatrix& x, int64_t n, int64_t depth, float* copy) {
    if (x.col_stride == 1) return x;
    for (int64_t i = 0; i < n; ++i) gemm_kernels<float>().pack_a(x, i, 1, 0, depth, copy + i * depth);
    return {copy, Dtype::kFloat32, depth, 1};
  }

  void split(int64_t h, int64_t s) {
    const int64_t b = h / plan_.kv_heads, kv_head = h % plan_.kv_heads;
    const int64_t k0 = s * kKeySplit, keys = std::min(kKeySplit, plan_.keys - k0), dim = plan_.dim,
                  v_dim = plan_.v_dim;
    Scratch queries(rows_ * dim * kFloat), scores(rows_ * kKeySplit * kFloat), weights(rows_ * keys * kFloat);
    Scratch out(rows_ * v_dim * kFloat), work(rows_ * v_dim * kFloat);
    Scratch copy(a_.k.strides[3] == 1 && a_.v.strides[3] == 1 ? 0 : keys * std::max(dim, v_dim) * kFloat);
    for (int64_t r = 0; r < rows_; ++r) {
      load_scaled_row(plan_.row_of(a_.q, b, kv_head, r), dim, a_.scale, queries.as<float>() + r * dim);
    }
    GemmMatrix k = dense_rows(AttentionPlan::keys_of(a_.k, b, kv_head, k0), keys, dim, copy.as<float>());
    std::swap(k.row_stride, k.col_stride);
    skinny_.col_major(rows_, dim, queries.as<float>(), k, 0, keys, scores.as<float>(), kKeySplit);
    for (int64_t r = 0; r < rows_; ++r) {
      float* row = scores.as<float>() + r * kKeySplit;
      if (a_.causal) {
        const int64_t seen = std::clamp<int64_t>(plan_.last_key(r) + 1 - k0, 0, keys);
        std::fill(row + seen, row + keys, kMaskedScore);
      }
      if (a_.mask) apply_mask_row(*a_.mask, b, plan_.head(kv_head, r), plan_.position(r), k0, keys, row, 1);
      float* edges = record(h, s, r) + v_dim;
      softmax_.softmax_row(keys, row, &edges[0], &edges[1]);
      std::copy_n(row, keys, weights.as<float>() + r * keys);
    }
    const GemmMatrix v =
        dense_rows(AttentionPlan::keys_of(a_.v, b, kv_head, k0), keys, v_dim, copy.as<float>());
    skinny_.row_major(rows_, keys, weights.as<float>(), v, 0, v_dim, out.as<float>(), v_dim,
                      work.as<float>());
    for (int64_t r = 0; r < rows_; ++r) std::copy_n(out.as<float>() + r * v_dim, v_dim, record(h, s, r));
  }

  static float fade_of(float peak, float top) { return peak == -INFINITY ? 0.0f : std::exp(peak - top); }

  void merge(int64_t h) {
    const int64_t b = h / plan_.kv_heads, kv_head = h % plan_.kv_heads;
    Scratch sums(plan_.v_dim * kFloat);
    float* out = sums.as<float>();
    for (int64_t r = 0; r < rows_; ++r) {
      auto [peak, total] = start_of(a_, plan_.head(kv_head, r));
      std::fill_n(out, plan_.v_dim, 0.0f);
      for (int64_t s = 0; s < splits_; ++s) {
        const float* part = record(h, s, r);
        const float part_peak = part[plan_.v_dim], top = std::max(peak, part_peak);
        const float old_fade = fade_of(peak, top), part_fade = fade_of(part_peak, top);
        for (int64_t d = 0; d < plan_.v_dim; ++d) out[d] = out[d] * old_fade + part[d] * part_fade;
        total = total * old_fade + part[plan_.v_dim + 1] * part_fade;
        peak = top;
      }
      const float inverse = 1.0f / total;
      for (int64_t d = 0; d < plan_.v_dim; ++d) out[d] *= inverse;
      store_row_f32(out, plan_.v_dim, plan_.row_of(a_.out, b, kv_head, r));
      write_lse(a_, plan_, b, kv_head, r, peak, total);
    }
  }

  const AttentionArgs& a_;
  const AttentionPlan& plan_;
  const GemmSkinny& skinny_ = gemm_skinny();
  const AttentionKernels& softmax_ = attention_kernels();
  const int64_t rows_, splits_, record_;
  Scratch records_;
};

// No keys at all: zeros, and the sinks' own log-sum-exp.
void attend_nothing(const AttentionArgs& a, const AttentionPlan& plan) {
  Scratch zeros(plan.v_dim * kFloat);
  std::fill_n(zeros.as<float>(), plan.v_dim, 0.0f);
  for (int64_t h = 0; h < plan.batch * plan.kv_heads; ++h) {
    for (int64_t r = 0; r < plan.rows(); ++r) {
      const int64_t b = h / plan.kv_heads, kv_head = h % plan.kv_heads;
      store_row_f32(zeros.as<float>(), plan.v_dim, plan.row_of(a.out, b, kv_head, r));
      const Start s = start_of(a, plan.head(kv_head, r));
      write_lse(a, plan, b, kv_head, r, s.peak, s.total);
    }
  }
}

}  // namespace

void apply_mask_row(const View& mask, int64_t b, int64_t head, int64_t position, int64_t first, int64_t n,
                    float* scores, int64_t step) {
  const int64_t at =
      b * mask.strides[0] + head * mask.strides[1] + position * mask.strides[2] + first * mask.strides[3];
  switch (mask.dtype) {
    case Dtype::kBool:
      for (int64_t j = 0; j < n; ++j) {
        if (!mask.as<uint8_t>()[at + j * mask.strides[3]]) scores[j * step] = kMaskedScore;
      }
      return;
    case Dtype::kFloat16: return add_mask(mask.as<float16_t>() + at, mask.strides[3], n, scores, step);
    case Dtype::kBFloat16: return add_mask(mask.as<bfloat16_t>() + at, mask.strides[3], n, scores, step);
    case Dtype::kFloat64: return add_mask(mask.as<double>() + at, mask.strides[3], n, scores, step);
    default: return add_mask(mask.as<float>() + at, mask.strides[3], n, scores, step);
  }
}

void attention(const AttentionArgs& a) {
  const AttentionPlan plan(a.q, a.k, a.v);
  if (plan.batch == 0 || plan.rows() == 0) return;
  if (plan.keys == 0) return attend_nothing(a, plan);
  if (plan.rows() <= kAttentionDecodeRows) return Decode(a, plan).run();
  attend_blocks(a, plan);
}

}  // namespace lamina::cpu
