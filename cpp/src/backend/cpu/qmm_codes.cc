#include <algorithm>

#include "backend/cpu/gemm_scratch.h"
#include "backend/cpu/qmm_kernel.h"
#include "backend/cpu/simd_target.h"

#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/qmm_codes.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/qmm_codes-inl.h"
#include "backend/cpu/qmm_decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

const uint8_t* scales_of(const QmmWeights& w, int64_t row) {
  return static_cast<const uint8_t*>(w.scales) + (w.scales ? row * w.scale_row_bytes : 0);
}

#if !LAMINA_SIMD_TARGET
uint8_t affine_code(const QmmWeights& w, const uint8_t* row, int64_t i) {
  const int64_t bit = i * w.bits;
  const int pair = row[bit / 8] | (bit % 8 + w.bits > 8 ? row[bit / 8 + 1] << 8 : 0);
  return static_cast<uint8_t>(pair >> bit % 8 & ((1 << w.bits) - 1));
}
#endif

void widen_row(const QmmWeights& w, int64_t row, int64_t first, int64_t n, uint8_t* dst) {
  const uint8_t* codes = w.codes + row * w.code_row_bytes;
#if LAMINA_SIMD_TARGET
  if (w.format == QuantFormat::kAffine) return codes::widen_affine(w.bits, codes, first, n, dst);
  return codes::widen_blocks(w.format, codes, first, n, dst);
#else
  if (w.format == QuantFormat::kAffine) {
    for (int64_t i = 0; i < n; ++i) dst[i] = affine_code(w, codes, first + i);
    return;
  }
  const BlockFormat& f = block_format(w.format);
  const int64_t groups = n / w.integers.group, block = first / f.block;
  Scratch edges(2 * groups * 4);
  f.integers.read(codes + block * f.code_bytes, scales_of(w, row) + block * f.scale_bytes, n / f.block, dst,
                  edges.as<float>(), edges.as<float>() + groups);
#endif
}

void widen(const QmmWeights& w, int64_t row0, int64_t rows, int64_t first, int64_t n, uint8_t* dst,
           int64_t ld) {
  for (int64_t r = 0; r < rows; ++r) widen_row(w, std::min(row0 + r, w.rows - 1), first, n, dst + r * ld);
}

// Of one row of a block format.
void read_edges(const QmmWeights& w, int64_t row, float* scales, float* biases) {
#if LAMINA_SIMD_TARGET
  codes::edges_of_blocks(w, row, scales, biases);
#else
  const BlockFormat& f = block_format(w.format);
  Scratch codes(w.cols);
  f.integers.read(w.codes + row * w.code_row_bytes, scales_of(w, row), w.groups(), codes.as<uint8_t>(),
                  scales, biases);
#endif
}

void edges(const QmmWeights& w, int64_t row0, int64_t width, float* scales, float* biases) {
  const int64_t groups = w.integer_groups();
  if (w.format == QuantFormat::kAffine) {
    widen_edges(w.scales, w, row0, width, 0, groups, scales);
    widen_edges(w.biases, w, row0, width, 0, groups, biases);
    return;
  }
  // Vectors may be stored whole.
  const int64_t ld = (groups + kQmmPad + 15) / 16 * 16;
  Scratch rows(2 * kTurnedRows * ld * 4);
  float *row_scales = rows.as<float>(), *row_biases = row_scales + kTurnedRows * ld;
  const auto scales_of_row = [&](int64_t r) { return row_scales + r * ld; };
  const auto biases_of_row = [&](int64_t r) { return row_biases + r * ld; };
  int64_t r0 = 0;
  for (; r0 + kTurnedRows <= width; r0 += kTurnedRows) {
    for (int64_t r = 0; r < kTurnedRows; ++r) {
      read_edges(w, std::min(row0 + r0 + r, w.rows - 1), scales_of_row(r), biases_of_row(r));
    }
    transpose_words_of(scales_of_row, kTurnedRows, groups, scales + r0, width);
    if (w.integers.biased) transpose_words_of(biases_of_row, kTurnedRows, groups, biases + r0, width);
  }
  for (; r0 < width; ++r0) {  // the baseline's panels of two columns
    read_edges(w, std::min(row0 + r0, w.rows - 1), row_scales, row_biases);
    for (int64_t g = 0; g < groups; ++g) scales[g * width + r0] = row_scales[g];
    for (int64_t g = 0; w.integers.biased && g < groups; ++g) biases[g * width + r0] = row_biases[g];
  }
}

}  // namespace

const QmmCodes* qmm_code_kernels() {
  static constexpr QmmCodes kTable = {widen, edges};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(qmm_code_kernels);

const QmmCodes& qmm_codes() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(qmm_code_kernels)();
}

}  // namespace lamina::cpu
#endif
