#include "backend/cpu/rope_kernel.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/simd_target.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/rope_kernel.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// sin(r) and cos(r) for |r| <= pi / 4 by their Taylor-like minimax polynomials (Cephes), then the octant's
// swap and signs.
struct SinCos {
  V sine, cosine;
};
HWY_INLINE SinCos sin_cos(V r, hn::Vec<hn::Rebind<int32_t, D>> quadrant) {
  const D d;
  const hn::Rebind<int32_t, D> di;
  const V z = hn::Mul(r, r);
  V s = hn::MulAdd(hn::Set(d, -1.9515295891e-4f), z, hn::Set(d, 8.3321608736e-3f));
  s = hn::MulAdd(s, z, hn::Set(d, -1.6666654611e-1f));
  s = hn::MulAdd(hn::Mul(s, z), r, r);
  V c = hn::MulAdd(hn::Set(d, 2.443315711809948e-5f), z, hn::Set(d, -1.388731625493765e-3f));
  c = hn::MulAdd(c, z, hn::Set(d, 4.166664568298827e-2f));
  c = hn::MulAdd(hn::Mul(c, z), z, hn::NegMulAdd(hn::Set(d, 0.5f), z, hn::Set(d, 1.0f)));
  const auto odd = hn::RebindMask(d, hn::Eq(hn::And(quadrant, hn::Set(di, 1)), hn::Set(di, 1)));
  // Signs: sine turns over in quadrants 2 and 3, cosine in 1 and 2.
  const auto sign_s = hn::ShiftLeft<30>(hn::And(quadrant, hn::Set(di, 2)));
  const auto sign_c = hn::ShiftLeft<30>(hn::And(hn::Add(quadrant, hn::Set(di, 1)), hn::Set(di, 2)));
  return {hn::Xor(hn::IfThenElse(odd, c, s), hn::BitCast(d, sign_s)),
          hn::Xor(hn::IfThenElse(odd, s, c), hn::BitCast(d, sign_c))};
}

void angles(double position, const double* frequency, int64_t n, float* cosine, float* sine) {
  const D d;
  const hn::Rebind<int32_t, D> di;
  constexpr size_t kLanes = hn::MaxLanes(d);
  for (int64_t i = 0; i < n; i += static_cast<int64_t>(kLanes)) {
    HWY_ALIGN float rest[kLanes] = {};
    HWY_ALIGN int32_t quadrant[kLanes] = {};
    const auto count = std::min<int64_t>(static_cast<int64_t>(kLanes), n - i);
    for (int64_t j = 0; j < count; ++j) {
      // Reduced in float64: the quarter turns taken off cost 2^-53 of the angle, not 2^-24.
      const double angle = position * frequency[i + j];
      const double turns = std::nearbyint(angle * 0.63661977236758134308);
      rest[j] = static_cast<float>(angle - turns * 1.57079632679489661923);
      quadrant[j] = static_cast<int32_t>(static_cast<int64_t>(turns) & 3);
    }
    const SinCos both = sin_cos(hn::Load(d, rest), hn::Load(di, quadrant));
    HWY_ALIGN float c[kLanes];
    HWY_ALIGN float s[kLanes];
    hn::Store(both.cosine, d, c);
    hn::Store(both.sine, d, s);
    for (int64_t j = 0; j < count; ++j) cosine[i + j] = c[j], sine[i + j] = s[j];
  }
}

void rotate(float* x, int64_t half, bool traditional, float direction, const float* cosine,
            const float* sine) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const V turn = hn::Set(d, direction);
  int64_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const V c = hn::LoadU(d, cosine + i), s = hn::Mul(turn, hn::LoadU(d, sine + i));
    V a, b;
#if HWY_TARGET != HWY_SCALAR
    if (traditional) {
      hn::LoadInterleaved2(d, x + 2 * i, a, b);
    } else
#endif
    {
      a = hn::LoadU(d, traditional ? x + 2 * i : x + i);
      b = hn::LoadU(d, traditional ? x + 2 * i + 1 : x + half + i);
    }
    const V first = hn::NegMulAdd(b, s, hn::Mul(a, c)), second = hn::MulAdd(a, s, hn::Mul(b, c));
#if HWY_TARGET != HWY_SCALAR
    if (traditional) {
      hn::StoreInterleaved2(first, second, d, x + 2 * i);
      continue;
    }
#endif
    hn::StoreU(first, d, traditional ? x + 2 * i : x + i);
    hn::StoreU(second, d, traditional ? x + 2 * i + 1 : x + half + i);
  }
  for (; i < half; ++i) {
    float& a = traditional ? x[2 * i] : x[i];
    float& b = traditional ? x[2 * i + 1] : x[half + i];
    const float c = cosine[i], s = direction * sine[i], old = a;
    a = old * c - b * s;
    b = old * s + b * c;
  }
}

}  // namespace

const RopeKernels* rotation_kernels() {
  static constexpr RopeKernels kTable = {angles, rotate};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(rotation_kernels);

const RopeKernels& rope_kernels() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(rotation_kernels)();
}

}  // namespace lamina::cpu
#endif
