#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cpu/attention_rows.h"
#include "backend/cpu/cache.h"
#include "backend/cpu/copy.h"
#include "backend/cpu/gemm_kernel.h"
#include "backend/paged_call.h"
#include "graph/eval.h"

namespace lamina::cpu {
namespace {

constexpr double kLog2E = 1.4426950408889634;

RowFormat format_of(Dtype t) {
  switch (t) {
    case Dtype::kFloat16: return RowFormat::kFloat16;
    case Dtype::kBFloat16: return RowFormat::kBFloat16;
    case Dtype::kInt8: return RowFormat::kCodes8;
    case Dtype::kUInt8: return RowFormat::kCodes4;
    default: return RowFormat::kFloat32;
  }
}

// One key head of a pool, row by row.
class PoolRows {
 public:
  PoolRows(const View& pool, const View* scales)
      : pool_(pool), scales_(scales), format_(format_of(pool.dtype)), item_(itemsize(pool.dtype)) {}

  // Appends rows [row, row + n) of a block.
  void append(int64_t block, int64_t head, int64_t row, int64_t n, RowPanel& panel) const {
    panel.format = format_;
    panel.row_bytes = pool_.shape[3] * static_cast<int64_t>(item_);
    const char* at = static_cast<const char*>(pool_.data) + offset(pool_, block, head, row) * item_bytes();
    const int64_t step = pool_.strides[2] * item_bytes();
    for (int64_t i = 0; i < n; ++i) panel.rows[panel.count + i] = at + i * step;
    if (scales_) {
      const auto* scale = scales_->as<float16_t>() + offset(*scales_, block, head, row);
      for (int64_t i = 0; i < n; ++i) panel.scales[panel.count + i] = scale + i * scales_->strides[2];
    }
    panel.count += n;
  }

 private:
  int64_t item_bytes() const { return static_cast<int64_t>(item_); }
  static int64_t offset(const View& v, int64_t block, int64_t head, int64_t row) {
    return block * v.strides[0] + head * v.strides[1] + row * v.strides[2];
  }

  const View& pool_;
  const View* scales_;
  const RowFormat format_;
  const size_t item_;
};

// A group is a key head of a sequence; the query heads of a key head are folded into rows.
class PagedTask final : public AttentionTask {
 public:
  explicit PagedTask(const PagedArgs& a)
      : a_(a),
        sequences_(paged_sequences(a)),
        kv_heads_(a.k.shape[1]),
        share_(a.q.shape[1] / a.k.shape[1]),
        keys_(a.k, a.key_scales),
        values_(a.v, a.value_scales) {
    groups = static_cast<int64_t>(sequences_.size()) * kv_heads_;
    dim = a.q.shape[2], v_dim = a.out.shape[2];
    key_format = format_of(a.k.dtype);
    const double scale = static_cast<double>(a.scale), most = static_cast<double>(a.softcap);
    factor = static_cast<float>(most > 0 ? scale / most : scale * kLog2E);
    cap = static_cast<float>(most * kLog2E);
  }

  // Queries after the last sequence's.
  int64_t first_spare() const {
    return sequences_.empty() ? 0 : sequences_.back().first_row + sequences_.back().rows;
  }

  int64_t rows(int64_t g) const override { return sequence(g).rows * share_; }
  KeyRange seen(int64_t g, int64_t row) const override {
    const int64_t position = sequence(g).position(row / share_);
    return {a_.first_seen(position), position + 1};
  }
  void queries(int64_t g, int64_t first, int64_t count, RowPanel& panel, float*) const override {
    panel.format = format_of(a_.q.dtype);
    for (int64_t i = 0; i < count; ++i) panel.rows[panel.count++] = query_row(a_.q, g, first + i).data;
  }
  void keys(int64_t g, int64_t first, int64_t count, RowPanel& panel, float*) const override {
    append(keys_, g, first, count, panel);
  }
  void values(int64_t g, int64_t first, int64_t count, RowPanel& panel, float*) const override {
    append(values_, g, first, count, panel);
  }
  float sink(int64_t g, int64_t row) const override {
    if (!a_.sinks) return -INFINITY;
    const float x = a_.sinks->as<float>()[head(g, row) * a_.sinks->strides[0]];
    return std::isfinite(x) ? static_cast<float>(static_cast<double>(x) * kLog2E) : x;
  }
  void store(int64_t g, int64_t row, const float* out, float, float) const override {
    store_row_f32(out, v_dim, query_row(a_.out, g, row));
  }

 private:
  const PagedSequence& sequence(int64_t g) const { return sequences_[static_cast<size_t>(g / kv_heads_)]; }
  int64_t head(int64_t g, int64_t row) const { return g % kv_heads_ * share_ + row % share_; }

  GemmMatrix query_row(const View& x, int64_t g, int64_t row) const {
    const int64_t at = (sequence(g).first_row + row / share_) * x.strides[0] + head(g, row) * x.strides[1];
    return {static_cast<char*>(x.data) + at * static_cast<int64_t>(itemsize(x.dtype)), x.dtype, 0,
            x.strides[2]};
  }

  void append(const PoolRows& pool, int64_t g, int64_t first, int64_t count, RowPanel& panel) const {
    const int64_t size = a_.block_rows();
    for (int64_t p = first, n = 0; p < first + count; p += n) {
      n = std::min(first + count - p, size - p % size);
      pool.append(a_.block_of(sequence(g).index, p), g % kv_heads_, p % size, n, panel);
    }
  }

  const PagedArgs& a_;
  const std::vector<PagedSequence> sequences_;
  const int64_t kv_heads_, share_;
  const PoolRows keys_, values_;
};

// A copy of an operand whose rows have gaps; what was there otherwise.
struct Dense {
  View view;
  BufferRef memory;
  explicit Dense(const View& x) : view(x) {
    if (x.strides.back() == 1 || x.shape.back() <= 1) return;
    view.strides = row_major_strides(x.shape);
    memory = allocate(byte_count(x.shape, x.dtype));
    view.data = memory->data();
    copy(x, view);
  }
};

}  // namespace

void paged_attention(const KernelCall& c) {
  PagedArgs a(c);
  const Dense q(a.q), k(a.k), v(a.v);
  a.q = q.view, a.k = k.view, a.v = v.view;
  std::optional<Dense> key_scales, value_scales;
  if (a.key_scales) a.key_scales = &key_scales.emplace(*a.key_scales).view;
  if (a.value_scales) a.value_scales = &value_scales.emplace(*a.value_scales).view;
  const PagedTask task(a);
  if (a.out.size() == 0) return;
  attend(task);
  // Results are row-contiguous.
  const int64_t row = a.out.shape[1] * a.out.shape[2] * static_cast<int64_t>(itemsize(a.out.dtype));
  auto* out = static_cast<char*>(a.out.data);
  std::fill(out + task.first_spare() * row, out + a.out.shape[0] * row, char{0});
}

}  // namespace lamina::cpu
