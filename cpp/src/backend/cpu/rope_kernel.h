#pragma once

#include <cstdint>

namespace lamina::cpu {

// Rotation of one row for one instruction set; float32.
struct RopeKernels {
  // cosine[i] and sine[i] of position * frequency[i], i < n; absolute error below 2e-7 for any angle under
  // 1e9.
  void (*angles)(double position, const double* frequency, int64_t n, float* cosine, float* sine);
  // Turns pairs (x[i], x[i + half]), or (x[2 i], x[2 i + 1]) where traditional, by the angles times
  // `direction` (+-1).
  void (*rotate)(float* x, int64_t half, bool traditional, float direction, const float* cosine,
                 const float* sine);
};

const RopeKernels& rope_kernels();

}  // namespace lamina::cpu
