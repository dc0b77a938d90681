#include "backend/cpu/fft.h"

#include "backend/reference/fft.h"
#include "view_testing.h"

namespace lamina {
namespace {

using namespace view_testing;
using Complex = std::complex<float>;

constexpr FftKind kKinds[] = {FftKind::kForward, FftKind::kInverse, FftKind::kRealForward,
                              FftKind::kRealInverse};

Dtype in_dtype(FftKind k) { return k == FftKind::kRealForward ? Dtype::kFloat32 : Dtype::kComplex64; }
Dtype out_dtype(FftKind k) { return k == FftKind::kRealInverse ? Dtype::kFloat32 : Dtype::kComplex64; }
int64_t in_length(FftKind k, int64_t n) { return k == FftKind::kRealInverse ? n / 2 + 1 : n; }
int64_t out_length(FftKind k, int64_t n) { return k == FftKind::kRealForward ? n / 2 + 1 : n; }

Complex number(const View& v, int64_t i) {
  return v.dtype == Dtype::kFloat32 ? Complex(value<float>(v, i)) : value<Complex>(v, i);
}

// The 2-norm of the difference within steps of rounding of the 2-norm: every stage rounds a few times, and
// there are log2(n) of them; a length with large primes takes three transforms of twice the length.
void expect_close(const View& got, const View& want, int64_t n) {
  double error = 0, size = 0;
  for (int64_t i = 0; i < got.size(); ++i) {
    error += std::norm(std::complex<double>(number(got, i)) - std::complex<double>(number(want, i)));
    size += std::norm(std::complex<double>(number(want, i)));
  }
  const double steps = 3 * (2 + std::log2(static_cast<double>(n)));
  EXPECT_LE(std::sqrt(error), 0x1p-24 * steps * std::sqrt(size)) << "n = " << n << ", " << describe(got);
}

void check(FftKind kind, Shape shape, size_t axis, int64_t n, Layout in_layout, Layout out_layout) {
  shape[axis] = in_length(kind, n);
  const Box in = random_box(in_dtype(kind), shape, in_layout, static_cast<uint64_t>(n), Values::kNormal);
  shape[axis] = out_length(kind, n);
  const Box got(out_dtype(kind), shape, out_layout), want(out_dtype(kind), shape);
  cpu::fft(kind, in, got, static_cast<int64_t>(axis), 0.5);
  reference::fft(kind, in, want, static_cast<int64_t>(axis), 0.5);
  SCOPED_TRACE(static_cast<int>(kind));
  expect_close(got, want, n);
  EXPECT_TRUE(got.guards_intact());
}

TEST(Fft, EveryShortLength) {
  for_each_target([] {
    for (int64_t n = 1; n <= 130; ++n) {
      for (FftKind kind : kKinds) check(kind, {3, 0}, 1, n, Layout::kDense, Layout::kDense);
    }
  });
}

TEST(Fft, LongerLengths) {
  for_each_target([] {
    // Products of small factors, primes, twice a prime, and neighbours of the bounds between methods.
    for (int64_t n :
         {256, 257, 258, 264, 338, 343, 360, 400, 511, 512, 514, 1000, 1009, 1024, 1155, 1331, 2048, 4099}) {
      for (FftKind kind : kKinds) check(kind, {1, 0}, 1, n, Layout::kDense, Layout::kDense);
    }
  });
}

TEST(Fft, LayoutsAndAxes) {
  for (int64_t n : {5, 16, 17, 300}) {
    for (FftKind kind : kKinds) {
      for (size_t axis : {0, 1, 2}) {
        const Shape shape = n > 100 ? Shape{2, 3, 2} : Shape{3, 7, 6};
        for (Layout in : kInLayouts) check(kind, shape, axis, n, in, Layout::kDense);
        for (Layout out : kOutLayouts) check(kind, shape, axis, n, Layout::kDense, out);
      }
    }
  }
}

TEST(Fft, BitsDependNeitherOnThreadsNorOnOtherLines) {
  for (int64_t n : {12, 61, 480, 1000, 1009, 4096, 40000}) {
    const Box in = random_box(Dtype::kComplex64, {35, n}, Layout::kDense, 3, Values::kNormal);
    const Box all(Dtype::kComplex64, {35, n});
    expect_same_for_all_thread_counts(all, [&] { cpu::fft(FftKind::kForward, in, all, 1, 1); });
    View line = in.view(), result = all.view();
    line.shape[0] = result.shape[0] = 1;
    line.data = &value<Complex>(in, 17 * n);
    result.data = &value<Complex>(all, 17 * n);
    const Box alone(Dtype::kComplex64, {1, n});
    cpu::fft(FftKind::kForward, line, alone, 1, 1);
    EXPECT_EQ(dense_bytes(alone), dense_bytes(result)) << "n = " << n;
  }
}

TEST(Fft, BitsDependNotOnLayout) {
  for_each_target([] {
    for (int64_t n : {12, 61, 75, 480, 1000, 1009, 4096, 40000}) {
      for (FftKind kind : kKinds) {
        const int64_t lines = n < 5000 ? 19 : 9;
        const Shape from{lines, in_length(kind, n)}, to{lines, out_length(kind, n)};
        const Box in = random_box(in_dtype(kind), from, Layout::kDense, 11, Values::kNormal);
        const Box turned(in_dtype(kind), from, Layout::kTransposed);
        for (int64_t i = 0; i < in.view().size(); ++i) {
          std::memcpy(element(turned, i), element(in, i), itemsize(in_dtype(kind)));
        }
        const Box want(out_dtype(kind), to), got(out_dtype(kind), to, Layout::kTransposed);
        cpu::fft(kind, in, want, 1, 0.5);
        cpu::fft(kind, turned, got, 1, 0.5);
        EXPECT_EQ(dense_bytes(got), dense_bytes(want)) << "n = " << n << ", kind " << static_cast<int>(kind);
        EXPECT_TRUE(got.guards_intact());
      }
    }
  });
}

TEST(Fft, NotANumberStaysInItsLine) {
  const Box in = random_box(Dtype::kFloat32, {4, 30}, Layout::kDense, 5, Values::kNormal);
  value<float>(in, 40) = std::numeric_limits<float>::quiet_NaN();
  const Box out(Dtype::kComplex64, {4, 16});
  cpu::fft(FftKind::kRealForward, in, out, 1, 1);
  for (int64_t i = 0; i < out.view().size(); ++i) {
    EXPECT_EQ(std::isnan(value<Complex>(out, i).real()), i / 16 == 1) << i;
  }
}

TEST(Fft, LongLineThereAndBack) {
  for (int64_t n : {int64_t{1} << 18, int64_t{3} << 16, int64_t{65537}}) {
    const Box in = random_box(Dtype::kComplex64, {n}, Layout::kDense, 7, Values::kNormal);
    const Box middle(Dtype::kComplex64, {n}), back(Dtype::kComplex64, {n});
    cpu::fft(FftKind::kForward, in, middle, 0, 1);
    cpu::fft(FftKind::kInverse, middle, back, 0, 1.0 / static_cast<double>(n));
    expect_close(back, in, n);
    // One frequency on its own: exp(2 pi i 5 j / n) has all its weight there.
    for (int64_t j = 0; j < n; ++j) {
      const double angle = 2 * M_PI * 5 * static_cast<double>(j) / static_cast<double>(n);
      value<Complex>(in, j) = Complex(std::polar(1.0, angle));
      value<Complex>(back, j) = j == 5 ? Complex(static_cast<float>(n)) : Complex();
    }
    cpu::fft(FftKind::kForward, in, middle, 0, 1);
    expect_close(middle, back, n);
  }
}

TEST(Fft, Empty) {
  const Box in(Dtype::kComplex64, {0, 8}), out(Dtype::kComplex64, {0, 8});
  cpu::fft(FftKind::kForward, in, out, 1, 1);
  EXPECT_TRUE(out.guards_intact());
}

}  // namespace
}  // namespace lamina
