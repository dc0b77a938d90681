#pragma once

#include <cstdint>

#include "lamina/dtype.h"

namespace lamina::cpu {

// A tap of one output line: what lies `offset` inputs behind an output's first one, times a weight.
struct LineTap {
  int64_t offset;
  const void* x;        // the line of inputs, at its element 0
  const void* weights;  // [group, channels], in the dtype of the sums
};

// Neighbouring outputs along the last axis. Output channel c reads the `group` input channels from
// c / group * group on, with weights of its own. Sums are float32,
// or float64 for float64; each output's taps are added in order, whatever the range of outputs.
struct ConvLine {
  const LineTap* taps;
  LineTap* work;  // as many, overwritten
  int64_t num_taps, channels;
  int64_t group;           // 1, 2, 4 or 8, and at most most_line_group()
  int64_t begin, end;      // the outputs to be made; output i reads inputs i * stride + offset
  int64_t length, stride;  // of the inputs; beyond them lie zeros
  void* out;               // of output 0
  int64_t out_step;        // elements between outputs
  Dtype dtype;             // of x and out
};
// Vectors of channels.
void depthwise_line(const ConvLine& line);
// The channels of a vector of the dtype's sums: those of a group come from one.
int64_t most_line_group(Dtype dtype);
// Vectors of outputs, for one channel with stride and out_step 1.
void signal_line(const ConvLine& line);

}  // namespace lamina::cpu
