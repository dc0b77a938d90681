#include "backend/reference/reduce.h"

#include <algorithm>
#include <bit>

#include "backend/reference/layout.h"
#include "backend/reference/layout_scratch.h"
#include "backend/reference/reduce_ops.h"
#include "core/thread_pool.h"

namespace lamina::reference {
namespace {

constexpr int64_t kBlock = 128;          // elements joined one after the other; blocks join pairwise
constexpr int64_t kDenseColumns = 1024;  // outputs worked on at a time where they lie side by side in `in`
constexpr int64_t kSparseColumns = 16;   // and elsewhere
constexpr int64_t kGrain = 32768;        // elements worth a thread
constexpr int64_t kNarrow = 1024;        // bytes of a row up to which sums stay in registers over many rows
constexpr int64_t kShort = 16;           // elements of an output up to which it is worked on where it lies

// The loops of a reduction: outputs (operand 0 is `in`, 1 is `out`), and the elements that make one output.
struct Plan {
  const char* in;
  char* out;
  CollapsedLoop<2> kept;
  CollapsedLoop<1> reduced;
  TileFn join;
  JoinRowsFn rows;

  int64_t blocks() const { return (reduced.size() + kBlock - 1) / kBlock; }
};

Plan make_plan(const View& in, const View& out, const Axes& axes, TileFn join, JoinRowsFn rows) {
  Plan plan;
  plan.join = join;
  plan.rows = rows;
  plan.in = static_cast<const char*>(in.data);
  plan.out = static_cast<char*>(out.data);
  View from = in, to = out, line = in;
  from.shape = to.shape = line.shape = Shape{};
  from.strides = to.strides = line.strides = Strides{};
  const bool keeps_axes = out.shape.size() == in.shape.size();
  size_t at_out = 0;
  for (size_t d = 0; d < in.shape.size(); ++d) {
    const bool reduced = std::find(axes.begin(), axes.end(), static_cast<int64_t>(d)) != axes.end();
    View& side = reduced ? line : from;
    side.shape.push_back(in.shape[d]);
    side.strides.push_back(in.strides[d]);
    if (!reduced) {
      to.shape.push_back(in.shape[d]);
      to.strides.push_back(out.strides[at_out]);
    }
    at_out += !reduced || keeps_axes;
  }
  plan.kept = collapse_views<2>({&from, &to}, /*keep_order=*/false);
  plan.reduced = collapse_views<1>({&line});
  return plan;
}

// Partial results of equal-sized spans that join like a binary counter: 2^k neighbours make one. Joining
// spans of 2^m blocks this way gives the very bits that joining their blocks one by one would.
template <class Op>
class PairwiseStack {
 public:
  using Sum = typename Op::Sum;
  PairwiseStack(int64_t width, int64_t spans)
      : width_(width), sums_(width * (std::bit_width(static_cast<uint64_t>(spans)) + 1)) {}

  // Where the next span's results go before push().
  Sum* top() const { return sums_.data() + depth_ * width_; }
  void push() {
    ++depth_;
    ++count_;
    for (int64_t n = count_; n % 2 == 0; n /= 2) join_top();
  }
  // The joined results. Needs at least one push().
  const Sum* finish() {
    while (depth_ > 1) join_top();
    return sums_.data();
  }

 private:
  void join_top() {
    Sum* lower = sums_.data() + (depth_ - 2) * width_;
    const Sum* upper = lower + width_;
    for (int64_t c = 0; c < width_; ++c) lower[c] = Op::join(lower[c], upper[c]);
    --depth_;
  }

