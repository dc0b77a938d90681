#include "backend/cpu/fft.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "backend/cpu/copy_transpose.h"
#include "backend/cpu/fft_lines.h"
#include "backend/cpu/fft_pack.h"
#include "backend/reference/layout.h"
#include "core/thread_pool.h"

namespace lamina::cpu {
namespace {

constexpr int64_t kGrain = int64_t{1} << 14;  // numbers worth handing to a thread

// body(begin, end) over ranges of [0, n), on other threads where that pays.
template <class Body>
void for_ranges(int64_t n, const Body& body) {
  if (n < 2 * kGrain) return body(0, n);
  parallel_ranges(n, kGrain, body);
}

// A transform of the whole: the plan's signals are the array's (real ones of even length: half as long,
// neighbours as real and imaginary part).
class Job {
 public:
  Job(FftKind kind, int64_t samples, double scale) : kind_(kind), scale_(static_cast<float>(scale)) {
    halved_ = (kind == FftKind::kRealForward || kind == FftKind::kRealInverse) && samples % 2 == 0;
    plan_ = fft_plan(halved_ ? samples / 2 : samples, halved_);
  }
  const FftPlan& plan() const { return *plan_; }

  // The transform of a signal without gaps; the planes are working memory for plan().n + 1 numbers.
  void run(const float* in, float* re, float* im, const FftSpace& space, float* out) const {
    FftPairs pairs;
    pairs.swapped = kind_ == FftKind::kInverse || kind_ == FftKind::kRealInverse;
    pairs.scale = scale_;
    if (plan_->kind == FftPlan::Kind::kTwoPass && plan_->n >= kGrain) {
      const bool real = kind_ == FftKind::kRealForward || kind_ == FftKind::kRealInverse;
      if (real ? halved_ && kind_ == FftKind::kRealForward : true) pairs.in = in;
      if (real ? halved_ && kind_ == FftKind::kRealInverse : true) pairs.out = out;
    }
    if (pairs.in == nullptr) load(in, re, im);
    fft_line(*plan_, re, im, space, pairs);
    if (pairs.out == nullptr) store(re, im, out);
  }

  // A signal without gaps to planes of plan().n numbers, with room for one more.
  void load(const float* in, float* re, float* im) const {
    const int64_t n = plan_->n;
    order(re, im);
    if (kind_ == FftKind::kRealInverse && halved_) {
      return for_ranges(n / 2 + 1, [&](int64_t begin, int64_t end) {
        fft_split_pairs(in, n, pair_roots(), begin, end, re, im);
      });
    }
    if (kind_ == FftKind::kRealInverse) return load_mirrored(in, re, im);
    if (kind_ == FftKind::kRealForward && !halved_) {
      std::copy(in, in + n, re);
      std::fill(im, im + n, 0.0f);
      return;
    }
    for_ranges(n, [&](int64_t begin, int64_t end) {
      fft_split(in + 2 * begin, end - begin, re + begin, im + begin);
    });
  }

  // And the transform of one back.
  void store(float* re, float* im, float* out) const {
    const int64_t n = plan_->n;
    order(re, im);
    if (kind_ == FftKind::kRealForward && halved_) {
      return for_ranges(n / 2 + 1, [&](int64_t begin, int64_t end) {
        fft_join_pairs(re, im, n, pair_roots(), begin, end, scale_, out);
      });
    }
    if (kind_ == FftKind::kRealInverse && !halved_) {
      for (int64_t j = 0; j < n; ++j) out[j] = re[j] * scale_;
      return;
    }
    for_ranges(kind_ == FftKind::kRealForward ? n / 2 + 1 : n, [&](int64_t begin, int64_t end) {
      fft_join(re + begin, im + begin, end - begin, scale_, out + 2 * begin);
    });
  }

  // The same for signals side by side, kFftLines elements in a row of `in` and of `out`. They may be
  // overwritten.
  void load_tile(const float* in, FftRows tile) const {
    const int64_t n = plan_->n, floats = n * kFftLines;
    order(tile.re, tile.im);
    if (kind_ == FftKind::kRealForward && halved_) {
      for (int64_t i = 0; i < floats; i += kFftLines) {
        std::copy_n(in + 2 * i, kFftLines, tile.re + i);
        std::copy_n(in + 2 * i + kFftLines, kFftLines, tile.im + i);
      }
    } else if (kind_ == FftKind::kRealForward) {
      std::copy(in, in + floats, tile.re);
      std::fill(tile.im, tile.im + floats, 0.0f);
    } else if (kind_ == FftKind::kRealInverse && halved_) {
      fft_split_pair_rows(in, n, pair_roots(), tile);
    } else if (kind_ == FftKind::kRealInverse) {
      fft_split(in, (n / 2 + 1) * kFftLines, tile.re, tile.im);
      mirror_rows(tile);
    } else {
      fft_split(in, floats, tile.re, tile.im);
    }
  }
  void store_tile(FftRows tile, float* out) const {
    const int64_t n = plan_->n, floats = n * kFftLines;
    order(tile.re, tile.im);
    if (kind_ == FftKind::kRealForward && halved_) {
      fft_join_pair_rows(tile, n, pair_roots(), scale_, out);
    } else if (kind_ == FftKind::kRealInverse && !halved_) {
      for (int64_t i = 0; i < floats; ++i) out[i] = tile.re[i] * scale_;
    } else if (kind_ == FftKind::kRealInverse) {
      for (int64_t i = 0; i < floats; i += kFftLines) {
        for (int64_t t = i; t < i + kFftLines; ++t) {
          out[i + t] = tile.re[t] * scale_;
          out[i + t + kFftLines] = tile.im[t] * scale_;
        }
      }
    } else {
      fft_join(tile.re, tile.im, kind_ == FftKind::kRealForward ? (n / 2 + 1) * kFftLines : floats, scale_,
               out);
    }
  }

