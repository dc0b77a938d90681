#pragma once

#include <span>

#include "backend/tape_layout.h"
#include "backend/tape_runner.h"

namespace lamina {

// Elements of a tile of such a tape: so few that the instructions of the next tile begin while the last ones
// wait for memory or divide (gelu of 8M numbers on one core: 11.1 ms by tiles of 1024, 7.1).
inline constexpr int64_t kBoundTile = 128;

// Whether there is nothing but ops on elements.
bool is_elementwise(const fusion::Tape& tape);

// A row of such a tape, where the elements of the row follow each other in every operand.
struct TileRow {
  const BoundTape& tape;
  std::span<const Operand> operands;  // inputs, then outputs
  size_t inputs;
  std::span<const int64_t> offsets;  // of the operands at this row, in elements
  std::span<void* const> values;     // by instruction: the scalars, spread over a tile
  char* slots;
  int64_t slot_bytes, row, columns;
  bool fetches;  // whether what is read may lie beyond the caches
};
// Tiles [begin, end) of the row.
void run_tiles(const TileRow& row, int64_t begin, int64_t end);

}  // namespace lamina
