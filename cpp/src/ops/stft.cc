#include "lamina/fft.h"
#include "ops/common.h"

namespace lamina::fft {
namespace {

// The lengths that both directions share, checked.
struct Frames {
  int64_t n_fft, hop;
  Array window;  // (n_fft,)
};

Frames make_frames(int64_t n_fft, const StftOptions& o, const char* op) {
  if (n_fft < 1) fail<ValueError>(op, "n_fft must be positive, got {}", n_fft);
  const int64_t hop = o.hop_length.value_or(n_fft / 4);
  if (hop < 1) fail<ValueError>(op, "hop_length must be positive, got {}", hop);
  if (o.window && o.window->ndim() != 1) {
    fail<ValueError>(op, "wants a window of one axis, got shape {}", o.window->shape());
  }
  const int64_t length = o.window ? o.window->size() : o.win_length.value_or(n_fft);
  if (length < 0 || length > n_fft) {
    fail<ValueError>(op, "wants a window of at most n_fft = {} samples, got {}", n_fft, length);
  }
  Array window = o.window ? *o.window : ones({length});
  const std::pair<int64_t, int64_t> around{(n_fft - length) / 2, n_fft - length - (n_fft - length) / 2};
  window = pad(window, std::span(&around, 1), Array(int64_t{0}, window.dtype()));
  return {n_fft, hop, astype(window, is_complex(window.dtype()) ? Dtype::kComplex64 : Dtype::kFloat32)};
}

Array centered(const Array& x, int64_t width, const std::string& mode) {
  std::vector<std::pair<int64_t, int64_t>> widths(x.shape().size(), {0, 0});
  widths.back() = {width, width};
  if (mode == "constant") return pad(x, widths, Array(int64_t{0}, x.dtype()));
  if (mode == "reflect") return pad(x, widths, PadMode::kReflect);
  if (mode == "edge") return pad(x, widths, PadMode::kEdge);
  if (mode == "symmetric") return pad(x, widths, PadMode::kSymmetric);
  fail<ValueError>("stft", "pad_mode must be 'reflect', 'constant', 'edge' or 'symmetric', got '{}'", mode);
}

// (..., samples) as (..., frames, n_fft), without a copy.
Array framed(const Array& x, int64_t n_fft, int64_t hop) {
  const int64_t samples = x.shape(-1), frames = 1 + (samples - n_fft) / hop;
  Shape shape = x.shape();
  shape.back() = frames;
  shape.push_back(n_fft);
  Strides strides = row_major_strides(x.shape());
  strides.back() = hop;
  strides.push_back(1);
  return as_strided(x, shape, strides, 0);
}

// Frames (..., frames, n_fft) added up at their places: (..., samples).
Array overlap_add(const Array& frames, int64_t hop) {
  const int64_t count = frames.shape(-2), n = frames.shape(-1), samples = n + hop * (count - 1);
  Shape batch(frames.shape().begin(), frames.shape().end() - 2);
  const Array starts = multiply(arange(0, count, 1, Dtype::kInt64), Array(hop, Dtype::kInt64));
  const Array place = add(expand_dims(starts, {1}), arange(0, n, 1, Dtype::kInt64));
  const Shape flat{num_elements(batch), count * n};
  const Array lines = transpose(reshape(frames, flat));
  const Array index = reshape(place, {count * n});
  const Array sums = scatter(zeros({samples, flat[0]}, frames.dtype()), std::span(&index, 1),
                             expand_dims(lines, {1}), {0}, ScatterMode::kAdd);
  batch.push_back(samples);
  return reshape(transpose(sums), batch);
}

Array part(const Array& x, int64_t begin, int64_t end) {
  Shape start(x.shape().size(), 0), stop = x.shape();
  start.back() = begin;
  stop.back() = end;
  return slice(x, start, stop);
}

}  // namespace

Array stft(const Array& x, int64_t n_fft, const StftOptions& o) {
  const char* op = "stft";
  if (x.ndim() < 1) fail<ValueError>(op, "wants at least one axis, got shape ()");
  const Frames f = make_frames(n_fft, o, op);
  Array signal = is_inexact(x.dtype()) ? x : astype(x, Dtype::kFloat32);
  if (o.center) signal = centered(signal, n_fft / 2, o.pad_mode);
  if (signal.shape(-1) < n_fft) {
    fail<ValueError>(op, "wants at least n_fft = {} samples, got {}", n_fft, signal.shape(-1));
  }
  const Array frames = multiply(framed(signal, n_fft, f.hop), f.window);
  const bool half = o.onesided.value_or(!is_complex(x.dtype()));
  const Array spectra = half ? rfft(frames, std::nullopt, -1, o.norm) : fft(frames, std::nullopt, -1, o.norm);
  return swapaxes(spectra, -1, -2);
}

Array istft(const Array& spectra, std::optional<int64_t> n_fft, const StftOptions& o,
            std::optional<int64_t> length) {
  const char* op = "istft";
  if (spectra.ndim() < 2) {
    fail<ValueError>(op, "wants axes for frequencies and frames, got shape {}", spectra.shape());
  }
  if (spectra.shape(-1) == 0) fail<ValueError>(op, "wants at least one frame, got shape {}", spectra.shape());
  if (length && *length < 0) fail<ValueError>(op, "length must not be negative, got {}", *length);
  const bool half = o.onesided.value_or(true);
  const int64_t bins = spectra.shape(-2);
  const Frames f = make_frames(n_fft.value_or(half ? 2 * (bins - 1) : bins), o, op);
  const Array lines = swapaxes(spectra, -1, -2);
  const Array frames = half ? irfft(lines, f.n_fft, -1, o.norm) : ifft(lines, f.n_fft, -1, o.norm);
  const Array energy = broadcast_to(square(abs(f.window)), {spectra.shape(-1), f.n_fft});
  const Array signal = overlap_add(multiply(frames, f.window), f.hop);
  // Where hardly any window reaches, the sum is as good as nothing.
  const Array envelope = maximum(overlap_add(energy, f.hop), Array(1e-8, Dtype::kFloat32));
  Array out = divide(half ? signal : real(signal), envelope);
  const int64_t edge = o.center ? f.n_fft / 2 : 0, samples = out.shape(-1);
  if (!length) return part(out, edge, std::max(edge, samples - edge));
  // A length may reach into the padding behind the signal, and then into zeros.
  out = part(out, edge, std::min(edge + *length, samples));
  std::vector<std::pair<int64_t, int64_t>> widths(out.shape().size(), {0, 0});
  widths.back().second = *length - out.shape(-1);
  return pad(out, widths, Array(int64_t{0}, out.dtype()));
}

}  // namespace lamina::fft
