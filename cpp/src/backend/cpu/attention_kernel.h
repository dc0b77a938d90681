#pragma once

#include <cstdint>

namespace lamina::cpu {

// Score of a key that a boolean or causal mask hides: far below any other, yet a row of nothing else averages
// its keys.
inline constexpr float kMaskedScore = -3.402823466e38f;

// Softmax pieces of attention for one instruction set. Tiles are float32, 64-byte aligned; `width` is a
// multiple of the vector length. Columns of a panel are queries, its rows keys.
struct AttentionKernels {
  // tile[j, c] = kMaskedScore where j > last[c].
  void (*mask_keys_after)(int64_t keys, int64_t width, const float* last, float* tile);
  // One step of an online softmax down the columns: raises peak[c] to the tile's largest score, turns the
  // tile into exp(score - peak), adds those up in total[c] after scaling it by fade[c] = exp(old peak - new
  // peak). Returns whether any fade differs from 1.
  bool (*softmax_panel)(int64_t keys, int64_t width, float* tile, float* peak, float* total, float* fade);
  // tile[r, c] *= factor[c].
  void (*scale_columns)(int64_t rows, int64_t width, const float* factor, float* tile);
  // Backward: tile = exp(tile - lse[c]), and grads = weights * (grads - delta[c]).
  void (*weights_panel)(int64_t keys, int64_t width, const float* lse, float* tile);
  void (*score_grads)(int64_t keys, int64_t width, const float* weights, const float* delta, float* grads);
  // scores[0, n) -> exp(score - peak), n any; writes peak and the sum. The row has room for whole vectors.
  void (*softmax_row)(int64_t n, float* scores, float* peak, float* total);
};

const AttentionKernels& attention_kernels();

}  // namespace lamina::cpu
