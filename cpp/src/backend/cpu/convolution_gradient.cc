#include "backend/cpu/convolution_gradient.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "backend/cpu/convolution_plan.h"
#include "backend/cpu/convolution_product.h"
#include "backend/cpu/convolution_tile.h"
#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/gemm_scratch.h"

namespace lamina::cpu {
namespace {

// Below this many multiply-adds a product runs on the calling thread.
constexpr int64_t kParallelWork = int64_t{1} << 19;
// With fewer outputs, turning the operands costs less than the columns of zeros.
constexpr int64_t kLeastOutputs = 17;

// Whether neighbours along the first axis lie side by side, and along the last axis do not.
bool is_turned(const View& v) { return (v.shape[0] == 1 || v.strides[0] == 1) && !v.row_contiguous(); }

// Stride of spatial axis d of three, of which the first ones may be missing.
int64_t spatial_stride(const View& v, size_t d) {
  const size_t axes = v.shape.size() - 2;
  return d + axes < 3 ? 0 : v.strides[d + axes - 2];
}

// Rows of A are positions, and channels within a position; steps are taps, and images within a tap.
template <class T>
class TurnedProduct {
 public:
  TurnedProduct(const ConvPhase& phase, const View& x, const View& w, const View& out)
      : phase_(phase),
        x_(x),
        w_(w),
        out_(out),
        channels_(x.shape[0]),
        outputs_(w.shape[0]),
        images_(x.shape.back()),
        positions_(positions_of(phase)),
        steps_(taps_of(phase) * images_),
        item_(static_cast<int64_t>(itemsize(x.dtype))),
        zeros_(channels_ * item_) {
    std::memset(zeros_.as<char>(), 0, static_cast<size_t>(channels_ * item_));
  }

  void run() {
    std::vector<int64_t> c_rows(static_cast<size_t>(positions_ * channels_));
    for (int64_t at = 0; at < positions_; ++at) {
      for (int64_t c = 0; c < channels_; ++c)
        c_rows[static_cast<size_t>(at * channels_ + c)] = (c * positions_ + at) * outputs_;
    }
    GemmArgs g;
    g.m = positions_ * channels_;
    g.n = g.ldc = outputs_;
    g.k = steps_;
    g.c = out_.data;
    g.c_dtype = out_.dtype;
    g.c_rows = c_rows.data();
    const auto pack = [this](int64_t k0, int64_t depth, int64_t col0, int64_t cols, T* dst) {
      pack_weights(k0, depth, col0, cols, dst);
    };
    const auto block = [this](int64_t row0, int64_t rows, int64_t k0, int64_t depth, int64_t cols, const T* b,
                              T* tile, int64_t ld) {
      const Scratch packed(rows * depth * static_cast<int64_t>(sizeof(T)));
      pack_windows(row0, rows, k0, depth, packed.template as<T>());
      gemm_kernels<T>().multiply(rows, cols, depth, packed.template as<T>(), b, tile, ld, k0 > 0);
    };
    multiply_streamed<T>(g, pack, block, g.m * g.n * g.k >= kParallelWork);
  }

 private:
  // A step of the shared axis, taken apart.
  struct Step {
    size_t a, b, c;
    int64_t image;
  };
  Step step_at(int64_t k) const {
    const size_t nb = phase_[1].taps.size(), nc = phase_[2].taps.size();
    const auto tap = static_cast<size_t>(k / images_);
    return {tap / nc / nb, tap / nc % nb, tap % nc, k % images_};
  }

  // f(tap of each axis, first image, images) for the taps of steps [k0, k0 + depth).
  template <class F>
  void each_tap(int64_t k0, int64_t depth, const F& f) const {
    Step s = step_at(k0);
    while (depth > 0) {
      const int64_t count = std::min(depth, images_ - s.image);
      f(phase_[0].taps[s.a], phase_[1].taps[s.b], phase_[2].taps[s.c], s.image, count);
      depth -= count;
      s.image = 0;
      if (++s.c < phase_[2].taps.size()) continue;
      s.c = 0;
      if (++s.b < phase_[1].taps.size()) continue;
      s.b = 0;
      ++s.a;
    }
  }

