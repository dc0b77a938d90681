#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>

namespace lamina {

// Capacities of blocks. Up to 512 bytes: multiples of 64. Then eight steps to every power of two, so that at
// most an eighth is wasted, and from kHugeBytes on whole pages.
inline constexpr size_t kAlignmentBytes = 64;
inline constexpr size_t kSmallMaxBytes = size_t{64}
                                         << 10;        // up to here blocks come from malloc and size classes
inline constexpr size_t kHugeBytes = size_t{2} << 20;  // from here on blocks lie on huge pages
inline constexpr unsigned kSmallClasses = 64;

constexpr size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// The class of a request of up to kSmallMaxBytes.
constexpr unsigned small_class(size_t bytes) {
  if (bytes <= 512) return static_cast<unsigned>((std::max<size_t>(bytes, 1) - 1) / 64);
  const unsigned log = static_cast<unsigned>(std::bit_width(bytes - 1)) - 1;
  return 8 * (log - 8) + static_cast<unsigned>((bytes - 1) >> (log - 3)) % 8;
}
constexpr size_t small_class_bytes(unsigned index) {
  if (index < 8) return size_t{64} * (index + 1);
  return size_t{index % 8 + 9} << (index / 8 + 5);
}

// Capacity of a block for a request of `bytes`; far below SIZE_MAX, which the caller has checked.
constexpr size_t block_capacity(size_t bytes, size_t page_bytes) {
  if (bytes <= kSmallMaxBytes) return small_class_bytes(small_class(bytes));
  const size_t step = bytes >= kHugeBytes ? page_bytes : std::bit_floor(bytes - 1) / 8;
  return round_up(bytes, std::max(step, page_bytes));
}

// Large blocks are kept in bins by their leading four bits; kBinsPerRequest of them from the request's own on
// hold every block that fits with at most an eighth to spare.
inline constexpr size_t kLargeBins = 8 * (64 - 16);
inline constexpr size_t kBinsPerRequest = 3;
constexpr size_t large_bin(size_t capacity) {
  const size_t log = static_cast<size_t>(std::bit_width(capacity)) - 1;
  return 8 * (log - 16) + (capacity >> (log - 3)) % 8;
}

}  // namespace lamina