  int64_t width_;
  Scratch<Sum> sums_;
  int64_t depth_ = 0, count_ = 0;
};

// sums[c] joins element (r, c) of a plane for r = 0, 1, ...
template <class Op>
void join_rows(typename Op::Sum* __restrict sums, const char* in, int64_t row_step, int64_t rows,
               int64_t column_step, int64_t columns, TileFn join, JoinRowsFn many) {
  using T = typename Op::Element;
  auto row = [&](int64_t r) { return reinterpret_cast<const T*>(in + r * row_step); };
  int64_t r = 0;
  if (column_step == static_cast<int64_t>(sizeof(T))) {
    if (many && std::is_same_v<T, typename Op::Sum> && columns * column_step <= kNarrow &&
        row_step <= 4 * kNarrow) {
      return many(in, row_step, static_cast<size_t>(rows), static_cast<size_t>(columns), sums);
    }
    // Not for columns narrower than a cache line: a call for each row costs more than it saves.
    if (join && std::is_same_v<T, typename Op::Sum> && columns * column_step >= 64) {
      for (; r < rows; ++r) {
        const void* operands[] = {sums, row(r)};
        join(operands, sums, static_cast<size_t>(columns));
      }
      return;
    }
    for (; r + 4 <= rows; r += 4) {
      const T *a = row(r), *b = row(r + 1), *c = row(r + 2), *d = row(r + 3);
      for (int64_t i = 0; i < columns; ++i) {
        const auto ab = Op::join(Op::join(sums[i], Op::load(a[i])), Op::load(b[i]));
        sums[i] = Op::join(Op::join(ab, Op::load(c[i])), Op::load(d[i]));
      }
    }
    for (; r < rows; ++r) {
      const T* a = row(r);
      for (int64_t i = 0; i < columns; ++i) sums[i] = Op::join(sums[i], Op::load(a[i]));
    }
    return;
  }
  for (; r < rows; ++r) {
    const char* a = in + r * row_step;
    for (int64_t i = 0; i < columns; ++i) {
      sums[i] = Op::join(sums[i], Op::load(*reinterpret_cast<const T*>(a + i * column_step)));
    }
  }
}

// Joins blocks [first, last) of `columns` neighbouring outputs, whose first element is at `in`.
template <class Op>
void join_blocks(const Plan& plan, const char* in, int64_t columns, int64_t first, int64_t last,
                 PairwiseStack<Op>& stack) {
  const int64_t size = plan.reduced.size(), row_step = plan.reduced.inner_stride(0);
  for (int64_t b = first; b < last; ++b) {
    auto* sums = stack.top();
    std::fill(sums, sums + columns, Op::identity());
    for_each_row(plan.reduced, b * kBlock, std::min(size, (b + 1) * kBlock),
                 [&](const auto& at, int64_t rows) {
                   join_rows<Op>(sums, in + at[0], row_step, rows, plan.kept.inner_stride(0), columns,
                                 plan.join, plan.rows);
                 });
    stack.push();
  }
}

// The same for one output of a reduced loop that is a single line: many blocks side by side, because the next
// sum of one block must wait for the last.
template <class Op>
void join_blocks_of_line(const Plan& plan, const char* in, int64_t first, int64_t last,
                         PairwiseStack<Op>& stack) {
  constexpr int64_t kAbreast = 16;
  const int64_t size = plan.reduced.size(), step = plan.reduced.inner_stride(0);
  typename Op::Sum sums[kAbreast];
  for (int64_t b = first; b < last;) {
    const int64_t whole = std::min({kAbreast, last - b, size / kBlock - b});
    const int64_t blocks = std::max<int64_t>(whole, 1);
    std::fill(sums, sums + blocks, Op::identity());
    join_rows<Op>(sums, in + b * kBlock * step, step, std::min(kBlock, size - b * kBlock), kBlock * step,
                  blocks, nullptr, nullptr);
    for (int64_t i = 0; i < blocks; ++i) {
      *stack.top() = sums[i];
      stack.push();
    }
    b += blocks;
  }
}

template <class Op>
void store_sums(const Plan& plan, Dtype dtype, char* out, const typename Op::Sum* sums, int64_t columns) {
  using Sum = typename Op::Sum;
  const int64_t step = plan.kept.inner_stride(1);
  if constexpr (std::is_same_v<Sum, uint64_t>) {
    visit_itemsize(itemsize(dtype), [&]<class T>(std::type_identity<T>) {
      for (int64_t i = 0; i < columns; ++i) *reinterpret_cast<T*>(out + i * step) = static_cast<T>(sums[i]);
    });
  } else {
    using T = std::conditional_t<std::is_same_v<Sum, uint8_t>, uint8_t, typename Op::Element>;
    for (int64_t i = 0; i < columns; ++i) *reinterpret_cast<T*>(out + i * step) = static_cast<T>(sums[i]);
  }
}

// The grid of tasks: pieces of the kept loop's rows, times spans of 2^m blocks.
struct Grid {
  int64_t width;    // outputs in a piece
  int64_t pieces;   // pieces in a row of the kept loop
  int64_t outputs;  // rows of the kept loop times pieces
  int64_t span;     // blocks in a span
  int64_t spans;
};

Grid make_grid(const Plan& plan, bool dense) {
  Grid g;
  const int64_t columns = plan.kept.inner_length();
  g.width = std::min(columns, dense ? kDenseColumns : kSparseColumns);
  g.pieces = (columns + g.width - 1) / g.width;
  g.outputs = plan.kept.size() / columns * g.pieces;
  // Spans only where there are too few outputs to keep the threads busy.
  const int64_t blocks = plan.blocks(), wanted = 4 * num_threads();
  g.span = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(blocks)));
  auto spans = [&] { return (blocks + g.span - 1) / g.span; };
  while (g.span > 1 && g.outputs * spans() < wanted && g.span * kBlock * g.width > kGrain) g.span /= 2;
  g.spans = spans();
  return g;
}

