// Which codes each form of weights has for kernels with a lane for a weight row (qmm_row_lanes-inl.h), and
// its scales. Per-target, not for the emulated baseline.
#if defined(LAMINA_CPU_QMM_ROW_LANES_FORMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAMINA_CPU_QMM_ROW_LANES_FORMS_INL_H_
#undef LAMINA_CPU_QMM_ROW_LANES_FORMS_INL_H_
#else
#define LAMINA_CPU_QMM_ROW_LANES_FORMS_INL_H_
#endif

#include <algorithm>
#include <utility>

#include "backend/cpu/qmm_row_lanes-inl.h"
#include "backend/cpu/qmm_row_lanes_gguf-inl.h"
#include "core/cpu_caches.h"

#if LAMINA_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace row_lanes {

// Of a lane's rows in a span: shorter streams end before the prefetchers have found them.
constexpr int64_t kStreamBytes = 4 << 10;

// Working memory.
struct Work {
  int64_t padded, wide_ld;
  float *scales, *biases;  // [padded][kRows]
  uint8_t* wide;           // [kRows][wide_ld], codes where they are not read packed

  Work(const QmmWeights& w, void* work)
      : padded((w.integer_groups() + 15) / 16 * 16),
        wide_ld(reads_packed(w) ? 0 : (w.cols + 63) / 64 * 64),
        scales(static_cast<float*>(work)),
        biases(scales + padded * kRows),
        wide(reinterpret_cast<uint8_t*>(biases + padded * kRows)) {}
  int64_t bytes() const { return kRows * (2 * padded * 4 + wide_ld); }
};

// Scales and biases of rows from row0 on; those of rows from next_row on come into the cache meanwhile. Calls
// tick() now and then.
template <class Tick>
HWY_INLINE void edges_of(const QmmWeights& w, int64_t row0, int64_t next_row, const Work& s,
                         const Tick& tick) {
  if (w.format != QuantFormat::kAffine || itemsize(w.scale_dtype) != 2) {
    if (block_edges(w, LaneRows{row0}, s.scales, s.biases)) return;
    return qmm_codes().edges(w, row0, kRows, s.scales, s.biases);
  }
  const int64_t groups = w.groups(), bytes = groups * 2, some = std::min(kRows, w.rows - next_row);
  for (const auto& [src, dst] : {std::pair(w.scales, s.scales), std::pair(w.biases, s.biases)}) {
    fetch(static_cast<const uint8_t*>(src) + next_row * bytes, some * bytes);
    if (w.scale_dtype == Dtype::kFloat16) {
      widen_edges<true>(src, row0, w.rows, groups, dst, tick);
    } else {
      widen_edges<false>(src, row0, w.rows, groups, dst, tick);
    }
  }
}

// Whether a lane has rows of its own where one row of activations is multiplied: q8_0 144 to 102 us by it.
// Not where scales in arrays of their own would be streams too (4 bits: 58 to 66), nor superblocks (q6_k: 111
// to 171).
inline bool streams_lanes(const QmmWeights& w, int64_t rows_each) {
  const bool blocks =
      w.format == QuantFormat::kQ4_0 || w.format == QuantFormat::kQ4_1 || w.format == QuantFormat::kQ8_0;
  return kMayStream && blocks && rows_each * w.code_row_bytes >= kStreamBytes && follows_many_streams();
}

// multiply(lanes, rows, edges, ahead) for all weight rows of a span and m rows of activations, kRows weight
// rows at a time. kWidened as below; calls tick() now and then.
template <bool kWidened, class Multiply, class Tick>
HWY_INLINE void each_block(const QmmWeights& w, const QmmRowSpan& span, int64_t m, void* work,
                           const Tick& tick, const Multiply& multiply) {
  const Work s(w, work);
  const Edges edges{s.scales, w.integers.biased ? s.biases : nullptr};
  const int64_t end = span.row0 + span.count;
  int64_t row = span.row0;
  if (const int64_t each = span.count / kRows; !kWidened && m == 1 && streams_lanes(w, each)) {
    for (; row < span.row0 + each; ++row) {
      const LaneRows lanes{row, each};
      block_edges(w, lanes, s.scales, s.biases);
      multiply(lanes, RowPointers(w.codes, lanes, w.rows, w.code_row_bytes), edges, nullptr);
    }
    row = span.row0 + each * kRows;
  }
  for (; row < end; row += kRows) {
    const int64_t then = std::min(row + kRows < end ? row + kRows : span.next, w.rows);
    edges_of(w, row, then, s, tick);
    if constexpr (kWidened) qmm_codes().widen(w, row, kRows, 0, w.cols, s.wide, s.wide_ld);
    const LaneRows lanes{row};
    const RowPointers rows = kWidened ? RowPointers(s.wide, LaneRows{0}, kRows, s.wide_ld)
                                      : RowPointers(w.codes, lanes, w.rows, w.code_row_bytes);
    multiply(lanes, rows, edges, w.codes + then * w.code_row_bytes);
  }
}

