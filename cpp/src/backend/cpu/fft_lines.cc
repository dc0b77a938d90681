#include "backend/cpu/fft_lines.h"

#include <algorithm>

#include "backend/cpu/fft_pack.h"
#include "core/thread_pool.h"

namespace lamina::cpu {
namespace {

constexpr int64_t kGrain = int64_t{1} << 14;  // numbers worth handing to a thread

// Floats of a tile of `rows` rows and the spare memory of its stages.
int64_t strip_floats(int64_t rows) { return 6 * rows * kFftLines; }

// Rounded up, so that what follows is aligned.
int64_t whole_lines(int64_t floats) { return (floats + 15) / 16 * 16; }

const FftPlan& innermost(const FftPlan& p) { return p.inner ? *p.inner : p; }

// Calls strip(first, memory) for strips of kFftLines of `width` columns with `rows` rows each. The last one
// may overlap the one before it, which then runs on the same thread.
template <class Strip>
void for_each_strip(int64_t width, int64_t rows, float* memory, const Strip& strip) {
  const int64_t strips = width / kFftLines;
  auto run = [&](int64_t begin, int64_t end, float* own) {
    for (int64_t i = begin; i < end; ++i) strip(i * kFftLines, own);
    if (end == strips && width % kFftLines != 0) strip(width - kFftLines, own);
  };
  if (width * rows < 2 * kGrain) return run(0, strips, memory);
  parallel_ranges(strips, std::max<int64_t>(1, kGrain / (rows * kFftLines)), [&](int64_t begin, int64_t end) {
    const Scratch<float> own(strip_floats(rows));
    run(begin, end, own.data());
  });
}

// The matrix between the passes lies strip by strip, so that either pass finds its numbers close together.
int64_t middle_floats(const FftPlan& p) {
  return p.kind == FftPlan::Kind::kTwoPass ? (p.columns() + kFftLines - 1) / kFftLines * p.rows() * kFftLines
                                           : 0;
}

// n = rows * columns: sample j1 * columns + j2 goes to frequency k1 + rows * k2.
void two_passes(const FftPlan& p, float* re, float* im, const FftSpace& space, const FftPairs& pairs) {
  const int64_t rows = p.rows(), columns = p.columns(), strip = rows * kFftLines;
  float *mid_re = space.middle(), *mid_im = mid_re + middle_floats(p);
  auto swapped = [&](const FftRows& t) { return pairs.swapped ? FftRows{t.im, t.re, t.step} : t; };
  for_each_strip(columns, rows, space.strip(), [&](int64_t j, float* memory) {
    const FftRows tile{memory, memory + strip, kFftLines};
    const int64_t at = (j + kFftLines - 1) / kFftLines * strip;
    if (pairs.in != nullptr) fft_split_rows(pairs.in + 2 * j, 2 * columns, rows, swapped(tile));
    fft_stages(p.stages, pairs.in != nullptr ? tile : FftRows{re + j, im + j, columns},
               {mid_re + at, mid_im + at, kFftLines}, memory + 2 * strip);
  });
  for_each_strip(rows, columns, space.strip(), [&](int64_t k, float* memory) {
    const int64_t floats = columns * kFftLines;
    const FftRows tile{memory, memory + floats, kFftLines};
    fft_turn({mid_re + k * kFftLines, mid_im + k * kFftLines, strip}, columns,
             {p.roots.re.data() + k, p.roots.im.data() + k}, rows, tile);
    fft_stages(p.second_stages, tile, pairs.out != nullptr ? tile : FftRows{re + k, im + k, rows},
               memory + 2 * floats);
    if (pairs.out != nullptr) fft_join_rows(swapped(tile), columns, pairs.scale, pairs.out + 2 * k, 2 * rows);
  });
}

void chirp_line(const FftPlan& p, float* re, float* im, const FftSpace& space) {
  const int64_t m = p.inner->n;
  float *wide_re = space.wide(), *wide_im = wide_re + m;
  fft_multiply(re, im, p.n, p.chirp.re.data(), p.chirp.im.data());
  std::fill(std::copy(re, re + p.n, wide_re), wide_re + m, 0.0f);
  std::fill(std::copy(im, im + p.n, wide_im), wide_im + m, 0.0f);
  fft_line(*p.inner, wide_re, wide_im, space);
  fft_multiply(wide_re, wide_im, m, p.spectrum.re.data(), p.spectrum.im.data());
  // The inverse, not divided by the length: real and imaginary parts change places before and after.
  fft_line(*p.inner, wide_im, wide_re, space);
  std::copy(wide_re, wide_re + p.n, re);
  std::copy(wide_im, wide_im + p.n, im);
  fft_multiply(re, im, p.n, p.chirp.re.data(), p.chirp.im.data());
}

// One signal alone in a tile.
void tile_line(const FftPlan& p, float* re, float* im, const FftSpace& space) {
  const int64_t floats = p.tile_rows() * kFftLines;
  const Scratch<float> memory(2 * floats);
  const FftRows tile{memory.data(), memory.data() + floats, kFftLines};
  std::fill(tile.re, tile.re + 2 * floats, 0.0f);
  for (int64_t j = 0; j < p.n; ++j) {
    tile.re[j * kFftLines] = re[j];
    tile.im[j * kFftLines] = im[j];
  }
  fft_tile(p, tile, space);
  for (int64_t j = 0; j < p.n; ++j) {
    re[j] = tile.re[j * kFftLines];
    im[j] = tile.im[j * kFftLines];
  }
}

void run_stages(const FftPlan& p, const FftRows& tile, const FftSpace& space) {
  if (p.n > 1) fft_stages(p.stages, tile, tile, space.strip());
}

}  // namespace

FftSpace::FftSpace(const FftPlan& plan)
    : wide_(plan.kind == FftPlan::Kind::kChirp ? whole_lines(2 * plan.inner->n) : 0),
      middle_(whole_lines(2 * middle_floats(innermost(plan)))),
      memory_(wide_ + middle_ + strip_floats(std::max(innermost(plan).rows(), innermost(plan).columns()))) {}

void fft_line(const FftPlan& p, float* re, float* im, const FftSpace& space, const FftPairs& pairs) {
  if (p.tiled()) return tile_line(p, re, im, space);
  p.kind == FftPlan::Kind::kChirp ? chirp_line(p, re, im, space) : two_passes(p, re, im, space, pairs);
}

void fft_tile(const FftPlan& p, const FftRows& tile, const FftSpace& space) {
  if (p.kind == FftPlan::Kind::kTile) return run_stages(p, tile, space);
  const int64_t m = p.inner->n;
  fft_multiply_rows(tile.re, tile.im, p.n, p.chirp.re.data(), p.chirp.im.data());
  std::fill(tile.re + p.n * kFftLines, tile.re + m * kFftLines, 0.0f);
  std::fill(tile.im + p.n * kFftLines, tile.im + m * kFftLines, 0.0f);
  run_stages(*p.inner, tile, space);
  fft_multiply_rows(tile.re, tile.im, m, p.spectrum.re.data(), p.spectrum.im.data());
  run_stages(*p.inner, {tile.im, tile.re, kFftLines}, space);
  fft_multiply_rows(tile.re, tile.im, p.n, p.chirp.re.data(), p.chirp.im.data());
}

}  // namespace lamina::cpu
