#pragma once

#include <cstdint>

namespace lamina::cpu {

// Score of a key that a boolean or causal mask hides: far below any other, yet a row of nothing else averages
// its keys.
inline constexpr float kMaskedScore = -3.402823466e38f;

// Softmax pieces of the gradient of attention for one instruction set. Tiles are float32, 64-byte aligned;
// `width` is a multiple of the vector length. Columns of a panel are queries, its rows keys.
struct AttentionKernels {
  // tile[j, c] = kMaskedScore where j > last[c].
  void (*mask_keys_after)(int64_t keys, int64_t width, const float* last, float* tile);
  // tile = exp(tile - lse[c]), and grads = weights * (grads - delta[c]).
  void (*weights_panel)(int64_t keys, int64_t width, const float* lse, float* tile);
  void (*score_grads)(int64_t keys, int64_t width, const float* weights, const float* delta, float* grads);
};

const AttentionKernels& attention_kernels();

}  // namespace lamina::cpu
