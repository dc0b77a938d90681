#pragma once

#include <string>
#include <vector>

#include "bindings/array_object.h"

namespace lamina::bind {

// One argument of a traced call, or a part of one, as explanations name it.
struct CallPart {
  enum class Kind : uint8_t { kArray, kConstant, kContainer };
  Kind kind;
  std::string path;  // "x", "batch['tokens'][0]", "inputs[1].training"
  std::string text;  // the dtype of an array, a constant's value, what a container holds
  Shape shape;       // of arrays
};

// The parts of fun(*args, **kwargs), and of captured state (None: none), in the order in which trees are
// walked.
std::vector<CallPart> call_parts(PyObject* fun, PyObject* args, PyObject* kwargs, PyObject* captured);
// Paths of the arrays.
std::vector<std::string> array_paths(const std::vector<CallPart>& parts);
// What makes `now` another call than `then`: "shape of x: (3, 4) -> (5, 4)".
std::vector<std::string> differences(const std::vector<CallPart>& then, const std::vector<CallPart>& now);

}  // namespace lamina::bind
