#include "backend/reference/elementwise.h"

#include <cstring>

#include "backend/reference/elementwise_scalar.h"
#include "backend/reference/elementwise_types.h"
#include "core/fail.h"

namespace lamina {
namespace {

using enum RowResult;

// One functor per row: the scalar expression of the table.
#define UNARY(id, name, dtypes, result, expression, ...) \
  struct id##Row {                                       \
    static constexpr DtypeSet kDtypes = dtypes;          \
    static constexpr RowResult kResult = result;         \
    template <class T>                                   \
    auto operator()([[maybe_unused]] T x) const {        \
      return expression;                                 \
    }                                                    \
  };
#include "lamina/table/unary.def"
#undef UNARY
#define BINARY(id, name, dtypes, result, expression, ...) \
  struct id##Row {                                        \
    static constexpr DtypeSet kDtypes = dtypes;           \
    static constexpr RowResult kResult = result;          \
    template <class T>                                    \
    auto operator()(T x, T y) const {                     \
      return expression;                                  \
    }                                                     \
  };
#include "lamina/table/binary.def"
#undef BINARY
#define TERNARY(id, name, dtypes, result, expression, ...) \
  struct id##Row {                                         \
    static constexpr DtypeSet kDtypes = dtypes;            \
    static constexpr RowResult kResult = result;           \
    template <class T>                                     \
    auto operator()(bool c, T x, T y) const {              \
      return expression;                                   \
    }                                                      \
  };
#include "lamina/table/ternary.def"
#undef TERNARY

template <class Row, class T>
using ResultOf = typename RowResultType<T, Row::kResult>::type;

template <class Row, class T>
void unary_loop(const void* const* in, void* out, size_t n) {
  const T* x = static_cast<const T*>(in[0]);
  auto* y = static_cast<ResultOf<Row, T>*>(out);
  for (size_t i = 0; i < n; ++i) y[i] = static_cast<ResultOf<Row, T>>(Row()(x[i]));
}
template <class Row, class T>
void binary_loop(const void* const* in, void* out, size_t n) {
  const T* x = static_cast<const T*>(in[0]);
  const T* y = static_cast<const T*>(in[1]);
  auto* z = static_cast<ResultOf<Row, T>*>(out);
  for (size_t i = 0; i < n; ++i) z[i] = static_cast<ResultOf<Row, T>>(Row()(x[i], y[i]));
}
template <class Row, class T>
void ternary_loop(const void* const* in, void* out, size_t n) {
  const bool* c = static_cast<const bool*>(in[0]);
  const T* x = static_cast<const T*>(in[1]);
  const T* y = static_cast<const T*>(in[2]);
  auto* z = static_cast<ResultOf<Row, T>*>(out);
  for (size_t i = 0; i < n; ++i) z[i] = static_cast<ResultOf<Row, T>>(Row()(c[i], x[i], y[i]));
}

// Rows that only move elements take 16-bit floats too; rows that compute do not.
template <class Row, int kOperands>
TileFn row_loop(Dtype compute) {
  return visit_dtype(compute, [](auto tag) -> TileFn {
    using T = typename decltype(tag)::type;
    if constexpr (!contains(Row::kDtypes, kDtypeOf<T>)) {
      return nullptr;
    } else if constexpr (kOperands == 3) {
      return &ternary_loop<Row, T>;
    } else if constexpr (kIsHalf<T>) {
      return nullptr;
    } else if constexpr (kOperands == 2) {
      return &binary_loop<Row, T>;
    } else {
      return &unary_loop<Row, T>;
    }
  });
}

Dtype result_dtype(RowResult result, Dtype compute) {
  if (result == kBool) return Dtype::kBool;
  return result == kRealPart && compute == Dtype::kComplex64 ? Dtype::kFloat32 : compute;
}

}  // namespace

TileFn reference_tile(OpId id, Dtype compute) {
  switch (id) {
#define UNARY(id, ...) \
  case OpId::id:       \
    return row_loop<id##Row, 1>(compute);
#include "lamina/table/unary.def"
#undef UNARY
#define BINARY(id, ...) \
  case OpId::id:        \
    return row_loop<id##Row, 2>(compute);
#include "lamina/table/binary.def"
#undef BINARY
#define TERNARY(id, ...) \
  case OpId::id:         \
    return row_loop<id##Row, 3>(compute);
#include "lamina/table/ternary.def"
#undef TERNARY
    default: return nullptr;
  }
}

Dtype elementwise_result(OpId id, Dtype compute) {
  switch (id) {
#define UNARY(id, ...) \
  case OpId::id:       \
    return result_dtype(id##Row::kResult, compute);
#include "lamina/table/unary.def"
#undef UNARY
#define BINARY(id, ...) \
  case OpId::id:        \
    return result_dtype(id##Row::kResult, compute);
#include "lamina/table/binary.def"
#undef BINARY
#define TERNARY(id, ...) \
  case OpId::id:         \
    return result_dtype(id##Row::kResult, compute);
#include "lamina/table/ternary.def"
#undef TERNARY
    default: fail<Unsupported>("elementwise_result", "op {} is not elementwise", static_cast<int>(id));
  }
}

}  // namespace lamina
