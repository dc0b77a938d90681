#include <algorithm>
#include <cstring>
#include <vector>

#include "backend/cpu/convolution_gradient.h"
#include "backend/cpu/convolution_plan.h"
#include "backend/cpu/convolution_tile.h"
#include "backend/cpu/copy.h"
#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/gemm_scratch.h"
#include "core/thread_pool.h"
#include "memory/buffer.h"

namespace lamina::cpu {
namespace {

// Taps per output from which on this way is taken, and outputs up to which.
constexpr int64_t kManyTaps = 256, kFewPositions = 128;
// Taps of a line that are summed before they are added to the job's sums, and lines of a job: they fix the
// order of summation.
constexpr int64_t kLineTaps = 128, kJobLines = 64;

// `view` with its first axis innermost in memory, copied where it is not.
struct ChannelsLast {
  explicit ChannelsLast(const View& v) : view(v) {
    const bool last = v.shape[0] == 1 || v.strides[0] == 1;
    if (last) return;
    int64_t step = v.shape[0];
    for (size_t i = v.shape.size(); i-- > 1;) {
      view.strides[i] = step;
      step *= v.shape[i];
    }
    view.strides[0] = 1;
    memory = allocate(static_cast<size_t>(step) * itemsize(v.dtype));
    view.data = memory->data();
    copy(v, view);
  }
  View view;
  BufferRef memory;
};

template <class T>
class TapLines {
 public:
  TapLines(const ConvPhase& phase, const View& x, const View& w, const View& out)
      : phase_(phase),
        x_(x),
        w_(w),
        out_(out),
        channels_(out.shape.back()),
        cuts_((static_cast<int64_t>(phase[2].taps.size()) + kLineTaps - 1) / kLineTaps),
        lines_(static_cast<int64_t>(phase[0].taps.size() * phase[1].taps.size()) * cuts_),
        jobs_((lines_ + kJobLines - 1) / kJobLines),
        elems_(positions_of(phase) * channels_) {}

  void run() {
    const Scratch partial(jobs_ * elems_ * static_cast<int64_t>(sizeof(T)));
    T* sums = partial.template as<T>();
    for (int64_t image = 0; image < out_.shape[0]; ++image) {
      std::fill_n(sums, jobs_ * elems_, T(0));
      parallel_for(jobs_, [&](int64_t job) {
        const int64_t end = std::min(lines_, (job + 1) * kJobLines);
        for (int64_t i = job * kJobLines; i < end; ++i) add_line(image, i, sums + job * elems_);
      });
      for (int64_t job = 1; job < jobs_; ++job) {
        for (int64_t i = 0; i < elems_; ++i) sums[i] += sums[job * elems_ + i];
      }
      char* to = static_cast<char*>(out_.data) + image * elems_ * static_cast<int64_t>(itemsize(out_.dtype));
      gemm_kernels<T>().store(sums, elems_, to, out_.dtype);
    }
  }

 private:
  int64_t weight_stride(size_t d) const {
    const size_t axes = w_.shape.size() - 2;
    return d + axes < 3 ? 0 : w_.strides[d + axes - 2];
  }

