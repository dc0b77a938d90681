#pragma once

#include <cstdint>
#include <vector>

namespace lamina::cpu {

// A tile holds kFftLines signals side by side: element j of line t is at j * kFftLines + t. Real and
// imaginary parts lie in arrays of their own, 64-byte aligned.
inline constexpr int64_t kFftLines = 16;

// How to transform signals of `length`, the product of the radices (2, 3, 4, 5, 7, 11, 13).
struct FftStages {
  int64_t length = 1;
  std::vector<int> radices;
  // Stage by stage, for p = 0, 1, ... the powers 1 to radix - 1 of p's root: real part, imaginary part.
  std::vector<float> twiddles;
};

// Forward transforms of all lines of a tile in `a`, with `b` as a second tile. True: the result is in `b`.
bool fft_tile_stages(const FftStages& stages, float* a_re, float* a_im, float* b_re, float* b_im);

// Row j of the tile times the number w[j].
void fft_multiply_rows(float* re, float* im, int64_t rows, const float* w_re, const float* w_im);
// Element by element.
void fft_multiply(float* re, float* im, int64_t n, const float* w_re, const float* w_im);

}  // namespace lamina::cpu
