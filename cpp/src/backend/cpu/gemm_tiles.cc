#include <algorithm>
#include <cstring>

#include "backend/cpu/amx.h"
#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/simd_target.h"

#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm_tiles.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/gemm_convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

#if HWY_TARGET == HWY_AVX3_DL

constexpr int64_t kSteps = kGemmTileSteps, kSide = kGemmTile;

const uint16_t* bits_at(const GemmMatrix& m, int64_t row, int64_t col) {
  return static_cast<const uint16_t*>(m.data) + row * m.row_stride + col * m.col_stride;
}

// dst[0, 32) = n <= 32 elements `step` apart, then zeros.
HWY_INLINE void copy_steps(const uint16_t* src, int64_t step, int64_t n, uint16_t* dst) {
  if (step == 1) {
    const __mmask32 mask = n < kSteps ? (__mmask32{1} << n) - 1 : ~__mmask32{0};
    _mm512_storeu_si512(dst, _mm512_maskz_loadu_epi16(mask, src));
    return;
  }
  for (int64_t k = 0; k < kSteps; ++k) dst[k] = k < n ? src[k * step] : 0;
}

void pack_rows(const GemmMatrix& a, int64_t row0, int64_t rows, int64_t k0, int64_t depth, bfloat16_t* dst) {
  auto* out = reinterpret_cast<uint16_t*>(dst);
  const int64_t padded = (rows + kSide - 1) / kSide * kSide;
  for (int64_t k = 0; k < depth; k += kSteps, out += padded * kSteps) {
    const int64_t n = std::min(kSteps, depth - k);
    for (int64_t r = 0; r < rows; ++r)
      copy_steps(bits_at(a, row0 + r, k0 + k), a.col_stride, n, out + r * kSteps);
    std::memset(out + rows * kSteps, 0, static_cast<size_t>((padded - rows) * kSteps) * 2);
  }
}

// dst[16 k + r] = word k of row r, for 16 rows of 16 words, `row` giving where they begin.
template <class Row>
HWY_INLINE void transpose_tile(const Row& row, uint16_t* dst) {
  __m512 v[16], w[16];
  unroll<16>([&](auto r) HWY_ATTR { v[r] = _mm512_loadu_ps(row(r)); });
  unroll<8>([&](auto i) HWY_ATTR {
    w[2 * i] = _mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]);
    w[2 * i + 1] = _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]);
  });
  const auto pd = [](__m512 x) HWY_ATTR { return _mm512_castps_pd(x); };
  // v[4 g + j]: in each lane L of 128 bits, word 4 L + j of rows 4 g to 4 g + 3.
  unroll<4>([&](auto g) HWY_ATTR {
    unroll<2>([&](auto i) HWY_ATTR {
      const __m512d low = pd(w[4 * g + i]), high = pd(w[4 * g + i + 2]);
      v[4 * g + 2 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      v[4 * g + 2 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    });
  });
  unroll<4>([&](auto j) HWY_ATTR {
    const __m512 even0 = _mm512_shuffle_f32x4(v[j], v[4 + j], 0x88);
    const __m512 even1 = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0x88);
    const __m512 odd0 = _mm512_shuffle_f32x4(v[j], v[4 + j], 0xdd);
    const __m512 odd1 = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0xdd);
    _mm512_storeu_ps(dst + 32 * j, _mm512_shuffle_f32x4(even0, even1, 0x88));
    _mm512_storeu_ps(dst + 32 * (4 + j), _mm512_shuffle_f32x4(odd0, odd1, 0x88));
    _mm512_storeu_ps(dst + 32 * (8 + j), _mm512_shuffle_f32x4(even0, even1, 0xdd));
    _mm512_storeu_ps(dst + 32 * (12 + j), _mm512_shuffle_f32x4(odd0, odd1, 0xdd));
  });
}

// Columns whose steps are next to one another: pairs of steps are words to be turned. One tile after another,
// `step_elems` apart; the last column is repeated.
void pack_long_cols(const GemmMatrix& b, int64_t col0, int64_t cols, int64_t k0, int64_t depth, uint16_t* dst,
                    int64_t step_elems) {
  for (int64_t k = 0; k < depth; k += kSteps, dst += step_elems) {
    const auto column = [&](int64_t c) { return bits_at(b, k0 + k, col0 + std::min(c, cols - 1)); };
    if (depth - k >= kSteps) {
      transpose_tile(column, dst);
      continue;
    }
    HWY_ALIGN uint16_t rest[kSide][kSteps];
    for (int64_t c = 0; c < kSide; ++c) copy_steps(column(c), 1, depth - k, rest[c]);
    transpose_tile([&](int64_t c) { return rest[c]; }, dst);
  }
}

// Steps whose columns are next to one another: two of them are interleaved.
void pack_wide_steps(const GemmMatrix& b, int64_t col0, int64_t cols, int64_t k0, int64_t depth,
                     uint16_t* dst, int64_t step_elems) {
  const auto mask = static_cast<__mmask16>((1u << cols) - 1);
  const auto load = [&](int64_t k) HWY_ATTR {
    const __m256i row =
        k < depth ? _mm256_maskz_loadu_epi16(mask, bits_at(b, k0 + k, col0)) : _mm256_setzero_si256();
    return _mm512_cvtepu16_epi32(row);
  };
  for (int64_t k = 0; k < depth; k += kSteps, dst += step_elems) {
    for (int64_t i = 0; i < kSteps; i += 2) {
      _mm512_storeu_si512(dst + i * kSide,
                          _mm512_or_si512(load(k + i), _mm512_slli_epi32(load(k + i + 1), 16)));
    }
  }
}

