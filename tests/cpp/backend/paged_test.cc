#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "backend/cpu/attention.h"
#include "backend/cpu/cache.h"
#include "backend/reference/kernels.h"
#include "gemm_testing.h"
#include "ops/params.h"
#include "quant/kv_rows.h"

namespace lamina::testing {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Sequence {
  int64_t rows, length;
};

struct Case {
  std::vector<Sequence> sequences;
  int64_t heads = 2, kv_heads = 1, dim = 16, v_dim = 16, block = 16;
  Dtype queries = Dtype::kFloat32, pools = Dtype::kFloat32;
  int key_bits = 0, value_bits = 0;  // 0: pools' dtype
  PagedAttentionParams params = {};
};

// A pool whose every byte is NaN or a code until rows are written to it.
struct Pool {
  Guarded codes, scales;
  View view, scale_view;
  int bits;

  Pool(const Case& t, int64_t blocks, int64_t dim, int bits_)
      : codes(blocks * t.kv_heads * t.block * (bits_ ? kv_code_bytes(dim, bits_) : dim), dtype(t, bits_)),
        scales(blocks * t.kv_heads * t.block * kv_groups(dim), Dtype::kFloat16),
        bits(bits_) {
    const int64_t row = bits ? kv_code_bytes(dim, bits) : dim;
    view = dense(codes, dtype(t, bits), {blocks, t.kv_heads, t.block, row});
    scale_view = dense(scales, Dtype::kFloat16, {blocks, t.kv_heads, t.block, kv_groups(dim)});
    for (int64_t i = 0; bits == 0 && i < codes.elems(); ++i) codes.set(i, kNaN);
    for (int64_t i = 0; i < scales.elems(); ++i) scales.set(i, kNaN);
  }
  static Dtype dtype(const Case& t, int bits) {
    return bits == 8 ? Dtype::kInt8 : bits == 4 ? Dtype::kUInt8 : t.pools;
  }
  static View dense(Guarded& memory, Dtype t, const Shape& shape) {
    return {memory.data(), t, shape, row_major_strides(shape)};
  }
  void fill(int64_t row, int64_t dim, std::mt19937& rng) {
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(dim));
    for (float& x : values) x = normal(rng);
    if (bits == 0) {
      for (int64_t d = 0; d < dim; ++d)
        codes.set(row * dim + d, static_cast<double>(values[static_cast<size_t>(d)]));
      return;
    }
    encode_kv_row(values.data(), dim, bits, codes.as<uint8_t>() + row * kv_code_bytes(dim, bits),
                  scales.as<float16_t>() + row * kv_groups(dim));
  }
};

struct Problem {
  Case t;
  int64_t columns, blocks;
  std::vector<int32_t> tables, ends, lengths;
  Pool keys, values;
  Guarded queries, out, sinks;
  PagedAttentionParams params;

  static int64_t columns_of(const Case& t) {
    int64_t n = 1;
    for (const Sequence& s : t.sequences) n = std::max(n, (s.length + t.block - 1) / t.block);
    return n;
  }
  int64_t rows() const { return ends.back(); }

  Problem(const Case& c, std::mt19937& rng)
      : t(c),
        columns(columns_of(c)),
        blocks(columns * static_cast<int64_t>(c.sequences.size()) + 1),
        keys(c, blocks, c.dim, c.key_bits),
        values(c, blocks, c.v_dim, c.value_bits),
        queries(1, c.queries),
        out(1, c.queries),
        sinks(random_buffer(c.heads, Dtype::kFloat32, rng)),
        params(c.params) {
    tables.resize(static_cast<size_t>(blocks - 1));
    std::iota(tables.begin(), tables.end(), 1);
    std::shuffle(tables.begin(), tables.end(), rng);
    int64_t end = 0;
    for (size_t b = 0; b < t.sequences.size(); ++b) {
      end += t.sequences[b].rows;
      ends.push_back(static_cast<int32_t>(end));
      lengths.push_back(static_cast<int32_t>(t.sequences[b].length));
      fill(static_cast<int64_t>(b), t.sequences[b], rng);
    }
    queries = random_buffer(end * t.heads * t.dim, t.queries, rng);
    out = Guarded(end * t.heads * t.v_dim, t.queries);
    params.has_key_scales = t.key_bits != 0, params.has_value_scales = t.value_bits != 0;
    params.scale = 1.0f / std::sqrt(static_cast<float>(t.dim));
  }

