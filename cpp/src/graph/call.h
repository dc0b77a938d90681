#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "graph/node.h"

namespace lamina {

// What an engine keeps of a body between two evaluations.
struct CallScratch {
  virtual ~CallScratch() = default;
};

// A recorded graph that is evaluated as a whole, by one node, without building its nodes each time.
struct CallBody {
  // Builds the graph's nodes over these inputs.
  std::function<std::vector<Array>(std::span<const Array>)> build;
  std::vector<Shape> input_shapes, output_shapes;
  std::vector<Dtype> input_dtypes, output_dtypes;
  uint32_t origin = 0;  // Node::origin of its results

  // Scratch that no evaluation is using. Locked for a moment at a time, by evaluations.
  std::unique_ptr<CallScratch> take_scratch() const;
  void give_back(std::unique_ptr<CallScratch> scratch) const;

 private:
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<CallScratch>> scratch_;
};

struct CallParams final : Params {
  explicit CallParams(std::shared_ptr<const CallBody> b) : body(std::move(b)) {}
  bool equals(const Params& o) const override;
  void append_structure(std::vector<uint32_t>& key) const override;
  std::string describe() const override;

  const std::shared_ptr<const CallBody> body;
};

// The results of a body for inputs of its shapes and dtypes: nodes that one evaluation fills together.
std::vector<Array> make_call(std::shared_ptr<const CallBody> body, std::span<const Array> inputs);

}  // namespace lamina
