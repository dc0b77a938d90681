#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/cpu/fft_kernel.h"

namespace lamina::cpu {

// Complex numbers in two arrays.
struct Planes {
  std::vector<float> re, im;
};

// How to transform signals of n samples. A function of n alone, so that a signal's bits depend on nothing
// else.
struct FftPlan {
  // kTile: all stages over kFftLines signals side by side. kTwoPass: one signal as a matrix of rows * columns
  // numbers, both kFftLines at least; transforms along the columns, then along the rows. kChirp: a
  // convolution (Bluestein), through a plan of another length.
  enum class Kind : uint8_t { kTile, kTwoPass, kChirp };
  Kind kind = Kind::kTile;
  int64_t n = 1;
  FftStages stages;         // kTile: of n; kTwoPass: of the first pass, length `rows`
  FftStages second_stages;  // kTwoPass: of length `columns`
  Planes roots;             // kTwoPass: exp(-2 pi i j k / n) at j * rows + k, for j < columns, k < rows

  std::shared_ptr<const FftPlan> inner;  // kChirp
  Planes chirp;                          // exp(-pi i k^2 / n)
  Planes spectrum;                       // of the conjugate chirp, over inner->n

  Planes pair_roots;  // exp(-2 pi i k / 2n) for k = 0 .. n; empty unless the n numbers are pairs of a real
                      // signal

  int64_t rows() const { return stages.length; }
  int64_t columns() const { return second_stages.length; }
  // Whether whole tiles of signals run through it.
  bool tiled() const { return kind == Kind::kTile || (inner && inner->kind == Kind::kTile); }
  // Rows of such a tile.
  int64_t tile_rows() const { return inner ? inner->n : n; }
};

// The plan for n >= 1 samples; recently used ones are kept. `pairs`: of n pairs of neighbours of a real
// signal.
std::shared_ptr<const FftPlan> fft_plan(int64_t n, bool pairs = false);

}  // namespace lamina::cpu
