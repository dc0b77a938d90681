#include "backend/backend.h"

#include "backend/cpu/attention.h"
#include "backend/cpu/cache.h"
#include "backend/cpu/convolution.h"
#include "backend/cpu/copy.h"
#include "backend/cpu/copy_stream.h"
#include "backend/cpu/fft.h"
#include "backend/cpu/gather.h"
#include "backend/cpu/gather_products.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/qmm.h"
#include "backend/cpu/qmm_affine.h"
#include "backend/cpu/qmm_blocks.h"
#include "backend/cpu/random.h"
#include "backend/cpu/rope.h"
#include "backend/cpu/scan.h"
#include "backend/cpu/sort.h"
#include "backend/cpu/tile.h"
#include "backend/reference/arg_reduce.h"
#include "backend/reference/gather_products.h"
#include "backend/reference/kernels.h"
#include "backend/reference/layout.h"
#include "backend/reference/matmul.h"
#include "backend/reference/reduce.h"
#include "graph/eval.h"
#include "quant/fp_blocks.h"

namespace lamina::cpu {
namespace {

// Element offsets of every matrix of a batch of views that share their leading axes.
std::vector<int64_t> batch_offsets(const View& v, size_t batch_axes) {
  std::vector<int64_t> out{0};
  for (size_t i = 0; i < batch_axes; ++i) {
    std::vector<int64_t> next;
    next.reserve(out.size() * static_cast<size_t>(v.shape[i]));
    for (int64_t o : out) {
      for (int64_t j = 0; j < v.shape[i]; ++j) next.push_back(o + j * v.strides[i]);
    }
    out = std::move(next);
  }
  return out;
}

GemmMatrix matrix_of(const View& v) {
  const size_t n = v.shape.size();
  return {v.data, v.dtype, v.strides[n - 2], v.strides[n - 1]};
}

using KernelFn = void (*)(const KernelCall&);

// Copies of weights whose layout the kernel does not take.
void with_packed_weights(const KernelCall& c, size_t parts, KernelFn run) {
  std::vector<View> in(c.in.begin(), c.in.end());
  std::vector<BufferRef> memory;
  for (size_t i = 1; i <= parts; ++i) {
    View dense = in[i];
    dense.strides = row_major_strides(dense.shape);
    memory.push_back(allocate(byte_count(dense.shape, dense.dtype)));
    dense.data = memory.back()->data();
    copy(in[i], dense);
    in[i] = dense;
  }
  run({c.op, c.params, in, c.out, c.epilogue, c.batch_invariant});
}

// Leading axes of A that can be counted as rows, because B is one matrix and A's rows follow one another.
bool folds_into_rows(const View& a, const View& b) {
  const size_t n = a.shape.size();
  for (size_t i = 0; i + 2 < n; ++i) {
    if (b.strides[i] != 0 && b.shape[i] != 1) return false;
  }
  int64_t step = a.strides[n - 2] * a.shape[n - 2];
  for (size_t i = n - 2; i-- > 0;) {
    if (a.shape[i] != 1 && a.strides[i] != step) return false;
    step *= a.shape[i];
  }
  return true;
}

void multiply(const View& a, const View& b, const View& out, bool batch_invariant,
              const Epilogue* epilogue = nullptr) {
  if (!is_inexact(out.dtype)) {
    reference::matmul(a, b, out);
    return;
  }
  if (out.size() == 0) return;
  const size_t n = out.shape.size();
  GemmArgs g;
  g.m = out.shape[n - 2];
  g.n = out.shape[n - 1];
  g.k = a.shape[n - 1];
  g.a = matrix_of(a);
  g.b = matrix_of(b);
  g.c = out.data;
  g.c_dtype = out.dtype;
  g.ldc = g.n;
  g.batch_invariant = batch_invariant;
  if (epilogue) g.epilogue = &epilogue->apply, g.epilogue_work = epilogue->work;
  std::vector<int64_t> a_at, b_at, c_at;
  if (n > 2 && folds_into_rows(a, b)) {
    g.m = out.size() / g.n;
  } else if (n > 2) {
    a_at = batch_offsets(a, n - 2);
    b_at = batch_offsets(b, n - 2);
    c_at = batch_offsets(out, n - 2);
    g.batch = static_cast<int64_t>(c_at.size());
    g.a_offsets = a_at.data();
    g.b_offsets = b_at.data();
    if (g.c) g.c_offsets = c_at.data();
  }
  gemm(g);
}

void run_matmul(const KernelCall& c) { multiply(c.in[0], c.in[1], c.out[0], c.batch_invariant, c.epilogue); }
template <bool kBatchInvariant>
void multiply_segment(const View& a, const View& b, const View& out) {
  multiply(a, b, out, kBatchInvariant);
}
void run_segmented_matmul(const KernelCall& c) {
  reference::segmented_matmul(c.in[0], c.in[1], c.in[2], c.out[0],
                              c.batch_invariant ? multiply_segment<true> : multiply_segment<false>);
}

// Elements of a matrix, or 1 of an empty one.
int64_t matrix_size(const View& v) {
  const size_t n = v.shape.size();
  return std::max<int64_t>(1, v.shape[n - 2] * v.shape[n - 1]);
}

// The last two axes lie in row-major order, and every matrix starts at a multiple of its size.
bool packed_matrices(const View& v) {
  const size_t n = v.shape.size();
  if (v.strides[n - 1] != 1 || (v.shape[n - 2] > 1 && v.strides[n - 2] != v.shape[n - 1])) return false;
  for (size_t i = 0; i + 2 < n; ++i) {
    if (v.shape[i] > 1 && (v.strides[i] < 0 || v.strides[i] % matrix_size(v) != 0)) return false;
  }
  return true;
}

// Both step through their matrices alike along the leading axes.
bool same_matrix_steps(const View& a, const View& b) {
  for (size_t i = 0; i + 2 < a.shape.size(); ++i) {
    if (a.shape[i] > 1 && a.strides[i] / matrix_size(a) != b.strides[i] / matrix_size(b)) return false;
  }
  return true;
}

// Operands 1 to `parts` of packed weights have layouts that the kernels take.
bool takes_weights(const KernelCall& c, size_t parts) {
  for (size_t i = 1; i <= parts; ++i) {
    const View& part = c.in[i];
    if (part.size() == 0) continue;
    if (!packed_matrices(part) || !same_matrix_steps(c.in[1], part)) return false;
  }
  return true;
}

// The product of x's matrices with the weights of a call, those without an offset being the first ones.
QmmArgs quantized_product(const KernelCall& c, size_t parts, const View& x, const View& out) {
  const auto& p = c.as<QuantParams>();
  const size_t n = out.shape.size();
  QmmArgs q;
  q.m = out.shape[n - 2];
  q.n = out.shape[n - 1];
  q.k = x.shape[n - 1];
  q.transpose = p.transpose;
  q.format = p.format;
  q.group = p.group_size;
  q.bits = p.bits;
  q.mode = p.mode == QuantizedMode::kInt8 ? QmmMode::kInt8 : QmmMode::kExact;
  q.batch_invariant = c.batch_invariant;
  q.x = x.data;
  q.x_dtype = x.dtype;
  q.x_row_stride = x.strides[n - 2];
  q.x_col_stride = x.strides[n - 1];
  q.packed = c.in[1].data;
  if (parts > 1) q.scales = c.in[2].data, q.scale_dtype = c.in[2].dtype;
  if (parts > 2) q.biases = c.in[3].data;
  q.y = out.data;
  q.y_dtype = out.dtype;
  q.y_row_stride = q.n;
  return q;
}

void run_quantized_matmul(const KernelCall& c) {
  const size_t parts = c.in.size() - 1;
  if (c.out[0].size() == 0) return;
  if (!takes_weights(c, parts)) return with_packed_weights(c, parts, run_quantized_matmul);
  const View &x = c.in[0], &w = c.in[1], &out = c.out[0];
  const size_t n = out.shape.size();
  QmmArgs q = quantized_product(c, parts, x, out);
  if (c.epilogue) q.epilogue = &c.epilogue->apply, q.epilogue_work = c.epilogue->work;
  std::vector<int64_t> x_at, y_at, w_at;
  View one_matrix = x;
  one_matrix.strides = Strides(n, 0);
  if (w.shape.size() == 2 && folds_into_rows(x, one_matrix)) {
    q.m = out.size() / q.n;
  } else {
    x_at = batch_offsets(x, n - 2);
    y_at = batch_offsets(out, n - 2);
    q.batch = static_cast<int64_t>(x_at.size());
    q.x_offsets = x_at.data();
    if (q.y) q.y_offsets = y_at.data();
    if (w.shape.size() > 2) {
      w_at = batch_offsets(w, n - 2);
      for (int64_t& o : w_at) o /= matrix_size(w);
      q.w_matrix = w_at.data();
    }
  }
  quantized_matmul(q);
}

void run_gather_quantized_matmul(const KernelCall& c) {
  const size_t parts = c.in.size() - 2;
  if (c.out[0].size() == 0) return;
  if (!takes_weights(c, parts)) return with_packed_weights(c, parts, run_gather_quantized_matmul);
  const View& w = c.in[1];
  const int64_t step = w.strides[0] / matrix_size(w);
  gather_products("gather_qmm", c.in[0], w.shape[0], c.in.back(), c.out[0],
                  [&](int64_t matrix, const View& x, const View& out) {
                    QmmArgs q = quantized_product(c, parts, x, out);
                    const int64_t number = matrix * step;
                    q.w_matrix = &number;
                    quantized_matmul(q);
                  });
}

void run_gather_matmul(const KernelCall& c) {
  const View& all = c.in[1];
  gather_products("gather_mm", c.in[0], all.shape[0], c.in[2], c.out[0],
                  [&](int64_t matrix, const View& a, const View& out) {
                    multiply(a, reference::matrix_view(all, matrix * all.strides[0]), out, c.batch_invariant);
                  });
}

void run_rope(const KernelCall& c) {
  const auto& p = c.as<RopeParams>();
  RopeArgs r;
  r.x = c.in[0];
  r.out = c.out[0];
  r.dims = p.dims;
  r.traditional = p.traditional;
  r.base = p.base;
  if (p.has_freqs) r.freqs = &c.in[2];
  r.scale = p.scale;
  r.offsets = &c.in[1];
  r.inverse = p.inverse;
  rope(r);
}

void run_attention(const KernelCall& c) {
  const auto& p = c.as<AttentionParams>();
  AttentionArgs a;
  a.q = c.in[0];
  a.k = c.in[1];
  a.v = c.in[2];
  a.out = c.out[0];
  a.scale = p.scale;
  a.causal = p.causal;
  if (p.has_mask) a.mask = &c.in[3];
  if (p.has_sinks) a.sinks = &c.in[p.has_mask ? 4 : 3];
  a.lse = c.out[1].as<float>();
  attention(a);
}

// in: q, k, v, [mask], [sinks], out, lse, dout; out: dq, dk, dv.
void run_attention_backward(const KernelCall& c) {
  const auto& p = c.as<AttentionParams>();
  const size_t n = c.in.size();
  AttentionGradArgs a;
  a.q = c.in[0];
  a.k = c.in[1];
  a.v = c.in[2];
  a.out = c.in[n - 3];
  a.lse = c.in[n - 2].as<float>();
  a.dout = c.in[n - 1];
  a.dq = c.out[0];
  a.dk = c.out[1];
  a.dv = c.out[2];
  a.scale = p.scale;
  a.causal = p.causal;
  if (p.has_mask) a.mask = &c.in[3];
  attention_backward(a);
}

void run_affine_quantize(const KernelCall& c) {
  const auto& p = c.as<QuantParams>();
  if (p.format != QuantFormat::kAffine) {
    return fp_quantize(p.format, c.in[0], c.in.size() > 1 ? &c.in[1] : nullptr, c.out[0], c.out[1]);
  }
  quantize_affine(c.in[0], p.group_size, p.bits, c.out[0], c.out[1], c.out[2]);
}

void run_affine_dequantize(const KernelCall& c) {
  const auto& p = c.as<QuantParams>();
  if (p.format != QuantFormat::kAffine) {
    if (c.in.size() > 2) return nvfp4_dequantize(c.in[0], c.in[1], c.in[2], c.out[0]);
    return dequantize_blocks(p.format, c.in[0], c.in.size() > 1 ? &c.in[1] : nullptr, c.out[0]);
  }
  dequantize_affine(c.in[0], c.in[1], c.in[2], p.group_size, p.bits, c.out[0]);
}

// Extrema over leading axes, a row at a time by the op of two rows.
void run_extremum(const KernelCall& c) {
  const Dtype dtype = c.in[0].dtype;
  const TileFn join = dtype == Dtype::kBool ? nullptr : reduce_cols_tile(c.op, dtype);
  reference::reduce_general(c.op == OpId::Max ? reference::ReduceKind::kMax : reference::ReduceKind::kMin,
                            c.in[0], c.out[0], c.as<AxesParams>().axes, join);
}

// Sums over leading axes, rows at a time. Those of other dtypes widen their elements.
void run_sum(const KernelCall& c) {
  const Dtype dtype = c.in[0].dtype;
  const bool same = dtype == Dtype::kFloat32 || dtype == Dtype::kFloat64;
  reference::reduce_general(reference::ReduceKind::kSum, c.in[0], c.out[0], c.as<AxesParams>().axes,
                            same ? reduce_cols_tile(c.op, dtype) : nullptr,
                            same ? reduce_rows_tile(c.op, dtype) : nullptr);
}

void run_arg_reduce(const KernelCall& c) {
  const auto& p = c.as<ArgReduceParams>();
  const Dtype dtype = c.in[0].dtype;
  reference::arg_reduce(
      p.largest ? reference::ArgReduceKind::kMax : reference::ArgReduceKind::kMin, c.in[0], c.out[0], p.axis,
      {p.largest ? argmax_tile(dtype) : argmin_tile(dtype), arg_columns_tile(p.largest, dtype)});
}

void run_gather(const KernelCall& c) {
  const auto& p = c.as<GatherParams>();
  gather(c.in[0], c.in.subspan(1), p.axes, p.slice_sizes, c.out[0]);
}

void fill_kernels(std::array<KernelEntry, kNumOps>& k) {
  auto set = [&k](OpId id, void (*run)(const KernelCall&), bool in_place = false, bool contiguous = false) {
    k[static_cast<size_t>(id)] = {run, in_place, contiguous};
  };
  set(OpId::Contiguous, [](const KernelCall& c) { copy(c.in[0], c.out[0]); });
  set(OpId::Concatenate, [](const KernelCall& c) { concatenate(c.in, c.out[0], c.as<AxisParams>().axis); });
  set(
      OpId::SliceUpdate, [](const KernelCall& c) { reference::run_slice_update(c, copy); }, true);
  set(
      OpId::Scatter, [](const KernelCall& c) { reference::run_scatter(c, copy); }, true);
  set(
      OpId::ScatterAxis, [](const KernelCall& c) { reference::run_scatter_axis(c, copy); }, true);
  set(OpId::Gather, run_gather);
  set(OpId::Matmul, run_matmul);
  set(OpId::SegmentedMatmul, run_segmented_matmul);
  set(OpId::GatherMatmul, run_gather_matmul);
  set(OpId::ArgReduce, run_arg_reduce);
  set(OpId::Sum, run_sum);
  set(OpId::Max, run_extremum);
  set(OpId::Min, run_extremum);
  set(OpId::Sort, [](const KernelCall& c) { sort(c.in[0], c.out[0], c.as<AxisParams>().axis); });
  set(OpId::ArgSort, [](const KernelCall& c) { argsort(c.in[0], c.out[0], c.as<AxisParams>().axis); });
  set(OpId::Scan, [](const KernelCall& c) {
    const auto& p = c.as<ScanParams>();
    scan(p.kind, c.in[0], c.out[0], p.axis, p.reverse, p.inclusive);
  });
  set(OpId::RandomBits, [](const KernelCall& c) { random_bits(c.in[0], c.out[0]); });
  set(OpId::AffineQuantize, run_affine_quantize);
  set(OpId::AffineDequantize, run_affine_dequantize);
  set(OpId::QuantizedMatmul, run_quantized_matmul);
  set(OpId::GatherQuantizedMatmul, run_gather_quantized_matmul);
  set(OpId::Rope, run_rope);
  set(OpId::Attention, run_attention);
  set(OpId::AttentionBackward, run_attention_backward);
  set(OpId::PagedAttention, paged_attention);
  set(OpId::CacheWrite, cache_write, true);
  set(OpId::QuantizeKv, quantize_kv);
  set(OpId::Convolution, [](const KernelCall& c) {
    convolution(c.in[0], c.in[1], c.out[0], c.as<ConvolutionParams>(), c.epilogue);
  });
  set(OpId::Fft, [](const KernelCall& c) {
    const auto& p = c.as<FftParams>();
    fft(p.kind, c.in[0], c.out[0], p.axis, p.scale);
  });
  // Products whose sums are float32; the kernels of convolutions have sums of their own for 16-bit inputs.
  for (OpId id : {OpId::Matmul, OpId::QuantizedMatmul}) {
    k[static_cast<size_t>(id)].takes_epilogue = [](Dtype t) {
      return t == Dtype::kFloat32 || t == Dtype::kFloat16 || t == Dtype::kBFloat16;
    };
  }
  k[static_cast<size_t>(OpId::Convolution)].takes_epilogue = [](Dtype t) { return t == Dtype::kFloat32; };
}

bool has_pair(OpId inner, OpId outer, bool left, Dtype compute) {
  if (op_info(outer).family != Family::kReduce) return pair_tile(inner, outer, left, compute) != nullptr;
  return (inner == OpId::Multiply || inner == OpId::Square) && reduce_products_tile(outer, compute);
}

}  // namespace
}  // namespace lamina::cpu

namespace lamina {

const Backend& cpu_backend() {
  static const Backend b = [] {
    Backend c = reference_backend();
    c.name = "cpu";
    c.tile = simd_tile;
    c.cast = cast_tile;
    c.reduce = reduce_tile;
    c.spread = spread_tile();
    static constexpr StreamCopy kStreams{cpu::worth_streaming, cpu::stream_copy, cpu::stream_fence};
    c.streams = &kStreams;
    c.has_pair = cpu::has_pair;
    c.pair = pair_tile;
    c.reduce_products = reduce_products_tile;
    c.copy = cpu::copy;
    c.fuse = true;
    cpu::fill_kernels(c.kernels);
    return c;
  }();
  return b;
}

}  // namespace lamina
