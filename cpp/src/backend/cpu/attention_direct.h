#pragma once

#include "backend/cpu/attention_tile.h"

namespace lamina::cpu {

// Attention of few rows, as when decoding: keys and values go from where they lie to the sums through
// registers. Same order of summation as AttentionTiles, same bits.
struct AttentionDirect {
  int64_t most_rows;
  // Whether keys or values of this format and length are taken.
  bool (*takes)(RowFormat format, int64_t dim);
  // AttentionTiles::scores for a panel of keys. Scores of keys that are not there are any numbers; one must
  // be there. `queries` is packed.
  void (*scores)(int64_t rows, const RowPanel& keys, int64_t dim, const float* queries, float* scores);
  // AttentionTiles::values for rows [first, first + count) of a panel.
  void (*values)(int64_t rows, const RowPanel& values, int64_t first, int64_t count, int64_t dim,
                 const float* weights, float* sums, bool more);
};

const AttentionDirect& attention_direct();

}  // namespace lamina::cpu
