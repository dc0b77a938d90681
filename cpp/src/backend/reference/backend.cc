#include "backend/backend.h"

#include <cstring>

#include "backend/reference/arg_reduce.h"
#include "backend/reference/concat.h"
#include "backend/reference/convolution.h"
#include "backend/reference/copy.h"
#include "backend/reference/elementwise.h"
#include "backend/reference/fft.h"
#include "backend/reference/fill.h"
#include "backend/reference/gather.h"
#include "backend/reference/gather_products.h"
#include "backend/reference/kernels.h"
#include "backend/reference/linalg.h"
#include "backend/reference/matmul.h"
#include "backend/reference/random.h"
#include "backend/reference/reduce.h"
#include "backend/reference/scan.h"
#include "backend/reference/scatter.h"
#include "backend/reference/sort.h"
#include "backend/tile_copies.h"
#include "quant/affine.h"
#include "quant/formats.h"
#include "quant/fp_blocks.h"

namespace lamina {
namespace {

void run_contiguous(const KernelCall& c) { reference::copy(c.in[0], c.out[0]); }

void run_arange(const KernelCall& c) {
  const auto& p = c.as<ArangeParams>();
  if (is_integer(c.out[0].dtype)) {
    reference::arange(c.out[0], p.int_start, p.int_step);
  } else {
    reference::arange(c.out[0], p.start, p.step);
  }
}

void run_concatenate(const KernelCall& c) { reference::concatenate(c.in, c.out[0], c.as<AxisParams>().axis); }

void run_gather(const KernelCall& c) {
  const auto& p = c.as<GatherParams>();
  reference::gather(c.in[0], c.in.subspan(1), p.axes, p.slice_sizes, c.out[0]);
}
void run_gather_axis(const KernelCall& c) {
  reference::take_along_axis(c.in[0], c.in[1], c.out[0], c.as<AxisParams>().axis);
}
void run_matmul(const KernelCall& c) { reference::matmul(c.in[0], c.in[1], c.out[0]); }
void run_segmented_matmul(const KernelCall& c) {
  reference::segmented_matmul(c.in[0], c.in[1], c.in[2], c.out[0], reference::matmul);
}
void run_gather_matmul(const KernelCall& c) { reference::gather_products(c, run_matmul); }
void run_gather_quantized_matmul(const KernelCall& c) {
  reference::gather_products(c, reference::run_quantized_matmul);
}
void run_arg_reduce(const KernelCall& c) {
  const auto& p = c.as<ArgReduceParams>();
  reference::arg_reduce(p.largest ? reference::ArgReduceKind::kMax : reference::ArgReduceKind::kMin, c.in[0],
                        c.out[0], p.axis);
}
void run_sort(const KernelCall& c) { reference::sort(c.in[0], c.out[0], c.as<AxisParams>().axis); }
void run_argsort(const KernelCall& c) { reference::argsort(c.in[0], c.out[0], c.as<AxisParams>().axis); }
void run_scan(const KernelCall& c) {
  const auto& p = c.as<ScanParams>();
  reference::scan(p.kind, c.in[0], c.out[0], p.axis, p.reverse, p.inclusive);
}
void run_random_bits(const KernelCall& c) { reference::random_bits(c.in[0], c.out[0]); }
void run_quantize(const KernelCall& c) {
  const auto& p = c.as<QuantParams>();
  if (p.format != QuantFormat::kAffine) {
    return fp_quantize(p.format, c.in[0], c.in.size() > 1 ? &c.in[1] : nullptr, c.out[0], c.out[1]);
  }
  affine_quantize(c.in[0], p.group_size, p.bits, c.out[0], c.out[1], c.out[2]);
}
void run_dequantize(const KernelCall& c) {
  const auto& p = c.as<QuantParams>();
  if (p.format != QuantFormat::kAffine) {
    if (c.in.size() > 2) return nvfp4_dequantize(c.in[0], c.in[1], c.in[2], c.out[0]);
    return block_dequantize(p.format, c.in[0], c.in.size() > 1 ? &c.in[1] : nullptr, c.out[0]);
  }
  affine_dequantize(c.in[0], c.in[1], c.in[2], p.group_size, p.bits, c.out[0]);
}

void run_fft(const KernelCall& c) {
  const auto& p = c.as<FftParams>();
  reference::fft(p.kind, c.in[0], c.out[0], p.axis, p.scale);
}
void run_cholesky(const KernelCall& c) {
  reference::cholesky(c.in[0], c.as<TriangleParams>().upper, c.out[0]);
}
void run_solve(const KernelCall& c) { reference::solve(c.in[0], c.in[1], c.out[0]); }
void run_solve_triangular(const KernelCall& c) {
  reference::solve_triangular(c.in[0], c.in[1], c.as<TriangleParams>().upper, c.out[0]);
}
void run_lu(const KernelCall& c) { reference::lu(c.in[0], c.out[0], c.out[1], c.out[2]); }
void run_qr(const KernelCall& c) { reference::qr(c.in[0], c.out[0], c.out[1]); }
void run_svd(const KernelCall& c) {
  const bool vectors = c.as<SvdParams>().mode != SvdMode::kValues;
  reference::svd(c.in[0], vectors ? &c.out[0] : nullptr, c.out[vectors ? 1 : 0],
                 vectors ? &c.out[2] : nullptr);
}
void run_eigh(const KernelCall& c) {
  const auto& p = c.as<EigParams>();
  reference::eigh(c.in[0], p.upper, c.out[0], p.vectors ? &c.out[1] : nullptr);
}
void run_eig(const KernelCall& c) {
  reference::eig(c.in[0], c.out[0], c.as<EigParams>().vectors ? &c.out[1] : nullptr);
}

}  // namespace

namespace reference {

void fill_linear_algebra(std::array<KernelEntry, kNumOps>& k) {
  auto set = [&k](OpId id, void (*run)(const KernelCall&)) {
    k[static_cast<size_t>(id)] = {run, false, true};
  };
  set(OpId::Cholesky, run_cholesky);
  set(OpId::Solve, run_solve);
  set(OpId::SolveTriangular, run_solve_triangular);
  set(OpId::Lu, run_lu);
  set(OpId::Qr, run_qr);
  set(OpId::Svd, run_svd);
  set(OpId::Eigh, run_eigh);
  set(OpId::Eig, run_eig);
}

View box_view(const View& whole, const SliceUpdateParams& p, const Shape& shape) {
  View box = whole;
  box.shape = shape;
  int64_t offset = 0;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] > 0) offset += p.start[i] * whole.strides[i];
    box.strides[i] = whole.strides[i] * p.strides[i];
  }
  box.data = static_cast<char*>(whole.data) + offset * static_cast<int64_t>(itemsize(whole.dtype));
  return box;
}

