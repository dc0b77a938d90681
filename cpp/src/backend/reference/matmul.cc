#include "backend/reference/matmul.h"

#include <algorithm>
#include <vector>

#include "backend/reference/dot.h"
#include "backend/reference/gather_index.h"
#include "backend/reference/layout.h"
#include "core/thread_pool.h"

namespace lamina::reference {
namespace {

View batch_axes(const View& v) {
  View batch = v;
  batch.shape.resize(v.shape.size() - 2);
  batch.strides.resize(v.shape.size() - 2);
  return batch;
}

// Elements [begin, end) of an axis; its length and stride tell where they lie.
View range_of(const View& v, size_t axis, int64_t begin, int64_t end) {
  View part = v;
  part.shape[axis] = end - begin;
  part.data = static_cast<char*>(v.data) + begin * v.strides[axis] * static_cast<int64_t>(itemsize(v.dtype));
  return part;
}

}  // namespace

void matmul(const View& a, const View& b, const View& out) {
  const size_t rank = out.shape.size();
  const int64_t rows = out.shape[rank - 2], cols = out.shape[rank - 1], inner = a.shape[rank - 1];
  const View batch_out = batch_axes(out), batch_a = batch_axes(a), batch_b = batch_axes(b);
  const auto batches = collapse_views<3>({&batch_out, &batch_a, &batch_b});
  if (out.size() == 0) return;
  const bool is_bool = out.dtype == Dtype::kBool;
  visit_dtype(out.dtype, [&]<class T>(std::type_identity<T>) {
    auto step = [](const View& v, size_t axis) { return v.strides[axis] * static_cast<int64_t>(sizeof(T)); };
    auto load = [](const char* p) { return to_dot(*reinterpret_cast<const T*>(p)); };
    parallel_ranges(batches.size() * rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const Odometer at(batches.shape, batches.strides, task / rows);
        const int64_t m = task % rows;
        char* to = static_cast<char*>(out.data) + at.offset(0) + m * step(out, rank - 2);
        const char* row = static_cast<const char*>(a.data) + at.offset(1) + m * step(a, rank - 2);
        const char* matrix = static_cast<const char*>(b.data) + at.offset(2);
        for (int64_t n = 0; n < cols; ++n) {
          DotType<T> sum{};
          for (int64_t k = 0; k < inner; ++k) {
            sum += times(load(row + k * step(a, rank - 1)),
                         load(matrix + k * step(b, rank - 2) + n * step(b, rank - 1)));
          }
          *reinterpret_cast<T*>(to + n * step(out, rank - 1)) =
              from_dot<T>(is_bool && sum != DotType<T>{} ? 1 : sum);
        }
      }
    });
  });
}

void segmented_matmul(const View& a, const View& b, const View& segments, const View& out,
                      void (*multiply)(const View& a, const View& b, const View& out)) {
  const int64_t count = segments.size() / 2, inner = a.shape[1];
  std::vector<int64_t> at(static_cast<size_t>(2 * count));
  leading_offsets(segments, segments.shape.size(), 0, 2 * count, at.data());
  for (int64_t& bound : at) {
    const int64_t place = &bound - at.data();
    bound = *reinterpret_cast<const int64_t*>(static_cast<const char*>(segments.data) + bound);
    if (bound < 0 || bound > inner) fail_index("segmented_mm", segments, place, 1, inner);
  }
  View one = out;
  one.shape = {a.shape[0], b.shape[1]};
  one.strides = row_major_strides(one.shape);
  const int64_t bytes = one.size() * static_cast<int64_t>(itemsize(out.dtype));
  const auto run = [&](int64_t i) {
    View to = one;
    to.data = static_cast<char*>(out.data) + i * bytes;
    const int64_t begin = at[static_cast<size_t>(2 * i)];
    const int64_t end = std::max(begin, at[static_cast<size_t>(2 * i + 1)]);
    multiply(range_of(a, 1, begin, end), range_of(b, 0, begin, end), to);
  };
  // Few segments: the threads share each product; many: each takes products of its own.
  if (count < 4 * num_threads()) {
    for (int64_t i = 0; i < count; ++i) run(i);
  } else {
    parallel_for(count, run);
  }
}

}  // namespace lamina::reference
