#pragma once

#include <vector>

#include "backend/backend.h"
#include "core/thread_pool.h"

namespace lamina {

// Operands of a paged attention; a pointer is null where the operand is left out.
struct PagedArgs {
  View q, k, v, tables, ends, lengths, out;
  const View* sinks = nullptr;
  const View* key_scales = nullptr;
  const View* value_scales = nullptr;
  float scale = 1, softcap = 0;  // a softcap of 0 is none
  int64_t window = 0;            // 0: everything before

  explicit PagedArgs(const KernelCall& c);
  int64_t block_rows() const { return k.shape[2]; }
  // The first position that a query at `position` sees.
  int64_t first_seen(int64_t position) const {
    return window > 0 && position >= window ? position + 1 - window : 0;
  }
  // The block that holds a position of a sequence.
  int64_t block_of(int64_t sequence, int64_t position) const {
    return tables.as<int32_t>()[sequence * tables.strides[0] + position / block_rows() * tables.strides[1]];
  }
};

// The rows of one sequence: `rows` queries from first_row on, at its last positions.
struct PagedSequence {
  int64_t index, first_row, rows, length;
  int64_t position(int64_t row) const { return length - rows + row; }
};

// The sequences with new rows. Throws ValueError where query_ends go down or leave the queries, or a length
// holds fewer positions than are new or more than its table; IndexError where a block that a query sees is
// not in the pool.
std::vector<PagedSequence> paged_sequences(const PagedArgs& a);

// Writes rows to slots of the pool, which is c.out[0], through write(from, block, row): index of the row of
// c.in[1], and where it goes. All slots are checked first; throws IndexError.
void for_each_slot(const KernelCall& c, FunctionRef<void(int64_t from, int64_t block, int64_t row)> write);

}  // namespace lamina
