#pragma once

#include "backend/backend.h"

namespace lamina::cpu {

// Kernels of caches in blocks; operands as in lamina/ops.h, any strides.
void paged_attention(const KernelCall& call);
void cache_write(const KernelCall& call);
void quantize_kv(const KernelCall& call);

}  // namespace lamina::cpu
