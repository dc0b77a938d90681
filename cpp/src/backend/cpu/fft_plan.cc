#include "backend/cpu/fft_plan.h"

#include <cmath>
#include <complex>
#include <list>
#include <mutex>
#include <numbers>

#include "backend/cpu/fft.h"

namespace lamina::cpu {
namespace {

constexpr int kRadices[] = {4, 2, 3, 5, 7, 11, 13};
constexpr int64_t kLongestTile = 256;
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
  for (int r : kRadices) {
    while (n % r == 0) n /= r;
  }
  return n;
}

FftStages make_stages(int64_t n) {
  FftStages s;
  s.length = n;
  const Circle circle(n);
  int64_t left = n;
  for (int r : kRadices) {
    while (left % r == 0) {
      s.radices.push_back(r);
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
  }
  return s;
}

// The largest divisor of n up to its root.
int64_t lower_half(int64_t n) {
  auto d = static_cast<int64_t>(std::sqrt(static_cast<double>(n)));
  while (n % d != 0) --d;
  return d;
}

void plan_two_passes(FftPlan& p, int64_t rows) {
  p.kind = FftPlan::Kind::kTwoPass;
  const int64_t columns = p.n / rows;
  p.stages = make_stages(rows);
  p.second_stages = make_stages(columns);
  const Circle circle(p.n);
  for (int64_t k = 0; k < rows; ++k) {
    for (int64_t j = 0; j < columns; ++j) append(p.roots, circle(j * k));
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
  fft_line(*p.inner, around.re.data(), around.im.data());
  p.spectrum = std::move(around);
}

std::shared_ptr<const FftPlan> make_plan(int64_t n) {
  auto p = std::make_shared<FftPlan>();
  p->n = n;
  const Circle circle(2 * n);
  for (int64_t k = 0; k <= n; ++k) append(p->half_roots, circle(k));
  if (rough_part(n) != 1) {
    plan_chirp(*p);
  } else if (n > kLongestTile) {
    plan_two_passes(*p, lower_half(n));
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
