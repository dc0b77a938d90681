#include "backend/cpu/convolution.h"
#include "backend/cpu/jobs.h"

#include <algorithm>
#include <complex>
#include <cstring>

#include "backend/cpu/convolution_gradient.h"
#include "backend/cpu/convolution_kernel.h"
#include "backend/cpu/convolution_plan.h"
#include "backend/cpu/convolution_product.h"
#include "backend/cpu/convolution_tile.h"
#include "backend/cpu/copy.h"
#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/gemm_scratch.h"
#include "memory/buffer.h"

namespace lamina::cpu {
namespace {

// Below this many multiply-adds a product runs on the calling thread.
constexpr int64_t kParallelWork = int64_t{1} << 19;
// Up to so many outputs of a group, its weights are the short side of the product.
constexpr int64_t kFewOutputs = 16;
// Positions of a job in that case.
constexpr int64_t kFewOutputsBlock = 1024;
// Windows are read where they lie rather than packed where so many of their elements lie together, and where
// no tap has fewer channels than this.
constexpr int64_t kDirectRun = 16, kDirectChannels = 3;

const char* element_at(const View& v, int64_t i) {
  return static_cast<const char*>(v.data) + i * static_cast<int64_t>(itemsize(v.dtype));
}

struct Sizes {
  int64_t images, inputs, outputs, channels, per_group, groups, all_taps;

  Sizes(const View& x, const View& w, const View& out, const ConvolutionParams& p)
      : images(x.shape[0]),
        inputs(x.shape.back()),
        outputs(w.shape[0]),
        channels(w.shape.back()),
        per_group(w.shape[0] / p.groups),
        groups(p.groups),
        all_taps(1) {
    for (size_t i = 1; i + 1 < out.shape.size(); ++i) all_taps *= w.shape[i];
  }
};

// Index of each tap of a phase in the weight, in the order of the sums.
std::vector<int64_t> weight_taps(const ConvPhase& phase, const View& w) {
  const size_t axes = w.shape.size() - 2;
  const auto length = [&](size_t d) { return d + axes < 3 ? 1 : w.shape[d + axes - 2]; };
  std::vector<int64_t> out;
  out.reserve(static_cast<size_t>(taps_of(phase)));
  for (const ConvTap& a : phase[0].taps) {
    for (const ConvTap& b : phase[1].taps) {
      for (const ConvTap& c : phase[2].taps)
        out.push_back((a.weight * length(1) + b.weight) * length(2) + c.weight);
    }
  }
  return out;
}

// Where each output position of a phase begins, in elements from out's first; empty where they follow one
// another.
std::vector<int64_t> output_rows(const ConvPhase& phase, const View& out, int64_t images) {
  const size_t axes = out.shape.size() - 2;
  const auto length = [&](size_t d) { return d + axes < 3 ? 1 : out.shape[d + axes - 2]; };
  bool whole = true;
  for (const ConvAxis& axis : phase) whole &= axis.step == 1 || axis.outputs == 1;
  for (size_t d = 0; d < 3; ++d) whole &= phase[d].outputs == length(d);
  std::vector<int64_t> rows;
  if (whole) return rows;
  rows.reserve(static_cast<size_t>(images * positions_of(phase)));
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t i = 0; i < phase[0].outputs; ++i) {
      for (int64_t j = 0; j < phase[1].outputs; ++j) {
        const int64_t a = phase[0].first + i * phase[0].step, b = phase[1].first + j * phase[1].step;
        const int64_t line = ((n * length(0) + a) * length(1) + b) * length(2) + phase[2].first;
        for (int64_t k = 0; k < phase[2].outputs; ++k) {
          rows.push_back((line + k * phase[2].step) * out.shape.back());
        }
      }
    }
  }
  return rows;
}

