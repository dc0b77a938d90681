#include "bench_support.h"

#include <cstring>

#include "backend/backend.h"

namespace lamina::bench {
namespace {

// The operands of the case that runs, and what is wrong with it. Google Benchmark calls a case several times;
// one case is held at once, so that memory stays small over hundreds of them.
struct Prepared {
  std::string name, complaint;
  Arrays operands;
  int64_t bytes = 0;
};

const Prepared& prepare(const Case& c) {
  static Prepared held;
  if (held.name == c.name) return held;
  held = Prepared();
  held.operands = c.operands();
  eval(held.operands);
  const Array out = c.run(held.operands);
  out.eval();
  for (const Array& a : held.operands) held.bytes += static_cast<int64_t>(a.nbytes());
  held.bytes += static_cast<int64_t>(out.nbytes());
  held.complaint = c.check(held.operands, out);
  held.name = c.name;
  return held;
}

void run_case(benchmark::State& state, const Case& c) {
  try {
    const Prepared& p = prepare(c);
    if (!p.complaint.empty()) return state.SkipWithError(("wrong result: " + p.complaint).c_str());
    for (auto _ : state) {
      const Array out = c.run(p.operands);
      out.eval();
      benchmark::DoNotOptimize(out.node());
    }
    // Not a counter of our own: the CSV reporter stops the program where a skipped case has none.
    state.SetBytesProcessed(state.iterations() * p.bytes);
  } catch (const Error& e) { state.SkipWithError(e.what()); }
}

// Evaluates on the reference backend, whatever happens in between.
class OnReference {
 public:
  OnReference() : before_(backend().name) { set_backend("reference"); }
  ~OnReference() { set_backend(before_); }
  OnReference(const OnReference&) = delete;
  OnReference& operator=(const OnReference&) = delete;

 private:
  const char* before_;
};

std::string compare(const Array& got, const Array& want, double tolerance) {
  if (got.dtype() != want.dtype() || got.shape() != want.shape()) {
    return "wanted " + std::string(dtype_name(want.dtype())) + to_string(want.shape()) + ", got " +
           std::string(dtype_name(got.dtype())) + to_string(got.shape());
  }
  // Views of bytes and float64 copies make one comparison serve every dtype.
  const Dtype as = tolerance == 0 ? Dtype::kUInt8 : Dtype::kFloat64;
  auto flat = [&](const Array& a) {
    const Array row = contiguous(flatten(a));
    return tolerance == 0 ? view(row, as) : astype(row, as);
  };
  const Array g = flat(got), w = flat(want);
  eval({g, w});
  if (tolerance == 0) {
    const auto *a = g.data<uint8_t>(), *b = w.data<uint8_t>();
    const uint8_t* off = std::mismatch(a, a + g.size(), b).first;
    if (off == a + g.size()) return "";
    return "element " + std::to_string((off - a) / static_cast<int64_t>(got.itemsize())) +
           " differs from the reference backend's";
  }
  for (int64_t i = 0; i < g.size(); ++i) {
    const double a = g.data<double>()[i], b = w.data<double>()[i];
    if (!(std::abs(a - b) <= tolerance * std::max(1.0, std::abs(b))) && !(std::isnan(a) && std::isnan(b)) &&
        a != b) {
      return "element " + std::to_string(i) + ": wanted " + std::to_string(b) + ", got " + std::to_string(a);
    }
  }
  return "";
}

}  // namespace

void add_case(Case c) {
  const std::string name = c.name;
  benchmark::RegisterBenchmark(name.c_str(),
                               [c = std::move(c)](benchmark::State& state) { run_case(state, c); })
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

std::string size_text(int64_t n) {
  if (n >= 1 << 20 && n % (1 << 20) == 0) return std::to_string(n >> 20) + "M";
  if (n >= 1 << 10 && n % (1 << 10) == 0) return std::to_string(n >> 10) + "K";
  return std::to_string(n);
}

std::vector<int64_t> sample_places(int64_t n) {
  std::vector<int64_t> places;
  const int64_t step = std::max<int64_t>(1, n / 4096) | 1;  // odd: every lane of a vector comes up
  for (int64_t i = 0; i < n; i += step) places.push_back(i);
  if (n > 0 && places.back() != n - 1) places.push_back(n - 1);
  return places;
}

std::function<std::string(const Arrays&, const Array&)> like_reference(
    std::function<Array(const Arrays&)> run, double tolerance) {
  return [run = std::move(run), tolerance](const Arrays& in, const Array& out) {
    Array want;
    {
      const OnReference scope;
      want = run(in);
      want.eval();
    }
    return compare(out, want, tolerance);
  };
}

}  // namespace lamina::bench
