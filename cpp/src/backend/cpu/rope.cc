#include "backend/cpu/rope.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/gemm_scratch.h"
#include "backend/cpu/rope_kernel.h"
#include "core/thread_pool.h"

namespace lamina::cpu {
namespace {

constexpr int64_t kFloat = static_cast<int64_t>(sizeof(float));
// Elements a range of rows should have at least.
constexpr int64_t kGrain = 32768;

int64_t integer_at(const View& v, int64_t i) {
  const int64_t at = v.shape.empty() || v.size() == 1 ? 0 : i * v.strides[0];
  switch (v.dtype) {
    case Dtype::kInt8: return v.as<int8_t>()[at];
    case Dtype::kInt16: return v.as<int16_t>()[at];
    case Dtype::kInt32: return v.as<int32_t>()[at];
    case Dtype::kUInt8: return v.as<uint8_t>()[at];
    case Dtype::kUInt16: return v.as<uint16_t>()[at];
    case Dtype::kUInt32: return v.as<uint32_t>()[at];
    default: return v.as<int64_t>()[at];
  }
}

// Radians a step of position for each pair; the last answer for a base is kept, since a model asks for one
// again and again.
const double* frequencies(const RopeArgs& a) {
  thread_local std::vector<double> kept, given;
  thread_local float kept_base = 0;
  thread_local int64_t kept_dims = -1;
  const auto half = static_cast<size_t>(a.dims / 2);
  if (a.freqs) {
    given.resize(half);
    for (size_t i = 0; i < half; ++i) {
      given[i] = 1.0 / a.freqs->as<float>()[static_cast<int64_t>(i) * a.freqs->strides[0]];
    }
    return given.data();
  }
  if (kept_base != a.base || kept_dims != a.dims) {
    kept.resize(half);
    for (size_t i = 0; i < half; ++i) {
      kept[i] =
          std::pow(static_cast<double>(a.base), -2.0 * static_cast<double>(i) / static_cast<double>(a.dims));
    }
    kept_base = a.base, kept_dims = a.dims;
  }
  return kept.data();
}

// Rows of a [B, .., T, D] View, numbered in row-major order.
struct Rows {
  int64_t count, length, per_batch;

  explicit Rows(const View& x) : count(1), length(x.shape[x.shape.size() - 2]) {
    for (size_t axis = 0; axis + 1 < x.shape.size(); ++axis) count *= x.shape[axis];
    per_batch = x.shape.size() > 2 && x.shape[0] > 0 ? count / x.shape[0] : count;
  }
  // The [1, D] matrix of a row.
  static GemmMatrix at(const View& x, int64_t row) {
    int64_t offset = 0;
    for (size_t axis = x.shape.size() - 1; axis-- > 0;) {
      offset += row % x.shape[axis] * x.strides[axis];
      row /= x.shape[axis];
    }
    return {static_cast<char*>(x.data) + offset * static_cast<int64_t>(itemsize(x.dtype)), x.dtype, 0,
            x.strides.back()};
  }
};

}  // namespace

void rope(const RopeArgs& a) {
  const Rows rows(a.x);
  const int64_t depth = a.x.shape.back(), half = a.dims / 2;
  if (rows.count == 0 || depth == 0) return;
  const RopeKernels& kernels = rope_kernels();
  // One table of angles for all batches where they share the offset; else one for each.
  const bool shared = !a.offsets || a.offsets->size() == 1;
  const int64_t tables = shared ? 1 : rows.count / rows.per_batch;
  Scratch angles(tables * rows.length * 2 * half * kFloat);
  const auto cosine = [&](int64_t table, int64_t t) {
    return angles.as<float>() + (table * rows.length + t) * 2 * half;
  };
  const double* frequency = frequencies(a);
  parallel_ranges(tables * rows.length, std::max<int64_t>(1, kGrain / 8 / std::max<int64_t>(half, 1)),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; ++i) {
                      const int64_t offset = a.offsets ? integer_at(*a.offsets, i / rows.length) : a.offset;
                      const double position =
                          static_cast<double>(a.scale) * static_cast<double>(i % rows.length + offset);
                      float* c = cosine(i / rows.length, i % rows.length);
                      kernels.angles(position, frequency, half, c, c + half);
                    }
                  });
  parallel_ranges(rows.count, std::max<int64_t>(1, kGrain / depth), [&](int64_t begin, int64_t end) {
    Scratch buffer(depth * kFloat);
    auto* row = buffer.as<float>();
    for (int64_t i = begin; i < end; ++i) {
      load_row_f32(Rows::at(a.x, i), depth, row);
      const float* c = cosine(shared ? 0 : i / rows.per_batch, i % rows.length);
      kernels.rotate(row, half, a.traditional, a.inverse ? -1.0f : 1.0f, c, c + half);
      store_row_f32(row, depth, Rows::at(a.out, i));
    }
  });
}

}  // namespace lamina::cpu
