#pragma once

#include <cstdint>

#include "core/view.h"

namespace lamina::cpu {

// Rotary position embedding of x [B, .., T, D] over its first `dims` features; the rest is copied.
// Position of row t in batch b: p = scale * (t + offset[b]). Pair i of dims / 2 turns by p * base^(-2i /
// dims), or by p / freqs[i]; a pair is features (2i, 2i + 1) where traditional, else (i, i + dims / 2). x and
// out: same shape, float32, float16 or bfloat16 (the same), any strides; out may be x. float32 inside.
struct RopeArgs {
  View x, out;
  int64_t dims = 0;
  bool traditional = false;
  float base = 10000.0f;
  const View* freqs = nullptr;  // float32 [dims / 2], in place of base
  float scale = 1;
  int64_t offset = 0;
  const View* offsets = nullptr;  // integers: one, or one per batch; in place of offset
  bool inverse = false;           // turn backwards: the gradient with respect to x
};

void rope(const RopeArgs& args);

}  // namespace lamina::cpu
