#include "backend/cpu/fft_plan.h"

#include <cmath>
#include <complex>
#include <iterator>
#include <list>
#include <mutex>
#include <numbers>

#include "backend/cpu/fft_lines.h"
#include "core/thread_pool.h"

namespace lamina::cpu {
namespace {

constexpr int kPrimes[] = {2, 3, 5, 7, 11, 13};
constexpr int64_t kShortestMatrix = 256;
constexpr size_t kKeptPlans = 32;
constexpr size_t kKeptNumbers = size_t{1} << 23;  // roots in all kept plans: 64 MiB

// exp(-2 pi i k / n) for 0 <= k < n in double precision, from two short tables.
class Circle {
 public:
  explicit Circle(int64_t n) : n_(n) {
    while (int64_t{1} << 2 * bits_ < n) ++bits_;
    const int64_t step = int64_t{1} << bits_;
    for (int64_t k = 0; k < step; ++k) fine_.push_back(root(k));
    for (int64_t k = 0; k < n; k += step) coarse_.push_back(root(k));
  }
  std::complex<double> operator()(int64_t k) const {
    // The axes are exact: a constant signal has nothing but its sum.
    if (k == 0) return {1, 0};
    if (4 * k == n_) return {0, -1};
    if (2 * k == n_) return {-1, 0};
    if (4 * k == 3 * n_) return {0, 1};
    const std::complex<double> a = coarse_[static_cast<size_t>(k >> bits_)],
                               b = fine_[static_cast<size_t>(k & ((int64_t{1} << bits_) - 1))];
    return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
  }

 private:
  std::complex<double> root(int64_t k) const {
    return std::polar(1.0, -2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n_));
  }
  int64_t n_;
  int bits_ = 0;
  std::vector<std::complex<double>> coarse_, fine_;
};

Planes planes_of(int64_t n) {
  return {std::vector<float>(static_cast<size_t>(n)), std::vector<float>(static_cast<size_t>(n))};
}
void put(Planes& p, int64_t i, std::complex<double> x) {
  p.re[static_cast<size_t>(i)] = static_cast<float>(x.real());
  p.im[static_cast<size_t>(i)] = static_cast<float>(x.imag());
}

// n without its small factors.
int64_t rough_part(int64_t n) {
  for (int p : kPrimes) {
    while (n % p == 0) n /= p;
  }
  return n;
}

// As few radices as possible with this product, and none of 2 unless n has a single one.
std::vector<int> radices_of(int64_t n) {
  std::vector<int> radices;
  int twos = 0;
  for (; n % 2 == 0; n /= 2) ++twos;
  for (; twos >= 3 && twos != 4; twos -= 3) radices.push_back(8);
  for (; twos >= 2; twos -= 2) radices.push_back(4);
  if (twos == 1) radices.push_back(2);
  for (int p : kPrimes) {
    for (; n % p == 0; n /= p) radices.push_back(p);
  }
  return radices;
}

FftStages make_stages(int64_t n) {
  FftStages s;
  s.length = n;
  s.radices = radices_of(n);
  const Circle circle(n);
  int64_t left = n;
  for (int r : s.radices) {
    const int64_t groups = left / r;
    for (int64_t p = 0; p < groups; ++p) {
      for (int j = 1; j < r; ++j) {
        const std::complex<double> w = circle(p * j * (n / left));
        s.twiddles.push_back(static_cast<float>(w.real()));
        s.twiddles.push_back(static_cast<float>(w.imag()));
      }
    }
    left = groups;
  }
  return s;
}

// The work of transforms along the columns of a matrix, in strips of kFftLines.
double strip_work(int64_t rows, int64_t columns) {
  const int64_t strips = (columns + kFftLines - 1) / kFftLines;
  double steps = 0;
  for (int r : radices_of(rows)) steps += 1 + std::log2(r);
  return static_cast<double>(strips * rows) * steps;
}

// Rows of the matrix for a signal of n samples: those with the least work; 0 where a side would be too short.
int64_t rows_of_matrix(int64_t n) {
  int64_t best = 0;
  double least = 0;
  for (int64_t rows = kFftLines; rows * rows <= n; ++rows) {
    if (n % rows != 0) continue;
    const int64_t columns = n / rows;
    const double work = strip_work(rows, columns) + strip_work(columns, rows);
    if (best == 0 || work <= least) {
      best = rows;
      least = work;
    }
  }
  return best;
}

void plan_two_passes(FftPlan& p, int64_t rows) {
  p.kind = FftPlan::Kind::kTwoPass;
  const int64_t columns = p.n / rows;
  p.stages = make_stages(rows);
  p.second_stages = make_stages(columns);
  const Circle circle(p.n);
  p.roots = planes_of(p.n);
  parallel_ranges(columns, 1 + 4096 / rows, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      for (int64_t k = 0; k < rows; ++k) put(p.roots, j * rows + k, circle(j * k));
    }
  });
}

