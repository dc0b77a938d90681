#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "backend/cpu/convolution_tile.h"
#include "core/view.h"
#include "ops/params.h"

namespace lamina::cpu {

// A weight along an axis, and the input below it: output * stride + offset.
struct ConvTap {
  int64_t offset, weight;
};

// One axis of a phase: outputs first, first + step, ..., which all have the same taps.
struct ConvAxis {
  int64_t length = 1, outputs = 1, first = 0, step = 1;
  int64_t stride = 1;                    // inputs from one output of the phase to the next
  std::vector<ConvTap> taps = {{0, 0}};  // offsets ascend
};

// Dilated inputs are zero but for every `input_dilation`-th. The outputs whose taps fall on the same of them
// make a phase, a convolution without dilation of its input over some of the taps. Outputs of no phase are
// zero. Missing axes are of length 1.
using ConvPhase = std::array<ConvAxis, 3>;
std::vector<ConvPhase> conv_phases(const View& x, const View& weight, const View& out,
                                   const ConvolutionParams& p);

// Products over the axes of a phase.
int64_t positions_of(const ConvPhase& phase);  // outputs of one image
int64_t taps_of(const ConvPhase& phase);

// The matrix of a phase: row r holds the inputs below the r-th output, images first, tap by tap, the
// `channels` of a group within a tap; zeros where there is no input. It is never built, only packed a panel
// at a time.
class ConvWindows {
 public:
  // `data` is x, row-contiguous, at the group's first channel.
  ConvWindows(const ConvPhase& phase, const void* data, Dtype dtype, int64_t all_channels, int64_t channels,
              const void* zeros);

  // dst[k * step + r] = element (row0 + r, k0 + k), r < width <= kMostRows, k < depth.
  template <class T>
  void pack(int64_t row0, int64_t width, int64_t k0, int64_t depth, T* dst, int64_t step) const;
  static constexpr int64_t kMostRows = 64;

  // The same rows and steps where they lie, in runs of one tap's channels or more; T is the dtype of x, and
  // width <= ConvRun::kMostRows. Returns how many runs there are: at most depth / channels + 2.
  template <class T>
  int64_t runs(int64_t row0, int64_t width, int64_t k0, int64_t depth, ConvRun<T>* out) const;
  // Mean length of a run where the whole window lies inside the image.
  int64_t run_length() const {
    return static_cast<int64_t>(taps_.size()) * channels_ / static_cast<int64_t>(merged_.size());
  }

 private:
  // Elements one behind the other in every row: of a tap, or of several that touch.
  struct Run {
    int64_t step, length, offset;
    std::array<int64_t, 3> at;  // the tap's place, for a single one
  };
  struct Row {
    int64_t base;
    std::array<int64_t, 3> at;
  };
  void add_tap(const std::array<int64_t, 3>& at);
  bool locate(int64_t row0, int64_t width, Row* rows) const;
  // f(rows' elements, first step, number of steps) for every run of [k0, k0 + depth).
  template <class F>
  void each_run(int64_t row0, int64_t width, int64_t k0, int64_t depth, const F& f) const;

  const ConvPhase& phase_;
  const char* data_;
  const char* zeros_;  // `channels` elements
  Dtype dtype_;
  int64_t item_, all_channels_, channels_;
  std::array<int64_t, 3> low_{}, high_{};  // extreme offsets
  std::vector<Run> taps_, merged_;
};

}  // namespace lamina::cpu
