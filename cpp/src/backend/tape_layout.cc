#include "backend/tape_layout.h"

#include "backend/reference/layout.h"
#include "graph/eval.h"

namespace lamina {
namespace {

Strides aligned_strides(const View& v, size_t ndim) {
  Strides s(ndim, 0);
  const size_t shift = ndim - v.shape.size();
  for (size_t i = 0; i < v.shape.size(); ++i) s[shift + i] = v.shape[i] == 1 ? 0 : v.strides[i];
  return s;
}

}  // namespace

int64_t row_length(const Shape& full, int row_axes) {
  int64_t n = 1;
  for (size_t i = full.size() - static_cast<size_t>(row_axes); i < full.size(); ++i) n *= full[i];
  return n;
}

TapeLayout::TapeLayout(const BoundTape& bound, const Shape& full, std::span<const View> inputs,
                       std::span<const View> outputs)
    : inputs_(inputs.begin(), inputs.end()), outputs_(outputs), b_(bound) {
  split_axes(full);
}

// Operands in order: inputs, outputs. Splits the axes into outer loops and one inner axis.
void TapeLayout::split_axes(const Shape& full) {
  const size_t ndim = full.size(), n = inputs_.size() + outputs_.size();
  std::vector<Strides> strides(n);
  std::vector<uint8_t> row(n, 0), scalar(n, 0);
  for (const fusion::Instr& c : b_.tape.code) {
    if (c.kind == fusion::InstrKind::kLoad) {
      row[static_cast<size_t>(c.source)] = c.space == fusion::Space::kRow;
      scalar[static_cast<size_t>(c.source)] = c.space == fusion::Space::kScalar;
    }
  }
  for (size_t i = 0; i < outputs_.size(); ++i)
    row[inputs_.size() + i] = b_.tape.outputs[i].space == fusion::Space::kRow;
  for (size_t i = 0; i < n; ++i) {
    const View& v = i < inputs_.size() ? inputs_[i] : outputs_[i - inputs_.size()];
    strides[i] = scalar[i] ? Strides(ndim, 0) : aligned_strides(v, ndim);
  }
  if (b_.row_axes > 0) {
    inner_axes(full, strides, row, scalar);
  } else {
    std::vector<Strides*> all;
    for (Strides& s : strides) all.push_back(&s);
    outer_ = full;
    collapse(outer_, all);
    columns_ = outer_.back();
    outer_.pop_back();
    for (Strides& s : strides) {
      inner_.push_back(s.back());
      s.pop_back();
    }
  }
  finish_operands(strides);
}

// Row regions: the trailing k axes become one; inputs whose layout forbids it are copied first.
void TapeLayout::inner_axes(const Shape& full, std::vector<Strides>& strides, const std::vector<uint8_t>& row,
                            const std::vector<uint8_t>& scalar) {
  const auto k = static_cast<size_t>(b_.row_axes);
  const size_t outer = full.size() - k;
  auto inner_of = [&](const Strides& s) { return Strides(s.begin() + outer, s.end()); };
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (row[i] || scalar[i]) continue;
    Shape shape(full.begin() + outer, full.end());
    Strides s = inner_of(strides[i]);
    Strides* one[] = {&s};
    collapse(shape, one);
    if (shape.size() > 1) strides[i] = copy_input(i, full);
  }
  for (size_t i = 0; i < strides.size(); ++i) {
    Shape shape(full.begin() + outer, full.end());
    Strides s = inner_of(strides[i]);
    Strides* one[] = {&s};
    collapse(shape, one);
    inner_.push_back(row[i] || scalar[i] ? 0 : s.back());
    strides[i].resize(outer);
  }
  columns_ = row_length(full, static_cast<int>(k));
  outer_ = Shape(full.begin(), full.begin() + outer);
  std::vector<Strides*> all;
  for (Strides& s : strides) all.push_back(&s);
  collapse(outer_, all);
}

Strides TapeLayout::copy_input(size_t i, const Shape& full) {
  View wide = inputs_[i];
  wide.strides = aligned_strides(wide, full.size());
  wide.shape = full;
  View dense = wide;
  dense.strides = row_major_strides(full);
  copies_.push_back(allocate(byte_count(full, wide.dtype)));
  dense.data = copies_.back()->data();
  b_.copy(wide, dense);
  inputs_[i] = dense;
  return dense.strides;
}

void TapeLayout::finish_operands(std::vector<Strides>& strides) {
  rows_ = 1;
  for (int64_t d : outer_) rows_ *= d;
  for (size_t i = 0; i < strides.size(); ++i) {
    const View& v = i < inputs_.size() ? inputs_[i] : outputs_[i - inputs_.size()];
    Operand o;
    o.base = static_cast<char*>(v.data);
    o.item = static_cast<int64_t>(itemsize(v.dtype));
    o.inner = inner_[i];
    o.outer = strides[i];
    const bool unit = o.inner == 1 || columns_ == 1;
    o.dense = unit && (outer_.empty() || rows_ == 1 || (outer_.size() == 1 && o.outer[0] == columns_));
    operands_.push_back(std::move(o));
  }
}

int64_t TapeLayout::row_offset(const Operand& o, int64_t r) const {
  int64_t offset = 0;
  for (size_t d = outer_.size(); d-- > 0;) {
    offset += r % outer_[d] * o.outer[d];
    r /= outer_[d];
  }
  return offset;
}

}  // namespace lamina
