#include "backend/reference/convolution.h"

#include <array>

#include "backend/reference/dot.h"
#include "core/thread_pool.h"

namespace lamina::reference {
namespace {

// One spatial axis; missing ones are of length 1. Steps in elements.
struct Axis {
  int64_t length = 1, outputs = 1, taps = 1;
  int64_t stride = 1, padding = 0, kernel_dilation = 1, input_dilation = 1;
  int64_t x_step = 0, w_step = 0;
  bool flip = false;

  // The input below tap k of output i; -1 where there is none.
  int64_t input(int64_t i, int64_t k) const {
    const int64_t at = i * stride + (flip ? taps - 1 - k : k) * kernel_dilation - padding;
    if (at < 0 || at % input_dilation != 0 || at / input_dilation >= length) return -1;
    return at / input_dilation;
  }
};

std::array<Axis, 3> axes_of(const View& x, const View& w, const View& out, const ConvolutionParams& p) {
  std::array<Axis, 3> axes;
  const size_t n = p.stride.size();
  for (size_t i = 0; i < n; ++i) {
    axes[3 - n + i] = {
        x.shape[i + 1],       out.shape[i + 1],    w.shape[i + 1],   p.stride[i],      p.padding_lo[i],
        p.kernel_dilation[i], p.input_dilation[i], x.strides[i + 1], w.strides[i + 1], p.flip};
  }
  return axes;
}

// The sum of one output element; x and w point at the first of `channels` channels.
template <class T>
DotType<T> sum_of(const std::array<Axis, 3>& axes, const std::array<int64_t, 3>& at, const T* x,
                  int64_t x_step, const T* w, int64_t w_step, int64_t channels) {
  DotType<T> sum{};
  for (int64_t i = 0; i < axes[0].taps; ++i) {
    const int64_t a = axes[0].input(at[0], i);
    for (int64_t j = 0; a >= 0 && j < axes[1].taps; ++j) {
      const int64_t b = axes[1].input(at[1], j);
      for (int64_t k = 0; b >= 0 && k < axes[2].taps; ++k) {
        const int64_t c = axes[2].input(at[2], k);
        if (c < 0) continue;
        const T* px = x + a * axes[0].x_step + b * axes[1].x_step + c * axes[2].x_step;
        const T* pw = w + i * axes[0].w_step + j * axes[1].w_step + k * axes[2].w_step;
        for (int64_t l = 0; l < channels; ++l) {
          sum += times(to_dot(px[l * x_step]), to_dot(pw[l * w_step]));
        }
      }
    }
  }
  return sum;
}

template <class T>
void convolve(const View& x, const View& w, const View& out, const ConvolutionParams& p) {
  const std::array<Axis, 3> axes = axes_of(x, w, out, p);
  const size_t last = out.shape.size() - 1;
  const int64_t outputs = out.shape[last], channels = w.shape[last];
  const int64_t per_group = outputs / p.groups;
  parallel_ranges(out.size() / outputs, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t rest = i, to = 0;
      std::array<int64_t, 3> at{};
      for (size_t d = last - 1; d > 0; --d) {
        const int64_t k = rest % out.shape[d];
        at[2 - (last - 1 - d)] = k;
        to += k * out.strides[d];
        rest /= out.shape[d];
      }
      to += rest * out.strides[0];
      for (int64_t o = 0; o < outputs; ++o) {
        const int64_t first = o / per_group * channels;
        const T* px = x.as<T>() + rest * x.strides[0] + first * x.strides[last];
        const T* pw = w.as<T>() + o * w.strides[0];
        out.as<T>()[to + o * out.strides[last]] =
            from_dot<T>(sum_of(axes, at, px, x.strides[last], pw, w.strides[last], channels));
      }
    }
  });
}

}  // namespace

void convolution(const View& x, const View& weight, const View& out, const ConvolutionParams& p) {
  if (out.size() == 0) return;
  visit_dtype(out.dtype, [&]<class T>(std::type_identity<T>) {
    if constexpr (kIsHalf<T> || kIsComplex<T> || std::is_floating_point_v<T>) convolve<T>(x, weight, out, p);
  });
}

}  // namespace lamina::reference