  // A line of taps under every line of outputs.
  void add_line(int64_t image, int64_t number, T* sums) const {
    const ConvAxis &pa = phase_[0], &pb = phase_[1], &pc = phase_[2];
    const int64_t cut = number % cuts_, nb = static_cast<int64_t>(pb.taps.size());
    const ConvTap& a = pa.taps[static_cast<size_t>(number / cuts_ / nb)];
    const ConvTap& b = pb.taps[static_cast<size_t>(number / cuts_ % nb)];
    const auto item = static_cast<int64_t>(itemsize(x_.dtype));
    const int64_t taps = static_cast<int64_t>(pc.taps.size());
    const int64_t sign = taps > 1 ? pc.taps[1].weight - pc.taps[0].weight : 1;
    const int64_t place =
        a.weight * weight_stride(0) + b.weight * weight_stride(1) + pc.taps[0].weight * weight_stride(2);
    ConvTaps<T> line;
    line.weights = static_cast<const char*>(w_.data) + place * item;
    line.dtype = x_.dtype;
    line.output_step = pc.stride * channels_;
    line.tap_step = taps > 1 ? (pc.taps[1].offset - pc.taps[0].offset) * channels_ : 0;
    line.weight_step = sign * weight_stride(2);
    line.channels = channels_;
    for (int64_t i = 0; i < pa.outputs; ++i) {
      for (int64_t j = 0; j < pb.outputs; ++j) {
        const int64_t y = i * pa.stride + a.offset, z = j * pb.stride + b.offset;
        if (y < 0 || y >= pa.length || z < 0 || z >= pb.length) continue;
        const int64_t first = ((image * pa.length + y) * pb.length + z) * pc.length + pc.taps[0].offset;
        line.x = static_cast<const char*>(x_.data) + first * channels_ * item;
        line.sums = sums + (i * pb.outputs + j) * pc.outputs * channels_;
        add_outputs(line, cut * kLineTaps, std::min(taps, (cut + 1) * kLineTaps));
      }
    }
  }

  // Taps [begin, end) that have an input under output k.
  void inside(int64_t k, int64_t* begin, int64_t* end) const {
    const ConvAxis& c = phase_[2];
    const auto offset = [&](int64_t t) { return c.taps[static_cast<size_t>(t)].offset + k * c.stride; };
    while (*begin < *end && offset(*begin) < 0) ++*begin;
    while (*begin < *end && offset(*end - 1) >= c.length) --*end;
  }

  // The taps that all outputs have together, and before and after them what each has alone.
  void add_outputs(ConvTaps<T> line, int64_t begin, int64_t end) const {
    const int64_t outputs = phase_[2].outputs;
    int64_t common = begin, common_end = end;
    for (int64_t k : {int64_t{0}, outputs - 1}) inside(k, &common, &common_end);
    const auto add = [&](int64_t first, int64_t count, int64_t from, int64_t to) {
      if (from >= to) return;
      ConvTaps<T> part = line;
      const auto item = static_cast<int64_t>(itemsize(line.dtype));
      part.x = static_cast<const char*>(line.x) + first * line.output_step * item;
      part.sums = line.sums + first * channels_;
      part.outputs = count;
      part.begin = from;
      part.end = to;
      conv_kernels<T>().add_taps(part);
    };
    common_end = std::max(common, common_end);
    for (int64_t k = 0; k < outputs; ++k) {
      int64_t from = begin, to = end;
      inside(k, &from, &to);
      add(k, 1, from, std::min(to, common));
    }
    add(0, outputs, common, common_end);
    for (int64_t k = 0; k < outputs; ++k) {
      int64_t from = begin, to = end;
      inside(k, &from, &to);
      add(k, 1, std::max(from, common_end), to);
    }
  }

  const ConvPhase& phase_;
  const View &x_, &w_, &out_;
  const int64_t channels_, cuts_, lines_, jobs_, elems_;
};

}  // namespace

bool convolve_many_taps(const View& x, const View& weight, const View& out, const ConvolutionParams& p) {
  const int64_t channels = out.shape.back();
  if (out.dtype == Dtype::kComplex64 || p.groups != channels || x.shape.back() != channels) return false;
  if (weight.size() / channels < kManyTaps) return false;
  if (out.size() / out.shape[0] / channels > kFewPositions) return false;
  const auto above_one = [](int64_t d) { return d != 1; };
  if (std::any_of(p.input_dilation.begin(), p.input_dilation.end(), above_one)) return false;
  const std::vector<ConvPhase> phases = conv_phases(x, weight, out, p);
  const ChannelsLast w(weight);
  if (out.dtype == Dtype::kFloat64) {
    TapLines<double>(phases[0], x, w.view, out).run();
  } else {
    TapLines<float>(phases[0], x, w.view, out).run();
  }
  return true;
}

}  // namespace lamina::cpu
