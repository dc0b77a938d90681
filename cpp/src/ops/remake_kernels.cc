#include <algorithm>

#include "ops/remake_case.h"
#include "quant/affine.h"
#include "quant/formats.h"

namespace lamina::remaking {
namespace {

constexpr DtypeSet kSolverDtypes = dtype_bit(Dtype::kFloat32) | dtype_bit(Dtype::kFloat64);
constexpr DtypeSet kShortFloats =
    dtype_bit(Dtype::kFloat32) | dtype_bit(Dtype::kFloat16) | dtype_bit(Dtype::kBFloat16);

int64_t at(const Shape& s, int64_t axis) {
  return s[static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(s.size()) : axis)];
}
Shape batch_of(const Shape& s) { return Shape(s.begin(), s.end() - 2); }
Shape joined(Shape s, std::initializer_list<int64_t> tail) {
  for (int64_t n : tail) s.push_back(n);
  return s;
}
Shape without(Shape s, int64_t axis) {
  s[static_cast<size_t>(axis)] = 0;
  return s;
}

// ---- moving elements ----

Types concatenate_results(const Case& c) {
  c.operands(2, SIZE_MAX);
  const int64_t axis = c.as<AxisParams>().axis;
  c.axis(axis, c.shape(0));
  c.same_dtypes();
  const Array out = concatenate(c.in, axis);
  return {{out.shape(), out.dtype()}};
}

Types slice_update_results(const Case& c) {
  c.operands(2, 2);
  c.same_dtypes();
  const auto& p = c.as<SliceUpdateParams>();
  const NodeRecipe read{OpId::Slice, {c.like(1)}, make_params(SliceParams{p.start, p.strides})};
  infer_results(read, c.in.first(1));  // throws where the box leaves the operand
  return {c.like(0)};
}

void check_indices(const Case& c, std::span<const Array> indices, const Axes& axes) {
  c.want(indices.size() == axes.size() && !axes.empty(), "an index array for each axis");
  Axes sorted = axes;
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < axes.size(); ++i) {
    c.axis(axes[i], c.shape(0));
    c.want(i == 0 || sorted[i] != sorted[i - 1], "distinct axes");
    c.want(is_integer(indices[i].dtype()), "integer indices");
    c.want(indices[i].shape() == indices[0].shape(), "index arrays of one shape");
  }
}

Types gather_results(const Case& c) {
  c.operands(2, SIZE_MAX);
  const auto& p = c.as<GatherParams>();
  check_indices(c, c.in.subspan(1), p.axes);
  const Array out = gather(c.in[0], c.in.subspan(1), p.axes, p.slice_sizes);
  return {{out.shape(), out.dtype()}};
}

Types scatter_results(const Case& c) {
  c.operands(3, SIZE_MAX);
  const auto& p = c.as<ScatterParams>();
  c.one_of(p.mode, ScatterMode::kMin);
  c.want(c.in[0].dtype() == c.in[1].dtype(), "updates of the operand's dtype");
  check_indices(c, c.in.subspan(2), p.axes);
  const Array out = scatter(c.in[0], c.in.subspan(2), c.in[1], p.axes, p.mode);
  return {{out.shape(), out.dtype()}};
}

void check_along(const Case& c, int64_t axis) {
  c.axis(axis, c.shape(0));
  c.want(is_integer(c.in[1].dtype()), "integer indices");
  c.want(c.shape(1).size() == c.shape(0).size() && without(c.shape(0), axis) == without(c.shape(1), axis),
         "indices of the operand's shape but for the axis");
}

Types gather_axis_results(const Case& c) {
  c.operands(2, 2);
  check_along(c, c.as<AxisParams>().axis);
  return {{c.shape(1), c.in[0].dtype()}};
}

Types scatter_axis_results(const Case& c) {
  c.operands(3, 3);
  const auto& p = c.as<ScatterAxisParams>();
  c.one_of(p.mode, ScatterMode::kMin);
  check_along(c, p.axis);
  c.want(c.shape(2) == c.shape(1) && c.in[2].dtype() == c.in[0].dtype(), "a value for each index");
  return {c.like(0)};
}

