#pragma once

#include "autograd/rules.h"

namespace lamina::autograd {

// The rule of an op of linear algebra or Fourier transforms; null for others.
VjpRule linalg_vjp_rule(OpId op);

}  // namespace lamina::autograd