// A phase as products of windows and weights, a group at a time.
template <class T>
class PhaseProduct {
 public:
  // With an epilogue there is one phase, and its outputs follow one another.
  PhaseProduct(const ConvPhase& phase, const View& x, const View& w, const View& out, const Sizes& s,
               const Epilogue* epilogue)
      : phase_(phase),
        x_(x),
        w_(w),
        out_(out),
        s_(s),
        epilogue_(epilogue),
        rows_(output_rows(phase, out, s.images)),
        taps_(weight_taps(phase, w)),
        positions_(s.images * positions_of(phase)),
        depth_(static_cast<int64_t>(taps_.size()) * s.channels),
        item_(static_cast<int64_t>(itemsize(x.dtype))),
        zeros_(s.channels * item_),
        gathered_(in_order() ? 0 : s.outputs * depth_ * item_) {
    std::memset(zeros_.as<char>(), 0, static_cast<size_t>(s.channels * item_));
    if (!in_order()) gather_weights();
  }

  void run() {
    const bool by_group = s_.groups >= 2 * num_threads();
    const int64_t after = epilogue_ ? epilogue_->work : 0;
    const bool large = positions_ * (depth_ + after) * s_.per_group >= kParallelWork;
    run_jobs(s_.groups, by_group, [&](int64_t g) {
      if (s_.per_group <= kFewOutputs) {
        multiply_few(g, !by_group && large);
      } else {
        multiply(g, !by_group && large);
      }
    });
  }

 private:
  bool in_order() const {
    if (static_cast<int64_t>(taps_.size()) != s_.all_taps) return false;
    return std::is_sorted(taps_.begin(), taps_.end());
  }

  void gather_weights() {
    char* to = gathered_.template as<char>();
    const auto bytes = static_cast<size_t>(s_.channels * item_);
    for (int64_t o = 0; o < s_.outputs; ++o) {
      for (int64_t tap : taps_) {
        std::memcpy(to, element_at(w_, (o * s_.all_taps + tap) * s_.channels), bytes);
        to += bytes;
      }
    }
  }

  // The weights of a group's first output; the next one's are `depth_` elements on.
  const void* weights(int64_t group) const {
    const char* first = in_order() ? element_at(w_, 0) : gathered_.template as<char>();
    return first + group * s_.per_group * depth_ * item_;
  }
  ConvWindows windows(int64_t group) const {
    return {phase_,      element_at(x_, group * s_.channels), x_.dtype, s_.inputs,
            s_.channels, zeros_.template as<char>()};
  }

  // Windows by rows times weights by columns.
  void multiply(int64_t group, bool parallel) {
    const ConvWindows windows = this->windows(group);
    const bool direct = itemsize(x_.dtype) == sizeof(T) && s_.channels >= kDirectChannels &&
                        windows.run_length() >= kDirectRun;
    GemmArgs g;
    g.m = positions_;
    g.n = s_.per_group;
    g.k = depth_;
    const auto apply = [&](float* tile, int64_t row0, int64_t rows, int64_t col0, int64_t cols, int64_t ld) {
      epilogue_->apply(tile, row0, rows, group * s_.per_group + col0, cols, ld);
    };
    const GemmEpilogue placed(apply);
    if (epilogue_) {
      g.epilogue = &placed;
    } else {
      g.c = static_cast<char*>(out_.data) + group * s_.per_group * item_;
    }
    g.c_dtype = out_.dtype;
    g.ldc = s_.outputs;
    g.c_rows = rows_.empty() ? nullptr : rows_.data();
    const auto pack_b = [&](int64_t k0, int64_t depth, int64_t col0, int64_t cols, T* dst) {
      gemm_kernels<T>().pack_b({weights(group), x_.dtype, 1, depth_}, k0, depth, col0, cols, dst);
    };
    const auto block = [&](int64_t row0, int64_t rows, int64_t k0, int64_t depth, int64_t cols, const T* b,
                           T* tile, int64_t ld) {
      if (direct) return multiply_direct(windows, row0, rows, k0, depth, cols, b, tile, ld);
      const int64_t mr = gemm_kernels<T>().mr;
      const Scratch packed(rows * depth * static_cast<int64_t>(sizeof(T)));
      T* a = packed.template as<T>();
      for (int64_t r = 0; r < rows; r += mr) {
        const int64_t width = std::min(mr, rows - r);
        windows.pack(row0 + r, width, k0, depth, a + r * depth, width);
      }
      gemm_kernels<T>().multiply(rows, cols, depth, a, b, tile, ld, k0 > 0);
    };
    multiply_streamed<T>(g, pack_b, block, parallel);
  }

