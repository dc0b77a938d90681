#include "backend/cpu/cache.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/cache_kernel.h"
#include "backend/cpu/copy.h"
#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/gemm_scratch.h"
#include "backend/paged_call.h"
#include "core/thread_pool.h"
#include "quant/kv_rows.h"

namespace lamina::cpu {
namespace {

constexpr int64_t kFloat = static_cast<int64_t>(sizeof(float));
// Elements worth a thread of its own.
constexpr int64_t kGrain = 32768;

// The row of a view that indices of all axes but the last pick.
GemmMatrix row_at(const View& v, std::initializer_list<int64_t> at) {
  int64_t offset = 0;
  size_t axis = 0;
  for (int64_t i : at) offset += i * v.strides[axis++];
  return {static_cast<char*>(v.data) + offset * static_cast<int64_t>(itemsize(v.dtype)), v.dtype, 0,
          v.strides[axis]};
}

// One row to another of the same length; floats are rounded to the target's dtype.
void move_row(const GemmMatrix& from, int64_t n, const GemmMatrix& to) {
  const auto item = static_cast<int64_t>(itemsize(from.dtype));
  if (from.dtype == to.dtype && from.col_stride == 1) {
    std::memcpy(const_cast<void*>(to.data), from.data, static_cast<size_t>(n * item));
  } else if (from.dtype == to.dtype) {
    const View source{const_cast<void*>(from.data), from.dtype, {n}, {from.col_stride}};
    copy(source, {const_cast<void*>(to.data), to.dtype, {n}, {1}});
  } else {
    Scratch row(n * kFloat);
    load_row_f32(from, n, row.as<float>());
    store_row_f32(row.as<float>(), n, to);
  }
}

// The place of row i, in row-major order, of a view's rows.
GemmMatrix row_number(const View& v, int64_t i) {
  int64_t offset = 0;
  for (size_t axis = v.shape.size() - 1; axis-- > 0;) {
    offset += i % v.shape[axis] * v.strides[axis];
    i /= v.shape[axis];
  }
  return {static_cast<char*>(v.data) + offset * static_cast<int64_t>(itemsize(v.dtype)), v.dtype, 0,
          v.strides.back()};
}

}  // namespace

void cache_write(const KernelCall& c) {
  const View &pool = c.out[0], &rows = c.in[1];
  // A pool that is written in place has its slots checked before anything changes.
  if (pool.data != c.in[0].data) copy(c.in[0], pool);
  const int64_t heads = pool.shape[1], dim = pool.shape[3];
  if (rows.size() == 0 || pool.size() == 0) return for_each_slot(c, [](int64_t, int64_t, int64_t) {});
  // A head's rows are written in order, by one thread: of two for one slot the later one stays.
  const int64_t grain = std::max<int64_t>(1, kGrain / (rows.shape[0] * dim));
  parallel_ranges(heads, grain, [&](int64_t begin, int64_t end) {
    for_each_slot(c, [&](int64_t from, int64_t block, int64_t row) {
      for (int64_t h = begin; h < end; ++h) {
        move_row(row_at(rows, {from, h}), dim, row_at(pool, {block, h, row}));
      }
    });
  });
}

void quantize_kv(const KernelCall& c) {
  const View& x = c.in[0];
  if (x.size() == 0) return;
  const int bits = c.as<QuantizeKvParams>().bits;
  const int64_t dim = x.shape.back(), groups = kv_groups(dim), bytes = kv_code_bytes(dim, bits);
  const CacheKernels& kernels = cache_kernels();
  parallel_ranges(x.size() / dim, std::max<int64_t>(1, kGrain / dim), [&](int64_t begin, int64_t end) {
    Scratch row(dim * kFloat);
    for (int64_t i = begin; i < end; ++i) {
      load_row_f32(row_number(x, i), dim, row.as<float>());
      kernels.encode(row.as<float>(), dim, bits, c.out[0].as<uint8_t>() + i * bytes,
                     c.out[1].as<float16_t>() + i * groups);
    }
  });
}

}  // namespace lamina::cpu
