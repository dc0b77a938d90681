#include <cmath>
#include <limits>
#include <vector>

#include "backend/paged_call.h"
#include "backend/reference/copy.h"
#include "backend/reference/elementwise.h"
#include "backend/reference/kernels.h"
#include "quant/kv_rows.h"

// Plain loops for caches in blocks.
namespace lamina::reference {
namespace {

// The part of a view that its first axes' indices pick.
View part(View v, std::initializer_list<int64_t> at) {
  const auto n = static_cast<std::ptrdiff_t>(at.size());
  int64_t offset = 0, axis = 0;
  for (int64_t i : at) offset += i * v.strides[static_cast<size_t>(axis++)];
  v.data = static_cast<char*>(v.data) + offset * static_cast<int64_t>(itemsize(v.dtype));
  v.shape = Shape(v.shape.begin() + n, v.shape.end());
  v.strides = Strides(v.strides.begin() + n, v.strides.end());
  return v;
}

View dense(void* data, Dtype dtype, const Shape& shape) {
  return {data, dtype, shape, row_major_strides(shape)};
}

// The elements of a row as float32.
std::vector<float> floats(const View& row) {
  const auto n = static_cast<size_t>(row.size());
  std::vector<char> packed(n * itemsize(row.dtype));
  copy(row, dense(packed.data(), row.dtype, row.shape));
  std::vector<float> out(n);
  const void* in[] = {packed.data()};
  if (row.dtype == Dtype::kFloat32) {
    copy(row, dense(out.data(), row.dtype, row.shape));
  } else {
    reference_cast(row.dtype, Dtype::kFloat32)(in, out.data(), n);
  }
  return out;
}

void store(const std::vector<float>& values, const View& row) {
  std::vector<char> packed(values.size() * itemsize(row.dtype));
  const void* in[] = {values.data()};
  if (row.dtype == Dtype::kFloat32)
    return copy(dense(const_cast<float*>(values.data()), row.dtype, row.shape), row);
  reference_cast(Dtype::kFloat32, row.dtype)(in, packed.data(), values.size());
  copy(dense(packed.data(), row.dtype, row.shape), row);
}

// A row of keys or values, decoded where it is in codes.
std::vector<float> pool_row(const View& pool, const View* scales, int64_t block, int64_t head, int64_t row) {
  const View codes = part(pool, {block, head, row});
  if (!scales) return floats(codes);
  const int bits = pool.dtype == Dtype::kInt8 ? 8 : 4;
  std::vector<uint8_t> packed(static_cast<size_t>(codes.size()));
  copy(codes, dense(packed.data(), pool.dtype, codes.shape));
  const View groups = part(*scales, {block, head, row});
  std::vector<float16_t> factors(static_cast<size_t>(groups.size()));
  copy(groups, dense(factors.data(), groups.dtype, groups.shape));
  std::vector<float> out(static_cast<size_t>(codes.size() * 8 / bits));
  decode_kv_row(packed.data(), factors.data(), static_cast<int64_t>(out.size()), bits, out.data());
  return out;
}

double score_of(const PagedArgs& a, const std::vector<float>& q, const std::vector<float>& k) {
  double dot = 0;
  for (size_t d = 0; d < q.size(); ++d) dot += static_cast<double>(q[d]) * static_cast<double>(k[d]);
  dot *= static_cast<double>(a.scale);
  const auto cap = static_cast<double>(a.softcap);
  return cap > 0 ? cap * std::tanh(dot / cap) : dot;
}

void attend_row(const PagedArgs& a, const PagedSequence& s, int64_t row, int64_t head) {
  const int64_t kv_head = head / (a.q.shape[1] / a.k.shape[1]), position = s.position(row);
  const int64_t first = a.first_seen(position), size = a.block_rows();
  const std::vector<float> q = floats(part(a.q, {s.first_row + row, head}));
  std::vector<double> scores;
  for (int64_t p = first; p <= position; ++p) {
    scores.push_back(score_of(a, q, pool_row(a.k, a.key_scales, a.block_of(s.index, p), kv_head, p % size)));
  }
  const double sink = a.sinks ? static_cast<double>(floats(part(*a.sinks, {}))[static_cast<size_t>(head)])
                              : -std::numeric_limits<double>::infinity();
  double top = sink, total = 0;
  for (double x : scores) top = std::max(top, x);
  for (double& x : scores) total += x = std::exp(x - top);
  if (a.sinks) total += std::exp(sink - top);
  std::vector<double> sums(static_cast<size_t>(a.out.shape[2]), 0.0);
  for (int64_t p = first; p <= position; ++p) {
    const auto v = pool_row(a.v, a.value_scales, a.block_of(s.index, p), kv_head, p % size);
    const double weight = scores[static_cast<size_t>(p - first)] / total;
    for (size_t d = 0; d < sums.size(); ++d) sums[d] += weight * static_cast<double>(v[d]);
  }
  store({sums.begin(), sums.end()}, part(a.out, {s.first_row + row, head}));
}

}  // namespace

void run_paged_attention(const KernelCall& c) {
  const PagedArgs a(c);
  const std::vector<float> zeros(static_cast<size_t>(a.out.shape[2]), 0.0f);
  int64_t done = 0;
  for (const PagedSequence& s : paged_sequences(a)) {
    for (int64_t row = 0; row < s.rows; ++row) {
      for (int64_t head = 0; head < a.q.shape[1]; ++head) attend_row(a, s, row, head);
    }
    done = s.first_row + s.rows;
  }
  for (; done < a.q.shape[0]; ++done) {
    for (int64_t head = 0; head < a.q.shape[1]; ++head) store(zeros, part(a.out, {done, head}));
  }
}

void run_cache_write(const KernelCall& c) {
  const View &pool = c.out[0], &rows = c.in[1];
  if (pool.data != c.in[0].data) copy(c.in[0], pool);
  for_each_slot(c, [&](int64_t from, int64_t block, int64_t row) {
    for (int64_t head = 0; head < pool.shape[1]; ++head) {
      const View source = part(rows, {from, head}), target = part(pool, {block, head, row});
      if (source.dtype == target.dtype) {
        copy(source, target);
      } else {
        store(floats(source), target);
      }
    }
  });
}

void run_quantize_kv(const KernelCall& c) {
  const int bits = c.as<QuantizeKvParams>().bits;
  const int64_t dim = c.in[0].shape.back();
  if (c.in[0].size() == 0) return;
  const std::vector<float> rows = floats(c.in[0]);
  const int64_t groups = kv_groups(dim), bytes = kv_code_bytes(dim, bits);
  for (int64_t i = 0; i < static_cast<int64_t>(rows.size()) / dim; ++i) {
    encode_kv_row(rows.data() + i * dim, dim, bits, c.out[0].as<uint8_t>() + i * bytes,
                  c.out[1].as<float16_t>() + i * groups);
  }
}

}  // namespace lamina::reference
