#include <algorithm>

#include "backend/cpu/simd_target.h"
#include "backend/cpu/tile.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/tile_reduce.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/gemm_convert-inl.h"
#include "backend/cpu/reduce-inl.h"
#include "backend/reference/elementwise_types.h"

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
namespace {

// Dtypes whose rows vectors can fold; bool as bytes, complex numbers by the plain loop.
template <class T>
inline constexpr bool kFoldable = !kIsHalf<T> && !scalar::kIsComplex<T>;
template <class T>
using LaneOf = std::conditional_t<std::is_same_v<T, bool>, uint8_t, T>;

template <class T>
ReduceFn row_of(OpId id) {
  using L = LaneOf<T>;
  switch (id) {
    case OpId::Sum:
      if constexpr (!scalar::kIsBool<T>) return &reduce::row<reduce::SumFold, L>;
      return nullptr;
    case OpId::Prod:
      if constexpr (!scalar::kIsBool<T>) return &reduce::row<reduce::ProdFold, L>;
      return nullptr;
    case OpId::Max: return &reduce::row<reduce::MaxFold, L>;
    case OpId::Min: return &reduce::row<reduce::MinFold, L>;
    case OpId::All: return &reduce::all_row<L>;
    case OpId::Any: return &reduce::any_row<L>;
    default: return nullptr;
  }
}

// arg_row of 16-bit floats: piece by piece as float32, which holds all of them.
template <class Fold, bool kLargest, class T>
int64_t arg_halves(const void* in, size_t n) {
  constexpr size_t kPiece = 1024;
  const hn::ScalableTag<float> d;
  HWY_ALIGN float wide[kPiece];
  const T* x = static_cast<const T*>(in);
  size_t found = 0;
  for (size_t first = 0; first < n; first += kPiece) {
    const size_t count = std::min(kPiece, n - first);
    size_t i = 0;
    for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
      hn::Store(cpu::HWY_NAMESPACE::load_as(d, x + first + i), d, wide + i);
    }
    for (; i < count; ++i) wide[i] = static_cast<float>(x[first + i]);
    const auto at = static_cast<size_t>(reduce::arg_row<Fold, float>(wide, count));
    const float best = static_cast<float>(x[found]);
    if (kLargest ? wide[at] > best : wide[at] < best) found = first + at;
    if (wide[at] != wide[at]) return static_cast<int64_t>(first + at);
  }
  return static_cast<int64_t>(found);
}

// kVectors vectors of sums from column c on, over all rows.
template <int kVectors, class T>
HWY_INLINE void sum_columns(const char* in, int64_t row_bytes, size_t rows, size_t c, T* acc) {
  const hn::ScalableTag<T> d;
  hn::Vec<decltype(d)> sums[kVectors];
  for (int v = 0; v < kVectors; ++v) sums[v] = hn::LoadU(d, acc + c + v * hn::Lanes(d));
  for (size_t r = 0; r < rows; ++r, in += row_bytes) {
    const T* row = reinterpret_cast<const T*>(in) + c;
    for (int v = 0; v < kVectors; ++v) sums[v] = hn::Add(sums[v], hn::LoadU(d, row + v * hn::Lanes(d)));
  }
  for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[v], d, acc + c + v * hn::Lanes(d));
}
template <class T>
void sum_rows(const void* in, int64_t row_bytes, size_t rows, size_t n, void* out) {
  const hn::ScalableTag<T> d;
  const char* from = static_cast<const char*>(in);
  T* acc = static_cast<T*>(out);
  const size_t lanes = hn::Lanes(d);
  size_t c = 0;
  for (; c + 8 * lanes <= n; c += 8 * lanes) sum_columns<8>(from, row_bytes, rows, c, acc);
  for (; c + 2 * lanes <= n; c += 2 * lanes) sum_columns<2>(from, row_bytes, rows, c, acc);
  for (; c + lanes <= n; c += lanes) sum_columns<1>(from, row_bytes, rows, c, acc);
  for (; c < n; ++c) {
    for (size_t r = 0; r < rows; ++r)
      acc[c] += reinterpret_cast<const T*>(from + static_cast<int64_t>(r) * row_bytes)[c];
  }
}

}  // namespace

