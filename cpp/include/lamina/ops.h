#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lamina/array.h"
#include "lamina/quant.h"

// Array operations. All are lazy, validate at once and throw typed errors. Unless a line says otherwise:
// inputs broadcast as in NumPy, dtypes promote by promote(), axes may be negative, and integers given to a
// function of real analysis become float32. The tables (lamina/table/*.def) state the error bounds in ULP.
namespace lamina {

using OptAxes = std::optional<Axes>;  // nullopt: all axes

#define UNARY(id, name, ...) Array name(const Array& x);
#include "lamina/table/unary.def"
#undef UNARY
#define BINARY(id, name, ...) Array name(const Array& a, const Array& b);
#include "lamina/table/binary.def"
#undef BINARY
#define REDUCE(id, name, ...) \
  Array name(const Array& x, const OptAxes& axes = std::nullopt, bool keepdims = false);
#include "lamina/table/reduce.def"
#undef REDUCE

// A 0-d constant of the dtype a Python scalar takes beside an array of dtype `other`.
Array weak_scalar(bool v, Dtype other);
Array weak_scalar(int64_t v, Dtype other);
Array weak_scalar(double v, Dtype other);
Array weak_scalar(std::complex<double> v, Dtype other);

#define LAMINA_OPERATOR(op, name)                                                                   \
  inline Array operator op(const Array& a, const Array& b) { return name(a, b); }                   \
  inline Array operator op(const Array& a, double b) { return name(a, weak_scalar(b, a.dtype())); } \
  inline Array operator op(double a, const Array& b) { return name(weak_scalar(a, b.dtype()), b); }
LAMINA_OPERATOR(+, add)
LAMINA_OPERATOR(-, subtract)
LAMINA_OPERATOR(*, multiply)
LAMINA_OPERATOR(/, divide)
#undef LAMINA_OPERATOR
inline Array operator-(const Array& a) { return negative(a); }

// Creation.
Array zeros(const Shape& shape, Dtype dtype = Dtype::kFloat32);
Array ones(const Shape& shape, Dtype dtype = Dtype::kFloat32);
Array full(const Shape& shape, const Array& value, std::optional<Dtype> dtype = std::nullopt);
Array zeros_like(const Array& a, std::optional<Dtype> dtype = std::nullopt);
Array ones_like(const Array& a, std::optional<Dtype> dtype = std::nullopt);
Array full_like(const Array& a, const Array& value, std::optional<Dtype> dtype = std::nullopt);
Array arange(double start, double stop, double step, Dtype dtype = Dtype::kFloat32);
Array arange(int64_t start, int64_t stop, int64_t step, Dtype dtype = Dtype::kInt32);
Array linspace(double start, double stop, int64_t num, Dtype dtype = Dtype::kFloat32);
Array eye(int64_t n, int64_t m, int64_t k = 0, Dtype dtype = Dtype::kFloat32);
Array tri(int64_t n, int64_t m, int64_t k = 0, Dtype dtype = Dtype::kFloat32);
Array tril(const Array& a, int64_t k = 0);
Array triu(const Array& a, int64_t k = 0);

// Dtype and selection.
Array astype(const Array& a, Dtype dtype);
Array view(const Array& a, Dtype dtype);  // same bytes; the last axis rescales
Array where(const Array& condition, const Array& x, const Array& y);
Array clip(const Array& a, const std::optional<Array>& lo, const std::optional<Array>& hi);
Array stop_gradient(const Array& a);
std::vector<Array> depends(std::span<const Array> inputs, std::span<const Array> dependencies);
Array array_equal(const Array& a, const Array& b, bool equal_nan = false);
Array isclose(const Array& a, const Array& b, double rtol = 1e-5, double atol = 1e-8, bool equal_nan = false);
Array allclose(const Array& a, const Array& b, double rtol = 1e-5, double atol = 1e-8,
               bool equal_nan = false);

// Shape and views.
Array broadcast_to(const Array& a, const Shape& shape);
std::vector<Array> broadcast_arrays(std::span<const Array> arrays);
Array reshape(const Array& a, const Shape& shape);  // one length may be -1
Array flatten(const Array& a, int64_t start_axis = 0, int64_t end_axis = -1);
Array unflatten(const Array& a, int64_t axis, const Shape& shape);
Array transpose(const Array& a, const OptAxes& axes = std::nullopt);
Array swapaxes(const Array& a, int64_t axis1, int64_t axis2);
Array moveaxis(const Array& a, int64_t source, int64_t destination);
Array expand_dims(const Array& a, const Axes& axes);
Array squeeze(const Array& a, const OptAxes& axes = std::nullopt);
Array slice(const Array& a, const Shape& start, const Shape& stop, const Strides& strides);
Array slice(const Array& a, const Shape& start, const Shape& stop);
Array flip(const Array& a, const OptAxes& axes = std::nullopt);
Array as_strided(const Array& a, const Shape& shape, const Strides& strides, int64_t offset);
Array contiguous(const Array& a);
Array concatenate(std::span<const Array> arrays, int64_t axis = 0);
Array stack(std::span<const Array> arrays, int64_t axis = 0);
std::vector<Array> split(const Array& a, int64_t sections, int64_t axis = 0);
std::vector<Array> split(const Array& a, const Shape& indices, int64_t axis = 0);
Array repeat(const Array& a, int64_t repeats, int64_t axis);
Array tile(const Array& a, const Shape& repetitions);
Array pad(const Array& a, std::span<const std::pair<int64_t, int64_t>> widths, const Array& value);
Array roll(const Array& a, const Shape& shift, const Axes& axes);
Array diagonal(const Array& a, int64_t offset = 0, int64_t axis1 = 0, int64_t axis2 = 1);
Array diag(const Array& a, int64_t k = 0);

// Reductions and scans built on the table's.
Array mean(const Array& a, const OptAxes& axes = std::nullopt, bool keepdims = false);
Array var(const Array& a, const OptAxes& axes = std::nullopt, bool keepdims = false, int64_t ddof = 0);
Array std_dev(const Array& a, const OptAxes& axes = std::nullopt, bool keepdims = false, int64_t ddof = 0);
Array logsumexp(const Array& a, const OptAxes& axes = std::nullopt, bool keepdims = false);
Array softmax(const Array& a, const OptAxes& axes = std::nullopt, bool precise = false);
Array argmax(const Array& a, std::optional<int64_t> axis = std::nullopt, bool keepdims = false);
Array argmin(const Array& a, std::optional<int64_t> axis = std::nullopt, bool keepdims = false);
Array sort(const Array& a, std::optional<int64_t> axis = -1);
Array argsort(const Array& a, std::optional<int64_t> axis = -1);
Array partition(const Array& a, int64_t kth, std::optional<int64_t> axis = -1);
Array argpartition(const Array& a, int64_t kth, std::optional<int64_t> axis = -1);
Array topk(const Array& a, int64_t k, std::optional<int64_t> axis = -1);
enum class ScanKind : uint8_t { kSum, kProd, kMax, kMin, kLogAddExp };
Array scan(const Array& a, ScanKind kind, std::optional<int64_t> axis, bool reverse, bool inclusive);

// Indexing. Integer indices wrap when negative and throw IndexError at eval when out of bounds.
enum class ScatterMode : uint8_t { kSet, kAdd, kMultiply, kMax, kMin };
Array take(const Array& a, const Array& indices, std::optional<int64_t> axis = std::nullopt);
Array take_along_axis(const Array& a, const Array& indices, std::optional<int64_t> axis);
Array put_along_axis(const Array& a, const Array& indices, const Array& values, std::optional<int64_t> axis,
                     ScatterMode mode = ScatterMode::kSet);
// Result shape: broadcast shape of the indices, then a's shape with slice_sizes in place of the lengths.
Array gather(const Array& a, std::span<const Array> indices, const Axes& axes, const Shape& slice_sizes);
// Updates have the shape that gather with those indices would give.
Array scatter(const Array& a, std::span<const Array> indices, const Array& updates, const Axes& axes,
              ScatterMode mode);
// a[start:stop:strides] (set, +=, ...) update.
Array slice_update(const Array& a, const Array& update, const Shape& start, const Shape& stop,
                   const Strides& strides, ScatterMode mode = ScatterMode::kSet);

// Linear algebra.
Array matmul(const Array& a, const Array& b);
Array addmm(const Array& c, const Array& a, const Array& b, float alpha = 1, float beta = 1);
Array inner(const Array& a, const Array& b);
Array outer(const Array& a, const Array& b);
Array tensordot(const Array& a, const Array& b, const Axes& axes_a, const Axes& axes_b);

// Quantized matrices, in MLX's layouts. Affine: uint32 words, scales and biases per group of the last axis.
// The floating-point formats: uint32 words and uint8 scales; no biases.
// How a quantized product treats its activations.
enum class QuantizedMode : uint8_t { kExact, kInt8 };
// The format that a `mode` of the Python functions names, with its own group size and bits where none are
// given; throws ValueError for other names and parameters.
QuantSpec quant_spec(std::string_view mode, const std::optional<int64_t>& group_size = std::nullopt,
                     const std::optional<int64_t>& bits = std::nullopt, std::string_view op = "quantize");
// The packed matrix, its scales and, in the affine format, its biases. global_scale: nvfp4 only, one float32
// or one for each matrix of a batch.
std::vector<Array> quantize(const Array& w, const QuantSpec& spec,
                            const std::optional<Array>& global_scale = std::nullopt);
// dtype: by default that of affine scales, float32 with a global scale, else bfloat16.
Array dequantize(const Array& w, const std::optional<Array>& scales, const std::optional<Array>& biases,
                 const QuantSpec& spec, const std::optional<Dtype>& dtype = std::nullopt,
                 const std::optional<Array>& global_scale = std::nullopt);
Array quantized_matmul(const Array& x, const Array& w, const std::optional<Array>& scales,
                       const std::optional<Array>& biases, const QuantSpec& spec, bool transpose = true,
                       QuantizedMode mode = QuantizedMode::kExact);
// The same for the affine format.
std::vector<Array> quantize(const Array& w, int group_size = 64, int bits = 4);
Array dequantize(const Array& w, const Array& scales, const Array& biases, int group_size = 64, int bits = 4);
Array quantized_matmul(const Array& x, const Array& w, const Array& scales, const Array& biases,
                       bool transpose = true, int group_size = 64, int bits = 4,
                       QuantizedMode mode = QuantizedMode::kExact);

namespace random {
Array key(uint64_t seed);
// The process's implicit key: seed(s) sets it to key(s); a draw without a key replaces it by the first half
// of its split and uses the second.
void seed(uint64_t seed);
Array state();
void set_state(const Array& key);
Array next_key();
std::vector<Array> split(const Array& key, int num = 2);
// num keys, uint32 (num, 2)
Array split_keys(const Array& key, int num);
Array bits(const Shape& shape, int width = 4, const std::optional<Array>& key = std::nullopt);
Array uniform(const Array& low, const Array& high, const Shape& shape, Dtype dtype = Dtype::kFloat32,
              const std::optional<Array>& key = std::nullopt);
Array normal(const Shape& shape, Dtype dtype = Dtype::kFloat32,
             const std::optional<Array>& loc = std::nullopt, const std::optional<Array>& scale = std::nullopt,
             const std::optional<Array>& key = std::nullopt);
Array randint(const Array& low, const Array& high, const Shape& shape, Dtype dtype = Dtype::kInt32,
              const std::optional<Array>& key = std::nullopt);
Array bernoulli(const Array& p, const std::optional<Shape>& shape = std::nullopt,
                const std::optional<Array>& key = std::nullopt);
Array truncated_normal(const Array& lower, const Array& upper,
                       const std::optional<Shape>& shape = std::nullopt, Dtype dtype = Dtype::kFloat32,
                       const std::optional<Array>& key = std::nullopt);
Array gumbel(const Shape& shape, Dtype dtype = Dtype::kFloat32,
             const std::optional<Array>& key = std::nullopt);
Array categorical(const Array& logits, int64_t axis = -1, const std::optional<Shape>& shape = std::nullopt,
                  std::optional<int64_t> num_samples = std::nullopt,
                  const std::optional<Array>& key = std::nullopt);
Array permutation(const Array& x, int64_t axis = 0, const std::optional<Array>& key = std::nullopt);
Array permutation(int64_t n, const std::optional<Array>& key = std::nullopt);
}  // namespace random

namespace fast {
Array rms_norm(const Array& x, const std::optional<Array>& weight, float eps);
Array layer_norm(const Array& x, const std::optional<Array>& weight, const std::optional<Array>& bias,
                 float eps);
// x (B, ..., T, D); offset 0-d or (B,); freqs (dims / 2,) replaces base.
Array rope(const Array& x, int dims, bool traditional, std::optional<double> base, double scale,
           const Array& offset, const std::optional<Array>& freqs = std::nullopt);
// q (B, Hq, L, D), k (B, Hkv, S, D), v (B, Hkv, S, Dv). A mask is bool or additive, broadcastable to (B, Hq,
// L, S).
Array scaled_dot_product_attention(const Array& q, const Array& k, const Array& v, double scale,
                                   const std::optional<Array>& mask = std::nullopt, bool causal = false,
                                   const std::optional<Array>& sinks = std::nullopt);
}  // namespace fast

// Functions composed of those above.
Array linspace(double start, double stop, int64_t num, bool endpoint, Dtype dtype);
enum class Window : uint8_t { kBartlett, kBlackman, kHamming, kHanning };
Array window(Window kind, int64_t length);
Array round(const Array& a, int64_t decimals);
Array degrees(const Array& a);
Array radians(const Array& a);
// NaN and infinities replaced; without posinf and neginf by the dtype's largest and smallest finite number.
Array nan_to_num(const Array& a, double nan = 0, std::optional<double> posinf = std::nullopt,
                 std::optional<double> neginf = std::nullopt);
Array diff(const Array& a, int64_t n = 1, int64_t axis = -1);
Array trace(const Array& a, int64_t offset = 0, int64_t axis1 = 0, int64_t axis2 = 1,
            std::optional<Dtype> dtype = std::nullopt);
Array kron(const Array& a, const Array& b);
// Floats as the bytes of E4M3 and back; values beyond 448 are clipped to it, NaN stays NaN.
Array to_fp8(const Array& x);
Array from_fp8(const Array& x, Dtype dtype = Dtype::kBFloat16);
// H x along the last axis, whose length is m * 2^k with m in (1, 12, 20, 28); the default scale makes it
// orthogonal.
Array hadamard_transform(const Array& a, std::optional<double> scale = std::nullopt);
Array vecdot(const Array& a, const Array& b, int64_t axis = -1);
Array median(const Array& a, const OptAxes& axes = std::nullopt, bool keepdims = false);
Array count_nonzero(const Array& a, const OptAxes& axes = std::nullopt, bool keepdims = false);
// The array with axes of length 1 added until it has n; for n = 3 as NumPy's atleast_3d places them.
Array at_least(const Array& a, int n);
std::vector<Array> meshgrid(std::span<const Array> arrays, bool sparse = false, bool matrix_order = false);
enum class PadMode : uint8_t { kEdge, kReflect, kSymmetric };
Array pad(const Array& a, std::span<const std::pair<int64_t, int64_t>> widths, PadMode mode);
// A box of `sizes` that begins at `start` (one integer for each of `axes`, as an array) on those axes.
Array slice(const Array& a, const Array& start, const Axes& axes, const Shape& sizes);
Array slice_update(const Array& a, const Array& update, const Array& start, const Axes& axes);
// For each value the first (last, where right) place in the sorted 1-d sequence that keeps it sorted; uint32.
Array searchsorted(const Array& sorted, const Array& values, bool right = false);
// The indices of elements that are not zero, one int64 array for each axis. Evaluates: values decide the
// shape.
std::vector<Array> nonzero(const Array& a);
// The `size` smallest distinct values of all elements, in order, with the index of each value's first
// element, the place of every element's value among them (of a's shape; the last place for values left out)
// and how often each occurs. Where there are fewer values, the first (or `fill`) follows with a count of
// zero.
struct Unique {
  Array values, first, inverse, counts;
};
Unique unique(const Array& a, int64_t size, const std::optional<Array>& fill = std::nullopt);
// matmul of factors whose square blocks are dropped (bool masks) or scaled, and so is the product. A mask has
// one element for each block of its matrix, and leading axes that broadcast to the product's.
Array block_masked_mm(const Array& a, const Array& b, int64_t block_size,
                      const std::optional<Array>& mask_out = std::nullopt,
                      const std::optional<Array>& mask_a = std::nullopt,
                      const std::optional<Array>& mask_b = std::nullopt);
// a (M, K) times b (K, N) over each range [begin, end) of K that segments (..., 2) names: (..., M, N). Throws
// IndexError at eval for a range outside K; an end before its begin is an empty range.
Array segmented_mm(const Array& a, const Array& b, const Array& segments);
// matmul of matrices picked from the batches by index arrays that broadcast; no indices: all of the batch.
// Second factors that are picked are read where they lie, those of equal indices once for all their rows.
Array gather_mm(const Array& a, const Array& b, const std::optional<Array>& a_indices,
                const std::optional<Array>& b_indices);
Array gather_qmm(const Array& x, const Array& w, const std::optional<Array>& scales,
                 const std::optional<Array>& biases, const std::optional<Array>& x_indices,
                 const std::optional<Array>& w_indices, const QuantSpec& spec, bool transpose = true,
                 const std::optional<Array>& global_scale = std::nullopt,
                 QuantizedMode mode = QuantizedMode::kExact);
// x and w quantized alike, and then x w^T, in x's dtype; scales: w is packed already. Both global scales or
// none. Gradients pass through the rounding.
Array qqmm(const Array& x, const Array& w, const std::optional<Array>& scales, const QuantSpec& spec,
           const std::optional<Array>& global_scale_x = std::nullopt,
           const std::optional<Array>& global_scale_w = std::nullopt);
Array gather_qqmm(const Array& x, const Array& w, const std::optional<Array>& scales,
                  const std::optional<Array>& x_indices, const std::optional<Array>& w_indices,
                  const QuantSpec& spec, const std::optional<Array>& global_scale_x = std::nullopt,
                  const std::optional<Array>& global_scale_w = std::nullopt);

// Convolutions, channels last: input (N, spatial..., C), weight (O, spatial..., C / groups), result
// (N, spatial..., O), over 1 to 3 spatial axes. Lists hold one entry for each spatial axis, or one for all of
// them. Inputs are inexact. Along an axis, an input of length L, made max(0, (L - 1) * input_dilation + 1)
// long by zeros between its elements and padded with zeros at both ends (a negative padding crops), gives
//   (padded - (kernel_dilation * (K - 1) + 1)) / stride + 1
// outputs for K weights; the kernel must fit into the padded input. With `flip` the weights are read
// backwards.
struct ConvOptions {
  Shape stride = {1}, padding_lo = {0}, padding_hi = {0}, kernel_dilation = {1}, input_dilation = {1};
  int64_t groups = 1;
  bool flip = false;
};
Array conv_general(const Array& input, const Array& weight, const ConvOptions& options = {});
Array conv1d(const Array& input, const Array& weight, const Shape& stride = {1}, const Shape& padding = {0},
             const Shape& dilation = {1}, int64_t groups = 1);
Array conv2d(const Array& input, const Array& weight, const Shape& stride = {1}, const Shape& padding = {0},
             const Shape& dilation = {1}, int64_t groups = 1);
Array conv3d(const Array& input, const Array& weight, const Shape& stride = {1}, const Shape& padding = {0},
             const Shape& dilation = {1}, int64_t groups = 1);
// The maps whose gradients are convolutions: (L - 1) * stride + dilation * (K - 1) + 1 - 2 * padding +
// output_padding outputs along an axis. The weight is (O, spatial..., C / groups) as above.
Array conv_transpose1d(const Array& input, const Array& weight, const Shape& stride = {1},
                       const Shape& padding = {0}, const Shape& dilation = {1},
                       const Shape& output_padding = {0}, int64_t groups = 1);
Array conv_transpose2d(const Array& input, const Array& weight, const Shape& stride = {1},
                       const Shape& padding = {0}, const Shape& dilation = {1},
                       const Shape& output_padding = {0}, int64_t groups = 1);
Array conv_transpose3d(const Array& input, const Array& weight, const Shape& stride = {1},
                       const Shape& padding = {0}, const Shape& dilation = {1},
                       const Shape& output_padding = {0}, int64_t groups = 1);
// The convolution of two sequences: all overlaps, as many as the longer one has, or the whole ones only.
enum class ConvolveMode : uint8_t { kFull, kSame, kValid };
Array convolve(const Array& a, const Array& v, ConvolveMode mode = ConvolveMode::kFull);

namespace random {
Array laplace(const Shape& shape, Dtype dtype = Dtype::kFloat32, double loc = 0, double scale = 1,
              const std::optional<Array>& key = std::nullopt);
}  // namespace random

namespace fast {
// For each head and time step: state = gamma * state; state += beta * (v - state k) k^T; output = state q.
// q, k (B, T, Hk, Dk), v (B, T, Hv, Dv), gamma, beta (B, T, Hv), state (B, Hv, Dv, Dk), mask (B, T): steps to
// skip are 0. Returns outputs (B, T, Hv, Dv) and the last state.
std::vector<Array> gated_delta_update(const Array& q, const Array& k, const Array& v, const Array& gamma,
                                      const Array& beta,
                                      const std::optional<Array>& initial_state = std::nullopt,
                                      const std::optional<Array>& mask = std::nullopt);
// Attention over a cache in blocks: pools (P blocks, K heads, S positions, D), of which sequence b's position
// p is row p % S of block tables[b, p / S]. Queries (T, H, D), H a multiple of K: rows query_ends[b - 1] to
// query_ends[b] are the last positions of sequence b, which has lengths[b] positions in the cache, the new
// ones included; rows after the last end give 0. A position sees itself and those before it. tables (B, N),
// query_ends and lengths (B,) are int32. Gives (T, H, Dv) of the queries' dtype, and the bits that causal
// scaled_dot_product_attention gives, whatever the batch, the blocks and the number of new positions.
struct PagedAttention {
  double scale = 1;
  std::optional<int64_t> window = {};  // positions that a position sees, itself included
  std::optional<double> softcap = {};  // scores become softcap * tanh(score / softcap)
  std::optional<Array> sinks = {};     // (H,): one more score for each head, without a value
  // Pools of quantize_kv's codes, int8 or uint8, come with its scales (P, K, S, groups).
  std::optional<Array> key_scales = {}, value_scales = {};
};
Array paged_attention(const Array& queries, const Array& key_pool, const Array& value_pool,
                      const Array& tables, const Array& query_ends, const Array& lengths,
                      const PagedAttention& options);
// The pool (P, K, S, D) with rows (T, K, D) at slots (T,), int32: slot s is position s % S of block s / S, -1
// leaves its row out. Writes in place where nobody else holds the pool. Floats are rounded to the pool's
// dtype.
Array cache_write(const Array& pool, const Array& rows, const Array& slots);
// Rows (..., D) in 8 or 4 bits: codes, int8 (..., D) or uint8 (..., D / 2), and a float16 scale for each 32
// elements.
std::vector<Array> quantize_kv(const Array& rows, int bits = 8);
// -log softmax(logits)[..., target], one number for each row of logits.
Array cross_entropy(const Array& logits, const Array& targets);
}  // namespace fast

}  // namespace lamina
