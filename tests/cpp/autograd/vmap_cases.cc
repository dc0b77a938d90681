#include "vmap_cases.h"

#include "lamina/fft.h"
#include "lamina/linalg.h"
#include "ops/table.h"

namespace lamina::testing {
namespace {

using F = const Arrays&;

// Elements that every op of those dtypes has a value for.
Maker elements(DtypeSet dtypes) { return contains(dtypes, Dtype::kFloat32) ? floats(0.1, 0.9) : ints(0, 6); }

// Rounding of a fused chain and of its parts may differ by a few spacings.
constexpr double kRounding = 8;

}  // namespace

std::vector<Case> elementwise_cases() {
  std::vector<Case> cases;
#define UNARY(id, name, dtypes, ...) \
  cases.push_back({#name, [](F x) { return Arrays{name(x[0])}; }, {{{2, 3}, elements(dtypes)}}, kRounding});
#define BINARY(id, name, dtypes, ...)                                     \
  cases.push_back({#name,                                                 \
                   [](F x) { return Arrays{name(x[0], x[1])}; },          \
                   {{{2, 3}, elements(dtypes)}, {{3}, elements(dtypes)}}, \
                   kRounding});                                           \
  cases.push_back({#name " by column",                                    \
                   [](F x) { return Arrays{name(x[0], x[1])}; },          \
                   {{{}, elements(dtypes)}, {{2, 1}, elements(dtypes)}},  \
                   kRounding});
#include "lamina/table/binary.def"
#include "lamina/table/unary.def"
#undef UNARY
#undef BINARY
  const Operand matrix{{2, 3}}, row{{3}}, scalar{{}};
  cases.push_back(
      {"where", [](F x) { return Arrays{where(x[0], x[1], x[2])}; }, {{{3}, bools()}, matrix, scalar}});
  cases.push_back({"where of columns",
                   [](F x) { return Arrays{where(x[0], x[1], x[2])}; },
                   {{{2, 1, 1}, bools()}, row, {{4, 1}}}});
  cases.push_back({"cast",
                   [](F x) {
                     return Arrays{astype(x[0], Dtype::kFloat16), astype(x[0], Dtype::kInt32)};
                   },
                   {{{2, 3}, floats(-9, 9)}}});
  cases.push_back({"complex",
                   [](F x) {
                     return Arrays{multiply(x[0], conjugate(x[1])), real(x[0]), imag(x[1]), abs(x[0])};
                   },
                   {{{2, 3}, complexes()}, {{3}, complexes()}},
                   kRounding});
  cases.push_back({"clip", [](F x) { return Arrays{clip(x[0], x[1], x[2])}; }, {matrix, row, scalar}});
  cases.push_back({"a long chain",
                   [](F x) { return Arrays{tanh(x[0] * x[1] + 1.0) / (exp(x[1]) + 2.0)}; },
                   {matrix, row},
                   kRounding});
  return cases;
}

std::vector<Case> view_cases() {
  const Operand cube{{2, 3, 4}}, matrix{{2, 3}}, row{{3}};
  auto concat = [](F x) { return Arrays{concatenate(x, -1), concatenate(Arrays{x[2], x[0]}, 1)}; };
  auto update = [](ScatterMode mode) {
    return [mode](F x) { return Arrays{slice_update(x[0], x[1], {1, 4}, {3, -6}, {1, -2}, mode)}; };
  };
  auto depend = [](F x) { return depends(Arrays{x[0]}, Arrays{x[1]}); };
  return {
      {"transpose",
       [](F x) {
         return Arrays{transpose(x[0], Axes{2, 0, 1}), transpose(x[0])};
       },
       {cube}},
      {"swapaxes",
       [](F x) {
         return Arrays{swapaxes(x[0], 0, -1), moveaxis(x[0], -1, 0)};
       },
       {cube}},
      {"expand_dims",
       [](F x) {
         return Arrays{expand_dims(x[0], {0, 2, 4})};
       },
       {matrix}},
      {"squeeze",
       [](F x) {
         return Arrays{squeeze(x[0]), squeeze(x[0], Axes{2})};
       },
       {{{1, 3, 1, 2}}}},
      {"reshape",
       [](F x) {
         return Arrays{reshape(x[0], {4, 6}), reshape(transpose(x[0]), {-1})};
       },
       {cube}},
      {"reshape 0-d",
       [](F x) {
         return Arrays{reshape(x[0], {1, 1}), flatten(x[0])};
       },
       {{{}}}},
      {"reshape empty",
       [](F x) {
         return Arrays{reshape(x[0], {0, 5})};
       },
       {{{2, 0}}}},
      {"slice",
       [](F x) {
         return Arrays{slice(x[0], {0, 1, 3}, {2, 3, -5}, {1, 1, -2})};
       },
       {cube}},
      {"empty slice",
       [](F x) {
         return Arrays{slice(x[0], {1, 0, 0}, {1, 3, 4})};
       },
       {cube}},
      {"flip",
       [](F x) {
         return Arrays{flip(x[0]), flip(x[0], Axes{1})};
       },
       {cube}},
      {"split", [](F x) { return split(x[0], 2, -1); }, {cube}},
      {"as_strided",
       [](F x) {
         return Arrays{as_strided(x[0], {4, 3}, {1, 1}, 0), as_strided(x[0], {2, 2}, {-2, 3}, 2)};
       },
       {matrix}},
      {"broadcast_to",
       [](F x) {
         return Arrays{broadcast_to(x[0], {4, 2, 3})};
       },
       {{{2, 1}}}},
      {"view",
       [](F x) {
         return Arrays{view(x[0], Dtype::kInt32), view(x[0], Dtype::kUInt16)};
       },
       {{{2, 4}}}},
      {"view of bytes",
       [](F x) { return Arrays{view(x[0], Dtype::kUInt32)}; },
       {{{2, 8}, ints(0, 256, Dtype::kUInt8)}}},
      {"view 0-d", [](F x) { return Arrays{view(x[0], Dtype::kInt32)}; }, {{{}}}},
      {"stop_gradient", [](F x) { return Arrays{stop_gradient(x[0])}; }, {matrix}},
      {"contiguous", [](F x) { return Arrays{contiguous(transpose(x[0]))}; }, {matrix}},
      {"depends", depend, {matrix, row}},
      {"concatenate", concat, {{{2, 1}}, matrix, {{2, 4}}}},
      {"stack", [](F x) { return Arrays{stack(x, 1)}; }, {matrix, matrix}},
      {"slice_update", update(ScatterMode::kSet), {{{3, 5}}, {{2, 3}}}},
      {"slice_update add", update(ScatterMode::kAdd), {{{3, 5}}, {{1, 3}}}},
      {"pad",
       [](F x) {
         return Arrays{pad(x[0], std::vector<std::pair<int64_t, int64_t>>{{1, 0}, {2, 1}}, x[1])};
       },
       {matrix, {{}}}},
      {"roll",
       [](F x) {
         return Arrays{roll(x[0], {1, -2}, {0, 2})};
       },
       {cube}},
      {"repeat and tile",
       [](F x) {
         return Arrays{repeat(x[0], 3, 1), tile(x[0], {2, 1, 2})};
       },
       {matrix}},
      {"diagonal",
       [](F x) {
         return Arrays{diagonal(x[0], 1, 0, 2), diag(x[1], -1)};
       },
       {cube, row}},
      {"tril",
       [](F x) {
         return Arrays{tril(x[0], -1), triu(x[0], 1)};
       },
       {cube}},
  };
}

std::vector<Case> reduction_cases() {
  std::vector<Case> cases;
  const Operand cube{{2, 3, 4}};
#define REDUCE(id, name, ...)                                                                       \
  cases.push_back({#name,                                                                           \
                   [](F x) {                                                                        \
                     return Arrays{name(x[0]), name(x[0], Axes{1}), name(x[0], Axes{0, -1}, true)}; \
                   },                                                                               \
                   {cube},                                                                          \
                   24});                                                                            \
  cases.push_back(                                                                                  \
      {#name " of integers", [](F x) { return Arrays{name(x[0], Axes{0})}; }, {{{4, 3}, ints(0, 3)}}});
#include "lamina/table/reduce.def"
#undef REDUCE
  cases.push_back({"argmax",
                   [](F x) {
                     return Arrays{argmax(x[0]), argmax(x[0], 1, true), argmin(x[0], -1)};
                   },
                   {{{3, 4}, ints(0, 4)}}});
  cases.push_back({"sort",
                   [](F x) {
                     return Arrays{sort(x[0], 0), sort(x[0]), sort(x[0], std::nullopt)};
                   },
                   {cube}});
  cases.push_back({"argsort",
                   [](F x) {
                     return Arrays{argsort(x[0], 0), argsort(x[0], 1)};
                   },
                   {{{4, 3}, ints(0, 3)}}});
  cases.push_back({"topk", [](F x) { return Arrays{topk(x[0], 2, 1), partition(x[0], 1, 0)}; }, {cube}});
  for (ScanKind kind :
       {ScanKind::kSum, ScanKind::kProd, ScanKind::kMax, ScanKind::kMin, ScanKind::kLogAddExp}) {
    cases.push_back({"scan " + std::to_string(static_cast<int>(kind)),
                     [kind](F x) {
                       return Arrays{scan(x[0], kind, 0, false, true), scan(x[0], kind, -1, true, true),
                                     scan(x[0], kind, 1, false, kind == ScanKind::kMax)};
                     },
                     {cube},
                     16});
  }
  cases.push_back({"mean and var",
                   [](F x) {
                     return Arrays{mean(x[0], Axes{1}), var(x[0]), std_dev(x[0], Axes{0}, true)};
                   },
                   {cube},
                   32});
  cases.push_back({"softmax",
                   [](F x) {
                     return Arrays{softmax(x[0], Axes{-1}), softmax(x[0]), logsumexp(x[0], Axes{0})};
                   },
                   {cube},
                   32});
  cases.push_back(
      {"norms",
       [](F x) {
         return Arrays{fast::rms_norm(x[0], x[1], 1e-5f), fast::layer_norm(x[0], x[1], x[2], 1e-5f)};
       },
       {{{2, 8}}, {{8}}, {{8}}},
       64});
  return cases;
}

std::vector<Case> indexing_cases() {
  const Operand cube{{4, 3, 5}}, into_four{{2, 3}, ints(-4, 4)}, into_three{{3}, ints(-3, 3, Dtype::kInt64)};
  auto boxes = [](F x) { return Arrays{gather(x[0], Arrays{x[1], x[2]}, {0, 1}, {1, 1, 4})}; };
  std::vector<Case> cases = {
      {"take", [](F x) { return Arrays{take(x[0], x[1], 0)}; }, {cube, into_four}},
      {"take in the middle", [](F x) { return Arrays{take(x[0], x[1], 1)}; }, {cube, into_three}},
      {"take one", [](F x) { return Arrays{take(x[0], x[1], -1)}; }, {cube, {{}, ints(0, 5)}}},
      {"take flat", [](F x) { return Arrays{take(x[0], x[1])}; }, {cube, into_four}},
      {"take none", [](F x) { return Arrays{take(x[0], x[1], 0)}; }, {cube, {{0}, ints(0, 1)}}},
      {"gather", boxes, {cube, into_four, into_three}},
      {"gather boxes",
       [](F x) {
         return Arrays{gather(x[0], Arrays{x[1]}, {2}, {2, 3, 2})};
       },
       {cube, {{2}, ints(0, 4)}}},
      {"gather without indices",
       [](F x) {
         return Arrays{gather(x[0], Arrays{}, {}, {2, 3, 1})};
       },
       {cube}},
      {"take_along_axis",
       [](F x) {
         return Arrays{take_along_axis(x[0], x[1], 0), take_along_axis(x[0], x[1], std::nullopt)};
       },
       {{{4, 3}}, {{2, 3}, ints(-4, 4)}}},
      {"take_along_axis broadcast",
       [](F x) { return Arrays{take_along_axis(x[0], x[1], 1)}; },
       {{{1, 5}}, {{4, 2}, ints(0, 5)}}},
  };
  for (ScatterMode mode :
       {ScatterMode::kSet, ScatterMode::kAdd, ScatterMode::kMultiply, ScatterMode::kMax, ScatterMode::kMin}) {
    const std::string tag = " " + std::to_string(static_cast<int>(mode));
    cases.push_back({"scatter" + tag,
                     [mode](F x) { return Arrays{scatter(x[0], Arrays{x[2]}, x[1], {1}, mode)}; },
                     {cube, {{3, 2, 1, 4}}, into_three},
                     8});
    cases.push_back({"scatter at two axes" + tag,
                     [mode](F x) {
                       return Arrays{scatter(x[0], Arrays{x[2], x[3]}, x[1], {2, 0}, mode)};
                     },
                     {cube, {{2, 3, 1, 3, 1}}, {{2, 1}, ints(0, 5)}, {{3}, ints(0, 4)}},
                     8});
    cases.push_back({"put_along_axis" + tag,
                     [mode](F x) { return Arrays{put_along_axis(x[0], x[1], x[2], 0, mode)}; },
                     {{{4, 3}}, {{6, 3}, ints(-4, 4)}, {{6, 1}}},
                     8});
  }
  cases.push_back({"scatter without indices",
                   [](F x) { return Arrays{scatter(x[0], Arrays{}, x[1], {}, ScatterMode::kAdd)}; },
                   {cube, {{2, 3, 1}}},
                   8});
  return cases;
}

namespace {

// The quantized matrix of `rows` rows of 64 as operands: words, scales, biases.
std::vector<Operand> packed(Shape batch, int64_t rows, int bits, int group_size) {
  auto with = [&](int64_t last, Maker make) {
    Shape shape = batch;
    shape.push_back(rows);
    shape.push_back(last);
    return Operand{shape, std::move(make)};
  };
  return {with(2 * bits, words()), with(64 / group_size, floats()), with(64 / group_size, floats())};
}

Case quantized_product(const std::string& name, const Shape& x, const Shape& batch, bool transpose) {
  Case c{name,
         [transpose](F v) { return Arrays{quantized_matmul(v[0], v[1], v[2], v[3], transpose, 32, 4)}; },
         {{x}},
         256};
  for (Operand& o : packed(batch, 6, 4, 32)) c.operands.push_back(std::move(o));
  return c;
}

void add_quantized(std::vector<Case>& cases) {
  cases.push_back({"quantize", [](F x) { return quantize(x[0], 32, 4); }, {{{4, 64}}}});
  cases.push_back({"quantize 8 bits", [](F x) { return quantize(x[0], 64, 8); }, {{{2, 3, 64}}}});
  cases.push_back({"dequantize", [](F x) { return Arrays{dequantize(x[0], x[1], x[2], 64, 8)}; },
                   packed({2}, 3, 8, 64), 4});
  cases.push_back(quantized_product("quantized_matmul", {3, 64}, {}, true));
  cases.push_back(quantized_product("quantized_matmul of a vector", {64}, {}, true));
  cases.push_back(quantized_product("quantized_matmul of a batch", {2, 1, 3, 64}, {}, true));
  cases.push_back(quantized_product("quantized_matmul of batches", {2, 3, 64}, {2}, true));
  cases.push_back(quantized_product("quantized_matmul by a broadcast batch", {3, 64}, {2}, true));
  cases.push_back(quantized_product("quantized_matmul not transposed", {2, 3, 6}, {}, false));
  Case picked{
      "gather_qmm",
      [](F v) {
        return Arrays{gather_qmm(v[0], v[1], v[2], v[3], std::nullopt, v[4], {QuantFormat::kAffine, 32, 4})};
      },
      {{{3, 2, 64}}},
      256};
  for (Operand& o : packed({5}, 6, 4, 32)) picked.operands.push_back(std::move(o));
  picked.operands.push_back({{3}, ints(-5, 4)});
  cases.push_back(std::move(picked));
}

void add_rope(std::vector<Case>& cases) {
  auto rope = [](bool traditional) {
    return [traditional](F x) { return Arrays{fast::rope(x[0], 6, traditional, 10000.f, 0.5f, x[1])}; };
  };
  const Operand x{{2, 3, 5, 8}}, narrow{{2, 5, 8}, floats(-1, 1, Dtype::kFloat16)};
  cases.push_back({"rope", rope(false), {x, {{}, ints(0, 9)}}, 16});
  cases.push_back({"rope at offsets", rope(true), {narrow, {{2}, ints(0, 9)}}, 16});
  cases.push_back({"rope at an offset of length 1", rope(false), {x, {{1}, ints(0, 9)}}, 16});
  cases.push_back({"rope by frequencies",
                   [](F v) { return Arrays{fast::rope(v[0], 8, false, std::nullopt, 1, v[1], v[2])}; },
                   {x, {{2}, ints(0, 9)}, {{4}, floats(1, 50)}},
                   16});
}

Arrays attend(F x, const std::optional<Array>& mask, bool causal,
              const std::optional<Array>& sinks = std::nullopt) {
  return {fast::scaled_dot_product_attention(x[0], x[1], x[2], 0.3f, mask, causal, sinks)};
}
Arrays attention_gradients(F x, const std::optional<Array>& mask, bool causal) {
  auto fun = [&](F in) { return attend(in, mask, causal); };
  return vjp(fun, {x[0], x[1], x[2]}, {x[3]}).second;
}

void add_attention(std::vector<Case>& cases) {
  const Operand q{{2, 4, 3, 8}}, k{{2, 2, 5, 8}}, v{{2, 2, 5, 6}}, out{{2, 4, 3, 6}};
  cases.push_back({"attention", [](F x) { return attend(x, std::nullopt, false); }, {q, k, v}, 64});
  cases.push_back({"causal attention", [](F x) { return attend(x, std::nullopt, true); }, {q, k, v}, 64});
  cases.push_back({"attention with a bool mask",
                   [](F x) { return attend(x, x[3], false); },
                   {q, k, v, {{3, 5}, bools()}},
                   64});
  cases.push_back({"attention with a mask by batch",
                   [](F x) { return attend(x, x[3], true); },
                   {q, k, v, {{2, 1, 1, 5}}},
                   64});
  cases.push_back({"attention with sinks",
                   [](F x) { return attend(x, std::nullopt, false, x[3]); },
                   {q, k, v, {{4}}},
                   64});
  cases.push_back({"attention with a mask and sinks",
                   [](F x) { return attend(x, x[3], false, x[4]); },
                   {q, k, v, {{3, 5}}, {{4}}},
                   64});
  cases.push_back({"attention gradients",
                   [](F x) { return attention_gradients(x, std::nullopt, true); },
                   {q, k, v, out},
                   128});
  cases.push_back({"attention gradients with a mask",
                   [](F x) { return attention_gradients(x, x[4], false); },
                   {q, k, v, out, {{2, 1, 3, 5}}},
                   128});
}

void add_caches(std::vector<Case>& cases) {
  const Operand keys{{3, 2, 4, 8}}, values{{3, 2, 4, 6}};
  const auto number = [](int64_t n) { return arange(n, n + 1, int64_t{1}, Dtype::kInt32); };
  cases.push_back({"paged attention",
                   [number](F x) {
                     fast::PagedAttention options;
                     options.scale = 0.3, options.window = 4;
                     return Arrays{
                         fast::paged_attention(x[0], x[1], x[2], x[3], number(2), number(7), options)};
                   },
                   {{{2, 4, 8}}, keys, values, {{1, 2}, ints(0, 3)}}});
  cases.push_back({"cache write",
                   [](F x) { return Arrays{fast::cache_write(x[0], x[1], x[2])}; },
                   {keys, {{3, 2, 8}}, {{3}, ints(-1, 12)}}});
  cases.push_back({"quantized rows", [](F x) { return fast::quantize_kv(x[0], 4); }, {{{3, 2, 34}}}});
}

void add_random(std::vector<Case>& cases) {
  const Operand key{{2}, words()};
  cases.push_back(
      {"random bits",
       [](F x) {
         return Arrays{random::bits({3, 5}, 4, x[0]), random::bits({7}, 2, x[0]), random::bits({}, 1, x[0])};
       },
       {key}});
  cases.push_back({"random split", [](F x) { return random::split(x[0], 3); }, {key}});
  cases.push_back({"uniform",
                   [](F x) {
                     return Arrays{random::uniform(x[1], x[2], {2, 3}, Dtype::kFloat32, x[0])};
                   },
                   {key, {{}}, {{3}}},
                   8});
  cases.push_back({"normal",
                   [](F x) { return Arrays{random::normal({5}, Dtype::kFloat32, x[1], std::nullopt, x[0])}; },
                   {key, {{}}},
                   8});
  cases.push_back(
      {"categorical",
       [](F x) { return Arrays{random::categorical(x[1], -1, std::nullopt, std::nullopt, x[0])}; },
       {key, {{3, 4}}}});
  cases.push_back(
      {"permutation", [](F x) { return Arrays{random::permutation(x[1], 0, x[0])}; }, {key, {{6, 2}}}});
}

}  // namespace

void add_convolutions(std::vector<Case>& cases) {
  auto grouped = [](int64_t groups, bool flip) {
    return [groups, flip](F x) {
      return Arrays{conv_general(x[0], x[1], {{2}, {1}, {2}, {1}, {1}, groups, flip})};
    };
  };
  cases.push_back({"convolution", grouped(1, false), {{{2, 7, 3}}, {{4, 2, 3}}}, 32});
  cases.push_back({"convolution in groups", grouped(2, true), {{{2, 7, 4}}, {{6, 2, 2}}}, 32});
  cases.push_back({"depthwise convolution", grouped(4, false), {{{2, 7, 4}}, {{4, 3, 1}}}, 32});
  cases.push_back({"transposed convolution",
                   [](F x) {
                     return Arrays{conv_transpose2d(x[0], x[1], {2, 1}, {1}, {1}, {1, 0})};
                   },
                   {{{1, 4, 3, 2}}, {{3, 2, 3, 2}}},
                   32});
  cases.push_back({"convolve", [](F x) { return Arrays{convolve(x[0], x[1])}; }, {{{9}}, {{4}}}, 32});
}

namespace {

// The matrix is made positive definite first.
Arrays decompositions(F x) {
  const Array a = add(matmul(x[0], swapaxes(x[0], -1, -2)), eye(3, 3));
  return {linalg::cholesky(a),
          linalg::solve(a, x[1]),
          linalg::inv(a),
          linalg::solve_triangular(a, x[1]),
          linalg::lu_factor(a)[0],
          linalg::qr(a)[1],
          linalg::svd(a, false)[0],
          linalg::eigvalsh(a),
          sort(abs(linalg::eigvals(a))),
          linalg::det(a)};
}

}  // namespace

std::vector<Case> matrix_cases() {
  auto product = [](F x) { return Arrays{matmul(x[0], x[1])}; };
  std::vector<Case> cases = {
      {"matmul", product, {{{4, 7}}, {{7, 3}}}, 16},
      {"matmul of transposes",
       [](F x) { return Arrays{matmul(transpose(x[0]), transpose(x[1]))}; },
       {{{7, 4}}, {{3, 7}}},
       16},
      {"vector by matrix", product, {{{7}}, {{7, 3}}}, 16},
      {"matrix by vector", product, {{{4, 7}}, {{7}}}, 16},
      {"vector by vector", product, {{{7}}, {{7}}}, 16},
      {"batch by matrix", product, {{{2, 4, 7}}, {{7, 3}}}, 16},
      {"batch by batch", product, {{{2, 1, 4, 7}}, {{5, 7, 3}}}, 16},
      {"integer matmul", product, {{{4, 7}, ints(-5, 5)}, {{7, 3}, ints(-5, 5)}}},
      {"matmul of an empty sum", product, {{{4, 0}}, {{0, 3}}}},
      {"half matmul", product, {{{4, 7}, floats(-1, 1, Dtype::kBFloat16)}, {{7, 3}}}, 16},
      {"segmented_mm",
       [](F x) { return Arrays{segmented_mm(x[0], x[1], x[2])}; },
       {{{4, 7}}, {{7, 3}}, {{5, 2}, ints(0, 7)}},
       16},
      {"gather_mm",
       [](F x) { return Arrays{gather_mm(x[0], x[1], std::nullopt, x[2])}; },
       {{{3, 4, 7}}, {{5, 7, 2}}, {{2, 3}, ints(-5, 4)}},
       16},
      {"addmm",
       [](F x) { return Arrays{addmm(x[0], x[1], x[2], 0.5f, 2.f)}; },
       {{{3}}, {{4, 7}}, {{7, 3}}},
       32},
      {"inner and outer",
       [](F x) {
         return Arrays{inner(x[0], x[1]), outer(x[0], x[1])};
       },
       {{{7}}, {{7}}},
       16},
      {"tensordot",
       [](F x) {
         return Arrays{tensordot(x[0], x[1], {0, 2}, {1, 0})};
       },
       {{{2, 3, 4}}, {{4, 2, 5}}},
       32},
  };
  cases.push_back({"decompositions", decompositions, {{{3, 3}}, {{3, 2}}}, 256});
  cases.push_back({"fft",
                   [](F x) {
                     return Arrays{fft::fft(x[0], std::nullopt, 0), fft::rfft(x[0]), fft::irfft(x[0])};
                   },
                   {{{4, 6}}},
                   64});
  add_quantized(cases);
  add_rope(cases);
  add_attention(cases);
  add_caches(cases);
  add_convolutions(cases);
  add_random(cases);
  return cases;
}

}  // namespace lamina::testing
