#include <fmt/format.h>

#include <algorithm>

#include "bindings/index_expr.h"

namespace lamina::bind {
namespace {

using Kind = IndexTerm::Kind;

// The value in the shape of a[index]: leading axes of length 1 that the shape has not are dropped, then
// broadcast.
Array fitted(const Array& value, const Shape& shape) {
  Array v = value;
  while (v.ndim() > static_cast<int>(shape.size()) && v.shape()[0] == 1) v = squeeze(v, Axes{0});
  try {
    return broadcast_to(v, shape);
  } catch (const ShapeError&) {
    throw ShapeError(
        fmt::format("[index] a value of shape {} does not broadcast to the indexed part of shape {}",
                    to_string(value.shape()), to_string(shape)));
  }
}

// Shape of the slices' part: one length for each slice in order.
Shape slice_lengths(const IndexExpr& e, const Shape& sliced) {
  Shape lengths;
  size_t axis = 0;
  for (const IndexTerm& t : e.terms) {
    if (t.kind == Kind::kSlice) lengths.push_back(sliced[axis]);
    axis += t.kind != Kind::kNewAxis;
  }
  return lengths;
}

// The shape of a[index], and which of its axes the new ones are.
struct ResultShape {
  Shape shape;
  Axes fresh;
};
ResultShape result_shape(const IndexExpr& e, const Shape& sliced, const Placement& p) {
  ResultShape r;
  size_t plain = 0, axis = 0;
  auto place_outer = [&] {
    if (!e.has_arrays || plain != p.position) return;
    for (int64_t d : p.outer) r.shape.push_back(d);
  };
  for (const IndexTerm& t : e.terms) {
    if (t.kind == Kind::kNewAxis || t.kind == Kind::kSlice) {
      place_outer();
      if (t.kind == Kind::kNewAxis) r.fresh.push_back(static_cast<int64_t>(r.shape.size()));
      r.shape.push_back(t.kind == Kind::kNewAxis ? 1 : sliced[axis]);
      ++plain;
    }
    axis += t.kind != Kind::kNewAxis;
  }
  place_outer();
  return r;
}

Array write_slices(const Array& a, const IndexExpr& e, const SliceArguments& s, const Shape& sliced,
                   const Array& value, ScatterMode mode) {
  const ResultShape r = result_shape(e, sliced, {});
  Array v = fitted(value, r.shape);
  if (!r.fresh.empty()) v = squeeze(v, r.fresh);
  Axes integers;
  int64_t axis = 0;
  for (const IndexTerm& t : e.terms) {
    if (t.kind == Kind::kInteger) integers.push_back(axis);
    axis += t.kind != Kind::kNewAxis;
  }
  return slice_update(a, expand_dims(v, integers), s.start, s.stop, s.step, mode);
}

// Everything scatter() wants: slices that take a part of their axis become index arrays too.
class ScatterWrite {
 public:
  ScatterWrite(const Array& a, const IndexExpr& e, const Placement& p, const Shape& sliced)
      : a_(a), e_(e), p_(p), lengths_(slice_lengths(e, sliced)) {
    size_t slice = 0;
    int64_t axis = 0;
    for (const IndexTerm& t : e_.terms) {
      if (t.kind == Kind::kSlice) {
        (t.whole ? whole_ : partial_).push_back(static_cast<int64_t>(slice));
        (t.whole ? whole_axes_ : partial_axes_).push_back(axis);
        if (!t.whole) steps_.push_back({t.start, t.step});
        ++slice;
      }
      axis += t.kind != Kind::kNewAxis;
    }
  }

  // `value` has the outer axes first, then the slices'.
  Array write(const Array& value, ScatterMode mode) const {
    return scatter(a_, indices(), updates(value), axes(), mode);
  }

 private:
  Shape outer_lengths() const {
    Shape outer = p_.outer;
    for (int64_t s : partial_) outer.push_back(lengths_[static_cast<size_t>(s)]);
    return outer;
  }

