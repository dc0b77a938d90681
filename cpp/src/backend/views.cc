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

void broadcast(Node& node, const Node& in) {
  const size_t shift = node.shape.size() - in.shape.size();
  node.strides = Strides(node.shape.size(), 0);
  for (size_t i = 0; i < in.shape.size(); ++i) {
    if (in.shape[i] != 1 || node.shape[shift + i] == 1) node.strides[shift + i] = in.strides[i];
  }
}

void insert_axes(Node& node, const Node& in) {
  const Axes& axes = node.as<AxesParams>().axes;
  node.strides.clear();
  for (size_t i = 0, j = 0, k = 0; i < node.shape.size(); ++i) {
    const bool fresh = j < axes.size() && axes[j] == static_cast<int64_t>(i);
    if (fresh) {
      ++j;
      node.strides.push_back(0);
    } else {
      node.strides.push_back(in.strides[k++]);
    }
  }
}

void drop_axes(Node& node, const Node& in) {
  const Axes& axes = node.as<AxesParams>().axes;
  node.strides.clear();
  for (size_t i = 0, j = 0; i < in.shape.size(); ++i) {
    if (j < axes.size() && axes[j] == static_cast<int64_t>(i)) {
      ++j;
    } else {
      node.strides.push_back(in.strides[i]);
    }
  }
}

void slice_view(Node& node, const Node& in) {
  const auto& p = node.as<SliceParams>();
  node.strides = in.strides;
  for (size_t i = 0; i < node.shape.size(); ++i) {
    if (node.shape[i] > 0) node.offset += p.start[i] * in.strides[i];
    node.strides[i] *= p.strides[i];
  }
}

void reinterpret(Node& node, const Node& in) {
  const auto from = static_cast<int64_t>(itemsize(in.dtype)), to = static_cast<int64_t>(itemsize(node.dtype));
  node.strides = from == to ? in.strides : row_major_strides(node.shape);
  node.offset = node.offset * from / to;
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
    node.buffer = one.buffer;
    node.offset = 0;
    node.strides = row_major_strides(node.shape);
    return;
  }
  share(node, in);
  switch (node.op) {
    case OpId::Broadcast: broadcast(node, in); return;
    case OpId::ExpandDims: insert_axes(node, in); return;
    case OpId::Squeeze: drop_axes(node, in); return;
    case OpId::Slice: slice_view(node, in); return;
    case OpId::ViewAs: reinterpret(node, in); return;
    case OpId::Transpose: {
      const Axes& axes = node.as<AxesParams>().axes;
      node.strides = Strides(axes.size());
      for (size_t i = 0; i < axes.size(); ++i) node.strides[i] = in.strides[static_cast<size_t>(axes[i])];
      return;
    }
    case OpId::AsStrided: {
      const auto& p = node.as<AsStridedParams>();
      node.strides = p.strides;
      node.offset += p.offset;
      return;
    }
    case OpId::Reshape:
      if (node.size() == 0) {
        node.strides = row_major_strides(node.shape);
      } else if (!reshape_strides(in.shape, in.strides, node.shape, node.strides)) {
        copy_into(node, in, backend);
      }
      return;
    case OpId::Identity:
    case OpId::StopGradient:
    case OpId::CustomOutput:
    case OpId::Depends: node.strides = in.strides; return;
    default: unsupported(node.op, node.dtype, backend.name);
  }
}

}  // namespace lamina
