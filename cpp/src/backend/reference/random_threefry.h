#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace lamina {

inline constexpr uint32_t kThreefryParity = 0x1BD11BDAu;
inline constexpr int kThreefryRotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};

// Threefry-2x32 with 20 rounds (Salmon et al. 2011): two words of noise for a key and a counter.
constexpr std::array<uint32_t, 2> threefry(std::array<uint32_t, 2> key, std::array<uint32_t, 2> counter) {
  const uint32_t ks[3] = {key[0], key[1], key[0] ^ key[1] ^ kThreefryParity};
  uint32_t x = counter[0] + ks[0], y = counter[1] + ks[1];
  for (uint32_t group = 0; group < 5; ++group) {
    for (int r : kThreefryRotations[group % 2]) {
      x += y;
      y = std::rotl(y, r) ^ x;
    }
    x += ks[(group + 1) % 3];
    y += ks[(group + 2) % 3] + group + 1;
  }
  return {x, y};
}

// Block i of a stream of `words` words: it gives word i, and word half + i where there is one. half =
// ceil(words / 2).
constexpr std::array<uint32_t, 2> threefry_block(std::array<uint32_t, 2> key, int64_t i, int64_t words) {
  const int64_t half = (words + 1) / 2;
  const uint32_t second = half + i < words ? static_cast<uint32_t>(half + i) : 0;
  return threefry(key, {static_cast<uint32_t>(i), second});
}

}  // namespace lamina
