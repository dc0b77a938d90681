#include "backend/cpu/convolution_kernel.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/simd_target.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/convolution_kernel.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/gemm_convert-inl.h"

// Sums stay in registers only where every lambda is inlined, whatever the size of the file.
#ifndef LINE_INLINED
#define LINE_INLINED HWY_ATTR __attribute__((always_inline))
#endif

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

// The outputs from `first` to `last` that have an input under every tap.
struct Inside {
  explicit Inside(const ConvLine& line) : first(line.begin), last(line.end) {
    for (int64_t t = 0; t < line.num_taps; ++t) {
      const int64_t offset = line.taps[t].offset;
      first = std::max(first, offset < 0 ? (line.stride - 1 - offset) / line.stride : 0);
      last = std::min(last, offset < line.length ? (line.length - 1 - offset) / line.stride + 1 : 0);
    }
    first = std::min(first, line.end);
    last = std::max(first, last);
  }
  int64_t first, last;
};

// For each of a group's channels, where it lies for every lane of a vector.
template <int kGroup, class D>
struct GroupLanes {
  using Index = hn::TFromD<hn::RebindToSigned<D>>;
  using Table = decltype(hn::SetTableIndices(D(), static_cast<const Index*>(nullptr)));
  Table tables[kGroup];

  explicit GroupLanes(D d) {
    HWY_ALIGN Index lanes[hn::MaxLanes(d)];
    for (size_t i = 0; i < kGroup; ++i) {
      for (size_t l = 0; l < hn::Lanes(d); ++l) lanes[l] = static_cast<Index>(l / kGroup * kGroup + i);
      tables[i] = hn::SetTableIndices(d, lanes);
    }
  }
};

// kCount neighbouring outputs from number `first` on, under all of which every tap of `taps` has an input.
template <int kCount, int kGroup, class S, class T>
void add_outputs(const ConvLine& line, const LineTap* taps, int64_t num_taps, int64_t first) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), channels = line.channels;
  const int64_t start = first * line.stride, step = line.stride * channels;
  S* out = static_cast<S*>(line.out) + first * line.out_step;
  [[maybe_unused]] const GroupLanes<kGroup, decltype(d)> from(d);
  const auto add = [&](int64_t c, const auto& load, const auto& load_weight, const auto& put) LINE_INLINED {
    V total[kCount];
    unroll<kCount>([&](auto i) LINE_INLINED { total[i] = hn::Zero(d); });
    // As in products, kGemmDepth steps are summed before they are added: errors of long sums stay small.
    for (int64_t t = 0; t < num_taps;) {
      V sum[kCount];
      unroll<kCount>([&](auto i) LINE_INLINED { sum[i] = hn::Zero(d); });
      for (const int64_t end = std::min(num_taps, t + kGemmDepth); t < end; ++t) {
        const T* w = static_cast<const T*>(taps[t].weights) + c;
        const S* x = static_cast<const S*>(taps[t].x) + (start + taps[t].offset) * channels + c;
        V in[kCount];
        unroll<kCount>([&](auto i) LINE_INLINED { in[i] = load(x + static_cast<int64_t>(i) * step); });
        unroll<kGroup>([&](auto g) LINE_INLINED {
          const V weight = load_weight(w + static_cast<int64_t>(g) * channels);
          unroll<kCount>([&](auto i) LINE_INLINED {
            if constexpr (kGroup == 1) {
              sum[i] = hn::MulAdd(in[i], weight, sum[i]);
            } else {
              sum[i] = hn::MulAdd(hn::TableLookupLanes(in[i], from.tables[g]), weight, sum[i]);
            }
          });
        });
      }
      unroll<kCount>([&](auto i) LINE_INLINED { total[i] = hn::Add(total[i], sum[i]); });
    }
    unroll<kCount>([&](auto i)
                       LINE_INLINED { put(total[i], out + static_cast<int64_t>(i) * line.out_step + c); });
  };
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) {
    add(
        c, [&](const S* p) LINE_INLINED { return load_as(d, p); },
        [&](const T* p) LINE_INLINED { return hn::LoadU(d, p); },
        [&](V v, S* p) LINE_INLINED { store_as(v, d, p); });
  }
  if (c == channels) return;
  const auto left = static_cast<size_t>(channels - c);
  add(
      c, [&](const S* p) LINE_INLINED { return load_part(d, p, left); },
      [&](const T* p) LINE_INLINED { return load_part(d, p, left); },
      [&](V v, S* p) LINE_INLINED { store_part(v, d, p, left); });
}

