#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lamina/export.h"

namespace lamina {

// What evaluating some arrays comes to: kernels, fused tapes and views, what passes through memory, and why.
struct Explanation {
  enum class Source : uint8_t {
    kInput,     // an argument of the explained function, or an array that was given a name
    kConstant,  // any other array that is there already
    kComputed,
  };
  // Values are numbered: the computed ones in the order of planning, then what they read.
  struct Value {
    std::string op;      // of computed values
    std::string name;    // of inputs; the value of a scalar constant
    std::string params;  // "axes=(1,)"
    Dtype dtype = Dtype::kFloat32;
    Shape shape;
    Source source = Source::kComputed;
    std::vector<uint32_t> inputs;
    int step = -1;           // that computes it; -1 also for views that tapes look through
    bool result = false;     // asked for, or held by somebody else
    bool in_memory = false;  // false: it lives inside a tape, a tile at a time
  };
  // kWithEpilogue: a kernel whose result goes through elementwise ops tile by tile, and never through memory.
  enum class Kind : uint8_t { kTape, kKernel, kView, kWithEpilogue };
  struct Step {
    Kind kind = Kind::kKernel;
    std::vector<uint32_t> values;  // computed here, producers first
    std::vector<uint32_t> reads, writes;
    int phases = 1;  // of a tape: passes over a row, one more for each reduction that is waited for
    uint64_t bytes_read = 0, bytes_written = 0;
    std::optional<double> flops;   // nullopt where they depend on values
    std::vector<uint32_t> copied;  // read through strides that the kernel cannot walk: copied first
  };
  // A value that a tape could have computed or read, and that passes through memory instead.
  struct Unfused {
    uint32_t producer = 0, consumer = 0;
    std::string reason;
  };

  std::vector<Value> values;
  std::vector<Step> steps;
  std::vector<Unfused> unfused;
  std::vector<uint32_t> outputs;
  bool plan_known = false;  // the plan cache has the plan: evaluating plans nothing
  std::string backend;

  uint64_t bytes_read() const;
  uint64_t bytes_written() const;
  // Bytes of the values that a tape keeps to itself.
  uint64_t bytes_saved() const;
  size_t count(Kind kind) const;
};

// What evaluating all outputs of `fun` together comes to, for inputs like these. `fun` runs on placeholders,
// and nothing is evaluated. Inputs are named after `names`, or "0", "1", ... Throws what `fun` throws, and
// ValueError where it evaluates something that depends on an input.
Explanation explain(const Function& fun, const Arrays& inputs, const std::vector<std::string>& names = {});
// The same for arrays that wait for their evaluation; `names` says what arrays below them are called, and
// those of `there` count as evaluated.
Explanation explain(const Arrays& outputs, const NamedArrays& names = {}, const Arrays& there = {});

// As lines of aligned text, and as a drawing: tapes are boxes round their ops.
std::string to_text(const Explanation& e);
std::string to_svg(const Explanation& e);

}  // namespace lamina
