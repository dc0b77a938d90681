// Times of convolutions, each checked against float64 on sampled outputs first, beside the matrix product of
// the same size: the ratio is what packing the windows costs.
#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/convolution.h"
#include "backend/cpu/gemm.h"

namespace lamina {
namespace {

std::vector<float> random_values(int64_t n, unsigned seed) {
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = uniform(rng);
  return v;
}

View view_of(std::vector<float>& data, Shape shape) {
  return {data.data(), Dtype::kFloat32, shape, row_major_strides(shape)};
}

// Images of one square size with as much padding as keeps it.
struct Layer {
  int64_t images, size, channels, outputs, kernel, stride, groups, spread;

  explicit Layer(const benchmark::State& s)
      : images(s.range(0)),
        size(s.range(1)),
        channels(s.range(2)),
        outputs(s.range(3)),
        kernel(s.range(4)),
        stride(s.range(5)),
        groups(s.range(6)),
        spread(s.range(7)) {}
  int64_t padding() const { return kernel / 2; }
  int64_t out_size() const { return ((size - 1) * spread + 1 + 2 * padding() - kernel) / stride + 1; }
  int64_t depth() const { return kernel * kernel * channels / groups; }
  int64_t rows() const { return images * out_size() * out_size(); }
  // Of products that are not with a zero between inputs.
  double flops() const {
    return 2.0 * static_cast<double>(rows() * outputs * depth()) / static_cast<double>(spread * spread);
  }
  ConvolutionParams params() const {
    return {{stride, stride},
            {padding(), padding()},
            {padding(), padding()},
            {1, 1},
            {spread, spread},
            groups,
            false};
  }
};

void count_flops(benchmark::State& state, double flops) {
  state.counters["FLOP/s"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

double exact_output(const Layer& l, const std::vector<float>& x, const std::vector<float>& w, int64_t at) {
  const int64_t o = at % l.outputs, col = at / l.outputs % l.out_size(), ins = l.channels / l.groups;
  const int64_t row = at / l.outputs / l.out_size() % l.out_size();
  const int64_t image = at / l.outputs / l.out_size() / l.out_size();
  double sum = 0;
  for (int64_t i = 0; i < l.kernel; ++i) {
    for (int64_t j = 0; j < l.kernel; ++j) {
      const int64_t y = row * l.stride + i - l.padding(), z = col * l.stride + j - l.padding();
      if (y < 0 || z < 0 || y % l.spread || z % l.spread) continue;
      if (y / l.spread >= l.size || z / l.spread >= l.size) continue;
      const int64_t in = ((image * l.size + y / l.spread) * l.size + z / l.spread) * l.channels +
                         o / (l.outputs / l.groups) * ins;
      const int64_t weight = ((o * l.kernel + i) * l.kernel + j) * ins;
      for (int64_t c = 0; c < ins; ++c) {
        sum += static_cast<double>(x[static_cast<size_t>(in + c)]) * w[static_cast<size_t>(weight + c)];
      }
    }
  }
  return sum;
}

void convolve(benchmark::State& state) {
  const Layer l(state);
  std::vector<float> x = random_values(l.images * l.size * l.size * l.channels, 1);
  std::vector<float> w = random_values(l.outputs * l.depth(), 2),
                     y(static_cast<size_t>(l.rows() * l.outputs));
  const View in = view_of(x, {l.images, l.size, l.size, l.channels});
  const View weight = view_of(w, {l.outputs, l.kernel, l.kernel, l.channels / l.groups});
  const View out = view_of(y, {l.images, l.out_size(), l.out_size(), l.outputs});
  const ConvolutionParams p = l.params();
  cpu::convolution(in, weight, out, p);
  const auto n = static_cast<int64_t>(y.size());
  for (int64_t i = 0; i < n; i += n / 97 + 1) {
    const double want = exact_output(l, x, w, i), got = y[static_cast<size_t>(i)];
    if (std::abs(got - want) > 0x1p-24 * (static_cast<double>(l.depth()) + 4) * 4) {
      state.SkipWithError(
          ("wrong result: wanted " + std::to_string(want) + ", got " + std::to_string(got)).c_str());
      return;
    }
  }
  for (auto _ : state) {
    cpu::convolution(in, weight, out, p);
    benchmark::ClobberMemory();
  }
  count_flops(state, l.flops());
}
// images, size, channels, outputs, kernel, stride, groups, input dilation.
#define LAYERS                                          \
  ->ArgNames({"n", "hw", "c", "o", "k", "s", "g", "d"}) \
      ->Args({8, 56, 64, 64, 3, 1, 1, 1})               \
      ->Args({8, 28, 128, 128, 3, 1, 1, 1})             \
      ->Args({8, 14, 256, 256, 3, 1, 1, 1})             \
      ->Args({8, 7, 512, 512, 3, 1, 1, 1})              \
      ->Args({8, 56, 64, 128, 3, 2, 1, 1})              \
      ->Args({8, 56, 64, 256, 1, 1, 1, 1})              \
      ->Args({2, 224, 3, 64, 7, 2, 1, 1})
BENCHMARK(convolve)
LAYERS->Args({8, 28, 128, 64, 3, 1, 1, 2})
    ->Args({8, 56, 128, 128, 3, 1, 32, 1})
    ->Args({8, 56, 128, 128, 3, 1, 128, 1})
    ->Args({1, 512, 1, 1, 5, 1, 1, 1})
    ->UseRealTime();

void product(benchmark::State& state) {
  const Layer l(state);
  std::vector<float> a = random_values(l.rows() * l.depth(), 1), b = random_values(l.outputs * l.depth(), 2);
  std::vector<float> c(static_cast<size_t>(l.rows() * l.outputs));
  cpu::GemmArgs g;
  g.m = l.rows(), g.n = g.ldc = l.outputs, g.k = l.depth(), g.c = c.data();
  g.a = {a.data(), Dtype::kFloat32, g.k, 1};
  g.b = {b.data(), Dtype::kFloat32, 1, g.k};
  for (auto _ : state) {
    cpu::gemm(g);
    benchmark::ClobberMemory();
  }
  count_flops(state, l.flops());
}
BENCHMARK(product) LAYERS->UseRealTime();
#undef LAYERS

}  // namespace
}  // namespace lamina
