#include "backend/reference/elementwise.h"
#include "backend/reference/elementwise_scalar.h"
#include "backend/reference/elementwise_types.h"
#include "core/fail.h"

namespace lamina {
namespace {

using enum RowResult;

#define REDUCE(id, name, dtypes, result, identity, combine, ...) \
  struct id##Row {                                               \
    static constexpr DtypeSet kDtypes = dtypes;                  \
    static constexpr RowResult kResult = result;                 \
    template <class T>                                           \
    static auto start() {                                        \
      return identity;                                           \
    }                                                            \
    template <class A, class T>                                  \
    static A fold(A a, T x) {                                    \
      return static_cast<A>(combine);                            \
    }                                                            \
  };
#include "lamina/table/reduce.def"
#undef REDUCE

template <class Row, class T>
using AccOf = typename RowResultType<T, Row::kResult>::type;

// Halves down to short runs, so that rounding errors grow with log(n).
template <class Row, class T>
AccOf<Row, T> fold_tree(const T* x, size_t n) {
  if (n > 32) {
    size_t half = n / 2;
    return Row::fold(fold_tree<Row, T>(x, half), fold_tree<Row, T>(x + half, n - half));
  }
  AccOf<Row, T> a = Row::template start<T>();
  for (size_t i = 0; i < n; ++i) a = Row::fold(a, x[i]);
  return a;
}
template <class Row, class T>
void fold_loop(const void* in, size_t n, void* acc) {
  auto* a = static_cast<AccOf<Row, T>*>(acc);
  *a = Row::fold(*a, fold_tree<Row, T>(static_cast<const T*>(in), n));
}

// Calls f(TypeTag<row>, TypeTag<T>) for the row and element type; nothing where the row does not take that
// dtype.
template <class F>
void visit_row(OpId id, Dtype compute, F&& f) {
  auto typed = [&]<class Row>(TypeTag<Row> row) {
    visit_dtype(compute, [&]<class T>(TypeTag<T> tag) {
      if constexpr (contains(Row::kDtypes, kDtypeOf<T>) && !kIsHalf<T>) f(row, tag);
    });
  };
  switch (id) {
#define REDUCE(id, ...) \
  case OpId::id:        \
    return typed(TypeTag<id##Row>());
#include "lamina/table/reduce.def"
#undef REDUCE
    default: return;
  }
}

template <class T, bool kLargest>
int64_t arg_loop(const void* in, size_t n) {
  const T* x = static_cast<const T*>(in);
  size_t best = 0;
  for (size_t i = 0; i < n && !scalar::isnan(x[best]); ++i) {
    if (scalar::isnan(x[i]) || (kLargest ? scalar::less(x[best], x[i]) : scalar::less(x[i], x[best])))
      best = i;
  }
  return static_cast<int64_t>(best);
}

template <bool kLargest>
ArgReduceFn arg_reduce(Dtype dtype) {
  return visit_dtype(dtype, [](auto tag) -> ArgReduceFn {
    using T = typename decltype(tag)::type;
    if constexpr (kIsHalf<T>) {
      return nullptr;
    } else {
      return &arg_loop<T, kLargest>;
    }
  });
}

}  // namespace

ReduceFn reference_reduce(OpId id, Dtype compute) {
  ReduceFn fn = nullptr;
  visit_row(id, compute, [&]<class Row, class T>(TypeTag<Row>, TypeTag<T>) { fn = &fold_loop<Row, T>; });
  return fn;
}

Dtype reduce_dtype(OpId id, Dtype compute) {
  Dtype acc = compute;
  visit_row(id, compute,
            [&]<class Row, class T>(TypeTag<Row>, TypeTag<T>) { acc = kDtypeOf<AccOf<Row, T>>; });
  return acc;
}

void reduce_identity(OpId id, Dtype compute, void* acc) {
  bool found = false;
  visit_row(id, compute, [&]<class Row, class T>(TypeTag<Row>, TypeTag<T>) {
    *static_cast<AccOf<Row, T>*>(acc) = Row::template start<T>();
    found = true;
  });
  if (!found) {
    fail<Unsupported>("reduce_identity", "op {} does not reduce {}", static_cast<int>(id), compute);
  }
}

ArgReduceFn reference_argmax(Dtype dtype) { return arg_reduce<true>(dtype); }
ArgReduceFn reference_argmin(Dtype dtype) { return arg_reduce<false>(dtype); }

}  // namespace lamina
