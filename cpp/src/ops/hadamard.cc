#include <bit>
#include <cmath>

#include "ops/common.h"

namespace lamina {
namespace {

// Hadamard matrices of the orders that are not powers of two, a row a word, most significant bit first, a set
// bit for -1 (N. J. A. Sloane's library of Hadamard matrices: had.12, had.20, had.28.pal2).
constexpr uint32_t kOrder12[] = {0x400, 0xd55, 0x13c, 0x769, 0x04f, 0x5da,
                                 0x313, 0x676, 0x3c4, 0x69d, 0x0f1, 0x5a7};
constexpr uint32_t kOrder20[] = {0x7bcc9, 0xbdc74, 0xdee2a, 0xef705, 0xf7992, 0x83ec6, 0x45d63,
                                 0x26eb1, 0x17758, 0x0f9ac, 0xca5f0, 0xe52e8, 0x72b64, 0x397a2,
                                 0x9cbc1, 0xb65ef, 0x5f2f7, 0xabb7b, 0xd1fbd, 0x6cfde};
constexpr uint32_t kOrder28[] = {0x7e796b3, 0xbe3eb59, 0xdf1d5ec, 0xef8eab6, 0xf7c751b, 0xfbe1acd, 0xfcf2d66,
                                 0xc2fe62d, 0xe17d356, 0x71bc9ab, 0x39de4d5, 0x1def26a, 0x0ff5935, 0x87f8cda,
                                 0xa4cdfe1, 0x5366ff0, 0xa9b37b8, 0x54dbb9c, 0x2a6fd8e, 0x9537e87, 0x4b9bf43,
                                 0x9948f3f, 0x4ca47df, 0x27523ef, 0x92ab1f7, 0xc8578fb, 0x652bc7d, 0x3295e7e};

// Powers of two are applied in factors of at most this order: one matrix product each.
constexpr int64_t kLargestFactor = 32;

std::span<const uint32_t> base_rows(int64_t order) {
  switch (order) {
    case 12: return kOrder12;
    case 20: return kOrder20;
    case 28: return kOrder28;
    default: return {};
  }
}

// The matrix of order n, 2 <= n, as [n, n]; Sylvester's for powers of two.
Array hadamard_matrix(int64_t n, Dtype dtype) {
  const std::span<const uint32_t> rows = base_rows(n);
  std::vector<float> entries;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const bool minus = rows.empty() ? std::popcount(static_cast<uint64_t>(i & j)) % 2 == 1
                                      : (rows[static_cast<size_t>(i)] >> (n - 1 - j)) % 2 == 1;
      entries.push_back(minus ? -1.0f : 1.0f);
    }
  }
  return astype(Array(std::span<const float>(entries), {n, n}), dtype);
}

// Orders whose matrices, multiplied as Kronecker factors, give the one of order n; empty where there is none.
std::vector<int64_t> factors_of(int64_t n) {
  std::vector<int64_t> factors;
  int64_t rest = n;
  for (int64_t base : {28, 20, 12}) {
    if (n % base == 0 && std::has_single_bit(static_cast<uint64_t>(n / base))) {
      factors.push_back(base);
      rest = n / base;
      break;
    }
  }
  if (!std::has_single_bit(static_cast<uint64_t>(rest))) return {};
  while (rest > 1) {
    factors.push_back(std::min(rest, kLargestFactor));
    rest /= factors.back();
  }
  return factors;
}

}  // namespace

Array hadamard_transform(const Array& a, std::optional<double> scale) {
  if (is_complex(a.dtype())) fail<DtypeError>("hadamard_transform", "wants real numbers, got {}", a.dtype());
  if (a.size() == 0)
    fail<ShapeError>("hadamard_transform", "wants elements, got an array of shape {}", a.shape());
  const Dtype out = to_inexact(a.dtype());
  const int64_t n = a.ndim() == 0 ? 1 : a.shape().back();
  const std::vector<int64_t> factors = factors_of(n);
  if (factors.empty() && n != 1) {
    fail<ShapeError>("hadamard_transform",
                     "wants a last axis of m * 2^k elements with m in (1, 12, 20, 28), got {}", n);
  }
  const Dtype t = out == Dtype::kFloat64 ? out : Dtype::kFloat32;
  Array x = astype(a, t);
  int64_t right = n;
  for (int64_t order : factors) {
    right /= order;
    const Array h = hadamard_matrix(order, t);
    x = right == 1 ? matmul(reshape(x, {-1, order}), transpose(h))
                   : matmul(h, reshape(x, {-1, order, right}));
  }
  const double factor = scale.value_or(1 / std::sqrt(static_cast<double>(n)));
  return astype(multiply(reshape(x, a.shape()), Array(factor, t)), out);
}

}  // namespace lamina
