#pragma once

#include <cstdint>

#include "backend/cpu/attention_tile.h"

namespace lamina::cpu {

// An attention as its kernels see it: groups of query rows that share keys (those of one key head of one
// sequence). Rows of a group are in order of their positions.
class AttentionTask {
 public:
  int64_t groups = 0, dim = 0, v_dim = 0;
  RowFormat key_format = RowFormat::kFloat32;  // said beforehand where keys are codes
  float factor = 1;  // of the queries, so that scores are binary logarithms, or what the cap takes
  float cap = 0;     // > 0: scores become cap * tanh(score)

  AttentionTask() = default;
  AttentionTask(const AttentionTask&) = delete;
  AttentionTask& operator=(const AttentionTask&) = delete;
  virtual ~AttentionTask() = default;

  virtual int64_t rows(int64_t group) const = 0;
  // Positions that a row sees; neither end goes down from one row to the next.
  virtual KeyRange seen(int64_t group, int64_t row) const = 0;
  // Appends `count` rows from `first` on: of queries, or of keys or values of positions. `copy` has room for
  // a panel of loaded rows; where it is null, the rows are only looked for in memory, and may be left out.
  virtual void queries(int64_t group, int64_t first, int64_t count, RowPanel& panel, float* copy) const = 0;
  virtual void keys(int64_t group, int64_t first, int64_t count, RowPanel& panel, float* copy) const = 0;
  virtual void values(int64_t group, int64_t first, int64_t count, RowPanel& panel, float* copy) const = 0;
  // The binary logarithm of the weight of a key without value; -inf where there is none.
  virtual float sink(int64_t group, int64_t row) const = 0;
  // Changes a row's scores of positions [first, first + n).
  virtual void mask(int64_t /*group*/, int64_t /*row*/, int64_t /*first*/, int64_t /*n*/,
                    float* /*scores*/) const {}
  // Takes a finished row, and the peak and sum of its weights.
  virtual void store(int64_t group, int64_t row, const float* out, float peak, float total) const = 0;
};

// Runs the task. A row's bits depend on its query and on the keys and values of positions that it sees, on
// nothing else.
void attend(const AttentionTask& task);

}  // namespace lamina::cpu
