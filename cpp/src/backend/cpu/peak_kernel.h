#pragma once

#include <cstddef>
#include <cstdint>

namespace lamina::cpu {

// What one thread does at most, for one instruction set.
struct PeakKernels {
  // `rounds` of independent float32 multiply-adds in registers; returns how many flops they were, at two
  // each. *sink takes a value that depends on them all.
  double (*multiply_add)(int64_t rounds, float* sink);
  // Reads `count` words; returns a value that depends on them all.
  uint64_t (*read)(const uint64_t* words, size_t count);
};

const PeakKernels& peak_kernels();

}  // namespace lamina::cpu
