#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"

namespace lamina::reference {

// The numbers of the matrices, of `matrices`, that indices pick, in row-major order and counted from the
// front. Throws IndexError for the first that is none.
std::vector<int64_t> picked_by(const View& indices, int64_t matrices, const char* op);

// The matrix (last two axes) that begins `offset` elements into v.
View matrix_view(const View& v, int64_t offset);

// GatherMatmul and GatherQuantizedMatmul (operands: first factors, the parts of the batch, indices) by one
// call of `multiply` for each pair of matrices.
void gather_products(const KernelCall& c, void (*multiply)(const KernelCall&));

}  // namespace lamina::reference
