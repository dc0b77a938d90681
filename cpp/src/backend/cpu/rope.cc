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

// The axes of a [B, .., T, D] View: a row for each of `heads` = the product of those between B and T.
struct Axes {
  int64_t batch, heads = 1, length;

  explicit Axes(const View& x) : batch(x.shape[0]), length(x.shape[x.shape.size() - 2]) {
    for (size_t axis = 1; axis + 2 < x.shape.size(); ++axis) heads *= x.shape[axis];
  }
  // Where the row of a head is, in elements.
  static int64_t offset(const View& x, int64_t b, int64_t head, int64_t t) {
    const size_t n = x.shape.size();
    int64_t at = b * x.strides[0] + t * x.strides[n - 2];
    for (size_t axis = n - 2; axis-- > 1;) {
      at += head % x.shape[axis] * x.strides[axis];
      head /= x.shape[axis];
    }
    return at;
  }
};

char* address(const View& x, int64_t elements) {
  return static_cast<char*>(x.data) + elements * static_cast<int64_t>(itemsize(x.dtype));
}

// The rows of all heads at one position.
class Rotation {
 public:
  explicit Rotation(const RopeArgs& a)
      : a_(a),
        axes_(a.x),
        depth_(a.x.shape.back()),
        dense_(a.x.strides.back() == 1 && a.out.strides.back() == 1) {}

  void run(int64_t b, int64_t t, const float* cosine, const float* sine, float* work) const {
    // One axis between B and T, or none: heads are at equal distances.
    const bool even = a_.x.shape.size() <= 4;
    for (int64_t h = 0; h < axes_.heads; h += even ? axes_.heads : 1) {
      char* src = address(a_.x, Axes::offset(a_.x, b, h, t));
      char* dst = address(a_.out, Axes::offset(a_.out, b, h, t));
      if (dense_) {
        turn({src, dst, step(a_.x), step(a_.out), even ? axes_.heads : 1, a_.x.dtype}, cosine, sine, work);
        continue;
      }
      for (int64_t i = 0; i < (even ? axes_.heads : 1); ++i) {
        turn_spread(src + i * step(a_.x), dst + i * step(a_.out), cosine, sine, work);
      }
    }
  }

 private:
  static int64_t step(const View& x) {
    return x.shape.size() == 4 ? x.strides[1] * static_cast<int64_t>(itemsize(x.dtype)) : 0;
  }
  void turn(const RopeRows& rows, const float* cosine, const float* sine, float* work) const {
    kernels_.rotate(rows, depth_, a_.dims / 2, a_.traditional, a_.inverse ? -1.0f : 1.0f, cosine, sine, work);
  }
  // A row whose features have gaps, by way of a copy.
  void turn_spread(char* src, char* dst, const float* cosine, const float* sine, float* work) const {
    float* row = work + depth_;
    load_row_f32({src, a_.x.dtype, 0, a_.x.strides.back()}, depth_, row);
    turn({row, row, 0, 0, 1, Dtype::kFloat32}, cosine, sine, work);
    store_row_f32(row, depth_, {dst, a_.out.dtype, 0, a_.out.strides.back()});
  }

  const RopeArgs& a_;
  const RopeKernels& kernels_ = rope_kernels();
  const Axes axes_;
  const int64_t depth_;
  const bool dense_;
};

}  // namespace

void rope(const RopeArgs& a) {
  const Axes axes(a.x);
  const int64_t depth = a.x.shape.back(), half = a.dims / 2, positions = axes.batch * axes.length;
  if (a.x.size() == 0) return;
  const RopeKernels& kernels = rope_kernels();
  // One table of angles for all batches where they share the offset; else one for each.
  const bool shared = !a.offsets || a.offsets->size() == 1;
  const int64_t tables = shared ? axes.length : positions;
  Scratch angles(tables * 2 * half * kFloat);
  const auto cosine = [&](int64_t i) { return angles.as<float>() + i * 2 * half; };
  const double* frequency = frequencies(a);
  parallel_ranges(tables, std::max<int64_t>(1, kGrain / 8 / std::max<int64_t>(half, 1)),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; ++i) {
                      const int64_t offset = a.offsets ? integer_at(*a.offsets, i / axes.length) : a.offset;
                      const double position =
                          static_cast<double>(a.scale) * static_cast<double>(i % axes.length + offset);
                      kernels.angles(position, frequency, half, cosine(i), cosine(i) + half);
                    }
                  });
  const Rotation rotation(a);
  parallel_ranges(positions, std::max<int64_t>(1, kGrain / (axes.heads * depth)),
                  [&](int64_t begin, int64_t end) {
                    Scratch work(2 * depth * kFloat);
                    for (int64_t i = begin; i < end; ++i) {
                      const float* c = cosine(shared ? i % axes.length : i);
                      rotation.run(i / axes.length, i % axes.length, c, c + half, work.as<float>());
                    }
                  });
}

}  // namespace lamina::cpu
