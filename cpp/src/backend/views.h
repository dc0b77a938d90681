#pragma once

#include <span>

#include "backend/backend.h"

namespace lamina {

// Fills a view node (strides, offset, buffer) from its ready inputs. Reshapes whose strides allow no view
// copy through the backend.
void run_view(Node& node, std::span<Node* const> inputs, const Backend& backend);

// Strides of `shape` over the same elements, if a view can give them.
bool reshape_strides(const Shape& from, const Strides& strides, const Shape& to, Strides& out);

}  // namespace lamina
