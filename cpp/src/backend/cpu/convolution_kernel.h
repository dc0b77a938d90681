#pragma once

#include <cstdint>

#include "lamina/dtype.h"

namespace lamina::cpu {

// A weight of each channel, for outputs along the last axis: what lies `offset` inputs behind an output's
// first one.
struct DepthwiseTap {
  int64_t offset;
  const void* x;        // the line of inputs, at its element 0
  const void* weights;  // one for each channel, in the dtype of the sums
};

// Outputs of one line, where each channel is convolved with weights of its own.
struct DepthwiseLine {
  const DepthwiseTap* taps;
  DepthwiseTap* work;  // as many, overwritten
  int64_t num_taps, channels;
  int64_t length, outputs,
      stride;  // of the axis; output i reads inputs i * stride + offset within [0, length)
  void* out;
  int64_t out_step;  // elements between outputs
  Dtype dtype;       // of x and out
};
// Sums are float32, or float64 for float64; each output's taps are added in order.
void depthwise_line(const DepthwiseLine& line);

}  // namespace lamina::cpu
