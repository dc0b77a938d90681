// Products of bfloat16 by vdpbf16ps, over the tiles that AMX has (gemm_kernel.h).
#include <algorithm>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/simd_target.h"

#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm_dots.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/gemm_convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX3_DL

constexpr int64_t kSteps = kGemmTileSteps, kSide = kGemmTile, kPairs = kSteps / 2;
// Tiles of steps whose right operand stays in the first-level cache while rows pass by.
constexpr int64_t kKeptTiles = 8, kKeptWideTiles = 4;

using Pair = uint32_t __attribute__((may_alias));

// sum + the dots of pairs, lane by lane.
HWY_INLINE __m512 add_dots(__m512 sum, __m512i a, __m512i b) {
  // The target's attribute list lacks avx512bf16, which not every CPU of this target has.
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
}

// Where the numbers of a left operand are, in elements: the next row, the next pair, the next tile of steps.
template <int64_t kRow, int64_t kPair>
struct Left {
  const bfloat16_t* first;
  int64_t tile;
  HWY_INLINE __m512i pair(int64_t row, int64_t i) const {
    return _mm512_set1_epi32(
        static_cast<int>(*reinterpret_cast<const Pair*>(first + row * kRow + i * kPair)));
  }
};

// sums[kRows][kTiles * 16] = the products of so many tiles of steps, or += where they are not the first ones.
template <int kRows, int kTiles, class L>
void multiply_block(L left, const bfloat16_t* right, int64_t right_tile, int64_t step_tiles, bool first,
                    float* sums, int64_t ld) {
  __m512 acc[kRows][kTiles];
  unroll<kRows>([&](auto r) HWY_ATTR {
    unroll<kTiles>([&](auto t) HWY_ATTR {
      acc[r][t] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(sums + r * ld + t * kSide);
    });
  });
  for (; step_tiles > 0; --step_tiles, left.first += left.tile, right += right_tile) {
    for (int64_t i = 0; i < kPairs; ++i) {
      __m512i b[kTiles];
      unroll<kTiles>([&](auto t)
                         HWY_ATTR { b[t] = _mm512_loadu_si512(right + t * kGemmTileElems + i * kSteps); });
      unroll<kRows>([&](auto r) HWY_ATTR {
        const __m512i a = left.pair(r, i);
        unroll<kTiles>([&](auto t) HWY_ATTR { acc[r][t] = add_dots(acc[r][t], a, b[t]); });
      });
    }
  }
  unroll<kRows>([&](auto r) HWY_ATTR {
    unroll<kTiles>([&](auto t) HWY_ATTR { _mm512_storeu_ps(sums + r * ld + t * kSide, acc[r][t]); });
  });
}

// Rows of a strip beyond `rows`, up to the end of a tile, may be multiplied too.
void multiply(const bfloat16_t* left, int64_t rows, const bfloat16_t* right, int64_t cols, int64_t step_tiles,
              float* sums, int64_t ld) {
  using Rows = Left<kSteps, 2>;
  const int64_t left_tile = (rows > kSide ? 2 : 1) * kGemmTileElems;
  const int64_t right_tile = (cols > kSide ? 2 : 1) * kGemmTileElems;
  for (int64_t s = 0; s < step_tiles; s += kKeptTiles) {
    const int64_t tiles = std::min(kKeptTiles, step_tiles - s);
    for (int64_t r = 0; r < rows;) {
      const Rows at{left + s * left_tile + r / kSide * kGemmTileElems + r % kSide * kSteps, left_tile};
      const bool wide = cols > kSide;
      const int64_t height = rows - r > 4 ? 8 : rows - r > 1 ? 4 : 1;
      const auto run = height == 8   ? (wide ? multiply_block<8, 2, Rows> : multiply_block<8, 1, Rows>)
                       : height == 4 ? (wide ? multiply_block<4, 2, Rows> : multiply_block<4, 1, Rows>)
                                     : (wide ? multiply_block<1, 2, Rows> : multiply_block<1, 1, Rows>);
      run(at, right + s * right_tile, right_tile, tiles, s == 0, sums + r * ld, ld);
      r += height;
    }
  }
}

// Columns are packed some at a time, in the first-level cache.
void multiply_columns(const GemmMatrix& b, int64_t col0, int64_t cols, int64_t k0, int64_t depth,
                      const bfloat16_t* left, int64_t rows, float* sums, int64_t ld) {
  using Columns = Left<2, kSteps>;
  constexpr int64_t kWide = 4;
  HWY_ALIGN uint16_t room[kWide * kKeptWideTiles * kGemmTileElems];
  auto* packed = reinterpret_cast<bfloat16_t*>(room);
  const int64_t left_tile = (rows > kSide ? 2 : 1) * kGemmTileElems;
  for (int64_t c = 0; c < cols;) {
    const int64_t wide = cols - c > (kWide - 1) * kSide ? kWide : 1;
    for (int64_t k = 0; k < depth; k += kKeptWideTiles * kSteps) {
      const int64_t steps = std::min(kKeptWideTiles * kSteps, depth - k);
      const int64_t tiles = gemm_padded_steps(steps) / kSteps;
      gemm_tiles().pack_cols(b, col0 + c, std::min(wide * kSide, cols - c), k0 + k, steps, packed);
      for (int64_t r = 0; r < rows;) {
        const Columns at{left + k / kSteps * left_tile + r / kSide * kGemmTileElems + r % kSide * 2,
                         left_tile};
        const int64_t height = rows - r > 1 ? 4 : 1;
        const auto run =
            height == 4 ? (wide == kWide ? multiply_block<4, kWide, Columns> : multiply_block<4, 1, Columns>)
                        : (wide == kWide ? multiply_block<1, kWide, Columns> : multiply_block<1, 1, Columns>);
        run(at, packed, wide * kGemmTileElems, tiles, k == 0, sums + r * ld + c, ld);
        r += height;
      }
    }
    c += wide * kSide;
  }
}

#endif

}  // namespace

const GemmTiles* gemm_dot_kernels() {
#if HWY_TARGET == HWY_AVX3_DL
  // Packed as for AMX.
  static const GemmTiles kTable = {false, gemm_tiles().pack_rows, gemm_tiles().pack_cols, multiply,
                                   multiply_columns};
  return &kTable;
#else
  return nullptr;
#endif
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(gemm_dot_kernels);

const GemmTiles& gemm_dots() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(gemm_dot_kernels)();
}

}  // namespace lamina::cpu
#endif