using Q4_0 = NibbleBlocks<18, 2>;
using Q4_1 = NibbleBlocks<20, 4>;
// Codes that have been made bytes. Where instructions for bytes take any, the two are one.
using WideBytes = Packed<8>;
using NarrowBytes = Packed<8, (LAMINA_QMM_PAIRS != 0)>;

// kWidened codes have a whole group of 16, 32, 64 or 128 in a vector's bytes, packed ones one of 32, 64 or
// 128.
template <class Kernels, class Codes, bool kWidened, bool kShort>
typename Kernels::Fn kernel_of(int64_t lanes_per_group) {
  constexpr int kMost = 32 / Codes::kPlanes, kLeast = kWidened ? 4 : std::max(4, kMost / 4);
  // Vectors of a group that are added before their lanes are: too much for 16 bits.
  constexpr bool kShort16 = kShort && kRows >= 16;
  switch (lanes_per_group) {
    case 4:
      if constexpr (kLeast <= 4) return Kernels::template kFn<Codes, kWidened, 4, kShort>;
      return nullptr;
    case 8: return Kernels::template kFn<Codes, kWidened, 8, kShort>;
    case 16:
      if constexpr (kMost >= 16) return Kernels::template kFn<Codes, kWidened, 16, kShort16>;
      return nullptr;
    case 32:
      if constexpr (kMost >= 32) return Kernels::template kFn<Codes, kWidened, 32, false>;
      return nullptr;
    default: return nullptr;
  }
}

// Kernels::kFn<Codes, kWidened, kLanes, kShort> for these weights. kWidened: codes are bytes in Work::wide;
// kLanes: 32-bit lanes of a group in its vectors of codes; kShort: sums of two lanes fit 16 bits, as they do
// for packed codes of 4 and 2 bits. Null for what there is not.
template <class Kernels>
typename Kernels::Fn kernel_for(const QmmWeights& w) {
  const int64_t lanes_per_group = w.integers.group / 4 / stream_planes(w);
  switch (w.format) {
    case QuantFormat::kAffine: break;
    case QuantFormat::kQ4_0: return Kernels::template kFn<Q4_0, false, Q4_0::kLanes, true>;
    case QuantFormat::kQ4_1: return Kernels::template kFn<Q4_1, false, Q4_1::kLanes, true>;
    case QuantFormat::kQ8_0: return Kernels::template kFn<ByteBlocks, false, 8, false>;
    case QuantFormat::kQ4K: return Kernels::template kFn<FourBitSuperblocks, false, 8, true>;
    case QuantFormat::kQ6K: return Kernels::template kFn<SixBitSuperblocks, false, 4, false>;
    default:
      return wide_codes(w) ? kernel_of<Kernels, WideBytes, true, false>(lanes_per_group)
                           : kernel_of<Kernels, NarrowBytes, true, false>(lanes_per_group);
  }
  switch (w.bits) {
    case 2: return kernel_of<Kernels, Packed<2>, false, true>(lanes_per_group);
    case 4: return kernel_of<Kernels, Packed<4>, false, true>(lanes_per_group);
    case 8: return kernel_of<Kernels, Packed<8>, false, false>(lanes_per_group);
    case 3:
    case 5:
    case 6: return kernel_of<Kernels, NarrowBytes, true, false>(lanes_per_group);
    default: return nullptr;
  }
}

}  // namespace row_lanes
}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // LAMINA_SIMD_TARGET
#endif
