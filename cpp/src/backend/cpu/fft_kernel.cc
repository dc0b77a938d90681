#include "backend/cpu/fft_kernel.h"

#include <utility>

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

// One stage of Stockham's scheme: `groups` roots, each for `span` elements (of kFftLines floats) in a row.
template <int R>
HWY_INLINE void stage(int64_t groups, int64_t span, const float* w, const float* HWY_RESTRICT in_re,
                      const float* HWY_RESTRICT in_im, float* HWY_RESTRICT out_re,
                      float* HWY_RESTRICT out_im) {
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t width = span * kFftLines;
  for (int64_t p = 0; p < groups; ++p, w += 2 * (R - 1)) {
    V w_re[R], w_im[R];
    for (int j = 1; j < R; ++j) {
      w_re[j] = hn::Set(d, w[2 * j - 2]);
      w_im[j] = hn::Set(d, w[2 * j - 1]);
    }
    for (int64_t q = 0; q < width; q += lanes) {
      Complex x[R];
      for (int k = 0; k < R; ++k) {
        const int64_t at = (p + groups * k) * width + q;
        x[k] = {hn::Load(d, in_re + at), hn::Load(d, in_im + at)};
      }
      butterfly<R>(x);
      for (int j = 0; j < R; ++j) {
        const int64_t at = (R * p + j) * width + q;
        if (j > 0) x[j] = multiply(x[j], w_re[j], w_im[j]);
        hn::Store(x[j].re, d, out_re + at);
        hn::Store(x[j].im, d, out_im + at);
      }
    }
  }
}

bool TileStages(const FftStages& stages, float* a_re, float* a_im, float* b_re, float* b_im) {
  int64_t groups = stages.length, span = 1;
  const float* w = stages.twiddles.data();
  bool in_b = false;
  for (int radix : stages.radices) {
    groups /= radix;
    switch (radix) {
      case 2: stage<2>(groups, span, w, a_re, a_im, b_re, b_im); break;
      case 3: stage<3>(groups, span, w, a_re, a_im, b_re, b_im); break;
      case 4: stage<4>(groups, span, w, a_re, a_im, b_re, b_im); break;
      case 5: stage<5>(groups, span, w, a_re, a_im, b_re, b_im); break;
      case 7: stage<7>(groups, span, w, a_re, a_im, b_re, b_im); break;
      case 11: stage<11>(groups, span, w, a_re, a_im, b_re, b_im); break;
      default: stage<13>(groups, span, w, a_re, a_im, b_re, b_im); break;
    }
    w += 2 * (radix - 1) * groups;
    span *= radix;
    std::swap(a_re, b_re);
    std::swap(a_im, b_im);
    in_b = !in_b;
  }
  return in_b;
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

void Multiply(float* re, float* im, int64_t n, const float* w_re, const float* w_im) {
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Complex y = multiply({hn::LoadU(d, re + i), hn::LoadU(d, im + i)}, hn::LoadU(d, w_re + i),
                               hn::LoadU(d, w_im + i));
    hn::StoreU(y.re, d, re + i);
    hn::StoreU(y.im, d, im + i);
  }
  const hn::CappedTag<float, 1> one;
  for (; i < n; ++i) {
    const auto a = hn::LoadU(one, re + i), b = hn::LoadU(one, im + i);
    const auto c = hn::LoadU(one, w_re + i), s = hn::LoadU(one, w_im + i);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), one, re + i);
    hn::StoreU(hn::MulAdd(b, c, hn::Mul(a, s)), one, im + i);
  }
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(TileStages);
HWY_EXPORT(MultiplyRows);
HWY_EXPORT(Multiply);

bool fft_tile_stages(const FftStages& stages, float* a_re, float* a_im, float* b_re, float* b_im) {
  return HWY_DYNAMIC_DISPATCH(TileStages)(stages, a_re, a_im, b_re, b_im);
}
void fft_multiply_rows(float* re, float* im, int64_t rows, const float* w_re, const float* w_im) {
  HWY_DYNAMIC_DISPATCH(MultiplyRows)(re, im, rows, w_re, w_im);
}
void fft_multiply(float* re, float* im, int64_t n, const float* w_re, const float* w_im) {
  HWY_DYNAMIC_DISPATCH(Multiply)(re, im, n, w_re, w_im);
}

}  // namespace lamina::cpu
#endif
