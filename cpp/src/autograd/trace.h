#pragma once

#include <memory>
#include <vector>

#include "lamina/transforms.h"

namespace lamina {

// The graph of a function, recorded once and built again for other inputs of the same shapes and dtypes.
class Trace {
 public:
  // Runs fun on placeholders with the shapes and dtypes of `inputs`. Evaluating one inside fun throws
  // ValueError.
  Trace(const Function& fun, const Arrays& inputs);
  // The graph that is there between inputs and outputs.
  Trace(const Arrays& inputs, const Arrays& outputs);
  ~Trace();
  Trace(Trace&&) noexcept;
  Trace& operator=(Trace&&) noexcept;
  // The outputs for inputs like the recorded ones; throws ValueError for others. Nodes that depend on no
  // input are shared by all replays: they are constants.
  Arrays replay(const Arrays& inputs) const;
  // The same for other constants of the same shapes and dtypes.
  Arrays replay(const Arrays& inputs, const Arrays& constants) const;
  // What recorded nodes read that depends on no input.
  const Arrays& constants() const;
  // Nodes that a replay builds.
  size_t nodes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lamina
