#include "ops/common.h"

namespace lamina {

// Sizes must not depend on values, so the number of results is given. All from one stable sort: the place
// where each value begins in it also gives the first index and, by differences, the counts.
Unique unique(const Array& a, int64_t size, const std::optional<Array>& fill) {
  if (size < 0) fail<ValueError>("unique", "wants a size that is not negative, got {}", size);
  if (fill && fill->size() != 1)
    fail<ShapeError>("unique", "wants one fill value, got shape {}", fill->shape());
  const int64_t n = a.size();
  if (n == 0 && size > 0 && !fill) {
    fail<ValueError>("unique", "wants a fill value for {} results of an empty array", size);
  }
  const std::optional<Array> filler =
      fill ? std::optional(reshape(astype(*fill, a.dtype()), {1})) : std::nullopt;
  if (n == 0) {
    const Array none = zeros({size}, Dtype::kUInt32);
    return {size ? broadcast_to(*filler, {size}) : zeros({0}, a.dtype()), none,
            zeros(a.shape(), Dtype::kUInt32), zeros({size}, Dtype::kInt32)};
  }
  const Array flat = reshape(a, {n});
  const Array order = argsort(flat, 0), sorted = take(flat, order, 0);
  const Array begins = concatenate(
      std::vector{zeros({1}, Dtype::kInt32),
                  astype(not_equal(slice(sorted, {1}, {n}), slice(sorted, {0}, {n - 1})), Dtype::kInt32)});
  const Array rank = scan(begins, ScanKind::kSum, 0, false, true);
  const Array starts = astype(searchsorted(rank, arange(int64_t{0}, size + 1, 1)), Dtype::kInt64);
  const Array first = slice(starts, {0}, {size});
  const Array there = less(first, Array(n, Dtype::kInt64));
  // Beyond the last value stand the first one, or the fill value, and a count of zero.
  const Array place = where(there, first, Array(int64_t{0}));
  const Array values = take(sorted, place, 0);
  const Array last_rank = Array(std::max<int64_t>(size - 1, 0), Dtype::kInt32);
  const Array inverse = put_along_axis(zeros({n}, Dtype::kInt32), order, minimum(rank, last_rank), 0);
  const Array counts = subtract(slice(starts, {1}, {size + 1}), first);
  return {filler ? where(there, values, *filler) : values, take(order, place, 0),
          reshape(astype(inverse, Dtype::kUInt32), a.shape()), astype(counts, Dtype::kInt32)};
}

}  // namespace lamina
