#include "bindings/ops.h"
#include "lamina/linalg.h"

namespace lamina::bind {
namespace {

std::vector<Array> operands_of(const Rest& rest) {
  std::vector<Array> out;
  for (Py_ssize_t i = 0; i < rest.count; ++i) {
    const std::optional<Array> a = as_array(rest.items[i]);
    if (!a) { throw TypeError("einsum(): operands must be arrays, got " + type_name(rest.items[i])); }
    out.push_back(*a);
  }
  return out;
}

}  // namespace

void add_einsum(const Scope& core) {
  constexpr const char* kArguments =
      "@subscripts Labels of the axes: 'ij,jk->ik'; '...' stands for axes that broadcast.\n@operands "
      "Arrays.\n"
      "@raises ValueError Where subscripts and shapes do not fit.\n";
  def(core, "einsum(subscripts: str, *operands: array, stream: StreamOrDevice = None) -> array",
      std::string("Sums of products over labelled axes.\n\n"
                  "Without '->' the labels that occur once are kept, in alphabetic order.\n") +
          kArguments +
          ">>> mx.einsum('ij,j->i', mx.array([[1, 2], [3, 4]]), mx.array([1, 1]))\narray([3, 7], "
          "dtype=int32)\n",
      [](const std::string& subscripts, Rest operands) { return einsum(subscripts, operands_of(operands)); });
  def(core, "einsum_path(subscripts: str, *operands: array) -> tuple[list[tuple[int, ...]], str]",
      std::string("The pairs of operands that `einsum` contracts in turn, and what that costs.\n") +
          kArguments +
          ">>> mx.einsum_path('ij,jk,kl->il', mx.ones((2, 3)), mx.ones((3, 4)), mx.ones((4, 2)))[0]\n[(1, "
          "2), (0, "
          "1)]\n",
      [](const std::string& subscripts, Rest operands) {
        const auto [path, text] = einsum_path(subscripts, operands_of(operands));
        py::list steps;
        for (const std::vector<int>& step : path) {
          py::list pair;
          for (int i : step) pair.append(i);
          steps.append(py::tuple(pair));
        }
        return py::object(py::make_tuple(steps, text));
      });
}

}  // namespace lamina::bind
