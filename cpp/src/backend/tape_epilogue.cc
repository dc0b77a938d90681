#include "backend/tape_epilogue.h"

#include <algorithm>
#include <cstring>

#include "backend/reference/layout.h"
#include "backend/tile_copies.h"
#include "backend/tile_scratch.h"

namespace lamina {
namespace {

using fusion::Instr;
using fusion::InstrKind;
using fusion::Space;

constexpr int64_t kEpilogueBytes = 24 << 10;  // of slots: about an L1 cache
constexpr int64_t kLeastEpilogueTile = 128, kMostEpilogueTile = 1024;
constexpr int64_t kMostFetched = 16384;  // elements of a tile that are asked for while the one before runs
constexpr int64_t kOwnRow = 96;          // elements from which on a row is worth a run of its own
constexpr int64_t kInstrWork = 8;        // multiply-adds of a product that take as long as one instruction

int64_t whole_lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

char* epilogue_scratch(size_t bytes) {
  thread_local TileScratch scratch;
  return scratch.of(bytes);
}

}  // namespace

TapeEpilogue::TapeEpilogue(const BoundTape& bound, const Shape& full, std::span<const View> inputs,
                           std::span<const View> outputs)
    : b_(bound) {
  const fusion::Tape& tape = b_.tape;
  const int64_t slots = std::max(1, tape.slots), item = tape.max_item;
  tile_ = std::clamp(kEpilogueBytes / (slots * item) / 64 * 64, kLeastEpilogueTile, kMostEpilogueTile);
  slot_bytes_ = whole_lines(tile_ * item);
  columns_ = full.back();
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool product = static_cast<int32_t>(i) == tape.product;
    inputs_.push_back(product ? Operand{} : operand_of(inputs[i], full.size()));
  }
  for (const View& v : outputs) outputs_.push_back(operand_of(v, full.size()));
  fold_rows(full);
  make_scalars();
  for (size_t i = 0; i < tape.code.size(); ++i) {
    if (tape.code[i].space != Space::kScalar) code_.push_back(code_of(i));
  }
}

int64_t TapeEpilogue::work() const { return kInstrWork * static_cast<int64_t>(b_.tape.code.size()); }

TapeEpilogue::Operand TapeEpilogue::operand_of(const View& v, size_t axes) const {
  Operand o;
  o.base = static_cast<char*>(v.data);
  o.item = static_cast<int64_t>(itemsize(v.dtype));
  o.outer = Strides(axes, 0);
  const size_t shift = axes - v.shape.size();
  for (size_t i = 0; i < v.shape.size(); ++i) o.outer[shift + i] = v.shape[i] == 1 ? 0 : v.strides[i];
  o.inner = columns_ == 1 ? 1 : o.outer.back();
  o.outer.pop_back();
  return o;
}

void TapeEpilogue::fold_rows(const Shape& full) {
  outer_ = Shape(full.begin(), full.end() - 1);
  std::vector<Strides*> all;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (static_cast<int32_t>(i) != b_.tape.product) all.push_back(&inputs_[i].outer);
  }
  for (Operand& o : outputs_) all.push_back(&o.outer);
  if (!outer_.empty()) collapse(outer_, all);
  auto packed = [this](const Operand& o) {
    return o.inner == 1 && o.outer.size() == 1 && o.outer[0] == columns_;
  };
  for (int64_t n : outer_) rows_ *= n;
  for (std::vector<Operand>* operands : {&inputs_, &outputs_}) {
    for (Operand& o : *operands) {
      o.packed = packed(o);
      if (o.inner == 1 && o.outer.size() == 1 && o.outer[0] != 0) streamed_.push_back(&o);
    }
  }
}

// Asks for what lies below a tile. A product's next tile usually lies below the last one, and rows of a tile
// are too short for the hardware to see them coming.
void TapeEpilogue::fetch(int64_t row, int64_t rows, int64_t column, int64_t columns) const {
  constexpr int64_t kLine = 64;
  for (const Operand* o : streamed_) {
    for (int64_t r = row; r < std::min(row + rows, rows_); ++r) {
      const char* from = o->base + (r * o->outer[0] + column) * o->item;
      for (int64_t at = 0; at < columns * o->item; at += kLine) __builtin_prefetch(from + at, 0, 2);
    }
  }
}

// Numbers that are the same everywhere, and what is computed of them, once for all tiles.
void TapeEpilogue::make_scalars() {
  const std::vector<Instr>& code = b_.tape.code;
  const auto count =
      std::count_if(code.begin(), code.end(), [](const Instr& c) { return c.space == Space::kScalar; });
  at_.assign(code.size(), nullptr);
  if (count == 0) return;
  const int64_t each = whole_lines(tile_ * 8);
  scalars_ = allocate(static_cast<size_t>(count * each));
  auto* memory = static_cast<char*>(scalars_->data());
  for (size_t i = 0; i < code.size(); ++i) {
    const Instr& c = code[i];
    if (c.space != Space::kScalar) continue;
    at_[i] = memory;
    memory += each;
    if (c.kind == InstrKind::kLoad) {
      const Operand& o = inputs_[static_cast<size_t>(c.source)];
      b_.spread(at_[i], o.base, tile_, o.item);
    } else {
      call(code_of(i), at_.data(), at_[i], tile_);
    }
  }
}