  // A block of rows times packed weights, the windows' elements read from x.
  static void multiply_direct(const ConvWindows& windows, int64_t row0, int64_t rows, int64_t k0,
                              int64_t depth, int64_t cols, const T* b, T* tile, int64_t ld) {
    const int64_t mr = gemm_kernels<T>().mr, nr = gemm_kernels<T>().nr;
    ConvRun<T> runs[kGemmDepth / kDirectChannels + 2];
    for (int64_t i = 0; i < rows; i += mr) {
      const int64_t height = std::min(mr, rows - i);
      const int64_t count = windows.runs(row0 + i, height, k0, depth, runs);
      for (int64_t j = 0; j < cols; j += nr) {
        conv_kernels<T>().multiply_runs(height, std::min(nr, cols - j), runs, count, b + j * depth,
                                        tile + i * ld + j, ld, k0 > 0);
      }
    }
  }

  // Weights by rows times windows by columns, a block of positions at a time, and the result turned.
  void multiply_few(int64_t group, bool parallel) {
    const ConvWindows windows = this->windows(group);
    const int64_t n = s_.per_group, blocks = (positions_ + kFewOutputsBlock - 1) / kFewOutputsBlock;
    run_jobs(blocks, parallel, [&](int64_t block) {
      const int64_t first = block * kFewOutputsBlock, count = std::min(kFewOutputsBlock, positions_ - first);
      Scratch sums(n * count * static_cast<int64_t>(sizeof(T)));
      few_sums(group, windows, first, count, sums.template as<T>());
      store_turned(group, first, count, sums.template as<T>());
    });
  }

  void few_sums(int64_t group, const ConvWindows& windows, int64_t first, int64_t count, T* sums) {
    const int64_t nr = gemm_kernels<T>().nr;
    GemmArgs g;
    g.m = s_.per_group;
    g.n = count;
    g.k = depth_;
    g.a = {weights(group), x_.dtype, depth_, 1};
    g.c = sums;
    g.c_dtype = sizeof(T) == 8 ? Dtype::kFloat64 : Dtype::kFloat32;
    g.ldc = count;
    const auto pack = [&](int64_t k0, int64_t depth, int64_t col0, int64_t cols, T* dst) {
      for (int64_t c = 0; c < cols; c += nr, dst += nr * depth) {
        const int64_t width = std::min(nr, cols - c);
        if (width < nr) std::fill_n(dst, nr * depth, T(0));
        windows.pack(first + col0 + c, width, k0, depth, dst, nr);
      }
    };
    gemm_with_packed_columns<T>(g, pack, false);
  }

  void store_turned(int64_t group, int64_t first, int64_t count, const T* sums) {
    const GemmKernels<T>& kernels = gemm_kernels<T>();
    const int64_t n = s_.per_group;
    char* out = static_cast<char*>(out_.data) + group * n * item_;
    const bool dense = rows_.empty() && n == s_.outputs;
    if (dense && n == 1) return kernels.store(sums, count, out + first * item_, out_.dtype);
    Scratch turned(n * count * static_cast<int64_t>(sizeof(T)));
    T* rows = turned.template as<T>();
    const void* from[kFewOutputs];
    for (int64_t i = 0; i < n; ++i) from[i] = sums + i * count;
    kernels.pack_scattered(from, sizeof(T) == 8 ? Dtype::kFloat64 : Dtype::kFloat32, n, count, rows, n);
    if (dense) return kernels.store(rows, n * count, out + first * n * item_, out_.dtype);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = rows_.empty() ? (first + i) * s_.outputs : rows_[static_cast<size_t>(first + i)];
      kernels.store(rows + i * n, n, out + at * item_, out_.dtype);
    }
  }

  const ConvPhase& phase_;
  const View &x_, &w_, &out_;
  const Sizes& s_;
  const Epilogue* epilogue_;
  const std::vector<int64_t> rows_, taps_;
  const int64_t positions_, depth_, item_;
  const Scratch zeros_, gathered_;
};