// ---- along an axis ----

Types arg_reduce_results(const Case& c) {
  c.operands(1, 1);
  const int64_t axis = c.as<ArgReduceParams>().axis;
  c.axis(axis, c.shape(0));
  c.want(at(c.shape(0), axis) > 0, "an axis that is not empty");
  return {{keep_dims(c.shape(0), {axis}), Dtype::kUInt32}};
}

Types sort_results(const Case& c) {
  c.operands(1, 1);
  c.axis(c.as<AxisParams>().axis, c.shape(0));
  return {{c.shape(0), c.recipe.op == OpId::ArgSort ? Dtype::kUInt32 : c.in[0].dtype()}};
}

Types scan_results(const Case& c) {
  c.operands(1, 1);
  const auto& p = c.as<ScanParams>();
  c.one_of(p.kind, ScanKind::kLogAddExp);
  const Array out = scan(c.in[0], p.kind, p.axis, p.reverse, p.inclusive);
  c.want(out.dtype() == c.in[0].dtype(), "a dtype that the op computes in");
  return {{out.shape(), out.dtype()}};
}

Types fft_results(const Case& c) {
  c.operands(1, 1);
  const auto& p = c.as<FftParams>();
  c.one_of(p.kind, FftKind::kRealInverse);
  c.axis(p.axis, c.shape(0));
  const bool half_in = p.kind == FftKind::kRealInverse, half_out = p.kind == FftKind::kRealForward;
  c.want(c.in[0].dtype() == (half_out ? Dtype::kFloat32 : Dtype::kComplex64), "float32 or complex64 lines");
  c.want(c.wanted().size() == c.shape(0).size(), "a result of as many axes");
  const int64_t n = half_in ? at(c.wanted(), p.axis) : at(c.shape(0), p.axis);
  c.want(n >= 1 && (!half_in || n / 2 + 1 == at(c.shape(0), p.axis)), "lines of at least one sample");
  Shape shape = c.shape(0);
  shape[static_cast<size_t>(p.axis)] = half_out ? n / 2 + 1 : n;
  return {{shape, half_in ? Dtype::kFloat32 : Dtype::kComplex64}};
}

Types random_bits_results(const Case& c) {
  c.operands(1, 1);
  const int width = c.as<RandomBitsParams>().width;
  const Shape& key = c.shape(0);
  c.want(c.in[0].dtype() == Dtype::kUInt32 && !key.empty() && key.back() == 2, "uint32 keys (..., 2)");
  c.want(c.wanted().size() + 1 >= key.size() && std::equal(key.begin(), key.end() - 1, c.wanted().begin()),
         "a result for each key");
  c.want(width == 1 || width == 2 || width == 4, "words of 1, 2 or 4 bytes");
  return {{c.wanted(), width == 1 ? Dtype::kUInt8 : width == 2 ? Dtype::kUInt16 : Dtype::kUInt32}};
}

// ---- products ----

Types matmul_results(const Case& c) {
  c.operands(2, 2);
  c.same_dtypes();
  const Shape &a = c.shape(0), &b = c.shape(1);
  c.want(a.size() >= 2 && a.size() == b.size() && batch_of(a) == batch_of(b) && at(a, -1) == at(b, -2),
         "two batches of matrices that fit");
  return {{joined(batch_of(a), {at(a, -2), at(b, -1)}), c.in[0].dtype()}};
}

Types segmented_matmul_results(const Case& c) {
  c.operands(3, 3);
  const Shape &a = c.shape(0), &b = c.shape(1), &segments = c.shape(2);
  c.want(a.size() == 2 && b.size() == 2 && a[1] == b[0], "two matrices that fit");
  c.want(c.in[0].dtype() == c.in[1].dtype() && is_inexact(c.in[0].dtype()), "factors of one inexact dtype");
  c.want(c.in[2].dtype() == Dtype::kInt64 && !segments.empty() && segments.back() == 2, "pairs of int64");
  Shape shape(segments.begin(), segments.end() - 1);
  shape.push_back(a[0]);
  shape.push_back(b[1]);
  return {{shape, c.in[0].dtype()}};
}

