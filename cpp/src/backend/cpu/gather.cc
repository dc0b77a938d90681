#include "backend/cpu/gather.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/copy_stream.h"
#include "backend/reference/gather_index.h"
#include "backend/reference/layout.h"
#include "backend/reference/layout_dtype.h"
#include "backend/reference/layout_scratch.h"
#include "core/thread_pool.h"

namespace lamina::cpu {
namespace {

constexpr int64_t kChunk = int64_t{1} << 20;       // indices resolved at a time
constexpr int64_t kGrainBytes = int64_t{1} << 16;  // smallest output worth a thread

constexpr int64_t kAhead = 2;  // rows between a prefetch and its copy

struct alignas(8) Wide {
  uint64_t words[2];
};

// Slices to copy for one chunk of indices. `outer` repeats the whole chunk with other bases (the axes before
// a taken axis); operand 0 of every loop is written, operand 1 read.
struct Slices {
  const char* src;
  char* out;
  CollapsedLoop<2> outer;
  CollapsedLoop<2> slice;
  const int64_t* from;  // byte offset of each slice in src
  const int64_t* to;    // and in out
  int64_t count;
  int64_t element_bytes;
  bool stream;

  bool dense() const {
    return slice.shape.size() == 1 && (slice.shape[0] == 1 || (slice.inner_stride(0) == element_bytes &&
                                                               slice.inner_stride(1) == element_bytes));
  }
  int64_t slice_bytes() const { return slice.size() * element_bytes; }
};

template <class T>
void copy_elements(const char* src, const int64_t* from, char* out, const int64_t* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) std::memcpy(out + to[i], src + from[i], sizeof(T));
}

// Rows in random order defeat the hardware's prefetcher; this asks for a row while an earlier one is copied.
void prefetch(const char* row, int64_t bytes) {
  for (int64_t i = 0; i < std::min<int64_t>(bytes, 4096); i += 64) __builtin_prefetch(row + i);
}

void copy_dense_slices(const Slices& s, const char* src, char* out, int64_t begin, int64_t end) {
  const int64_t bytes = s.slice_bytes(), *from = s.from + begin, *to = s.to + begin, n = end - begin;
  switch (bytes) {
    case 1: return copy_elements<uint8_t>(src, from, out, to, n);
    case 2: return copy_elements<uint16_t>(src, from, out, to, n);
    case 4: return copy_elements<uint32_t>(src, from, out, to, n);
    case 8: return copy_elements<uint64_t>(src, from, out, to, n);
    case 16: return copy_elements<Wide>(src, from, out, to, n);
    default: break;
  }
  for (int64_t i = 0; i < n; ++i) {
    if (i + kAhead < n) prefetch(src + from[i + kAhead], bytes);
    if (s.stream) {
      stream_copy(out + to[i], src + from[i], bytes);
    } else {
      std::memcpy(out + to[i], src + from[i], static_cast<size_t>(bytes));
    }
  }
}

void copy_strided_slices(const Slices& s, const char* src, char* out, int64_t begin, int64_t end) {
  const int64_t to_step = s.slice.inner_stride(0), from_step = s.slice.inner_stride(1);
  visit_itemsize(static_cast<size_t>(s.element_bytes), [&]<class T>(std::type_identity<T>) {
    for (int64_t i = begin; i < end; ++i) {
      for_each_row(s.slice, 0, s.slice.size(), [&](const auto& at, int64_t n) {
        char* to = out + s.to[i] + at[0];
        const char* from = src + s.from[i] + at[1];
        for (int64_t j = 0; j < n; ++j) std::memcpy(to + j * to_step, from + j * from_step, sizeof(T));
      });
    }
  });
}

void copy_slices(const Slices& s) {
  const bool dense = s.dense();
  const int64_t grain = std::max<int64_t>(1, kGrainBytes / s.slice_bytes());
  parallel_ranges(s.outer.size() * s.count, grain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t first = begin % s.count, last = std::min(s.count, first + end - begin);
      const Odometer at(s.outer.shape, s.outer.strides, begin / s.count);
      const char* src = s.src + at.offset(1);
      char* out = s.out + at.offset(0);
      dense ? copy_dense_slices(s, src, out, first, last) : copy_strided_slices(s, src, out, first, last);
      begin += last - first;
    }
    if (s.stream) stream_fence();
  });
}

