#pragma once

#include "export/sizes.h"

namespace lamina {

// Reading and writing the slots of a recording: scalars among the constants, shapes that ops take as
// arguments, and the `size` fields of parameters.

struct SlotValue {
  bool integer = true;
  int64_t whole = 0;
  double real = 0;
  friend bool operator==(const SlotValue&, const SlotValue&) = default;
};

struct SlotList {
  std::vector<Slot> slots;
  std::vector<SlotValue> values;
};
SlotList slots_of(const Recording& r);

// Puts values into the slots of one constant or node: (index, value) pairs.
using NewValues = std::vector<std::pair<uint32_t, SlotValue>>;
Array with_slots(const Array& scalar, const NewValues& values);
NodeRecipe with_slots(const NodeRecipe& recipe, const NewValues& values);

// What the slot would hold once the value is rounded to the type it has there.
SlotValue rounded(const Recording& r, const Slot& slot, double value);

// Whether the recordings differ in nothing but slots.
bool same_structure(const Recording& a, const Recording& b);

}  // namespace lamina