// Operand `last`: integers, one for each of the first operand's matrices.
void check_picks(const Case& c, size_t last) {
  c.want(is_integer(c.in[last].dtype()) && c.shape(last) == batch_of(c.shape(0)),
         "an integer index for each of the first factor's matrices");
}

Types gather_matmul_results(const Case& c) {
  c.operands(3, 3);
  const Shape &a = c.shape(0), &b = c.shape(1);
  c.want(c.in[0].dtype() == c.in[1].dtype() && is_inexact(c.in[0].dtype()), "factors of one inexact dtype");
  c.want(a.size() >= 2 && b.size() == 3 && a.back() == b[1], "matrices and a batch of matrices that fit");
  check_picks(c, 2);
  return {{joined(batch_of(a), {at(a, -2), b[2]}), c.in[0].dtype()}};
}

Types convolution_results(const Case& c) {
  c.operands(2, 2);
  c.same_dtypes();
  const auto& p = c.as<ConvolutionParams>();
  for (const Shape* s : {&p.stride, &p.padding_lo, &p.padding_hi, &p.kernel_dilation, &p.input_dilation}) {
    c.want(s->size() + 2 == c.shape(0).size(), "an entry for each spatial axis");
  }
  const Array out = conv_general(
      c.in[0], c.in[1],
      {p.stride, p.padding_lo, p.padding_hi, p.kernel_dilation, p.input_dilation, p.groups, p.flip});
  return {{out.shape(), out.dtype()}};
}

bool is_affine(const QuantParams& p) { return p.format == QuantFormat::kAffine; }

void check_quant(const Case& c, const QuantParams& p) {
  c.one_of(p.mode, QuantizedMode::kInt8);
  c.want(is_affine(p) || is_block_format(p.format), "a known format");
  const bool known =
      is_affine(p) ? affine_supported(p.group_size, p.bits)
                   : p.group_size == block_format(p.format).block && p.bits == block_format(p.format).bits;
  c.want(known, "a known group size and number of bits");
}

// Of how many arrays a packed matrix is made.
size_t packed_parts(const QuantParams& p) {
  if (is_affine(p)) return 3;
  return block_format(p.format).scale_bytes > 0 ? 2 : 1;
}

// Codes and the scales of a block format at in[first]; returns the number of columns.
int64_t check_blocks(const Case& c, size_t first, const QuantParams& p) {
  const BlockFormat& f = block_format(p.format);
  const Array& w = c.in[first];
  c.want(w.dtype() == f.code_dtype && w.ndim() >= 2, "packed rows of the format's dtype");
  const int64_t bytes = w.shape(-1) * static_cast<int64_t>(itemsize(w.dtype()));
  c.want(bytes % f.code_bytes == 0, "rows of whole blocks");
  if (f.scale_bytes > 0) {
    const Array& scales = c.in[first + 1];
    c.want(scales.dtype() == Dtype::kUInt8 && scales.ndim() == w.ndim() &&
               batch_of(scales.shape()) == batch_of(w.shape()) && scales.shape(-2) == w.shape(-2) &&
               scales.shape(-1) == bytes / f.code_bytes * f.scale_bytes,
           "scales of uint8 for each block");
  }
  return bytes / f.code_bytes * f.block;
}

// A packed matrix at in[first]; returns the number of columns.
int64_t check_packed(const Case& c, size_t first, const QuantParams& p) {
  if (!is_affine(p)) return check_blocks(c, first, p);
  const Array &w = c.in[first], &scales = c.in[first + 1], &biases = c.in[first + 2];
  c.want(w.dtype() == Dtype::kUInt32 && w.ndim() >= 2, "packed uint32 rows");
  c.want(contains(kShortFloats, scales.dtype()) && scales.dtype() == biases.dtype(),
         "scales and biases of one floating dtype");
  c.want(scales.shape() == biases.shape() && batch_of(scales.shape()) == batch_of(w.shape()) &&
             scales.shape(-2) == w.shape(-2) && scales.shape(-1) * p.group_size * p.bits == w.shape(-1) * 32,
         "a scale and a bias for each group");
  return scales.shape(-1) * p.group_size;
}