  // Rows of the positions that a query sees; tables name no block for others.
  void fill(int64_t b, const Sequence& s, std::mt19937& rng) {
    const int64_t window = t.params.window;
    const int64_t first = window > 0 ? std::max<int64_t>(0, s.length - s.rows + 1 - window) : 0;
    int32_t* table = tables.data() + b * columns;
    for (int64_t p = first; p < s.length; ++p) {
      for (int64_t h = 0; h < t.kv_heads; ++h) {
        const int64_t row = (table[p / t.block] * t.kv_heads + h) * t.block + p % t.block;
        keys.fill(row, t.dim, rng);
        values.fill(row, t.v_dim, rng);
      }
    }
    for (int64_t i = 0; i < columns; ++i) {
      if ((i + 1) * t.block <= first || i * t.block >= s.length) table[i] = -1;
    }
  }

  void run(void (*kernel)(const KernelCall&), Guarded& result) {
    const auto n = static_cast<int64_t>(ends.size());
    const auto ints = [](std::vector<int32_t>& v, const Shape& shape) {
      return View{v.data(), Dtype::kInt32, shape, row_major_strides(shape)};
    };
    std::vector<View> in{Pool::dense(queries, t.queries, {rows(), t.heads, t.dim}),
                         keys.view,
                         values.view,
                         ints(tables, {n, columns}),
                         ints(ends, {n}),
                         ints(lengths, {n})};
    if (params.has_sinks) in.push_back(Pool::dense(sinks, Dtype::kFloat32, {t.heads}));
    if (t.key_bits) in.push_back(keys.scale_view);
    if (t.value_bits) in.push_back(values.scale_view);
    const View to = Pool::dense(result, result.dtype(), {rows(), t.heads, t.v_dim});
    const Ref<Params> held = make_params(params);
    kernel({OpId::PagedAttention, held.get(), in, std::span(&to, 1)});
  }
};

// The kernel against the plain loops in float64. Values are of size 1, weights sum to 1.
void check(const Case& t, std::mt19937& rng) {
  Problem p(t, rng);
  Guarded want(p.out.elems(), Dtype::kFloat32);
  p.run(reference::run_paged_attention, want);
  p.run(cpu::paged_attention, p.out);
  ASSERT_TRUE(p.out.guards_whole());
  int64_t longest = 0;
  for (const Sequence& s : t.sequences) longest = std::max(longest, s.length);
  // |q| |k| / sqrt(D) is below 2 sqrt(D) for all but the rarest draws; values, and elements of q, are
  // below 6. Queries of keys in codes are rounded to 1/32767 of their largest element: half of that for each
  // of D keys.
  const double root = std::sqrt(static_cast<double>(t.dim));
  const double score = kEps32 * (root + 4) * 2 * root + (t.key_bits ? 6.0 / 65534 * root : 0);
  const double bound = 6 * (4 * score + kEps32 * (std::sqrt(static_cast<double>(longest)) + 32));
  for (int64_t i = 0; i < want.elems(); ++i) {
    const double x = want.at(i);
    ASSERT_NEAR(p.out.at(i), x, bound + unit_roundoff(t.queries) * std::abs(x) + least_step(t.queries))
        << "element " << i << ", D " << t.dim << ", block " << t.block;
  }
}

TEST(PagedAttention, LengthsAroundEveryBorder) {
  std::mt19937 rng(1);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int64_t length = 1; length <= 130; length += length < 34 ? 1 : 7) {
      check(
          {.sequences = {{1, length}, {std::min<int64_t>(length, 5), length}, {length, length}}, .block = 7},
          rng);
    }
    for (int64_t length : {255, 256, 257, 300, 513}) {
      check({.sequences = {{1, length}, {40, length}}, .heads = 1, .block = 32}, rng);
    }
  });
}

TEST(PagedAttention, FeatureSizesAndHeads) {
  std::mt19937 rng(2);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int64_t dim : {1, 7, 16, 33, 64, 80, 96, 128, 256}) {
      check({.sequences = {{1, 45}, {9, 20}}, .heads = 3, .kv_heads = 3, .dim = dim, .v_dim = dim}, rng);
      check({.sequences = {{2, 45}}, .heads = 8, .kv_heads = 2, .dim = dim, .v_dim = 3 + dim / 2}, rng);
    }
    for (int64_t share : {1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 15, 16, 29}) {
      check({.sequences = {{1, 50}, {2, 70}}, .heads = 2 * share, .kv_heads = 2}, rng);
    }
  });
}

