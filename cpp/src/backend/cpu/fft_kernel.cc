#include "backend/cpu/fft_kernel.h"

#include <numbers>

#define LAMINA_WITHOUT_AVX3_DL
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/fft_kernel.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include "backend/cpu/targets.h"
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, kFftLines>;
using V = hn::Vec<D>;

struct Complex {
  V re, im;
};

HWY_INLINE Complex add(const Complex& a, const Complex& b) {
  return {hn::Add(a.re, b.re), hn::Add(a.im, b.im)};
}
HWY_INLINE Complex subtract(const Complex& a, const Complex& b) {
  return {hn::Sub(a.re, b.re), hn::Sub(a.im, b.im)};
}
HWY_INLINE Complex multiply(const Complex& a, V re, V im) {
  return {hn::NegMulAdd(a.im, im, hn::Mul(a.re, re)), hn::MulAdd(a.im, re, hn::Mul(a.re, im))};
}
// a - i b and a + i b
HWY_INLINE Complex minus_i(const Complex& a, const Complex& b) {
  return {hn::Add(a.re, b.im), hn::Sub(a.im, b.re)};
}
HWY_INLINE Complex plus_i(const Complex& a, const Complex& b) {
  return {hn::Sub(a.re, b.im), hn::Add(a.im, b.re)};
}

// cos and sin of 2 pi k / R for k = 0 .. R - 1.
template <int R>
struct Circle;
#define LAMINA_CIRCLE(R, ...)                                                             \
  template <>                                                                             \
  struct Circle<R> {                                                                      \
    static constexpr double kCosSin[R / 2][2] = {__VA_ARGS__};                            \
    static constexpr float cosine(int k) {                                                \
      k %= R;                                                                             \
      return k == 0 ? 1.0f : static_cast<float>(kCosSin[(k > R / 2 ? R - k : k) - 1][0]); \
    }                                                                                     \
    static constexpr float sine(int k) {                                                  \
      k %= R;                                                                             \
      if (k == 0) return 0.0f;                                                            \
      const double s = kCosSin[(k > R / 2 ? R - k : k) - 1][1];                           \
      return static_cast<float>(k > R / 2 ? -s : s);                                      \
    }                                                                                     \
  };
LAMINA_CIRCLE(3, {-0.4999999999999998, 0.8660254037844387})
LAMINA_CIRCLE(5, {0.30901699437494745, 0.9510565162951535}, {-0.8090169943749473, 0.5877852522924732})
LAMINA_CIRCLE(7, {0.6234898018587336, 0.7818314824680298}, {-0.22252093395631434, 0.9749279121818236},
              {-0.900968867902419, 0.43388373911755823})
LAMINA_CIRCLE(11, {0.8412535328311812, 0.5406408174555976}, {0.41541501300188644, 0.9096319953545183},
              {-0.142314838273285, 0.9898214418809328}, {-0.654860733945285, 0.7557495743542583},
              {-0.9594929736144974, 0.28173255684142967})
LAMINA_CIRCLE(13, {0.8854560256532099, 0.4647231720437685}, {0.5680647467311559, 0.8229838658936564},
              {0.120536680255323, 0.992708874098054}, {-0.35460488704253545, 0.9350162426854148},
              {-0.7485107481711012, 0.6631226582407952}, {-0.970941817426052, 0.23931566428755768})
#undef LAMINA_CIRCLE

template <int R>
HWY_INLINE void butterfly(Complex* x) {
  if constexpr (R == 2) {
    const Complex a = add(x[0], x[1]);
    x[1] = subtract(x[0], x[1]);
    x[0] = a;
  } else if constexpr (R == 4) {
    const Complex even = add(x[0], x[2]), odd = add(x[1], x[3]);
    const Complex even_difference = subtract(x[0], x[2]), odd_difference = subtract(x[1], x[3]);
    x[0] = add(even, odd);
    x[1] = minus_i(even_difference, odd_difference);
    x[2] = subtract(even, odd);
    x[3] = plus_i(even_difference, odd_difference);
  } else if constexpr (R == 8) {
    const V c = hn::Set(D(), static_cast<float>(std::numbers::sqrt2 / 2));
    Complex even[4] = {x[0], x[2], x[4], x[6]}, odd[4] = {x[1], x[3], x[5], x[7]};
    butterfly<4>(even);
    butterfly<4>(odd);
    // The odd half times the roots 1, (1 - i) c, -i, -(1 + i) c.
    const Complex one = {hn::Add(odd[1].re, odd[1].im), hn::Sub(odd[1].im, odd[1].re)};
    const Complex three = {hn::Sub(odd[3].im, odd[3].re), hn::Add(odd[3].re, odd[3].im)};
    x[0] = add(even[0], odd[0]);
    x[4] = subtract(even[0], odd[0]);
    x[1] = {hn::MulAdd(c, one.re, even[1].re), hn::MulAdd(c, one.im, even[1].im)};
    x[5] = {hn::NegMulAdd(c, one.re, even[1].re), hn::NegMulAdd(c, one.im, even[1].im)};
    x[2] = minus_i(even[2], odd[2]);
    x[6] = plus_i(even[2], odd[2]);
    x[3] = {hn::MulAdd(c, three.re, even[3].re), hn::NegMulAdd(c, three.im, even[3].im)};
    x[7] = {hn::NegMulAdd(c, three.re, even[3].re), hn::MulAdd(c, three.im, even[3].im)};
  } else {
    // Pairs of conjugate roots share their cosines and sines.
    constexpr int kHalf = R / 2;
    const D d;
    Complex sums[kHalf], differences[kHalf];
    Complex total = x[0];
    for (int k = 0; k < kHalf; ++k) {
      sums[k] = add(x[k + 1], x[R - 1 - k]);
      differences[k] = subtract(x[k + 1], x[R - 1 - k]);
      total = add(total, sums[k]);
    }
    for (int j = 1; j <= kHalf; ++j) {
      Complex even = x[0], odd = {hn::Zero(d), hn::Zero(d)};
      for (int k = 0; k < kHalf; ++k) {
        const V c = hn::Set(d, Circle<R>::cosine(j * (k + 1))), s = hn::Set(d, Circle<R>::sine(j * (k + 1)));
        even = {hn::MulAdd(c, sums[k].re, even.re), hn::MulAdd(c, sums[k].im, even.im)};
        odd = {hn::MulAdd(s, differences[k].re, odd.re), hn::MulAdd(s, differences[k].im, odd.im)};
      }
      x[j] = minus_i(even, odd);
      x[R - j] = plus_i(even, odd);
    }
    x[0] = total;
  }
}

