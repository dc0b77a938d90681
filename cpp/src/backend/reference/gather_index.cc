#include "backend/reference/gather_index.h"

#include <algorithm>

#include "backend/reference/layout.h"
#include "core/fail.h"
#include "core/thread_pool.h"

namespace lamina {
namespace {

constexpr int64_t kGrain = 8192;  // indices worth a thread

const char* element_at(const View& v, int64_t linear) {
  const auto loop = collapse_views<1>({&v});
  return static_cast<const char*>(v.data) + Odometer(loop.shape, loop.strides, linear).offset(0);
}

}  // namespace

void fail_index_dtype(const char* op, Dtype t) {
  fail<DtypeError>(op, "indices must be integers, got {}", dtype_name(t));
}

void fail_index(const char* op, const View& indices, int64_t linear, int64_t axis, int64_t length) {
  visit_index_dtype(indices.dtype, op, [&]<class I>(std::type_identity<I>) {
    const I index = *reinterpret_cast<const I*>(element_at(indices, linear));
    fail<IndexError>(op, "index {} is out of bounds for axis {} of length {}", index, axis, length);
  });
  __builtin_unreachable();
}

void IndexedAxes::resolve(int64_t begin, int64_t end, int64_t* offsets) const {
  if (offsets != nullptr) std::fill(offsets, offsets + (end - begin), 0);
  for (size_t n = 0; n < indices.size(); ++n) {
    const View& index = indices[n];
    const auto axis = static_cast<size_t>(axes[n]);
    const int64_t length = array.shape[axis], limit = starts(n);
    const int64_t bytes = array.strides[axis] * static_cast<int64_t>(itemsize(array.dtype));
    const auto loop = collapse_views<1>({&index});
    FirstBad bad;
    visit_index_dtype(index.dtype, op, [&]<class I>(std::type_identity<I>) {
      parallel_ranges(end - begin, kGrain, [&](int64_t first, int64_t last) {
        int64_t i = first;
        for_each_row(loop, begin + first, begin + last, [&](const auto& at, int64_t row) {
          const char* from = static_cast<const char*>(index.data) + at[0];
          for (int64_t j = 0; j < row; ++j, ++i) {
            const I value = *reinterpret_cast<const I*>(from + j * loop.inner_stride(0));
            const int64_t start = wrap_index(value, length, limit);
            if (start < 0) bad.note(begin + i);
            if (offsets != nullptr) offsets[i] += start * bytes;
          }
        });
      });
    });
    if (bad.any()) fail_index(op, index, bad.linear(), axes[n], length);
  }
}

void leading_offsets(const View& v, size_t rank, int64_t begin, int64_t end, int64_t* offsets) {
  View lead = v;
  lead.shape.resize(rank);
  lead.strides.resize(rank);
  const auto loop = collapse_views<1>({&lead});
  parallel_ranges(end - begin, kGrain, [&](int64_t first, int64_t last) {
    int64_t* to = offsets + first;
    for_each_row(loop, begin + first, begin + last, [&](const auto& at, int64_t n) {
      for (int64_t i = 0; i < n; ++i) *to++ = at[0] + i * loop.inner_stride(0);
    });
  });
}

View gather_view_of_take(const View& out, int64_t axis, size_t index_rank) {
  View v = out;
  const auto a = static_cast<size_t>(axis);
  std::rotate(v.shape.begin(), v.shape.begin() + a, v.shape.begin() + a + index_rank);
  std::rotate(v.strides.begin(), v.strides.begin() + a, v.strides.begin() + a + index_rank);
  v.shape.insert(v.shape.begin() + index_rank + a, 1);
  v.strides.insert(v.strides.begin() + index_rank + a, 0);
  return v;
}

View along_axis_base(const View& src, const Shape& shape, int64_t axis) {
  View v = src;
  v.shape = shape;
  v.strides[static_cast<size_t>(axis)] = 0;
  return v;
}

}  // namespace lamina
