#pragma once

#include <cstdint>

#include "core/thread_pool.h"
#include "core/view.h"

namespace lamina::cpu {

// Products of matrices x (..., M, K) with those that indices (...) pick from a batch of `matrices`, into the
// row-major out (..., M, N). All rows that pick the same matrix are multiplied together: multiply(matrix,
// rows, products) gets them as matrices of two axes, products row-major, from any thread. Matrices with much
// of the work are shared by the threads, the others are a thread's own. Throws IndexError, naming op.
void gather_products(const char* op, const View& x, int64_t matrices, const View& indices, const View& out,
                     FunctionRef<void(int64_t matrix, const View& rows, const View& products)> multiply);

}  // namespace lamina::cpu
