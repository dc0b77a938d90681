#pragma once

#include <span>
#include <vector>

#include "backend/backend.h"
#include "fusion/tape.h"

namespace lamina {

// A tape with the functions of one backend.
struct BoundTape {
  fusion::Tape tape;
  int row_axes = 0;
  std::vector<TileFn> tile;      // by instruction; null for loads, expands, reductions and plain copies
  std::vector<ReduceFn> reduce;  // by instruction; null unless a reduction
  std::vector<ReduceProductsFn> reduce_products;  // by instruction; null unless a reduction of products
  std::vector<ReduceFn> combine;                  // folds partial results of that reduction
  SpreadFn spread = nullptr;
  const StreamCopy* streams = nullptr;  // null: there is none
  void (*copy)(const View& in, const View& out) = nullptr;
};
// Throws Unsupported where the backend has no function for an instruction.
BoundTape bind(fusion::Tape tape, int row_axes, const Backend& backend);

// True where an output may share memory with a donor input: each tile is read and written once.
bool donation_is_safe(const BoundTape& bound, const Shape& full_shape);

// Runs the tape over `full_shape`. inputs as in Tape::inputs (they broadcast to the full or the row shape);
// outputs as in Tape::outputs, row-contiguous in the full or row shape.
void run_tape(const BoundTape& bound, const Shape& full_shape, std::span<const View> inputs,
              std::span<const View> outputs);

}  // namespace lamina
