#pragma once

#include <span>
#include <vector>

#include "backend/tape_runner.h"
#include "memory/buffer.h"

namespace lamina {

// An operand in memory as the loops see it: rows through outer strides, elements through `inner` (elements).
struct Operand {
  char* base = nullptr;
  int64_t item = 0;
  int64_t inner = 0;
  Strides outer;
  bool dense = false;  // rows follow each other without gaps
};

// Elements of a row: the trailing `row_axes` axes.
int64_t row_length(const Shape& full, int row_axes);

// A tape's operands over a full shape: outer loops over rows, one inner axis over their elements. Inputs
// whose axes do not allow that are copied.
class TapeLayout {
 protected:
  TapeLayout(const BoundTape& bound, const Shape& full, std::span<const View> inputs,
             std::span<const View> outputs);

  // Element offset of an operand at row r.
  int64_t row_offset(const Operand& o, int64_t r) const;

  std::vector<View> inputs_;
  std::span<const View> outputs_;
  std::vector<Operand> operands_;  // inputs, then outputs
  Shape outer_;
  int64_t rows_ = 1, columns_ = 1;

 private:
  void split_axes(const Shape& full);
  void inner_axes(const Shape& full, std::vector<Strides>& strides, const std::vector<uint8_t>& row,
                  const std::vector<uint8_t>& scalar);
  Strides copy_input(size_t i, const Shape& full);
  void finish_operands(std::vector<Strides>& strides);

  const BoundTape& b_;
  std::vector<BufferRef> copies_;
  std::vector<int64_t> inner_;
};

}  // namespace lamina
