#pragma once

#include "backend/cpu/fft_plan.h"
#include "backend/reference/layout_scratch.h"

namespace lamina::cpu {

// Memory for transforms by a plan, one after the other.
class FftSpace {
 public:
  explicit FftSpace(const FftPlan& plan);
  float* wide() const { return memory_.data(); }       // kChirp: planes of inner->n numbers
  float* middle() const { return wide() + wide_; }     // kTwoPass: planes of n numbers
  float* strip() const { return middle() + middle_; }  // a tile and the spare memory of its stages

 private:
  int64_t wide_, middle_;
  Scratch<float> memory_;
};

// Where a signal of kind kTwoPass comes from and goes to, if not the planes: as pairs of real and imaginary
// parts, which `swapped` exchanges. Results in `out` are times `scale`.
struct FftPairs {
  const float* in = nullptr;
  float* out = nullptr;
  float scale = 1;
  bool swapped = false;
};

// The forward transform of one signal of plan.n samples, in place; long signals are spread over threads.
void fft_line(const FftPlan& plan, float* re, float* im, const FftSpace& space, const FftPairs& pairs = {});

// The forward transforms of kFftLines signals, where plan.tiled(): samples are rows of `tile`, which has
// plan.tile_rows() rows without gaps. In place.
void fft_tile(const FftPlan& plan, const FftRows& tile, const FftSpace& space);

}  // namespace lamina::cpu