// Small groups of as many inputs as outputs, a single channel included: line by line.
template <class T>
class LineProduct {
 public:
  LineProduct(const ConvPhase& phase, const View& x, const View& w, const View& out, const Sizes& s)
      : phase_(phase),
        x_(x),
        out_(out),
        s_(s),
        taps_(taps_of(phase)),
        weights_(taps_ * s.channels * s.outputs * static_cast<int64_t>(sizeof(T))) {
    T* to = weights_.template as<T>();
    for (int64_t tap : weight_taps(phase, w)) {
      for (int64_t i = tap * s.channels; i < (tap + 1) * s.channels; ++i, to += s.outputs) {
        // A panel of one row is that row: each output's weight of the tap's i-th input.
        const GemmMatrix row{element_at(w, i), w.dtype, 0, s.all_taps * s.channels};
        gemm_kernels<T>().pack_a(row, 0, 1, 0, s.outputs, to);
      }
    }
  }
  // Of several channels a group, sums of one step only.
  static bool takes(const Sizes& s, Dtype dtype) {
    const int64_t n = s.channels;
    if (n == 1) return s.per_group == 1;
    return n == s.per_group && (n == 2 || n == 4 || n == 8) && n <= most_line_group(dtype) &&
           n * s.all_taps <= kGemmDepth;
  }

  void run() {
    const int64_t lines = s_.images * phase_[0].outputs * phase_[1].outputs, outputs = phase_[2].outputs;
    // Long lines are cut, so that a single one keeps all threads busy.
    const int64_t work = taps_ * s_.channels * s_.outputs;
    const int64_t cut = std::max<int64_t>(64, kJobWork / work);
    const int64_t cuts = (outputs + cut - 1) / cut, jobs = lines * cuts;
    const auto run_range = [&](int64_t begin, int64_t end) {
      Scratch memory(2 * taps_ * static_cast<int64_t>(sizeof(LineTap)));
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = i % cuts * cut;
        run_line(i / cuts, first, std::min(outputs, first + cut), memory.as<LineTap>());
      }
    };
    if (lines * outputs * work < kParallelWork) return run_range(0, jobs);
    const int64_t per_job = std::min(cut, outputs) * work;
    parallel_ranges(jobs, std::max<int64_t>(1, kJobWork / per_job), run_range);
  }

 private:
  static constexpr int64_t kJobWork = kParallelWork / 4;

  // Outputs [begin, end) of a line; `memory` holds twice as many taps as there are.
  void run_line(int64_t number, int64_t begin, int64_t end, LineTap* memory) {
    const int64_t b = number % phase_[1].outputs, rest = number / phase_[1].outputs;
    const int64_t a = rest % phase_[0].outputs, image = rest / phase_[0].outputs;
    const size_t axes = out_.shape.size() - 2;
    const auto length = [&](size_t d) { return d + axes < 3 ? 1 : out_.shape[d + axes - 2]; };
    const int64_t row = (image * length(0) + phase_[0].first + a * phase_[0].step) * length(1) +
                        phase_[1].first + b * phase_[1].step;
    ConvLine line;
    line.taps = memory;
    line.work = memory + taps_;
    line.num_taps = find_taps(image, a * phase_[0].stride, b * phase_[1].stride, memory);
    line.channels = s_.outputs;
    line.group = s_.channels;
    line.begin = begin;
    line.end = end;
    line.length = phase_[2].length;
    line.stride = phase_[2].stride;
    line.out = const_cast<char*>(element_at(out_, (row * length(2) + phase_[2].first) * s_.outputs));
    line.out_step = phase_[2].step * s_.outputs;
    line.dtype = out_.dtype;
    const bool dense = s_.outputs == 1 && line.stride == 1 && line.out_step == 1;
    dense ? signal_line(line) : depthwise_line(line);
  }

  // The taps whose lines of inputs lie inside the image, for a window at (i, j).
  int64_t find_taps(int64_t image, int64_t i, int64_t j, LineTap* taps) {
    int64_t count = 0;
    const ConvAxis &a = phase_[0], &b = phase_[1];
    const T* weights = weights_.template as<T>();
    for (const ConvTap& ta : a.taps) {
      const int64_t y = i + ta.offset;
      for (const ConvTap& tb : b.taps) {
        const int64_t z = j + tb.offset;
        const bool inside = y >= 0 && y < a.length && z >= 0 && z < b.length;
        const int64_t line = ((image * a.length + y) * b.length + z) * phase_[2].length;
        for (const ConvTap& tc : phase_[2].taps) {
          if (inside) taps[count++] = {tc.offset, element_at(x_, line * s_.inputs), weights};
          weights += s_.channels * s_.outputs;
        }
      }
    }
    return count;
  }

  const ConvPhase& phase_;
  const View &x_, &out_;
  const Sizes& s_;
  const int64_t taps_;
  const Scratch weights_;
};

