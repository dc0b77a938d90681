#pragma once

#include "graph/node.h"
#include "ops/params.h"
#include "ops/table.h"

namespace lamina {

struct NoParams {
  friend bool operator==(const NoParams&, const NoParams&) = default;
  template <class V>
  void fields(V&) const {}
};

// f(P{}) with P the parameter type of the op's nodes; NoParams for ops that take none.
template <class F>
decltype(auto) with_params(OpId op, F f) {
  if (op_info(op).family == Family::kReduce) return f(AxesParams{});
  switch (op) {
    case OpId::Output: return f(OutputParams{});
    case OpId::Transpose:
    case OpId::ExpandDims:
    case OpId::Squeeze: return f(AxesParams{});
    case OpId::Slice: return f(SliceParams{});
    case OpId::SliceUpdate: return f(SliceUpdateParams{});
    case OpId::AsStrided: return f(AsStridedParams{});
    case OpId::Arange: return f(ArangeParams{});
    case OpId::Concatenate:
    case OpId::GatherAxis:
    case OpId::Sort:
    case OpId::ArgSort: return f(AxisParams{});
    case OpId::Gather: return f(GatherParams{});
    case OpId::Scatter: return f(ScatterParams{});
    case OpId::ScatterAxis: return f(ScatterAxisParams{});
    case OpId::ArgReduce: return f(ArgReduceParams{});
    case OpId::Scan: return f(ScanParams{});
    case OpId::RandomBits: return f(RandomBitsParams{});
    case OpId::AffineQuantize:
    case OpId::AffineDequantize:
    case OpId::QuantizedMatmul:
    case OpId::GatherQuantizedMatmul: return f(QuantParams{});
    case OpId::Rope: return f(RopeParams{});
    case OpId::Attention:
    case OpId::AttentionBackward: return f(AttentionParams{});
    case OpId::PagedAttention: return f(PagedAttentionParams{});
    case OpId::QuantizeKv: return f(QuantizeKvParams{});
    case OpId::Convolution: return f(ConvolutionParams{});
    case OpId::Fft: return f(FftParams{});
    case OpId::Cholesky:
    case OpId::SolveTriangular: return f(TriangleParams{});
    case OpId::Svd: return f(SvdParams{});
    case OpId::Eigh:
    case OpId::Eig: return f(EigParams{});
    default: return f(NoParams{});
  }
}

}  // namespace lamina
