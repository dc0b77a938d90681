#pragma once

#include "backend/backend.h"

// Kernels that take their parameters from a call; the cpu backend overrides those it has faster ones for.
namespace lamina::reference {

void fill_kernels(std::array<KernelEntry, kNumOps>& kernels);

void fill_linear_algebra(std::array<KernelEntry, kNumOps>& kernels);

// The box of `whole` that a slice update writes.
View box_view(const View& whole, const SliceUpdateParams& p, const Shape& shape);

void run_slice_update(const KernelCall& c, void (*copy_fn)(const View&, const View&));
void run_scatter(const KernelCall& c, void (*copy_fn)(const View&, const View&));
void run_scatter_axis(const KernelCall& c, void (*copy_fn)(const View&, const View&));

// Reductions over axes that a tape does not take.
void run_reduce(const KernelCall& c);
// Plain float32 loops: what the fast kernels are tested against.
void run_quantized_matmul(const KernelCall& c);
void run_rope(const KernelCall& c);
void run_attention(const KernelCall& c);
void run_attention_backward(const KernelCall& c);
void run_paged_attention(const KernelCall& c);
void run_cache_write(const KernelCall& c);
void run_quantize_kv(const KernelCall& c);

}  // namespace lamina::reference
