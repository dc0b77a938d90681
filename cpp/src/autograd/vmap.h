#pragma once

#include <functional>
#include <vector>

#include "autograd/rules.h"

namespace lamina {

// The output axis of each output (-1: not mapped), chosen when fun has run; gets the outputs of one example.
using OutAxes = std::function<std::vector<int>(const Arrays& outputs)>;
// vmap() for callers that know the number and ranks of the outputs only then.
Function vmap_with(const Function& fun, const std::vector<int>& in_axes, const OutAxes& out_axes);

namespace autograd {

// All outputs of one op under vmap, the mapped axis in front. b.size is not 0.
using BatchRule = Arrays (*)(const BatchCall& b);

// The rule that runs the op once for each example and stacks the results: right for every op, fast for none.
Arrays batch_by_loop(const BatchCall& b);

// ---- rules by topic; null where the file has none for that op ----
BatchRule indexing_batch_rule(OpId op);
BatchRule matrix_batch_rule(OpId op);
Arrays convolution_batch_rule(const BatchCall& b);
Arrays segmented_matmul_batch_rule(const BatchCall& b);
Arrays gathered_batch_rule(const BatchCall& b);

// ---- what rules are made of ----

// (size, shape...)
Shape in_front(int64_t size, const Shape& shape);
// Every axis one further back.
Axes shifted(const Axes& axes);
// Shape of operand i in one example.
Shape example_shape(const BatchCall& b, size_t i);
// Operand i with the mapped axis in front, repeated where it is not mapped.
Array operand(const BatchCall& b, size_t i);
Arrays operands(const BatchCall& b);

}  // namespace autograd
}  // namespace lamina
