// Attention over a cache in blocks, with a result of one head checked in float64 before it is timed.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/cache.h"
#include "ops/params.h"
#include "quant/kv_rows.h"

namespace lamina {
namespace {

constexpr int64_t kHeads = 16, kKeyHeads = 8, kDim = 128, kBlock = 64;

// Blocks of rows of one value in every format: bits 32, 16 (bfloat16), 8 or 4.
struct Pool {
  int64_t bits, row_bytes;
  std::vector<char> rows;
  std::vector<float16_t> scales;

  Pool(int64_t blocks, int64_t bits_, unsigned seed) : bits(bits_), row_bytes(kDim * bits_ / 8) {
    const int64_t count = blocks * kKeyHeads * kBlock;
    rows.resize(static_cast<size_t>(count * row_bytes));
    scales.resize(static_cast<size_t>(count * kv_groups(kDim)));
    std::mt19937 rng(seed);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    std::vector<float> drawn(kDim * 1024);
    for (float& x : drawn) x = uniform(rng);
    for (int64_t i = 0; i < count; ++i) write(i, drawn.data() + i % 1024 * kDim);
  }
  void write(int64_t i, const float* values) {
    char* row = rows.data() + i * row_bytes;
    if (bits < 16) {
      return encode_kv_row(values, kDim, static_cast<int>(bits), row, scales.data() + i * kv_groups(kDim));
    }
    for (int64_t d = 0; d < kDim; ++d) {
      if (bits == 32) reinterpret_cast<float*>(row)[d] = values[d];
      if (bits == 16) reinterpret_cast<bfloat16_t*>(row)[d] = bfloat16_t(values[d]);
    }
  }
  std::vector<float> read(int64_t i) const {
    const char* row = rows.data() + i * row_bytes;
    std::vector<float> values(kDim);
    if (bits < 16) {
      decode_kv_row(row, scales.data() + i * kv_groups(kDim), kDim, static_cast<int>(bits), values.data());
      return values;
    }
    for (int64_t d = 0; d < kDim; ++d) {
      values[static_cast<size_t>(d)] = bits == 32
                                           ? reinterpret_cast<const float*>(row)[d]
                                           : static_cast<float>(reinterpret_cast<const bfloat16_t*>(row)[d]);
    }
    return values;
  }
  View view(int64_t blocks) {
    const Dtype t = bits == 32   ? Dtype::kFloat32
                    : bits == 16 ? Dtype::kBFloat16
                    : bits == 8  ? Dtype::kInt8
                                 : Dtype::kUInt8;
    const Shape shape{blocks, kKeyHeads, kBlock, row_bytes / static_cast<int64_t>(itemsize(t))};
    return {rows.data(), t, shape, row_major_strides(shape)};
  }
  View scale_view(int64_t blocks) {
    const Shape shape{blocks, kKeyHeads, kBlock, kv_groups(kDim)};
    return {scales.data(), Dtype::kFloat16, shape, row_major_strides(shape)};
  }
  int64_t bytes() const { return static_cast<int64_t>(rows.size() + (bits < 16 ? scales.size() * 2 : 0)); }
};

View view_of(void* data, Dtype t, const Shape& shape) { return {data, t, shape, row_major_strides(shape)}; }

// The last row's first head.
bool is_right(benchmark::State& state, const std::vector<float>& q, const std::vector<float>& out,
              const std::vector<int32_t>& table, const Pool& keys, const Pool& values, int64_t length) {
  const float* query = q.data() + q.size() - kHeads * kDim;
  std::vector<double> sums(kDim);
  double total = 0;
  for (int64_t p = 0; p < length; ++p) {
    const int64_t row = table[static_cast<size_t>(p / kBlock)] * kKeyHeads * kBlock + p % kBlock;
    const std::vector<float> k = keys.read(row), v = values.read(row);
    const double weight = std::exp(std::inner_product(k.begin(), k.end(), query, 0.0) / std::sqrt(kDim));
    total += weight;
    for (size_t d = 0; d < kDim; ++d) sums[d] += weight * static_cast<double>(v[d]);
  }
  for (size_t d = 0; d < kDim; ++d) {
    const double got = out[out.size() - kHeads * kDim + d];
    if (std::abs(got - sums[d] / total) <= 256 * 0x1p-24) continue;
    state.SkipWithError("wrong result");
    return false;
  }
  return true;
}

void attend_paged(benchmark::State& state) {
  const int64_t batch = state.range(0), rows = state.range(1), length = state.range(2), bits = state.range(3);
  const int64_t columns = length / kBlock, blocks = batch * columns;
  Pool keys(blocks, bits, 1), values(blocks, bits, 2);
  std::vector<float> q(static_cast<size_t>(batch * rows * kHeads * kDim)), out(q.size());
  std::mt19937 rng(3);
  for (float& x : q) x = std::uniform_real_distribution<float>(-1.0f, 1.0f)(rng);
  std::vector<int32_t> tables(static_cast<size_t>(blocks)), ends, lengths(static_cast<size_t>(batch), 0);
  std::iota(tables.begin(), tables.end(), 0);
  std::shuffle(tables.begin(), tables.end(), rng);
  for (int64_t b = 1; b <= batch; ++b) ends.push_back(static_cast<int32_t>(b * rows));
  std::fill(lengths.begin(), lengths.end(), static_cast<int32_t>(length));
  std::vector<View> in{view_of(q.data(), Dtype::kFloat32, {batch * rows, kHeads, kDim}),
                       keys.view(blocks),
                       values.view(blocks),
                       view_of(tables.data(), Dtype::kInt32, {batch, columns}),
                       view_of(ends.data(), Dtype::kInt32, {batch}),
                       view_of(lengths.data(), Dtype::kInt32, {batch})};
  PagedAttentionParams params;
  params.scale = 1.0f / std::sqrt(static_cast<float>(kDim));
  params.has_key_scales = params.has_value_scales = bits < 16;
  if (bits < 16) in.push_back(keys.scale_view(blocks)), in.push_back(values.scale_view(blocks));
  const Ref<Params> held = make_params(params);
  const View result = view_of(out.data(), Dtype::kFloat32, {batch * rows, kHeads, kDim});
  const KernelCall call{OpId::PagedAttention, held.get(), in, std::span(&result, 1)};
  cpu::paged_attention(call);
  const std::vector<int32_t> table(tables.end() - columns, tables.end());
  if (!is_right(state, q, out, table, keys, values, length)) return;
  for (auto _ : state) {
    cpu::paged_attention(call);
    benchmark::ClobberMemory();
  }
  const double pairs = static_cast<double>(rows * length - rows * (rows - 1) / 2);
  const auto rate = [](double n) {
    return benchmark::Counter(n, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
  };
  state.counters["FLOP/s"] = rate(4.0 * static_cast<double>(batch * kHeads * kDim) * pairs);
  state.counters["B/s"] = rate(static_cast<double>(keys.bytes() + values.bytes()));
}
BENCHMARK(attend_paged)
    ->ArgNames({"batch", "rows", "length", "bits"})
    ->ArgsProduct({{1}, {1}, {8192, 32768}, {32, 16, 8, 4}})
    ->ArgsProduct({{8}, {1}, {8192}, {16}})
    ->ArgsProduct({{1}, {256}, {8192}, {32, 16, 8, 4}})
    ->UseRealTime();

}  // namespace
}  // namespace lamina