// Where every output has one input below it, its own: a plain product, one for each group.
bool is_pointwise(const std::vector<ConvPhase>& phases, const Sizes& s) {
  if (phases.size() != 1 || s.all_taps != 1) return false;
  for (const ConvAxis& axis : phases[0]) {
    if (axis.stride != 1 || axis.step != 1 || axis.taps[0].offset != 0 || axis.length != axis.outputs)
      return false;
  }
  return true;
}

void pointwise(const View& x, const View& w, const View& out, const Sizes& s, const Epilogue* epilogue) {
  std::vector<int64_t> a, b, c;
  for (int64_t i = 0; i < s.groups; ++i) {
    a.push_back(i * s.channels);
    b.push_back(i * s.per_group * s.channels);
    c.push_back(i * s.per_group);
  }
  GemmArgs g;
  g.m = out.size() / s.outputs;
  g.n = s.per_group;
  g.k = s.channels;
  g.a = {x.data, x.dtype, s.inputs, 1};
  g.b = {w.data, w.dtype, 1, s.channels};
  g.c = out.data;
  g.c_dtype = out.dtype;
  g.ldc = s.outputs;
  g.batch = s.groups;
  g.a_offsets = a.data();
  g.b_offsets = b.data();
  g.batch_invariant = true;  // one order of summation, in whatever layout and batch
  // Groups are problems of the product: their rows are the same, and their columns are neighbours.
  const auto apply = [&](float* tile, int64_t row0, int64_t rows, int64_t col0, int64_t cols, int64_t ld) {
    epilogue->apply(tile, row0 % g.m, rows, row0 / g.m * s.per_group + col0, cols, ld);
  };
  const GemmEpilogue placed(apply);
  if (epilogue) {
    g.epilogue = &placed;
    g.epilogue_work = epilogue->work;
  } else {
    g.c_offsets = c.data();
  }
  gemm(g);
}

// Fills memory for the whole result, zeros at first, and gives it to the epilogue.
template <class Fill>
void apply_to_whole(const View& out, const Epilogue& epilogue, const Fill& fill_sums) {
  const int64_t n = out.shape.back(), rows = out.size() / n;
  const BufferRef memory = allocate(static_cast<size_t>(out.size()) * sizeof(float));
  View sums = out;
  sums.data = memory->data();
  std::memset(sums.data, 0, static_cast<size_t>(out.size()) * sizeof(float));
  fill_sums(sums);
  parallel_ranges(rows, std::max<int64_t>(1, kParallelWork / (n * std::max<int64_t>(1, epilogue.work))),
                  [&](int64_t begin, int64_t end) {
                    epilogue.apply(sums.as<float>() + begin * n, begin, end - begin, 0, n, n);
                  });
}

