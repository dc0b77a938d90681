#include "backend/cpu/gemm_kernel.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "backend/cpu/simd_target.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm_kernel.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/gemm_convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

// Accumulators fill the registers: 14 x 2 of AVX-512's 32, 6 x 2 of AVX2's 16.
#if HWY_TARGET <= HWY_AVX3
constexpr int kPanelRows = 14;
#else
constexpr int kPanelRows = 6;
#endif

// dst[k * step + r] = src[r * minor + k * major] for r < width, k < depth: one panel of A or B.
template <class S, class T>
void pack_panel(const S* src, int64_t minor, int64_t major, int64_t width, int64_t depth, T* dst,
                int64_t step) {
  if (minor == 1) {
    const hn::ScalableTag<T> d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    for (int64_t k = 0; k < depth; ++k) {
      int64_t r = 0;
      for (; r + lanes <= width; r += lanes)
        hn::StoreU(load_as(d, src + k * major + r), d, dst + k * step + r);
      for (; r < width; ++r) dst[k * step + r] = static_cast<T>(src[k * major + r]);
    }
    return;
  }
  int64_t r = 0;
  if (major == 1 && width >= 4) {
    // The last four rows may be partly written before: with the same values.
    for (; r < width; r += 4) {
      const int64_t row = std::min(r, width - 4);
      transpose_four(src + row * minor, minor, depth, dst + row, step);
    }
  }
  for (; r < width; ++r) {
    for (int64_t k = 0; k < depth; ++k) dst[k * step + r] = static_cast<T>(src[r * minor + k * major]);
  }
}

template <class S, class T>
void pack_a_from(const S* a, const GemmMatrix& m, int64_t row0, int64_t rows, int64_t k0, int64_t depth,
                 T* dst) {
  for (int64_t r = 0; r < rows; r += kPanelRows) {
    const int64_t width = std::min<int64_t>(kPanelRows, rows - r);
    pack_panel(a + (row0 + r) * m.row_stride + k0 * m.col_stride, m.row_stride, m.col_stride, width, depth,
               dst, width);
    dst += width * depth;
  }
}

template <class S, class T>
void pack_b_from(const S* b, const GemmMatrix& m, int64_t k0, int64_t depth, int64_t col0, int64_t cols,
                 T* dst) {
  const int64_t nr = 2 * static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  for (int64_t c = 0; c < cols; c += nr) {
    const int64_t width = std::min(nr, cols - c);
    if (width < nr) std::memset(static_cast<void*>(dst), 0, static_cast<size_t>(nr * depth) * sizeof(T));
    pack_panel(b + k0 * m.row_stride + (col0 + c) * m.col_stride, m.col_stride, m.row_stride, width, depth,
               dst, nr);
    dst += nr * depth;
  }
}

void pack_a_f32(const GemmMatrix& a, int64_t row0, int64_t rows, int64_t k0, int64_t depth, float* dst) {
  switch (a.dtype) {
    case Dtype::kFloat16:
      return pack_a_from(static_cast<const float16_t*>(a.data), a, row0, rows, k0, depth, dst);
    case Dtype::kBFloat16:
      return pack_a_from(static_cast<const bfloat16_t*>(a.data), a, row0, rows, k0, depth, dst);
    default: return pack_a_from(static_cast<const float*>(a.data), a, row0, rows, k0, depth, dst);
  }
}
void pack_b_f32(const GemmMatrix& b, int64_t k0, int64_t depth, int64_t col0, int64_t cols, float* dst) {
  switch (b.dtype) {
    case Dtype::kFloat16:
      return pack_b_from(static_cast<const float16_t*>(b.data), b, k0, depth, col0, cols, dst);
    case Dtype::kBFloat16:
      return pack_b_from(static_cast<const bfloat16_t*>(b.data), b, k0, depth, col0, cols, dst);
    default: return pack_b_from(static_cast<const float*>(b.data), b, k0, depth, col0, cols, dst);
  }
}
void pack_a_f64(const GemmMatrix& a, int64_t row0, int64_t rows, int64_t k0, int64_t depth, double* dst) {
  pack_a_from(static_cast<const double*>(a.data), a, row0, rows, k0, depth, dst);
}
void pack_b_f64(const GemmMatrix& b, int64_t k0, int64_t depth, int64_t col0, int64_t cols, double* dst) {
  pack_b_from(static_cast<const double*>(b.data), b, k0, depth, col0, cols, dst);
}

// Rows at any addresses. Neighbours one element apart, as in a convolution of one channel, are read across.
template <class S, class T>
void pack_scattered_from(const void* const* rows, int64_t width, int64_t depth, T* dst, int64_t step) {
  const auto row = [rows](int64_t r) { return static_cast<const S*>(rows[r]); };
  bool adjacent = width > 1;
  for (int64_t r = 1; adjacent && r < width; ++r) adjacent = row(r) == row(0) + r;
  if (adjacent) return pack_panel(row(0), 1, 1, width, depth, dst, step);
  int64_t r = 0;
  for (; width >= 4 && r < width; r += 4) {
    const int64_t i = std::min(r, width - 4);
    transpose_rows(row(i), row(i + 1), row(i + 2), row(i + 3), depth, dst + i, step);
  }
  for (; r < width; ++r) {
    for (int64_t k = 0; k < depth; ++k) dst[k * step + r] = static_cast<T>(row(r)[k]);
  }
}

