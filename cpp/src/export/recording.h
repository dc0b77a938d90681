#pragma once

#include <vector>

#include "lamina/export.h"
#include "ops/remake.h"

namespace lamina {

// The graph of a function as data. Values are numbered: inputs, then constants, then nodes, each node after
// its operands.
struct Recording {
  struct Item {
    NodeRecipe recipe;
    std::vector<uint32_t> operands;
  };
  std::vector<ResultType> inputs;
  Arrays constants;
  std::vector<Item> nodes;
  std::vector<uint32_t> outputs;
  bool custom_rules = false;  // functions with gradients of their own were part of it; those are lost

  size_t values() const { return inputs.size() + constants.size() + nodes.size(); }
};

// The graph of `fun` for inputs like these. Throws ValueError where an output depends on an array of another
// transform that is under way.
Recording record(const Function& fun, const Arrays& inputs);

// The recorded outputs over other inputs, with all the checks of `remake`.
Arrays play(const Recording& recording, const Arrays& inputs);

}  // namespace lamina
