#pragma once

#include <span>
#include <vector>

#include "backend/tape_runner.h"
#include "memory/buffer.h"

namespace lamina {

// A tape without reductions over the tiles of one of its inputs, the product (Tape::product), while a kernel
// makes them. inputs as in Tape::inputs (they broadcast to the full shape; the product's is not looked at);
// outputs as in Tape::outputs, row-contiguous in the full shape, of at least one axis. An output may lie where
// an input does, element by element.
class TapeEpilogue {
 public:
  TapeEpilogue(const BoundTape& bound, const Shape& full, std::span<const View> inputs,
               std::span<const View> outputs);

  // As Epilogue::apply. Thread-safe for disjoint tiles.
  void apply(float* tile, int64_t row0, int64_t rows, int64_t col0, int64_t cols, int64_t ld) const;
  // Of one element, in multiply-adds.
  int64_t work() const;

 private:
  struct Operand {
    char* base = nullptr;
    int64_t item = 0, inner = 0;  // bytes of an element; step along the columns, in elements
    Strides outer;                // along outer_
    bool packed = false;          // rows follow each other without gaps
  };
  struct Chunk {
    float* tile;
    int64_t row, rows, column, columns, ld;
  };

  Operand operand_of(const View& v, size_t axes) const;
  void fold_rows(const Shape& full);
  void make_scalars();
  int64_t row_offset(const Operand& o, int64_t row) const;
  void run(const Chunk& chunk, void** at, char* slots) const;
  void* load(size_t i, const Chunk& chunk, char* slot) const;
  void call(size_t i, void* const* at, void* out, int64_t n) const;
  void store_rows(const Operand& o, const Chunk& chunk, const void* values) const;

  const BoundTape& b_;
  std::vector<Operand> inputs_, outputs_;
  Shape outer_;  // leading axes, folded where all operands allow it
  int64_t columns_ = 1, tile_ = 0, slot_bytes_ = 0;
  std::vector<void*> at_;  // values by instruction: those of scalars, spread over a tile
  BufferRef scalars_;
};

}  // namespace lamina