// Whether outputs are few elements each, side by side, and of the dtype that they are joined in.
template <class Op>
bool is_short(const Plan& plan) {
  using T = typename Op::Element;
  constexpr auto kStep = static_cast<int64_t>(sizeof(T));
  return plan.join && std::is_same_v<T, typename Op::Sum> && plan.reduced.size() <= kShort &&
         plan.kept.inner_stride(0) == kStep && plan.kept.inner_stride(1) == kStep;
}

// Joins the elements of each output in its own memory.
template <class Op>
void reduce_short(const Plan& plan) {
  SmallVec<int64_t, kShort> elements;
  for_each_row(plan.reduced, 0, plan.reduced.size(), [&](const auto& at, int64_t n) {
    for (int64_t i = 0; i < n; ++i) elements.push_back(at[0] + i * plan.reduced.inner_stride(0));
  });
  const int64_t grain = std::max<int64_t>(1, kGrain / plan.reduced.size());
  parallel_ranges(plan.kept.size(), grain, [&](int64_t begin, int64_t end) {
    for_each_row(plan.kept, begin, end, [&](const auto& at, int64_t n) {
      auto* out = reinterpret_cast<typename Op::Sum*>(plan.out + at[1]);
      for (int64_t first = 0; first < n; first += kDenseColumns) {
        const int64_t columns = std::min(kDenseColumns, n - first);
        auto* sums = out + first;
        std::fill(sums, sums + columns, Op::identity());
        for (int64_t element : elements) {
          const void* operands[] = {
              sums, plan.in + at[0] + element + first * static_cast<int64_t>(sizeof(typename Op::Element))};
          plan.join(operands, sums, static_cast<size_t>(columns));
        }
      }
    });
  });
}

