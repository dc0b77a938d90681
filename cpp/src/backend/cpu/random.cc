#include "backend/cpu/random.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "backend/reference/layout.h"
#include "backend/reference/random_threefry.h"
#include "core/thread_pool.h"

#define LAMINA_WITHOUT_AVX3_DL
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/random.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include "backend/cpu/targets.h"
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// By bytes where that is one instruction instead of three.
template <int kLeft, class V>
HWY_INLINE V rotate_left(V v) {
#if HWY_TARGET == HWY_AVX2
  if constexpr (kLeft % 8 == 0) {
    constexpr int kBytes = kLeft / 8;
    alignas(16) static constexpr std::array<uint8_t, 16> kFrom = [] {
      std::array<uint8_t, 16> from{};
      for (int i = 0; i < 16; ++i) from[i] = static_cast<uint8_t>((i & ~3) | ((i - kBytes) & 3));
      return from;
    }();
    const hn::DFromV<V> d;
    const hn::Repartition<uint8_t, decltype(d)> bytes;
    return hn::BitCast(d, hn::TableLookupBytes(hn::BitCast(bytes, v), hn::LoadDup128(bytes, kFrom.data())));
  }
#endif
  return hn::RotateRight<32 - kLeft>(v);
}

template <int kGroup, int kRound, class D, class V>
HWY_INLINE void mix(D, V (&x)[4], V (&y)[4]) {
  constexpr int kLeft = kThreefryRotations[kGroup % 2][kRound];
  for (int u = 0; u < 4; ++u) x[u] = hn::Add(x[u], y[u]);
  for (int u = 0; u < 4; ++u) y[u] = hn::Xor(rotate_left<kLeft>(y[u]), x[u]);
}

template <int kGroup, class D, class V>
HWY_INLINE void mix_group(D d, const uint32_t (&ks)[3], V (&x)[4], V (&y)[4]) {
  mix<kGroup, 0>(d, x, y);
  mix<kGroup, 1>(d, x, y);
  mix<kGroup, 2>(d, x, y);
  mix<kGroup, 3>(d, x, y);
  const V add_x = hn::Set(d, ks[(kGroup + 1) % 3]), add_y = hn::Set(d, ks[(kGroup + 2) % 3] + kGroup + 1);
  for (int u = 0; u < 4; ++u) {
    x[u] = hn::Add(x[u], add_x);
    y[u] = hn::Add(y[u], add_y);
  }
}

// Blocks [begin, end) of threefry_block with half + i < words: word i goes to out[i], word half + i to
// out[half + i]. Returns the first block not done.
int64_t fill_blocks(const uint32_t* key, int64_t half, int64_t begin, int64_t end, uint32_t* out) {
  const hn::ScalableTag<uint32_t> d;
  using V = hn::Vec<decltype(d)>;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const uint32_t ks[3] = {key[0], key[1], key[0] ^ key[1] ^ kThreefryParity};
  int64_t i = begin;
  const V step = hn::Set(d, static_cast<uint32_t>(lanes)), first = hn::Iota(d, 0);
  V next_x = hn::Add(first, hn::Set(d, static_cast<uint32_t>(i) + ks[0]));
  V next_y = hn::Add(first, hn::Set(d, static_cast<uint32_t>(half + i) + ks[1]));
  for (; i + 4 * lanes <= end; i += 4 * lanes) {
    V x[4], y[4];
    for (int u = 0; u < 4; ++u) {
      x[u] = std::exchange(next_x, hn::Add(next_x, step));
      y[u] = std::exchange(next_y, hn::Add(next_y, step));
    }
    mix_group<0>(d, ks, x, y);
    mix_group<1>(d, ks, x, y);
    mix_group<2>(d, ks, x, y);
    mix_group<3>(d, ks, x, y);
    mix_group<4>(d, ks, x, y);
    for (int64_t u = 0; u < 4; ++u) {
      hn::StoreU(x[u], d, out + i + u * lanes);
      hn::StoreU(y[u], d, out + half + i + u * lanes);
    }
  }
  return i;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {
namespace {

HWY_EXPORT(fill_blocks);

// One key's bytes from block `begin` to block `end` on.
void fill_range(std::array<uint32_t, 2> key, char* to, int64_t bytes, int64_t begin, int64_t end) {
  const int64_t words = (bytes + 3) / 4, half = (words + 1) / 2;
  // Whole pairs of words go to aligned memory as vectors; the rest, and odd addresses, word by word.
  int64_t i = begin;
  if (reinterpret_cast<uintptr_t>(to) % alignof(uint32_t) == 0) {
    const int64_t whole = std::min(end, bytes / 4 - half);
    if (whole > begin) {
      i = HWY_DYNAMIC_DISPATCH(fill_blocks)(key.data(), half, begin, whole, reinterpret_cast<uint32_t*>(to));
    }
  }
  for (; i < end; ++i) {
    const auto block = threefry_block(key, i, words);
    std::memcpy(to + 4 * i, &block[0], static_cast<size_t>(std::min<int64_t>(4, bytes - 4 * i)));
    const int64_t second = half + i;
    if (second < words) {
      std::memcpy(to + 4 * second, &block[1], static_cast<size_t>(std::min<int64_t>(4, bytes - 4 * second)));
    }
  }
}

}  // namespace

void random_bits(const View& keys, const View& out) {
  constexpr int64_t kGrainBlocks = 8192;
  const auto axis = static_cast<int64_t>(keys.shape.size()) - 1;
  const int64_t word_step = keys.strides[static_cast<size_t>(axis)];
  const View firsts = drop_axis(keys, axis);
  const auto loop = collapse_views<1>({&firsts});
  const int64_t num_keys = loop.size();
  if (num_keys == 0 || out.size() == 0) return;
  const int64_t bytes = out.size() / num_keys * static_cast<int64_t>(itemsize(out.dtype));
  const int64_t blocks = ((bytes + 3) / 4 + 1) / 2;
  // One range over the blocks of all keys; a piece may begin in one key and end in another.
  parallel_ranges(num_keys * blocks, kGrainBlocks, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t k = begin / blocks, first = begin % blocks, last = std::min(blocks, first + end - begin);
      const Odometer at(loop.shape, loop.strides, k);
      const auto* key = reinterpret_cast<const uint32_t*>(static_cast<const char*>(keys.data) + at.offset(0));
      fill_range({key[0], key[word_step]}, static_cast<char*>(out.data) + k * bytes, bytes, first, last);
      begin += last - first;
    }
  });
}

}  // namespace lamina::cpu
#endif
