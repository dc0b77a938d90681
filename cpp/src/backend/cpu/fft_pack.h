#pragma once

#include <cstdint>

#include "backend/cpu/fft_kernel.h"

namespace lamina::cpu {

// Signals on their way into and out of planes: arrays of real parts and of imaginary parts. The bits of a
// number depend on its operands only, not on where a range begins or ends.

// n complex numbers, and back times `scale`.
void fft_split(const float* in, int64_t n, float* re, float* im);
void fft_join(const float* re, const float* im, int64_t n, float scale, float* out);

// The same for rows of kFftLines numbers, `in_step` or `out_step` floats apart.
void fft_split_rows(const float* in, int64_t in_step, int64_t rows, const FftRows& tile);
void fft_join_rows(const FftRows& tile, int64_t rows, float scale, float* out, int64_t out_step);

struct FftRoots {
  const float *re, *im;
};
// The spectrum of a real signal of 2h samples, times `scale`, from that of its h pairs: numbers k and h - k
// for k in [begin, end), where [0, h / 2 + 1) is all. `roots` has exp(-2 pi i k / 2h). The planes have room
// for number h. And back; the imaginary parts of numbers 0 and h do not count.
void fft_join_pairs(float* re, float* im, int64_t h, FftRoots roots, int64_t begin, int64_t end, float scale,
                    float* out);
void fft_split_pairs(const float* in, int64_t h, FftRoots roots, int64_t begin, int64_t end, float* re,
                     float* im);

// The same for kFftLines signals side by side: a tile of h rows without gaps, and h + 1 rows of complex
// numbers.
void fft_join_pair_rows(const FftRows& tile, int64_t h, FftRoots roots, float scale, float* out);
void fft_split_pair_rows(const float* in, int64_t h, FftRoots roots, const FftRows& tile);

// Element by element.
void fft_multiply(float* re, float* im, int64_t n, const float* w_re, const float* w_im);

// kFftLines rows of a matrix of columns >= kFftLines, in strips of kFftLines columns that are in.step floats
// apart; the last strip ends at the last column. Number k of row t, times number t of row k of the roots
// (rows `roots_step` apart), becomes number t of row k of `tile`.
void fft_turn(const FftRows& in, int64_t columns, FftRoots roots, int64_t roots_step, const FftRows& tile);

}  // namespace lamina::cpu
