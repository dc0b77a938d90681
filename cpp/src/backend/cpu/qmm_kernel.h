#pragma once

#include <cstdint>

#include "lamina/dtype.h"
#include "lamina/quant.h"
#include "quant/formats.h"

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
  IntegerForm integers;  // of affine weights too, without a reader; a group of 0 where there is none

  int64_t row_bytes() const { return code_row_bytes; }
  int64_t groups() const { return cols / group; }
  int64_t integer_groups() const { return cols / integers.group; }
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

// Weights as integers, for one instruction set.
struct QmmCodes {
  // dst[r * ld + i] = code first + i of row row0 + r, for i < n; rows past the last one repeat it. first and
  // n are multiples of 32 and of the format's block, or of 16 for nvfp4.
  void (*widen)(const QmmWeights& w, int64_t row0, int64_t rows, int64_t first, int64_t n, uint8_t* dst,
                int64_t ld);
  // The scale and, where biased, the bias of group g of row row0 + r at [g * width + r]; rows past the last
  // one repeat it. width is a multiple of 4, or less.
  void (*edges)(const QmmWeights& w, int64_t row0, int64_t width, float* scales, float* biases);
};
const QmmCodes& qmm_codes();

// The int8 mode. Of each group of the weights, activations are about scale * q with whole q in [-127, 127].
// A result begins at zero; biased formats add weight bias * (scale * sum of q), then all formats add
// (dot * scale) * weight scale, for groups in order, each with one rounding of the product and the sum, where
// dot is the integer sum of (code - offset) * q. All kernels of all instruction sets give these bits.
//
// Activations of one row. Codes are regrouped for kernels that read packed weights: unit u of 4 bytes meets
// the same bytes of plane u % P of weight word u / P, where a word holds P codes in each byte (P = 1: in
// order).
struct QmmInt8Row {
  int32_t* units;   // k / 4
  float* scales;    // k / group + kQmmPad
  float* sums;      // the same: scale * (sum of q)
  int32_t* starts;  // the same: where dots of codes begin, -offset * (sum of q) or what kernels need more
};

// A panel of nr weight rows against some rows of activations.
struct QmmPanelArgs {
  int64_t group, groups;
  bool biased;
  int64_t rows;          // of activations, up to mr
  const int32_t* units;  // unit u of row i at [u * rows + i]
  const float* x_edges;  // [groups][3][rows]: scales, sums, starts (int32)
  const int32_t* words;  // [words of a column][nr]
  const float* w_edges;  // [2][groups][nr]: scales, biases
  float* tile;           // [rows][ld]
  int64_t ld;
  const uint8_t* next;  // comes into the cache meanwhile
  int64_t next_bytes;
};

// Rows of activations that are streamed together at most.
inline constexpr int64_t kQmmStreamed = 8;

// Weight rows [row0, row0 + count); rows from `next` on are probably wanted after them.
struct QmmRowSpan {
  int64_t row0, count, next;
};

// Up to most_rows rows of activations against the weight rows of a span: tile[m][span.count]. Their units are
// arranged for the weights first: units_of of each, in one plane or, where packed weights are read, 8 / bits.
// `work` is of work_bytes.
struct QmmInt8Stream {
  int64_t (*most_rows)(const QmmWeights& w);
  int64_t (*planes)(const QmmWeights& w);
  int64_t (*units_of)(const QmmWeights& w);
  int64_t (*work_bytes)(const QmmWeights& w);
  void (*arrange)(const QmmWeights& w, const int32_t* units, int32_t* arranged);
  void (*stream)(const QmmWeights& w, const QmmRowSpan& span, const QmmInt8Row* x, int64_t m, float* tile,
                 void* work);
};
const QmmInt8Stream& qmm_int8_stream();

struct QmmInt8 {
  // Rows and columns of a register tile of `multiply`.
  int64_t mr, nr;
  void (*quantize_row)(const QmmWeights& w, int64_t planes, const float* x, const QmmInt8Row& row);

  // Panels of nr weight rows, as packed as they are stored (8 / bits planes, if that is whole and formats are
  // affine) or with a byte for a code (1 plane). words[panel_words * nr].
  int64_t (*panel_words)(const QmmWeights& w, int64_t planes);
  void (*pack)(const QmmWeights& w, int64_t planes, int64_t row0, int32_t* words, float* edges);
  void (*multiply)(const QmmWeights& w, int64_t planes, const QmmPanelArgs& a);
};
const QmmInt8& qmm_int8();

// 64 weight rows against 16 rows of activations in the tiles of AMX.
inline constexpr int64_t kQmmTileRows = 64, kQmmTileCols = 16;
struct QmmTileArgs {
  const uint8_t* codes;  // row r at r * codes_ld, [64]; signed ones, less their offset, where it is not 0
  int64_t codes_ld;
  const int32_t* units;  // [k / 4][16]: four activations of row m at [.][m]
  int64_t group, groups;
  const float* w_scales;  // [groups][64]
  const float* x_scales;  // [groups][16]
  float* totals;          // [64 weight rows][16 activations], added to
  // Comes into the second-level cache meanwhile: 64 rows of next_bytes, next_ld apart.
  const uint8_t* next;
  int64_t next_ld, next_bytes;
};
struct QmmTiles {
  void (*multiply_unsigned)(const QmmTileArgs& a);
  void (*multiply_signed)(const QmmTileArgs& a);
  // totals[r][m] = the sum over groups of w_biases[g][r] * x_sums[g][m].
  void (*add_biases)(int64_t groups, const float* w_biases, const float* x_sums, float* totals);
  // Codes of rows [row0, row0 + 64), `n` from `first` on, as multiply wants them: rows of n bytes.
  void (*widen)(const QmmWeights& w, int64_t row0, int64_t first, int64_t n, uint8_t* dst);
  // to[u * 16 + m] = row m's unit u of rows [rows][units]; the last row is repeated.
  void (*interleave)(const int32_t* from, int64_t rows, int64_t units, int32_t* to);
  // tile[16][64] = totals [64][16] the other way round.
  void (*turn)(const float* totals, float* tile);
};
const QmmTiles& qmm_tiles();

// Up to 16 rows of activations as the right operand of tiles, for weights that are read sixteen rows at a
// time.
struct QmmTileInput {
  int64_t cols;          // 8 or 16; the last rows are repeated
  int32_t* units;        // [units of a row, in the order of QmmInt8Stream::arrange][cols]
  float *scales, *sums;  // [groups][16], those of 8 rows twice
  int32_t* starts;       // the same
};
struct QmmTileStream {
  // Whether there is a kernel for these weights.
  bool (*streams)(const QmmWeights& w);
  // Makes x of m rows whose `units` are arranged.
  void (*fill)(const QmmWeights& w, const QmmInt8Row* rows, int64_t m, int64_t units, const QmmTileInput& x);
  // As QmmInt8Stream::stream.
  void (*stream)(const QmmWeights& w, const QmmRowSpan& span, const QmmTileInput& x, int64_t m, float* tile,
                 void* work);
};
const QmmTileStream& qmm_tile_stream();

}  // namespace lamina::cpu
