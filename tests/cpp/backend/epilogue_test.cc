#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/fail.h"
#include "graph/node.h"
#include "lamina/ops.h"
#include "lamina/quant.h"

namespace lamina {
namespace {

Array random_array(const Shape& shape, Dtype dtype, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = normal(rng);
  const Array a = astype(Array(std::span<const float>(values), shape), dtype);
  a.eval();
  return a;
}

// The kernel of a lazy product: its result as it writes it, against the tiles that it hands out.
void expect_tiles_make_the_result(const Array& product, const std::string& what) {
  const Node& n = *product.node();
  const KernelEntry& entry = cpu_backend().kernels[static_cast<size_t>(n.op)];
  ASSERT_NE(entry.takes_epilogue, nullptr) << what;
  ASSERT_TRUE(entry.takes_epilogue(n.dtype)) << what;
  std::vector<View> in;
  for (Node* i : n.inputs) {
    Array(i).eval();
    in.push_back(i->view());
  }
  View none;
  none.dtype = n.dtype;
  none.shape = n.shape;
  none.strides = row_major_strides(n.shape);
  const int64_t columns = n.shape.back();
  std::vector<std::atomic<int>> seen(static_cast<size_t>(none.size()));
  std::vector<float> tiles(static_cast<size_t>(none.size()));
  const auto apply = [&](float* tile, int64_t row0, int64_t rows, int64_t col0, int64_t cols, int64_t ld) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        const auto at = static_cast<size_t>((row0 + i) * columns + col0 + j);
        ++seen.at(at);
        tiles[at] = tile[i * ld + j];
        tile[i * ld + j] = -1;  // a tile is the epilogue's own
      }
    }
  };
  const Epilogue epilogue{apply, 16};
  entry.run({n.op, n.params.get(), in, std::span(&none, 1), &epilogue});
  for (size_t i = 0; i < seen.size(); ++i) ASSERT_EQ(seen[i], 1) << what << " element " << i;
  const Shape shape = n.shape;
  product.eval();
  const Array plain = astype(product, Dtype::kFloat32);
  const Array sums =
      astype(astype(Array(std::span<const float>(tiles), shape), product.dtype()), Dtype::kFloat32);
  for (size_t i = 0; i < tiles.size(); ++i) {
    ASSERT_EQ(sums.data<float>()[i], plain.data<float>()[i]) << what << " element " << i;
  }
}

TEST(Epilogue, EveryPathOfMatmul) {
  std::mt19937 rng(1);
  struct Case {
    Shape a, b;
    bool a_turned, b_turned;  // stored as the transpose
  };
  const std::vector<Case> cases = {
      {{1, 300}, {300, 1100}, false, false},
      {{1, 300}, {300, 1100}, false, true},
      {{5, 40}, {40, 300}, false, false},
      {{16, 40}, {40, 300}, false, true},
      {{300, 40}, {40, 3}, false, false},
      {{300, 40}, {40, 1}, false, true},
      {{300, 40}, {40, 7}, true, false},
      {{130, 300}, {300, 290}, false, false},
      {{130, 600}, {600, 290}, true, true},
      {{500, 5000}, {5000, 9}, true, false},
      {{20, 9000}, {9000, 33}, true, false},
      {{5, 0}, {0, 7}, false, false},
      {{0, 4}, {4, 7}, false, false},
      {{4, 4}, {4, 0}, false, false},
      {{6, 3, 4}, {6, 4, 5}, false, false},
      {{3, 200, 90}, {3, 90, 70}, false, false},
      {{40, 20, 30}, {40, 30, 20}, false, true},
      {{7, 11, 30}, {30, 20}, false, false},
      {{2, 3, 4, 5}, {3, 5, 6}, false, false},
  };
  auto stored = [&rng](Shape s, bool turned, Dtype t) {
    if (!turned) return random_array(s, t, rng);
    Axes axes;
    for (size_t i = 0; i < s.size(); ++i) axes.push_back(static_cast<int64_t>(i));
    std::swap(axes[s.size() - 1], axes[s.size() - 2]);
    std::swap(s[s.size() - 1], s[s.size() - 2]);
    const Array out = transpose(random_array(s, t, rng), axes);
    out.eval();
    return out;
  };
  for (Dtype t : {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat16}) {
    for (const Case& c : cases) {
      const Array a = stored(c.a, c.a_turned, t), b = stored(c.b, c.b_turned, t);
      expect_tiles_make_the_result(matmul(a, b), fmt::format("{} {} {} {}", t, c.a, c.b, c.b_turned));
    }
  }
}

TEST(Epilogue, EveryPathOfQuantizedMatmul) {
  std::mt19937 rng(2);
  const std::vector<QuantSpec> specs = {
      {QuantFormat::kAffine, 64, 4}, {QuantFormat::kAffine, 32, 3}, {QuantFormat::kAffine, 128, 8},
      {QuantFormat::kMxfp4, 32, 4},  {QuantFormat::kNvfp4, 16, 4},  {QuantFormat::kMxfp8, 32, 8},
  };
  for (const QuantSpec& spec : specs) {
    const std::vector<Array> parts = quantize(random_array({256, 384}, Dtype::kFloat32, rng), spec);
    const std::optional<Array> biases = parts.size() > 2 ? std::optional(parts[2]) : std::nullopt;
    for (const Shape& rows : {Shape{1}, Shape{3}, Shape{40}, Shape{600}, Shape{0}, Shape{2, 5}}) {
      for (bool transposed : {true, false}) {
        for (QuantizedMode mode : {QuantizedMode::kExact, QuantizedMode::kInt8}) {
          Shape shape = rows;
          shape.push_back(transposed ? 384 : 256);
          const Array x = random_array(shape, rows[0] == 3 ? Dtype::kBFloat16 : Dtype::kFloat32, rng);
          expect_tiles_make_the_result(
              quantized_matmul(x, parts[0], parts[1], biases, spec, transposed, mode),
              fmt::format("format {} bits {} x {} transposed {} mode {}", static_cast<int>(spec.format),
                          spec.bits, shape, transposed, static_cast<int>(mode)));
        }
      }
    }
  }
}

