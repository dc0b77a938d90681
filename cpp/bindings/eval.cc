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
  def(core, "get_batch_invariant() -> bool",
      "Whether products of float matrices give a row the same bits alone and in any batch.\n"
      ">>> mx.get_batch_invariant()\nFalse\n",
      [] { return batch_invariant(); });
  def(core, "set_batch_invariant(on: bool) -> bool",
      "Makes products of float matrices give a row the same bits alone and in any batch; returns the setting "
      "before.\n\n"
      "The setting is the process's; an evaluation, asynchronous ones too, goes by what it is when the "
      "evaluation is asked for. It covers `matmul`, `addmm`, `gather_mm` and exact quantized products; "
      "everything else, convolutions and products with 8-bit activations too, is invariant always. It costs "
      "speed where few rows meet transposed weights. LAMINA_BATCH_INVARIANT=1 in the environment turns it on "
      "from the start.\n"
      "@on Whether to.\n"
      ">>> before = mx.set_batch_invariant(True)\n"
      ">>> x, w = mx.random.normal((8, 100)), mx.random.normal((50, 100))\n"
      ">>> mx.array_equal(x @ w.T, mx.concatenate([row[None] @ w.T for row in x])).item()\nTrue\n"
      ">>> before = mx.set_batch_invariant(before)\n",
      [](bool on) { return set_batch_invariant(on); });
  def(core, "_set_backend(name: str)",
      "Evaluates with another backend from here on: cpu, reference or null. For tests.",
      [](const std::string& name) { set_backend(name); });
}

}  // namespace lamina::bind
