#include <fmt/format.h>

#include "bindings/ops.h"

namespace lamina::bind {
namespace {

constexpr const char* kEps = "@eps Added to the variance before the root.\n";

// A mask argument: None, 'causal', or an array.
struct Mask {
  std::optional<Array> array;
  bool causal = false;
};
Mask mask_argument(const Any& any) {
  if (any.object == Py_None) return {};
  if (PyUnicode_Check(any.object)) {
    if (py::cast<std::string>(borrowed(any.object)) == "causal") return {std::nullopt, true};
    throw ValueError("[scaled_dot_product_attention] mask must be None, 'causal' or an array, got " +
                     std::string(py::repr(borrowed(any.object))));
  }
  const std::optional<Array> a = as_array(any.object);
  if (!a) any.wrong();
  return {a, false};
}

// Kernels from source code exist on GPU backends only; scripts that ask for one learn so when they make it.
void add_custom_kernels(const Scope& fast) {
  const auto refuse = [](const char* name, const char* backend) {
    throw Unsupported(fmt::format("[{}] kernels from source are not supported by the cpu backend: wanted {}",
                                  name, backend));
  };
  static_assert(std::is_empty_v<decltype(refuse)>);
  def(fast,
      "metal_kernel(name: str, input_names: Sequence[str], output_names: Sequence[str], source: str, "
      "header: str = '', ensure_row_contiguous: bool = True, atomic_outputs: bool = False, "
      "compile_options: object | None = None) -> object",
      "Not on this backend: Metal kernels need an Apple GPU.\n@name Name of the kernel.\n@input_names Names "
      "of the inputs in the source.\n@output_names Names of the outputs.\n@source Body of the "
      "kernel.\n@header Source before it.\n@ensure_row_contiguous Copy inputs of other layouts "
      "first.\n@atomic_outputs Outputs are atomic.\n@compile_options For the compiler.\n@raises "
      "NotImplementedError Always.\n"
      ">>> mx.fast.metal_kernel(\"f\", [\"x\"], [\"y\"], \"\")\n"
      "Traceback (most recent call last):\n    ...\nNotImplementedError: [metal_kernel] kernels from source "
      "are not supported by the cpu backend: wanted Metal\n",
      [](const std::string&, PyObject*, PyObject*, const std::string&, const std::string&, bool, bool,
         PyObject*) { decltype(refuse){}("metal_kernel", "Metal"); });
  def(fast,
      "cuda_kernel(name: str, input_names: Sequence[str], output_names: Sequence[str], source: str, "
      "header: str = '', ensure_row_contiguous: bool = True, shared_memory: int = 0) -> object",
      "Not on this backend: CUDA kernels need an NVIDIA GPU.\n@name Name of the kernel.\n@input_names Names "
      "of the inputs in the source.\n@output_names Names of the outputs.\n@source Body of the "
      "kernel.\n@header Source before it.\n@ensure_row_contiguous Copy inputs of other layouts "
      "first.\n@shared_memory Bytes of shared memory.\n@raises NotImplementedError Always.\n"
      ">>> mx.fast.cuda_kernel(\"f\", [\"x\"], [\"y\"], \"\")\n"
      "Traceback (most recent call last):\n    ...\nNotImplementedError: [cuda_kernel] kernels from source "
      "are not supported by the cpu backend: wanted CUDA\n",
      [](const std::string&, PyObject*, PyObject*, const std::string&, const std::string&, bool, int64_t) {
        decltype(refuse){}("cuda_kernel", "CUDA");
      });
  def(fast,
      "precompiled_cuda_kernel(*, name: str, compiled_source: bytes, inputs: Sequence[object], "
      "output_shapes: Sequence[Sequence[int]], output_dtypes: Sequence[Dtype], scalars: Sequence[object], "
      "grid: tuple[int, int, int], threadgroup: tuple[int, int, int], shared_memory: int = 0, "
      "init_value: float | None = None, ensure_row_contiguous: bool = False, "
      "stream: StreamOrDevice = None) -> list[array]",
      "Not on this backend: CUDA kernels need an NVIDIA GPU.\n@name Name of the kernel.\n@compiled_source "
      "The compiled kernel.\n@inputs Its inputs.\n@output_shapes Shapes of its outputs.\n@output_dtypes "
      "Their dtypes.\n@scalars Further arguments.\n@grid Threads in each direction.\n@threadgroup Threads of "
      "a group in each direction.\n@shared_memory Bytes of shared memory.\n@init_value What outputs begin "
      "with.\n@ensure_row_contiguous Copy inputs of other layouts first.\n@raises NotImplementedError "
      "Always.\n"
      ">>> mx.fast.precompiled_cuda_kernel(name=\"f\", compiled_source=b\"\", inputs=[], "
      "output_shapes=[],\n...     output_dtypes=[], scalars=[], grid=(1, 1, 1), threadgroup=(1, 1, 1))\n"
      "Traceback (most recent call last):\n    ...\nNotImplementedError: [precompiled_cuda_kernel] kernels "
      "from source are not supported by the cpu backend: wanted CUDA\n",
      [](const std::string&, PyObject*, PyObject*, PyObject*, PyObject*, PyObject*, PyObject*, PyObject*,
         int64_t, PyObject*, bool) { decltype(refuse){}("precompiled_cuda_kernel", "CUDA"); });
}

void add_recurrences(const Scope& fast) {
  def(fast,
      "gated_delta_update(q: array, k: array, v: array, gamma: array, beta: array, initial_state: array | "
      "None "
      "= None, mask: array | None = None, stream: StreamOrDevice = None) -> list[array]",
      "The gated delta rule over time, for each head: the state S becomes gamma * S, then S + beta * (v - S "
      "@ "
      "k) outer k, and the output is S @ q.\n"
      "@q Queries of shape (B, T, Hk, Dk).\n@k Keys of the same shape.\n@v Values of shape (B, T, Hv, Dv), "
      "Hv "
      "a multiple of Hk.\n@gamma Decay of the state, of shape (B, T, Hv).\n@beta Rates of the updates, of "
      "shape (B, T, Hv).\n@initial_state State to begin with, of shape (B, Hv, Dv, Dk); zeros by default.\n"
      "@mask Which steps count, of shape (B, T): others leave the state as it is and give 0.\n"
      "@raises ValueError Where shapes do not fit, or for complex arrays.\n"
      ">>> q = mx.ones((1, 3, 1, 2))\n>>> gate = mx.ones((1, 3, 1))\n"
      ">>> y, state = mx.fast.gated_delta_update(q, q, q, gate, 0.25 * gate)\n>>> y.shape, state.shape\n((1, "
      "3, "
      "1, 2), (1, 1, 2, 2))\n",
      [](const Array& q, const Array& k, const Array& v, const Array& gamma, const Array& beta,
         const std::optional<Array>& state, const std::optional<Array>& mask) {
        return fast::gated_delta_update(q, k, v, gamma, beta, state, mask);
      });
}

void add_caches(const Scope& fast) {
  def(fast,
      "paged_attention(queries: array, key_pool: array, value_pool: array, tables: array, query_ends: array, "
      "lengths: array, *, scale: float, window: int | None = None, sinks: array | None = None, softcap: "
      "float "
      "| None = None, key_scales: array | None = None, value_scales: array | None = None, stream: "
      "StreamOrDevice = None) -> array",
      "Causal attention of a ragged batch of sequences over a cache in blocks.\n\n"
      "A row's bits do not depend on the other sequences, the blocks, or how many new positions a call has: "
      "they are those of scaled_dot_product_attention with mask='causal'. Blocks that no query sees are not "
      "looked at, nor positions past a sequence's length. There is no gradient.\n"
      "@queries New positions of all sequences, shape (T, H, D), H a multiple of K.\n"
      "@key_pool Blocks of S positions of keys, shape (P, K, S, D): floating, or codes of quantize_kv.\n"
      "@value_pool The same of values, shape (P, K, S, Dv).\n"
      "@tables Block that holds position p of sequence b at tables[b, p // S], row p % S; int32, (B, N).\n"
      "@query_ends Rows query_ends[b - 1] to query_ends[b] of the queries are the last positions of sequence "
      "b; int32, (B,). Rows after the last end give 0.\n"
      "@lengths Positions of each sequence in the cache, new ones included; int32, (B,).\n"
      "@scale Factor of the scores.\n"
      "@window Positions that a position sees, itself included; all before it by default.\n"
      "@sinks Score of an extra key without value, shape (H,).\n"
      "@softcap Scores become softcap * tanh(score / softcap).\n"
      "@key_scales Scales of a key pool of codes, float16, shape (P, K, S, groups).\n"
      "@value_scales Scales of a value pool of codes.\n"
      "@raises ValueError Where shapes, dtypes, ends or lengths do not fit.\n"
      "@raises IndexError Where a table names a block that the pool has not.\n"
      ">>> pool, table = mx.ones((4, 1, 16, 8)), mx.array([[2, 0]])\n"
      ">>> q, ends, lengths = mx.ones((3, 2, 8)), mx.array([3]), mx.array([20])\n"
      ">>> mx.fast.paged_attention(q, pool, pool, table, ends, lengths, scale=1.0).shape\n(3, 2, 8)\n",
      [](const Array& queries, const Array& key_pool, const Array& value_pool, const Array& tables,
         const Array& query_ends, const Array& lengths, double scale, std::optional<int64_t> window,
         const std::optional<Array>& sinks, std::optional<double> softcap,
         const std::optional<Array>& key_scales, const std::optional<Array>& value_scales) {
        return fast::paged_attention(queries, key_pool, value_pool, tables, query_ends, lengths,
                                     {scale, window, softcap, sinks, key_scales, value_scales});
      });
  def(fast, "cache_write(pool: array, rows: array, slots: array, *, stream: StreamOrDevice = None) -> array",
      "The pool with rows of keys or values written to slots of its blocks.\n\n"
      "Writes in place, without a copy of the pool, where nothing else holds the pool when the result is "
      "evaluated. Of two rows for one slot the later one stays. There is no gradient.\n"
      "@pool Blocks of a cache, shape (P, K, S, D).\n"
      "@rows New rows, shape (T, K, D); floats are rounded to the pool's dtype, others must have it.\n"
      "@slots Slot s is row s % S of block s // S; -1 leaves the row out. int32, shape (T,).\n"
      "@raises ValueError Where shapes or dtypes do not fit.\n"
      "@raises IndexError Where a slot is not in the pool.\n"
      ">>> mx.fast.cache_write(mx.zeros((2, 1, 2, 1)), mx.ones((1, 1, 1)), mx.array([2])).reshape(2, 2)\n"
      "array([[0, 0],\n       [1, 0]], dtype=float32)\n",
      [](const Array& pool, const Array& rows, const Array& slots) {
        return fast::cache_write(pool, rows, slots);
      });
  def(fast, "quantize_kv(rows: array, *, bits: int = 8, stream: StreamOrDevice = None) -> list[array]",
      "Rows of keys or values as codes and scales, for pools of paged_attention.\n\n"
      "Each 32 elements of a row share a float16 scale; an element is its scale times its code: a signed "
      "byte, "
      "or a nibble less 8, two to a byte with the earlier one in the low bits. 4 bits are meant for rows "
      "turned by hadamard_transform: queries have to be turned alike, and results turned back.\n"
      "@rows Floating rows, shape (..., D); D is even for 4 bits.\n@bits 8 or 4.\n"
      "@raises ValueError Where dtype, shape or bits do not fit.\n"
      ">>> codes, scales = mx.fast.quantize_kv(mx.ones((3, 2, 64)), bits=4)\n"
      ">>> codes.shape, codes.dtype, scales.shape\n((3, 2, 32), lamina.core.uint8, (3, 2, 2))\n",
      [](const Array& rows, int bits) { return fast::quantize_kv(rows, bits); });
}

}  // namespace

void add_fast(const Scope& fast) {
  def(fast, "rms_norm(x: array, weight: array | None, eps: float, *, stream: StreamOrDevice = None) -> array",
      std::string("x / sqrt(mean(x * x) + eps) over the last axis, times the weight.\n@weight Shape (D,), or "
                  "None.\n") +
          kEps +
          "@raises ValueError Where the weight does not fit.\n>>> mx.fast.rms_norm(mx.ones((2, 4)), None, "
          "0.0)[0]\narray([1, 1, 1, 1], dtype=float32)\n",
      [](const Array& x, const std::optional<Array>& weight, double eps) {
        return fast::rms_norm(x, weight, static_cast<float>(eps));
      });
  def(fast,
      "layer_norm(x: array, weight: array | None, bias: array | None, eps: float, *, stream: StreamOrDevice "
      "= None) -> "
      "array",
      std::string("(x - mean(x)) / sqrt(var(x) + eps) over the last axis, times the weight, plus the bias.\n"
                  "@weight Shape (D,), or None.\n@bias Shape (D,), or None.\n") +
          kEps +
          "@raises ValueError Where weight or bias do not fit.\n"
          ">>> mx.fast.layer_norm(mx.array([1.0, 3.0]), None, None, 0.0)\narray([-1, 1], dtype=float32)\n",
      [](const Array& x, const std::optional<Array>& weight, const std::optional<Array>& bias, double eps) {
        return fast::layer_norm(x, weight, bias, static_cast<float>(eps));
      });
  def(fast,
      "rope(a: array, dims: int, *, traditional: bool, base: float | None, scale: float, offset: int | "
      "array, freqs: "
      "array | None = None, stream: StreamOrDevice = None) -> array",
      "Rotary position embedding: pairs of features turned by angles that grow with the position.\n"
      "@a Array of shape (B, ..., L, D).\n@dims Features to rotate, even.\n"
      "@traditional Pairs of neighbours, rather than of the two halves.\n@base Base of the angular "
      "frequencies.\n"
      "@scale Factor of the positions.\n@offset Position of the first row, or one for each batch.\n"
      "@freqs Inverse frequencies in place of the base, shape (dims / 2,).\n@raises ValueError Where shapes "
      "do not fit.\n"
      ">>> mx.fast.rope(mx.ones((1, 2, 4)), 4, traditional=False, base=10000.0, scale=1.0, "
      "offset=0).shape\n(1, 2, 4)\n",
      [](const Array& a, int dims, bool traditional, std::optional<double> base, double scale, Any offset_any,
         const std::optional<Array>& freqs) {
        std::optional<Array> offset = as_array(offset_any.object);
        if (!offset) offset_any.wrong();
        return fast::rope(a, dims, traditional, base, scale, *offset, freqs);
      });
  def(fast,
      "scaled_dot_product_attention(q: array, k: array, v: array, *, scale: float, mask: None | str | array "
      "= None, "
      "sinks: array | None = None, force_fused: bool = False, stream: StreamOrDevice = None) -> array",
      "softmax(scale * q @ k.T + mask) @ v for each head, in one pass.\n@q Queries of shape (B, Hq, L, D).\n"
      "@k Keys of shape (B, H, S, D), Hq a multiple of H.\n@v Values of shape (B, H, S, Dv).\n@scale Factor "
      "of the scores.\n"
      "@mask 'causal', a bool array (True is seen) or an array to add, broadcast to (B, Hq, L, S).\n"
      "@sinks Score of an extra key without value, shape (Hq,).\n@force_fused Accepted; the computation is "
      "always fused.\n"
      "@raises ValueError Where shapes do not fit.\n"
      ">>> q = mx.ones((1, 2, 3, 4))\n>>> mx.fast.scaled_dot_product_attention(q, q, q, scale=0.5, "
      "mask='causal').shape\n(1, 2, 3, 4)\n",
      [](const Array& q, const Array& k, const Array& v, double scale, Any mask_any,
         const std::optional<Array>& sinks, bool) {
        const Mask mask = mask_argument(mask_any);
        return fast::scaled_dot_product_attention(q, k, v, scale, mask.array, mask.causal, sinks);
      });
  def(fast, "cross_entropy(logits: array, targets: array, *, stream: StreamOrDevice = None) -> array",
      "-log(softmax(logits))[target] for each row of logits, in float32 or wider.\n@logits Shape (..., "
      "classes).\n@targets "
      "Integer classes of shape (...,).\n"
      "@raises ValueError Where shapes do not fit.\n>>> mx.fast.cross_entropy(mx.zeros((1, 2)), "
      "mx.array([0]))\narray([0.693147], dtype=float32)\n",
      [](const Array& logits, const Array& targets) { return fast::cross_entropy(logits, targets); });
  add_caches(fast);
  add_recurrences(fast);
  add_custom_kernels(fast);
}

}  // namespace lamina::bind