// The global scales at in[at], where there are any, of the matrices of w.
void check_global(const Case& c, size_t at, const QuantParams& p, const Shape& w) {
  if (c.in.size() <= at) return;
  int64_t matrices = 1;
  for (int64_t n : batch_of(w)) matrices *= n;
  const Array& g = c.in[at];
  c.want(p.format == QuantFormat::kNvfp4 && g.dtype() == Dtype::kFloat32 && g.ndim() == 1 &&
             (g.size() == 1 || g.size() == matrices),
         "a global scale for all matrices or for each");
}

Types quantize_results(const Case& c) {
  c.operands(1, 2);
  const auto& p = c.as<QuantParams>();
  check_quant(c, p);
  c.want(c.shape(0).size() >= 2, "at least 2 axes");
  check_global(c, 1, p, c.shape(0));
  Types out;
  for (const Array& a : quantize(c.in[0], p.spec())) out.push_back({a.shape(), a.dtype()});
  return out;
}

Types dequantize_results(const Case& c) {
  const auto& p = c.as<QuantParams>();
  check_quant(c, p);
  const size_t parts = packed_parts(p);
  c.operands(parts, parts + (p.format == QuantFormat::kNvfp4));
  const int64_t columns = check_packed(c, 0, p);
  check_global(c, parts, p, c.shape(0));
  c.want(is_affine(p) || contains(kShortFloats, c.dtype()), "a result of float32, float16 or bfloat16");
  return {{joined(batch_of(c.shape(0)), {at(c.shape(0), -2), columns}),
           is_affine(p) ? c.in[1].dtype() : c.dtype()}};
}

// Rows by packed matrices, of which the operands behind the first are the parts, and `others` more follow.
Types packed_product(const Case& c, size_t others) {
  const auto& p = c.as<QuantParams>();
  check_quant(c, p);
  const size_t operands = 1 + packed_parts(p) + others;
  c.operands(operands, operands);
  const int64_t columns = check_packed(c, 1, p), rows = c.in[1].shape(-2);
  const Shape& x = c.shape(0);
  c.want(contains(kShortFloats, c.in[0].dtype()) && x.size() >= 2, "rows of float32, float16 or bfloat16");
  c.want(at(x, -1) == (p.transpose ? columns : rows), "rows as long as the matrix's");
  return {{joined(batch_of(x), {at(x, -2), p.transpose ? rows : columns}),
           is_affine(p) ? promote(c.in[0].dtype(), c.in[2].dtype()) : c.in[0].dtype()}};
}

Types quantized_matmul_results(const Case& c) {
  const Types results = packed_product(c, 0);
  const Shape &x = c.shape(0), &w = c.shape(1);
  c.want(w.size() == 2 || batch_of(w) == batch_of(x), "one matrix, or one for each batch");
  return results;
}

Types gather_quantized_results(const Case& c) {
  const Types results = packed_product(c, 1);
  c.want(c.shape(1).size() == 3, "a batch of packed matrices");
  check_picks(c, c.in.size() - 1);
  return results;
}

// ---- language models ----

Types rope_results(const Case& c) {
  const auto& p = c.as<RopeParams>();
  c.operands(p.has_freqs ? 3 : 2, p.has_freqs ? 3 : 2);
  const std::optional<Array> freqs = p.has_freqs ? std::optional(c.in[2]) : std::nullopt;
  c.want(!freqs || freqs->dtype() == Dtype::kFloat32, "float32 frequencies");
  c.want(c.in[0].dtype() != Dtype::kFloat64, "float32, float16 or bfloat16");
  fast::rope(c.in[0], p.dims, p.traditional, freqs ? std::nullopt : std::optional<double>(p.base), p.scale,
             c.in[1],
             freqs);  // throws where they do not fit
  return {c.like(0)};
}