TEST(PagedAttention, Formats) {
  std::mt19937 rng(3);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (Dtype queries : {Dtype::kFloat32, Dtype::kFloat16, Dtype::kBFloat16}) {
      for (Dtype pools : {Dtype::kFloat32, Dtype::kFloat16, Dtype::kBFloat16}) {
        check({.sequences = {{1, 45}, {20, 40}}, .dim = 24, .v_dim = 40, .queries = queries, .pools = pools},
              rng);
      }
    }
    for (int bits : {4, 8}) {
      for (int64_t dim : {2, 30, 32, 34, 64, 80, 96, 128}) {
        check({.sequences = {{1, 45}, {20, 40}},
               .dim = dim,
               .v_dim = dim,
               .key_bits = bits,
               .value_bits = 12 - bits},
              rng);
        check({.sequences = {{1, 45}, {20, 40}}, .dim = dim, .v_dim = 16, .key_bits = bits}, rng);
      }
    }
  });
}

TEST(PagedAttention, WindowsSinksAndCaps) {
  std::mt19937 rng(4);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int64_t window : {0, 1, 5, 31, 32, 33, 300}) {
      for (bool sinks : {false, true}) {
        for (float cap : {0.0f, 1.5f}) {
          PagedAttentionParams params;
          params.window = window, params.has_sinks = sinks, params.softcap = cap;
          check({.sequences = {{1, 47}, {1, 600}, {40, 40}, {20, 333}}, .params = params}, rng);
        }
      }
    }
  });
}

// All that decides a row is its query and what it sees.
TEST(PagedAttention, BitsOfARow) {
  std::mt19937 rng(5);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int bits : {0, 8}) {
      PagedAttentionParams params;
      params.window = 290;
      Problem p({.sequences = {{330, 700}, {3, 9}, {70, 650}},
                 .heads = 4,
                 .kv_heads = 2,
                 .key_bits = bits,
                 .value_bits = bits,
                 .params = params},
                rng);
      {
        ThreadCount one(1);
        p.run(cpu::paged_attention, p.out);
      }
      for (int threads : {2, 7}) {
        ThreadCount many(threads);
        Guarded again(p.out.elems(), Dtype::kFloat32);
        p.run(cpu::paged_attention, again);
        EXPECT_TRUE(p.out.same_bits(again)) << threads << " threads";
      }
      // Each sequence alone, its new positions in chunks.
      const int64_t step = p.t.heads * p.t.dim;
      for (int64_t chunk : {1, 37, 300}) {
        for (size_t b = 0; b < p.ends.size(); ++b) {
          const int64_t begin = b ? p.ends[b - 1] : 0;
          for (int64_t r = begin; r < p.ends[b]; r += chunk) {
            const int64_t n = std::min<int64_t>(chunk, p.ends[b] - r);
            if (chunk == 1 && r % 29 != 0) continue;
            Problem part = p;
            part.queries = Guarded(n * step, Dtype::kFloat32);
            std::copy_n(p.queries.as<float>() + r * step, n * step, part.queries.as<float>());
            part.tables.assign(p.tables.begin() + static_cast<std::ptrdiff_t>(b) * p.columns,
                               p.tables.begin() + static_cast<std::ptrdiff_t>(b + 1) * p.columns);
            part.ends = {static_cast<int32_t>(n)};
            part.lengths = {static_cast<int32_t>(p.lengths[b] - (p.ends[b] - r - n))};
            Guarded got(n * step, Dtype::kFloat32);
            part.run(cpu::paged_attention, got);
            ASSERT_EQ(
                std::memcmp(got.data(), p.out.as<float>() + r * step, static_cast<size_t>(n * step) * 4), 0)
                << "sequence " << b << ", rows from " << r << ", " << n;
          }
        }
      }
    }
  });
}

