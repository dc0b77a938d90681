#pragma once

#include "backend/cpu/attention_tile.h"

namespace lamina::cpu {

// Scores of keys that are codes of quant/kv_rows.h, for one instruction set. A query is rounded to 16 bits
// and a step, 1/32767 of its largest element, so that its products with the codes of a group are whole
// numbers, summed exactly; score = step * (sum over groups, ascending, of scale * that sum, one chain of
// fused multiply-adds). Codes come in pairs of 16 bits, those of a group in any order that keys and queries
// share.
struct AttentionCodes {
  int64_t direct_rows;  // most rows of direct_scores()

  // Floats of packed queries: pairs, sums of groups, steps.
  static int64_t query_floats(int64_t rows, int64_t dim) {
    return rows * (padded(dim) / 2 + groups(dim) + 1);
  }
  // And of a packed panel of keys: pairs and scales.
  static int64_t panel_floats(int64_t dim) { return kAttentionPanel * (padded(dim) / 2 + groups(dim)); }
  // Room for panels of queries or of keys while they are packed, in floats.
  static int64_t work_floats(int64_t dim) { return (kAttentionPanel + 1) * padded(dim); }
  static constexpr int64_t padded(int64_t dim) { return (dim + 31) / 32 * 32; }
  static constexpr int64_t groups(int64_t dim) { return (dim + 31) / 32; }

  // `format` is that of the keys. Queries are rows of floats; they are times factor.
  void (*pack_queries)(const RowPanel& rows, RowFormat format, int64_t dim, float factor, float* dst,
                       float* work);
  void (*pack_keys)(const RowPanel& rows, int64_t dim, float* dst, float* work);
  // As AttentionTiles::scores and AttentionDirect::scores.
  void (*scores)(int64_t rows, int64_t dim, const float* queries, const float* keys, float* scores);
  void (*direct_scores)(int64_t rows, const RowPanel& keys, int64_t dim, const float* queries, float* scores);
  // Whether direct_scores takes keys of this length.
  bool (*takes)(int64_t dim);
};

const AttentionCodes& attention_codes();

}  // namespace lamina::cpu
