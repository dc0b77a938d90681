#pragma once

#include "export/recording.h"

namespace lamina {

// A number of a recording that is not part of its structure: a length, an index, a stride, a factor.
struct Slot {
  enum class Where : uint8_t { kConstant, kNode };
  Where where = Where::kConstant;
  uint32_t item = 0;   // constant or node
  uint32_t index = 0;  // among the item's slots
  friend bool operator==(const Slot&, const Slot&) = default;
};

// How a slot follows from the lengths of the inputs: it holds p, 1 / p, 1 / sqrt(p) or sqrt(p), where p is a
// sum of terms, each a factor times the growths (length minus recorded length) of the named classes.
struct SizeRule {
  enum class Form : uint8_t { kPlain, kReciprocal, kReciprocalRoot, kRoot };
  struct Term {
    int64_t factor;
    std::vector<uint32_t> classes;  // one named twice counts twice
  };
  Slot slot;
  bool integer = true;  // what the slot holds
  Form form = Form::kPlain;
  std::vector<Term> terms;
};

// A recording that holds for other lengths too. Axes in one class have one length, whatever it is; all others
// keep the recorded ones.
struct GenericRecording {
  struct AxisOf {
    uint32_t input, axis;
  };
  struct Range {
    int64_t least = 0, most = INT64_MAX;
  };
  Recording base;
  std::vector<std::vector<AxisOf>> classes;
  std::vector<Range> ranges;    // of each class: the lengths for which the rules hold; all where it is empty
  std::vector<SizeRule> rules;  // of slots that depend on the classes
};

// Records `fun` for inputs like these and, by calling `probe` (the same function) with other lengths, finds
// on which lengths its graph depends and how. Axes of equal length above 1 are taken for one class. A class
// keeps its length where the function refuses others, builds another graph for them, or a number of its graph
// is no polynomial of the lengths (nor one of SizeRule's forms of one). What holds for the recorded lengths
// and longer ones may end at a shorter or far longer one, as the end of a[:5] does: the ranges say where.
// `probe` throws Error for what it refuses.
GenericRecording generalize(const Function& fun, const Function& probe, const Arrays& inputs);

// Whether the inputs have the recorded ranks and dtypes, and lengths that the classes allow.
bool fits(const GenericRecording& g, const Arrays& inputs);
// The outputs, marked with the origin, over inputs that fit. Throws as `remake` where an op refuses the
// lengths.
Arrays play(const GenericRecording& g, const Arrays& inputs, uint32_t origin = 0);

}  // namespace lamina
