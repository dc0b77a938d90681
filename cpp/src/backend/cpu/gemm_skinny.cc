#include <algorithm>
#include <array>
#include <cstring>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/simd_target.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm_skinny.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/gemm_convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

// sums[r, j] (+)= sum over kSteps steps of x[r, k] b[k, j] for kRows rows and n columns, k ascending.
template <int kRows, int kSteps, class T>
void add_outer(const float* HWY_RESTRICT x, int64_t ldx, const T* HWY_RESTRICT b, int64_t ldb, int64_t n,
               float* HWY_RESTRICT sums, int64_t ld, bool first) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t j = 0;
  for (; j + lanes <= n; j += lanes) {
    V acc[kRows];
    unroll<kRows>([&](auto r) HWY_ATTR { acc[r] = first ? hn::Zero(d) : hn::LoadU(d, sums + r * ld + j); });
    unroll<kSteps>([&](auto k) HWY_ATTR {
      const V row = load_as(d, b + k * ldb + j);
      unroll<kRows>([&](auto r) HWY_ATTR { acc[r] = hn::MulAdd(hn::Set(d, x[r * ldx + k]), row, acc[r]); });
    });
    unroll<kRows>([&](auto r) HWY_ATTR { hn::StoreU(acc[r], d, sums + r * ld + j); });
  }
  if (j == n) return;
  const size_t left = static_cast<size_t>(n - j);
  V acc[kRows];
  unroll<kRows>([&](auto r)
                    HWY_ATTR { acc[r] = first ? hn::Zero(d) : load_part(d, sums + r * ld + j, left); });
  unroll<kSteps>([&](auto k) HWY_ATTR {
    const V row = load_part(d, b + k * ldb + j, left);
    unroll<kRows>([&](auto r) HWY_ATTR { acc[r] = hn::MulAdd(hn::Set(d, x[r * ldx + k]), row, acc[r]); });
  });
  unroll<kRows>([&](auto r) HWY_ATTR { store_part(acc[r], d, sums + r * ld + j, left); });
}

// Rows in fours and a rest, steps in eights and ones.
template <int kSteps, class T>
void add_outer_rows(int64_t m, const float* x, int64_t ldx, const T* b, int64_t ldb, int64_t n, float* sums,
                    int64_t ld, bool first) {
  int64_t r = 0;
  for (; r + 4 <= m; r += 4) add_outer<4, kSteps>(x + r * ldx, ldx, b, ldb, n, sums + r * ld, ld, first);
  switch (m - r) {
    case 3: return add_outer<3, kSteps>(x + r * ldx, ldx, b, ldb, n, sums + r * ld, ld, first);
    case 2: return add_outer<2, kSteps>(x + r * ldx, ldx, b, ldb, n, sums + r * ld, ld, first);
    case 1: return add_outer<1, kSteps>(x + r * ldx, ldx, b, ldb, n, sums + r * ld, ld, first);
    default: return;
  }
}

template <class T>
void row_major_of(int64_t m, int64_t k, const float* x, const T* b, int64_t ldb, int64_t cols, float* tile,
                  int64_t ld, float* sums) {
  for (int64_t k0 = 0; k0 < k; k0 += kGemmDepth) {
    const int64_t k1 = std::min(k, k0 + kGemmDepth);
    float* out = k0 == 0 ? tile : sums;
    const int64_t out_ld = k0 == 0 ? ld : cols;
    int64_t i = k0;
    for (; i + 8 <= k1; i += 8) {
      add_outer_rows<8>(m, x + i, k, b + i * ldb, ldb, cols, out, out_ld, i == k0);
    }
    for (; i < k1; ++i) add_outer_rows<1>(m, x + i, k, b + i * ldb, ldb, cols, out, out_ld, i == k0);
    if (k0 == 0) continue;
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t j = 0; j < cols; ++j) tile[r * ld + j] += sums[r * cols + j];
    }
  }
}

void row_major(int64_t m, int64_t k, const float* x, const GemmMatrix& b, int64_t col0, int64_t cols,
               float* tile, int64_t ld, float* sums) {
  switch (b.dtype) {
    case Dtype::kFloat16:
      return row_major_of(m, k, x, static_cast<const float16_t*>(b.data) + col0, b.row_stride, cols, tile, ld,
                          sums);
    case Dtype::kBFloat16:
      return row_major_of(m, k, x, static_cast<const bfloat16_t*>(b.data) + col0, b.row_stride, cols, tile,
                          ld, sums);
    default:
      return row_major_of(m, k, x, static_cast<const float*>(b.data) + col0, b.row_stride, cols, tile, ld,
                          sums);
  }
}

// Steps of a dot product whose lanes are summed up together.
constexpr int64_t kDotSteps = 1024;

