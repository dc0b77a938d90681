#include "backend/cpu/fft_plan.h"

#include <cmath>
#include <complex>
#include <list>
#include <mutex>
#include <numbers>

#include "backend/cpu/fft_lines.h"

namespace lamina::cpu {
namespace {

constexpr int kPrimes[] = {2, 3, 5, 7, 11, 13};
constexpr int64_t kShortestMatrix = 256;
constexpr int64_t kLongestKept = int64_t{1} << 20;
constexpr size_t kKeptPlans = 32;

// exp(-2 pi i k / n) in double precision, from two short tables.
class Circle {
 public:
  explicit Circle(int64_t n) : n_(n), step_(1 + static_cast<int64_t>(std::sqrt(static_cast<double>(n)))) {
    for (int64_t k = 0; k < step_; ++k) fine_.push_back(root(k));
    for (int64_t k = 0; k < n; k += step_) coarse_.push_back(root(k));
  }
  std::complex<double> operator()(int64_t k) const {
    k %= n_;
    // The axes are exact: a constant signal has nothing but its sum.
    constexpr std::complex<double> kAxes[] = {{1, 0}, {0, -1}, {-1, 0}, {0, 1}};
    if (4 * k % n_ == 0) return kAxes[4 * k / n_];
    return coarse_[static_cast<size_t>(k / step_)] * fine_[static_cast<size_t>(k % step_)];
  }

 private:
  std::complex<double> root(int64_t k) const {
    return std::polar(1.0, -2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n_));
  }
  int64_t n_, step_;
  std::vector<std::complex<double>> coarse_, fine_;
};

void append(Planes& p, std::complex<double> x) {
  p.re.push_back(static_cast<float>(x.real()));
  p.im.push_back(static_cast<float>(x.imag()));
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
  for (int64_t j = 0; j < columns; ++j) {
    for (int64_t k = 0; k < rows; ++k) append(p.roots, circle(j * k));
  }
}

void plan_chirp(FftPlan& p) {
  p.kind = FftPlan::Kind::kChirp;
  int64_t length = 1;
  while (length < 2 * p.n - 1) length *= 2;
  if (length / 4 * 3 >= 2 * p.n - 1) length = length / 4 * 3;
  p.inner = fft_plan(length);
  const Circle circle(2 * p.n);
  Planes around;
  around.re.assign(static_cast<size_t>(length), 0.0f);
  around.im = around.re;
  for (int64_t k = 0; k < p.n; ++k) {
    // k^2 modulo 2n without overflow: n stays below 2^31 in any array that fits memory.
    const std::complex<double> c = circle(k * k % (2 * p.n)),
                               scaled = std::conj(c) / static_cast<double>(length);
    append(p.chirp, c);
    for (int64_t at : {k, (length - k) % length}) {
      around.re[static_cast<size_t>(at)] = static_cast<float>(scaled.real());
      around.im[static_cast<size_t>(at)] = static_cast<float>(scaled.imag());
    }
  }
  fft_line(*p.inner, around.re.data(), around.im.data(), FftSpace(*p.inner));
  p.spectrum = std::move(around);
}

std::shared_ptr<const FftPlan> make_plan(int64_t n) {
  auto p = std::make_shared<FftPlan>();
  p->n = n;
  const Circle circle(2 * n);
  for (int64_t k = 0; k <= n; ++k) append(p->half_roots, circle(k));
  if (rough_part(n) != 1) {
    plan_chirp(*p);
  } else if (const int64_t rows = n < kShortestMatrix ? 0 : rows_of_matrix(n); rows > 0) {
    plan_two_passes(*p, rows);
  } else {
    p->stages = make_stages(n);
  }
  return p;
}

std::mutex plans_mutex;
std::list<std::shared_ptr<const FftPlan>>& kept_plans() {
  static auto* plans = new std::list<std::shared_ptr<const FftPlan>>;  // lives as long as the process
  return *plans;
}

}  // namespace

std::shared_ptr<const FftPlan> fft_plan(int64_t n) {
  {
    const std::lock_guard lock(plans_mutex);
    auto& plans = kept_plans();
    for (auto it = plans.begin(); it != plans.end(); ++it) {
      if ((*it)->n != n) continue;
      plans.splice(plans.begin(), plans, it);
      return plans.front();
    }
  }
  std::shared_ptr<const FftPlan> made = make_plan(n);
  if (n > kLongestKept) return made;
  const std::lock_guard lock(plans_mutex);
  kept_plans().push_front(made);
  if (kept_plans().size() > kKeptPlans) kept_plans().pop_back();
  return made;
}

}  // namespace lamina::cpu
