#pragma once

#include <algorithm>
#include <cmath>

#include "backend/cpu/attention.h"
#include "backend/cpu/attention_kernel.h"
#include "backend/cpu/gemm_kernel.h"

namespace lamina::cpu {

// Sizes and addresses shared by the forward and backward pass. The query heads of a key head are folded into
// rows: row r of the L * group rows of key head h is position r / group of query head h * group + r % group.
struct AttentionPlan {
  int64_t batch, heads, kv_heads, group, length, keys, dim, v_dim;

  AttentionPlan(const View& q, const View& k, const View& v)
      : batch(q.shape[0]),
        heads(q.shape[1]),
        kv_heads(k.shape[1]),
        group(kv_heads == 0 ? 0 : heads / kv_heads),
        length(q.shape[2]),
        keys(k.shape[2]),
        dim(q.shape[3]),
        v_dim(v.shape[3]) {}

  int64_t rows() const { return length * group; }
  int64_t position(int64_t row) const { return row / group; }
  int64_t head(int64_t kv_head, int64_t row) const { return kv_head * group + row % group; }
  // Index of a row in a row-contiguous [B, Hq, L].
  int64_t flat_row(int64_t b, int64_t kv_head, int64_t row) const {
    return (b * heads + head(kv_head, row)) * length + position(row);
  }
  // Last key that a row sees under the causal mask; negative where it sees none.
  int64_t last_key(int64_t row) const { return position(row) + keys - length; }

  // The [1, depth] matrix of one row of a [B, Hq, L, depth] View.
  GemmMatrix row_of(const View& x, int64_t b, int64_t kv_head, int64_t row) const {
    return {address(x, b, head(kv_head, row), position(row)), x.dtype, 0, x.strides[3]};
  }
  // The [keys, depth] matrix of key head `kv_head`, from key `first` on.
  static GemmMatrix keys_of(const View& x, int64_t b, int64_t kv_head, int64_t first) {
    return {address(x, b, kv_head, first), x.dtype, x.strides[2], x.strides[3]};
  }
  static void* address(const View& x, int64_t b, int64_t h, int64_t i) {
    return static_cast<char*>(x.data) +
           (b * x.strides[0] + h * x.strides[1] + i * x.strides[2]) * static_cast<int64_t>(itemsize(x.dtype));
  }
};

// Keys taken through scores, softmax and values together; a multiple of every target's panel height.
inline constexpr int64_t kAttentionKeyBlock = 84;

// Writes to last[c] the last key, counted from k0, that rows first + c see under the causal mask, in [-1, a
// block].
inline void causal_limits(const AttentionPlan& plan, int64_t first, int64_t count, int64_t width, int64_t k0,
                          float* last) {
  for (int64_t c = 0; c < width; ++c) {
    const int64_t key = plan.last_key(first + std::min(c, count - 1)) - k0;
    last[c] = static_cast<float>(std::clamp<int64_t>(key, -1, kAttentionKeyBlock));
  }
}

// Adds a mask's entries of one query row, keys [first, first + n), to scores that lie `step` floats apart.
void apply_mask_row(const View& mask, int64_t b, int64_t head, int64_t position, int64_t first, int64_t n,
                    float* scores, int64_t step);

// Row `row` of the queries, times `factor`, as float32.
inline void load_scaled_row(const GemmMatrix& row, int64_t depth, float factor, float* dst) {
  load_row_f32(row, depth, dst);
  for (int64_t d = 0; d < depth; ++d) dst[d] *= factor;
}

}  // namespace lamina::cpu
