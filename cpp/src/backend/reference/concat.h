#pragma once

#include <span>

#include "core/view.h"

namespace lamina::reference {

// Writes the inputs one after the other into `out` along `axis`; dtypes and the other lengths agree.
void concatenate(std::span<const View> ins, const View& out, int64_t axis);

}  // namespace lamina::reference
