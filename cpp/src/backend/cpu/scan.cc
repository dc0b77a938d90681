#include "backend/cpu/scan.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "backend/cpu/copy_stream.h"
#include "backend/cpu/scan_kernel.h"
#include "backend/reference/layout.h"
#include "backend/reference/layout_dtype.h"
#include "backend/reference/scan.h"
#include "backend/reference/scan_ops.h"
#include "core/thread_pool.h"

namespace lamina::cpu {
namespace {

constexpr int64_t kBlock =
    16384;  // elements of a line that are scanned on their own before what came before is joined
constexpr int64_t kGrain = 16384;  // elements worth a thread

template <class T>
struct Slot {
  alignas(64) T carry{};
  std::atomic<bool> ready{false};
};

// Waits for a block that another thread is working on: blocks are handed out in order, so it will end.
void wait_for(const std::atomic<bool>& ready) {
  for (int spins = 0; !ready.load(std::memory_order_acquire); ++spins) {
    if (spins > 256) sched_yield();
  }
}

// One contiguous line. Piece b of the line in scan order covers elements [b * kBlock, ...) from its
// beginning.
template <ScanKind kKind, class T>
class LineScan {
 public:
  using Op = ScanOp<kKind, T>;

  LineScan(const T* in, T* out, int64_t n, bool reverse, bool stream, ScanPieceFn fn)
      : in_(in),
        out_(out),
        n_(n),
        blocks_((n + kBlock - 1) / kBlock),
        reverse_(reverse),
        stream_(stream),
        fn_(fn) {}

  void run_serial() const {
    T carry{}, total{};
    for (int64_t b = 0; b < blocks_; ++b) {
      piece(b, true, b > 0 ? &carry : nullptr, &total);
      carry = b > 0 ? Op::join(carry, total) : total;
    }
  }

  // Each thread first joins its block, hands the sum so far on, then scans the block, which is in its cache
  // by then.
  void run_parallel() const {
    std::vector<Slot<T>> slots(static_cast<size_t>(blocks_));
    parallel_for(blocks_, [&](int64_t b) {
      Slot<T>& mine = slots[static_cast<size_t>(b)];
      T total{};
      if (b + 1 < blocks_) piece(b, false, nullptr, &total);
      const T* before = nullptr;
      if (b > 0) {
        Slot<T>& last = slots[static_cast<size_t>(b - 1)];
        wait_for(last.ready);
        before = &last.carry;
      }
      mine.carry = before ? Op::join(*before, total) : total;
      mine.ready.store(true, std::memory_order_release);
      piece(b, true, before, nullptr);
      if (stream_) stream_fence();
    });
  }

 private:
  void piece(int64_t b, bool store, const T* carry, T* total) const {
    const int64_t n = std::min(kBlock, n_ - b * kBlock), at = reverse_ ? n_ - b * kBlock - n : b * kBlock;
    fn_({in_ + at, store ? out_ + at : nullptr, n, carry, total, stream_});
  }

  const T* in_;
  T* out_;
  int64_t n_, blocks_;
  bool reverse_, stream_;
  ScanPieceFn fn_;
};

// What a scan walks: lines along the axis, steps in bytes. Operand 0 is `out`.
struct Job {
  char* out;
  const char* in;
  CollapsedLoop<2> lines;
  int64_t out_step, in_step, length;
  bool reverse, inclusive;