void run_slice_update(const KernelCall& c, void (*copy_fn)(const View&, const View&)) {
  const auto& p = c.as<SliceUpdateParams>();
  if (c.out[0].data != c.in[0].data) copy_fn(c.in[0], c.out[0]);
  copy_fn(c.in[1], box_view(c.out[0], p, c.in[1].shape));
}

void run_scatter(const KernelCall& c, void (*copy_fn)(const View&, const View&)) {
  const auto& p = c.as<ScatterParams>();
  if (c.out[0].data != c.in[0].data) copy_fn(c.in[0], c.out[0]);
  scatter(c.out[0], c.in.subspan(2), c.in[1], p.axes, p.mode);
}

void run_scatter_axis(const KernelCall& c, void (*copy_fn)(const View&, const View&)) {
  const auto& p = c.as<ScatterAxisParams>();
  if (c.out[0].data != c.in[0].data) copy_fn(c.in[0], c.out[0]);
  scatter_along_axis(c.out[0], c.in[1], c.in[2], p.axis, p.mode);
}

void fill_kernels(std::array<KernelEntry, kNumOps>& k) {
  auto set = [&k](OpId id, void (*run)(const KernelCall&), bool in_place = false) {
    k[static_cast<size_t>(id)] = {run, in_place, false};
  };
  set(OpId::Contiguous, run_contiguous);
  set(OpId::Arange, run_arange);
  set(OpId::Concatenate, run_concatenate);
  set(OpId::Gather, run_gather);
  set(OpId::GatherAxis, run_gather_axis);
  set(
      OpId::SliceUpdate, [](const KernelCall& c) { run_slice_update(c, copy); }, true);
  set(
      OpId::Scatter, [](const KernelCall& c) { run_scatter(c, copy); }, true);
  set(
      OpId::ScatterAxis, [](const KernelCall& c) { run_scatter_axis(c, copy); }, true);
  set(OpId::Matmul, run_matmul);
  set(OpId::SegmentedMatmul, run_segmented_matmul);
  set(OpId::GatherMatmul, run_gather_matmul);
  set(OpId::GatherQuantizedMatmul, run_gather_quantized_matmul);
  set(OpId::ArgReduce, run_arg_reduce);
  set(OpId::Sort, run_sort);
  set(OpId::ArgSort, run_argsort);
  set(OpId::Scan, run_scan);
  set(OpId::RandomBits, run_random_bits);
  set(OpId::AffineQuantize, run_quantize);
  set(OpId::AffineDequantize, run_dequantize);
  set(OpId::QuantizedMatmul, run_quantized_matmul);
  set(OpId::Rope, run_rope);
  set(OpId::Attention, run_attention);
  set(OpId::AttentionBackward, run_attention_backward);
  set(OpId::PagedAttention, run_paged_attention);
  set(OpId::CacheWrite, run_cache_write, true);
  set(OpId::QuantizeKv, run_quantize_kv);
  set(OpId::Convolution,
      [](const KernelCall& c) { convolution(c.in[0], c.in[1], c.out[0], c.as<ConvolutionParams>()); });
  set(OpId::Fft, run_fft);
  fill_linear_algebra(k);
#define REDUCE(id, ...) set(OpId::id, run_reduce);
#include "lamina/table/reduce.def"
#undef REDUCE
}

}  // namespace reference

const Backend& reference_backend() {
  static const Backend b = [] {
    Backend r{"reference", {},      reference_tile, reference_cast, reference_reduce, fill,
              nullptr,     nullptr, nullptr,        nullptr,        reference::copy,  false,
              true};
    reference::fill_kernels(r.kernels);
    return r;
  }();
  return b;
}

}  // namespace lamina
