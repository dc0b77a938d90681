#pragma once

#include <span>

#include "backend/backend.h"
#include "fusion/tape.h"

namespace lamina {

// What a step has to do at least. Flops are those of the definition (a matrix product: 2 M N K), comparisons
// of a sort among them; bytes count each element of an operand once.
struct Cost {
  double flops = 0;
  uint64_t bytes_read = 0, bytes_written = 0;
};

// Bytes below a view, axes of stride 0 once.
uint64_t extent_bytes(const View& v);
Cost kernel_cost(const KernelCall& call);
Cost tape_cost(const fusion::Tape& tape, int row_axes, const Shape& full, std::span<const View> in,
               std::span<const View> out);
// A kernel whose result a tape takes tile by tile; `in` and `out` are the tape's.
Cost epilogue_cost(const KernelCall& call, const fusion::Tape& tape, std::span<const View> in,
                   std::span<const View> out);
// "multiply+add+sum": the ops in their order, equal neighbours once with their number, long tapes cut short.
std::string tape_name(const fusion::Tape& tape);

}  // namespace lamina
