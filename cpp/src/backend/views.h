#pragma once

#include <optional>
#include <span>

#include "backend/backend.h"

namespace lamina {

// Fills a view node (strides, offset, buffer) from its ready inputs. Reshapes whose strides allow no view
// copy through the backend.
void run_view(Node& node, std::span<Node* const> inputs, const Backend& backend);

// How elements lie in a buffer: strides, and the first one's offset, in elements.
struct Layout {
  Strides strides;
  int64_t offset = 0;
};
// Where the elements of a view node lie in the memory of its first input, which has the given layout. nullopt
// for a reshape that must copy. Not for Output nodes, which have memory of their own.
std::optional<Layout> view_layout(const Node& node, const Node& in, const Layout& from);

// Strides of `shape` over the same elements, if a view can give them.
bool reshape_strides(const Shape& from, const Strides& strides, const Shape& to, Strides& out);

}  // namespace lamina
