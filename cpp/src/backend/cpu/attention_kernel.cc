#include "backend/cpu/attention_kernel.h"

#include <cmath>

#include "backend/cpu/simd_target.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention_kernel.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

int64_t lane_count() { return static_cast<int64_t>(hn::Lanes(D())); }

// exp(x) for x <= 0, relative error below 2 ulp; 0 below -87.3, NaN in, NaN out.
HWY_INLINE V exp_nonpositive(V x) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto dead = hn::Lt(x, hn::Set(d, -87.33654f));
  const V kept = hn::Max(hn::Set(d, -87.33654f), x);  // NaN stays: the second operand wins
  const V n = hn::Round(hn::Mul(kept, hn::Set(d, 1.44269504f)));
  const V r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), hn::NegMulAdd(n, hn::Set(d, 0.693359375f), kept));
  V p = hn::Set(d, 1.9875691500e-4f);
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
  p = hn::Add(hn::MulAdd(hn::Mul(r, r), p, r), hn::Set(d, 1.0f));
  const auto power = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  return hn::IfThenZeroElse(dead, hn::Mul(p, hn::BitCast(d, power)));
}

void mask_keys_after(int64_t keys, int64_t width, const float* last, float* tile) {
  const D d;
  const V hidden = hn::Set(d, kMaskedScore);
  for (int64_t j = 0; j < keys; ++j) {
    const V at = hn::Set(d, static_cast<float>(j));
    for (int64_t c = 0; c < width; c += lane_count()) {
      float* p = tile + j * width + c;
      hn::Store(hn::IfThenElse(hn::Gt(at, hn::Load(d, last + c)), hidden, hn::Load(d, p)), d, p);
    }
  }
}

void weights_panel(int64_t keys, int64_t width, const float* lse, float* tile) {
  const D d;
  for (int64_t j = 0; j < keys; ++j) {
    for (int64_t c = 0; c < width; c += lane_count()) {
      float* p = tile + j * width + c;
      hn::Store(exp_nonpositive(hn::Sub(hn::Load(d, p), hn::Load(d, lse + c))), d, p);
    }
  }
}

void score_grads(int64_t keys, int64_t width, const float* weights, const float* delta, float* grads) {
  const D d;
  for (int64_t j = 0; j < keys; ++j) {
    for (int64_t c = 0; c < width; c += lane_count()) {
      float* p = grads + j * width + c;
      const V change = hn::Sub(hn::Load(d, p), hn::Load(d, delta + c));
      hn::Store(hn::Mul(hn::Load(d, weights + j * width + c), change), d, p);
    }
  }
}

}  // namespace

const AttentionKernels* softmax_kernels() {
  static constexpr AttentionKernels kTable = {mask_keys_after, weights_panel, score_grads};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(softmax_kernels);

const AttentionKernels& attention_kernels() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(softmax_kernels)();
}

}  // namespace lamina::cpu
#endif