template <class Op>
void reduce_typed(const Plan& plan, Dtype out_dtype) {
  using Sum = typename Op::Sum;
  if (is_short<Op>(plan)) return reduce_short<Op>(plan);
  const int64_t columns = plan.kept.inner_length(), blocks = plan.blocks();
  const bool dense = plan.kept.inner_stride(0) == static_cast<int64_t>(sizeof(typename Op::Element));
  const bool line = plan.reduced.shape.size() == 1;
  const Grid g = make_grid(plan, dense);
  const Scratch<Sum> partial(g.spans > 1 ? g.outputs * g.spans * g.width : 0);
  auto piece_of = [&](int64_t output, auto&& body) {
    const int64_t column = output % g.pieces * g.width, n = std::min(g.width, columns - column);
    const Odometer at(plan.kept.shape, plan.kept.strides, output / g.pieces * columns + column);
    body(plan.in + at.offset(0), plan.out + at.offset(1), n);
  };
  const int64_t work = g.width * std::min(g.span * kBlock, plan.reduced.size());
  parallel_ranges(g.outputs * g.spans, std::max<int64_t>(1, kGrain / work), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t span = task % g.spans, first = span * g.span, last = std::min(blocks, first + g.span);
      piece_of(task / g.spans, [&](const char* in, char* out, int64_t n) {
        PairwiseStack<Op> stack(n, last - first);
        line&& n == 1 ? join_blocks_of_line(plan, in, first, last, stack)
                      : join_blocks(plan, in, n, first, last, stack);
        const Sum* sums = stack.finish();
        if (g.spans == 1) return store_sums<Op>(plan, out_dtype, out, sums, n);
        std::copy(sums, sums + n, partial.data() + task * g.width);
      });
    }
  });
  if (g.spans == 1) return;
  for (int64_t output = 0; output < g.outputs; ++output) {
    piece_of(output, [&](const char*, char* out, int64_t n) {
      PairwiseStack<Op> stack(n, g.spans);
      for (int64_t span = 0; span < g.spans; ++span, stack.push()) {
        const Sum* sums = partial.data() + (output * g.spans + span) * g.width;
        std::copy(sums, sums + n, stack.top());
      }
      store_sums<Op>(plan, out_dtype, out, stack.finish(), n);
    });
  }
}

template <class Op>
void fill_identity(const Plan& plan, Dtype out_dtype) {
  for_each_row(plan.kept, 0, plan.kept.size(), [&](const auto& at, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      const typename Op::Sum identity = Op::identity();
      store_sums<Op>(plan, out_dtype, plan.out + at[1] + i * plan.kept.inner_stride(1), &identity, 1);
    }
  });
}

template <ReduceKind kKind>
void reduce_kind(const Plan& plan, Dtype in_dtype, Dtype out_dtype) {
  visit_dtype(in_dtype, [&]<class T>(std::type_identity<T>) {
    using Op = ReduceOp<kKind, T>;
    plan.reduced.size() == 0 ? fill_identity<Op>(plan, out_dtype) : reduce_typed<Op>(plan, out_dtype);
  });
}

}  // namespace

void reduce_general(ReduceKind kind, const View& in, const View& out, const Axes& axes, TileFn join,
                    JoinRowsFn join_rows) {
  const Plan plan = make_plan(in, out, axes, join, join_rows);
  if (plan.kept.size() == 0) return;
  if (in.dtype == Dtype::kBool && kind == ReduceKind::kMax) kind = ReduceKind::kAny;
  if (in.dtype == Dtype::kBool && kind == ReduceKind::kMin) kind = ReduceKind::kAll;
  switch (kind) {
    case ReduceKind::kSum: return reduce_kind<ReduceKind::kSum>(plan, in.dtype, out.dtype);
    case ReduceKind::kProd: return reduce_kind<ReduceKind::kProd>(plan, in.dtype, out.dtype);
    case ReduceKind::kMax: return reduce_kind<ReduceKind::kMax>(plan, in.dtype, out.dtype);
    case ReduceKind::kMin: return reduce_kind<ReduceKind::kMin>(plan, in.dtype, out.dtype);
    case ReduceKind::kAll: return reduce_kind<ReduceKind::kAll>(plan, in.dtype, out.dtype);
    case ReduceKind::kAny: return reduce_kind<ReduceKind::kAny>(plan, in.dtype, out.dtype);
  }
}

}  // namespace lamina::reference
