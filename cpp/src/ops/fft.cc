#include "lamina/fft.h"

#include <algorithm>
#include <cmath>

#include "ops/common.h"

namespace lamina::fft {
namespace {

// The axes to transform in order, distinct, and the lengths their signals have.
struct Plan {
  Axes axes;
  Shape lengths;
};

int64_t axis_in_range(int64_t axis, const Array& a, const char* op) {
  if (axis < -a.ndim() || axis >= a.ndim()) {
    fail<IndexError>(op, "axis {} is out of bounds for an array of shape {}", axis, a.shape());
  }
  return axis < 0 ? axis + a.ndim() : axis;
}

Plan make_plan(const Array& a, const std::optional<Shape>& s, const OptAxes& axes, bool to_real,
               const char* op) {
  if (s && !axes) fail<ValueError>(op, "lengths s want axes, got None");
  Plan p;
  for (int64_t i = 0; !axes && i < a.ndim(); ++i) p.axes.push_back(i);
  for (size_t i = 0; axes && i < axes->size(); ++i) {
    p.axes.push_back(axis_in_range((*axes)[i], a, op));
    if (std::find(p.axes.begin(), p.axes.end() - 1, p.axes.back()) != p.axes.end() - 1) {
      fail<ValueError>(op, "axes {} name an axis twice", *axes);
    }
  }
  if (s && s->size() != p.axes.size()) {
    fail<ValueError>(op, "wants one length for each axis, got {} for axes {}", *s, p.axes);
  }
  for (size_t i = 0; i < p.axes.size(); ++i) {
    const int64_t have = a.shape()[static_cast<size_t>(p.axes[i])];
    const bool halved = to_real && i + 1 == p.axes.size();
    p.lengths.push_back(s ? (*s)[i] : halved ? 2 * (have - 1) : have);
    if (p.lengths.back() < 1) {
      fail<ValueError>(op, "wants at least one sample along axis {}, got length {} for shape {}", p.axes[i],
                       p.lengths.back(), a.shape());
    }
  }
  return p;
}

// The first `length` elements along the axis, zeros behind them where there are fewer.
Array resized(const Array& a, int64_t axis, int64_t length) {
  const auto at = static_cast<size_t>(axis);
  if (a.shape()[at] == length) return a;
  if (a.shape()[at] > length) {
    Shape start(a.shape().size(), 0), stop = a.shape();
    stop[at] = length;
    return slice(a, start, stop);
  }
  std::vector<std::pair<int64_t, int64_t>> widths(a.shape().size(), {0, 0});
  widths[at].second = length - a.shape()[at];
  return pad(a, widths, Array(int64_t{0}, a.dtype()));
}

double scale_of(int64_t n, Norm norm, bool inverse) {
  if (norm == Norm::kOrtho) return 1 / std::sqrt(static_cast<double>(n));
  return (norm == Norm::kForward) != inverse ? 1 / static_cast<double>(n) : 1;
}

// One pass along an axis whose signal has n samples.
Array transform(const Array& a, FftKind kind, int64_t axis, int64_t n, Norm norm) {
  const bool half_in = kind == FftKind::kRealInverse, half_out = kind == FftKind::kRealForward;
  const bool inverse = kind == FftKind::kInverse || half_in;
  const Array line = resized(a, axis, half_in ? n / 2 + 1 : n);
  Array in = astype(line, half_out ? Dtype::kFloat32 : Dtype::kComplex64);
  if (half_out && is_complex(a.dtype())) in = real(line);
  Shape shape = in.shape();
  shape[static_cast<size_t>(axis)] = half_out ? n / 2 + 1 : n;
  return make_node(OpId::Fft, half_in ? Dtype::kFloat32 : Dtype::kComplex64, shape, {in},
                   make_params(FftParams{kind, axis, scale_of(n, norm, inverse)}));
}

Array complex_passes(const Array& a, const Plan& p, size_t count, FftKind kind, Norm norm) {
  Array out = a;
  for (size_t i = count; i-- > 0;) out = transform(out, kind, p.axes[i], p.lengths[i], norm);
  return out;
}

Array shift(const Array& a, const OptAxes& axes, bool back, const char* op) {
  Shape by;
  Axes over;
  for (int64_t i = 0; !axes && i < a.ndim(); ++i) over.push_back(i);
  for (size_t i = 0; axes && i < axes->size(); ++i) over.push_back(axis_in_range((*axes)[i], a, op));
  for (int64_t i : over) {
    const int64_t n = a.shape()[static_cast<size_t>(i)];
    by.push_back(back ? -(n / 2) : n / 2);
  }
  return over.empty() ? a : roll(a, by, over);
}

void check_frequencies(int64_t n, double d, const char* op) {
  if (n < 1) fail<ValueError>(op, "n must be positive, got {}", n);
  if (!(d != 0)) fail<ValueError>(op, "d must not be zero, got {}", d);
}

}  // namespace

Norm norm_from_name(const std::string& name, const char* op) {
  if (name == "backward") return Norm::kBackward;
  if (name == "ortho") return Norm::kOrtho;
  if (name == "forward") return Norm::kForward;
  fail<ValueError>(op, "norm must be 'backward', 'ortho' or 'forward', got '{}'", name);
}

Array fftn(const Array& a, const std::optional<Shape>& s, const OptAxes& axes, Norm norm) {
  const Plan p = make_plan(a, s, axes, false, "fftn");
  return complex_passes(a, p, p.axes.size(), FftKind::kForward, norm);
}

Array ifftn(const Array& a, const std::optional<Shape>& s, const OptAxes& axes, Norm norm) {
  const Plan p = make_plan(a, s, axes, false, "ifftn");
  return complex_passes(a, p, p.axes.size(), FftKind::kInverse, norm);
}

Array rfftn(const Array& a, const std::optional<Shape>& s, const OptAxes& axes, Norm norm) {
  const Plan p = make_plan(a, s, axes, false, "rfftn");
  if (p.axes.empty()) return a;
  const Array half = transform(a, FftKind::kRealForward, p.axes.back(), p.lengths.back(), norm);
  return complex_passes(half, p, p.axes.size() - 1, FftKind::kForward, norm);
}

Array irfftn(const Array& a, const std::optional<Shape>& s, const OptAxes& axes, Norm norm) {
  const Plan p = make_plan(a, s, axes, true, "irfftn");
  if (p.axes.empty()) return a;
  const Array half = complex_passes(a, p, p.axes.size() - 1, FftKind::kInverse, norm);
  return transform(half, FftKind::kRealInverse, p.axes.back(), p.lengths.back(), norm);
}

#define LAMINA_FFT_1D(name, many)                                                  \
  Array name(const Array& a, std::optional<int64_t> n, int64_t axis, Norm norm) {  \
    return many(a, n ? std::optional(Shape{*n}) : std::nullopt, Axes{axis}, norm); \
  }
LAMINA_FFT_1D(fft, fftn)
LAMINA_FFT_1D(ifft, ifftn)
LAMINA_FFT_1D(rfft, rfftn)
LAMINA_FFT_1D(irfft, irfftn)
#undef LAMINA_FFT_1D

Array fftfreq(int64_t n, double d) {
  check_frequencies(n, d, "fftfreq");
  const Array count = concatenate(
      std::vector<Array>{arange(0, (n + 1) / 2, 1, Dtype::kInt64), arange(-(n / 2), 0, 1, Dtype::kInt64)});
  const Array step(1 / (static_cast<double>(n) * d), Dtype::kFloat64);
  return astype(multiply(astype(count, Dtype::kFloat64), step), Dtype::kFloat32);
}

Array rfftfreq(int64_t n, double d) {
  check_frequencies(n, d, "rfftfreq");
  const Array count = arange(0, n / 2 + 1, 1, Dtype::kInt64);
  const Array step(1 / (static_cast<double>(n) * d), Dtype::kFloat64);
  return astype(multiply(astype(count, Dtype::kFloat64), step), Dtype::kFloat32);
}

Array fftshift(const Array& a, const OptAxes& axes) { return shift(a, axes, false, "fftshift"); }
Array ifftshift(const Array& a, const OptAxes& axes) { return shift(a, axes, true, "ifftshift"); }

}  // namespace lamina::fft
