#include "backend/reference/gather_products.h"

#include "backend/reference/gather_index.h"
#include "backend/reference/layout.h"

namespace lamina::reference {

View matrix_view(const View& v, int64_t offset) {
  View one = v;
  one.shape.assign(v.shape.end() - 2, v.shape.end());
  one.strides.assign(v.strides.end() - 2, v.strides.end());
  one.data = static_cast<char*>(v.data) + offset * static_cast<int64_t>(itemsize(v.dtype));
  return one;
}

std::vector<int64_t> picked_by(const View& indices, int64_t matrices, const char* op) {
  const int64_t n = indices.size();
  std::vector<int64_t> at(static_cast<size_t>(n));
  leading_offsets(indices, indices.shape.size(), 0, n, at.data());
  visit_index_dtype(indices.dtype, op, [&]<class I>(std::type_identity<I>) {
    for (int64_t i = 0; i < n; ++i) {
      int64_t& number = at[static_cast<size_t>(i)];
      const I index = *reinterpret_cast<const I*>(static_cast<const char*>(indices.data) + number);
      number = wrap_index(index, matrices, matrices);
      if (number < 0) fail_index(op, indices, i, 0, matrices);
    }
  });
  return at;
}

void gather_products(const KernelCall& c, void (*multiply)(const KernelCall&)) {
  const View &x = c.in[0], &out = c.out[0];
  const char* op = c.op == OpId::GatherMatmul ? "gather_mm" : "gather_qmm";
  const std::vector<int64_t> picks = picked_by(c.in.back(), c.in[1].shape[0], op);
  std::vector<int64_t> x_at(picks.size()), out_at(picks.size());
  const auto n = static_cast<int64_t>(picks.size());
  leading_offsets(x, x.shape.size() - 2, 0, n, x_at.data());
  leading_offsets(out, out.shape.size() - 2, 0, n, out_at.data());
  const auto bytes = [](const View& v) { return static_cast<int64_t>(itemsize(v.dtype)); };
  for (size_t i = 0; i < picks.size(); ++i) {
    std::vector<View> in{matrix_view(x, x_at[i] / bytes(x))};
    for (const View& part : c.in.subspan(1, c.in.size() - 2)) {
      in.push_back(matrix_view(part, picks[i] * part.strides[0]));
    }
    const View to = matrix_view(out, out_at[i] / bytes(out));
    multiply({c.op, c.params, in, std::span(&to, 1)});
  }
}

}  // namespace lamina::reference