JoinRowsFn find_reduce_rows(OpId id, Dtype compute) {
  if (id != OpId::Sum) return nullptr;
  if (compute == Dtype::kFloat32) return &sum_rows<float>;
  if (compute == Dtype::kFloat64) return &sum_rows<double>;
  return nullptr;
}
ReduceFn find_reduce(OpId id, Dtype compute) {
  return visit_dtype(compute, [id]<class T>(TypeTag<T>) -> ReduceFn {
    if constexpr (kFoldable<T>) return row_of<T>(id);
    return nullptr;
  });
}
ReduceProductsFn find_reduce_products(OpId id, Dtype compute) {
  if (id != OpId::Sum) return nullptr;
  if (compute == Dtype::kFloat32) return &reduce::product_row<reduce::SumFold, float>;
  if (compute == Dtype::kFloat64) return &reduce::product_row<reduce::SumFold, double>;
  return nullptr;
}
ArgReduceFn find_arg(bool largest, Dtype dtype) {
  return visit_dtype(dtype, [largest]<class T>(TypeTag<T>) -> ArgReduceFn {
    if constexpr (kFoldable<T>) {
      using L = LaneOf<T>;
      return largest ? &reduce::arg_row<reduce::MaxFold, L> : &reduce::arg_row<reduce::MinFold, L>;
    }
    if constexpr (kIsHalf<T>) {
      return largest ? &arg_halves<reduce::MaxFold, true, T> : &arg_halves<reduce::MinFold, false, T>;
    }
    return nullptr;
  });
}
ArgColumnsFn find_arg_columns(bool largest, Dtype dtype) {
  return visit_dtype(dtype, [largest]<class T>(TypeTag<T>) -> ArgColumnsFn {
    // Indices of rows do not fit narrower elements.
    if constexpr (kFoldable<T> && sizeof(T) >= 4) {
      return largest ? &reduce::arg_columns<true, T> : &reduce::arg_columns<false, T>;
    }
    return nullptr;
  });
}
#else
JoinRowsFn find_reduce_rows(OpId, Dtype) { return nullptr; }
ReduceFn find_reduce(OpId, Dtype) { return nullptr; }
ReduceProductsFn find_reduce_products(OpId, Dtype) { return nullptr; }
ArgReduceFn find_arg(bool, Dtype) { return nullptr; }
ArgColumnsFn find_arg_columns(bool, Dtype) { return nullptr; }
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina {

HWY_EXPORT(find_reduce);
HWY_EXPORT(find_reduce_rows);
HWY_EXPORT(find_reduce_products);
HWY_EXPORT(find_arg);
HWY_EXPORT(find_arg_columns);

ReduceFn reduce_tile(OpId id, Dtype compute) {
  init_simd_target();
  ReduceFn plain = reference_reduce(id, compute);
  ReduceFn fast = plain ? HWY_DYNAMIC_DISPATCH(find_reduce)(id, compute) : nullptr;
  return fast ? fast : plain;
}

ReduceProductsFn reduce_products_tile(OpId id, Dtype compute) {
  init_simd_target();
  return HWY_DYNAMIC_DISPATCH(find_reduce_products)(id, compute);
}

TileFn reduce_cols_tile(OpId id, Dtype compute) {
  if (!reference_reduce(id, compute)) return nullptr;
  switch (id) {
    case OpId::Sum: return simd_tile(OpId::Add, compute);
    case OpId::Prod: return simd_tile(OpId::Multiply, compute);
    case OpId::Max: return simd_tile(OpId::Maximum, compute);
    case OpId::Min: return simd_tile(OpId::Minimum, compute);
    case OpId::All: return compute == Dtype::kBool ? simd_tile(OpId::LogicalAnd, compute) : nullptr;
    case OpId::Any: return compute == Dtype::kBool ? simd_tile(OpId::LogicalOr, compute) : nullptr;
    default: return nullptr;
  }
}

JoinRowsFn reduce_rows_tile(OpId id, Dtype compute) {
  init_simd_target();
  return HWY_DYNAMIC_DISPATCH(find_reduce_rows)(id, compute);
}

ArgReduceFn argmax_tile(Dtype dtype) {
  init_simd_target();
  ArgReduceFn fast = HWY_DYNAMIC_DISPATCH(find_arg)(true, dtype);
  return fast ? fast : reference_argmax(dtype);
}
ArgReduceFn argmin_tile(Dtype dtype) {
  init_simd_target();
  ArgReduceFn fast = HWY_DYNAMIC_DISPATCH(find_arg)(false, dtype);
  return fast ? fast : reference_argmin(dtype);
}
ArgColumnsFn arg_columns_tile(bool largest, Dtype dtype) {
  init_simd_target();
  return HWY_DYNAMIC_DISPATCH(find_arg_columns)(largest, dtype);
}

}  // namespace lamina
#endif
