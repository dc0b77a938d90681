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
  // The graph that is there between inputs and outputs. Detached: it refers to none of its nodes, so that
  // they can be evaluated as if nobody held them, and includes what nobody else holds.
  Trace(const Arrays& inputs, const Arrays& outputs, bool detached);
  ~Trace();
  Trace(Trace&&) noexcept;
  Trace& operator=(Trace&&) noexcept;
  // The outputs for inputs like the recorded ones; throws ValueError for others. Nodes that depend on no
  // input are shared by all replays: they are constants. `origin`: Node::origin of the outputs.
  Arrays replay(const Arrays& inputs, uint32_t origin = 0) const;
  // The same for other constants of the same shapes and dtypes.
  Arrays replay(const Arrays& inputs, const Arrays& constants, uint32_t origin = 0) const;
  // What recorded nodes read and that is not recorded; taken away for good.
  Arrays take_constants();
  // Constants that have no value yet and can have one. A replay whose constants are evaluated has the same
  // structure as the next one.
  Arrays pending_constants() const;
  // Whether all constants are there, all recorded nodes run on one stream, and none has a gradient of its
  // own.
  bool plain() const;
  // Nodes that a replay builds.
  size_t nodes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lamina
