#include <algorithm>
#include <cstring>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/qmm_kernel.h"
#include "backend/cpu/simd_target.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/qmm_pack.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/qmm_decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

// Rows of B's panel are weight rows: at most as many as two AVX-512 vectors have lanes.
constexpr int64_t kMostPanel = 32;
constexpr int64_t kMostGroups = kGemmDepth / 32;
// Codes are decoded 32 at a time, which is a whole number of words for every width.
constexpr int64_t kRun = 32;

// Code number kIndex of a run of 32 whose words lie `width` floats apart, in every lane; less kCentre.
template <int kBits, int kIndex>
HWY_INLINE V decode_at(V table, const float* words, int64_t width) {
  constexpr int kWord = kIndex * kBits / 32, kShift = kIndex * kBits % 32;
  const auto load = [&](int i) HWY_ATTR { return hn::BitCast(D32(), hn::Load(D(), words + i * width)); };
  auto bits = hn::ShiftRight<kShift>(load(kWord));
  if constexpr (kShift + kBits > 32) bits = hn::Or(bits, hn::ShiftLeft<32 - kShift>(load(kWord + 1)));
  return decode_low<kBits>(table, bits);
}

// One panel: the words of 2 vectors of weight rows are transposed, so that every lane decodes its own row.
template <int kBits>
void pack_panel_transposed(const QmmWeights& w, int64_t row0, int64_t k0, int64_t depth, float* dst) {
  const int64_t lanes = lane_count(), width = 2 * lanes;
  HWY_ALIGN float words[kGemmDepth * 8 / 32 * kMostPanel];
  HWY_ALIGN float scales[kMostGroups * kMostPanel];
  HWY_ALIGN float biases[kMostGroups * kMostPanel];
  const int64_t g0 = k0 / w.group, groups = (k0 + depth - 1) / w.group - g0 + 1;
  transpose_words(w, row0, width, k0 * kBits / 32, depth * kBits / 32, words);
  widen_edges(w.scales, w, row0, width, g0, groups, scales);
  widen_edges(w.biases, w, row0, width, g0, groups, biases);
  const V table = make_table<kBits>(), centre = hn::Set(D(), kCentre<kBits>);
  for (int64_t k = 0; k < depth; k += kRun) {
    const int64_t g = (k0 + k) / w.group - g0;
    for (int64_t c = 0; c < width; c += lanes) {
      const V scale = hn::Load(D(), scales + g * width + c);
      const V bias = hn::MulAdd(centre, scale, hn::Load(D(), biases + g * width + c));
      const float* run = words + k * kBits / 32 * width + c;
      float* out = dst + k * width + c;
      unroll<kRun>([&](auto i) HWY_ATTR {
        const V value = decode_at<kBits, static_cast<int>(i)>(table, run, width);
        hn::Store(hn::MulAdd(value, scale, bias), D(), out + i * width);
      });
    }
  }
}

template <int kBits>
void pack_transposed_bits(const QmmWeights& w, int64_t k0, int64_t depth, int64_t col0, int64_t cols,
                          float* dst) {
  const int64_t nr = 2 * lane_count();
  for (int64_t c = 0; c < cols; c += nr)
    pack_panel_transposed<kBits>(w, col0 + c, k0, depth, dst + c * depth);
}

// Where a run of 32 codes begins; a copy where reading past its end could leave the matrix.
const uint8_t* safe_codes(const QmmWeights& w, int64_t row, int64_t first, uint8_t* copy) {
  const int64_t begin = row * w.row_bytes() + first * w.bits / 8, bytes = kRun * w.bits / 8;
  if (begin + bytes + 16 <= w.rows * w.row_bytes()) return w.codes + begin;
  std::memcpy(copy, w.codes + begin, static_cast<size_t>(bytes));
  return copy;
}

// Columns come in whole runs of 32: they are packed along the stored axis, and jobs begin at multiples of 32.
template <int kBits>
void pack_plain_bits(const QmmWeights& w, int64_t k0, int64_t depth, int64_t col0, int64_t cols, float* dst) {
  const int64_t nr = 2 * lane_count(), lanes = lane_count();
  const int64_t g0 = col0 / w.group, groups = (col0 + cols - 1) / w.group - g0 + 1;
  const CodeReader<kBits> reader;
  uint8_t copy[kRun + 16];
  float scales[kMostGroups + kQmmPad], biases[kMostGroups + kQmmPad];
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t c = 0; c < cols; c += kRun) {
      // A strip is at most kGemmDepth columns wide at once, so that its groups fit.
      if (c % kGemmDepth == 0) {
        const int64_t first = c / w.group, n = std::min(groups - first, kMostGroups);
        widen_padded(w.scales, w.scale_dtype, (k0 + k) * w.groups() + g0 + first, n, scales);
        widen_padded(w.biases, w.scale_dtype, (k0 + k) * w.groups() + g0 + first, n, biases);
      }
      const int64_t g = (col0 + c) / w.group - g0 - c / kGemmDepth * kGemmDepth / w.group;
      const V scale = hn::Set(D(), scales[g]), bias = hn::Set(D(), biases[g]);
      const uint8_t* codes = safe_codes(w, k0 + k, col0 + c, copy);
      for (int64_t i = 0; i < kRun; i += lanes) {
        float* out = dst + (c + i) / nr * nr * depth + k * nr + (c + i) % nr;
        hn::Store(hn::MulAdd(reader.load(codes, i), scale, bias), D(), out);
      }
    }
  }
}

template <class F>
void with_bits(int bits, const F& f) {
  switch (bits) {
    case 1: return f(std::integral_constant<int, 1>());
    case 2: return f(std::integral_constant<int, 2>());
    case 3: return f(std::integral_constant<int, 3>());
    case 4: return f(std::integral_constant<int, 4>());
    case 5: return f(std::integral_constant<int, 5>());
    case 6: return f(std::integral_constant<int, 6>());
    default: return f(std::integral_constant<int, 8>());
  }
}

void transposed(const QmmWeights& w, int64_t k0, int64_t depth, int64_t col0, int64_t cols, float* dst) {
  with_bits(w.bits, [&](auto bits) HWY_ATTR { pack_transposed_bits<bits()>(w, k0, depth, col0, cols, dst); });
}
void plain(const QmmWeights& w, int64_t k0, int64_t depth, int64_t col0, int64_t cols, float* dst) {
  with_bits(w.bits, [&](auto bits) HWY_ATTR { pack_plain_bits<bits()>(w, k0, depth, col0, cols, dst); });
}

}  // namespace

const QmmPack* pack_kernels() {
  static constexpr QmmPack kTable = {transposed, plain};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(pack_kernels);

const QmmPack& qmm_pack(QuantFormat format) {
  if (format != QuantFormat::kAffine) return qmm_blocks().pack;
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(pack_kernels)();
}

}  // namespace lamina::cpu
#endif
