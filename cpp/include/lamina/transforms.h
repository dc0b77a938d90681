#pragma once

#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "lamina/array.h"

namespace lamina {

using Arrays = std::vector<Array>;
using Function = std::function<Arrays(const Arrays&)>;

// Outputs and the vector-Jacobian products (one for each primal) for the given cotangents.
std::pair<Arrays, Arrays> vjp(const Function& fun, const Arrays& primals, const Arrays& cotangents);
// Outputs and the Jacobian-vector products (one for each output) for the given tangents.
std::pair<Arrays, Arrays> jvp(const Function& fun, const Arrays& primals, const Arrays& tangents);
// fun's outputs and the gradients of its first output, a scalar, with respect to the arguments in argnums.
std::function<std::pair<Arrays, Arrays>(const Arrays&)> value_and_grad(const Function& fun,
                                                                       const std::vector<int>& argnums = {0});
std::function<Arrays(const Arrays&)> grad(const Function& fun, const std::vector<int>& argnums = {0});
// Maps fun over in_axes of its arguments (-1: not mapped) and stacks its outputs at out_axes (-1: not
// mapped). Axis numbers are non-negative.
Function vmap(const Function& fun, const std::vector<int>& in_axes, const std::vector<int>& out_axes);
// fun with its intermediates recomputed in the backward pass, from the graph that its one run made.
Function checkpoint(const Function& fun);
// What stands for a function in each transform, with empty handles for zero. Without a rule the function
// itself is transformed. Gradients flow to the arguments only where there is a rule for vjp.
struct CustomRules {
  // (primals, cotangents, outputs) -> gradients of the primals.
  std::function<Arrays(const Arrays&, const Arrays&, const Arrays&)> vjp;
  // (primals, tangents) -> tangents of the outputs.
  std::function<Arrays(const Arrays&, const Arrays&)> jvp;
  // (primals, their axes) -> outputs over all examples and their axes; -1: not mapped.
  std::function<std::pair<Arrays, std::vector<int>>(const Arrays&, const std::vector<int>&)> vmap;
};
// fun with rules of its own. A rule that gives other numbers, shapes or kinds of arrays than it should throws
// ValueError, ShapeError or DtypeError when it runs.
Function custom_function(const Function& fun, const CustomRules& rules);
// custom_function() with a rule for vjp alone.
Function custom_vjp(const Function& fun,
                    const std::function<Arrays(const Arrays&, const Arrays&, const Arrays&)>& rule);
// Traces fun once for each combination of input shapes and dtypes and replays the graph after that.
Function compile(const Function& fun);

}  // namespace lamina
