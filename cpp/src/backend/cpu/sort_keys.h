#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "backend/reference/layout_dtype.h"

namespace lamina::cpu {

// Unsigned keys that order like the values of T: NaN is the largest key. 8- and 16-bit values use the low
// bits of 32.
template <class T>
struct SortKey {
  static constexpr int kBits = 8 * static_cast<int>(sizeof(T));
  using Key = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  using Raw = std::conditional_t<
      sizeof(T) == 8, uint64_t,
      std::conditional_t<sizeof(T) == 4, uint32_t, std::conditional_t<sizeof(T) == 2, uint16_t, uint8_t>>>;
  static constexpr bool kFloating = kIsHalf<T> || std::is_floating_point_v<T>;
  static constexpr Raw kSign = static_cast<Raw>(Raw{1} << (kBits - 1));
  static constexpr Raw kNan = std::numeric_limits<Raw>::max();

  // Keys of distinct bit patterns differ, but for NaNs; -0 comes right before 0.
  static Key exact(T x) {
    const Raw raw = std::bit_cast<Raw>(x);
    if constexpr (kFloating) {
      const Raw flip = (raw & kSign) != 0 ? kNan : kSign;
      return is_nan(x) ? kNan : static_cast<Raw>(raw ^ flip);
    } else {
      return std::is_signed_v<T> ? static_cast<Raw>(raw ^ kSign) : raw;
    }
  }
  // Keys of equal values are equal.
  static Key equal(T x) {
    if constexpr (kFloating) {
      return std::bit_cast<Raw>(x) == kSign ? kSign : exact(x);
    } else {
      return exact(x);
    }
  }
  // The value of an exact key; NaN comes back quiet and positive.
  static T value(Key key) {
    const Raw raw = static_cast<Raw>(key);
    if constexpr (kFloating) {
      return std::bit_cast<T>(static_cast<Raw>(raw ^ ((raw & kSign) != 0 ? kSign : kNan)));
    } else {
      return std::bit_cast<T>(std::is_signed_v<T> ? static_cast<Raw>(raw ^ kSign) : raw);
    }
  }
};

// What is sorted: a bare key, or a key with the index it came from.
inline uint32_t key_of(uint32_t item) { return item; }
inline uint64_t key_of(uint64_t item) { return item; }

struct Pair32 {
  uint32_t index, key;
};
struct Pair64 {
  uint64_t key, index;
};
inline uint32_t key_of(Pair32 item) { return item.key; }
inline uint64_t key_of(Pair64 item) { return item.key; }

}  // namespace lamina::cpu
