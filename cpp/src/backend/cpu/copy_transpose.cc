#include "backend/cpu/copy_transpose.h"

#include <cstring>

#define LAMINA_WITHOUT_AVX3_DL
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/copy_transpose.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include "backend/cpu/targets.h"
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
HWY_INLINE void transpose_scalar(const TransposeJob& j, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
  for (int64_t c = c0; c < c1; ++c) {
    for (int64_t r = r0; r < r1; ++r) {
      std::memcpy(j.out + c * j.out_step + r * static_cast<int64_t>(sizeof(T)),
                  j.in + r * j.in_step + c * static_cast<int64_t>(sizeof(T)), sizeof(T));
    }
  }
}

#if !LAMINA_SIMD_TARGET

template <class T>
void transpose_typed(const TransposeJob& j) {
  transpose_scalar<T>(j, 0, j.rows, 0, j.cols);
}

#else

// A vector whose 128-bit block b comes from `p + b * step`.
template <class D>
HWY_INLINE hn::Vec<D> load_blocks(D d, const uint8_t* p, int64_t step) {
  using T = hn::TFromD<D>;
  if constexpr (hn::MaxLanes(D()) * sizeof(T) <= 16) {
    return hn::LoadU(d, reinterpret_cast<const T*>(p));
  } else {
    const hn::Half<D> half;
    constexpr int64_t kBlocks = hn::MaxLanes(half) * sizeof(T) / 16;
    return hn::Combine(d, load_blocks(half, p + kBlocks * step, step), load_blocks(half, p, step));
  }
}

// One vector of rows by one 128-bit block of columns.
template <class T>
HWY_INLINE void transpose_tile(const uint8_t* in, int64_t in_step, uint8_t* out, int64_t out_step,
                               bool stream) {
  const hn::ScalableTag<T> d;
  constexpr int kBlock = 16 / sizeof(T);
  using V = hn::Vec<decltype(d)>;
  V a[kBlock], b[kBlock];
  for (int i = 0; i < kBlock; ++i) a[i] = load_blocks(d, in + i * in_step, kBlock * in_step);
  // Each round moves the top bit of the register number below the lane number; log2(kBlock) rounds swap the
  // two.
  for (int round = 1; round < kBlock; round *= 2) {
    for (int i = 0; i < kBlock / 2; ++i) {
      b[2 * i] = hn::InterleaveLower(d, a[i], a[i + kBlock / 2]);
      b[2 * i + 1] = hn::InterleaveUpper(d, a[i], a[i + kBlock / 2]);
    }
    for (int i = 0; i < kBlock; ++i) a[i] = b[i];
  }
  for (int i = 0; i < kBlock; ++i) {
    T* to = reinterpret_cast<T*>(out + i * out_step);
    stream ? hn::Stream(a[i], d, to) : hn::StoreU(a[i], d, to);
  }
}

template <class T>
HWY_INLINE void transpose_typed(const TransposeJob& j) {
  constexpr int64_t kSize = sizeof(T), kBlock = 16 / kSize, kLine = 64 / kSize;
  const auto lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  const bool stream = j.stream && j.out_step % 64 == 0 && reinterpret_cast<uintptr_t>(j.out) % 64 == 0;
  const int64_t rows = j.rows / kLine * kLine, cols = j.cols / kBlock * kBlock;
  for (int64_t r = 0; r < rows; r += kLine) {
    for (int64_t c = 0; c < cols; c += kBlock) {
      for (int64_t part = 0; part < kLine; part += lanes) {
        transpose_tile<T>(j.in + (r + part) * j.in_step + c * kSize, j.in_step,
                          j.out + c * j.out_step + (r + part) * kSize, j.out_step, stream);
      }
    }
  }
  transpose_scalar<T>(j, 0, rows, cols, j.cols);
  int64_t r = rows;
  for (; r + lanes <= j.rows; r += lanes) {
    for (int64_t c = 0; c < cols; c += kBlock) {
      transpose_tile<T>(j.in + r * j.in_step + c * kSize, j.in_step, j.out + c * j.out_step + r * kSize,
                        j.out_step, false);
    }
    transpose_scalar<T>(j, r, r + lanes, cols, j.cols);
  }
  transpose_scalar<T>(j, r, j.rows, 0, j.cols);
}

#endif

void transpose_any(const TransposeJob& job, int64_t bytes) {
  switch (bytes) {
    case 1: return transpose_typed<uint8_t>(job);
    case 2: return transpose_typed<uint16_t>(job);
    case 4: return transpose_typed<uint32_t>(job);
    default: return transpose_typed<uint64_t>(job);
  }
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {
HWY_EXPORT(transpose_any);
void transpose_plane(const TransposeJob& job, int64_t bytes) {
  HWY_DYNAMIC_DISPATCH(transpose_any)(job, bytes);
}
}  // namespace lamina::cpu
#endif
