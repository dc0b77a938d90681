#pragma once

#include <span>
#include <vector>

#include "graph/node.h"
#include "ops/params.h"

namespace lamina {

struct ResultType {
  Shape shape;
  Dtype dtype;
  friend bool operator==(const ResultType&, const ResultType&) = default;
};

// A node without its operands, as files and recordings keep it.
struct NodeRecipe {
  OpId op = OpId::Identity;
  std::vector<ResultType> results;  // one, or all of a several-output op
  Ref<Params> params;
};
NodeRecipe recipe_of(const Node& n);

// What the recipe's op gives for these operands. Checks what the op's own function checks, so that a recipe
// from a file cannot make a kernel leave its operands. Lengths that no operand and no parameter says (of a
// reshape, a broadcast, a slice, ...) are taken from recipe.results. Throws ShapeError, DtypeError or
// ValueError.
std::vector<ResultType> infer_results(const NodeRecipe& recipe, std::span<const Array> operands);

// The recipe's node over the operands. Throws as infer_results, and ValueError where the results that the
// recipe names are others.
Array remake(const NodeRecipe& recipe, std::span<const Array> operands);
// The same with the results that follow from the operands.
Array remake_inferred(NodeRecipe recipe, std::span<const Array> operands);

}  // namespace lamina
