#include "backend/cpu/fft_pack.h"

#include <algorithm>

#define LAMINA_WITHOUT_AVX3_DL
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/fft_pack.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include "backend/cpu/targets.h"
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The plain loops below work on single numbers.
using Wide = hn::CappedTag<float, LAMINA_SIMD_TARGET ? kFftLines : 1>;

template <class V>
struct Pair {
  V re, im;
};

template <class D, class V = hn::Vec<D>>
HWY_INLINE Pair<V> load_complex(D d, const float* p) {
#if LAMINA_SIMD_TARGET
  if constexpr (hn::MaxLanes(D()) > 1) {
    const V a = hn::LoadU(d, p), b = hn::LoadU(d, p + hn::Lanes(d));
    return {hn::ConcatEven(d, b, a), hn::ConcatOdd(d, b, a)};
  }
#endif
  return {hn::Set(d, p[0]), hn::Set(d, p[1])};
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE void store_complex([[maybe_unused]] D d, const Pair<V>& x, float* p) {
#if LAMINA_SIMD_TARGET
  if constexpr (hn::MaxLanes(D()) > 1) return hn::StoreInterleaved2(x.re, x.im, d, p);
#endif
  p[0] = hn::GetLane(x.re);
  p[1] = hn::GetLane(x.im);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE Pair<V> load_planes(D d, const float* re, const float* im, int64_t i) {
  return {hn::LoadU(d, re + i), hn::LoadU(d, im + i)};
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE Pair<V> reversed(D d, const Pair<V>& x) {
  return {hn::Reverse(d, x.re), hn::Reverse(d, x.im)};
}
template <class V>
HWY_INLINE Pair<V> product(const Pair<V>& a, const Pair<V>& b) {
  return {hn::NegMulAdd(a.im, b.im, hn::Mul(a.re, b.re)), hn::MulAdd(a.im, b.re, hn::Mul(a.re, b.im))};
}

// Calls body(d, i) for vectors that make up [begin, end): wide ones, then of four lanes, then single numbers.
template <class D, class Body>
HWY_INLINE int64_t sweep_part(D d, int64_t i, int64_t end, const Body& body) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (; i + lanes <= end; i += lanes) body(d, i);
  return i;
}
template <class Body>
HWY_INLINE void sweep(int64_t begin, int64_t end, const Body& body) {
  int64_t i = sweep_part(Wide(), begin, end, body);
  if constexpr (hn::MaxLanes(Wide()) > 4) i = sweep_part(hn::CappedTag<float, 4>(), i, end, body);
  if constexpr (hn::MaxLanes(Wide()) > 1) sweep_part(hn::CappedTag<float, 1>(), i, end, body);
}

void Split(const float* in, int64_t n, float* re, float* im) {
  sweep(0, n, [=](auto d, int64_t i) HWY_ATTR {
    const auto x = load_complex(d, in + 2 * i);
    hn::StoreU(x.re, d, re + i);
    hn::StoreU(x.im, d, im + i);
  });
}

void Join(const float* re, const float* im, int64_t n, float scale, float* out) {
  sweep(0, n, [=](auto d, int64_t i) HWY_ATTR {
    const auto by = hn::Set(d, scale);
    const auto x = load_planes(d, re, im, i);
    store_complex(d, {hn::Mul(x.re, by), hn::Mul(x.im, by)}, out + 2 * i);
  });
}

void SplitRows(const float* in, int64_t in_step, int64_t rows, const FftRows& tile) {
  const Wide d;
  for (int64_t j = 0; j < rows; ++j) {
    for (int64_t t = 0; t < kFftLines; t += static_cast<int64_t>(hn::Lanes(d))) {
      const auto x = load_complex(d, in + j * in_step + 2 * t);
      hn::StoreU(x.re, d, tile.re + j * tile.step + t);
      hn::StoreU(x.im, d, tile.im + j * tile.step + t);
    }
  }
}

void JoinRows(const FftRows& tile, int64_t rows, float scale, float* out, int64_t out_step) {
  const Wide d;
  const auto by = hn::Set(d, scale);
  for (int64_t j = 0; j < rows; ++j) {
    for (int64_t t = 0; t < kFftLines; t += static_cast<int64_t>(hn::Lanes(d))) {
      const auto x = load_planes(d, tile.re, tile.im, j * tile.step + t);
      store_complex(d, {hn::Mul(x.re, by), hn::Mul(x.im, by)}, out + j * out_step + 2 * t);
    }
  }
}

// Numbers k and h - k of the spectrum X of a real signal, from those of the spectrum Z of its pairs. `by` is
// half the scale. With s = Z[k] + conj(Z[h - k]) and t = exp(-2 pi i k / 2h) (Z[k] - conj(Z[h - k])):
// X[k] = (s - i t) / 2, X[h - k] = conj(s + i t) / 2.
template <class V>
struct PairOfPairs {
  Pair<V> low, high;
};
template <class D, class V = hn::Vec<D>>
HWY_INLINE PairOfPairs<V> join_pair(D d, const Pair<V>& a, const Pair<V>& b, const Pair<V>& w, float scale) {
  const V by = hn::Set(d, 0.5f * scale);
  const Pair<V> t = product<V>({hn::Sub(a.re, b.re), hn::Add(a.im, b.im)}, w);
  const Pair<V> s = {hn::Mul(by, hn::Add(a.re, b.re)), hn::Mul(by, hn::Sub(a.im, b.im))};
  return {{hn::MulAdd(by, t.im, s.re), hn::NegMulAdd(by, t.re, s.im)},
          {hn::NegMulAdd(by, t.im, s.re), hn::NegMulSub(by, t.re, s.im)}};
}
// And back, times 2.
template <class V>
HWY_INLINE PairOfPairs<V> split_pair(const Pair<V>& a, const Pair<V>& b, const Pair<V>& w) {
  const Pair<V> t = product<V>({hn::Sub(a.re, b.re), hn::Add(a.im, b.im)}, {w.re, hn::Neg(w.im)});
  const Pair<V> s = {hn::Add(a.re, b.re), hn::Sub(a.im, b.im)};
  return {{hn::Sub(s.re, t.im), hn::Add(s.im, t.re)}, {hn::Add(s.re, t.im), hn::Sub(t.re, s.im)}};
}

void JoinPairs(float* re, float* im, int64_t h, FftRoots roots, int64_t begin, int64_t end, float scale,
               float* out) {
  if (begin == 0) {
    re[h] = re[0];
    im[h] = im[0];
  }
  sweep(begin, end, [=](auto d, int64_t k) HWY_ATTR {
    const int64_t mirrored = h - k - static_cast<int64_t>(hn::Lanes(d)) + 1;
    const auto x = join_pair(d, load_planes(d, re, im, k), reversed(d, load_planes(d, re, im, mirrored)),
                             load_planes(d, roots.re, roots.im, k), scale);
    store_complex(d, x.low, out + 2 * k);
    store_complex(d, reversed(d, x.high), out + 2 * mirrored);
  });
}

void SplitPairs(const float* in, int64_t h, FftRoots roots, int64_t begin, int64_t end, float* re,
                float* im) {
  sweep(begin, end, [=](auto d, int64_t k) HWY_ATTR {
    const int64_t mirrored = h - k - static_cast<int64_t>(hn::Lanes(d)) + 1;
    const auto z = split_pair(load_complex(d, in + 2 * k), reversed(d, load_complex(d, in + 2 * mirrored)),
                              load_planes(d, roots.re, roots.im, k));
    const auto high = reversed(d, z.high);
    hn::StoreU(z.low.re, d, re + k);
    hn::StoreU(z.low.im, d, im + k);
    hn::StoreU(high.re, d, re + mirrored);
    hn::StoreU(high.im, d, im + mirrored);
  });
  if (begin == 0) {
    re[0] = in[0] + in[2 * h];
    im[0] = in[0] - in[2 * h];
  }
}

void JoinPairRows(const FftRows& tile, int64_t h, FftRoots roots, float scale, float* out) {
  const Wide d;
  for (int64_t k = 0; 2 * k <= h; ++k) {
    const int64_t low = k * kFftLines, high = (h - k) * kFftLines, wrapped = k == 0 ? 0 : high;
    const Pair<hn::Vec<Wide>> w = {hn::Set(d, roots.re[k]), hn::Set(d, roots.im[k])};
    for (int64_t t = 0; t < kFftLines; t += static_cast<int64_t>(hn::Lanes(d))) {
      const auto x = join_pair(d, load_planes(d, tile.re, tile.im, low + t),
                               load_planes(d, tile.re, tile.im, wrapped + t), w, scale);
      store_complex(d, x.low, out + 2 * (low + t));
      store_complex(d, x.high, out + 2 * (high + t));
    }
  }
}

void SplitPairRows(const float* in, int64_t h, FftRoots roots, const FftRows& tile) {
  const Wide d;
  for (int64_t k = 0; 2 * k <= h; ++k) {
    const int64_t low = k * kFftLines, high = (h - k) * kFftLines;
    const Pair<hn::Vec<Wide>> w = {hn::Set(d, roots.re[k]), hn::Set(d, roots.im[k])};
    for (int64_t t = 0; t < kFftLines; t += static_cast<int64_t>(hn::Lanes(d))) {
      auto a = load_complex(d, in + 2 * (low + t)), b = load_complex(d, in + 2 * (high + t));
      if (k == 0) a.im = b.im = hn::Zero(d);
      const auto z = split_pair(a, b, w);
      hn::StoreU(z.low.re, d, tile.re + low + t);
      hn::StoreU(z.low.im, d, tile.im + low + t);
      if (k == 0) continue;
      hn::StoreU(z.high.re, d, tile.re + high + t);
      hn::StoreU(z.high.im, d, tile.im + high + t);
    }
  }
}

void Multiply(float* re, float* im, int64_t n, const float* w_re, const float* w_im) {
  sweep(0, n, [=](auto d, int64_t i) HWY_ATTR {
    const auto y = product(load_planes(d, re, im, i), load_planes(d, w_re, w_im, i));
    hn::StoreU(y.re, d, re + i);
    hn::StoreU(y.im, d, im + i);
  });
}

#if !LAMINA_SIMD_TARGET

HWY_INLINE void turn_strip(const float* in_re, const float* in_im, FftRoots roots, int64_t roots_step,
                           const FftRows& tile) {
  const Wide d;
  for (int64_t k = 0; k < kFftLines; ++k) {
    for (int64_t t = 0; t < kFftLines; ++t) {
      const auto x = load_planes(d, in_re, in_im, t * kFftLines + k);
      const auto y = product(x, load_planes(d, roots.re, roots.im, k * roots_step + t));
      hn::StoreU(y.re, d, tile.re + k * tile.step + t);
      hn::StoreU(y.im, d, tile.im + k * tile.step + t);
    }
  }
}

#else

// A vector whose 128-bit block b comes from `p + b * step`.
template <class D>
HWY_INLINE hn::Vec<D> load_blocks_apart(D d, const float* p, int64_t step) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return hn::LoadU(d, p);
  } else {
    const hn::Half<D> half;
    constexpr int64_t kBlocks = hn::MaxLanes(half) / 4;
    return hn::Combine(d, load_blocks_apart(half, p + kBlocks * step, step),
                       load_blocks_apart(half, p, step));
  }
}

