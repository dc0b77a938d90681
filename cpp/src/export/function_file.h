#pragma once

#include <string>
#include <vector>

#include "export/sizes.h"

namespace lamina {

// A file of recorded functions: a safetensors file whose tensors are the constants and whose metadata hold,
// under "lamina.functions", the graphs as JSON, under "lamina.version" the version of that JSON, and under
// "metadata" the caller's text.
struct FunctionFile {
  struct Function {
    size_t positional = 0;
    std::vector<std::string> names;  // of the inputs after the positional ones
    GenericRecording graph;
  };
  std::vector<Function> functions;
  std::string metadata;
};

void write_function_file(const std::string& path, const FunctionFile& file);
// Checks the JSON, but not that the graphs make sense: `play` does.
FunctionFile read_function_file(const std::string& path);

}  // namespace lamina
