#include "backend/cpu/fft.h"

#include <algorithm>
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

// A transform of the whole: the plan's signals are the array's (real ones of even length: half as long,
// neighbours as real and imaginary part).
class Job {
 public:
  Job(FftKind kind, int64_t samples, double scale) : kind_(kind), scale_(static_cast<float>(scale)) {
    halved_ = (kind == FftKind::kRealForward || kind == FftKind::kRealInverse) && samples % 2 == 0;
    plan_ = fft_plan(halved_ ? samples / 2 : samples);
  }
  const FftPlan& plan() const { return *plan_; }

  // A signal without gaps to planes of plan().n numbers, with room for one more.
  void load(const float* in, float* re, float* im) const {
    const int64_t n = plan_->n;
    order(re, im);
    if (kind_ == FftKind::kRealInverse && halved_) {
      return parallel_ranges(n / 2 + 1, kGrain, [&](int64_t begin, int64_t end) {
        fft_split_pairs(in, n, half_roots(), begin, end, re, im);
      });
    }
    if (kind_ == FftKind::kRealInverse) return load_mirrored(in, re, im);
    if (kind_ == FftKind::kRealForward && !halved_) {
      std::copy(in, in + n, re);
      std::fill(im, im + n, 0.0f);
      return;
    }
    parallel_ranges(n, kGrain, [&](int64_t begin, int64_t end) {
      fft_split(in + 2 * begin, end - begin, re + begin, im + begin);
    });
  }

  // And the transform of one back.
  void store(float* re, float* im, float* out) const {
    const int64_t n = plan_->n;
    order(re, im);
    if (kind_ == FftKind::kRealForward && halved_) {
      return parallel_ranges(n / 2 + 1, kGrain, [&](int64_t begin, int64_t end) {
        fft_join_pairs(re, im, n, half_roots(), begin, end, scale_, out);
      });
    }
    if (kind_ == FftKind::kRealInverse && !halved_) {
      for (int64_t j = 0; j < n; ++j) out[j] = re[j] * scale_;
      return;
    }
    parallel_ranges(kind_ == FftKind::kRealForward ? n / 2 + 1 : n, kGrain, [&](int64_t begin, int64_t end) {
      fft_join(re + begin, im + begin, end - begin, scale_, out + 2 * begin);
    });
  }

 private:
  // Inverse transforms are forward ones of real and imaginary parts in each other's place.
  void order(float*& re, float*& im) const {
    if (kind_ == FftKind::kInverse || kind_ == FftKind::kRealInverse) std::swap(re, im);
  }
  FftRoots half_roots() const { return {plan_->half_roots.re.data(), plan_->half_roots.im.data()}; }

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

  FftKind kind_;
  float scale_;
  bool halved_;
  std::shared_ptr<const FftPlan> plan_;
};

// One end of up to kFftLines signals: where they begin, and `length` elements of `size` bytes, `step` bytes
// apart.
struct End {
  char* lines[kFftLines];
  int64_t step, size, length;

  bool dense() const { return step == size || length == 1; }
  int64_t bytes() const { return length * size; }
};

// Lines from `first` on that lie side by side, up to line `count`.
int64_t side_by_side(const End& e, int64_t first, int64_t count) {
  int64_t n = 1;
  while (first + n < count && e.lines[first + n] - e.lines[first + n - 1] == e.size) ++n;
  return n;
}

// Signals with gaps to rows without, and back.
void gather(const End& from, int64_t count, char* rows) {
  for (int64_t t = 0; t < count;) {
    const int64_t n = side_by_side(from, t, count);
    transpose_plane({reinterpret_cast<const uint8_t*>(from.lines[t]),
                     reinterpret_cast<uint8_t*>(rows + t * from.bytes()), from.step, from.bytes(), from.length,
                     n, false},
                    from.size);
    t += n;
  }
}
void scatter(const char* rows, const End& to, int64_t count) {
  for (int64_t t = 0; t < count;) {
    const int64_t n = side_by_side(to, t, count);
    transpose_plane({reinterpret_cast<const uint8_t*>(rows + t * to.bytes()),
                     reinterpret_cast<uint8_t*>(to.lines[t]), to.bytes(), to.step, n, to.length, false},
                    to.size);
    t += n;
  }
}

