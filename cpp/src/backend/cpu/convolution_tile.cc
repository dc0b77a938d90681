#include "backend/cpu/convolution_tile.h"

#include <algorithm>
#include <array>
#include <utility>

#include "backend/cpu/simd_target.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/convolution_tile.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/gemm_convert-inl.h"

// Tiles stay in registers only where every lambda is inlined, whatever the size of the file.
#ifndef LAMINA_INLINED
#define LAMINA_INLINED HWY_ATTR __attribute__((always_inline))
#endif

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

// Heights of register tiles, as in gemm_kernel.cc.
#if HWY_TARGET <= HWY_AVX3
constexpr int kMostTileRows = 14;
#else
constexpr int kMostTileRows = 6;
#endif

// c[kRows x cols] (+)= acc, for vectors of kVectors a row.
template <int kRows, int kVectors, class T, class V>
HWY_INLINE void add_tile(V (&acc)[kRows][kVectors], int64_t cols, T* HWY_RESTRICT c, int64_t ldc,
                         bool accumulate) {
  const hn::ScalableTag<T> d;
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  if (cols == kVectors * n) {
    unroll<kRows>([&](auto r) LAMINA_INLINED {
      unroll<kVectors>([&](auto j) LAMINA_INLINED {
        T* to = c + static_cast<int64_t>(r) * ldc + static_cast<int64_t>(j) * n;
        hn::StoreU(accumulate ? hn::Add(hn::LoadU(d, to), acc[r][j]) : acc[r][j], d, to);
      });
    });
    return;
  }
  unroll<kVectors>([&](auto j) LAMINA_INLINED {
    const int64_t first = static_cast<int64_t>(j) * n;
    if (first >= cols) return;
    const auto width = static_cast<size_t>(std::min(n, cols - first));
    const auto mask = hn::FirstN(d, width);
    unroll<kRows>([&](auto r) LAMINA_INLINED {
      T* to = c + static_cast<int64_t>(r) * ldc + first;
      const V sum = accumulate ? hn::Add(hn::MaskedLoad(mask, d, to), acc[r][j]) : acc[r][j];
      hn::BlendedStore(sum, mask, d, to);
    });
  });
}

// One register tile of kVectors vectors of columns; b's panel has two, whether both are wanted or not.
template <int kRows, int kVectors, class T>
void multiply_runs_tile(int64_t cols, const ConvRun<T>* runs, int64_t num_runs, const T* HWY_RESTRICT b,
                        T* HWY_RESTRICT c, int64_t ldc, bool accumulate) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  V acc[kRows][kVectors];
  unroll<kRows>([&](auto r) LAMINA_INLINED {
    unroll<kVectors>([&](auto j) LAMINA_INLINED { acc[r][j] = hn::Zero(d); });
    __builtin_prefetch(c + static_cast<int64_t>(r) * ldc, 1, 2);
  });
  for (const ConvRun<T>* run = runs; run != runs + num_runs; ++run) {
    const T* rows[kRows];
    unroll<kRows>([&](auto r) LAMINA_INLINED { rows[r] = run->rows[r]; });
    const int64_t depth = run->depth;
    for (int64_t k = 0; k < depth; ++k) {
      V w[kVectors];
      unroll<kVectors>([&](auto j) LAMINA_INLINED { w[j] = hn::Load(d, b + static_cast<int64_t>(j) * n); });
      unroll<kRows>([&](auto r) LAMINA_INLINED {
        const V x = hn::Set(d, rows[r][k]);
        unroll<kVectors>([&](auto j) LAMINA_INLINED { acc[r][j] = hn::MulAdd(x, w[j], acc[r][j]); });
      });
      b += 2 * n;
    }
  }
  add_tile<kRows, kVectors>(acc, cols, c, ldc, accumulate);
}

template <class T>
using RunsFn = void (*)(int64_t, const ConvRun<T>*, int64_t, const T*, T*, int64_t, bool);

template <class T, int kVectors, int... kRows>
constexpr auto runs_table(std::integer_sequence<int, kRows...>) {
  return std::array<RunsFn<T>, sizeof...(kRows)>{&multiply_runs_tile<kRows + 1, kVectors, T>...};
}

template <class T>
void multiply_runs(int64_t rows, int64_t cols, const ConvRun<T>* runs, int64_t num_runs, const T* b, T* c,
                   int64_t ldc, bool accumulate) {
  static constexpr auto kOne = runs_table<T, 1>(std::make_integer_sequence<int, kMostTileRows>());
  static constexpr auto kTwo = runs_table<T, 2>(std::make_integer_sequence<int, kMostTileRows>());
  const bool one = cols <= static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  const RunsFn<T> tile = (one ? kOne : kTwo)[static_cast<size_t>(rows - 1)];
  tile(cols, runs, num_runs, b, c, ldc, accumulate);
}

