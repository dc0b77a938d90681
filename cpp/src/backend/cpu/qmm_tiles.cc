// Products of the int8 mode in the tiles of AMX. Weights are the left operand, as they lie, and activations
// the right one, so that weights need no transposition.
#include <algorithm>

#include "backend/cpu/amx.h"
#include "backend/cpu/qmm_kernel.h"
#include "backend/cpu/simd_target.h"

#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/qmm_tiles.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "backend/cpu/qmm_decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

#if HWY_TARGET == HWY_AVX3_DL

constexpr int64_t kRows = kQmmTileRows, kCols = kQmmTileCols, kTile = kCols * kCols;
// Groups whose dots are made before they are scaled. Products of 512 bits are half as fast for some time
// after each use of the tiles, and more dots would not stay in the first-level cache.
constexpr int64_t kDotGroups = 2;

template <bool kSigned, int kSum, int kLeft>
HWY_INLINE void add_dots(const uint8_t* codes, int64_t codes_ld) {
  amx_load<kLeft>(codes + kSum * kCols * codes_ld, codes_ld);
  if constexpr (kSigned) {
    amx_dot_s8s8<kSum, kLeft, 7>();
  } else {
    amx_dot_u8s8<kSum, kLeft, 7>();
  }
}

// dots[tile * kDotGroups * kTile + row * 16 + activation] of one group, for four tiles of 16 weight rows.
template <bool kSigned>
HWY_INLINE void dot_group(const QmmTileArgs& a, int64_t g, int32_t* dots) {
  amx_zero<0>();
  amx_zero<1>();
  amx_zero<2>();
  amx_zero<3>();
  for (int64_t k = g * a.group; k < (g + 1) * a.group; k += 64) {
    amx_load<7>(a.units + k / 4 * kCols, 64);
    add_dots<kSigned, 0, 4>(a.codes + k, a.codes_ld);
    add_dots<kSigned, 1, 5>(a.codes + k, a.codes_ld);
    add_dots<kSigned, 2, 6>(a.codes + k, a.codes_ld);
    add_dots<kSigned, 3, 4>(a.codes + k, a.codes_ld);
  }
  amx_store<0>(dots, 64);
  amx_store<1>(dots + kDotGroups * kTile, 64);
  amx_store<2>(dots + 2 * kDotGroups * kTile, 64);
  amx_store<3>(dots + 3 * kDotGroups * kTile, 64);
}

HWY_INLINE void load_totals(const float* from, V (&totals)[kCols]) {
  unroll<kCols>([&](auto r) HWY_ATTR { totals[r] = hn::Load(D(), from + r * kCols); });
}
HWY_INLINE void store_totals(const V (&totals)[kCols], float* to) {
  unroll<kCols>([&](auto r) HWY_ATTR { hn::Store(totals[r], D(), to + r * kCols); });
}

// Brings the lines of QmmTileArgs::next into the cache, some at each call.
class Fetch {
 public:
  Fetch(const QmmTileArgs& a, int64_t calls)
      : row_(a.next), ld_(a.next_ld), bytes_(a.next_bytes), rows_(a.next_bytes > 0 ? kRows : 0) {
    const int64_t lines = rows_ * ((bytes_ + 63) / 64);
    each_ = (lines + calls - 1) / calls;
  }
  HWY_INLINE void some() {
    for (int64_t i = 0; i < each_ && rows_ > 0; ++i) {
      _mm_prefetch(reinterpret_cast<const char*>(row_ + at_), _MM_HINT_T1);
      at_ += 64;
      if (at_ >= bytes_) at_ = 0, row_ += ld_, --rows_;
    }
  }

 private:
  const uint8_t* row_;
  int64_t ld_, bytes_, rows_, each_ = 0, at_ = 0;
};

// totals[row + r] += dot * x_scale * w_scale for `count` groups from `first` on.
HWY_INLINE void add_groups(const QmmTileArgs& a, int64_t first, int64_t count, int64_t row,
                           const int32_t* dots) {
  V totals[kCols];
  load_totals(a.totals + row * kCols, totals);
  for (int64_t g = 0; g < count; ++g) {
    const int32_t* from = dots + row / kCols * kDotGroups * kTile + g * kTile;
    const float* w_scales = a.w_scales + (first + g) * kRows + row;
    const V x_scale = hn::Load(D(), a.x_scales + (first + g) * kCols);
    unroll<kCols>([&](auto r) HWY_ATTR {
      const V dot = hn::Mul(hn::ConvertTo(D(), hn::Load(DI(), from + r * kCols)), x_scale);
      totals[r] = hn::MulAdd(dot, hn::Set(D(), w_scales[r]), totals[r]);
    });
  }
  store_totals(totals, a.totals + row * kCols);
}

