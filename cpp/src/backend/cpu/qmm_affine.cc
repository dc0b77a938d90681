#include "backend/cpu/qmm_affine.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/qmm_kernel.h"
#include "backend/cpu/simd_target.h"
#include "core/thread_pool.h"
#include "quant/affine.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/qmm_affine.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/qmm_decode-inl.h"

#ifndef LAMINA_CPU_QMM_AFFINE_ROWS_
#define LAMINA_CPU_QMM_AFFINE_ROWS_
namespace lamina::cpu {
namespace {

// Rows [begin, end) of the leading axes taken together, of contiguous rows of `cols` elements.
struct AffineRows {
  const void* w;
  void *packed, *scales, *biases;
  int64_t cols, begin, end;
  int group, bits;
};
using AffineFn = void (*)(const AffineRows&);

// Entry points by dtype: float32, float16, bfloat16; null where the plain code serves.
struct AffineTable {
  AffineFn quantize[3], dequantize[3];
};

}  // namespace
}  // namespace lamina::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

#if LAMINA_SIMD_TARGET

// Codes of eight elements, one a byte, to and from their 8 * bits bits in a row.
uint64_t low_bits_of_bytes(int bits) { return 0x0101010101010101u * ((1u << bits) - 1); }

template <class T>
void quantize_rows(const AffineRows& a) {
  const D d;
  const hn::Rebind<int32_t, D> di;
  const hn::Rebind<uint8_t, D> d8;
  const int64_t lanes = lane_count(), groups = a.cols / a.group, row_bytes = a.cols * a.bits / 8;
  const uint64_t mask = low_bits_of_bytes(a.bits);
  const V top = hn::Set(d, static_cast<float>((1 << a.bits) - 1));
  HWY_ALIGN float x[128];
  HWY_ALIGN uint8_t codes[128];
  // Eight bytes are written at a time, `bits` of them kept.
  uint8_t bytes[128 + 8];
  for (int64_t row = a.begin; row < a.end; ++row) {
    for (int64_t g = 0; g < groups; ++g) {
      const T* src = static_cast<const T*>(a.w) + row * a.cols + g * a.group;
      V lo = hn::Set(d, INFINITY), hi = hn::Set(d, -INFINITY);
      for (int64_t i = 0; i < a.group; i += lanes) {
        const V v = load_as(d, src + i);
        // A NaN is passed over: the second operand wins.
        lo = hn::Min(v, lo), hi = hn::Max(v, hi);
        hn::Store(v, d, x + i);
      }
      const AffineEdges e =
          affine_edges(hn::GetLane(hn::MinOfLanes(d, lo)), hn::GetLane(hn::MaxOfLanes(d, hi)), a.bits);
      const V scale = hn::Set(d, e.scale), bias = hn::Set(d, e.bias);
      for (int64_t i = 0; i < a.group; i += lanes) {
        const V code = hn::Round(hn::Div(hn::Sub(hn::Load(d, x + i), bias), scale));
        const V kept = hn::Min(hn::Max(code, hn::Zero(d)), top);
        hn::StoreU(hn::DemoteTo(d8, hn::ConvertTo(di, kept)), d8, codes + i);
      }
      for (int64_t i = 0; i < a.group; i += 8) {
        uint64_t eight;
        std::memcpy(&eight, codes + i, 8);
        eight = _pext_u64(eight, mask);
        std::memcpy(bytes + i / 8 * a.bits, &eight, 8);
      }
      std::memcpy(static_cast<uint8_t*>(a.packed) + row * row_bytes + g * a.group * a.bits / 8, bytes,
                  static_cast<size_t>(a.group * a.bits / 8));
      static_cast<T*>(a.scales)[row * groups + g] = T(e.scale);
      static_cast<T*>(a.biases)[row * groups + g] = T(e.bias);
    }
  }
}

// v rounded to T, as float.
template <class T>
HWY_INLINE V rounded_to(V v) {
  if constexpr (sizeof(T) == 4) return v;
  HWY_ALIGN T part[hn::MaxLanes(D())];
  store_as(v, D(), part);
  return load_as(D(), part);
}