template <class S, class T>
void pack_steps_from(const void* const* at, int64_t depth, int64_t first, int64_t width, T* dst,
                     int64_t step) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (; width >= lanes; width -= lanes, first += lanes, dst += lanes) {
    for (int64_t k = 0; k < depth; ++k) {
      hn::StoreU(load_as(d, static_cast<const S*>(at[k]) + first), d, dst + k * step);
    }
  }
  if (width == 0) return;
  const auto left = static_cast<size_t>(width);
  const auto mask = hn::FirstN(d, left);
  for (int64_t k = 0; k < depth; ++k) {
    const S* from = static_cast<const S*>(at[k]) + first;
    hn::BlendedStore(load_part(d, from, left), mask, d, dst + k * step);
  }
}

void pack_steps_f32(const void* const* at, Dtype dtype, int64_t depth, int64_t first, int64_t width,
                    float* dst, int64_t step) {
  switch (dtype) {
    case Dtype::kFloat16: return pack_steps_from<float16_t>(at, depth, first, width, dst, step);
    case Dtype::kBFloat16: return pack_steps_from<bfloat16_t>(at, depth, first, width, dst, step);
    default: return pack_steps_from<float>(at, depth, first, width, dst, step);
  }
}
void pack_steps_f64(const void* const* at, Dtype, int64_t depth, int64_t first, int64_t width, double* dst,
                    int64_t step) {
  pack_steps_from<double>(at, depth, first, width, dst, step);
}

// kOutputs outputs from number `first` on.
template <int kOutputs, class S, class T>
void add_taps_of(const ConvTaps<T>& a, int64_t first) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const S* x = static_cast<const S*>(a.x) + first * a.output_step;
  const S* weights = static_cast<const S*>(a.weights);
  T* sums = a.sums + first * a.channels;
  const auto add = [&](int64_t c, const auto& load, const auto& put) LAMINA_INLINED {
    V sum[kOutputs];
    unroll<kOutputs>([&](auto j) LAMINA_INLINED { sum[j] = hn::Zero(d); });
    for (int64_t t = a.begin; t < a.end; ++t) {
      const V w = load(weights + t * a.weight_step + c);
      const S* from = x + t * a.tap_step + c;
      unroll<kOutputs>([&](auto j) LAMINA_INLINED {
        sum[j] = hn::MulAdd(load(from + static_cast<int64_t>(j) * a.output_step), w, sum[j]);
      });
    }
    unroll<kOutputs>([&](auto j)
                         LAMINA_INLINED { put(sum[j], sums + static_cast<int64_t>(j) * a.channels + c); });
  };
  int64_t c = 0;
  for (; c + lanes <= a.channels; c += lanes) {
    add(
        c, [&](const S* p) LAMINA_INLINED { return load_as(d, p); },
        [&](V v, T* p) LAMINA_INLINED { hn::StoreU(hn::Add(hn::LoadU(d, p), v), d, p); });
  }
  if (c == a.channels) return;
  const auto left = static_cast<size_t>(a.channels - c);
  add(
      c, [&](const S* p) LAMINA_INLINED { return load_part(d, p, left); },
      [&](V v, T* p) LAMINA_INLINED { store_part(hn::Add(load_part(d, p, left), v), d, p, left); });
}

template <class S, class T>
void add_taps_from(const ConvTaps<T>& a) {
  int64_t j = 0;
  for (; j + 4 <= a.outputs; j += 4) add_taps_of<4, S>(a, j);
  switch (a.outputs - j) {
    case 3: return add_taps_of<3, S>(a, j);
    case 2: return add_taps_of<2, S>(a, j);
    case 1: return add_taps_of<1, S>(a, j);
    default: return;
  }
}

void add_taps_f32(const ConvTaps<float>& a) {
  switch (a.dtype) {
    case Dtype::kFloat16: return add_taps_from<float16_t>(a);
    case Dtype::kBFloat16: return add_taps_from<bfloat16_t>(a);
    default: return add_taps_from<float>(a);
  }
}
void add_taps_f64(const ConvTaps<double>& a) { add_taps_from<double>(a); }

}  // namespace

const ConvKernels<float>* conv_table_f32() {
  static constexpr ConvKernels<float> kTable = {multiply_runs<float>, pack_steps_f32, add_taps_f32};
  return &kTable;
}
const ConvKernels<double>* conv_table_f64() {
  static constexpr ConvKernels<double> kTable = {multiply_runs<double>, pack_steps_f64, add_taps_f64};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(conv_table_f32);
HWY_EXPORT(conv_table_f64);

template <>
const ConvKernels<float>& conv_kernels<float>() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(conv_table_f32)();
}
template <>
const ConvKernels<double>& conv_kernels<double>() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(conv_table_f64)();
}

}  // namespace lamina::cpu
#endif
