#include "backend/cpu/convolution_kernel.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/simd_target.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/convolution_kernel.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/gemm_convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

// kCount neighbouring outputs from number `first` on, under all of which every tap of `taps` has an input.
template <int kCount, class S, class T>
void add_outputs(const DepthwiseLine& line, const DepthwiseTap* taps, int64_t num_taps, int64_t first) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), channels = line.channels;
  const int64_t step = line.stride * channels;
  S* out = static_cast<S*>(line.out) + first * line.out_step;
  const auto input = [&](int64_t t) {
    return static_cast<const S*>(taps[t].x) + (first * line.stride + taps[t].offset) * channels;
  };
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) {
    V sum[kCount];
    unroll<kCount>([&](auto i) HWY_ATTR { sum[i] = hn::Zero(d); });
    for (int64_t t = 0; t < num_taps; ++t) {
      const V w = hn::LoadU(d, static_cast<const T*>(taps[t].weights) + c);
      const S* x = input(t) + c;
      unroll<kCount>([&](auto i) HWY_ATTR {
        sum[i] = hn::MulAdd(load_as(d, x + static_cast<int64_t>(i) * step), w, sum[i]);
      });
    }
    unroll<kCount>([&](auto i)
                       HWY_ATTR { store_as(sum[i], d, out + static_cast<int64_t>(i) * line.out_step + c); });
  }
  if (c == channels) return;
  const auto left = static_cast<size_t>(channels - c);
  V sum[kCount];
  unroll<kCount>([&](auto i) HWY_ATTR { sum[i] = hn::Zero(d); });
  for (int64_t t = 0; t < num_taps; ++t) {
    const V w = load_part(d, static_cast<const T*>(taps[t].weights) + c, left);
    const S* x = input(t) + c;
    unroll<kCount>([&](auto i) HWY_ATTR {
      sum[i] = hn::MulAdd(load_part(d, x + static_cast<int64_t>(i) * step, left), w, sum[i]);
    });
  }
  unroll<kCount>([&](auto i) HWY_ATTR {
    store_part(sum[i], d, out + static_cast<int64_t>(i) * line.out_step + c, left);
  });
}

// An output near the edge, of the taps that have an input. The order of the taps stays.
template <class S, class T>
void add_edge(const DepthwiseLine& line, int64_t i) {
  int64_t count = 0;
  for (int64_t t = 0; t < line.num_taps; ++t) {
    const int64_t at = i * line.stride + line.taps[t].offset;
    if (at >= 0 && at < line.length) line.work[count++] = line.taps[t];
  }
  add_outputs<1, S, T>(line, line.work, count, i);
}

template <class S, class T>
void depthwise(const DepthwiseLine& line) {
  int64_t begin = 0, end = line.outputs;
  for (int64_t t = 0; t < line.num_taps; ++t) {
    const int64_t offset = line.taps[t].offset;
    // Outputs with an input under this tap.
    begin = std::max(begin, offset < 0 ? (-offset + line.stride - 1) / line.stride : 0);
    end = std::min(end, offset < line.length ? (line.length - 1 - offset) / line.stride + 1 : 0);
  }
  end = std::max(begin, end);
  begin = std::min(begin, line.outputs);
  end = std::min(end, line.outputs);
  int64_t i = 0;
  for (; i < begin; ++i) add_edge<S, T>(line, i);
  for (; i + 4 <= end; i += 4) add_outputs<4, S, T>(line, line.taps, line.num_taps, i);
  for (; i < end; ++i) add_outputs<1, S, T>(line, line.taps, line.num_taps, i);
  for (; i < line.outputs; ++i) add_edge<S, T>(line, i);
}

void depthwise_of(const DepthwiseLine& line) {
  switch (line.dtype) {
    case Dtype::kFloat16: return depthwise<float16_t, float>(line);
    case Dtype::kBFloat16: return depthwise<bfloat16_t, float>(line);
    case Dtype::kFloat64: return depthwise<double, double>(line);
    default: return depthwise<float, float>(line);
  }
}

}  // namespace
}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(depthwise_of);

void depthwise_line(const DepthwiseLine& line) {
  init_simd_target();
  HWY_DYNAMIC_DISPATCH(depthwise_of)(line);
}

}  // namespace lamina::cpu
#endif
