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

// The peak to subtract: rows of -inf alone must give exp(-inf) = 0, not NaN.
HWY_INLINE V finite_peak(V peak) { return hn::IfThenZeroElse(hn::Eq(peak, hn::Set(D(), -INFINITY)), peak); }

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

// A NaN score may or may not become the peak: its own weight is NaN either way, and so is the row's result.
bool softmax_panel(int64_t keys, int64_t width, float* tile, float* peak, float* total, float* fade) {
  const D d;
  bool fades = false;
  for (int64_t c = 0; c < width; c += lane_count()) {
    const V old = hn::Load(d, peak + c);
    V top = old;
    for (int64_t j = 0; j < keys; ++j) top = hn::Max(top, hn::Load(d, tile + j * width + c));
    const V shift = finite_peak(top);
    const V faded = exp_nonpositive(hn::Sub(finite_peak(old), shift));
    // Where nothing was summed yet the old peak is -inf, and whatever it fades is zero.
    const V factor = hn::IfThenZeroElse(hn::Eq(old, hn::Set(d, -INFINITY)), faded);
    V sum = hn::Mul(hn::Load(d, total + c), factor);
    V part = hn::Zero(d);
    for (int64_t j = 0; j < keys; ++j) {
      float* p = tile + j * width + c;
      const V weight = exp_nonpositive(hn::Sub(hn::Load(d, p), shift));
      hn::Store(weight, d, p);
      part = hn::Add(part, weight);
    }
    hn::Store(top, d, peak + c);
    hn::Store(hn::Add(sum, part), d, total + c);
    hn::Store(factor, d, fade + c);
    fades |= !hn::AllTrue(d, hn::Eq(factor, hn::Set(d, 1.0f)));
  }
  return fades;
}

void scale_columns(int64_t rows, int64_t width, const float* factor, float* tile) {
  const D d;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < width; c += lane_count()) {
      float* p = tile + r * width + c;
      hn::Store(hn::Mul(hn::Load(d, p), hn::Load(d, factor + c)), d, p);
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

void softmax_row(int64_t n, float* scores, float* peak, float* total) {
  const D d;
  const int64_t lanes = lane_count(), padded = (n + lanes - 1) / lanes * lanes;
  for (int64_t j = n; j < padded; ++j) scores[j] = -INFINITY;
  V top = hn::Set(d, -INFINITY);
  for (int64_t j = 0; j < padded; j += lanes) top = hn::Max(top, hn::Load(d, scores + j));
  const float most = hn::GetLane(hn::MaxOfLanes(d, top));
  const V shift = finite_peak(hn::Set(d, most));
  V sum = hn::Zero(d);
  for (int64_t j = 0; j < padded; j += lanes) {
    const V weight = exp_nonpositive(hn::Sub(hn::Load(d, scores + j), shift));
    hn::Store(weight, d, scores + j);
    sum = hn::Add(sum, weight);
  }
  *peak = most;
  *total = hn::GetLane(hn::SumOfLanes(d, sum));
}

}  // namespace

const AttentionKernels* softmax_kernels() {
  static constexpr AttentionKernels kTable = {mask_keys_after, softmax_panel, scale_columns,
                                              weights_panel,   score_grads,   softmax_row};
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
