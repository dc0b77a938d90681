#pragma once

#include <cstdint>

#include "lamina/dtype.h"
#include "lamina/quant.h"

namespace lamina::cpu {

// One stored matrix: `rows` rows of `cols` elements in blocks along the columns. Outside kAffine there are no
// biases and no bits, the scales are bytes (or none), and `group` is the format's block.
struct QmmWeights {
  const uint8_t* codes;
  const void* scales;
  const void* biases;
  Dtype scale_dtype;
  int64_t rows, cols;
  int group, bits;
  QuantFormat format;
  int64_t code_row_bytes, scale_row_bytes;

  int64_t row_bytes() const { return code_row_bytes; }
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

// Kernels for few rows of activations that decode the weights to float32 as they go, for one instruction set.
struct QmmExact {
  // Floats that one row of arranged activations takes.
  int64_t (*arranged_elems)(const QmmWeights& w);
  // values[arranged_elems] and sums[groups + kQmmPad] of one row x[cols].
  void (*arrange)(const QmmWeights& w, const float* x, float* values, float* sums);
  // Working floats of `stream`.
  int64_t (*stream_elems)(const QmmWeights& w);
  // tile[i, r] = dot(x[i, :], weight row row0 + r), i < x.m, r < rows, leading dimension ld.
  void (*stream)(const QmmWeights& w, int64_t row0, int64_t rows, const QmmInput& x, float* tile, int64_t ld,
                 float* work);
};

const QmmExact& qmm_exact(QuantFormat format);

// Makes slices of B for gemm_with_packer out of decoded weights.
struct QmmPack {
  // B = W^T: steps along the packed axis; and B = W: columns along it.
  void (*transposed)(const QmmWeights& w, int64_t k0, int64_t depth, int64_t col0, int64_t cols, float* dst);
  void (*plain)(const QmmWeights& w, int64_t k0, int64_t depth, int64_t col0, int64_t cols, float* dst);
};

const QmmPack& qmm_pack(QuantFormat format);

// Both for every format of quant/formats.h: rows are decoded to float32 in the cache first.
struct QmmBlocks {
  QmmExact exact;
  QmmPack pack;
};

const QmmBlocks& qmm_blocks();

// Activations of one row in 8 bits: per group of the weights, x is about scale * q with q in [-127, 127], and
// `sums` holds scale * (sum of q). Codes are regrouped: unit u of 4 bytes meets the same bytes of plane u % P
// of weight word u / P, where a word holds P = 8 / bits codes in each byte (P = 1 for widths that do not
// divide 8: they are widened to bytes).
struct QmmInt8Row {
  int32_t* units;  // k / 4
  float* scales;   // k / group + kQmmPad
  float* sums;     // k / group + kQmmPad
};

// Kernels of the int8 mode for one instruction set. Both give the same bits: for groups in order,
// total += fma(dot, weight scale * activation scale, weight bias * activation sum).
struct QmmInt8 {
  // Rows and columns of a register tile of `multiply`.
  int64_t mr, nr;
  void (*quantize_row)(int bits, int group, int64_t k, const float* x, const QmmInt8Row& row);

  // 32-bit units that `arrange` writes, and working bytes of `stream`; for bits that divide 8.
  int64_t (*stream_units)(int bits, int64_t k);
  int64_t (*stream_bytes)(const QmmWeights& w);
  void (*arrange)(int bits, int64_t k, const int32_t* units, int32_t* arranged);
  // tile[i * ld + r] for weight rows row0 + r, r < rows, and m activations: units arranged, `stream_units`
  // apart; scales and sums `edges_ld` apart.
  void (*stream)(const QmmWeights& w, int64_t row0, int64_t rows, int64_t m, const int32_t* units,
                 const float* scales, const float* sums, int64_t edges_ld, float* tile, int64_t ld,
                 void* work);

  // Words of one column of a panel.
  int64_t (*panel_words)(const QmmWeights& w);
  // A panel of nr weight rows: words[panel_words * nr] and edges[2 * groups * nr] (scales, then biases).
  void (*pack)(const QmmWeights& w, int64_t row0, int32_t* words, float* edges);
  // tile[rows x nr] from a panel and `rows` <= mr activation rows: unit u of row i at units[u * rows + i],
  // its scale and sum of group g at edges[2 * g * rows + i] and edges[(2 * g + 1) * rows + i]. Fetches `next`
  // into the cache meanwhile.
  void (*multiply)(const QmmWeights& w, int64_t rows, const int32_t* units, const float* x_edges,
                   const int32_t* words, const float* w_edges, float* tile, int64_t ld, const uint8_t* next,
                   int64_t next_bytes);
};

const QmmInt8& qmm_int8();

}  // namespace lamina::cpu
