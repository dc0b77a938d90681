#pragma once

#include "lamina/error.h"

namespace lamina {

// An axis that the array has not. In Python NumPy's AxisError, which is a ValueError and an IndexError.
class AxisError : public ValueError {
 public:
  using ValueError::ValueError;
};

}  // namespace lamina