// Four columns of as many rows as a vector has lanes.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void load_columns(D d, const float* p, int64_t step, V* x) {
  V a[4];
  for (int i = 0; i < 4; ++i) a[i] = load_blocks_apart(d, p + i * step, 4 * step);
  const V b[4] = {hn::InterleaveLower(d, a[0], a[2]), hn::InterleaveUpper(d, a[0], a[2]),
                  hn::InterleaveLower(d, a[1], a[3]), hn::InterleaveUpper(d, a[1], a[3])};
  for (int i = 0; i < 2; ++i) {
    x[2 * i] = hn::InterleaveLower(d, b[i], b[i + 2]);
    x[2 * i + 1] = hn::InterleaveUpper(d, b[i], b[i + 2]);
  }
}

HWY_INLINE void turn_strip(const float* in_re, const float* in_im, FftRoots roots, int64_t roots_step,
                           const FftRows& tile) {
  const Wide d;
  using V = hn::Vec<Wide>;
  for (int64_t k = 0; k < kFftLines; k += 4) {
    for (int64_t t = 0; t < kFftLines; t += static_cast<int64_t>(hn::Lanes(d))) {
      V re[4], im[4];
      load_columns(d, in_re + t * kFftLines + k, kFftLines, re);
      load_columns(d, in_im + t * kFftLines + k, kFftLines, im);
      for (int i = 0; i < 4; ++i) {
        const int64_t to = (k + i) * tile.step + t;
        const auto y =
            product<V>({re[i], im[i]}, load_planes(d, roots.re, roots.im, (k + i) * roots_step + t));
        hn::StoreU(y.re, d, tile.re + to);
        hn::StoreU(y.im, d, tile.im + to);
      }
    }
  }
}

