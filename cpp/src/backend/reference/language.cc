#include <cmath>
#include <limits>
#include <vector>

#include "backend/reference/copy.h"
#include "backend/reference/elementwise.h"
#include "backend/reference/kernels.h"
#include "backend/reference/matmul.h"
#include "backend/reference/reduce.h"
#include "quant/affine.h"
#include "quant/formats.h"

// Plain loops in double for the ops that language models are made of.
namespace lamina::reference {
namespace {

// A view's elements as doubles, in row-major order.
std::vector<double> to_double(const View& v) {
  std::vector<double> out(static_cast<size_t>(v.size()));
  View dense{out.data(), Dtype::kFloat64, v.shape, row_major_strides(v.shape)};
  std::vector<char> packed(out.size() * itemsize(v.dtype));
  copy(v, {packed.data(), v.dtype, v.shape, dense.strides});
  const void* in[] = {packed.data()};
  if (v.dtype == Dtype::kFloat64) {
    std::copy_n(reinterpret_cast<const double*>(packed.data()), out.size(), out.data());
  } else {
    reference_cast(v.dtype, Dtype::kFloat64)(in, out.data(), out.size());
  }
  return out;
}

// Rounds row-major doubles to the view's dtype.
void from_double(const std::vector<double>& values, const View& v) {
  std::vector<char> packed(values.size() * itemsize(v.dtype));
  const void* in[] = {values.data()};
  if (v.dtype == Dtype::kFloat64) {
    std::copy_n(reinterpret_cast<const char*>(values.data()), packed.size(), packed.data());
  } else {
    reference_cast(Dtype::kFloat64, v.dtype)(in, packed.data(), values.size());
  }
  copy({packed.data(), v.dtype, v.shape, row_major_strides(v.shape)}, v);
}

// One attention problem in doubles.
struct Attention {
  int64_t batch, heads, kv_heads, length, keys, dim, value_dim;
  std::vector<double> q, k, v, mask, sinks;
  bool bool_mask = false;
  AttentionParams p;

  explicit Attention(const KernelCall& c) : p(c.as<AttentionParams>()) {
    const Shape &qs = c.in[0].shape, &vs = c.in[2].shape;
    batch = qs[0], heads = qs[1], length = qs[2], dim = qs[3];
    kv_heads = vs[1], keys = vs[2], value_dim = vs[3];
    q = to_double(c.in[0]);
    k = to_double(c.in[1]);
    v = to_double(c.in[2]);
    if (p.has_mask) {
      mask = to_double(c.in[3]);
      bool_mask = c.in[3].dtype == Dtype::kBool;
    }
    if (p.has_sinks) sinks = to_double(c.in[p.has_mask ? 4 : 3]);
  }

  int64_t row(int64_t b, int64_t h, int64_t l) const { return (b * heads + h) * length + l; }
  int64_t key(int64_t b, int64_t h, int64_t s) const {
    return (b * kv_heads + h / (heads / kv_heads)) * keys + s;
  }

  // Scores of one query row; -inf where masked.
  std::vector<double> scores(int64_t b, int64_t h, int64_t l) const {
    std::vector<double> out(static_cast<size_t>(keys));
    for (int64_t s = 0; s < keys; ++s) {
      double dot = 0;
      for (int64_t d = 0; d < dim; ++d) {
        dot +=
            q[static_cast<size_t>(row(b, h, l) * dim + d)] * k[static_cast<size_t>(key(b, h, s) * dim + d)];
      }
      dot *= static_cast<double>(p.scale);
      const auto m = static_cast<size_t>(row(b, h, l) * keys + s);
      if (p.has_mask && bool_mask && mask[m] == 0) dot = -std::numeric_limits<double>::infinity();
      if (p.has_mask && !bool_mask) dot += mask[m];
      if (p.causal && s > l + keys - length) dot = -std::numeric_limits<double>::infinity();
      out[static_cast<size_t>(s)] = dot;
    }
    return out;
  }

