#include "backend/cpu/copy.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "backend/cpu/copy_stream.h"
#include "backend/cpu/copy_transpose.h"
#include "backend/reference/layout.h"
#include "backend/reference/layout_dtype.h"
#include "core/thread_pool.h"

namespace lamina::cpu {
namespace {

constexpr int64_t kGrainBytes = int64_t{1} << 17;  // smallest piece worth handing to a thread
constexpr int64_t kTileBytes = 256;  // a transpose task is a square of rows and columns this wide

struct alignas(8) Wide {
  uint64_t words[2];
};

// A collapsed copy: operand 0 is written, 1 read. `bytes` is the size of what moves as one element.
struct Job {
  CollapsedLoop<2> loop;
  char* out;
  const char* in;
  int64_t bytes;

  int64_t out_step() const { return loop.inner_stride(0); }
  int64_t in_step() const { return loop.inner_stride(1); }
  bool dense() const { return out_step() == bytes && in_step() == bytes; }
  int64_t total_bytes() const { return loop.size() * bytes; }
  int64_t grain() const { return std::max<int64_t>(1, kGrainBytes / bytes); }
};

// Makes a short row that is dense on both sides one wider element, so that the axis before it becomes the
// inner one.
void widen_elements(Job& job) {
  const int64_t n = job.loop.inner_length(), wide = n * job.bytes;
  if (!job.dense() || job.loop.shape.size() < 2 || (wide != 2 && wide != 4 && wide != 8 && wide != 16))
    return;
  job.loop.shape.pop_back();
  for (Strides& s : job.loop.strides) s.pop_back();
  job.bytes = wide;
}

void copy_dense_rows(const Job& job) {
  const bool stream = worth_streaming(job.total_bytes()) && job.loop.inner_length() * job.bytes >= 512;
  parallel_ranges(job.loop.size(), job.grain(), [&](int64_t begin, int64_t end) {
    for_each_row(job.loop, begin, end, [&](const auto& at, int64_t n) {
      if (stream) {
        stream_copy(job.out + at[0], job.in + at[1], n * job.bytes);
      } else {
        std::memcpy(job.out + at[0], job.in + at[1], static_cast<size_t>(n * job.bytes));
      }
    });
    if (stream) stream_fence();
  });
}

// The axis along which the input is dense while the output is dense along the last one; -1 where there is
// none.
int64_t transposed_axis(const Job& job) {
  constexpr int64_t kShortest = 4;
  if (job.out_step() != job.bytes || job.bytes > 8 || job.loop.inner_length() < kShortest) return -1;
  for (size_t d = 0; d + 1 < job.loop.shape.size(); ++d) {
    if (job.loop.strides[1][d] == job.bytes && job.loop.shape[d] >= kShortest) return static_cast<int64_t>(d);
  }
  return -1;
}

void copy_transposed(const Job& job, size_t axis) {
  const int64_t rows = job.loop.inner_length(), cols = job.loop.shape[axis];
  const int64_t tile = kTileBytes / job.bytes;
  const int64_t row_tiles = (rows + tile - 1) / tile, col_tiles = (cols + tile - 1) / tile;
  CollapsedLoop<2> outer = job.loop;
  outer.shape.pop_back();
  outer.shape.erase(outer.shape.begin() + axis);
  for (Strides& s : outer.strides) {
    s.pop_back();
    s.erase(s.begin() + axis);
  }
  std::array<Strides*, 2> strides = {&outer.strides[0], &outer.strides[1]};
  collapse(outer.shape, strides);
  const bool stream = worth_streaming(job.total_bytes());
  const int64_t out_step = job.loop.strides[0][axis], in_step = job.in_step();
  const int64_t tasks = outer.size() * row_tiles * col_tiles;
  const int64_t grain = std::max<int64_t>(1, kGrainBytes / (tile * tile * job.bytes));
  parallel_ranges(tasks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t r0 = t % row_tiles * tile, c0 = t / row_tiles % col_tiles * tile;
      const Odometer at(outer.shape, outer.strides, t / (row_tiles * col_tiles));
      TransposeJob part;
      part.in = reinterpret_cast<const uint8_t*>(job.in) + at.offset(1) + r0 * in_step + c0 * job.bytes;
      part.out = reinterpret_cast<uint8_t*>(job.out) + at.offset(0) + c0 * out_step + r0 * job.bytes;
      part.in_step = in_step;
      part.out_step = out_step;
      part.rows = std::min(tile, rows - r0);
      part.cols = std::min(tile, cols - c0);
      part.stream = stream;
      transpose_plane(part, job.bytes);
    }
    if (stream) stream_fence();
  });
}