void pack_scattered_f32(const void* const* rows, Dtype dtype, int64_t width, int64_t depth, float* dst,
                        int64_t step) {
  switch (dtype) {
    case Dtype::kFloat16: return pack_scattered_from<float16_t>(rows, width, depth, dst, step);
    case Dtype::kBFloat16: return pack_scattered_from<bfloat16_t>(rows, width, depth, dst, step);
    default: return pack_scattered_from<float>(rows, width, depth, dst, step);
  }
}
void pack_scattered_f64(const void* const* rows, Dtype, int64_t width, int64_t depth, double* dst,
                        int64_t step) {
  pack_scattered_from<double>(rows, width, depth, dst, step);
}

// One register tile: c[kRows x cols] (+)= panel a (kRows wide) times panel b, cols <= 2 vectors.
template <int kRows, class T>
void multiply_tile(int64_t depth, const T* HWY_RESTRICT a, const T* HWY_RESTRICT b, int64_t cols,
                   T* HWY_RESTRICT c, int64_t ldc, bool accumulate) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  constexpr int64_t kAhead = 16;
  V acc[kRows][2];
  unroll<kRows>([&](auto r) HWY_ATTR {
    acc[r][0] = acc[r][1] = hn::Zero(d);
    __builtin_prefetch(c + r * ldc, 1, 2);
    __builtin_prefetch(c + r * ldc + n, 1, 2);
  });
  for (int64_t k = 0; k < depth; ++k) {
    const V b0 = hn::Load(d, b), b1 = hn::Load(d, b + n);
    // The panels come from the second-level cache: a panel of B alone fills the first.
    __builtin_prefetch(b + kAhead * n);
    __builtin_prefetch(b + (kAhead + 1) * n);
    __builtin_prefetch(a + kAhead / 2 * kRows);
    unroll<kRows>([&](auto r) HWY_ATTR {
      const V x = hn::Set(d, a[r]);
      acc[r][0] = hn::MulAdd(x, b0, acc[r][0]);
      acc[r][1] = hn::MulAdd(x, b1, acc[r][1]);
    });
    a += kRows;
    b += 2 * n;
  }
  if (cols == 2 * n) {
    if (accumulate) {
      unroll<kRows>([&](auto r) HWY_ATTR {
        acc[r][0] = hn::Add(hn::LoadU(d, c + r * ldc), acc[r][0]);
        acc[r][1] = hn::Add(hn::LoadU(d, c + r * ldc + n), acc[r][1]);
      });
    }
    unroll<kRows>([&](auto r) HWY_ATTR {
      hn::StoreU(acc[r][0], d, c + r * ldc);
      hn::StoreU(acc[r][1], d, c + r * ldc + n);
    });
    return;
  }
  HWY_ALIGN T edge[kRows * 2 * hn::MaxLanes(d)];
  unroll<kRows>([&](auto r) HWY_ATTR {
    hn::Store(acc[r][0], d, edge + r * 2 * n);
    hn::Store(acc[r][1], d, edge + r * 2 * n + n);
  });
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t j = 0; j < cols; ++j) {
      c[r * ldc + j] = accumulate ? c[r * ldc + j] + edge[r * 2 * n + j] : edge[r * 2 * n + j];
    }
  }
}

template <class T>
using TileFn = void (*)(int64_t, const T*, const T*, int64_t, T*, int64_t, bool);

template <class T, int... kRows>
constexpr auto tile_table(std::integer_sequence<int, kRows...>) {
  return std::array<TileFn<T>, sizeof...(kRows)>{&multiply_tile<kRows + 1, T>...};
}

template <class T>
void multiply(int64_t rows, int64_t cols, int64_t depth, const T* a, const T* b, T* c, int64_t ldc,
              bool accumulate) {
  static constexpr auto kTiles = tile_table<T>(std::make_integer_sequence<int, kPanelRows>());
  const int64_t nr = 2 * static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  // A block of A's panels stays in the second-level cache while the panels of B pass by.
  constexpr int64_t kBlockRows = 8 * kPanelRows;
  for (int64_t block = 0; block < rows; block += kBlockRows) {
    const int64_t end = std::min(rows, block + kBlockRows);
    for (int64_t j = 0; j < cols; j += nr) {
      for (int64_t i = block; i < end; i += kPanelRows) {
        const int64_t height = std::min<int64_t>(kPanelRows, rows - i);
        kTiles[static_cast<size_t>(height - 1)](depth, a + i * depth, b + j * depth, std::min(nr, cols - j),
                                                c + i * ldc + j, ldc, accumulate);
      }
    }
  }
}

