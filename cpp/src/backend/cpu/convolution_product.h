#pragma once

#include "backend/cpu/gemm_kernel.h"

namespace lamina::cpu {

// tile[rows x cols] = rows [row0, row0 + rows) of A, steps [k0, k0 + depth), times packed columns of B; +=
// for k0 > 0.
template <class T>
using BlockMultiply = FunctionRef<void(int64_t row0, int64_t rows, int64_t k0, int64_t depth, int64_t cols,
                                       const T* b, T* tile, int64_t ld)>;

// The first problem of gemm(), without alpha and C0, for a left factor that is read or packed where it is
// used: for many rows, and columns few enough that this happens once or twice. All of B is packed first. With
// an epilogue (float) nothing is stored.
// `multiply` and `pack_b` are called by pool threads at once.
template <class T>
void multiply_streamed(const GemmArgs& g, const GemmColumnPacker<T>& pack_b, const BlockMultiply<T>& multiply,
                       bool parallel);

}  // namespace lamina::cpu
