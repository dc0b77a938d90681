#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lamina {

// Element types. The order is part of saved graphs: append only.
enum class Dtype : uint8_t {
  kBool,
  kUInt8,
  kUInt16,
  kUInt32,
  kUInt64,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kFloat16,
  kFloat32,
  kFloat64,
  kBFloat16,
  kComplex64,
};
inline constexpr int kNumDtypes = 14;

// A set of dtypes, one bit for each.
using DtypeSet = uint16_t;
constexpr DtypeSet dtype_bit(Dtype t) { return static_cast<DtypeSet>(1u << static_cast<unsigned>(t)); }
constexpr bool contains(DtypeSet set, Dtype t) { return (set & dtype_bit(t)) != 0; }

inline constexpr DtypeSet kBoolOnly = dtype_bit(Dtype::kBool);
inline constexpr DtypeSet kUnsigned = dtype_bit(Dtype::kUInt8) | dtype_bit(Dtype::kUInt16) |
                                      dtype_bit(Dtype::kUInt32) | dtype_bit(Dtype::kUInt64);
inline constexpr DtypeSet kSigned =
    dtype_bit(Dtype::kInt8) | dtype_bit(Dtype::kInt16) | dtype_bit(Dtype::kInt32) | dtype_bit(Dtype::kInt64);
inline constexpr DtypeSet kIntegers = kUnsigned | kSigned;
inline constexpr DtypeSet kFloating = dtype_bit(Dtype::kFloat16) | dtype_bit(Dtype::kBFloat16) |
                                      dtype_bit(Dtype::kFloat32) | dtype_bit(Dtype::kFloat64);
inline constexpr DtypeSet kComplex = dtype_bit(Dtype::kComplex64);
inline constexpr DtypeSet kInexact = kFloating | kComplex;
inline constexpr DtypeSet kReal = kIntegers | kFloating;
inline constexpr DtypeSet kNumeric = kReal | kComplex;
inline constexpr DtypeSet kAnyDtype = kNumeric | kBoolOnly;
inline constexpr DtypeSet kBitwise = kIntegers | kBoolOnly;

// Bytes of one element.
constexpr size_t itemsize(Dtype t) {
  constexpr uint8_t sizes[kNumDtypes] = {1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 2, 8};
  return sizes[static_cast<int>(t)];
}
// "float32", "bool", ...
std::string_view dtype_name(Dtype t);
// The dtype of that name; throws ValueError for an unknown one.
Dtype dtype_from_name(std::string_view name);

constexpr bool is_floating(Dtype t) { return contains(kFloating, t); }
constexpr bool is_inexact(Dtype t) { return contains(kInexact, t); }
constexpr bool is_complex(Dtype t) { return t == Dtype::kComplex64; }
constexpr bool is_integer(Dtype t) { return contains(kIntegers, t); }
constexpr bool is_signed_integer(Dtype t) { return contains(kSigned, t); }
constexpr bool is_unsigned_integer(Dtype t) { return contains(kUnsigned, t); }

// The smallest dtype both convert to, by MLX's rules (uint64 with a signed integer gives float32).
Dtype promote(Dtype a, Dtype b);

// 16-bit storage types: plain bits with conversions; arithmetic happens in float.
struct float16_t {
  uint16_t bits = 0;
  float16_t() = default;
  explicit float16_t(float x);
  operator float() const;
};
struct bfloat16_t {
  uint16_t bits = 0;
  bfloat16_t() = default;
  explicit bfloat16_t(float x);
  operator float() const;
};

}  // namespace lamina