  double log_sum(const std::vector<double>& x, int64_t h) const {
    double top = p.has_sinks ? sinks[static_cast<size_t>(h)] : -std::numeric_limits<double>::infinity();
    for (double s : x) top = std::max(top, s);
    if (!std::isfinite(top)) return top;
    double sum = p.has_sinks ? std::exp(sinks[static_cast<size_t>(h)] - top) : 0;
    for (double s : x) sum += std::exp(s - top);
    return top + std::log(sum);
  }

  template <class F>
  void each_row(F f) const {
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t l = 0; l < length; ++l) f(b, h, l);
      }
    }
  }
};

double weight_of(double score, double lse) { return std::isfinite(lse) ? std::exp(score - lse) : 0; }

}  // namespace

void run_reduce(const KernelCall& c) {
  const Axes& axes = c.as<AxesParams>().axes;
  auto kind = [&c] {
    switch (c.op) {
      case OpId::Sum: return ReduceKind::kSum;
      case OpId::Prod: return ReduceKind::kProd;
      case OpId::Max: return ReduceKind::kMax;
      case OpId::Min: return ReduceKind::kMin;
      case OpId::All: return ReduceKind::kAll;
      default: return ReduceKind::kAny;
    }
  };
  reduce_general(kind(), c.in[0], c.out[0], axes);
}

void run_quantized_matmul(const KernelCall& c) {
  const auto& p = c.as<QuantParams>();
  const bool affine = p.format == QuantFormat::kAffine;
  View w;
  w.dtype = affine ? c.in[2].dtype : Dtype::kFloat32;
  w.shape = c.in[1].shape;
  w.shape.back() = p.transpose ? c.in[0].shape.back() : c.out[0].shape.back();
  w.strides = row_major_strides(w.shape);
  std::vector<char> memory(static_cast<size_t>(w.size()) * itemsize(w.dtype));
  w.data = memory.data();
  if (affine) {
    affine_dequantize(c.in[1], c.in[2], c.in[3], p.group_size, p.bits, w);
  } else {
    block_dequantize(p.format, c.in[1], c.in.size() > 2 ? &c.in[2] : nullptr, w);
  }
  std::vector<double> values = to_double(w), x = to_double(c.in[0]), y(static_cast<size_t>(c.out[0].size()));
  View wide{values.data(), Dtype::kFloat64, w.shape, w.strides};
  const size_t n = w.shape.size();
  if (p.transpose) {
    std::swap(wide.shape[n - 1], wide.shape[n - 2]);
    std::swap(wide.strides[n - 1], wide.strides[n - 2]);
  }
  const Shape& xs = c.in[0].shape;
  // A plain matrix serves every leading axis of x.
  while (wide.shape.size() < xs.size()) {
    wide.shape.insert(wide.shape.begin(), xs[xs.size() - wide.shape.size() - 1]);
    wide.strides.insert(wide.strides.begin(), 0);
  }
  matmul({x.data(), Dtype::kFloat64, xs, row_major_strides(xs)}, wide,
         {y.data(), Dtype::kFloat64, c.out[0].shape, row_major_strides(c.out[0].shape)});
  from_double(y, c.out[0]);
}