TapeEpilogue::Code TapeEpilogue::code_of(size_t i) const {
  const Instr& c = b_.tape.code[i];
  Code out;
  out.function = b_.tile[i];
  out.slot = c.slot * slot_bytes_;
  out.item = static_cast<int64_t>(itemsize(c.dtype));
  out.value = static_cast<int32_t>(i);
  for (size_t j = 0; j < c.in.size(); ++j) out.in[j] = c.in[j];
  out.loads = c.kind == InstrKind::kLoad;
  if (out.loads && c.source != b_.tape.product) out.operand = &inputs_[static_cast<size_t>(c.source)];
  if (c.store >= 0) out.operand = &outputs_[static_cast<size_t>(c.store)];
  return out;
}

int64_t TapeEpilogue::row_offset(const Operand& o, int64_t row) const {
  if (o.outer.size() == 1) return row * o.outer[0];
  int64_t offset = 0;
  for (size_t d = outer_.size(); d-- > 0;) {
    offset += row % outer_[d] * o.outer[d];
    row /= outer_[d];
  }
  return offset;
}

void TapeEpilogue::apply(float* tile, int64_t row0, int64_t rows, int64_t col0, int64_t cols,
                         int64_t ld) const {
  char* slots = epilogue_scratch(static_cast<size_t>(std::max(1, b_.tape.slots) * slot_bytes_));
  SmallVec<void*, 32> at;
  for (void* p : at_) at.push_back(p);
  if (rows * cols <= kMostFetched) fetch(row0 + rows, rows, col0, cols);
  // Short rows are taken several at a time, whose operands and results are copied for it.
  const int64_t together =
      cols >= kOwnRow ? 1 : std::clamp<int64_t>(tile_ / std::max<int64_t>(1, cols), 1, rows);
  const int64_t width = std::min(cols, tile_);
  for (int64_t r = 0; r < rows; r += together) {
    for (int64_t c = 0; c < cols; c += width) {
      run({tile + r * ld + c, row0 + r, std::min(together, rows - r), col0 + c, std::min(width, cols - c),
           ld},
          at.data(), slots);
    }
  }
}

void TapeEpilogue::run(const Chunk& chunk, void** at, char* slots) const {
  const bool whole_rows = chunk.rows == 1 || chunk.columns == columns_;
  const int64_t n = chunk.rows * chunk.columns;
  for (const Code& c : code_) {
    char* slot = slots + c.slot;
    if (c.loads) {
      at[c.value] = load(c.operand, chunk, slot);
      continue;
    }
    const bool in_place = c.operand && whole_rows;
    void* out = in_place ? c.operand->base + (chunk.row * columns_ + chunk.column) * c.item : slot;
    at[c.value] = out;
    call(c, at, out, n);
    if (c.operand && !in_place) store_rows(*c.operand, chunk, slot);
  }
}

// Where the elements of an input below the chunk lie one after the other: in place, or gathered in the slot.
void* TapeEpilogue::load(const Operand* o, const Chunk& chunk, char* slot) const {
  const int64_t n = chunk.columns;
  if (!o) {
    if (chunk.rows == 1 || chunk.ld == n) return chunk.tile;
    for (int64_t r = 0; r < chunk.rows; ++r) {
      std::memcpy(slot + r * n * 4, chunk.tile + r * chunk.ld, static_cast<size_t>(n) * 4);
    }
    return slot;
  }
  const bool in_place = chunk.rows == 1 ? o->inner == 1 : o->packed && n == columns_;
  for (int64_t r = 0; r < chunk.rows; ++r) {
    char* from = o->base + (row_offset(*o, chunk.row + r) + chunk.column * o->inner) * o->item;
    if (in_place) return from;
    gather(from, o->inner, slot + r * n * o->item, n, o->item);
  }
  return slot;
}

void TapeEpilogue::call(const Code& c, void* const* at, void* out, int64_t n) {
  const void* in[3] = {at[c.in[0]], at[c.in[1]], at[c.in[2]]};
  if (c.function) {
    c.function(in, out, static_cast<size_t>(n));
  } else {
    std::memcpy(out, in[0], static_cast<size_t>(n * c.item));
  }
}

void TapeEpilogue::store_rows(const Operand& o, const Chunk& chunk, const void* values) const {
  const auto bytes = static_cast<size_t>(chunk.columns * o.item);
  for (int64_t r = 0; r < chunk.rows; ++r) {
    char* to = o.base + ((chunk.row + r) * columns_ + chunk.column) * o.item;
    std::memcpy(to, static_cast<const char*>(values) + static_cast<size_t>(r) * bytes, bytes);
  }
}

}  // namespace lamina
