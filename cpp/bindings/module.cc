#include <pybind11/pybind11.h>

#include <cmath>
#include <limits>

#include "bindings/array_slots.h"
#include "bindings/box.h"
#include "bindings/convert.h"
#include "bindings/device.h"
#include "bindings/dtype.h"
#include "bindings/ops.h"

namespace lamina::bind {
namespace {

Scope add_submodule(py::module_& core, const char* name, const char* doc) {
  py::module_ m = core.def_submodule(name, doc);
  return {m.ptr(), std::string("lamina.core.") + name, false};
}

void add_constants(py::module_& m) {
  m.attr("pi") = 3.141592653589793;
  m.attr("e") = 2.718281828459045;
  m.attr("euler_gamma") = 0.5772156649015329;
  m.attr("inf") = std::numeric_limits<double>::infinity();
  m.attr("nan") = std::numeric_limits<double>::quiet_NaN();
#ifdef LAMINA_VERSION_STRING
  m.attr("__version__") = LAMINA_VERSION_STRING;
#endif
}

}  // namespace

void fill_module(py::module_& m) {
  const Scope core{m.ptr(), "lamina.core", false};
  add_constants(m);
  add_dtypes(core);
  add_devices(core);
  add_memory(core);
  add_device_info(core);
  const Scope type = add_array_type(core);
  add_array_export(type);
  add_indexing(core, type);
  add_printing(core);
  add_conversions(core);
  add_table_ops(core, type);
  add_creation(core);
  add_elementwise(core, type);
  add_shape_ops(core, type);
  add_joining(core, type);
  add_reductions(core, type);
  add_sorting(core, type);
  add_gathering(core);
  add_linear_algebra(core);
  add_linalg(core, add_submodule(m, "linalg", "Decompositions, solutions and norms of matrices."));
  add_fft(add_submodule(m, "fft", "Discrete Fourier transforms."));
  add_einsum(core);
  add_quantization(core);
  add_random(add_submodule(m, "random", "Random numbers from counter-based keys."));
  add_fast(add_submodule(m, "fast", "Operations of neural networks computed in one pass."));
  add_distributed(
      add_submodule(m, "distributed", "Collectives over processes; in this build a group of one."));
  add_evaluation(core);
  add_profile(core);
  add_transforms(core);
  add_custom_functions(core);
  add_compile(core);
  add_io(core);
  add_convolutions(core);
  add_export(core);
  add_explain(core);
  def(core, "_list_functions() -> list",
      "Every function and method with its signature: what the stub file is made from.",
      [] { return list_functions(); });
  def(core, "_list_properties() -> list", "Every property with its type: what the stub file is made from.",
      [] { return list_properties(); });
}

}  // namespace lamina::bind

PYBIND11_MODULE(core, m) {
  m.doc() = "Lazy arrays with automatic kernel fusion: arrays, operations, transforms, devices and memory.";
  lamina::bind::fill_module(m);
}