// An infinity in a value reaches the rows that see it and no others.
TEST(PagedAttention, InfiniteValuesStayBehindTheMask) {
  std::mt19937 rng(6);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    PagedAttentionParams params;
    params.window = 8;
    Problem p({.sequences = {{40, 40}}, .heads = 1, .block = 64, .params = params}, rng);
    p.run(cpu::paged_attention, p.out);
    const Guarded before = p.out;
    const int64_t at = 21, row = p.tables[0] * 64 + at;
    for (int64_t d = 0; d < p.t.v_dim; ++d) p.values.codes.set(row * p.t.v_dim + d, HUGE_VAL);
    p.run(cpu::paged_attention, p.out);
    for (int64_t i = 0; i < p.out.elems(); ++i) {
      const int64_t position = i / p.t.v_dim;
      if (position >= at && position < at + 8) {
        EXPECT_EQ(p.out.at(i), HUGE_VAL) << position;
      } else {
        EXPECT_EQ(p.out.at(i), before.at(i)) << position;
      }
    }
  });
}

// The same bits from blocks of any size as from arrays in a row.
TEST(PagedAttention, BitsOfPlainAttention) {
  std::mt19937 rng(7);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int64_t block : {5, 64, 1000}) {
      Problem p({.sequences = {{60, 700}}, .heads = 4, .kv_heads = 2, .block = block}, rng);
      p.run(cpu::paged_attention, p.out);
      const int64_t dim = 16, length = 700;
      Guarded k(2 * length * dim, Dtype::kFloat32), v(2 * length * dim, Dtype::kFloat32);
      for (int64_t h = 0; h < 2; ++h) {
        for (int64_t i = 0; i < length; ++i) {
          const int64_t row = (p.tables[static_cast<size_t>(i / block)] * 2 + h) * block + i % block;
          std::copy_n(p.keys.codes.as<float>() + row * dim, dim, k.as<float>() + (h * length + i) * dim);
          std::copy_n(p.values.codes.as<float>() + row * dim, dim, v.as<float>() + (h * length + i) * dim);
        }
      }
      Guarded out(p.out.elems(), Dtype::kFloat32);
      cpu::AttentionArgs a;
      a.q = {p.queries.data(), Dtype::kFloat32, {1, 4, 60, dim}, {0, dim, 4 * dim, 1}};
      a.k = Pool::dense(k, Dtype::kFloat32, {1, 2, length, dim});
      a.v = Pool::dense(v, Dtype::kFloat32, {1, 2, length, dim});
      a.out = {out.data(), Dtype::kFloat32, {1, 4, 60, dim}, {0, dim, 4 * dim, 1}};
      a.scale = p.params.scale, a.causal = true;
      cpu::attention(a);
      EXPECT_TRUE(out.same_bits(p.out)) << "blocks of " << block;
    }
  });
}

TEST(QuantizeKv, BitsOfThePlainLoops) {
  std::mt19937 rng(8);
  for_each_target([&](const char* name) {
    SCOPED_TRACE(name);
    for (int bits : {4, 8}) {
      for (Dtype t : {Dtype::kFloat32, Dtype::kFloat16, Dtype::kBFloat16}) {
        for (int64_t dim = 2; dim <= 130; dim += 2) {
          const int64_t rows = 5;
          Guarded x = random_buffer(rows * dim, t, rng);
          for (int64_t d = 0; d < dim; ++d) x.set(d, 0);           // a row of zeros
          for (int64_t d = 0; d < dim; ++d) x.set(dim + d, -2.0);  // one of equal numbers
          x.set(2 * dim + dim / 2, kNaN);
          x.set(3 * dim, t == Dtype::kFloat16 ? 6e4 : 1e30);
          Guarded codes(rows * kv_code_bytes(dim, bits), Dtype::kInt8),
              scales(rows * kv_groups(dim), Dtype::kFloat16);
          Guarded want_codes = codes, want_scales = scales;
          const Ref<Params> params = make_params(QuantizeKvParams{bits});
          const View in = Pool::dense(x, t, {rows, dim});
          const auto run = [&](void (*kernel)(const KernelCall&), Guarded& c, Guarded& s) {
            const View out[] = {Pool::dense(c, Dtype::kInt8, {rows, kv_code_bytes(dim, bits)}),
                                Pool::dense(s, Dtype::kFloat16, {rows, kv_groups(dim)})};
            kernel({OpId::QuantizeKv, params.get(), std::span(&in, 1), out});
          };
          run(cpu::quantize_kv, codes, scales);
          run(reference::run_quantize_kv, want_codes, want_scales);
          ASSERT_TRUE(codes.same_bits(want_codes) && scales.same_bits(want_scales)) << dim << " " << bits;
        }
      }
    }
  });
}

}  // namespace
}  // namespace lamina::testing
