#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lamina/transforms.h"

namespace lamina {

// Arrays given by name, in the order in which a function takes them after its positional ones.
using NamedArrays = std::vector<std::pair<std::string, Array>>;

// Writes graphs of one function to a file: one graph for each combination of inputs.
//
//   FunctionExporter exporter("norm.lamina", [](const Arrays& in) { return Arrays{rsqrt(sum(square(in[0])))};
//   }); exporter.add({zeros({8})}); exporter.close();
class FunctionExporter {
 public:
  // `fun` takes the positional arrays and after them the named ones.
  FunctionExporter(std::string path, Function fun, std::string metadata = "");
  ~FunctionExporter();  // discards what was not closed
  FunctionExporter(FunctionExporter&&) noexcept;
  FunctionExporter& operator=(FunctionExporter&&) noexcept;
  // From here on `add` looks for graphs that hold for other lengths too: it calls the function again with
  // other lengths (`probe`, where given, must be the same function and throw Error for what it refuses) and
  // lets those lengths vary on which the graph depends as a polynomial. Axes of equal length above 1 vary
  // together.
  void set_shapeless(Function probe = nullptr);
  // Records the graph for arrays like these; their values do not matter. Arrays that `fun` holds itself
  // become constants of the file, and gradients of its custom functions are not kept. Throws ValueError for a
  // combination that is there already, for an output that cannot be saved and after `close`.
  void add(const Arrays& positional, const NamedArrays& named = {});
  // Writes the file, which appears complete or not at all. Closing again does nothing.
  void close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What a file of FunctionExporter holds. Calls are lazy, and safe from several threads.
class ImportedFunction {
 public:
  struct Impl;
  explicit ImportedFunction(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  // The outputs for inputs like recorded ones, the named ones in any order. Throws ValueError listing what
  // was recorded for others.
  Arrays operator()(const Arrays& positional, const NamedArrays& named = {}) const;
  const std::string& metadata() const;

 private:
  std::shared_ptr<const Impl> impl_;
};

// Reads and checks a file of FunctionExporter. Throws ValueError for contents that are not valid, a newer
// version or an op that this library lacks.
ImportedFunction import_function(const std::string& path);

// Nodes below the outputs as a Graphviz digraph, with the given names where an array has one.
std::string graph_to_dot(const Arrays& outputs, const NamedArrays& names = {});

}  // namespace lamina