Types attention_results(const Case& c) {
  const auto& p = c.as<AttentionParams>();
  const size_t own = 3u + (p.has_mask ? 1 : 0) + (p.has_sinks ? 1 : 0);
  const bool backward = c.recipe.op == OpId::AttentionBackward;
  c.operands(backward ? own + 3 : own, backward ? own + 3 : own);
  const Dtype t = c.in[0].dtype();
  c.want(t != Dtype::kFloat64 && c.in[1].dtype() == t && c.in[2].dtype() == t,
         "queries, keys and values of one dtype but float64");
  const std::optional<Array> mask = p.has_mask ? std::optional(c.in[3]) : std::nullopt;
  const std::optional<Array> sinks = p.has_sinks ? std::optional(c.in[own - 1]) : std::nullopt;
  const Array out = fast::scaled_dot_product_attention(c.in[0], c.in[1], c.in[2], p.scale, mask, p.causal,
                                                       sinks);  // throws where they do not fit
  const Shape &q = c.shape(0), &k = c.shape(1);
  const Shape rows{q[0], q[1], q[2]};
  c.want(!mask || (mask->shape() == Shape{q[0], q[1], q[2], k[2]} && mask->dtype() != Dtype::kFloat64),
         "a mask of the scores' shape");
  c.want(!sinks || sinks->dtype() == Dtype::kFloat32, "float32 sinks");
  if (!backward) return {{out.shape(), t}, {rows, Dtype::kFloat32}};
  c.want(c.shape(own) == out.shape() && c.shape(own + 2) == out.shape() && c.shape(own + 1) == rows &&
             c.in[own].dtype() == t && c.in[own + 2].dtype() == t &&
             c.in[own + 1].node()->op == OpId::Contiguous && c.in[own + 1].dtype() == Dtype::kFloat32,
         "the output, its rows' log-sum-exp and the output's cotangent");
  return {c.like(0), c.like(1), c.like(2)};
}

Types paged_attention_results(const Case& c) {
  const auto& p = c.as<PagedAttentionParams>();
  const size_t own = 6u + p.has_sinks + p.has_key_scales + p.has_value_scales;
  c.operands(own, own);
  fast::PagedAttention options;
  options.scale = p.scale;
  if (p.window != 0) options.window = p.window;
  if (p.softcap != 0) options.softcap = p.softcap;
  size_t next = 6;
  if (p.has_sinks) options.sinks = c.in[next++];
  if (p.has_key_scales) options.key_scales = c.in[next++];
  if (p.has_value_scales) options.value_scales = c.in[next++];
  c.want(!p.has_sinks || options.sinks->dtype() == Dtype::kFloat32, "float32 sinks");
  const Array out = fast::paged_attention(c.in[0], c.in[1], c.in[2], c.in[3], c.in[4], c.in[5],
                                          options);  // throws where they do not fit
  return {{out.shape(), out.dtype()}};
}

Types cache_write_results(const Case& c) {
  c.operands(3, 3);
  fast::cache_write(c.in[0], c.in[1], c.in[2]);  // throws where they do not fit
  return {c.like(0)};
}

Types quantize_kv_results(const Case& c) {
  c.operands(1, 1);
  Types out;
  for (const Array& a : fast::quantize_kv(c.in[0], c.as<QuantizeKvParams>().bits)) {
    out.push_back({a.shape(), a.dtype()});
  }
  return out;
}

// ---- matrices ----

void check_square(const Case& c, DtypeSet dtypes) {
  const Shape& a = c.shape(0);
  c.want(contains(dtypes, c.in[0].dtype()), "a dtype that the op computes in");
  c.want(a.size() >= 2 && at(a, -1) == at(a, -2), "square matrices");
}

Types solve_results(const Case& c) {
  c.operands(2, 2);
  if (c.recipe.op == OpId::SolveTriangular) c.as<TriangleParams>();
  check_square(c, kSolverDtypes);
  c.same_dtypes();
  const Shape &a = c.shape(0), &b = c.shape(1);
  c.want(a.size() == b.size() && batch_of(a) == batch_of(b) && at(a, -1) == at(b, -2),
         "right-hand sides that fit");
  return {c.like(1)};
}

