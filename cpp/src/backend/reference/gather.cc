#include "backend/reference/gather.h"

#include <cstring>

#include "backend/reference/copy.h"
#include "backend/reference/gather_index.h"
#include "backend/reference/layout.h"

namespace lamina::reference {
namespace {

// `v` with its first `rank` axes fixed at position `linear` of their row-major order.
View fix_leading(const View& v, size_t rank, int64_t linear) {
  View part = v;
  int64_t offset = 0;
  for (size_t d = rank; d-- > 0;) {
    offset += linear % v.shape[d] * v.strides[d];
    linear /= v.shape[d];
  }
  part.data = static_cast<char*>(v.data) + offset * static_cast<int64_t>(itemsize(v.dtype));
  part.shape = Shape(v.shape.begin() + rank, v.shape.end());
  part.strides = Strides(v.strides.begin() + rank, v.strides.end());
  return part;
}

}  // namespace

void gather(const View& src, std::span<const View> indices, const Axes& axes, const Shape& slice_sizes,
            const View& out, const char* op) {
  const IndexedAxes indexed{src, indices, axes, slice_sizes, op};
  const size_t index_rank = out.shape.size() - slice_sizes.size();
  for (int64_t i = 0; i < indexed.count(); ++i) {
    int64_t offset = 0;
    indexed.resolve(i, i + 1, &offset);
    View slice = src;
    slice.data = static_cast<char*>(src.data) + offset;
    slice.shape = slice_sizes;
    copy(slice, fix_leading(out, index_rank, i));
  }
}

void take(const View& src, const View& indices, const View& out, int64_t axis, const char* op) {
  Shape slice_sizes = src.shape;
  slice_sizes[static_cast<size_t>(axis)] = 1;
  const View rows = gather_view_of_take(out, axis, indices.shape.size());
  gather(src, {&indices, 1}, Axes{axis}, slice_sizes, rows, op);
}

void take_along_axis(const View& src, const View& indices, const View& out, int64_t axis, const char* op) {
  const View base = along_axis_base(src, out.shape, axis);
  const auto bytes = itemsize(src.dtype);
  const int64_t length = src.shape[static_cast<size_t>(axis)];
  const int64_t step = src.strides[static_cast<size_t>(axis)] * static_cast<int64_t>(bytes);
  const auto loop = collapse_views<3>({&out, &indices, &base});
  visit_index_dtype(indices.dtype, op, [&]<class I>(std::type_identity<I>) {
    int64_t linear = 0;
    for_each_row(loop, 0, loop.size(), [&](const auto& at, int64_t n) {
      for (int64_t i = 0; i < n; ++i, ++linear) {
        const char* index = static_cast<const char*>(indices.data) + at[1] + i * loop.inner_stride(1);
        const int64_t from = wrap_index(*reinterpret_cast<const I*>(index), length, length);
        if (from < 0) fail_index(op, indices, linear, axis, length);
        std::memcpy(static_cast<char*>(out.data) + at[0] + i * loop.inner_stride(0),
                    static_cast<const char*>(src.data) + at[2] + i * loop.inner_stride(2) + from * step,
                    bytes);
      }
    });
  });
}

}  // namespace lamina::reference