void run_rope(const KernelCall& c) {
  const auto& p = c.as<RopeParams>();
  const Shape& shape = c.in[0].shape;
  std::vector<double> x = to_double(c.in[0]);
  const std::vector<double> offset = to_double(c.in[1]);
  const std::vector<double> freqs = p.has_freqs ? to_double(c.in[2]) : std::vector<double>();
  const int64_t width = shape.back(), length = shape[shape.size() - 2], half = p.dims / 2;
  const int64_t rows = c.in[0].size() / width, per_batch = rows / std::max<int64_t>(1, shape[0]);
  for (int64_t r = 0; r < rows; ++r) {
    const double start = offset[offset.size() == 1 ? 0 : static_cast<size_t>(r / per_batch)];
    const double position = static_cast<double>(p.scale) * (static_cast<double>(r % length) + start);
    for (int64_t i = 0; i < half; ++i) {
      const double turn = p.has_freqs ? position / freqs[static_cast<size_t>(i)]
                                      : position * std::pow(static_cast<double>(p.base),
                                                            -2.0 * static_cast<double>(i) / p.dims);
      const double cosine = std::cos(turn), sine = p.inverse ? -std::sin(turn) : std::sin(turn);
      double& a = x[static_cast<size_t>(r * width + (p.traditional ? 2 * i : i))];
      double& b = x[static_cast<size_t>(r * width + (p.traditional ? 2 * i + 1 : i + half))];
      const double a0 = a, b0 = b;
      a = a0 * cosine - b0 * sine;
      b = a0 * sine + b0 * cosine;
    }
  }
  from_double(x, c.out[0]);
}

void run_attention(const KernelCall& c) {
  const Attention a(c);
  std::vector<double> out(static_cast<size_t>(c.out[0].size()), 0.0),
      lse(static_cast<size_t>(c.out[1].size()));
  a.each_row([&](int64_t b, int64_t h, int64_t l) {
    const std::vector<double> x = a.scores(b, h, l);
    const double total = lse[static_cast<size_t>(a.row(b, h, l))] = a.log_sum(x, h);
    for (int64_t s = 0; s < a.keys; ++s) {
      const double w = weight_of(x[static_cast<size_t>(s)], total);
      for (int64_t d = 0; d < a.value_dim; ++d) {
        out[static_cast<size_t>(a.row(b, h, l) * a.value_dim + d)] +=
            w * a.v[static_cast<size_t>(a.key(b, h, s) * a.value_dim + d)];
      }
    }
  });
  from_double(out, c.out[0]);
  from_double(lse, c.out[1]);
}

// in: q, k, v, [mask], [sinks], out, lse, dout; out: dq, dk, dv.
void run_attention_backward(const KernelCall& c) {
  const Attention a(c);
  const size_t n = c.in.size();
  const std::vector<double> out = to_double(c.in[n - 3]), lse = to_double(c.in[n - 2]),
                            dout = to_double(c.in[n - 1]);
  std::vector<double> dq(a.q.size(), 0.0), dk(a.k.size(), 0.0), dv(a.v.size(), 0.0);
  a.each_row([&](int64_t b, int64_t h, int64_t l) {
    const int64_t r = a.row(b, h, l);
    const std::vector<double> x = a.scores(b, h, l);
    double correction = 0;
    for (int64_t d = 0; d < a.value_dim; ++d) {
      correction +=
          out[static_cast<size_t>(r * a.value_dim + d)] * dout[static_cast<size_t>(r * a.value_dim + d)];
    }
    for (int64_t s = 0; s < a.keys; ++s) {
      const int64_t kr = a.key(b, h, s);
      const double w = weight_of(x[static_cast<size_t>(s)], lse[static_cast<size_t>(r)]);
      double dw = 0;
      for (int64_t d = 0; d < a.value_dim; ++d) {
        const double g = dout[static_cast<size_t>(r * a.value_dim + d)];
        dw += g * a.v[static_cast<size_t>(kr * a.value_dim + d)];
        dv[static_cast<size_t>(kr * a.value_dim + d)] += w * g;
      }
      const double ds = w * (dw - correction) * static_cast<double>(a.p.scale);
      for (int64_t d = 0; d < a.dim; ++d) {
        dq[static_cast<size_t>(r * a.dim + d)] += ds * a.k[static_cast<size_t>(kr * a.dim + d)];
        dk[static_cast<size_t>(kr * a.dim + d)] += ds * a.q[static_cast<size_t>(r * a.dim + d)];
      }
    }
  });
  from_double(dq, c.out[0]);
  from_double(dk, c.out[1]);
  from_double(dv, c.out[2]);
}

}  // namespace lamina::reference
