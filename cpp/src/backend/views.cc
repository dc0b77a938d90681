#include "backend/views.h"

#include "core/fail.h"
#include "graph/eval.h"

namespace lamina {
namespace {

void share(Node& node, const Node& in) {
  if (in.op == OpId::Scalar) {
    // A scalar has no memory to look into: the node gets a copy of it.
    node.buffer = allocate(itemsize(in.dtype));
    const View v = in.view();
    __builtin_memcpy(node.buffer->data(), v.data, itemsize(in.dtype));
    node.offset = 0;
    return;
  }
  in.view();  // throws where the memory is gone
  node.buffer = in.buffer;
  node.offset = in.offset;
}

void copy_into(Node& node, const Node& in, const Backend& backend) {
  View from = in.view();
  node.buffer = allocate(byte_count(node.shape, node.dtype));
  node.offset = 0;
  node.strides = row_major_strides(node.shape);
  View to = from;
  to.data = node.buffer->data();
  to.strides = row_major_strides(from.shape);
  if (backend.computes) backend.copy(from, to);
}

Strides broadcast(const Node& node, const Node& in, const Strides& from) {
  const size_t shift = node.shape.size() - in.shape.size();
  Strides out(node.shape.size(), 0);
  for (size_t i = 0; i < in.shape.size(); ++i) {
    if (in.shape[i] != 1 || node.shape[shift + i] == 1) out[shift + i] = from[i];
  }
  return out;
}

Strides insert_axes(const Node& node, const Strides& from) {
  const Axes& axes = node.as<AxesParams>().axes;
  Strides out;
  for (size_t i = 0, j = 0, k = 0; i < node.shape.size(); ++i) {
    const bool fresh = j < axes.size() && axes[j] == static_cast<int64_t>(i);
    if (fresh) {
      ++j;
      out.push_back(0);
    } else {
      out.push_back(from[k++]);
    }
  }
  return out;
}

Strides drop_axes(const Node& node, const Strides& from) {
  const Axes& axes = node.as<AxesParams>().axes;
  Strides out;
  for (size_t i = 0, j = 0; i < from.size(); ++i) {
    if (j < axes.size() && axes[j] == static_cast<int64_t>(i)) {
      ++j;
    } else {
      out.push_back(from[i]);
    }
  }
  return out;
}

Strides permute(const Node& node, const Strides& from) {
  Strides out;
  for (int64_t axis : node.as<AxesParams>().axes) out.push_back(from[static_cast<size_t>(axis)]);
  return out;
}

Layout slice_view(const Node& node, const Layout& from) {
  const auto& p = node.as<SliceParams>();
  Layout out = from;
  for (size_t i = 0; i < node.shape.size(); ++i) {
    if (node.shape[i] > 0) out.offset += p.start[i] * from.strides[i];
    out.strides[i] *= p.strides[i];
  }
  return out;
}

Layout reinterpret(const Node& node, const Node& in, const Layout& from) {
  const auto old = static_cast<int64_t>(itemsize(in.dtype)), now = static_cast<int64_t>(itemsize(node.dtype));
  return {old == now ? from.strides : row_major_strides(node.shape), from.offset * old / now};
}

}  // namespace

bool reshape_strides(const Shape& from, const Strides& strides, const Shape& to, Strides& out) {
  out = Strides(to.size(), 0);
  // Runs of source axes that one step walks, matched against runs of target axes with the same product.
  size_t i = 0, j = 0;
  while (i < from.size() || j < to.size()) {
    if (i < from.size() && from[i] == 1) {
      ++i;
      continue;
    }
    if (j < to.size() && to[j] == 1) {
      ++j;
      continue;
    }
    if (i >= from.size() || j >= to.size()) return false;
    int64_t have = from[i], want = to[j];
    size_t i_end = i + 1, j_end = j + 1;
    while (have != want) {
      if (have < want) {
        if (i_end >= from.size()) return false;
        if (from[i_end] != 1) {
          size_t before = i_end - 1;
          while (from[before] == 1) --before;
          if (strides[before] != strides[i_end] * from[i_end]) return false;
        }
        have *= from[i_end++];
      } else {
        if (j_end >= to.size()) return false;
        want *= to[j_end++];
      }
    }
    size_t last = i_end - 1;
    while (from[last] == 1) --last;
    int64_t step = strides[last];
    for (size_t t = j_end; t-- > j;) {
      out[t] = step;
      step *= to[t];
    }
    i = i_end;
    j = j_end;
  }
  return true;
}

void run_view(Node& node, std::span<Node* const> inputs, const Backend& backend) {
  const Node& in = *inputs[0];
  if (node.op == OpId::Output) {
    const auto& one = in.results->items[static_cast<size_t>(node.as<OutputParams>().index)];
    if (!one.buffer) in.view();  // says that the memory is gone
    node.buffer = one.buffer;
    node.offset = 0;
    node.strides = row_major_strides(node.shape);
    return;
  }
  share(node, in);
  if (auto layout = view_layout(node, in, {in.strides, node.offset})) {
    node.strides = std::move(layout->strides);
    node.offset = layout->offset;
  } else {
    copy_into(node, in, backend);
  }
}

std::optional<Layout> view_layout(const Node& node, const Node& in, const Layout& from) {
  switch (node.op) {
    case OpId::Broadcast: return Layout{broadcast(node, in, from.strides), from.offset};
    case OpId::ExpandDims: return Layout{insert_axes(node, from.strides), from.offset};
    case OpId::Squeeze: return Layout{drop_axes(node, from.strides), from.offset};
    case OpId::Transpose: return Layout{permute(node, from.strides), from.offset};
    case OpId::Slice: return slice_view(node, from);
    case OpId::ViewAs: return reinterpret(node, in, from);
    case OpId::AsStrided: {
      const auto& p = node.as<AsStridedParams>();
      return Layout{p.strides, from.offset + p.offset};
    }
    case OpId::Reshape: {
      if (node.size() == 0) return Layout{row_major_strides(node.shape), from.offset};
      Layout out{{}, from.offset};
      if (!reshape_strides(in.shape, from.strides, node.shape, out.strides)) return std::nullopt;
      return out;
    }
    case OpId::Identity:
    case OpId::StopGradient:
    case OpId::CustomOutput:
    case OpId::Depends: return from;
    default: fail<Error>("view", "{} is no view", op_info(node.op).name);
  }
}

}  // namespace lamina