// tile[i, c] (+)= dot(x[i, :], column c) over n <= kDotSteps steps, for kRows rows of x and kCols columns of
// B.
template <int kRows, int kCols, class T>
void add_dots(int64_t n, const float* HWY_RESTRICT x, int64_t ldx, const T* HWY_RESTRICT b, int64_t ldb,
              float* HWY_RESTRICT tile, int64_t ld, bool first) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V acc[kRows][kCols];
  unroll<kRows>([&](auto r) HWY_ATTR { unroll<kCols>([&](auto c) HWY_ATTR { acc[r][c] = hn::Zero(d); }); });
  int64_t k = 0;
  for (; k + lanes <= n; k += lanes) {
    V w[kCols];
    unroll<kCols>([&](auto c) HWY_ATTR { w[c] = load_as(d, b + c * ldb + k); });
    unroll<kRows>([&](auto r) HWY_ATTR {
      const V xv = hn::LoadU(d, x + r * ldx + k);
      unroll<kCols>([&](auto c) HWY_ATTR { acc[r][c] = hn::MulAdd(xv, w[c], acc[r][c]); });
    });
  }
  if (k < n) {
    const size_t left = static_cast<size_t>(n - k);
    V w[kCols];
    unroll<kCols>([&](auto c) HWY_ATTR { w[c] = load_part(d, b + c * ldb + k, left); });
    unroll<kRows>([&](auto r) HWY_ATTR {
      const V xv = load_part(d, x + r * ldx + k, left);
      unroll<kCols>([&](auto c) HWY_ATTR { acc[r][c] = hn::MulAdd(xv, w[c], acc[r][c]); });
    });
  }
  unroll<kRows>([&](auto r) HWY_ATTR {
    unroll<kCols>([&](auto c) HWY_ATTR {
      const float sum = hn::GetLane(hn::SumOfLanes(d, acc[r][c]));
      tile[r * ld + c] = first ? sum : tile[r * ld + c] + sum;
    });
  });
}

template <int kCols, class T>
void add_dots_rows(int64_t m, int64_t n, const float* x, int64_t ldx, const T* b, int64_t ldb, float* tile,
                   int64_t ld, bool first) {
  int64_t r = 0;
  for (; r + 4 <= m; r += 4) add_dots<4, kCols>(n, x + r * ldx, ldx, b, ldb, tile + r * ld, ld, first);
  switch (m - r) {
    case 3: return add_dots<3, kCols>(n, x + r * ldx, ldx, b, ldb, tile + r * ld, ld, first);
    case 2: return add_dots<2, kCols>(n, x + r * ldx, ldx, b, ldb, tile + r * ld, ld, first);
    case 1: return add_dots<1, kCols>(n, x + r * ldx, ldx, b, ldb, tile + r * ld, ld, first);
    default: return;
  }
}

template <class T>
void col_major_of(int64_t m, int64_t k, const float* x, const T* b, int64_t ldb, int64_t cols, float* tile,
                  int64_t ld) {
  const auto columns = [&](auto width, int64_t j) {
    for (int64_t k0 = 0; k0 < k; k0 += kDotSteps) {
      const int64_t n = std::min(kDotSteps, k - k0);
      if constexpr (width() == 8) {
        add_dots<1, 8>(n, x + k0, k, b + j * ldb + k0, ldb, tile + j, ld, k0 == 0);
      } else {
        add_dots_rows<width()>(m, n, x + k0, k, b + j * ldb + k0, ldb, tile + j, ld, k0 == 0);
      }
    }
  };
  int64_t j = 0;
  if (m == 1) {
    for (; j + 8 <= cols; j += 8) columns(std::integral_constant<int, 8>(), j);
  }
  for (; j + 4 <= cols; j += 4) columns(std::integral_constant<int, 4>(), j);
  for (; j < cols; ++j) columns(std::integral_constant<int, 1>(), j);
}

void col_major(int64_t m, int64_t k, const float* x, const GemmMatrix& b, int64_t col0, int64_t cols,
               float* tile, int64_t ld) {
  const int64_t ldb = b.col_stride, first = col0 * ldb;
  switch (b.dtype) {
    case Dtype::kFloat16:
      return col_major_of(m, k, x, static_cast<const float16_t*>(b.data) + first, ldb, cols, tile, ld);
    case Dtype::kBFloat16:
      return col_major_of(m, k, x, static_cast<const bfloat16_t*>(b.data) + first, ldb, cols, tile, ld);
    default: return col_major_of(m, k, x, static_cast<const float*>(b.data) + first, ldb, cols, tile, ld);
  }
}

}  // namespace

const GemmSkinny* skinny_kernels() {
  static constexpr GemmSkinny kTable = {row_major, col_major};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(skinny_kernels);

const GemmSkinny& gemm_skinny() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(skinny_kernels)();
}

}  // namespace lamina::cpu
#endif
