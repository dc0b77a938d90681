#pragma once

#include <cstdint>

#include "core/view.h"

namespace lamina::cpu {

// softmax(scale * q k^T + mask) v, per query head; S x L scores are never stored.
// q [B, Hq, L, D], k [B, Hkv, S, D], v [B, Hkv, S, Dv], out [B, Hq, L, Dv], Hq a multiple of Hkv (query head
// h uses key head h / (Hq / Hkv)); float32, float16 or bfloat16, each View its own dtype; any strides.
// float32 inside. causal: query i sees keys j <= i + (S - L). mask: bool (true = keep) or floating (added to
// the scaled scores), a 4-d View already broadcast to [B, Hq, L, S] through zero strides. sinks [Hq]: one
// more score a head that takes weight and has no value. causal and mask may be given together. lse, where not
// null, receives log(sum exp(scores)) per row (sinks included), row-contiguous [B, Hq, L].
//
// A row whose keys are all hidden by a boolean mask or by causality gives the mean of all values; one whose
// scores are all -inf (an additive mask) gives NaN; with a sink, both give zeros. S = 0 gives zeros. A row's
// bits depend on its query and on the keys and values that it sees: not on other rows, heads and batches, the
// number of rows, or threads (attention_rows.h).

struct AttentionArgs {
  View q, k, v, out;
  float scale = 1;
  bool causal = false;
  const View* mask = nullptr;
  const View* sinks = nullptr;
  float* lse = nullptr;
};

void attention(const AttentionArgs& args);

// Gradients of attention() for cotangent dout: dq, dk, dv (shapes of q, k, v; any strides), from its inputs,
// out and lse. dmask and dsinks are not formed. Recomputes the score tiles.
struct AttentionGradArgs {
  View q, k, v, out, dout;
  const float* lse = nullptr;
  View dq, dk, dv;
  float scale = 1;
  bool causal = false;
  const View* mask = nullptr;
};

void attention_backward(const AttentionGradArgs& args);

}  // namespace lamina::cpu
