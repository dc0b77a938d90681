#pragma once

#include "autograd/rules.h"

namespace lamina::autograd {

// Gradients of `from` (tracers) for cotangents of `to`; empty handles on both sides say zero.
Arrays backward(const Arrays& from, const Arrays& to, const Arrays& cotangents);

// A node that stands for `a` in a trace.
Array tracer_of(const Array& a);

}  // namespace lamina::autograd