// What a thread works in.
struct Space {
  Space(const FftPlan& p, int64_t group, int64_t in_bytes, int64_t out_bytes)
      : stages(p),
        step((p.n + 15) / 16 * 16 + 16),
        tile_floats(p.tiled() ? p.tile_rows() * kFftLines : 0),
        planes(2 * (p.tiled() ? group : 1) * step + 2 * tile_floats),
        in_rows(group * in_bytes),
        out_rows(group * out_bytes) {}
  float* re(int64_t line) const { return planes.data() + 2 * tile_floats + 2 * line * step; }
  float* im(int64_t line) const { return re(line) + step; }

  FftSpace stages;
  int64_t step, tile_floats;
  Scratch<float> planes;
  Scratch<char> in_rows, out_rows;
};

void turn_plane(const float* from, int64_t from_step, float* to, int64_t to_step, int64_t rows, int64_t cols) {
  constexpr int64_t kSize = sizeof(float);
  transpose_plane({reinterpret_cast<const uint8_t*>(from), reinterpret_cast<uint8_t*>(to), from_step * kSize,
                   to_step * kSize, rows, cols, false},
                  kSize);
}

// Signals side by side in one tile.
void run_tile(const Job& job, const char* const* in, char* const* out, int64_t count, const Space& s) {
  const int64_t n = job.plan().n;
  const FftRows tile{s.planes.data(), s.planes.data() + s.tile_floats, kFftLines};
  for (int64_t t = 0; t < count; ++t) job.load(reinterpret_cast<const float*>(in[t]), s.re(t), s.im(t));
  if (count < kFftLines) std::fill(tile.re, tile.re + 2 * s.tile_floats, 0.0f);
  turn_plane(s.re(0), 2 * s.step, tile.re, kFftLines, count, n);
  turn_plane(s.im(0), 2 * s.step, tile.im, kFftLines, count, n);
  fft_tile(job.plan(), tile, s.stages);
  turn_plane(tile.re, kFftLines, s.re(0), 2 * s.step, n, count);
  turn_plane(tile.im, kFftLines, s.im(0), 2 * s.step, n, count);
  for (int64_t t = 0; t < count; ++t) job.store(s.re(t), s.im(t), reinterpret_cast<float*>(out[t]));
}

void run_group(const Job& job, const End& in, const End& out, int64_t count, const Space& s) {
  char *from[kFftLines], *to[kFftLines];
  for (int64_t t = 0; t < count; ++t) {
    from[t] = in.dense() ? in.lines[t] : s.in_rows.data() + t * in.bytes();
    to[t] = out.dense() ? out.lines[t] : s.out_rows.data() + t * out.bytes();
  }
  if (!in.dense()) gather(in, count, s.in_rows.data());
  if (job.plan().tiled()) {
    run_tile(job, from, to, count, s);
  } else {
    for (int64_t t = 0; t < count; ++t) {
      job.load(reinterpret_cast<const float*>(from[t]), s.re(0), s.im(0));
      fft_line(job.plan(), s.re(0), s.im(0), s.stages);
      job.store(s.re(0), s.im(0), reinterpret_cast<float*>(to[t]));
    }
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
  const bool dense = in_end.dense() && out_end.dense();
  // With gaps: as many lines at once as a cache line has elements; of short ones more.
  const int64_t group = plan.tiled() ? kFftLines : dense ? 1 : plan.n <= 2048 ? kFftLines : kFftLines / 2;
  const int64_t groups = (lines + group - 1) / group;
  auto run = [&](int64_t begin, int64_t end) {
    const Space space(plan, group, in_end.dense() ? 0 : in_end.bytes(), out_end.dense() ? 0 : out_end.bytes());
    End ins = in_end, outs = out_end;
    for (int64_t g = begin; g < end; ++g) {
      const int64_t count = std::min(group, lines - g * group);
      int64_t line = 0;
      for_each_row(loop, g * group, g * group + count, [&](const auto& at, int64_t n) {
        for (int64_t i = 0; i < n; ++i, ++line) {
          ins.lines[line] = static_cast<char*>(in.data) + at[0] + i * loop.inner_stride(0);
          outs.lines[line] = static_cast<char*>(out.data) + at[1] + i * loop.inner_stride(1);
        }
      });
      run_group(job, ins, outs, count, space);
    }
  };
  // Few long signals are spread over the threads one by one.
  if (!plan.tiled() && groups < num_threads()) return run(0, groups);
  parallel_ranges(groups, std::max<int64_t>(1, kGrain / (plan.n * group)), run);
}

}  // namespace lamina::cpu
