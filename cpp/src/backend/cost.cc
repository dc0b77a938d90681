#include "backend/cost.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "backend/paged_call.h"

namespace lamina {
namespace {

double count(const View& v) { return static_cast<double>(v.size()); }
double length(const View& v, size_t from_end) {
  return v.shape.size() < from_end ? 1.0 : static_cast<double>(v.shape[v.shape.size() - from_end]);
}
double log2_of(double n) { return n > 1 ? std::log2(n) : 0; }
// Real multiplications and additions of a complex multiply-add, for one of a real one.
double width(const View& v) { return is_complex(v.dtype) ? 4 : 1; }

// Elements along the inner axis of all products of segmented_mm: sums of the lengths of its ranges.
double segment_lengths(const View& segments) {
  const size_t axes = segments.shape.size();
  double total = 0;
  Shape at(axes, 0);
  for (int64_t i = 0, n = segments.size() / 2; i < n; ++i) {
    int64_t offset = 0;
    for (size_t a = 0; a < axes; ++a) offset += at[a] * segments.strides[a];
    const int64_t* begin = segments.as<int64_t>() + offset;
    total += static_cast<double>(std::max<int64_t>(0, begin[segments.strides[axes - 1]] - *begin));
    for (size_t a = axes - 1; a-- > 0;) {
      if (++at[a] < segments.shape[a]) break;
      at[a] = 0;
    }
  }
  return total;
}

// Scores that attention computes: all pairs of a query and a key, or those that causality leaves.
double attention_pairs(const KernelCall& c) {
  const View &q = c.in[0], &k = c.in[1];
  const double rows = length(q, 2), keys = length(k, 2);
  double pairs = rows * keys;
  if (c.as<AttentionParams>().causal) {
    // Row i sees keys up to keys - rows + i; rows before the first key see none.
    const double seen = std::min(rows, keys);
    pairs = seen * keys - seen * (seen - 1) / 2;
  }
  return pairs * count(q) / std::max(1.0, rows * length(q, 1));
}

double attention_flops(const KernelCall& c) {
  const double dims = length(c.in[0], 1), value_dims = length(c.in[2], 1);
  // Forward: scores and their product with the values. Backward: scores again, and four products more.
  const double products = c.op == OpId::Attention ? dims + value_dims : 3 * dims + 2 * value_dims;
  return 2 * attention_pairs(c) * products;
}

// The same, and positions of the cache that are read, for a ragged batch.
struct PagedWork {
  double pairs = 0, positions = 0;
};
PagedWork paged_work(const KernelCall& c) {
  const PagedArgs a(c);
  PagedWork work;
  for (const PagedSequence& s : paged_sequences(a)) {
    for (int64_t row = 0; row < s.rows; ++row) {
      const int64_t position = s.position(row);
      work.pairs += static_cast<double>(position + 1 - a.first_seen(position));
    }
    work.positions += static_cast<double>(s.length - a.first_seen(s.position(0)));
  }
  work.pairs *= length(a.q, 2);
  work.positions *= length(a.k, 3);
  return work;
}

double paged_flops(const KernelCall& c) {
  return 2 * paged_work(c).pairs * (length(c.in[0], 1) + length(c.out[0], 1));
}

// Of the pools and their scales, the rows that are read.
uint64_t paged_bytes_left(const KernelCall& c) {
  const PagedArgs a(c);
  double row = 0, all = 0;
  for (const View* v : {&a.k, &a.v, a.key_scales, a.value_scales}) {
    if (!v) continue;
    row += length(*v, 1) * static_cast<double>(itemsize(v->dtype));
    all += static_cast<double>(extent_bytes(*v));
  }
  return static_cast<uint64_t>(std::max(0.0, all - paged_work(c).positions * row));
}

double fft_flops(const KernelCall& c) {
  const auto& p = c.as<FftParams>();
  const bool real = p.kind == FftKind::kRealForward || p.kind == FftKind::kRealInverse;
  const View& whole = p.kind == FftKind::kRealForward ? c.in[0] : c.out[0];
  const double n = static_cast<double>(whole.shape[static_cast<size_t>(p.axis)]);
  return (real ? 2.5 : 5.0) * count(whole) * log2_of(n);
}

double rope_flops(const KernelCall& c) {
  const double dims = length(c.out[0], 1);
  return dims > 0 ? 3 * count(c.out[0]) * c.as<RopeParams>().dims / dims : 0;
}

double convolution_flops(const KernelCall& c) {
  const double channels = static_cast<double>(c.in[1].shape[0]);
  return channels > 0 ? 2 * width(c.out[0]) * count(c.out[0]) * count(c.in[1]) / channels : 0;
}

// The usual counts for matrices of m rows and n columns (m >= n), from textbooks of matrix computations.
double linalg_flops(const KernelCall& c) {
  const View& a = c.in[0];
  const double rows = length(a, 2), columns = length(a, 1);
  const double m = std::max(rows, columns), n = std::min(rows, columns);
  const double matrices = rows * columns > 0 ? count(a) / (rows * columns) : 0;
  double one = 0;
  switch (c.op) {
    case OpId::Cholesky: one = n * n * n / 3; break;
    case OpId::Solve: one = 2 * n * n * n / 3 + 2 * n * n * length(c.in[1], 1); break;
    case OpId::SolveTriangular: one = n * n * length(c.in[1], 1); break;
    case OpId::Lu: one = m * n * n - n * n * n / 3; break;
    case OpId::Qr: one = 4 * (m * n * n - n * n * n / 3); break;
    case OpId::Svd:
      one = c.as<SvdParams>().mode == SvdMode::kValues ? 4 * m * n * n - 4 * n * n * n / 3
                                                       : 14 * m * n * n + 8 * n * n * n;
      break;
    case OpId::Eigh: one = (c.as<EigParams>().vectors ? 9 : 4.0 / 3) * n * n * n; break;
    default: one = (c.as<EigParams>().vectors ? 25 : 10) * n * n * n; break;
  }
  return one * matrices * width(a);
}

double kernel_flops(const KernelCall& c) {
  const View& out = c.out[0];
  switch (c.op) {
    case OpId::Matmul: return 2 * width(out) * count(out) * length(c.in[0], 1);
    case OpId::SegmentedMatmul:
      return 2 * width(out) * length(c.in[0], 2) * length(c.in[1], 1) * segment_lengths(c.in[2]);
    case OpId::GatherMatmul: return 2 * width(out) * count(out) * length(c.in[0], 1);
    case OpId::QuantizedMatmul:
    case OpId::GatherQuantizedMatmul: return 2 * count(out) * length(c.in[0], 1);
    case OpId::Attention:
    case OpId::AttentionBackward: return attention_flops(c);
    case OpId::PagedAttention: return paged_flops(c);
    case OpId::QuantizeKv: return 4 * count(c.in[0]);
    case OpId::Convolution: return convolution_flops(c);
    case OpId::Fft: return fft_flops(c);
    case OpId::Rope: return rope_flops(c);
    case OpId::Sort:
    case OpId::ArgSort:
      return count(out) *
             log2_of(static_cast<double>(out.shape[static_cast<size_t>(c.as<AxisParams>().axis)]));
    case OpId::Scan:
    case OpId::ArgReduce: return count(c.in[0]);
    case OpId::Arange: return 2 * count(out);
    // Threefry-2x32: 20 rounds of three operations and 15 additions of keys for each 8 bytes.
    case OpId::RandomBits: return 75.0 / 8 * static_cast<double>(extent_bytes(out));
    case OpId::AffineQuantize: return 4 * count(c.in[0]);
    case OpId::AffineDequantize: return 2 * count(out);
    case OpId::Scatter: return c.as<ScatterParams>().mode == ScatterMode::kSet ? 0 : count(c.in.back());
    case OpId::ScatterAxis:
      return c.as<ScatterAxisParams>().mode == ScatterMode::kSet ? 0 : count(c.in.back());
    case OpId::Cholesky:
    case OpId::Solve:
    case OpId::SolveTriangular:
    case OpId::Lu:
    case OpId::Qr:
    case OpId::Svd:
    case OpId::Eigh:
    case OpId::Eig: return linalg_flops(c);
    default: return op_info(c.op).family == Family::kReduce ? count(c.in[0]) : 0;
  }
}

}  // namespace

uint64_t extent_bytes(const View& v) {
  uint64_t n = itemsize(v.dtype);
  for (size_t i = 0; i < v.shape.size(); ++i) {
    if (v.strides[i] != 0 || v.shape[i] == 0) n *= static_cast<uint64_t>(v.shape[i]);
  }
  return n;
}

Cost kernel_cost(const KernelCall& call) {
  Cost cost;
  for (const View& v : call.in) cost.bytes_read += extent_bytes(v);
  for (const View& v : call.out) cost.bytes_written += extent_bytes(v);
  // An update of memory that is the result's already touches what it updates.
  if (!call.in.empty() && call.in[0].data == call.out[0].data && cost.bytes_written > 0) {
    cost.bytes_read -= extent_bytes(call.in[0]);
    cost.bytes_written =
        std::min(cost.bytes_written, extent_bytes(call.op == OpId::CacheWrite ? call.in[1] : call.in.back()));
  }
  if (call.op == OpId::PagedAttention) cost.bytes_read -= paged_bytes_left(call);
  // Of what is gathered from, the kernel reads what it picks.
  if (call.op == OpId::Gather || call.op == OpId::GatherAxis) {
    const uint64_t all = extent_bytes(call.in[0]);
    cost.bytes_read -= all - std::min(all, cost.bytes_written);
  }
  // Of a batch of matrices, at most as many as there are indices.
  if (call.op == OpId::GatherMatmul || call.op == OpId::GatherQuantizedMatmul) {
    const auto matrices = static_cast<uint64_t>(std::max<int64_t>(1, call.in[1].shape[0]));
    const uint64_t picked = std::min(matrices, static_cast<uint64_t>(call.in.back().size()));
    for (const View& part : call.in.subspan(1, call.in.size() - 2)) {
      cost.bytes_read -= extent_bytes(part) / matrices * (matrices - picked);
    }
  }
  cost.flops = kernel_flops(call);
  return cost;
}

Cost tape_cost(const fusion::Tape& tape, int row_axes, const Shape& full, std::span<const View> in,
               std::span<const View> out) {
  Cost cost;
  for (const View& v : in) cost.bytes_read += extent_bytes(v);
  for (const View& v : out) cost.bytes_written += extent_bytes(v);
  double rows = 1, row_length = 1;
  for (size_t i = 0; i < full.size(); ++i) {
    (i + static_cast<size_t>(row_axes) < full.size() ? rows : row_length) *= static_cast<double>(full[i]);
  }
  for (const fusion::Instr& i : tape.code) {
    if (i.kind == fusion::InstrKind::kReduce) cost.flops += rows * row_length;
    if (i.inner != OpId::Data) cost.flops += rows * row_length;
    if (i.kind != fusion::InstrKind::kOp) continue;
    switch (i.space) {
      case fusion::Space::kScalar: cost.flops += 1; break;
      case fusion::Space::kRow: cost.flops += rows; break;
      case fusion::Space::kFull: cost.flops += rows * row_length; break;
    }
  }
  return cost;
}

Cost epilogue_cost(const KernelCall& call, const fusion::Tape& tape, std::span<const View> in,
                   std::span<const View> out) {
  View written = call.out[0];
  written.data = &written;  // it has no memory, and so none of an input's
  const Cost kernel = kernel_cost({call.op, call.params, call.in, std::span(&written, 1)});
  Cost cost = tape_cost(tape, 0, written.shape, in, out);
  const uint64_t result = extent_bytes(written);
  cost.flops += kernel.flops;
  cost.bytes_read += kernel.bytes_read - result;
  cost.bytes_written += kernel.bytes_written - result;
  return cost;
}

std::string tape_name(const fusion::Tape& tape) {
  constexpr size_t kNames = 12;
  struct Part {
    std::string_view name;
    int times;
  };
  std::vector<Part> parts;
  const auto add = [&parts](OpId op) {
    const std::string_view name = op_info(op).name;
    if (!parts.empty() && parts.back().name == name) {
      ++parts.back().times;
    } else {
      parts.push_back({name, 1});
    }
  };
  for (const fusion::Instr& i : tape.code) {
    if (i.kind != fusion::InstrKind::kOp && i.kind != fusion::InstrKind::kReduce) continue;
    if (i.inner != OpId::Data) add(i.inner);
    add(i.op);
  }
  if (parts.empty()) return "astype";
  std::string text;
  int rest = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i >= kNames) {
      rest += parts[i].times;
      continue;
    }
    if (i > 0) text += '+';
    text += parts[i].name;
    if (parts[i].times > 1) text += fmt::format("*{}", parts[i].times);
  }
  if (rest > 0) text += fmt::format("+{} more", rest);
  return text;
}

}  // namespace lamina
