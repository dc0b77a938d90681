#include "backend/cpu/fft.h"

#include <algorithm>
#include <complex>
#include <utility>

#include "backend/cpu/fft_plan.h"
#include "backend/reference/layout.h"
#include "backend/reference/layout_scratch.h"
#include "core/thread_pool.h"

namespace lamina::cpu {
namespace {

using Complex = std::complex<float>;

// Two tiles of `rows` rows: the signals, and the stages' other end.
struct Tile {
  explicit Tile(int64_t rows) : memory(4 * rows * kFftLines) {
    const int64_t n = rows * kFftLines;
    re = memory.data();
    im = re + n;
    other_re = im + n;
    other_im = other_re + n;
  }
  void run(const FftStages& stages) {
    if (!fft_tile_stages(stages, re, im, other_re, other_im)) return;
    std::swap(re, other_re);
    std::swap(im, other_im);
  }
  // The inverse, not divided by the length: real and imaginary parts change places before and after.
  void run_inverse(const FftStages& stages) {
    std::swap(re, im);
    std::swap(other_re, other_im);
    run(stages);
    std::swap(re, im);
    std::swap(other_re, other_im);
  }

  Scratch<float> memory;
  float *re, *im, *other_re, *other_im;
};

int64_t tile_rows(const FftPlan& p) { return p.kind == FftPlan::Kind::kChirp ? p.inner->n : p.n; }

void run_tile(const FftPlan& p, Tile& t) {
  if (p.kind == FftPlan::Kind::kTile) return t.run(p.stages);
  const int64_t m = p.inner->n;
  fft_multiply_rows(t.re, t.im, p.n, p.chirp.re.data(), p.chirp.im.data());
  std::fill(t.re + p.n * kFftLines, t.re + m * kFftLines, 0.0f);
  std::fill(t.im + p.n * kFftLines, t.im + m * kFftLines, 0.0f);
  t.run(p.inner->stages);
  fft_multiply_rows(t.re, t.im, m, p.spectrum.re.data(), p.spectrum.im.data());
  t.run_inverse(p.inner->stages);
  fft_multiply_rows(t.re, t.im, p.n, p.chirp.re.data(), p.chirp.im.data());
}

// Rows of `width` floats between a matrix in memory and a tile; the rest of each row is zero.
void tile_from_rows(const float* from, int64_t step, int64_t rows, int64_t width, float* tile) {
  for (int64_t j = 0; j < rows; ++j, from += step, tile += kFftLines) {
    std::copy(from, from + width, tile);
    std::fill(tile + width, tile + kFftLines, 0.0f);
  }
}
void rows_from_tile(const float* tile, float* to, int64_t step, int64_t rows, int64_t width) {
  for (int64_t j = 0; j < rows; ++j, to += step, tile += kFftLines) std::copy(tile, tile + width, to);
}
// The same for `width` signals that lie `step` apart.
void tile_from_columns(const float* from, int64_t step, int64_t rows, int64_t width, float* tile) {
  for (int64_t j = 0; j < rows; ++j, tile += kFftLines) {
    for (int64_t t = 0; t < width; ++t) tile[t] = from[t * step + j];
    std::fill(tile + width, tile + kFftLines, 0.0f);
  }
}

// n = rows * columns: sample j1 * columns + j2 goes to frequency k1 + rows * k2.
void two_passes(const FftPlan& p, float* re, float* im) {
  const int64_t rows = p.rows(), columns = p.columns();
  const Scratch<float> middle(2 * p.n);
  float *mid_re = middle.data(), *mid_im = mid_re + p.n;
  parallel_ranges((columns + kFftLines - 1) / kFftLines, 1, [&](int64_t begin, int64_t end) {
    Tile t(rows);
    for (int64_t first = begin * kFftLines; first < end * kFftLines; first += kFftLines) {
      const int64_t width = std::min(kFftLines, columns - first);
      tile_from_rows(re + first, columns, rows, width, t.re);
      tile_from_rows(im + first, columns, rows, width, t.im);
      t.run(p.stages);
      rows_from_tile(t.re, mid_re + first, columns, rows, width);
      rows_from_tile(t.im, mid_im + first, columns, rows, width);
      for (int64_t k = 0; k < rows; ++k) {
        const int64_t at = k * columns + first;
        fft_multiply(mid_re + at, mid_im + at, width, p.roots.re.data() + at, p.roots.im.data() + at);
      }
    }
  });
  parallel_ranges((rows + kFftLines - 1) / kFftLines, 1, [&](int64_t begin, int64_t end) {
    Tile t(columns);
    for (int64_t first = begin * kFftLines; first < end * kFftLines; first += kFftLines) {
      const int64_t width = std::min(kFftLines, rows - first);
      tile_from_columns(mid_re + first * columns, columns, columns, width, t.re);
      tile_from_columns(mid_im + first * columns, columns, columns, width, t.im);
      t.run(p.second_stages);
      rows_from_tile(t.re, re + first, rows, columns, width);
      rows_from_tile(t.im, im + first, rows, columns, width);
    }
  });
}

void chirp_line(const FftPlan& p, float* re, float* im) {
  const int64_t m = p.inner->n;
  const Scratch<float> wide(2 * m);
  float *wide_re = wide.data(), *wide_im = wide_re + m;
  fft_multiply(re, im, p.n, p.chirp.re.data(), p.chirp.im.data());
  std::fill(std::copy(re, re + p.n, wide_re), wide_re + m, 0.0f);
  std::fill(std::copy(im, im + p.n, wide_im), wide_im + m, 0.0f);
  fft_line(*p.inner, wide_re, wide_im);
  fft_multiply(wide_re, wide_im, m, p.spectrum.re.data(), p.spectrum.im.data());
  fft_line(*p.inner, wide_im, wide_re);
  std::copy(wide_re, wide_re + p.n, re);
  std::copy(wide_im, wide_im + p.n, im);
  fft_multiply(re, im, p.n, p.chirp.re.data(), p.chirp.im.data());
}

// Up to kFftLines signals and where their transforms go; steps in bytes.
struct Signals {
  const char* in[kFftLines];
  char* out[kFftLines];
  int64_t lines, in_step, out_step;
  float scale;

