#include "backend/cpu/gather_products.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "backend/cpu/copy.h"
#include "backend/cpu/gemm_scratch.h"
#include "backend/cpu/jobs.h"
#include "backend/reference/gather_index.h"
#include "backend/reference/gather_products.h"
#include "backend/reference/layout.h"

namespace lamina::cpu {
namespace {

// Below this many elements of matrices that are read, handing out work costs more than it gains.
constexpr int64_t kParallelWork = int64_t{1} << 18;

int64_t bytes_of(const View& v) { return static_cast<int64_t>(itemsize(v.dtype)); }

// `count` rows of v's last axis from a place on, `step` elements apart.
View rows_at(const View& v, void* data, int64_t count, int64_t step) {
  View rows = v;
  rows.data = data;
  rows.shape = {count, v.shape.back()};
  rows.strides = {step, v.strides.back()};
  return rows;
}

class GatheredProducts {
 public:
  using Multiply = FunctionRef<void(int64_t, const View&, const View&)>;

  GatheredProducts(const View& x, const View& out, std::vector<int64_t> picks, const Multiply& multiply)
      : x_(x), out_(out), m_(x.shape[x.shape.size() - 2]), picks_(std::move(picks)), multiply_(multiply) {
    const auto n = static_cast<int64_t>(picks_.size());
    x_at_.resize(picks_.size());
    leading_offsets(x, x.shape.size() - 2, 0, n, x_at_.data());
    order_.resize(picks_.size());
    std::iota(order_.begin(), order_.end(), int64_t{0});
    std::stable_sort(order_.begin(), order_.end(), [&](int64_t a, int64_t b) { return pick(a) < pick(b); });
    for (int64_t i = 0; i < n; ++i) {
      if (i == 0 || pick(order_at(i)) != pick(order_at(i - 1))) runs_.push_back({i, i});
      runs_.back().end = i + 1;
    }
    std::stable_sort(runs_.begin(), runs_.end(),
                     [](const Run& a, const Run& b) { return a.end - a.begin > b.end - b.begin; });
  }

  void run() const {
    const int64_t all = static_cast<int64_t>(picks_.size()), runs = static_cast<int64_t>(runs_.size());
    int64_t shared = 0;
    while (shared < runs && 4 * num_threads() * count(shared) > all) multiply_run(runs_[shared++]);
    const int64_t work = (runs - shared) * x_.shape.back() * out_.shape.back();
    run_jobs(runs - shared, work >= kParallelWork, [&](int64_t i) { multiply_run(runs_[shared + i]); });
  }

 private:
  // Problems order[begin, end), which pick the same matrix.
  struct Run {
    int64_t begin, end;
  };

  int64_t order_at(int64_t i) const { return order_[static_cast<size_t>(i)]; }
  int64_t pick(int64_t problem) const { return picks_[static_cast<size_t>(problem)]; }
  int64_t count(int64_t run) const {
    const Run& r = runs_[static_cast<size_t>(run)];
    return r.end - r.begin;
  }
  char* x_of(int64_t problem) const {
    return static_cast<char*>(x_.data) + x_at_[static_cast<size_t>(problem)];
  }
  char* out_of(int64_t problem) const {
    return static_cast<char*>(out_.data) + problem * m_ * out_.shape.back() * bytes_of(out_);
  }

  // The step, in elements, between all rows of a run, or -1 where they have no common one or are not one
  // after the other in the result.
  int64_t common_step(const Run& r) const {
    const int64_t row = x_.strides[x_.strides.size() - 2], first = order_at(r.begin);
    int64_t step = row;
    for (int64_t i = r.begin + 1; i < r.end; ++i) {
      const int64_t bytes = x_of(order_at(i)) - x_of(order_at(i - 1));
      if (order_at(i) != first + i - r.begin || bytes % bytes_of(x_) != 0) return -1;
      const int64_t found = bytes / bytes_of(x_);
      if (m_ == 1 && i == r.begin + 1) step = found;
      if (found != m_ * step) return -1;
    }
    return step;
  }

  void multiply_run(const Run& r) const {
    const int64_t first = order_at(r.begin), rows = (r.end - r.begin) * m_;
    const int64_t width = x_.shape.back(), columns = out_.shape.back();
    if (const int64_t step = common_step(r); step >= 0) {
      return multiply_(pick(first), rows_at(x_, x_of(first), rows, step),
                       rows_at(out_, out_of(first), rows, columns));
    }
    Scratch from(rows * width * bytes_of(x_)), to(rows * columns * bytes_of(out_));
    View x = rows_at(x_, from.as<char>(), rows, width);
    x.strides[1] = 1;
    const View products = rows_at(out_, to.as<char>(), rows, columns);
    const int64_t x_bytes = m_ * width * bytes_of(x_), out_bytes = m_ * columns * bytes_of(out_);
    for (int64_t i = r.begin; i < r.end; ++i) {
      const View part = rows_at(x_, x_of(order_at(i)), m_, x_.strides[x_.strides.size() - 2]);
      View dense = part;
      dense.data = from.as<char>() + (i - r.begin) * x_bytes;
      dense.strides = {width, 1};
      copy(part, dense);
    }
    multiply_(pick(first), x, products);
    for (int64_t i = r.begin; i < r.end; ++i) {
      std::memcpy(out_of(order_at(i)), to.as<char>() + (i - r.begin) * out_bytes,
                  static_cast<size_t>(out_bytes));
    }
  }

  const View &x_, &out_;
  const int64_t m_;
  std::vector<int64_t> picks_, x_at_, order_;
  std::vector<Run> runs_;
  Multiply multiply_;
};

}  // namespace

void gather_products(const char* op, const View& x, int64_t matrices, const View& indices, const View& out,
                     FunctionRef<void(int64_t, const View&, const View&)> multiply) {
  std::vector<int64_t> picks = reference::picked_by(indices, matrices, op);
  if (out.size() == 0) return;
  GatheredProducts(x, out, std::move(picks), multiply).run();
}

}  // namespace lamina::cpu
