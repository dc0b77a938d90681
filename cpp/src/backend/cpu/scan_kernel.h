#pragma once

#include <cstdint>

#include "backend/reference/scan_kind.h"
#include "lamina/dtype.h"

namespace lamina::cpu {

// A piece of a line of contiguous elements. With `reverse` the piece runs from its last element to its first.
struct ScanPiece {
  const void* in;
  void* out;  // null: only the total is wanted
  int64_t n;
  // What came before the piece, joined onto every element: one element, or null at the line's start.
  const void* carry;
  void* total;  // takes the join of the piece's own elements, without the carry
  bool stream;  // stores may bypass the cache
};

using ScanPieceFn = void (*)(const ScanPiece&);

// The vector kernel, or null where the dtype or kind has none. One piece gives the same bits however it is
// called: with or without output, whatever came before.
ScanPieceFn scan_piece_fn(ScanKind kind, Dtype dtype, bool reverse, bool inclusive);

}  // namespace lamina::cpu
