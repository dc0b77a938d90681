#include "backend/reference/fft.h"

#include <complex>
#include <numbers>
#include <vector>

#include "backend/reference/layout.h"
#include "core/thread_pool.h"

namespace lamina::reference {
namespace {

using Complex = std::complex<double>;
using Complex32 = std::complex<float>;

// exp(sign 2 pi i k / n) for k = 0 .. n - 1.
std::vector<Complex> circle(int64_t n, double sign) {
  std::vector<Complex> out;
  for (int64_t k = 0; k < n; ++k) {
    out.push_back(
        std::polar(1.0, sign * 2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n)));
  }
  return out;
}

// The n samples of a line: of half a spectrum, the mirrored whole.
std::vector<Complex> load(FftKind kind, const char* in, int64_t step, int64_t n) {
  std::vector<Complex> x(static_cast<size_t>(n));
  for (int64_t j = 0; j < n; ++j) {
    const bool mirrored = kind == FftKind::kRealInverse && j > n / 2;
    const char* p = in + (mirrored ? n - j : j) * step;
    Complex& to = x[static_cast<size_t>(j)];
    if (kind == FftKind::kRealForward) {
      to = static_cast<double>(*reinterpret_cast<const float*>(p));
      continue;
    }
    to = Complex(*reinterpret_cast<const Complex32*>(p));
    if (mirrored) to = std::conj(to);
    if (kind == FftKind::kRealInverse && (j == 0 || 2 * j == n)) to = to.real();
  }
  return x;
}

}  // namespace

void fft(FftKind kind, const View& in, const View& out, int64_t axis, double scale) {
  const auto a = static_cast<size_t>(axis);
  const View from = drop_axis(in, axis), to = drop_axis(out, axis);
  const auto loop = collapse_views<2>({&from, &to});
  if (out.size() == 0) return;
  const bool inverse = kind == FftKind::kInverse || kind == FftKind::kRealInverse;
  const int64_t n = kind == FftKind::kRealForward ? in.shape[a] : out.shape[a];
  const std::vector<Complex> roots = circle(n, inverse ? 1 : -1);
  const int64_t in_step = in.strides[a] * static_cast<int64_t>(itemsize(in.dtype));
  const int64_t out_step = out.strides[a] * static_cast<int64_t>(itemsize(out.dtype));
  parallel_ranges(loop.size(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const Odometer at(loop.shape, loop.all_strides(), line);
      const std::vector<Complex> x = load(kind, static_cast<const char*>(in.data) + at.offset(0), in_step, n);
      for (int64_t k = 0; k < out.shape[a]; ++k) {
        Complex sum = 0;
        for (int64_t j = 0; j < n; ++j) {
          sum += x[static_cast<size_t>(j)] * roots[static_cast<size_t>(j * k % n)];
        }
        char* p = static_cast<char*>(out.data) + at.offset(1) + k * out_step;
        if (kind == FftKind::kRealInverse) {
          *reinterpret_cast<float*>(p) = static_cast<float>(sum.real() * scale);
        } else {
          *reinterpret_cast<Complex32*>(p) = Complex32(sum * scale);
        }
      }
    }
  });
}

}  // namespace lamina::reference
