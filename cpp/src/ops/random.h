#pragma once

#include "lamina/ops.h"

namespace lamina::random {

// While one lives, this thread's implicit keys follow from the given key, and the sequence of the process
// stays where it is: a function that runs again draws what it drew before.
class KeyScope {
 public:
  explicit KeyScope(const Array& key);
  ~KeyScope();
  KeyScope(const KeyScope&) = delete;
  KeyScope& operator=(const KeyScope&) = delete;

 private:
  Array outer_;
};
bool in_key_scope();

}  // namespace lamina::random
