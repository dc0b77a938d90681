#pragma once

#include "backend/tile_types.h"
#include "core/view.h"

namespace lamina::reference {

enum class ArgReduceKind : uint8_t { kMax, kMin };

// Index along `axis` of the first extremum; the first NaN wins, as in NumPy. Complex by real then imaginary
// part. `out` has dtype uint32, uint64 or int64 and the axes of `in` without `axis`, or with it at length 1.
// Throws ValueError where the axis is empty and the output is not. A backend may give functions of the
// input's dtype for contiguous lines and for columns side by side.
struct ArgReduceTiles {
  ArgReduceFn line = nullptr;
  ArgColumnsFn columns = nullptr;
};
void arg_reduce(ArgReduceKind kind, const View& in, const View& out, int64_t axis,
                const ArgReduceTiles& tiles = {});

}  // namespace lamina::reference