// One butterfly of kFftLines lines: R rows `from_apart` floats apart to as many, `to_apart` floats apart.
template <int R, bool kTwiddle>
HWY_INLINE void butterfly_rows(const float* from_re, const float* from_im, int64_t from_apart, const float* w,
                               float* to_re, float* to_im, int64_t to_apart) {
  const D d;
  for (int64_t lane = 0; lane < kFftLines; lane += static_cast<int64_t>(hn::Lanes(d))) {
    Complex x[R];
    for (int k = 0; k < R; ++k) {
      const int64_t at = k * from_apart + lane;
      x[k] = {hn::LoadU(d, from_re + at), hn::LoadU(d, from_im + at)};
    }
    butterfly<R>(x);
    for (int j = 0; j < R; ++j) {
      const int64_t at = j * to_apart + lane;
      if (kTwiddle && j > 0) x[j] = multiply(x[j], hn::Set(d, w[2 * j - 2]), hn::Set(d, w[2 * j - 1]));
      hn::StoreU(x[j].re, d, to_re + at);
      hn::StoreU(x[j].im, d, to_im + at);
    }
  }
}

// One stage of Stockham's scheme: `groups` roots, each for `span` rows. The first root is 1.
template <int R>
void fft_stage(int64_t groups, int64_t span, const float* w, const FftRows& in, const FftRows& out) {
  const int64_t from_step = in.step, from_apart = groups * span * from_step;
  const int64_t to_step = out.step, to_apart = span * to_step;
  const float *from_re = in.re, *from_im = in.im;
  float *to_re = out.re, *to_im = out.im;
  auto next = [&] {
    from_re += from_step;
    from_im += from_step;
    to_re += to_step;
    to_im += to_step;
  };
  for (int64_t s = 0; s < span; ++s, next()) {
    butterfly_rows<R, false>(from_re, from_im, from_apart, w, to_re, to_im, to_apart);
  }
  for (int64_t p = 1; p < groups; ++p) {
    w += 2 * (R - 1);
    to_re += (R - 1) * to_apart;
    to_im += (R - 1) * to_apart;
    for (int64_t s = 0; s < span; ++s, next()) {
      butterfly_rows<R, true>(from_re, from_im, from_apart, w, to_re, to_im, to_apart);
    }
  }
}

void Stages(const FftStages& stages, const FftRows& in, const FftRows& out, float* spare) {
  const int64_t tile = stages.length * kFftLines;
  const FftRows spares[2] = {{spare, spare + tile, kFftLines},
                             {spare + 2 * tile, spare + 3 * tile, kFftLines}};
  int64_t groups = stages.length, span = 1;
  const float* w = stages.twiddles.data();
  FftRows from = in;
  int turn = 0;
  for (int radix : stages.radices) {
    groups /= radix;
    const FftRows to = groups == 1 ? out : spares[turn];
    switch (radix) {
      case 2: fft_stage<2>(groups, span, w, from, to); break;
      case 3: fft_stage<3>(groups, span, w, from, to); break;
      case 4: fft_stage<4>(groups, span, w, from, to); break;
      case 5: fft_stage<5>(groups, span, w, from, to); break;
      case 7: fft_stage<7>(groups, span, w, from, to); break;
      case 8: fft_stage<8>(groups, span, w, from, to); break;
      case 11: fft_stage<11>(groups, span, w, from, to); break;
      default: fft_stage<13>(groups, span, w, from, to); break;
    }
    w += 2 * (radix - 1) * groups;
    span *= radix;
    from = to;
    turn = 1 - turn;
  }
}

void MultiplyRows(float* re, float* im, int64_t rows, const float* w_re, const float* w_im) {
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t j = 0; j < rows; ++j) {
    const V c = hn::Set(d, w_re[j]), s = hn::Set(d, w_im[j]);
    for (int64_t t = j * kFftLines; t < (j + 1) * kFftLines; t += lanes) {
      const Complex y = multiply({hn::Load(d, re + t), hn::Load(d, im + t)}, c, s);
      hn::Store(y.re, d, re + t);
      hn::Store(y.im, d, im + t);
    }
  }
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(Stages);
HWY_EXPORT(MultiplyRows);

void fft_stages(const FftStages& stages, const FftRows& in, const FftRows& out, float* spare) {
  HWY_DYNAMIC_DISPATCH(Stages)(stages, in, out, spare);
}
void fft_multiply_rows(float* re, float* im, int64_t rows, const float* w_re, const float* w_im) {
  HWY_DYNAMIC_DISPATCH(MultiplyRows)(re, im, rows, w_re, w_im);
}

}  // namespace lamina::cpu
#endif