  bool contiguous(int64_t item) const { return out_step == item && in_step == item; }
  bool columns(int64_t item) const {
    return lines.inner_stride(0) == item && lines.inner_stride(1) == item && lines.inner_length() >= 8;
  }
};

template <ScanKind kKind, class T>
void scan_contiguous(const Job& job, ScanPieceFn fn) {
  const int64_t total = job.lines.size();
  const bool stream = worth_streaming(total * job.length * static_cast<int64_t>(sizeof(T)));
  auto line = [&](const char* in, char* out) {
    return LineScan<kKind, T>(reinterpret_cast<const T*>(in), reinterpret_cast<T*>(out), job.length,
                              job.reverse, stream, fn);
  };
  auto for_lines = [&](int64_t begin, int64_t end, auto&& body) {
    for_each_row(job.lines, begin, end, [&](const auto& at, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        body(line(job.in + at[1] + i * job.lines.inner_stride(1),
                  job.out + at[0] + i * job.lines.inner_stride(0)));
      }
    });
  };
  if (total < num_threads() && job.length >= 4 * kBlock) {
    return for_lines(0, total, [](const auto& l) { l.run_parallel(); });
  }
  parallel_ranges(total, std::max<int64_t>(1, kGrain / job.length), [&](int64_t begin, int64_t end) {
    for_lines(begin, end, [](const auto& l) { l.run_serial(); });
    if (stream) stream_fence();
  });
}

// `columns` lines side by side, one row after the other.
template <ScanKind kKind, class T>
void scan_columns(const Job& job, const char* in, char* out, int64_t columns) {
  using Op = ScanOp<kKind, T>;
  constexpr int64_t kWidth = 1024;
  typename Op::Sum sums[kWidth];
  for (int64_t c = 0; c < columns; c += kWidth) {
    const int64_t n = std::min(kWidth, columns - c);
    std::fill(sums, sums + n, Op::identity());
    for (int64_t r = 0; r < job.length; ++r) {
      const int64_t row = job.reverse ? job.length - 1 - r : r;
      const T* from = reinterpret_cast<const T*>(in + row * job.in_step) + c;
      T* to = reinterpret_cast<T*>(out + row * job.out_step) + c;
      if (job.inclusive) {
        for (int64_t i = 0; i < n; ++i) {
          sums[i] = Op::join(sums[i], widen(from[i]));
          to[i] = static_cast<T>(sums[i]);
        }
      } else {
        for (int64_t i = 0; i < n; ++i) {
          const auto before = sums[i];
          sums[i] = Op::join(before, widen(from[i]));
          to[i] = static_cast<T>(before);
        }
      }
    }
  }
}

template <ScanKind kKind, class T>
void scan_strided(const Job& job, const char* in, char* out) {
  using Op = ScanOp<kKind, T>;
  auto sum = Op::identity();
  for (int64_t r = 0; r < job.length; ++r) {
    const int64_t i = job.reverse ? job.length - 1 - r : r;
    const auto before = sum;
    sum = Op::join(sum, widen(*reinterpret_cast<const T*>(in + i * job.in_step)));
    *reinterpret_cast<T*>(out + i * job.out_step) = static_cast<T>(job.inclusive ? sum : before);
  }
}

template <ScanKind kKind, class T>
void scan_lines(const Job& job) {
  constexpr auto kItem = static_cast<int64_t>(sizeof(T));
  const bool columns = job.columns(kItem);
  parallel_ranges(job.lines.size(), std::max<int64_t>(1, kGrain / job.length),
                  [&](int64_t begin, int64_t end) {
                    for_each_row(job.lines, begin, end, [&](const auto& at, int64_t n) {
                      if (columns) return scan_columns<kKind, T>(job, job.in + at[1], job.out + at[0], n);
                      for (int64_t i = 0; i < n; ++i) {
                        scan_strided<kKind, T>(job, job.in + at[1] + i * job.lines.inner_stride(1),
                                               job.out + at[0] + i * job.lines.inner_stride(0));
                      }
                    });
                  });
}

template <ScanKind kKind>
void scan_kind(const Job& job, Dtype dtype) {
  visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
    // The types that scan_piece_fn may know.
    if constexpr (std::is_arithmetic_v<T> && sizeof(T) >= 4 && kKind != ScanKind::kLogAddExp) {
      if (job.contiguous(sizeof(T))) {
        const ScanPieceFn fn = scan_piece_fn(kKind, dtype, job.reverse, job.inclusive);
        if (fn != nullptr) return scan_contiguous<kKind, T>(job, fn);
      }
    }
    if constexpr (ScanOp<kKind, T>::kSupported) scan_lines<kKind, T>(job);
  });
}

}  // namespace

void scan(ScanKind kind, const View& in, const View& out, int64_t axis, bool reverse, bool inclusive) {
  const auto a = static_cast<size_t>(axis);
  const auto item = static_cast<int64_t>(itemsize(in.dtype));
  const View from = drop_axis(in, axis), to = drop_axis(out, axis);
  const Job job{static_cast<char*>(out.data),
                static_cast<const char*>(in.data),
                collapse_views<2>({&to, &from}, /*keep_order=*/false),
                out.strides[a] * item,
                in.strides[a] * item,
                in.shape[a],
                reverse,
                inclusive};
  // The reference reports dtypes that have no such scan.
  if (kind == ScanKind::kLogAddExp && !is_inexact(in.dtype))
    return reference::scan(kind, in, out, axis, reverse, inclusive);
  if (job.length == 0 || job.lines.size() == 0) return;
  if (in.dtype == Dtype::kBool && kind == ScanKind::kMin) kind = ScanKind::kProd;
  switch (kind) {
    case ScanKind::kSum: return scan_kind<ScanKind::kSum>(job, in.dtype);
    case ScanKind::kProd: return scan_kind<ScanKind::kProd>(job, in.dtype);
    case ScanKind::kMax: return scan_kind<ScanKind::kMax>(job, in.dtype);
    case ScanKind::kMin: return scan_kind<ScanKind::kMin>(job, in.dtype);
    case ScanKind::kLogAddExp: return scan_kind<ScanKind::kLogAddExp>(job, in.dtype);
  }
}

}  // namespace lamina::cpu
