#include "backend/backend.h"
#include "bindings/ops.h"
#include "bindings/tree.h"

namespace lamina::bind {
namespace {

std::vector<Array> all_arrays(Rest trees) {
  std::vector<Array> out;
  for (Py_ssize_t i = 0; i < trees.count; ++i) collect_arrays(trees.items[i], out);
  return out;
}

}  // namespace

void add_evaluation(const Scope& core) {
  def(core, "eval(*args) -> None",
      "Computes arrays, or all arrays of nested lists, tuples and dicts.\n\n"
      "Other Python threads run meanwhile. An error of a kernel is raised here and the arrays stay "
      "unevaluated.\n"
      "@args Arrays and trees of arrays; other leaves are ignored.\n"
      ">>> a = mx.array([1.0, 2.0]) * 2\n>>> mx.eval(a, {'b': [a + 1]})\n",
      [](Rest args) { evaluate_released(all_arrays(args)); });
  def(core, "async_eval(*args)",
      "Starts the computation of arrays and returns; their streams' threads do the work.\n\n"
      "A stream has up to 64 such evaluations unfinished, or 2 while three quarters of the memory limit are "
      "in "
      "use; the call waits until there is room for another. An error is raised by the next use that needs "
      "the "
      "values.\n"
      "@args Arrays and trees of arrays; other leaves are ignored.\n"
      ">>> a = mx.array([1.0, 2.0]) * 2\n>>> mx.async_eval(a)\n>>> a.tolist()\n[2.0, 4.0]\n",
      [](Rest args) { async_evaluate_released(all_arrays(args)); });
  def(core, "_set_backend(name: str)",
      "Evaluates with another backend from here on: cpu, reference or null. For tests.",
      [](const std::string& name) { set_backend(name); });
}

}  // namespace lamina::bind