 private:
  // Inverse transforms are forward ones of real and imaginary parts in each other's place.
  void order(float*& re, float*& im) const {
    if (kind_ == FftKind::kInverse || kind_ == FftKind::kRealInverse) std::swap(re, im);
  }
  FftRoots pair_roots() const { return {plan_->pair_roots.re.data(), plan_->pair_roots.im.data()}; }

  // The whole spectrum of a real signal of odd length. Number 0 of such a signal is real.
  void load_mirrored(const float* in, float* re, float* im) const {
    re[0] = in[0];
    im[0] = 0;
    for (int64_t k = 1; 2 * k < plan_->n; ++k) {
      re[k] = re[plan_->n - k] = in[2 * k];
      im[k] = in[2 * k + 1];
      im[plan_->n - k] = -in[2 * k + 1];
    }
  }

  void mirror_rows(const FftRows& tile) const {
    const int64_t n = plan_->n;
    std::fill(tile.im, tile.im + kFftLines, 0.0f);
    for (int64_t k = 1; 2 * k < n; ++k) {
      const int64_t low = k * kFftLines, high = (n - k) * kFftLines;
      for (int64_t t = 0; t < kFftLines; ++t) {
        tile.re[high + t] = tile.re[low + t];
        tile.im[high + t] = -tile.im[low + t];
      }
    }
  }

  FftKind kind_;
  float scale_;
  bool halved_;
  std::shared_ptr<const FftPlan> plan_;
};

// One end of up to kFftLines signals: where they begin, and `length` elements of `size` bytes, `step` bytes
// apart.
struct End {
  std::array<char*, kFftLines> lines;
  int64_t step, size, length;

  char*& line(int64_t t) { return lines[static_cast<size_t>(t)]; }
  char* line(int64_t t) const { return lines[static_cast<size_t>(t)]; }
  bool dense() const { return step == size || length == 1; }
  int64_t bytes() const { return length * size; }
};

// Lines from `first` on that lie `apart` bytes apart, up to line `count`.
int64_t evenly_spaced(const End& e, int64_t first, int64_t count, int64_t apart) {
  int64_t n = 1;
  while (first + n < count && e.line(first + n) - e.line(first + n - 1) == apart) ++n;
  return n;
}

void transpose(const char* from, int64_t from_step, char* to, int64_t to_step, int64_t rows, int64_t cols,
               int64_t size) {
  transpose_plane({reinterpret_cast<const uint8_t*>(from), reinterpret_cast<uint8_t*>(to), from_step, to_step,
                   rows, cols, false},
                  size);
}

// Signals with gaps to signals without, and back.
void gather(const End& from, int64_t count, char* to) {
  for (int64_t t = 0, n = 0; t < count; t += n) {
    n = evenly_spaced(from, t, count, from.size);
    transpose(from.line(t), from.step, to + t * from.bytes(), from.bytes(), from.length, n, from.size);
  }
}
void scatter(const char* from, const End& to, int64_t count) {
  for (int64_t t = 0, n = 0; t < count; t += n) {
    n = evenly_spaced(to, t, count, to.size);
    transpose(from + t * to.bytes(), to.bytes(), to.line(t), to.step, n, to.length, to.size);
  }
}

// Signals to rows of kFftLines elements, one of each signal, and back.
void gather_rows(const End& from, int64_t count, char* rows) {
  const int64_t row_bytes = kFftLines * from.size;
  for (int64_t t = 0, n = 0; t < count; t += n) {
    const int64_t apart = from.dense() && t + 1 < count ? from.line(t + 1) - from.line(t) : from.size;
    n = evenly_spaced(from, t, count, apart);
    if (from.dense()) {
      transpose(from.line(t), apart, rows + t * from.size, row_bytes, n, from.length, from.size);
      continue;
    }
    for (int64_t j = 0; j < from.length; ++j) {
      std::memcpy(rows + j * row_bytes + t * from.size, from.line(t) + j * from.step,
                  static_cast<size_t>(n * from.size));
    }
  }
}
void scatter_rows(const char* rows, const End& to, int64_t count) {
  const int64_t row_bytes = kFftLines * to.size;
  for (int64_t t = 0, n = 0; t < count; t += n) {
    const int64_t apart = to.dense() && t + 1 < count ? to.line(t + 1) - to.line(t) : to.size;
    n = evenly_spaced(to, t, count, apart);
    if (to.dense()) {
      transpose(rows + t * to.size, row_bytes, to.line(t), apart, to.length, n, to.size);
      continue;
    }
    for (int64_t j = 0; j < to.length; ++j) {
      std::memcpy(to.line(t) + j * to.step, rows + j * row_bytes + t * to.size,
                  static_cast<size_t>(n * to.size));
    }
  }
}

// What a thread works in: planes of one signal, or a tile; the signals of a group without gaps, or as rows.
struct Space {
  Space(const FftPlan& p, int64_t group, const End& in, const End& out)
      : stages(p),
        plane(p.tiled() ? p.tile_rows() * kFftLines : (p.n + 1 + 15) / 16 * 16),
        planes(2 * plane),
        in_rows(p.tiled() || !in.dense() ? group * in.bytes() : 0),
        out_rows(p.tiled() || !out.dense() ? group * out.bytes() : 0) {}
  float* re() const { return planes.data(); }
  float* im() const { return re() + plane; }

