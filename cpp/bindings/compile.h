#pragma once

#include <string>
#include <vector>

#include "bindings/array_object.h"

namespace lamina::bind {

// What is known of one trace of a compiled function.
struct TraceNote {
  size_t number = 0;             // from 1, in the order of tracing
  std::vector<std::string> why;  // how the call differed from the most similar earlier one
  size_t nodes = 0;              // that a call builds
  uint64_t calls = 0;            // that took it, the first one included
  uint64_t plans = 0;            // made to evaluate its results
  uint64_t evaluations = 0;      // of its results
};

bool is_compiled(PyObject* o);
// The traces of a compiled function.
std::vector<TraceNote> traces_of(PyObject* compiled);

// What a call would do, found out on placeholders: nothing is evaluated and nothing kept.
struct Preview {
  std::vector<Array> inputs, outputs;
  std::vector<Array> there;        // constants that tracing evaluates
  std::vector<std::string> names;  // of the inputs
  size_t trace = 0;                // that the call would take; 0: it would trace anew
  std::vector<std::string> why;    // it would
};
Preview preview_compiled(PyObject* compiled, const py::tuple& args, const py::dict& kwargs);
Preview preview(PyObject* fun, const py::tuple& args, const py::dict& kwargs);

}  // namespace lamina::bind
