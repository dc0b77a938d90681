// Runs a function from a file: one that Python wrote with mx.export_function("f.lamina", f, x), given as the
// argument and called with an array of ones, or one that this program writes itself.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "lamina/export.h"
#include "lamina/ops.h"

using lamina::Array;
using lamina::Arrays;

namespace {

// A layer with weights of its own: they become constants of the file.
void write_layer(const std::string& path, const Array& x) {
  const Array weights = lamina::random::normal({4, 8}), bias = lamina::ones({8});
  auto layer = [&](const Arrays& in) { return Arrays{lamina::tanh(lamina::matmul(in[0], weights) + bias)}; };
  lamina::FunctionExporter exporter(path, layer, "a layer of 8 units");
  exporter.add({x});
  exporter.close();
  const Array here = layer({x})[0], there = lamina::import_function(path)({x})[0];
  if (!lamina::array_equal(here, there).item<bool>()) std::exit(EXIT_FAILURE);
}

}  // namespace

int main(int argc, char** argv) {
  const Array x = lamina::ones({2, 4});
  const std::string own = (std::filesystem::temp_directory_path() / "lamina_example_layer").string();
  const std::string path = argc > 1 ? argv[1] : own;
  if (argc == 1) write_layer(path, x);
  try {
    const lamina::ImportedFunction f = lamina::import_function(path);
    const Array y = f({x})[0];
    y.eval();
    if (argc == 1) std::filesystem::remove(own);
    std::printf("%s: %s gives shape %s\n", path.c_str(), f.metadata().c_str(),
                lamina::to_string(y.shape()).c_str());
    return std::isfinite(lamina::sum(y).item<float>()) ? EXIT_SUCCESS : EXIT_FAILURE;
  } catch (const lamina::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return EXIT_FAILURE;
  }
}
