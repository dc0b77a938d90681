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

#include "backend/cpu/gemm_convert-inl.h"

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

// Reduced in float64: the quarter turns taken off cost 2^-53 of the angle, not 2^-24.
struct Reduced {
  float rest;
  int32_t quadrant;
};
HWY_INLINE Reduced reduced(double angle) {
  const double turns = std::nearbyint(angle * 0.63661977236758134308);
  return {static_cast<float>(angle - turns * 1.57079632679489661923),
          static_cast<int32_t>(static_cast<int64_t>(turns) & 3)};
}

#if HWY_TARGET != HWY_SCALAR
// The same for a vector of float64.
void reduce_vector(double position, const double* frequency, float* rest, int32_t* quadrant) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> df;
  const hn::Rebind<int32_t, decltype(dd)> di;
  const auto angle = hn::Mul(hn::Set(dd, position), hn::LoadU(dd, frequency));
  const auto turns = hn::Round(hn::Mul(angle, hn::Set(dd, 0.63661977236758134308)));
  const auto left = hn::Sub(angle, hn::Mul(turns, hn::Set(dd, 1.57079632679489661923)));
  const auto whole = hn::Floor(hn::Mul(turns, hn::Set(dd, 0.25)));
  hn::StoreU(hn::DemoteTo(df, left), df, rest);
  hn::StoreU(hn::DemoteTo(di, hn::Sub(turns, hn::Mul(whole, hn::Set(dd, 4.0)))), di, quadrant);
}
#endif

void angles(double position, const double* frequency, int64_t n, float* cosine, float* sine) {
  const D d;
  const hn::Rebind<int32_t, D> di;
  constexpr size_t kLanes = hn::MaxLanes(d);
  for (int64_t i = 0; i < n; i += static_cast<int64_t>(kLanes)) {
    HWY_ALIGN float rest[kLanes] = {};
    HWY_ALIGN int32_t quadrant[kLanes] = {};
    const auto count = std::min<int64_t>(static_cast<int64_t>(kLanes), n - i);
    int64_t j = 0;
#if HWY_TARGET != HWY_SCALAR
    constexpr auto kStep = static_cast<int64_t>(hn::MaxLanes(hn::ScalableTag<double>()));
    for (; j + kStep <= count; j += kStep) reduce_vector(position, frequency + i + j, rest + j, quadrant + j);
#endif
    for (; j < count; ++j) {
      const Reduced r = reduced(position * frequency[i + j]);
      rest[j] = r.rest, quadrant[j] = r.quadrant;
    }
    const SinCos both = sin_cos(hn::Load(d, rest), hn::Load(di, quadrant));
    store_part(both.cosine, d, cosine + i, static_cast<size_t>(count));
    store_part(both.sine, d, sine + i, static_cast<size_t>(count));
  }
}

struct Pair {
  V a, b;
};
HWY_INLINE Pair turned(V a, V b, V c, V s) {
  return {hn::NegMulAdd(b, s, hn::Mul(a, c)), hn::MulAdd(a, s, hn::Mul(b, c))};
}

// Pairs of the two halves of a row.
template <class T>
void rotate_halves(const T* src, T* dst, int64_t half, float direction, const float* cosine,
                   const float* sine) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const V turn = hn::Set(d, direction);
  int64_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const V c = hn::LoadU(d, cosine + i), s = hn::Mul(turn, hn::LoadU(d, sine + i));
    const Pair p = turned(load_as(d, src + i), load_as(d, src + half + i), c, s);
    store_as(p.a, d, dst + i);
    store_as(p.b, d, dst + half + i);
  }
  if (i == half) return;
  const auto n = static_cast<size_t>(half - i);
  const V c = load_part(d, cosine + i, n), s = hn::Mul(turn, load_part(d, sine + i, n));
  const Pair p = turned(load_part(d, src + i, n), load_part(d, src + half + i, n), c, s);
  store_part(p.a, d, dst + i, n);
  store_part(p.b, d, dst + half + i, n);
}

// Pairs of neighbours, in place.
void rotate_neighbours(float* x, int64_t half, float direction, const float* cosine, const float* sine) {
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (; i + lanes <= half; i += lanes) {
    V a, b;
    hn::LoadInterleaved2(d, x + 2 * i, a, b);
    const Pair p =
        turned(a, b, hn::LoadU(d, cosine + i), hn::Mul(hn::Set(d, direction), hn::LoadU(d, sine + i)));
    hn::StoreInterleaved2(p.a, p.b, d, x + 2 * i);
  }
#endif
  for (; i < half; ++i) {
    float &a = x[2 * i], &b = x[2 * i + 1];
    const float c = cosine[i], s = direction * sine[i], old = a;
    a = old * c - b * s;
    b = old * s + b * c;
  }
}

template <class T>
void load_row(const T* src, int64_t n, float* dst) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(load_as(d, src + i), d, dst + i);
  for (; i < n; ++i) dst[i] = static_cast<float>(src[i]);
}
template <class T>
void store_row(const float* src, int64_t n, T* dst) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store_as(hn::LoadU(d, src + i), d, dst + i);
  if (i < n)
    store_part(load_part(d, src + i, static_cast<size_t>(n - i)), d, dst + i, static_cast<size_t>(n - i));
}

template <class T>
void rotate_rows(const RopeRows& rows, int64_t depth, int64_t half, bool traditional, float direction,
                 const float* cosine, const float* sine, float* work) {
  for (int64_t r = 0; r < rows.count; ++r) {
    const T* src = reinterpret_cast<const T*>(static_cast<const char*>(rows.src) + r * rows.src_step);
    T* dst = reinterpret_cast<T*>(static_cast<char*>(rows.dst) + r * rows.dst_step);
    if (traditional) {
      load_row(src, 2 * half, work);
      rotate_neighbours(work, half, direction, cosine, sine);
      store_row(work, 2 * half, dst);
    } else {
      rotate_halves(src, dst, half, direction, cosine, sine);
    }
    if (src != dst) std::copy(src + 2 * half, src + depth, dst + 2 * half);
  }
}

void rotate(const RopeRows& rows, int64_t depth, int64_t half, bool traditional, float direction,
            const float* cosine, const float* sine, float* work) {
  switch (rows.dtype) {
    case Dtype::kFloat16:
      return rotate_rows<float16_t>(rows, depth, half, traditional, direction, cosine, sine, work);
    case Dtype::kBFloat16:
      return rotate_rows<bfloat16_t>(rows, depth, half, traditional, direction, cosine, sine, work);
    default: return rotate_rows<float>(rows, depth, half, traditional, direction, cosine, sine, work);
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
