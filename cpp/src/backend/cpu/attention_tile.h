#pragma once

#include <cstdint>

#include "lamina/dtype.h"

namespace lamina::cpu {

// Keys whose softmax is one step, counted from position 0. It fixes the order of summation: a tile's weights
// are relative to its own peak, its sums are over ascending keys, and tiles are combined in order.
inline constexpr int64_t kAttentionTile = 256;
// Keys that are packed together.
inline constexpr int64_t kAttentionPanel = 32;
// Distance of rows of scores in memory: not a multiple of the number of cache sets.
inline constexpr int64_t kScoreStep = kAttentionTile + 16;
// Rows of loaded keys and values and of sums are a multiple of this many floats long.
inline constexpr int64_t kAttentionLanes = 16;
constexpr int64_t attention_row(int64_t dim) {
  return (dim + kAttentionLanes - 1) / kAttentionLanes * kAttentionLanes;
}

// How a row of keys or values is stored; the last two are those of quant/kv_rows.h.
enum class RowFormat : uint8_t { kFloat32, kFloat16, kBFloat16, kCodes8, kCodes4 };

// Up to a panel of rows, anywhere; scales where the format has them. Rows that are null are not there.
struct RowPanel {
  RowFormat format = RowFormat::kFloat32;
  int64_t count = 0, row_bytes = 0;
  const void* rows[kAttentionPanel];
  const float16_t* scales[kAttentionPanel];
  const RowPanel* ahead = nullptr;  // what will be loaded next: asked of the memory meanwhile
};

// Keys [begin, end) of a tile.
struct KeyRange {
  int64_t begin = 0, end = 0;
  bool empty() const { return begin >= end; }
};

// Pieces of attention for one instruction set. Rows of scores are kScoreStep apart, 64-byte aligned. Scores
// are binary logarithms of weights. All kernels but those that pack take at most `block` rows.
struct AttentionTiles {
  int64_t block;
  // dst[i, 0 : dim] = row i as float32, then zeros up to ld, a multiple of kAttentionLanes. Whether all are
  // finite. Rows that are not there are left as they are.
  bool (*load_rows)(const RowPanel& rows, int64_t dim, float* dst, int64_t ld);
  // dst[d, i] = element d of row i, [dim, kAttentionPanel], 0 where the row is not there. `work` has room for
  // a panel of loaded rows, and a row of zeros behind them.
  void (*pack_keys)(const RowPanel& rows, int64_t dim, float* dst, float* work);
  // dst[d, r] = factor * element d of row r, [dim, rows.count], for at most `block` rows. The kAttentionLanes
  // floats behind are overwritten too. `work` as above.
  void (*pack_queries)(const RowPanel& rows, int64_t dim, float factor, float* dst, float* work);
  // scores[r, i] = sum over d, ascending, of queries[d, r] keys[d, i] for a whole panel.
  void (*scores)(int64_t rows, int64_t dim, const float* queries, const float* keys, float* scores);
  // One row: scores[j] becomes exp2(score - peak) for j of `seen`, and 0 for other j of `all`. Writes peak
  // (-inf where nothing is seen) and the sum of the weights. cap > 0: scores are cap * tanh(score) first.
  void (*softmax)(KeyRange seen, KeyRange all, float cap, float* scores, float* peak, float* total);
  // sums[r, 0 : ld] (+)= sum over j < keys, ascending, of weights[r, j] values[j, 0 : ld]; one chain of fused
  // multiply-adds from 0, or from what is there where `more`.
  void (*values)(int64_t rows, int64_t keys, const float* weights, const float* values, int64_t ld,
                 float* sums, bool more);
  // Adds a tile of n rows (sums of weights and values relative to `peak`) to the state before it. A part that
  // fades to nothing is left out: it may be NaN.
  void (*combine)(int64_t n, int64_t ld, const float* sums, const float* peak, const float* total,
                  float* state_sums, float* state_peak, float* state_total);
  // sums[r, 0 : ld] /= total[r].
  void (*divide)(int64_t n, int64_t ld, const float* total, float* sums);
};

const AttentionTiles& attention_tiles();

}  // namespace lamina::cpu
