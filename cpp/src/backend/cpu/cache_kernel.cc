#include "backend/cpu/cache_kernel.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/simd_target.h"
#include "quant/kv_rows.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/cache_kernel.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

#if LAMINA_SIMD_TARGET

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));
constexpr int64_t kVectors = kKvGroup / kLanes;

// The codes of a whole group as bytes, -127 .. 127 or -8 .. 7, and its scale.
float16_t encode_group(const float* x, int bits, int8_t* codes) {
  const D d;
  const hn::Rebind<int8_t, D> d8;
  const hn::RebindToSigned<D> d32;
  V low = hn::Zero(d), high = hn::Zero(d), bad = hn::Zero(d);
  for (int64_t i = 0; i < kKvGroup; i += kLanes) {
    const V v = hn::LoadU(d, x + i);
    low = hn::Min(low, v), high = hn::Max(high, v);
    bad = hn::MulAdd(v, hn::Zero(d), bad);  // NaN from an infinity or NaN on
  }
  if (!hn::AllTrue(d, hn::Eq(bad, hn::Zero(d)))) {
    std::fill_n(codes, kKvGroup, int8_t{0});
    return float16_t(std::numeric_limits<float>::quiet_NaN());
  }
  const float least = hn::GetLane(hn::MinOfLanes(d, low)), most = hn::GetLane(hn::MaxOfLanes(d, high));
  const float edge = std::max(-least, most);
  const float16_t stored(bits == 8 ? edge / 127 : (-least == edge ? least : most) / -8);
  const auto scale = static_cast<float>(stored);
  const V inverse = hn::Set(d, scale == 0 ? 0 : 1 / scale);
  const V bottom = hn::Set(d, bits == 8 ? -127.0f : -8.0f), top = hn::Set(d, bits == 8 ? 127.0f : 7.0f);
  for (int64_t i = 0; i < kVectors; ++i) {
    const V code = hn::Round(hn::Mul(hn::LoadU(d, x + i * kLanes), inverse));
    hn::StoreU(hn::DemoteTo(d8, hn::ConvertTo(d32, hn::Min(hn::Max(code, bottom), top))), d8,
               codes + i * kLanes);
  }
  return stored;
}

void encode(const float* row, int64_t elems, int bits, void* codes, float16_t* scales) {
  int64_t i = 0;
  for (; i + kKvGroup <= elems; i += kKvGroup) {
    auto* bytes = static_cast<uint8_t*>(codes) + i * bits / 8;
    if (bits == 8) {
      scales[i / kKvGroup] = encode_group(row + i, bits, reinterpret_cast<int8_t*>(bytes));
      continue;
    }
    int8_t group[kKvGroup];
    scales[i / kKvGroup] = encode_group(row + i, bits, group);
    for (int64_t j = 0; j < kKvGroup / 2; ++j) {
      bytes[j] = static_cast<uint8_t>((group[2 * j] + 8) | (group[2 * j + 1] + 8) << 4);
    }
  }
  if (i == elems) return;
  encode_kv_row(row + i, elems - i, bits, static_cast<uint8_t*>(codes) + i * bits / 8, scales + i / kKvGroup);
}

#else

constexpr auto encode = encode_kv_row;

#endif

}  // namespace

const CacheKernels* cache_writers() {
  static constexpr CacheKernels kTable = {encode};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(cache_writers);

const CacheKernels& cache_kernels() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(cache_writers)();
}

}  // namespace lamina::cpu
#endif
