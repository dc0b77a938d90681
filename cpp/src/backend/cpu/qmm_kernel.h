#pragma once

#include <cstdint>

#include "lamina/dtype.h"

namespace lamina::cpu {

// One matrix in the affine format: `rows` rows of `cols` codes, packed along the columns.
struct QmmWeights {
  const uint8_t* codes;
  const void* scales;
  const void* biases;
  Dtype scale_dtype;
  int64_t rows, cols;
  int group, bits;

  int64_t row_bytes() const { return cols * bits / 8; }
  int64_t groups() const { return cols / group; }
};

// Activations arranged for the streaming kernels, [m] rows of `ld` floats each, and their sums per group.
struct QmmInput {
  const float* values;
  const float* sums;
  int64_t m, ld, sums_ld;
};

// Floats past the end of a row of sums or decoded scales that kernels may read; they hold zeros.
inline constexpr int64_t kQmmPad = 16;
// Rows of activations up to which weights are decoded on the fly, once for every four of them.
inline constexpr int64_t kQmmStreamRows = 8;

// Kernels that decode the weights to float32 in registers, for one instruction set.
struct QmmExact {
  // Floats that one row of arranged activations takes.
  int64_t (*arranged_elems)(int bits, int64_t k);
  // values[arranged_elems] and sums[k / group + kQmmPad] of one row x[k].
  void (*arrange)(int bits, int group, int64_t k, const float* x, float* values, float* sums);
  // Working floats of `stream`.
  int64_t (*stream_elems)(const QmmWeights& w);
  // tile[i, r] = dot(x[i, :], weight row row0 + r), i < x.m, r < rows, leading dimension ld.
  void (*stream)(const QmmWeights& w, int64_t row0, int64_t rows, const QmmInput& x, float* tile, int64_t ld,
                 float* work);
};

const QmmExact& qmm_exact();

// Makes slices of B for gemm_with_packer out of decoded weights.
struct QmmPack {
  // B = W^T: steps along the packed axis; and B = W: columns along it.
  void (*transposed)(const QmmWeights& w, int64_t k0, int64_t depth, int64_t col0, int64_t cols, float* dst);
  void (*plain)(const QmmWeights& w, int64_t k0, int64_t depth, int64_t col0, int64_t cols, float* dst);
};

const QmmPack& qmm_pack();

}  // namespace lamina::cpu
