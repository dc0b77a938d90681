#pragma once

#include "ops/common.h"

namespace lamina::fast {

// Attention and rotary positions of float64 as graphs of plain ops, for arguments that the functions of
// lamina/ops.h have checked. Scores are kept, so attention needs memory for L x S numbers a head.
Array attention_of_doubles(const Array& q, const Array& k, const Array& v, double scale,
                           const std::optional<Array>& mask, bool causal, const std::optional<Array>& sinks);
// frequencies[i]: radians a position of pair i.
Array rope_of_doubles(const Array& x, int64_t dims, bool traditional, const Array& frequencies, double scale,
                      const Array& offset);

}  // namespace lamina::fast
