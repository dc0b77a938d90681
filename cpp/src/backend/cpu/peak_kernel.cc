#include "backend/cpu/peak_kernel.h"

#include "backend/cpu/simd_target.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/peak_kernel.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

// Twelve sums that do not wait for each other: two units of four or five cycles are always busy.
double multiply_add(int64_t rounds, float* sink) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  // Numbers that stay near 1: each round multiplies by 1 - 2^-23 and adds 2^-23.
  const V a = hn::Set(d, 1.0f - 0x1p-23f), b = hn::Set(d, 0x1p-23f);
  V s0 = hn::Iota(d, 1), s1 = hn::Iota(d, 2), s2 = hn::Iota(d, 3), s3 = hn::Iota(d, 4);
  V s4 = hn::Iota(d, 5), s5 = hn::Iota(d, 6), s6 = hn::Iota(d, 7), s7 = hn::Iota(d, 8);
  V s8 = hn::Iota(d, 9), s9 = hn::Iota(d, 10), s10 = hn::Iota(d, 11), s11 = hn::Iota(d, 12);
  for (int64_t i = 0; i < rounds; ++i) {
    s0 = hn::MulAdd(s0, a, b);
    s1 = hn::MulAdd(s1, a, b);
    s2 = hn::MulAdd(s2, a, b);
    s3 = hn::MulAdd(s3, a, b);
    s4 = hn::MulAdd(s4, a, b);
    s5 = hn::MulAdd(s5, a, b);
    s6 = hn::MulAdd(s6, a, b);
    s7 = hn::MulAdd(s7, a, b);
    s8 = hn::MulAdd(s8, a, b);
    s9 = hn::MulAdd(s9, a, b);
    s10 = hn::MulAdd(s10, a, b);
    s11 = hn::MulAdd(s11, a, b);
  }
  const V low = hn::Add(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)), hn::Add(s4, s5));
  const V high = hn::Add(hn::Add(hn::Add(s6, s7), hn::Add(s8, s9)), hn::Add(s10, s11));
  *sink = hn::GetLane(hn::SumOfLanes(d, hn::Add(low, high)));
  return 2.0 * 12.0 * static_cast<double>(rounds) * static_cast<double>(hn::Lanes(d));
}

uint64_t read(const uint64_t* words, size_t count) {
  const hn::ScalableTag<uint64_t> d;
  using V = hn::Vec<decltype(d)>;
  const size_t lanes = hn::Lanes(d);
  V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  size_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    s0 = hn::Xor(s0, hn::LoadU(d, words + i));
    s1 = hn::Xor(s1, hn::LoadU(d, words + i + lanes));
    s2 = hn::Xor(s2, hn::LoadU(d, words + i + 2 * lanes));
    s3 = hn::Xor(s3, hn::LoadU(d, words + i + 3 * lanes));
  }
  uint64_t total = hn::GetLane(hn::SumOfLanes(d, hn::Xor(hn::Xor(s0, s1), hn::Xor(s2, s3))));
  for (; i < count; ++i) total ^= words[i];
  return total;
}

}  // namespace

const PeakKernels* peak_table() {
  static constexpr PeakKernels kTable = {multiply_add, read};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(peak_table);

const PeakKernels& peak_kernels() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(peak_table)();
}

}  // namespace lamina::cpu
#endif