  template <class T>
  T read(int64_t line, int64_t j) const {
    return *reinterpret_cast<const T*>(in[line] + j * in_step);
  }
  template <class T>
  void write(int64_t line, int64_t j, T x) const {
    *reinterpret_cast<T*>(out[line] + j * out_step) = x * scale;
  }
};

// Working memory: element j of signal t at j * width + t.
struct Work {
  float *re, *im;
  int64_t width;

  void put(int64_t line, int64_t j, Complex x) const {
    re[j * width + line] = x.real();
    im[j * width + line] = x.imag();
  }
  Complex get(int64_t line, int64_t j) const { return {re[j * width + line], im[j * width + line]}; }
};

Complex times(Complex a, Complex b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

// Calls body(line, j) for j < n and every line.
template <class Body>
void for_each_sample(const Signals& s, int64_t n, const Body& body) {
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t t = 0; t < s.lines; ++t) body(t, j);
  }
}

// A transform of the whole: the plan's signals are the array's (real ones of even length: half as long,
// neighbours as real and imaginary part).
class Job {
 public:
  Job(FftKind kind, int64_t samples) : kind_(kind), samples_(samples) {
    const bool real = kind == FftKind::kRealForward || kind == FftKind::kRealInverse;
    halved_ = real && samples % 2 == 0;
    plan_ = fft_plan(halved_ ? samples / 2 : samples);
  }
  const FftPlan& plan() const { return *plan_; }

  // Inverse transforms work on swapped parts; w has them in the order of the array.
  bool swaps() const { return kind_ == FftKind::kInverse || kind_ == FftKind::kRealInverse; }

  void load(const Signals& s, const Work& w) const {
    const int64_t n = plan_->n;
    switch (kind_) {
      case FftKind::kRealForward: return load_real(s, w);
      case FftKind::kRealInverse: return halved_ ? load_half_spectrum(s, w) : load_mirrored(s, w);
      default: for_each_sample(s, n, [&](int64_t t, int64_t j) { w.put(t, j, s.read<Complex>(t, j)); });
    }
  }

  void store(const Signals& s, const Work& w) const {
    const int64_t n = plan_->n;
    switch (kind_) {
      case FftKind::kRealForward:
        if (halved_) return store_joined(s, w);
        return for_each_sample(s, n / 2 + 1, [&](int64_t t, int64_t j) { s.write(t, j, w.get(t, j)); });
      case FftKind::kRealInverse:
        return for_each_sample(s, n, [&](int64_t t, int64_t j) {
          const Complex x = w.get(t, j);
          if (!halved_) return s.write(t, j, x.real());
          s.write(t, 2 * j, x.real());
          s.write(t, 2 * j + 1, x.imag());
        });
      default: for_each_sample(s, n, [&](int64_t t, int64_t j) { s.write(t, j, w.get(t, j)); });
    }
  }

 private:
  void load_real(const Signals& s, const Work& w) const {
    for_each_sample(s, plan_->n, [&](int64_t t, int64_t j) {
      w.put(t, j,
            halved_ ? Complex(s.read<float>(t, 2 * j), s.read<float>(t, 2 * j + 1))
                    : Complex(s.read<float>(t, j), 0.0f));
    });
  }

  // Number k of the spectrum; the parts that a real signal cannot have are left out.
  Complex bin(const Signals& s, int64_t t, int64_t k) const {
    const auto x = s.read<Complex>(t, k);
    return k == 0 || 2 * k == samples_ ? Complex(x.real(), 0.0f) : x;
  }

  void load_mirrored(const Signals& s, const Work& w) const {
    for_each_sample(s, plan_->n / 2 + 1, [&](int64_t t, int64_t k) {
      const Complex x = bin(s, t, k);
      w.put(t, k, x);
      if (k > 0) w.put(t, plan_->n - k, std::conj(x));
    });
  }