// The tiles make the dots of the next two groups while those of two are scaled: neither waits for the other.
template <bool kSigned>
void multiply(const QmmTileArgs& a) {
  HWY_ALIGN int32_t dots[2][kRows / kCols * kDotGroups * kTile];
  Fetch fetch(a, (a.groups + kDotGroups - 1) / kDotGroups * (kRows / kCols));
  const auto dot = [&](int64_t g, int now) HWY_ATTR {
    if (g < a.groups) dot_group<kSigned>(a, g, dots[now] + g % kDotGroups * kTile);
  };
  int now = 0;
  for (int64_t g = 0; g < kDotGroups; ++g) dot(g, now);
  for (int64_t g = 0; g < a.groups; g += kDotGroups, now ^= 1) {
    const int64_t count = std::min(kDotGroups, a.groups - g);
    for (int64_t row = 0; row < kRows; row += kCols) {
      if (row % (2 * kCols) == 0) dot(g + kDotGroups + row / (2 * kCols), now ^ 1);
      fetch.some();
      add_groups(a, g, count, row, dots[now]);
    }
  }
}

void add_biases(int64_t groups, const float* w_biases, const float* x_sums, float* totals) {
  for (int64_t row = 0; row < kRows; row += kCols) {
    V sums[kCols];
    unroll<kCols>([&](auto r) HWY_ATTR { sums[r] = hn::Zero(D()); });
    for (int64_t g = 0; g < groups; ++g) {
      const V x_sum = hn::Load(D(), x_sums + g * kCols);
      const float* biases = w_biases + g * kRows + row;
      unroll<kCols>([&](auto r) HWY_ATTR { sums[r] = hn::MulAdd(x_sum, hn::Set(D(), biases[r]), sums[r]); });
    }
    store_totals(sums, totals + row * kCols);
  }
}

void widen(const QmmWeights& w, int64_t row0, int64_t first, int64_t n, uint8_t* dst) {
  const hn::ScalableTag<uint8_t> d;
  const auto offset = hn::Set(d, static_cast<uint8_t>(w.integers.offset));
  const auto widen_codes = qmm_codes().widen;
  constexpr int64_t kSome = 8;
  for (int64_t r = 0; r < kRows; r += kSome, dst += kSome * n) {
    // Tiles that rest for 0.2 us take 0.3 us to wake up: a product that nobody wants keeps them awake.
    amx_dot_u8s8<0, 4, 7>();
    widen_codes(w, std::min(row0 + r, w.rows - 1), kSome, first, n, dst, n);
    // Whole vectors: what they touch of the next row is not there yet.
    for (int64_t i = 0; w.integers.offset != 0 && i < kSome * n; i += static_cast<int64_t>(hn::Lanes(d))) {
      hn::StoreU(hn::Sub(hn::LoadU(d, dst + i), offset), d, dst + i);
    }
  }
}

void interleave(const int32_t* from, int64_t rows, int64_t units, int32_t* to) {
  const auto row = [&](int64_t r) {
    return reinterpret_cast<const float*>(from + std::min(r, rows - 1) * units);
  };
  transpose_words_of(row, kCols, units, reinterpret_cast<float*>(to), kCols);
}

void turn(const float* totals, float* tile) {
  const auto row = [&](int64_t r) { return totals + r * kCols; };
  transpose_words_of(row, kRows, kCols, tile, kRows);
}

#endif

}  // namespace

const QmmTiles* qmm_tile_kernels() {
#if HWY_TARGET == HWY_AVX3_DL
  static constexpr QmmTiles kTable = {multiply<false>, multiply<true>, add_biases, widen, interleave, turn};
  return &kTable;
#else
  return nullptr;
#endif
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(qmm_tile_kernels);

const QmmTiles& qmm_tiles() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(qmm_tile_kernels)();
}

}  // namespace lamina::cpu
#endif