Types factor_results(const Case& c) {
  c.operands(1, 1);
  const Shape& a = c.shape(0);
  const Dtype t = c.in[0].dtype();
  const bool complex_too = c.recipe.op == OpId::Svd;
  c.want(contains(kSolverDtypes | (complex_too ? kComplex : DtypeSet{0}), t),
         "a dtype that the op computes in");
  c.want(a.size() >= 2, "matrices");
  const Shape batch = batch_of(a);
  const int64_t m = at(a, -2), n = at(a, -1), k = std::min(m, n);
  if (c.recipe.op == OpId::Lu) {
    return {{a, t}, {joined(batch, {k}), Dtype::kUInt32}, {joined(batch, {m}), Dtype::kUInt32}};
  }
  if (c.recipe.op == OpId::Qr) return {{joined(batch, {m, k}), t}, {joined(batch, {k, n}), t}};
  const SvdMode mode = c.as<SvdParams>().mode;
  c.one_of(mode, SvdMode::kFull);
  const ResultType values{joined(batch, {k}), is_complex(t) ? Dtype::kFloat32 : t};
  if (mode == SvdMode::kValues) return {values};
  const bool thin = mode == SvdMode::kThin;
  return {{joined(batch, {m, thin ? k : m}), t}, values, {joined(batch, {thin ? k : n, n}), t}};
}

Types eigen_results(const Case& c) {
  c.operands(1, 1);
  check_square(c, kSolverDtypes | kComplex);
  const auto& p = c.as<EigParams>();
  const bool general = c.recipe.op == OpId::Eig;
  const Dtype t = c.in[0].dtype();
  const Dtype values = general ? Dtype::kComplex64 : is_complex(t) ? Dtype::kFloat32 : t;
  Types out{{joined(batch_of(c.shape(0)), {at(c.shape(0), -1)}), values}};
  if (p.vectors) out.push_back({c.shape(0), general ? Dtype::kComplex64 : t});
  return out;
}

}  // namespace

Types kernel_results(const Case& c) {
  switch (c.recipe.op) {
    case OpId::Contiguous: c.operands(1, 1); return {c.like(0)};
    case OpId::Arange:
      c.operands(0, 0);
      c.as<ArangeParams>();
      c.want(c.wanted().size() == 1 && c.dtype() != Dtype::kBool, "a result of one axis, not of bool");
      return {c.recipe.results[0]};
    case OpId::Concatenate: return concatenate_results(c);
    case OpId::SliceUpdate: return slice_update_results(c);
    case OpId::Gather: return gather_results(c);
    case OpId::GatherAxis: return gather_axis_results(c);
    case OpId::Scatter: return scatter_results(c);
    case OpId::ScatterAxis: return scatter_axis_results(c);
    case OpId::Matmul: return matmul_results(c);
    case OpId::SegmentedMatmul: return segmented_matmul_results(c);
    case OpId::GatherMatmul: return gather_matmul_results(c);
    case OpId::ArgReduce: return arg_reduce_results(c);
    case OpId::Sort:
    case OpId::ArgSort: return sort_results(c);
    case OpId::Scan: return scan_results(c);
    case OpId::RandomBits: return random_bits_results(c);
    case OpId::AffineQuantize: return quantize_results(c);
    case OpId::AffineDequantize: return dequantize_results(c);
    case OpId::QuantizedMatmul: return quantized_matmul_results(c);
    case OpId::GatherQuantizedMatmul: return gather_quantized_results(c);
    case OpId::Rope: return rope_results(c);
    case OpId::Attention:
    case OpId::AttentionBackward: return attention_results(c);
    case OpId::PagedAttention: return paged_attention_results(c);
    case OpId::CacheWrite: return cache_write_results(c);
    case OpId::QuantizeKv: return quantize_kv_results(c);
    case OpId::Convolution: return convolution_results(c);
    case OpId::Fft: return fft_results(c);
    case OpId::Cholesky:
      c.operands(1, 1);
      c.as<TriangleParams>();
      check_square(c, kSolverDtypes);
      return {c.like(0)};
    case OpId::Solve:
    case OpId::SolveTriangular: return solve_results(c);
    case OpId::Lu:
    case OpId::Qr:
    case OpId::Svd: return factor_results(c);
    case OpId::Eigh:
    case OpId::Eig: return eigen_results(c);
    default: c.wrong("an op that can be made from a recipe");
  }
}

}  // namespace lamina::remaking
