#include "bindings/index_expr.h"

namespace lamina::bind {
namespace {

using Kind = IndexTerm::Kind;

Shape squeezed_axes_of_integers(const IndexExpr& e) {
  Axes axes;
  int64_t axis = 0;
  for (const IndexTerm& t : e.terms) {
    if (t.kind == Kind::kInteger) axes.push_back(axis);
    axis += t.kind != Kind::kNewAxis;
  }
  return axes;
}

// The positions of new axes in the result, which has `outer` axes at `position` among the slices' and new
// axes.
Axes new_axes(const IndexExpr& e, size_t position, size_t outer) {
  Axes axes;
  size_t plain = 0;
  for (const IndexTerm& t : e.terms) {
    if (e.is_advanced(t) || t.kind == Kind::kInteger) continue;
    if (t.kind == Kind::kNewAxis)
      axes.push_back(static_cast<int64_t>(plain + (plain >= position ? outer : 0)));
    ++plain;
  }
  return axes;
}

// Integer-array indexing of an array that has been sliced: gather, drop the indexed axes, move the outer
// axes.
Array gather_terms(const Array& a, const IndexExpr& e, const Placement& p) {
  Shape sizes = a.shape();
  for (int64_t axis : p.axes)
    sizes[static_cast<size_t>(axis)] = std::min<int64_t>(1, sizes[static_cast<size_t>(axis)]);
  const Array picked = gather(a, p.indices, p.axes, sizes);
  const size_t outer = p.outer.size();
  // Axes of length 0 can be indexed by empty arrays only; they are dropped by reshaping.
  Shape kept(p.outer.begin(), p.outer.end());
  size_t before = 0, plain = 0, axis = 0;
  for (const IndexTerm& t : e.terms) {
    const bool advanced = e.is_advanced(t);
    if (t.kind == Kind::kSlice) kept.push_back(a.shape()[axis]);
    if (!advanced && plain < p.position) before += t.kind == Kind::kSlice;
    plain += !advanced;
    axis += t.kind != Kind::kNewAxis;
  }
  const Array dense = reshape(picked, kept);
  Axes order;
  for (size_t i = 0; i < before; ++i) order.push_back(static_cast<int64_t>(outer + i));
  for (size_t i = 0; i < outer; ++i) order.push_back(static_cast<int64_t>(i));
  for (size_t i = outer + before; i < kept.size(); ++i) order.push_back(static_cast<int64_t>(i));
  return transpose(dense, order);
}

}  // namespace

Array read_index(const Array& array, const IndexExpr& e) {
  const Array a = with_mask_axes(array, e);
  const SliceArguments s = slice_part(e, a.shape());
  const Array part = slice(a, s.start, s.stop, s.step);
  if (!e.has_arrays) {
    const Axes dropped = squeezed_axes_of_integers(e);
    return expand_dims(dropped.empty() ? part : squeeze(part, dropped), new_axes(e, e.terms.size() + 1, 0));
  }
  const Placement p = place(e);
  return expand_dims(gather_terms(part, e, p), new_axes(e, p.position, p.outer.size()));
}

}  // namespace lamina::bind
