#pragma once

#include <complex>
#include <cstdint>

#include "lamina/dtype.h"

namespace lamina {

// The C++ type that holds an element of each dtype.
#define LAMINA_FOR_EACH_DTYPE(F) \
  F(kBool, bool)                 \
  F(kUInt8, uint8_t)             \
  F(kUInt16, uint16_t)           \
  F(kUInt32, uint32_t)           \
  F(kUInt64, uint64_t)           \
  F(kInt8, int8_t)               \
  F(kInt16, int16_t)             \
  F(kInt32, int32_t)             \
  F(kInt64, int64_t)             \
  F(kFloat16, float16_t)         \
  F(kFloat32, float)             \
  F(kFloat64, double)            \
  F(kBFloat16, bfloat16_t)       \
  F(kComplex64, std::complex<float>)

template <class T>
struct DtypeOf;
#define LAMINA_DTYPE_OF(id, type)             \
  template <>                                 \
  struct DtypeOf<type> {                      \
    static constexpr Dtype value = Dtype::id; \
  };
LAMINA_FOR_EACH_DTYPE(LAMINA_DTYPE_OF)
#undef LAMINA_DTYPE_OF
template <class T>
inline constexpr Dtype kDtypeOf = DtypeOf<T>::value;

template <class T>
inline constexpr bool kIsHalf = kDtypeOf<T> == Dtype::kFloat16 || kDtypeOf<T> == Dtype::kBFloat16;

template <class T>
struct TypeTag {
  using type = T;
};
// Calls f(TypeTag<T>) for the element type of `dtype`.
template <class F>
auto visit_dtype(Dtype dtype, F&& f) {
  switch (dtype) {
#define LAMINA_CASE(id, type) \
  case Dtype::id: return f(TypeTag<type>());
    LAMINA_FOR_EACH_DTYPE(LAMINA_CASE)
#undef LAMINA_CASE
  }
  return f(TypeTag<bool>());
}

// The `result` column of the op table.
enum class RowResult : uint8_t { kSame, kBool, kRealPart, kWiden };

// Element type of a row's result (or accumulator) for operands of type T.
template <class T, RowResult result>
struct RowResultType {
  using type = T;
};
template <class T>
struct RowResultType<T, RowResult::kBool> {
  using type = bool;
};
template <>
struct RowResultType<std::complex<float>, RowResult::kRealPart> {
  using type = float;
};

}  // namespace lamina