void plan_chirp(FftPlan& p) {
  p.kind = FftPlan::Kind::kChirp;
  int64_t length = 1;
  while (length < 2 * p.n - 1) length *= 2;
  if (length / 4 * 3 >= 2 * p.n - 1) length = length / 4 * 3;
  p.inner = fft_plan(length);
  const Circle circle(2 * p.n);
  Planes around = planes_of(length);
  p.chirp = planes_of(p.n);
  for (int64_t k = 0; k < p.n; ++k) {
    // k^2 modulo 2n without overflow: n stays below 2^31 in any array that fits memory.
    const std::complex<double> c = circle(k * k % (2 * p.n)),
                               scaled = std::conj(c) / static_cast<double>(length);
    put(p.chirp, k, c);
    put(around, k, scaled);
    put(around, (length - k) % length, scaled);
  }
  fft_line(*p.inner, around.re.data(), around.im.data(), FftSpace(*p.inner));
  p.spectrum = std::move(around);
}

std::shared_ptr<const FftPlan> make_plan(int64_t n, bool pairs) {
  auto p = std::make_shared<FftPlan>();
  p->n = n;
  if (pairs) {
    p->pair_roots = planes_of(n + 1);
    const Circle circle(2 * n);
    parallel_ranges(n + 1, 4096, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) put(p->pair_roots, k, circle(k));
    });
  }
  if (rough_part(n) != 1) {
    plan_chirp(*p);
  } else if (const int64_t rows = n < kShortestMatrix ? 0 : rows_of_matrix(n); rows > 0) {
    plan_two_passes(*p, rows);
  } else {
    p->stages = make_stages(n);
  }
  return p;
}

size_t numbers_in(const FftPlan& p) {
  return p.roots.re.size() + p.chirp.re.size() + p.spectrum.re.size() + p.pair_roots.re.size();
}

std::mutex plans_mutex;
std::list<std::shared_ptr<const FftPlan>>& kept_plans() {
  static auto* plans = new std::list<std::shared_ptr<const FftPlan>>;  // lives as long as the process
  return *plans;
}

void keep(const std::shared_ptr<const FftPlan>& made) {
  const std::lock_guard lock(plans_mutex);
  auto& plans = kept_plans();
  plans.push_front(made);
  // The newest one stays however large it is.
  size_t numbers = numbers_in(*made), count = 1;
  auto it = std::next(plans.begin());
  for (; it != plans.end() && count < kKeptPlans && (numbers += numbers_in(**it)) <= kKeptNumbers; ++it)
    ++count;
  plans.erase(it, plans.end());
}

}  // namespace

std::shared_ptr<const FftPlan> fft_plan(int64_t n, bool pairs) {
  {
    const std::lock_guard lock(plans_mutex);
    auto& plans = kept_plans();
    for (auto it = plans.begin(); it != plans.end(); ++it) {
      if ((*it)->n != n || (*it)->pair_roots.re.empty() == pairs) continue;
      plans.splice(plans.begin(), plans, it);
      return plans.front();
    }
  }
  std::shared_ptr<const FftPlan> made = make_plan(n, pairs);
  keep(made);
  return made;
}

}  // namespace lamina::cpu
