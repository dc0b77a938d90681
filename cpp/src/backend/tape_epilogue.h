#pragma once

#include <span>
#include <vector>

#include "backend/tape_runner.h"
#include "memory/buffer.h"

namespace lamina {

// A tape without reductions over the tiles of one of its inputs, the product (Tape::product), while a kernel
// makes them. inputs as in Tape::inputs (they broadcast to the full shape; the product's is not looked at);
// outputs as in Tape::outputs, row-contiguous in the full shape, of at least one axis. An output may lie
// where an input does, element by element.
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
  // An instruction as the loop over chunks wants it.
  struct Code {
    TileFn function = nullptr;         // null: a load, or a copy of `item` bytes an element
    const Operand* operand = nullptr;  // that is loaded or stored to; null of a load: the product
    int64_t slot = 0, item = 0;        // offset of its slot, in bytes
    int32_t value = 0, in[3] = {0, 0, 0};
    bool loads = false;
  };
  struct Chunk {
    float* tile;
    int64_t row, rows, column, columns, ld;
  };

  Operand operand_of(const View& v, size_t axes) const;
  void fold_rows(const Shape& full);
  void make_scalars();
  Code code_of(size_t i) const;
  int64_t row_offset(const Operand& o, int64_t row) const;
  void run(const Chunk& chunk, void** at, char* slots) const;
  void fetch(int64_t row, int64_t rows, int64_t column, int64_t columns) const;
  void* load(const Operand* o, const Chunk& chunk, char* slot) const;
  static void call(const Code& c, void* const* at, void* out, int64_t n);
  void store_rows(const Operand& o, const Chunk& chunk, const void* values) const;

  const BoundTape& b_;
  std::vector<Operand> inputs_, outputs_;
  std::vector<Code> code_;                // but for scalars
  std::vector<const Operand*> streamed_;  // those with memory of their own for each element
  Shape outer_;                           // leading axes, folded where all operands allow it
  int64_t rows_ = 1, columns_ = 1, tile_ = 0, slot_bytes_ = 0;
  std::vector<void*> at_;  // values by instruction: those of scalars, spread over a tile
  BufferRef scalars_;
};

}  // namespace lamina