  Complex half_root(int64_t k) const {
    return {plan_->half_roots.re[static_cast<size_t>(k)], plan_->half_roots.im[static_cast<size_t>(k)]};
  }

  // The spectrum of x[0] + i x[1], x[2] + i x[3], ... from that of x.
  void load_half_spectrum(const Signals& s, const Work& w) const {
    const int64_t h = plan_->n;
    for_each_sample(s, h, [&](int64_t t, int64_t k) {
      const Complex a = bin(s, t, k), b = std::conj(bin(s, t, h - k));
      const Complex odd = times(std::conj(half_root(k)), a - b);
      w.put(t, k, a + b + Complex(-odd.imag(), odd.real()));
    });
  }

  // And back.
  void store_joined(const Signals& s, const Work& w) const {
    const int64_t h = plan_->n;
    for_each_sample(s, h + 1, [&](int64_t t, int64_t k) {
      const Complex a = w.get(t, k % h), b = std::conj(w.get(t, (h - k) % h));
      const Complex odd = times(half_root(k), a - b);
      s.write(t, k, 0.5f * (a + b + Complex(odd.imag(), -odd.real())));
    });
  }

  FftKind kind_;
  int64_t samples_;
  bool halved_;
  std::shared_ptr<const FftPlan> plan_;
};

void run_group(const Job& job, const Signals& s, Tile& t) {
  const int64_t rows = job.plan().n;
  if (s.lines < kFftLines) {
    std::fill(t.re, t.re + rows * kFftLines, 0.0f);
    std::fill(t.im, t.im + rows * kFftLines, 0.0f);
  }
  job.load(s, {t.re, t.im, kFftLines});
  if (job.swaps()) std::swap(t.re, t.im);
  run_tile(job.plan(), t);
  if (job.swaps()) std::swap(t.re, t.im);
  job.store(s, {t.re, t.im, kFftLines});
}

void run_single(const Job& job, const Signals& s) {
  const int64_t n = job.plan().n;
  const Scratch<float> memory(2 * n);
  const Work w{memory.data(), memory.data() + n, 1};
  job.load(s, w);
  fft_line(job.plan(), job.swaps() ? w.im : w.re, job.swaps() ? w.re : w.im);
  job.store(s, w);
}

}  // namespace

void fft_line(const FftPlan& p, float* re, float* im) {
  if (p.kind == FftPlan::Kind::kTwoPass) return two_passes(p, re, im);
  if (p.kind == FftPlan::Kind::kChirp) return chirp_line(p, re, im);
  Tile t(p.n);
  tile_from_rows(re, 1, p.n, 1, t.re);
  tile_from_rows(im, 1, p.n, 1, t.im);
  t.run(p.stages);
  rows_from_tile(t.re, re, 1, p.n, 1);
  rows_from_tile(t.im, im, 1, p.n, 1);
}

void fft(FftKind kind, const View& in, const View& out, int64_t axis, double scale) {
  const auto a = static_cast<size_t>(axis);
  const View from = drop_axis(in, axis), to = drop_axis(out, axis);
  const auto loop = collapse_views<2>({&from, &to}, /*keep_order=*/false);
  const int64_t lines = loop.size();
  if (lines == 0 || out.size() == 0) return;
  const Job job(kind, kind == FftKind::kRealForward ? in.shape[a] : out.shape[a]);
  auto signals = [&](int64_t first, int64_t count) {
    Signals s{{},
              {},
              count,
              in.strides[a] * static_cast<int64_t>(itemsize(in.dtype)),
              out.strides[a] * static_cast<int64_t>(itemsize(out.dtype)),
              static_cast<float>(scale)};
    int64_t line = 0;
    for_each_row(loop, first, first + count, [&](const auto& at, int64_t n) {
      for (int64_t i = 0; i < n; ++i, ++line) {
        s.in[line] = static_cast<const char*>(in.data) + at[0] + i * loop.inner_stride(0);
        s.out[line] = static_cast<char*>(out.data) + at[1] + i * loop.inner_stride(1);
      }
    });
    return s;
  };
  if (job.plan().tiled()) {
    const int64_t groups = (lines + kFftLines - 1) / kFftLines, samples = tile_rows(job.plan()) * kFftLines;
    parallel_ranges(groups, std::max<int64_t>(1, 16384 / samples), [&](int64_t begin, int64_t end) {
      Tile t(tile_rows(job.plan()));
      for (int64_t g = begin; g < end; ++g) {
        run_group(job, signals(g * kFftLines, std::min(kFftLines, lines - g * kFftLines)), t);
      }
    });
  } else if (lines >= num_threads()) {
    parallel_for(lines, [&](int64_t i) { run_single(job, signals(i, 1)); });
  } else {
    for (int64_t i = 0; i < lines; ++i) run_single(job, signals(i, 1));
  }
}

}  // namespace lamina::cpu