void pack_scattered_steps(const GemmMatrix& b, int64_t col0, int64_t cols, int64_t k0, int64_t depth,
                          uint16_t* dst, int64_t step_elems) {
  for (int64_t k = 0; k < gemm_padded_steps(depth); ++k) {
    uint16_t* out = dst + k / kSteps * step_elems + k % kSteps / 2 * 2 * kSide + k % 2;
    for (int64_t c = 0; c < kSide; ++c)
      out[2 * c] = k < depth && c < cols ? *bits_at(b, k0 + k, col0 + c) : 0;
  }
}

void pack_cols(const GemmMatrix& b, int64_t col0, int64_t cols, int64_t k0, int64_t depth, bfloat16_t* dst) {
  const auto pack = b.row_stride == 1   ? pack_long_cols
                    : b.col_stride == 1 ? pack_wide_steps
                                        : pack_scattered_steps;
  const int64_t step_elems = (cols + kSide - 1) / kSide * kGemmTileElems;
  for (int64_t c = 0; c < cols; c += kSide, dst += kGemmTileElems) {
    pack(b, col0 + c, std::min(kSide, cols - c), k0, depth, reinterpret_cast<uint16_t*>(dst), step_elems);
  }
}

// Tiles 0 to 3 hold the sums, 4 and 5 the left operand, 6 and 7 the right one.
template <int kRowTiles, int kColTiles>
void multiply_tiles(const bfloat16_t* left, const bfloat16_t* right, int64_t step_tiles, float* sums,
                    int64_t ld) {
  amx_zero<0>();
  amx_zero<1>();
  amx_zero<2>();
  amx_zero<3>();
  for (int64_t s = 0; s < step_tiles; ++s) {
    amx_load<4>(left, 64);
    amx_load<6>(right, 64);
    amx_dot_bf16<0, 4, 6>();
    if constexpr (kColTiles > 1) {
      amx_load<7>(right + kGemmTileElems, 64);
      amx_dot_bf16<1, 4, 7>();
    }
    if constexpr (kRowTiles > 1) {
      amx_load<5>(left + kGemmTileElems, 64);
      amx_dot_bf16<2, 5, 6>();
      if constexpr (kColTiles > 1) amx_dot_bf16<3, 5, 7>();
    }
    left += kRowTiles * kGemmTileElems;
    right += kColTiles * kGemmTileElems;
  }
  amx_store<0>(sums, ld * 4);
  if constexpr (kColTiles > 1) amx_store<1>(sums + kSide, ld * 4);
  if constexpr (kRowTiles > 1) amx_store<2>(sums + kSide * ld, ld * 4);
  if constexpr (kRowTiles > 1 && kColTiles > 1) amx_store<3>(sums + kSide * ld + kSide, ld * 4);
}

void multiply(const bfloat16_t* left, int64_t rows, const bfloat16_t* right, int64_t cols, int64_t step_tiles,
              float* sums, int64_t ld) {
  const auto run = rows > kSide ? (cols > kSide ? multiply_tiles<2, 2> : multiply_tiles<2, 1>)
                                : (cols > kSide ? multiply_tiles<1, 2> : multiply_tiles<1, 1>);
  run(left, right, step_tiles, sums, ld);
}

// 16 rows of the left operand from where they lie, `stride` elements apart, or fewer of them.
template <int kColTiles>
void multiply_lying(const uint16_t* left, int64_t stride, int64_t rows, const bfloat16_t* right,
                    int64_t depth, float* sums) {
  HWY_ALIGN uint16_t copy[kSide][kSteps] = {};
  amx_zero<0>();
  amx_zero<1>();
  for (int64_t k = 0; k < depth; k += kSteps, right += kColTiles * kGemmTileElems) {
    if (rows == kSide && depth - k >= kSteps) {
      amx_load<4>(left + k, stride * 2);
    } else {
      for (int64_t r = 0; r < rows; ++r)
        copy_steps(left + r * stride + k, 1, std::min(kSteps, depth - k), copy[r]);
      amx_load<4>(copy, 64);
    }
    amx_load<6>(right, 64);
    amx_dot_bf16<0, 4, 6>();
    if constexpr (kColTiles > 1) {
      amx_load<7>(right + kGemmTileElems, 64);
      amx_dot_bf16<1, 4, 7>();
    }
  }
  amx_store<0>(sums, 64);
  if constexpr (kColTiles > 1) amx_store<1>(sums + kSide * kSide, 64);
}

void multiply_columns(const GemmMatrix& b, int64_t col0, int64_t cols, int64_t k0, int64_t depth,
                      const bfloat16_t* left, int64_t rows, float* sums, int64_t ld) {
  HWY_ALIGN float tile[2][kSide * kSide];
  // Here the rows are the right operand.
  const int64_t row_tiles = rows > kSide ? 2 : 1;
  for (int64_t c = 0; c < cols; c += kSide) {
    const auto run = row_tiles > 1 ? multiply_lying<2> : multiply_lying<1>;
    run(bits_at(b, k0, col0 + c), b.col_stride, std::min(kSide, cols - c), left, depth, tile[0]);
    for (int64_t t = 0; t < row_tiles; ++t) {
      const auto column = [&](int64_t r) { return tile[t] + r * kSide; };
      transpose_words_of(column, kSide, kSide, sums + t * kSide * ld + c, ld);
    }
  }
}

#endif

}  // namespace

const GemmTiles* gemm_tile_kernels() {
#if HWY_TARGET == HWY_AVX3_DL
  static constexpr GemmTiles kTable = {true, pack_rows, pack_cols, multiply, multiply_columns};
  return &kTable;
#else
  return nullptr;
#endif
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(gemm_tile_kernels);

const GemmTiles& gemm_tiles() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(gemm_tile_kernels)();
}

}  // namespace lamina::cpu
#endif
