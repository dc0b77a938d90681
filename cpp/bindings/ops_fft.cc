#include "lamina/fft.h"

#include <fmt/format.h>

#include "bindings/ops.h"

namespace lamina::bind {
namespace {

using Length = std::optional<int64_t>;
using Lengths = std::optional<Shape>;

template <Array (*kTransform)(const Array&, Length, int64_t, fft::Norm)>
struct OneAxis {
  Array operator()(const Array& a, Length n, int64_t axis, const std::string& norm) const {
    return kTransform(a, n, axis, fft::norm_from_name(norm, "fft"));
  }
};
// kTwo: the function of two axes by default, which is another one in Python.
template <Array (*kTransform)(const Array&, const Lengths&, const OptAxes&, fft::Norm), bool kTwo>
struct ManyAxes {
  Array operator()(const Array& a, const Lengths& s, const OptAxes& axes, const std::string& norm) const {
    return kTransform(a, s, axes, fft::norm_from_name(norm, "fft"));
  }
};

constexpr const char* kNorm =
    "@norm Where the factor goes: 'backward' (1/n to the inverse), 'ortho' (1/sqrt(n) to both), 'forward'.\n"
    "@raises ValueError For no samples at all, or another norm.\n@raises IndexError For an axis out of "
    "bounds.\n";

template <class F>
void def_one(const Scope& m, const char* name, const char* summary, const char* length, const char* example,
             F f) {
  def(m,
      fmt::format(
          "{}(a: array, n: int | None = None, axis: int = -1, norm: str = 'backward', stream: StreamOrDevice "
          "= None) -> array",
          name),
      fmt::format("{}\n@a Input of any dtype; computed in complex64.\n@n {}\n{}{}", summary, length, kNorm,
                  example),
      f);
}

template <class F>
void def_many(const Scope& m, const char* name, bool two, const char* summary, const char* example, F f) {
  def(m,
      fmt::format("{}(a: array, s: Sequence[int] | None = None, axes: Sequence[int] | None = {}, norm: str = "
                  "'backward', stream: StreamOrDevice = None) -> array",
                  name, two ? "(-2, -1)" : "None"),
      fmt::format(
          "{}\n@a Input of any dtype; computed in complex64.\n"
          "@s Samples of each axis of the signal: axes are cut, or filled up with zeros.\n@axes Axes to "
          "transform{}.\n{}{}",
          summary, two ? "" : ", all by default", kNorm, example),
      f);
}

constexpr const char* kSamples = "Samples to transform: the axis is cut, or filled up with zeros.";

void add_transforms_of_one_axis(const Scope& m) {
  def_one(m, "fft", "The discrete Fourier transform along an axis, complex64.", kSamples,
          ">>> mx.fft.fft(mx.array([1.0, 0.0, 0.0]))\narray([1+0j, 1+0j, 1+0j], dtype=complex64)\n",
          OneAxis<fft::fft>{});
  def_one(m, "ifft", "The inverse of `fft`, complex64.", kSamples,
          ">>> mx.fft.ifft(mx.array([2.0, 0.0]))\narray([1+0j, 1+0j], dtype=complex64)\n",
          OneAxis<fft::ifft>{});
  def_one(m, "rfft", "The first n // 2 + 1 numbers of the transform of a real signal, complex64.", kSamples,
          ">>> mx.abs(mx.fft.rfft(mx.ones(4)))\narray([4, 0, 0], dtype=float32)\n", OneAxis<fft::rfft>{});
  def_one(m, "irfft", "The real signal of `rfft`'s result, float32.",
          "Samples of the signal; 2 * (length of the axis - 1) by default.",
          ">>> mx.fft.irfft(mx.array([4.0, 0.0, 0.0]))\narray([1, 1, 1, 1], dtype=float32)\n",
          OneAxis<fft::irfft>{});
}

void add_transforms_of_many_axes(const Scope& m) {
  def_many(m, "fft2", true, "The discrete Fourier transform over two axes, complex64.",
           ">>> mx.fft.fft2(mx.ones((2, 2)))[0]\narray([4+0j, 0+0j], dtype=complex64)\n",
           ManyAxes<fft::fftn, true>{});
  def_many(m, "ifft2", true, "The inverse of `fft2`, complex64.",
           ">>> mx.fft.ifft2(mx.ones((2, 2)))[0]\narray([1+0j, 0+0j], dtype=complex64)\n",
           ManyAxes<fft::ifftn, true>{});
  def_many(m, "rfft2", true,
           "The transform of real signals over two axes; the last one is halved. complex64.",
           ">>> mx.fft.rfft2(mx.ones((2, 4))).shape\n(2, 3)\n", ManyAxes<fft::rfftn, true>{});
  def_many(m, "irfft2", true, "The real signal of `rfft2`'s result, float32.",
           ">>> mx.fft.irfft2(mx.ones((2, 3))).shape\n(2, 4)\n", ManyAxes<fft::irfftn, true>{});
  def_many(m, "fftn", false, "The discrete Fourier transform over axes, complex64.",
           ">>> mx.fft.fftn(mx.ones((2, 2)))[0]\narray([4+0j, 0+0j], dtype=complex64)\n",
           ManyAxes<fft::fftn, false>{});
  def_many(m, "ifftn", false, "The inverse of `fftn`, complex64.",
           ">>> mx.fft.ifftn(mx.ones((2, 2)))[0]\narray([1+0j, 0+0j], dtype=complex64)\n",
           ManyAxes<fft::ifftn, false>{});
  def_many(m, "rfftn", false, "The transform of real signals over axes; the last one is halved. complex64.",
           ">>> mx.fft.rfftn(mx.ones((2, 4))).shape\n(2, 3)\n", ManyAxes<fft::rfftn, false>{});
  def_many(m, "irfftn", false, "The real signal of `rfftn`'s result, float32.",
           ">>> mx.fft.irfftn(mx.ones((2, 3))).shape\n(2, 4)\n", ManyAxes<fft::irfftn, false>{});
}

void add_frequencies(const Scope& m) {
  constexpr const char* kArguments =
      "@n Samples of the signal.\n@d Distance of the samples.\n@raises ValueError Where n is not positive or "
      "d is "
      "0.\n";
  def(m, "fftfreq(n: int, d: float = 1.0, stream: StreamOrDevice = None) -> array",
      std::string("Frequencies of the numbers that `fft` gives, float32.\n") + kArguments +
          ">>> mx.fft.fftfreq(4)\narray([0, 0.25, -0.5, -0.25], dtype=float32)\n",
      [](int64_t n, double d) { return fft::fftfreq(n, d); });
  def(m, "rfftfreq(n: int, d: float = 1.0, stream: StreamOrDevice = None) -> array",
      std::string("Frequencies of the numbers that `rfft` gives, float32.\n") + kArguments +
          ">>> mx.fft.rfftfreq(4)\narray([0, 0.25, 0.5], dtype=float32)\n",
      [](int64_t n, double d) { return fft::rfftfreq(n, d); });
  constexpr const char* kShifted = "@axes Axis or axes to shift; all by default.\n";
  def(m,
      "fftshift(a: array, axes: int | Sequence[int] | None = None, stream: StreamOrDevice = None) -> array",
      std::string("The array with frequency zero in the middle.\n") + kShifted +
          ">>> mx.fft.fftshift(mx.array([0, 1, 2, 3]))\narray([2, 3, 0, 1], dtype=int32)\n",
      [](const Array& a, const OptAxes& axes) { return fft::fftshift(a, axes); });
  def(m,
      "ifftshift(a: array, axes: int | Sequence[int] | None = None, stream: StreamOrDevice = None) -> array",
      std::string("The inverse of `fftshift`.\n") + kShifted +
          ">>> mx.fft.ifftshift(mx.array([2, 3, 0, 1]))\narray([0, 1, 2, 3], dtype=int32)\n",
      [](const Array& a, const OptAxes& axes) { return fft::ifftshift(a, axes); });
}

constexpr const char* kFrames =
    "@hop_length Samples from one frame to the next; n_fft // 4 by default.\n"
    "@win_length Length of the default window of ones; n_fft by default.\n"
    "@window Window of one axis, at most n_fft long and centered in it.\n"
    "@norm 'backward', 'ortho' or 'forward', as in `fft`.\n";

void add_short_time(const Scope& m) {
  def(m,
      "stft(x: array, n_fft: int = 2048, hop_length: int | None = None, win_length: int | None = None, "
      "window: array "
      "| None = None, center: bool = True, pad_mode: str = 'reflect', norm: str = 'backward', onesided: bool "
      "| None = "
      "None, stream: StreamOrDevice = None) -> array",
      std::string("Transforms of overlapping frames, complex64 of shape (..., frequencies, frames).\n"
                  "@x Signals along the last axis.\n@n_fft Samples of a frame.\n") +
          kFrames +
          "@center Pad both ends by n_fft // 2, so that frames are centered.\n"
          "@pad_mode 'reflect', 'constant', 'edge' or 'symmetric'.\n"
          "@onesided Give n_fft // 2 + 1 frequencies; by default for real signals.\n"
          "@raises ValueError Where the lengths do not fit.\n"
          ">>> mx.fft.stft(mx.ones(100), n_fft=16).shape\n(9, 26)\n",
      [](const Array& x, int64_t n_fft, Length hop, Length win, const std::optional<Array>& window,
         bool center, const std::string& pad_mode, const std::string& norm, std::optional<bool> onesided) {
        return fft::stft(x, n_fft,
                         {hop, win, window, center, pad_mode, fft::norm_from_name(norm, "stft"), onesided});
      });
  def(m,
      "istft(stft_matrix: array, n_fft: int | None = None, hop_length: int | None = None, win_length: int | "
      "None = "
      "None, window: array | None = None, center: bool = True, norm: str = 'backward', onesided: bool | None "
      "= None, "
      "length: int | None = None, stream: StreamOrDevice = None) -> array",
      std::string(
          "The signal of `stft`'s result, float32.\n\n"
          "Frames times the window are added up and divided by the sum of the squared windows.\n"
          "@stft_matrix Spectra of shape (..., frequencies, frames).\n"
          "@n_fft Samples of a frame; by default what the frequencies say, and even for half spectra.\n") +
          kFrames +
          "@center Whether `stft` centered its frames.\n@onesided Whether the spectra are halves; True by "
          "default.\n"
          "@length Samples to give: the signal is cut, or filled up with zeros.\n"
          "@raises ValueError Where the lengths do not fit.\n"
          ">>> mx.fft.istft(mx.fft.stft(mx.ones(100), n_fft=16)).shape\n(100,)\n",
      [](const Array& spectra, Length n_fft, Length hop, Length win, const std::optional<Array>& window,
         bool center, const std::string& norm, std::optional<bool> onesided, Length length) {
        return fft::istft(spectra, n_fft,
                          {hop, win, window, center, "reflect", fft::norm_from_name(norm, "istft"), onesided},
                          length);
      });
}

}  // namespace

void add_fft(const Scope& fft) {
  add_transforms_of_one_axis(fft);
  add_transforms_of_many_axes(fft);
  add_frequencies(fft);
  add_short_time(fft);
}

}  // namespace lamina::bind
