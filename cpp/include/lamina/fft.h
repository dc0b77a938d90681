#pragma once

#include <optional>

#include "lamina/ops.h"

// Discrete Fourier transforms. Any real or complex input; spectra are complex64, real signals float32. A
// length n (lengths s) cuts or zero-pads the axis first.
namespace lamina::fft {

// Where the factor 1 / n goes: to the inverse, to both as its root, or to the forward transform.
enum class Norm : uint8_t { kBackward, kOrtho, kForward };
// One of "backward", "ortho", "forward"; throws ValueError.
Norm norm_from_name(const std::string& name, const char* op);

// Over axes (nullopt: all), the last one first; a real transform halves the last axis.
Array fftn(const Array& a, const std::optional<Shape>& s, const OptAxes& axes, Norm norm = Norm::kBackward);
Array ifftn(const Array& a, const std::optional<Shape>& s, const OptAxes& axes, Norm norm = Norm::kBackward);
Array rfftn(const Array& a, const std::optional<Shape>& s, const OptAxes& axes, Norm norm = Norm::kBackward);
Array irfftn(const Array& a, const std::optional<Shape>& s, const OptAxes& axes, Norm norm = Norm::kBackward);
Array fft(const Array& a, std::optional<int64_t> n = std::nullopt, int64_t axis = -1,
          Norm norm = Norm::kBackward);
Array ifft(const Array& a, std::optional<int64_t> n = std::nullopt, int64_t axis = -1,
           Norm norm = Norm::kBackward);
Array rfft(const Array& a, std::optional<int64_t> n = std::nullopt, int64_t axis = -1,
           Norm norm = Norm::kBackward);
Array irfft(const Array& a, std::optional<int64_t> n = std::nullopt, int64_t axis = -1,
            Norm norm = Norm::kBackward);

// Frequencies of the transform's results for samples d apart.
Array fftfreq(int64_t n, double d = 1);
Array rfftfreq(int64_t n, double d = 1);
// Frequency zero to the middle, and back.
Array fftshift(const Array& a, const OptAxes& axes = std::nullopt);
Array ifftshift(const Array& a, const OptAxes& axes = std::nullopt);

struct StftOptions {
  std::optional<int64_t> hop_length;  // n_fft / 4
  std::optional<int64_t> win_length;  // n_fft
  std::optional<Array> window;        // ones
  bool center = true;
  std::string pad_mode = "reflect";  // reflect, constant, edge, symmetric
  Norm norm = Norm::kBackward;
  std::optional<bool> onesided;  // for real signals
};
// (..., samples) to (..., frequencies, frames).
Array stft(const Array& x, int64_t n_fft, const StftOptions& options = {});
Array istft(const Array& spectra, std::optional<int64_t> n_fft, const StftOptions& options = {},
            std::optional<int64_t> length = std::nullopt);

}  // namespace lamina::fft