  const char* address(const View& v, int64_t i, int64_t j, int64_t k, int64_t image) const {
    const int64_t place = i * spatial_stride(v, 0) + j * spatial_stride(v, 1) + k * spatial_stride(v, 2);
    return static_cast<const char*>(v.data) + (place + image * v.strides.back()) * item_;
  }

  void pack_weights(int64_t k0, int64_t depth, int64_t col0, int64_t cols, T* dst) const {
    const void* at[kGemmDepth];
    const void** to = at;
    const int64_t next = w_.strides.back() * item_, nr = gemm_kernels<T>().nr;
    each_tap(k0, depth, [&](const ConvTap& a, const ConvTap& b, const ConvTap& c, int64_t image, int64_t n) {
      const char* from = address(w_, a.weight, b.weight, c.weight, image);
      for (; n > 0; --n, from += next) *to++ = from;
    });
    for (int64_t j = 0; j < cols; j += nr, dst += nr * depth) {
      const int64_t width = std::min(nr, cols - j);
      if (width < nr) std::fill_n(dst, nr * depth, T(0));
      conv_kernels<T>().pack_steps(at, w_.dtype, depth, col0 + j, width, dst, nr);
    }
  }

  // What lies below a position at each step.
  void find_inputs(int64_t position, int64_t k0, int64_t depth, const void** to) const {
    const ConvAxis &pa = phase_[0], &pb = phase_[1], &pc = phase_[2];
    const int64_t i = position / pc.outputs / pb.outputs * pa.stride;
    const int64_t j = position / pc.outputs % pb.outputs * pb.stride, k = position % pc.outputs * pc.stride;
    const int64_t next = x_.strides.back() * item_;
    each_tap(k0, depth, [&](const ConvTap& a, const ConvTap& b, const ConvTap& c, int64_t image, int64_t n) {
      const int64_t y = i + a.offset, z = j + b.offset, u = k + c.offset;
      const bool inside = static_cast<uint64_t>(y) < static_cast<uint64_t>(pa.length) &&
                          static_cast<uint64_t>(z) < static_cast<uint64_t>(pb.length) &&
                          static_cast<uint64_t>(u) < static_cast<uint64_t>(pc.length);
      const char* from = inside ? address(x_, y, z, u, image) : zeros_.template as<char>();
      const int64_t by = inside ? next : 0;
      for (; n > 0; --n, from += by) *to++ = from;
    });
  }

  void pack_windows(int64_t row0, int64_t rows, int64_t k0, int64_t depth, T* dst) const {
    const void* at[kGemmDepth];
    const int64_t mr = gemm_kernels<T>().mr;
    int64_t found = -1;
    for (int64_t panel = 0; panel < rows; panel += mr) {
      const int64_t height = std::min(mr, rows - panel);
      for (int64_t r = 0; r < height;) {
        const int64_t position = (row0 + panel + r) / channels_, channel = (row0 + panel + r) % channels_;
        const int64_t width = std::min(height - r, channels_ - channel);
        if (position != found) find_inputs(position, k0, depth, at);
        found = position;
        conv_kernels<T>().pack_steps(at, x_.dtype, depth, channel, width, dst + r, height);
        r += width;
      }
      dst += height * depth;
    }
  }

  const ConvPhase& phase_;
  const View &x_, &w_, &out_;
  const int64_t channels_, outputs_, images_, positions_, steps_, item_;
  const Scratch zeros_;
};

}  // namespace

bool convolve_turned(const View& x, const View& weight, const View& out, const ConvolutionParams& p) {
  if (out.dtype == Dtype::kComplex64 || p.groups != 1 || weight.shape[0] < kLeastOutputs) return false;
  if (!is_turned(x) || !is_turned(weight)) return false;
  const auto above_one = [](int64_t d) { return d != 1; };
  if (std::any_of(p.input_dilation.begin(), p.input_dilation.end(), above_one)) return false;
  const std::vector<ConvPhase> phases = conv_phases(x, weight, out, p);
  if (out.dtype == Dtype::kFloat64) {
    TurnedProduct<double>(phases[0], x, weight, out).run();
  } else {
    TurnedProduct<float>(phases[0], x, weight, out).run();
  }
  return true;
}

}  // namespace lamina::cpu
