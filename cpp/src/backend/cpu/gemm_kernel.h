#pragma once

#include <cstdint>

#include "backend/cpu/gemm.h"

namespace lamina::cpu {

// Steps of the shared axis that are summed in registers before they are added to the result. It fixes the
// order of summation, so it is one constant for all targets and sizes.
inline constexpr int64_t kGemmDepth = 256;

// The inner kernels of gemm for one instruction set; T is float or double. Packed operands are slices of at
// most kGemmDepth steps: A as panels of `mr` rows (the last one of fewer), element (r, k) of a panel with h
// rows at k * h + r; B as panels of `nr` columns (the last one padded with zeros), element (k, c) at k * nr +
// c. Both 64-byte aligned.
template <class T>
struct GemmKernels {
  int64_t mr, nr;
  // Packs rows [row0, row0 + rows) and steps [k0, k0 + depth) of A.
  void (*pack_a)(const GemmMatrix& a, int64_t row0, int64_t rows, int64_t k0, int64_t depth, T* dst);
  // Packs steps [k0, k0 + depth) and columns [col0, col0 + cols) of B.
  void (*pack_b)(const GemmMatrix& b, int64_t k0, int64_t depth, int64_t col0, int64_t cols, T* dst);
  // c[rows x cols] = a b, or += with accumulate.
  void (*multiply)(int64_t rows, int64_t cols, int64_t depth, const T* a, const T* b, T* c, int64_t ldc,
                   bool accumulate);
  // row[j] = alpha * row[j] + beta * c0[j * step]; c0 may be null.
  void (*scale)(T* row, int64_t n, double alpha, double beta, const void* c0, Dtype c0_dtype, int64_t step);
  // dst[k * step + r] = the element k of dtype at rows[r], for r < width, k < depth: a panel whose rows or
  // columns lie anywhere.
  void (*pack_scattered)(const void* const* rows, Dtype dtype, int64_t width, int64_t depth, T* dst,
                         int64_t step);
  // Rounds row[0, n) to dtype at dst; and tile[rows][cols], rows dst_ld elements apart.
  void (*store)(const T* row, int64_t n, void* dst, Dtype dtype);
  void (*store_tile)(const T* tile, int64_t ld, int64_t rows, int64_t cols, void* dst, int64_t dst_ld,
                     Dtype dtype);
  // row[0, n) = what lies at src.
  void (*load)(const void* src, Dtype dtype, int64_t n, T* row);