template <class T>
void copy_row(char* out, int64_t out_step, const char* in, int64_t in_step, int64_t n) {
  constexpr auto kSize = static_cast<int64_t>(sizeof(T));
  T value;
  if (in_step == 0) {
    std::memcpy(&value, in, sizeof(T));
    if (out_step == kSize) {
      for (int64_t i = 0; i < n; ++i) std::memcpy(out + i * kSize, &value, sizeof(T));
    } else {
      for (int64_t i = 0; i < n; ++i) std::memcpy(out + i * out_step, &value, sizeof(T));
    }
  } else if (out_step == kSize) {
    for (int64_t i = 0; i < n; ++i) std::memcpy(out + i * kSize, in + i * in_step, sizeof(T));
  } else {
    for (int64_t i = 0; i < n; ++i) std::memcpy(out + i * out_step, in + i * in_step, sizeof(T));
  }
}

template <class T>
void copy_strided(const Job& job) {
  const int64_t out_step = job.out_step(), in_step = job.in_step();
  parallel_ranges(job.loop.size(), job.grain(), [&](int64_t begin, int64_t end) {
    for_each_row(job.loop, begin, end, [&](const auto& at, int64_t n) {
      copy_row<T>(job.out + at[0], out_step, job.in + at[1], in_step, n);
    });
  });
}

// Inner rows too short to pay for a step of the loop nest: walks blocks of the axis before them instead, once
// for each element of a row, while the block stays in the cache.
template <class T>
void copy_narrow(const Job& job) {
  constexpr int64_t kBlock = 512;
  const size_t axis = job.loop.shape.size() - 2;
  const int64_t width = job.loop.inner_length(), height = job.loop.shape[axis];
  const int64_t blocks = (height + kBlock - 1) / kBlock;
  const int64_t out_step = job.loop.strides[0][axis], in_step = job.loop.strides[1][axis];
  const int64_t tasks = job.loop.size() / (width * height) * blocks;
  parallel_ranges(
      tasks, std::max<int64_t>(1, job.grain() / (width * kBlock)), [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          const int64_t first = t % blocks * kBlock, n = std::min(kBlock, height - first);
          const Odometer at(job.loop.shape, job.loop.strides, (t / blocks * height + first) * width);
          for (int64_t i = 0; i < width; ++i) {
            copy_row<T>(job.out + at.offset(0) + i * job.out_step(), out_step,
                        job.in + at.offset(1) + i * job.in_step(), in_step, n);
          }
        }
      });
}

bool is_narrow(const Job& job) {
  constexpr int64_t kLongestRow = 16, kLongestDenseBytes = 24;  // from there on a memcpy a row is cheaper
  const int64_t width = job.loop.inner_length();
  if (job.loop.shape.size() < 2 || job.loop.shape[job.loop.shape.size() - 2] < 2 * width) return false;
  return job.dense() ? width * job.bytes < kLongestDenseBytes : width < kLongestRow;
}

}  // namespace

void copy(const View& in, const View& out) {
  Job job{collapse_views<2>({&out, &in}, /*keep_order=*/false), static_cast<char*>(out.data),
          static_cast<const char*>(in.data), static_cast<int64_t>(itemsize(in.dtype))};
  if (job.loop.size() == 0) return;
  widen_elements(job);
  const bool narrow = is_narrow(job);
  if (!narrow && job.dense()) return copy_dense_rows(job);
  if (const int64_t axis = transposed_axis(job); axis >= 0) {
    return copy_transposed(job, static_cast<size_t>(axis));
  }
  if (job.bytes == 16) return narrow ? copy_narrow<Wide>(job) : copy_strided<Wide>(job);
  visit_itemsize(static_cast<size_t>(job.bytes), [&]<class T>(std::type_identity<T>) {
    narrow ? copy_narrow<T>(job) : copy_strided<T>(job);
  });
}

void concatenate(std::span<const View> ins, const View& out, int64_t axis) {
  int64_t start = 0;
  for (const View& in : ins) {
    const int64_t length = in.shape[static_cast<size_t>(axis)];
    copy(in, slice_axis(out, axis, start, length));
    start += length;
  }
}

}  // namespace lamina::cpu
