// Times of the heavy kernels, each checked against float64 on sampled outputs before it is timed.
#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/attention.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/qmm.h"
#include "backend/cpu/rope.h"
#include "quant/affine.h"

namespace lamina {
namespace {

constexpr double kEps = 0x1p-24;

std::vector<float> random_values(int64_t n, unsigned seed) {
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = uniform(rng);
  return v;
}

View view_of(void* data, Dtype t, Shape shape) { return {data, t, shape, row_major_strides(shape)}; }

// Stops the benchmark where a sampled output is off by more than `tol`.
bool agrees(benchmark::State& state, double got, double want, double tol) {
  if (std::abs(got - want) <= tol) return true;
  const std::string message = "wrong result: wanted " + std::to_string(want) + ", got " + std::to_string(got);
  state.SkipWithError(message.c_str());
  return false;
}

void count_flops(benchmark::State& state, double flops) {
  state.counters["FLOP/s"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}
void count_bytes(benchmark::State& state, double bytes) {
  state.counters["B/s"] =
      benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

// m, n, k, and whether B is stored as [n, k].
void gemm_f32(benchmark::State& state) {
  const int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const bool turned = state.range(3) != 0;
  std::vector<float> a = random_values(m * k, 1), b = random_values(k * n, 2), c(static_cast<size_t>(m * n));
  cpu::GemmArgs g;
  g.m = m, g.n = n, g.k = k, g.ldc = n, g.c = c.data();
  g.a = {a.data(), Dtype::kFloat32, k, 1};
  g.b = {b.data(), Dtype::kFloat32, turned ? 1 : n, turned ? k : 1};
  cpu::gemm(g);
  for (int64_t i = 0; i < m * n; i += m * n / 97 + 1) {
    double want = 0, norm = 0;
    for (int64_t s = 0; s < k; ++s) {
      const double term = static_cast<double>(a[static_cast<size_t>(i / n * k + s)]) *
                          b[static_cast<size_t>(turned ? i % n * k + s : s * n + i % n)];
      want += term, norm += std::abs(term);
    }
    if (!agrees(state, c[static_cast<size_t>(i)], want,
                kEps * (4 * std::sqrt(static_cast<double>(k)) + 4) * norm))
      return;
  }
  for (auto _ : state) {
    cpu::gemm(g);
    benchmark::ClobberMemory();
  }
  count_flops(state, 2.0 * static_cast<double>(m * n * k));
}
BENCHMARK(gemm_f32)
    ->ArgNames({"m", "n", "k", "turned"})
    ->ArgsProduct({{64}, {64}, {64}, {0, 1}})
    ->ArgsProduct({{1024}, {1024}, {1024}, {0, 1}})
    ->ArgsProduct({{2048}, {2048}, {2048}, {0, 1}})
    ->ArgsProduct({{1, 4, 16, 64}, {4096}, {4096}, {0, 1}})
    ->UseRealTime();

// m, n, k, bits, int8 mode.
void quantized(benchmark::State& state) {
  const int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const int bits = static_cast<int>(state.range(3)), group = 64;
  std::vector<float> w = random_values(n * k, 1), x = random_values(m * k, 2), y(static_cast<size_t>(m * n));
  std::vector<float> scales(static_cast<size_t>(n * k / group)), biases = scales, back(w.size());
  std::vector<uint32_t> packed(static_cast<size_t>(n * affine_row_words(k, bits)));
  const View codes = view_of(packed.data(), Dtype::kUInt32, {n, affine_row_words(k, bits)});
  const View s = view_of(scales.data(), Dtype::kFloat32, {n, k / group});
  const View b = view_of(biases.data(), Dtype::kFloat32, {n, k / group});
  affine_quantize(view_of(w.data(), Dtype::kFloat32, {n, k}), group, bits, codes, s, b);
  affine_dequantize(codes, s, b, group, bits, view_of(back.data(), Dtype::kFloat32, {n, k}));
  cpu::QmmArgs q;
  q.m = m, q.n = n, q.k = k, q.group = group, q.bits = bits;
  q.mode = state.range(4) != 0 ? cpu::QmmMode::kInt8 : cpu::QmmMode::kExact;
  q.x = x.data(), q.x_row_stride = k, q.y = y.data(), q.y_row_stride = n;
  q.packed = packed.data(), q.scales = scales.data(), q.biases = biases.data();
  cpu::quantized_matmul(q);
  for (int64_t i = 0; i < m * n; i += m * n / 97 + 1) {
    double want = 0, norm = 0;
    for (int64_t j = 0; j < k; ++j) {
      const double weight = back[static_cast<size_t>(i % n * k + j)];
      want += weight * x[static_cast<size_t>(i / n * k + j)], norm += std::abs(weight);
    }
    const double step = q.mode == cpu::QmmMode::kInt8 ? 1.0 / 254 : 0;
    if (!agrees(state, y[static_cast<size_t>(i)], want, (step + 64 * kEps) * norm)) return;
  }
  for (auto _ : state) {
    cpu::quantized_matmul(q);
    benchmark::ClobberMemory();
  }
  count_flops(state, 2.0 * static_cast<double>(m * n * k));
  count_bytes(state, static_cast<double>(packed.size() * 4 + scales.size() * 8));
}
BENCHMARK(quantized)
    ->ArgNames({"m", "n", "k", "bits", "int8"})
    ->ArgsProduct({{1, 4, 8, 32, 256}, {4096}, {4096}, {4, 8}, {0, 1}})
    ->UseRealTime();

// heads, key heads, queries, keys, features; causal.
void attend(benchmark::State& state) {
  const int64_t h = state.range(0), kv = state.range(1), l = state.range(2), s = state.range(3),
                d = state.range(4);
  std::vector<float> q = random_values(h * l * d, 1), k = random_values(kv * s * d, 2),
                     v = random_values(kv * s * d, 3);
  std::vector<float> out(q.size());
  cpu::AttentionArgs a;
  a.q = view_of(q.data(), Dtype::kFloat32, {1, h, l, d}),
  a.out = view_of(out.data(), Dtype::kFloat32, {1, h, l, d});
  a.k = view_of(k.data(), Dtype::kFloat32, {1, kv, s, d}),
  a.v = view_of(v.data(), Dtype::kFloat32, {1, kv, s, d});
  a.scale = 1.0f / std::sqrt(static_cast<float>(d)), a.causal = true;
  cpu::attention(a);
  for (int64_t row = 0; row < h * l; row += h * l / 7 + 1) {
    const int64_t head = row / l / (h / kv), seen = row % l + s - l + 1;
    std::vector<double> sums(static_cast<size_t>(d));
    double total = 0;
    for (int64_t j = 0; j < seen; ++j) {
      double score = 0;
      for (int64_t i = 0; i < d; ++i) {
        score += static_cast<double>(q[static_cast<size_t>(row * d + i)]) *
                 k[static_cast<size_t>((head * s + j) * d + i)];
      }
      const double weight = std::exp(score * a.scale);
      total += weight;
      for (int64_t i = 0; i < d; ++i)
        sums[static_cast<size_t>(i)] += weight * v[static_cast<size_t>((head * s + j) * d + i)];
    }
    for (int64_t i = 0; i < d; ++i) {
      const double want = sums[static_cast<size_t>(i)] / total;
      if (!agrees(state, out[static_cast<size_t>(row * d + i)], want, 256 * kEps)) return;
    }
  }
  for (auto _ : state) {
    cpu::attention(a);
    benchmark::ClobberMemory();
  }
  count_bytes(state, static_cast<double>(2 * kv * s * d * 4));
}
BENCHMARK(attend)
    ->ArgNames({"heads", "kv", "L", "S", "D"})
    ->Args({16, 16, 512, 512, 64})
    ->Args({16, 8, 512, 512, 128})
    ->Args({16, 8, 1, 1024, 128})
    ->Args({16, 8, 1, 8192, 128})
    ->UseRealTime();

void rotate(benchmark::State& state) {
  const int64_t t = state.range(0), d = 128;
  std::vector<float> x = random_values(16 * t * d, 1), out(x.size());
  cpu::RopeArgs a;
  a.x = view_of(x.data(), Dtype::kFloat32, {1, 16, t, d}),
  a.out = view_of(out.data(), Dtype::kFloat32, {1, 16, t, d});
  a.dims = d, a.offset = 100;
  cpu::rope(a);
  for (int64_t i = 0; i < d / 2; ++i) {
    const double angle = 100 * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(d));
    const double want =
        x[static_cast<size_t>(i)] * std::cos(angle) - x[static_cast<size_t>(i + d / 2)] * std::sin(angle);
    if (!agrees(state, out[static_cast<size_t>(i)], want, 16 * kEps)) return;
  }
  for (auto _ : state) {
    cpu::rope(a);
    benchmark::ClobberMemory();
  }
  count_bytes(state, static_cast<double>(8 * x.size()));
}
BENCHMARK(rotate)->ArgName("T")->Arg(1)->Arg(512)->UseRealTime();

}  // namespace
}  // namespace lamina