template <class T>
void dequantize_rows(const AffineRows& a) {
  const D d;
  const hn::Rebind<int32_t, D> di;
  const hn::Rebind<uint8_t, D> d8;
  const int64_t lanes = lane_count(), groups = a.cols / a.group, row_bytes = a.cols * a.bits / 8;
  const int64_t group_bytes = a.group * a.bits / 8;
  const uint64_t mask = low_bits_of_bytes(a.bits);
  HWY_ALIGN uint8_t codes[128];
  uint8_t bytes[128 + 8] = {};
  for (int64_t row = a.begin; row < a.end; ++row) {
    for (int64_t g = 0; g < groups; ++g) {
      std::memcpy(bytes, static_cast<const uint8_t*>(a.packed) + row * row_bytes + g * group_bytes,
                  static_cast<size_t>(group_bytes));
      for (int64_t i = 0; i < a.group; i += 8) {
        uint64_t eight;
        std::memcpy(&eight, bytes + i / 8 * a.bits, 8);
        eight = _pdep_u64(eight, mask);
        std::memcpy(codes + i, &eight, 8);
      }
      const V scale = hn::Set(d, static_cast<float>(static_cast<const T*>(a.scales)[row * groups + g]));
      const V bias = hn::Set(d, static_cast<float>(static_cast<const T*>(a.biases)[row * groups + g]));
      T* dst = const_cast<T*>(static_cast<const T*>(a.w)) + row * a.cols + g * a.group;
      for (int64_t i = 0; i < a.group; i += lanes) {
        const V code = hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, codes + i)));
        store_as(hn::Add(rounded_to<T>(hn::Mul(code, scale)), bias), d, dst + i);
      }
    }
  }
}

#endif

}  // namespace

const void* affine_table() {
#if LAMINA_SIMD_TARGET
  static constexpr AffineTable kTable = {
      {quantize_rows<float>, quantize_rows<float16_t>, quantize_rows<bfloat16_t>},
      {dequantize_rows<float>, dequantize_rows<float16_t>, dequantize_rows<bfloat16_t>}};
#else
  static constexpr AffineTable kTable = {};
#endif
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(affine_table);

namespace {

const AffineTable& kernels() {
  init_simd_target();
  return *static_cast<const AffineTable*>(HWY_DYNAMIC_DISPATCH(affine_table)());
}

int index_of(Dtype t) { return t == Dtype::kFloat16 ? 1 : t == Dtype::kBFloat16 ? 2 : 0; }

void run_rows(AffineFn fn, const View& w, int group, int bits, const View& packed, const View& scales,
              const View& biases) {
  AffineRows all{w.data, packed.data, scales.data, biases.data, w.shape.back(), 0, 0, group, bits};
  const int64_t rows = w.size() / w.shape.back();
  parallel_ranges(rows, std::max<int64_t>(1, 65536 / w.shape.back()), [&](int64_t begin, int64_t end) {
    AffineRows some = all;
    some.begin = begin, some.end = end;
    fn(some);
  });
}

}  // namespace

void quantize_affine(const View& w, int group, int bits, const View& packed, const View& scales,
                     const View& biases) {
  const AffineFn fn = kernels().quantize[index_of(w.dtype)];
  if (!fn || !w.row_contiguous() || w.size() == 0)
    return affine_quantize(w, group, bits, packed, scales, biases);
  run_rows(fn, w, group, bits, packed, scales, biases);
}

void dequantize_affine(const View& packed, const View& scales, const View& biases, int group, int bits,
                       const View& w) {
  const AffineFn fn = kernels().dequantize[index_of(w.dtype)];
  const bool dense = packed.row_contiguous() && scales.row_contiguous() && biases.row_contiguous();
  if (!fn || !dense || w.size() == 0) return affine_dequantize(packed, scales, biases, group, bits, w);
  run_rows(fn, w, group, bits, packed, scales, biases);
}

}  // namespace lamina::cpu
#endif