// Splits the slice axes: those before `split` go to the outer loop, the others make the slice.
Slices make_slices(const View& src, const View& out, const Shape& slice_sizes, size_t split) {
  const size_t index_rank = out.shape.size() - slice_sizes.size();
  auto part = [&](size_t begin, size_t end) {
    View to = out, from = src;
    to.shape = from.shape = Shape(slice_sizes.begin() + begin, slice_sizes.begin() + end);
    to.strides = Strides(out.strides.begin() + index_rank + begin, out.strides.begin() + index_rank + end);
    from.strides = Strides(src.strides.begin() + begin, src.strides.begin() + end);
    return collapse_views<2>({&to, &from}, /*keep_order=*/false);
  };
  Slices s{};
  s.src = static_cast<const char*>(src.data);
  s.out = static_cast<char*>(out.data);
  s.outer = part(0, split);
  s.slice = part(split, slice_sizes.size());
  s.element_bytes = static_cast<int64_t>(itemsize(src.dtype));
  s.stream = worth_streaming(out.size() * s.element_bytes) && s.dense() && s.slice_bytes() >= 512;
  return s;
}

void gather_split(const View& src, std::span<const View> indices, const Axes& axes, const Shape& slice_sizes,
                  const View& out, size_t split, const char* op) {
  const IndexedAxes indexed{src, indices, axes, slice_sizes, op};
  const int64_t count = indexed.count(), chunk = std::min(count, kChunk);
  if (out.size() == 0) return indexed.resolve(0, count, nullptr);
  Slices s = make_slices(src, out, slice_sizes, split);
  const Scratch<int64_t> from(chunk), to(chunk);
  s.from = from.data();
  s.to = to.data();
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t end = std::min(count, begin + chunk);
    indexed.resolve(begin, end, from.data());
    leading_offsets(out, out.shape.size() - slice_sizes.size(), begin, end, to.data());
    s.count = end - begin;
    copy_slices(s);
  }
}

}  // namespace

void gather(const View& src, std::span<const View> indices, const Axes& axes, const Shape& slice_sizes,
            const View& out, const char* op) {
  gather_split(src, indices, axes, slice_sizes, out, 0, op);
}

void take(const View& src, const View& indices, const View& out, int64_t axis, const char* op) {
  Shape slice_sizes = src.shape;
  slice_sizes[static_cast<size_t>(axis)] = 1;
  const View rows = gather_view_of_take(out, axis, indices.shape.size());
  gather_split(src, {&indices, 1}, Axes{axis}, slice_sizes, rows, static_cast<size_t>(axis), op);
}

void take_along_axis(const View& src, const View& indices, const View& out, int64_t axis, const char* op) {
  const View base = along_axis_base(src, out.shape, axis);
  const auto a = static_cast<size_t>(axis);
  const int64_t length = src.shape[a], step = src.strides[a] * static_cast<int64_t>(itemsize(src.dtype));
  const auto loop = collapse_views<3>({&out, &indices, &base});
  const int64_t to_step = loop.inner_stride(0), index_step = loop.inner_stride(1),
                from_step = loop.inner_stride(2);
  FirstBad bad;
  auto run = [&]<class I, class T>(std::type_identity<I>, std::type_identity<T>) {
    parallel_ranges(loop.size(), 16384, [&](int64_t begin, int64_t end) {
      int64_t linear = begin;
      for_each_row(loop, begin, end, [&](const auto& at, int64_t n) {
        char* to = static_cast<char*>(out.data) + at[0];
        const char* index = static_cast<const char*>(indices.data) + at[1];
        const char* from = static_cast<const char*>(src.data) + at[2];
        for (int64_t i = 0; i < n; ++i) {
          const int64_t k = wrap_index(*reinterpret_cast<const I*>(index + i * index_step), length, length);
          if (k < 0) return bad.note(linear + i);
          std::memcpy(to + i * to_step, from + i * from_step + k * step, sizeof(T));
        }
        linear += n;
      });
    });
  };
  visit_index_dtype(indices.dtype, op, [&]<class I>(std::type_identity<I> index) {
    visit_itemsize(itemsize(src.dtype), [&]<class T>(std::type_identity<T> item) { run(index, item); });
  });
  if (bad.any()) fail_index(op, indices, bad.linear(), axis, length);
}

}  // namespace lamina::cpu