  FftSpace stages;
  int64_t plane;
  Scratch<float> planes;
  Scratch<char> in_rows, out_rows;
};

void run_tile(const Job& job, const End& in, const End& out, int64_t count, const Space& s) {
  const FftRows tile{s.re(), s.im(), kFftLines};
  if (count < kFftLines) std::fill_n(s.in_rows.data(), kFftLines * in.bytes(), 0);
  gather_rows(in, count, s.in_rows.data());
  job.load_tile(reinterpret_cast<const float*>(s.in_rows.data()), tile);
  fft_tile(job.plan(), tile, s.stages);
  job.store_tile(tile, reinterpret_cast<float*>(s.out_rows.data()));
  scatter_rows(s.out_rows.data(), out, count);
}

void run_lines(const Job& job, const End& in, const End& out, int64_t count, const Space& s) {
  if (!in.dense()) gather(in, count, s.in_rows.data());
  for (int64_t t = 0; t < count; ++t) {
    const char* from = in.dense() ? in.line(t) : s.in_rows.data() + t * in.bytes();
    char* to = out.dense() ? out.line(t) : s.out_rows.data() + t * out.bytes();
    job.run(reinterpret_cast<const float*>(from), s.re(), s.im(), s.stages, reinterpret_cast<float*>(to));
  }
  if (!out.dense()) scatter(s.out_rows.data(), out, count);
}

End end_of(const View& v, size_t axis) {
  const auto size = static_cast<int64_t>(itemsize(v.dtype));
  return {{}, v.strides[axis] * size, size, v.shape[axis]};
}

}  // namespace

void fft(FftKind kind, const View& in, const View& out, int64_t axis, double scale) {
  const auto a = static_cast<size_t>(axis);
  const View from = drop_axis(in, axis), to = drop_axis(out, axis);
  const auto loop = collapse_views<2>({&from, &to}, /*keep_order=*/false);
  const int64_t lines = loop.size();
  if (lines == 0 || out.size() == 0) return;
  const Job job(kind, kind == FftKind::kRealForward ? in.shape[a] : out.shape[a], scale);
  const FftPlan& plan = job.plan();
  const End in_end = end_of(in, a), out_end = end_of(out, a);
  // With gaps: as many lines at once as a cache line has elements; of short ones more.
  const bool dense = in_end.dense() && out_end.dense();
  const int64_t few = plan.n <= 2048 ? kFftLines : kFftLines / 2;
  const int64_t group = plan.tiled() ? kFftLines
                        : dense      ? std::clamp<int64_t>(lines / (4 * num_threads()), 1, few)
                                     : few;
  const int64_t groups = (lines + group - 1) / group;
  auto run = [&](int64_t begin, int64_t end) {
    const Space space(plan, group, in_end, out_end);
    End ins = in_end, outs = out_end;
    ins.lines.fill(nullptr);
    outs.lines.fill(nullptr);
    for (int64_t g = begin; g < end; ++g) {
      const int64_t count = std::min(group, lines - g * group);
      int64_t line = 0;
      for_each_row(loop, g * group, g * group + count, [&](const auto& at, int64_t n) {
        for (int64_t i = 0; i < n; ++i, ++line) {
          ins.line(line) = static_cast<char*>(in.data) + at[0] + i * loop.inner_stride(0);
          outs.line(line) = static_cast<char*>(out.data) + at[1] + i * loop.inner_stride(1);
        }
      });
      plan.tiled() ? run_tile(job, ins, outs, count, space) : run_lines(job, ins, outs, count, space);
    }
  };
  // Few long signals are spread over the threads one by one.
  if (!plan.tiled() && groups < num_threads()) return run(0, groups);
  parallel_ranges(groups, 1 + kGrain / (plan.n * group), run);
}

}  // namespace lamina::cpu