TEST(Epilogue, BatchesOfQuantizedMatrices) {
  std::mt19937 rng(3);
  const QuantSpec spec{QuantFormat::kAffine, 32, 4};
  const std::vector<Array> parts = quantize(random_array({3, 40, 64}, Dtype::kFloat32, rng), spec);
  for (int64_t m : {1, 7, 90}) {
    const Array x = random_array({2, 3, m, 64}, Dtype::kFloat32, rng);
    expect_tiles_make_the_result(
        quantized_matmul(x, parts[0], parts[1], parts[2], spec, true, QuantizedMode::kExact),
        fmt::format("{} rows", m));
  }
}

TEST(Epilogue, EveryPathOfConvolution) {
  std::mt19937 rng(4);
  struct Case {
    const char* what;
    Shape x, w;
    ConvOptions options;
  };
  auto with = [](Shape stride, Shape padding, Shape dilation, int64_t groups) {
    ConvOptions o;
    o.stride = std::move(stride), o.padding_lo = o.padding_hi = std::move(padding);
    o.input_dilation = std::move(dilation), o.groups = groups;
    return o;
  };
  const std::vector<Case> cases = {
      {"many outputs", {2, 20, 18, 24}, {40, 3, 3, 24}, with({1, 1}, {1, 1}, {1, 1}, 1)},
      {"groups", {2, 9, 9, 40}, {60, 3, 3, 20}, with({2, 1}, {1, 0}, {1, 1}, 2)},
      {"few outputs", {2, 40, 30, 5}, {7, 3, 3, 5}, with({1, 1}, {1, 1}, {1, 1}, 1)},
      {"one output", {2, 40, 30, 5}, {1, 3, 3, 5}, with({1, 1}, {1, 1}, {1, 1}, 1)},
      {"few outputs of groups", {1, 12, 10, 8}, {12, 3, 3, 2}, with({1, 2}, {1, 1}, {1, 1}, 4)},
      {"pointwise", {2, 7, 9, 20}, {30, 1, 1, 20}, with({1, 1}, {0, 0}, {1, 1}, 1)},
      {"pointwise groups", {2, 7, 9, 20}, {32, 1, 1, 5}, with({1, 1}, {0, 0}, {1, 1}, 4)},
      {"depthwise", {2, 30, 20, 24}, {24, 3, 3, 1}, with({1, 1}, {1, 1}, {1, 1}, 24)},
      {"depthwise strides", {2, 30, 20, 5}, {5, 3, 3, 1}, with({2, 3}, {1, 1}, {1, 1}, 5)},
      {"signal", {3, 700, 1}, {1, 5, 1}, with({1}, {2}, {1}, 1)},
      {"phases", {1, 9, 8, 6}, {20, 3, 3, 6}, with({1, 1}, {2, 2}, {2, 2}, 1)},
      {"phases of few outputs", {1, 9, 8, 6}, {4, 3, 3, 6}, with({1, 1}, {2, 2}, {2, 2}, 1)},
      {"depthwise phases", {1, 9, 8, 6}, {6, 3, 3, 1}, with({1, 1}, {2, 2}, {2, 2}, 6)},
      {"gaps", {1, 9, 8, 6}, {20, 1, 1, 6}, with({1, 1}, {1, 1}, {3, 2}, 1)},
      {"depthwise gaps", {1, 9, 8, 6}, {6, 1, 1, 1}, with({1, 1}, {1, 1}, {3, 2}, 6)},
      {"no channels", {2, 5, 4, 0}, {3, 2, 2, 0}, with({1, 1}, {0, 0}, {1, 1}, 1)},
      {"no images", {0, 5, 4, 2}, {3, 2, 2, 2}, with({1, 1}, {0, 0}, {1, 1}, 1)},
      {"three axes", {1, 5, 6, 7, 4}, {18, 2, 2, 2, 4}, with({1, 1, 1}, {1, 1, 1}, {1, 1, 1}, 1)},
  };
  for (const Case& c : cases) {
    const Array x = random_array(c.x, Dtype::kFloat32, rng), w = random_array(c.w, Dtype::kFloat32, rng);
    expect_tiles_make_the_result(conv_general(x, w, c.options), c.what);
  }
  const KernelEntry& entry = cpu_backend().kernels[static_cast<size_t>(OpId::Convolution)];
  EXPECT_FALSE(entry.takes_epilogue(Dtype::kBFloat16));
}

TEST(Epilogue, OnlySumsInFloat32TakeOne) {
  for (OpId op : {OpId::Matmul, OpId::QuantizedMatmul, OpId::Convolution}) {
    const KernelEntry& entry = cpu_backend().kernels[static_cast<size_t>(op)];
    for (Dtype t : {Dtype::kFloat64, Dtype::kComplex64, Dtype::kInt32, Dtype::kBool}) {
      EXPECT_FALSE(entry.takes_epilogue(t));
    }
  }
  EXPECT_EQ(cpu_backend().kernels[static_cast<size_t>(OpId::Sort)].takes_epilogue, nullptr);
  EXPECT_EQ(reference_backend().kernels[static_cast<size_t>(OpId::Matmul)].takes_epilogue, nullptr);
}

}  // namespace
}  // namespace lamina
