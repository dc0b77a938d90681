#include "backend/cpu/convolution_plan.h"
#include "backend/cpu/jobs.h"

#include <algorithm>
#include <numeric>

#include "backend/cpu/gemm_kernel.h"

namespace lamina::cpu {
namespace {

std::vector<ConvAxis> axis_phases(int64_t length, int64_t outputs, int64_t taps, size_t i,
                                  const ConvolutionParams& p) {
  const int64_t dilation = p.input_dilation[i], stride = p.stride[i];
  const int64_t step = dilation / std::gcd(dilation, stride);
  std::vector<ConvAxis> phases;
  for (int64_t first = 0; first < std::min(step, outputs); ++first) {
    ConvAxis axis{length, ceil_div(outputs - first, step), first, step, step * stride / dilation, {}};
    for (int64_t k = 0; k < taps; ++k) {
      const int64_t at = first * stride + k * p.kernel_dilation[i] - p.padding_lo[i];
      if (at % dilation == 0) axis.taps.push_back({at / dilation, p.flip ? taps - 1 - k : k});
    }
    if (!axis.taps.empty()) phases.push_back(std::move(axis));
  }
  return phases;
}

}  // namespace

std::vector<ConvPhase> conv_phases(const View& x, const View& weight, const View& out,
                                   const ConvolutionParams& p) {
  std::vector<ConvPhase> phases(1);
  const size_t axes = p.stride.size();
  for (size_t i = 0; i < axes; ++i) {
    const auto choices = axis_phases(x.shape[i + 1], out.shape[i + 1], weight.shape[i + 1], i, p);
    std::vector<ConvPhase> longer;
    for (const ConvPhase& phase : phases) {
      for (const ConvAxis& axis : choices) {
        longer.push_back(phase);
        longer.back()[3 - axes + i] = axis;
      }
    }
    phases = std::move(longer);
  }
  return phases;
}

int64_t positions_of(const ConvPhase& phase) {
  return phase[0].outputs * phase[1].outputs * phase[2].outputs;
}

int64_t taps_of(const ConvPhase& phase) {
  int64_t n = 1;
  for (const ConvAxis& axis : phase) n *= static_cast<int64_t>(axis.taps.size());
  return n;
}

ConvWindows::ConvWindows(const ConvPhase& phase, const void* data, Dtype dtype, int64_t all_channels,
                         int64_t channels, const void* zeros)
    : phase_(phase),
      data_(static_cast<const char*>(data)),
      zeros_(static_cast<const char*>(zeros)),
      dtype_(dtype),
      item_(static_cast<int64_t>(itemsize(dtype))),
      all_channels_(all_channels),
      channels_(channels) {
  for (size_t d = 0; d < 3; ++d) {
    low_[d] = phase[d].taps.front().offset;
    high_[d] = phase[d].taps.back().offset;
  }
  for (const ConvTap& a : phase[0].taps) {
    for (const ConvTap& b : phase[1].taps) {
      for (const ConvTap& c : phase[2].taps) add_tap({a.offset, b.offset, c.offset});
    }
  }
}

void ConvWindows::add_tap(const std::array<int64_t, 3>& at) {
  const int64_t place = (at[0] * phase_[1].length + at[1]) * phase_[2].length + at[2];
  const Run run{static_cast<int64_t>(taps_.size()) * channels_, channels_, place * all_channels_, at};
  taps_.push_back(run);
  if (!merged_.empty() && merged_.back().offset + merged_.back().length == run.offset) {
    merged_.back().length += run.length;
  } else {
    merged_.push_back(run);
  }
}

// Where the rows' windows lie; true where every one lies inside its image.
bool ConvWindows::locate(int64_t row0, int64_t width, Row* rows) const {
  const ConvAxis &a = phase_[0], &b = phase_[1], &c = phase_[2];
  int64_t k = row0 % c.outputs, rest = row0 / c.outputs;
  int64_t j = rest % b.outputs;
  rest /= b.outputs;
  int64_t i = rest % a.outputs, image = rest / a.outputs;
  bool inside = true;
  for (int64_t r = 0; r < width; ++r) {
    const std::array<int64_t, 3> at = {i * a.stride, j * b.stride, k * c.stride};
    rows[r] = {(((image * a.length + at[0]) * b.length + at[1]) * c.length + at[2]) * all_channels_, at};
    for (size_t d = 0; d < 3; ++d) inside &= at[d] + low_[d] >= 0 && at[d] + high_[d] < phase_[d].length;
    if (++k < c.outputs) continue;
    k = 0;
    if (++j < b.outputs) continue;
    j = 0;
    if (++i < a.outputs) continue;
    i = 0;
    ++image;
  }
  return inside;
}

template <class F>
void ConvWindows::each_run(int64_t row0, int64_t width, int64_t k0, int64_t depth, const F& f) const {
  Row rows[kMostRows];
  const void* from[kMostRows];
  const bool inside = locate(row0, width, rows);
  const std::vector<Run>& runs = inside ? merged_ : taps_;
  auto run =
      std::upper_bound(runs.begin(), runs.end(), k0, [](int64_t k, const Run& r) { return k < r.step; }) - 1;
  for (; run != runs.end() && run->step < k0 + depth; ++run) {
    const int64_t begin = std::max(k0, run->step), end = std::min(k0 + depth, run->step + run->length);
    const int64_t offset = run->offset + begin - run->step;
    for (int64_t r = 0; r < width; ++r) {
      bool valid = inside;
      if (!inside) {
        valid = true;
        for (size_t d = 0; d < 3; ++d) {
          valid &=
              static_cast<uint64_t>(rows[r].at[d] + run->at[d]) < static_cast<uint64_t>(phase_[d].length);
        }
      }
      from[r] = valid ? data_ + (rows[r].base + offset) * item_ : zeros_;
    }
    f(from, begin, end - begin);
  }
}

template <class T>
void ConvWindows::pack(int64_t row0, int64_t width, int64_t k0, int64_t depth, T* dst, int64_t step) const {
  each_run(row0, width, k0, depth, [&](const void* const* from, int64_t begin, int64_t length) {
    gemm_kernels<T>().pack_scattered(from, dtype_, width, length, dst + (begin - k0) * step, step);
  });
}

template <class T>
int64_t ConvWindows::runs(int64_t row0, int64_t width, int64_t k0, int64_t depth, ConvRun<T>* out) const {
  int64_t count = 0;
  each_run(row0, width, k0, depth, [&](const void* const* from, int64_t, int64_t length) {
    ConvRun<T>& run = out[count++];
    for (int64_t r = 0; r < width; ++r) run.rows[r] = static_cast<const T*>(from[r]);
    run.depth = length;
  });
  return count;
}

template void ConvWindows::pack(int64_t, int64_t, int64_t, int64_t, float*, int64_t) const;
template void ConvWindows::pack(int64_t, int64_t, int64_t, int64_t, double*, int64_t) const;
template int64_t ConvWindows::runs(int64_t, int64_t, int64_t, int64_t, ConvRun<float>*) const;
template int64_t ConvWindows::runs(int64_t, int64_t, int64_t, int64_t, ConvRun<double>*) const;

}  // namespace lamina::cpu