  int64_t packed_a_elems(int64_t rows, int64_t depth) const { return rows * depth; }
  int64_t packed_b_elems(int64_t cols, int64_t depth) const { return (cols + nr - 1) / nr * nr * depth; }
};

// The kernels of the instruction set in use.
template <class T>
const GemmKernels<T>& gemm_kernels();
template <>
const GemmKernels<float>& gemm_kernels<float>();
template <>
const GemmKernels<double>& gemm_kernels<double>();

// dst[0, n) = the first row of a matrix of any strides, as float32; and the way back, rounded to the matrix's
// dtype.
void load_row_f32(const GemmMatrix& row, int64_t n, float* dst);
void store_row_f32(const float* src, int64_t n, const GemmMatrix& row);

// Makes a packed slice of B as GemmKernels::pack_b does.
using GemmPacker = FunctionRef<void(int64_t k0, int64_t depth, int64_t col0, int64_t cols, float* dst)>;
// One problem of gemm() with float32 accumulation, where B exists only as a packer: args.b is not looked at.
// The packer is called by pool threads at once, more than once for a slice; col0 is a multiple of 32.
void gemm_with_packer(const GemmArgs& args, int64_t problem, const GemmPacker& pack_b, bool parallel);

// Makes a packed slice of A as GemmKernels::pack_a does.
template <class T>
using GemmRowPacker = FunctionRef<void(int64_t row0, int64_t rows, int64_t k0, int64_t depth, T* dst)>;
template <class T>
using GemmColumnPacker = FunctionRef<void(int64_t k0, int64_t depth, int64_t col0, int64_t cols, T* dst)>;
// The first problem of gemm() with sums in T (float or double), where A or B exists only as a packer: args.a
// or args.b is not looked at. Packers are called by pool threads at once, that of B more than once for a
// slice.
template <class T>
void gemm_with_packed_rows(const GemmArgs& args, const GemmRowPacker<T>& pack_a, bool parallel);
template <class T>
void gemm_with_packed_columns(const GemmArgs& args, const GemmColumnPacker<T>& pack_b, bool parallel);

// Products with few rows (m <= kSkinnyRows), for which B is streamed once, unpacked. x is float32 [m, k]
// row-major.
inline constexpr int64_t kSkinnyRows = 16;
// Rows of B rather than columns: the packed kernels are the faster ones from fewer rows on.
inline constexpr int64_t kSkinnyRowsRowMajor = 6;
struct GemmSkinny {
  // tile[m, cols] (leading dimension ld) = x B[:, col0 : col0 + cols], B with unit column stride. Same order
  // of summation as the packed kernels. `sums` is working memory of m * cols floats.
  void (*row_major)(int64_t m, int64_t k, const float* x, const GemmMatrix& b, int64_t col0, int64_t cols,
                    float* tile, int64_t ld, float* sums);
  // The same for B with unit row stride (each column contiguous).
  void (*col_major)(int64_t m, int64_t k, const float* x, const GemmMatrix& b, int64_t col0, int64_t cols,
                    float* tile, int64_t ld);
};
const GemmSkinny& gemm_skinny();

// Tiles for products of bfloat16: 16 rows and 32 steps of the left operand, [16][32], and 32 steps and 16
// columns of the right one, [16][16][2]: steps 2 i and 2 i + 1 of column c at [i][c]. Two tiles of rows or
// columns side by side are a strip: [steps of 32][2 tiles], or [steps of 32][1] of the last tile of an odd
// number.
inline constexpr int64_t kGemmTile = 16, kGemmTileSteps = 32, kGemmTileElems = kGemmTile * kGemmTileSteps;
// Steps of whole tiles.
inline int64_t gemm_padded_steps(int64_t depth) {
  return (depth + kGemmTileSteps - 1) / kGemmTileSteps * kGemmTileSteps;
}
struct GemmTiles {
  bool in_amx;  // whether products need AmxTiles of whole tiles
  // One strip: rows [row0, row0 + rows) or columns [col0, col0 + cols), and steps [k0, k0 + depth); steps
  // past them in the tiles are zero. Strips of more than two tiles are laid out alike.
  void (*pack_rows)(const GemmMatrix& a, int64_t row0, int64_t rows, int64_t k0, int64_t depth,
                    bfloat16_t* dst);
  void (*pack_cols)(const GemmMatrix& b, int64_t col0, int64_t cols, int64_t k0, int64_t depth,
                    bfloat16_t* dst);
  // sums[rows][cols] (leading dimension ld) = the product of two strips; all of their tiles may be written.
  void (*multiply)(const bfloat16_t* left, int64_t rows, const bfloat16_t* right, int64_t cols,
                   int64_t step_tiles, float* sums, int64_t ld);
  // The same for up to 32 rows and any number of columns of B, which lie in memory with unit row stride. The
  // rows are the strip that pack_cols makes of them as columns.
  void (*multiply_columns)(const GemmMatrix& b, int64_t col0, int64_t cols, int64_t k0, int64_t depth,
                           const bfloat16_t* left, int64_t rows, float* sums, int64_t ld);
};
// Those of AMX, and those of avx512_bf16; only for a CPU that has them, and the SIMD target avx3_dl or amx.
//
// Sums of dots: pairs of steps in order, of each pair the second step's product and then the first one's,
// each exact and added with one rounding to nearest even (by Intel's definition of vdpbf16ps). As in AMX,
// subnormal operands and results count as zero, whatever the thread's modes are, and nothing is signalled.
const GemmTiles& gemm_tiles();
const GemmTiles& gemm_dots();

}  // namespace lamina::cpu