template <class T, class S>
void scale_row(T* row, int64_t n, double alpha, double beta, const S* c0, int64_t step) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const T fa = static_cast<T>(alpha), fb = static_cast<T>(beta);
  const auto va = hn::Set(d, fa), vb = hn::Set(d, fb);
  int64_t j = 0;
  if (!c0) {
    for (; j + lanes <= n; j += lanes) hn::StoreU(hn::Mul(va, hn::LoadU(d, row + j)), d, row + j);
    for (; j < n; ++j) row[j] *= fa;
    return;
  }
  if (step == 1) {
    for (; j + lanes <= n; j += lanes) {
      hn::StoreU(hn::Add(hn::Mul(va, hn::LoadU(d, row + j)), hn::Mul(vb, load_as(d, c0 + j))), d, row + j);
    }
  }
  for (; j < n; ++j) row[j] = fa * row[j] + fb * static_cast<T>(c0[j * step]);
}

void scale_f32(float* row, int64_t n, double alpha, double beta, const void* c0, Dtype dtype, int64_t step) {
  switch (dtype) {
    case Dtype::kFloat16: return scale_row(row, n, alpha, beta, static_cast<const float16_t*>(c0), step);
    case Dtype::kBFloat16: return scale_row(row, n, alpha, beta, static_cast<const bfloat16_t*>(c0), step);
    default: return scale_row(row, n, alpha, beta, static_cast<const float*>(c0), step);
  }
}
void scale_f64(double* row, int64_t n, double alpha, double beta, const void* c0, Dtype, int64_t step) {
  scale_row(row, n, alpha, beta, static_cast<const double*>(c0), step);
}

template <class S>
void store_row(const float* row, int64_t n, S* dst) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t j = 0;
  for (; j + lanes <= n; j += lanes) store_as(hn::LoadU(d, row + j), d, dst + j);
  if (j < n)
    store_part(load_part(d, row + j, static_cast<size_t>(n - j)), d, dst + j, static_cast<size_t>(n - j));
}
template <class S>
void store_rows(const float* tile, int64_t ld, int64_t rows, int64_t cols, S* dst, int64_t dst_ld) {
  for (int64_t i = 0; i < rows; ++i) store_row(tile + i * ld, cols, dst + i * dst_ld);
}
void store_tile_f32(const float* tile, int64_t ld, int64_t rows, int64_t cols, void* dst, int64_t dst_ld,
                    Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat16: return store_rows(tile, ld, rows, cols, static_cast<float16_t*>(dst), dst_ld);
    case Dtype::kBFloat16: return store_rows(tile, ld, rows, cols, static_cast<bfloat16_t*>(dst), dst_ld);
    default: return store_rows(tile, ld, rows, cols, static_cast<float*>(dst), dst_ld);
  }
}
void store_f32(const float* row, int64_t n, void* dst, Dtype dtype) {
  store_tile_f32(row, n, 1, n, dst, n, dtype);
}
void store_f64(const double* row, int64_t n, void* dst, Dtype) {
  std::memcpy(dst, row, static_cast<size_t>(n) * sizeof(double));
}
void store_tile_f64(const double* tile, int64_t ld, int64_t rows, int64_t cols, void* dst, int64_t dst_ld,
                    Dtype dtype) {
  for (int64_t i = 0; i < rows; ++i)
    store_f64(tile + i * ld, cols, static_cast<double*>(dst) + i * dst_ld, dtype);
}

template <class S>
void load_row(const S* src, int64_t n, float* row) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t j = 0;
  for (; j + lanes <= n; j += lanes) hn::StoreU(load_as(d, src + j), d, row + j);
  for (; j < n; ++j) row[j] = static_cast<float>(src[j]);
}
void load_f32(const void* src, Dtype dtype, int64_t n, float* row) {
  switch (dtype) {
    case Dtype::kFloat16: return load_row(static_cast<const float16_t*>(src), n, row);
    case Dtype::kBFloat16: return load_row(static_cast<const bfloat16_t*>(src), n, row);
    default: std::memcpy(row, src, static_cast<size_t>(n) * sizeof(float));
  }
}
void load_f64(const void* src, Dtype, int64_t n, double* row) {
  std::memcpy(row, src, static_cast<size_t>(n) * sizeof(double));
}

template <class T>
constexpr int64_t kPanelCols = 2 * static_cast<int64_t>(hn::MaxLanes(hn::ScalableTag<T>()));

}  // namespace

const GemmKernels<float>* kernels_f32() {
  static constexpr GemmKernels<float> kTable = {
      kPanelRows, kPanelCols<float>,  pack_a_f32, pack_b_f32,     multiply<float>,
      scale_f32,  pack_scattered_f32, store_f32,  store_tile_f32, load_f32};
  return &kTable;
}
const GemmKernels<double>* kernels_f64() {
  static constexpr GemmKernels<double> kTable = {
      kPanelRows, kPanelCols<double>, pack_a_f64, pack_b_f64,     multiply<double>,
      scale_f64,  pack_scattered_f64, store_f64,  store_tile_f64, load_f64};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(kernels_f32);
HWY_EXPORT(kernels_f64);

template <>
const GemmKernels<float>& gemm_kernels<float>() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(kernels_f32)();
}
template <>
const GemmKernels<double>& gemm_kernels<double>() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(kernels_f64)();
}

}  // namespace lamina::cpu
#endif
