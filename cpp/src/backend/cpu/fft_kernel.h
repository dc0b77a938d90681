#pragma once

#include <cstdint>
#include <vector>

namespace lamina::cpu {

// The lines that are transformed side by side.
inline constexpr int64_t kFftLines = 16;

// Rows of kFftLines numbers: number t of row j is sample j of line t. Real and imaginary parts lie in arrays
// of their own, rows `step` floats apart.
struct FftRows {
  float *re, *im;
  int64_t step;
};

// How to transform signals of `length`, the product of the radices (2, 3, 4, 5, 7, 8, 11, 13).
struct FftStages {
  int64_t length = 1;
  std::vector<int> radices;
  // Stage by stage, for p = 0, 1, ... the powers 1 to radix - 1 of p's root: real part, imaginary part.
  std::vector<float> twiddles;
};

// Forward transforms of kFftLines lines, of a length above 1. `out` may be `in`; `spare` holds
// 4 * length * kFftLines floats.
void fft_stages(const FftStages& stages, const FftRows& in, const FftRows& out, float* spare);

// Row j of a tile (rows without gaps) times the number w[j].
void fft_multiply_rows(float* re, float* im, int64_t rows, const float* w_re, const float* w_im);

}  // namespace lamina::cpu