template <class T>
void convolve(const View& x, const View& w, const View& out, const ConvolutionParams& p,
              const Epilogue* epilogue) {
  const Sizes s(x, w, out, p);
  const std::vector<ConvPhase> phases = conv_phases(x, w, out, p);
  const bool by_lines = LineProduct<T>::takes(s, out.dtype);
  if (!by_lines && (s.per_group <= kFewOutputs || s.channels < kDirectRun) && is_pointwise(phases, s))
    return pointwise(x, w, out, s, epilogue);
  int64_t covered = 0;
  for (const ConvPhase& phase : phases) covered += s.images * positions_of(phase) * s.outputs;
  const bool whole = covered == out.size();
  if (epilogue && (by_lines || !whole || phases.size() > 1 || s.per_group <= kFewOutputs)) {
    return apply_to_whole(out, *epilogue, [&](const View& sums) { convolve<T>(x, w, sums, p, nullptr); });
  }
  if (!whole) std::memset(out.data, 0, static_cast<size_t>(out.size()) * itemsize(out.dtype));
  for (const ConvPhase& phase : phases) {
    if (by_lines) {
      LineProduct<T>(phase, x, w, out, s).run();
    } else {
      PhaseProduct<T>(phase, x, w, out, s, epilogue).run();
    }
  }
}

// Four float32 convolutions of the real and the imaginary parts.
void convolve_complex(const View& x, const View& w, const View& out, const ConvolutionParams& p) {
  const auto split = [](const View& v, float* real, float* imag) {
    for (int64_t i = 0; i < v.size(); ++i) {
      const auto z = v.as<std::complex<float>>()[i];
      real[i] = z.real();
      imag[i] = z.imag();
    }
  };
  const auto plane = [](const View& v, float* data) {
    View part = v;
    part.dtype = Dtype::kFloat32;
    part.data = data;
    return part;
  };
  const int64_t nx = x.size(), nw = w.size(), n = out.size();
  const BufferRef memory = allocate(static_cast<size_t>(2 * nx + 2 * nw + 4 * n) * sizeof(float));
  float *xr = static_cast<float*>(memory->data()), *xi = xr + nx, *wr = xi + nx, *wi = wr + nw,
        *sums = wi + nw;
  split(x, xr, xi);
  split(w, wr, wi);
  const float* const planes[4][2] = {{xr, wr}, {xi, wi}, {xr, wi}, {xi, wr}};
  for (int64_t i = 0; i < 4; ++i) {
    const View a = plane(x, const_cast<float*>(planes[i][0])), b = plane(w, const_cast<float*>(planes[i][1]));
    const View c = plane(out, sums + i * n);
    if (!convolve_many_taps(a, b, c, p)) convolve<float>(a, b, c, p, nullptr);
  }
  for (int64_t i = 0; i < n; ++i) {
    out.as<std::complex<float>>()[i] = {sums[i] - sums[n + i], sums[2 * n + i] + sums[3 * n + i]};
  }
}

// A view, or a row-contiguous copy of it.
struct DenseView {
  explicit DenseView(const View& v) : view(v) {
    if (v.row_contiguous()) return;
    memory = allocate(static_cast<size_t>(v.size()) * itemsize(v.dtype));
    view.data = memory->data();
    view.strides = row_major_strides(v.shape);
    copy(v, view);
  }
  View view;
  BufferRef memory;
};

}  // namespace

void convolution(const View& x, const View& weight, const View& out, const ConvolutionParams& p,
                 const Epilogue* epilogue) {
  if (out.size() == 0) return;
  if (x.size() == 0 || weight.size() == 0) {
    if (epilogue) return apply_to_whole(out, *epilogue, [](const View&) {});
    std::memset(out.data, 0, static_cast<size_t>(out.size()) * itemsize(out.dtype));
    return;
  }
  // Where the kernels for turned operands and for many taps may run, which give no tiles.
  if (epilogue && (!x.row_contiguous() || p.groups == out.shape.back())) {
    return apply_to_whole(out, *epilogue, [&](const View& sums) { convolution(x, weight, sums, p); });
  }
  if (convolve_turned(x, weight, out, p)) return;
  const DenseView dense_x(x);
  if (convolve_many_taps(dense_x.view, weight, out, p)) return;
  const DenseView dense_weight(weight);
  switch (out.dtype) {
    case Dtype::kFloat64: return convolve<double>(dense_x.view, dense_weight.view, out, p, nullptr);
    case Dtype::kComplex64: return convolve_complex(dense_x.view, dense_weight.view, out, p);
    default: return convolve<float>(dense_x.view, dense_weight.view, out, p, epilogue);
  }
}

}  // namespace lamina::cpu