  std::vector<Array> indices() const {
    const Shape outer = outer_lengths();
    std::vector<Array> all;
    for (const Array& i : p_.indices) {
      Shape shape = p_.outer;
      shape.resize(outer.size(), 1);
      all.push_back(reshape(i, shape));
    }
    for (size_t k = 0; k < partial_.size(); ++k) {
      const int64_t n = lengths_[static_cast<size_t>(partial_[k])];
      Shape shape(outer.size(), 1);
      shape[p_.outer.size() + k] = n;
      const auto [start, step] = steps_[k];
      all.push_back(reshape(arange(start, start + n * step, step, Dtype::kInt64), shape));
    }
    return all;
  }

  Axes axes() const {
    Axes all = p_.axes;
    for (int64_t axis : partial_axes_) all.push_back(axis);
    return all;
  }

  Array updates(const Array& value) const {
    Axes order;
    const auto outer = static_cast<int64_t>(p_.outer.size());
    for (int64_t i = 0; i < outer; ++i) order.push_back(i);
    for (int64_t s : partial_) order.push_back(outer + s);
    for (int64_t s : whole_) order.push_back(outer + s);
    Shape shape = outer_lengths();
    Shape tail(a_.shape().size(), 1);
    for (int64_t axis : whole_axes_) tail[static_cast<size_t>(axis)] = a_.shape()[static_cast<size_t>(axis)];
    for (int64_t d : tail) shape.push_back(d);
    return reshape(transpose(value, order), shape);
  }

  const Array& a_;
  const IndexExpr& e_;
  const Placement& p_;
  Shape lengths_;                   // of each slice's part
  Axes whole_, partial_;            // slices by their number
  Axes whole_axes_, partial_axes_;  // the axes they take
  std::vector<std::pair<int64_t, int64_t>> steps_;
};

// The outer axes moved to the front of a value in the shape of a[index] without its new axes.
Array outer_first(const Array& v, const IndexExpr& e, const Placement& p) {
  size_t before = 0, plain = 0;
  for (const IndexTerm& t : e.terms) {
    if (e.is_advanced(t)) continue;
    if (plain < p.position) before += t.kind == Kind::kSlice;
    ++plain;
  }
  const size_t outer = p.outer.size();
  Axes order;
  for (size_t i = 0; i < outer; ++i) order.push_back(static_cast<int64_t>(before + i));
  for (size_t i = 0; i < static_cast<size_t>(v.ndim()); ++i) {
    if (i < before || i >= before + outer) order.push_back(static_cast<int64_t>(i));
  }
  return transpose(v, order);
}

}  // namespace

Array write_index(const Array& array, const IndexExpr& e, const Array& value, ScatterMode mode) {
  const Array a = with_mask_axes(array, e);
  const SliceArguments s = slice_part(e, a.shape());
  const Shape sliced = slice(a, s.start, s.stop, s.step).shape();
  const Array typed = astype(value, a.dtype());
  if (!e.has_arrays) return write_slices(a, e, s, sliced, typed, mode);
  const Placement p = place(e);
  const ResultShape r = result_shape(e, sliced, p);
  Array v = fitted(typed, r.shape);
  if (!r.fresh.empty()) v = squeeze(v, r.fresh);
  if (v.size() == 0) return array;
  return reshape(ScatterWrite(a, e, p, sliced).write(outer_first(v, e, p), mode), array.shape());
}

Array write_mask(const Array& a, const Array& mask, const Array& value) {
  if (mask.ndim() > a.ndim()) return Array();
  Shape wide = mask.shape();
  for (int i = 0; i < a.ndim(); ++i) {
    if (i < mask.ndim() && mask.shape()[static_cast<size_t>(i)] != a.shape()[static_cast<size_t>(i)])
      return Array();
    if (i >= mask.ndim()) wide.push_back(1);
  }
  // The value's last axes belong to the axes behind the mask; one more stands for the true elements.
  const int behind = a.ndim() - mask.ndim();
  Array v = value;
  while (v.ndim() > behind && v.shape()[0] == 1) v = squeeze(v, Axes{0});
  if (v.ndim() > behind) return Array();
  const Shape rest(a.shape().begin() + mask.ndim(), a.shape().end());
  return where(reshape(mask, wide), fitted(astype(v, a.dtype()), rest), a);
}

}  // namespace lamina::bind
