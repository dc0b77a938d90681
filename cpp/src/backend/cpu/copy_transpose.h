#pragma once

#include <cstdint>

namespace lamina::cpu {

// A plane of elements: in[r * in_step + c * bytes] goes to out[c * out_step + r * bytes]. Steps in bytes, any
// sign.
struct TransposeJob {
  const uint8_t* in;
  uint8_t* out;
  int64_t in_step, out_step;
  int64_t rows, cols;
  bool stream;  // stores may bypass the cache
};

// bytes: 1, 2, 4 or 8, the size of an element.
void transpose_plane(const TransposeJob& job, int64_t bytes);

}  // namespace lamina::cpu