// An output near the edge, of the taps that have an input.
template <int kGroup, class S, class T>
void add_edge(const ConvLine& line, int64_t i) {
  int64_t count = 0;
  for (int64_t t = 0; t < line.num_taps; ++t) {
    const int64_t at = i * line.stride + line.taps[t].offset;
    if (at >= 0 && at < line.length) line.work[count++] = line.taps[t];
  }
  add_outputs<1, kGroup, S, T>(line, line.work, count, i);
}

template <int kGroup, class S, class T>
void depthwise(const ConvLine& line) {
  const Inside inside(line);
  int64_t i = line.begin;
  for (; i < inside.first; ++i) add_edge<kGroup, S, T>(line, i);
  for (; i + 4 <= inside.last; i += 4) add_outputs<4, kGroup, S, T>(line, line.taps, line.num_taps, i);
  for (; i < inside.last; ++i) add_outputs<1, kGroup, S, T>(line, line.taps, line.num_taps, i);
  for (; i < line.end; ++i) add_edge<kGroup, S, T>(line, i);
}

// kCount vectors of outputs from number `first` on, all inside.
template <int kCount, class S, class T>
void add_vectors(const ConvLine& line, int64_t first) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V total[kCount];
  unroll<kCount>([&](auto i) HWY_ATTR { total[i] = hn::Zero(d); });
  for (int64_t t = 0; t < line.num_taps;) {
    V sum[kCount];
    unroll<kCount>([&](auto i) HWY_ATTR { sum[i] = hn::Zero(d); });
    for (const int64_t end = std::min(line.num_taps, t + kGemmDepth); t < end; ++t) {
      const V w = hn::Set(d, *static_cast<const T*>(line.taps[t].weights));
      const S* x = static_cast<const S*>(line.taps[t].x) + line.taps[t].offset + first;
      unroll<kCount>([&](auto i) HWY_ATTR {
        sum[i] = hn::MulAdd(load_as(d, x + static_cast<int64_t>(i) * lanes), w, sum[i]);
      });
    }
    unroll<kCount>([&](auto i) HWY_ATTR { total[i] = hn::Add(total[i], sum[i]); });
  }
  unroll<kCount>([&](auto i) HWY_ATTR {
    store_as(total[i], d, static_cast<S*>(line.out) + first + static_cast<int64_t>(i) * lanes);
  });
}

template <class S, class T>
void signal(const ConvLine& line) {
  const Inside inside(line);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  int64_t i = line.begin;
  for (; i < inside.first; ++i) add_edge<1, S, T>(line, i);
  for (; i + 4 * lanes <= inside.last; i += 4 * lanes) add_vectors<4, S, T>(line, i);
  for (; i + lanes <= inside.last; i += lanes) add_vectors<1, S, T>(line, i);
  for (; i < line.end; ++i) add_edge<1, S, T>(line, i);
}

template <class F>
void with_dtype(Dtype t, const F& f) {
  switch (t) {
    case Dtype::kFloat16: return f(float16_t(), float());
    case Dtype::kBFloat16: return f(bfloat16_t(), float());
    case Dtype::kFloat64: return f(double(), double());
    default: return f(float(), float());
  }
}
void depthwise_of(const ConvLine& line) {
  with_dtype(line.dtype, [&](auto s, auto t) {
    using S = decltype(s);
    using T = decltype(t);
    constexpr size_t kLanes = hn::MaxLanes(hn::ScalableTag<T>());
    if constexpr (kLanes >= 8) {
      if (line.group == 8) return depthwise<8, S, T>(line);
    }
    if constexpr (kLanes >= 4) {
      if (line.group == 4) return depthwise<4, S, T>(line);
    }
    if constexpr (kLanes >= 2) {
      if (line.group == 2) return depthwise<2, S, T>(line);
    }
    depthwise<1, S, T>(line);
  });
}
int64_t most_group_of(Dtype dtype) {
  return static_cast<int64_t>(dtype == Dtype::kFloat64 ? hn::Lanes(hn::ScalableTag<double>())
                                                       : hn::Lanes(hn::ScalableTag<float>()));
}
void signal_of(const ConvLine& line) {
  with_dtype(line.dtype, [&](auto s, auto t) { signal<decltype(s), decltype(t)>(line); });
}

}  // namespace
}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(depthwise_of);
HWY_EXPORT(signal_of);
HWY_EXPORT(most_group_of);

void depthwise_line(const ConvLine& line) {
  init_simd_target();
  HWY_DYNAMIC_DISPATCH(depthwise_of)(line);
}
int64_t most_line_group(Dtype dtype) {
  init_simd_target();
  return HWY_DYNAMIC_DISPATCH(most_group_of)(dtype);
}
void signal_line(const ConvLine& line) {
  init_simd_target();
  HWY_DYNAMIC_DISPATCH(signal_of)(line);
}

}  // namespace lamina::cpu
#endif