#endif

void Turn(const FftRows& in, int64_t columns, FftRoots roots, int64_t roots_step, const FftRows& tile) {
  for (int64_t first = 0, at = 0; first < columns; first += kFftLines, at += in.step) {
    const int64_t k = std::min(first, columns - kFftLines);
    turn_strip(in.re + at, in.im + at, {roots.re + k * roots_step, roots.im + k * roots_step}, roots_step,
               {tile.re + k * tile.step, tile.im + k * tile.step, tile.step});
  }
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(Split);
HWY_EXPORT(Join);
HWY_EXPORT(SplitRows);
HWY_EXPORT(JoinRows);
HWY_EXPORT(JoinPairs);
HWY_EXPORT(SplitPairs);
HWY_EXPORT(JoinPairRows);
HWY_EXPORT(SplitPairRows);
HWY_EXPORT(Multiply);
HWY_EXPORT(Turn);

void fft_split(const float* in, int64_t n, float* re, float* im) {
  HWY_DYNAMIC_DISPATCH(Split)(in, n, re, im);
}
void fft_join(const float* re, const float* im, int64_t n, float scale, float* out) {
  HWY_DYNAMIC_DISPATCH(Join)(re, im, n, scale, out);
}
void fft_split_rows(const float* in, int64_t in_step, int64_t rows, const FftRows& tile) {
  HWY_DYNAMIC_DISPATCH(SplitRows)(in, in_step, rows, tile);
}
void fft_join_rows(const FftRows& tile, int64_t rows, float scale, float* out, int64_t out_step) {
  HWY_DYNAMIC_DISPATCH(JoinRows)(tile, rows, scale, out, out_step);
}
void fft_join_pairs(float* re, float* im, int64_t h, FftRoots roots, int64_t begin, int64_t end, float scale,
                    float* out) {
  HWY_DYNAMIC_DISPATCH(JoinPairs)(re, im, h, roots, begin, end, scale, out);
}
void fft_split_pairs(const float* in, int64_t h, FftRoots roots, int64_t begin, int64_t end, float* re,
                     float* im) {
  HWY_DYNAMIC_DISPATCH(SplitPairs)(in, h, roots, begin, end, re, im);
}
void fft_join_pair_rows(const FftRows& tile, int64_t h, FftRoots roots, float scale, float* out) {
  HWY_DYNAMIC_DISPATCH(JoinPairRows)(tile, h, roots, scale, out);
}
void fft_split_pair_rows(const float* in, int64_t h, FftRoots roots, const FftRows& tile) {
  HWY_DYNAMIC_DISPATCH(SplitPairRows)(in, h, roots, tile);
}
void fft_multiply(float* re, float* im, int64_t n, const float* w_re, const float* w_im) {
  HWY_DYNAMIC_DISPATCH(Multiply)(re, im, n, w_re, w_im);
}
void fft_turn(const FftRows& in, int64_t columns, FftRoots roots, int64_t roots_step, const FftRows& tile) {
  HWY_DYNAMIC_DISPATCH(Turn)(in, columns, roots, roots_step, tile);
}

}  // namespace lamina::cpu
#endif
