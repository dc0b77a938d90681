#include "backend/tape_runner.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "backend/reference/elementwise.h"
#include "backend/reference/layout.h"
#include "backend/tile_copies.h"
#include "core/fail.h"
#include "core/thread_pool.h"
#include "graph/eval.h"
#include "memory/buffer.h"
#include "memory/counters.h"

namespace lamina {

using fusion::Instr;
using fusion::InstrKind;
using fusion::Space;

namespace {

constexpr int64_t kScratchBytes = 24 << 10;      // of slots that a tile works in: about an L1 cache
constexpr int64_t kRowScratchBytes = 384 << 10;  // when whole rows are kept between phases: about half an L2
constexpr int64_t kMinTile = 128, kMaxTile = 1024;
constexpr int64_t kFold = kMaxTile;  // longer rows are folded in pieces of this length, in order
constexpr int64_t kPartial = 32768;  // elements of a row of two such pieces or more that are folded apart
constexpr int64_t kPartialItem = 8;  // bytes of a partial result, at most
constexpr int64_t kSerialWork = 1 << 15;  // element-instructions below which threads do not pay
constexpr int64_t kChunkWork = 1 << 17;   // element-instructions of one parallel chunk

// An operand in memory as the loops see it: rows through outer strides, elements through `inner` (elements).
struct Operand {
  char* base = nullptr;
  int64_t item = 0;
  int64_t inner = 0;
  Strides outer;
  bool dense = false;  // rows follow each other without gaps
};

char* thread_scratch(size_t bytes) {
  thread_local std::unique_ptr<char[]> memory;
  thread_local size_t size = 0;
  if (size < bytes) {
    count_system_allocation();
    memory = std::make_unique_for_overwrite<char[]>(bytes + 64);
    size = bytes;
  }
  const auto address = reinterpret_cast<uintptr_t>(memory.get());
  return memory.get() + ((64 - address % 64) % 64);
}

int64_t round_up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }

// How many pieces of a row are folded apart and then combined, in order: of long rows several threads can
// fold one. The row's length alone says so, and where tapes reduce tiles divide pieces as folds do: no sum
// depends on what is fused with it.
int64_t pieces_of(int64_t columns) {
  return columns < 2 * kPartial ? 1 : (columns + kPartial - 1) / kPartial;
}

// Sizes that follow from the tape and the length of a row alone.
struct Tiling {
  int64_t tile = 0;  // elements of a full slot
  int64_t rows = 1;  // rows worked on at once
  bool whole_rows = true;
};

Tiling choose_tiling(const BoundTape& b, int64_t columns) {
  Tiling t;
  const int64_t slots = std::max(1, b.tape.slots), item = b.tape.max_item;
  const int64_t fitting = std::clamp(kScratchBytes / (slots * item) / 64 * 64, kMinTile, kMaxTile);
  const bool reduces = std::any_of(b.reduce.begin(), b.reduce.end(), [](ReduceFn f) { return f != nullptr; });
  if (columns <= (reduces ? kFold : fitting)) {
    t.rows = std::max<int64_t>(1, fitting / std::max<int64_t>(1, columns));
    t.tile = round_up(std::max(t.rows, t.rows * columns), 16);
  } else if (b.tape.phases > 1 && columns * slots * item <= kRowScratchBytes &&
             (!reduces || pieces_of(columns) == 1)) {
    t.tile = round_up(columns, 16);
  } else {
    t.whole_rows = false;
    const int64_t per_phase = std::max(slots, static_cast<int64_t>(b.tape.phase_slots));
    t.tile = reduces ? kFold : std::clamp(kScratchBytes / (per_phase * item) / 64 * 64, kMinTile, kMaxTile);
  }
  return t;
}

class Runner {
 public:
  Runner(const BoundTape& bound, const Shape& full, std::span<const View> inputs,
         std::span<const View> outputs)
      : b_(bound), code_(bound.tape.code), inputs_(inputs.begin(), inputs.end()), outputs_(outputs) {
    split_axes(full);
    tiling_ = choose_tiling(b_, columns_);
    for (size_t i = 0; i < code_.size(); ++i) {
      const Instr& c = code_[i];
      if (c.space == Space::kScalar) scalar_bytes_ += round_up(tiling_.tile * 8, 64);
      if (c.space == Space::kRow) row_bytes_ += round_up(tiling_.rows * 8, 64);
      reductions_ += c.kind == InstrKind::kReduce;
      full_after_ |= c.phase > 0 && c.space == Space::kFull && c.kind != InstrKind::kReduce;
      early_row_store_ |=
          c.phase == 0 && c.space == Space::kRow && c.store >= 0 && c.kind != InstrKind::kReduce;
      late_reduce_ |= c.phase > 0 && c.kind == InstrKind::kReduce;
    }
    slot_bytes_ = round_up(tiling_.tile * b_.tape.max_item, 64);
  }

  void run() {
    // Empty rows may still have results of their own, of which reductions are only one kind.
    if (rows_ == 0 || (columns_ == 0 && !has_row_code())) return;
    const int64_t per_row = std::max<int64_t>(1, columns_) * static_cast<int64_t>(code_.size());
    const bool serial = rows_ * per_row < kSerialWork;
    if (tiling_.whole_rows) {
      const int64_t blocks = (rows_ + tiling_.rows - 1) / tiling_.rows;
      const int64_t group = std::max<int64_t>(1, kChunkWork / (per_row * tiling_.rows));
      split(blocks, group, serial, [this](State& s, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) whole_rows(s, i * tiling_.rows);
      });
    } else if (reductions_ == 0 && b_.tape.phases == 1 && !has_row_code()) {
      const int64_t tiles = tiles_of(columns_);
      const int64_t group =
          std::max<int64_t>(1, kChunkWork / (tiling_.tile * static_cast<int64_t>(code_.size())));
      split(rows_ * tiles, group, serial, [this, tiles](State& s, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) plain_tile(s, i / tiles, i % tiles);
      });
    } else if (!full_after_ && !late_reduce_ && !early_row_store_ && pieces_of(columns_) > 1) {
      run_partials();
    } else {
      const int64_t group = std::max<int64_t>(1, kChunkWork / per_row);
      split(rows_, group, serial, [this](State& s, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) phased_row(s, i);
      });
    }
  }

  static int64_t row_length(const Shape& full, int row_axes) {
    int64_t n = 1;
    for (size_t i = full.size() - static_cast<size_t>(row_axes); i < full.size(); ++i) n *= full[i];
    return n;
  }

 private:
  // What one thread works with: a pointer for every value, and where the outer loops stand.
  struct State {
    SmallVec<void*, 32> at;
    char* slots = nullptr;
    char* rows = nullptr;
    SmallVec<int64_t, 24> offset;  // of operands, in elements
  };

  bool has_row_code() const {
    return std::any_of(code_.begin(), code_.end(), [](const Instr& c) { return c.space == Space::kRow; });
  }
  int64_t tiles_of(int64_t n) const { return (n + tiling_.tile - 1) / tiling_.tile; }

  static Strides aligned_strides(const View& v, size_t ndim) {
    Strides s(ndim, 0);
    const size_t shift = ndim - v.shape.size();
    for (size_t i = 0; i < v.shape.size(); ++i) s[shift + i] = v.shape[i] == 1 ? 0 : v.strides[i];
    return s;
  }

  // Operands in order: inputs, outputs. Splits the axes into outer loops and one inner axis.
  void split_axes(const Shape& full) {
    const size_t ndim = full.size(), n = inputs_.size() + outputs_.size();
    const auto k = static_cast<size_t>(b_.row_axes);
    std::vector<Strides> strides(n);
    std::vector<uint8_t> row(n, 0), scalar(n, 0);
    for (const Instr& c : code_) {
      if (c.kind == InstrKind::kLoad) {
        row[static_cast<size_t>(c.source)] = c.space == Space::kRow;
        scalar[static_cast<size_t>(c.source)] = c.space == Space::kScalar;
      }
    }
    for (size_t i = 0; i < outputs_.size(); ++i)
      row[inputs_.size() + i] = b_.tape.outputs[i].space == Space::kRow;
    for (size_t i = 0; i < n; ++i) {
      const View& v = i < inputs_.size() ? inputs_[i] : outputs_[i - inputs_.size()];
      strides[i] = scalar[i] ? Strides(ndim, 0) : aligned_strides(v, ndim);
    }
    if (k > 0) {
      inner_axes(full, k, strides, row, scalar);
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
  void inner_axes(const Shape& full, size_t k, std::vector<Strides>& strides, const std::vector<uint8_t>& row,
                  const std::vector<uint8_t>& scalar) {
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

  Strides copy_input(size_t i, const Shape& full) {
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

  void finish_operands(std::vector<Strides>& strides) {
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

  template <class Body>
  void split(int64_t items, int64_t group, bool serial, Body body) {
    if (serial) {
      State s = make_state();
      body(s, 0, items);
      return;
    }
    parallel_for((items + group - 1) / group, [&](int64_t chunk) {
      State s = make_state();
      body(s, chunk * group, std::min(items, (chunk + 1) * group));
    });
  }

  // Scratch of this thread, with the scalars spread over tiles.
  State make_state() const {
    State s;
    const int64_t slots = std::max(b_.tape.slots, b_.tape.phase_slots) * slot_bytes_;
    char* memory = thread_scratch(static_cast<size_t>(slots + row_bytes_ + scalar_bytes_));
    s.slots = memory;
    s.rows = memory + slots;
    char* scalar = s.rows + row_bytes_;
    char* row = s.rows;
    s.at.resize(code_.size(), nullptr);
    s.offset.resize(operands_.size(), 0);
    for (size_t i = 0; i < code_.size(); ++i) {
      const Instr& c = code_[i];
      if (c.space == Space::kRow) {
        s.at[i] = row;
        row += round_up(tiling_.rows * 8, 64);
      } else if (c.space == Space::kScalar) {
        s.at[i] = scalar;
        scalar += round_up(tiling_.tile * 8, 64);
        spread_scalar(s, i);
      }
    }
    return s;
  }

  void spread_scalar(State& s, size_t i) const {
    const Instr& c = code_[i];
    auto* out = static_cast<char*>(s.at[i]);
    if (c.kind == InstrKind::kLoad) {
      fill(out, operands_[static_cast<size_t>(c.source)].base, tiling_.tile,
           static_cast<int64_t>(itemsize(c.dtype)));
    } else {
      call(s, i, out, tiling_.tile);
    }
  }

  void call(const State& s, size_t i, void* out, int64_t n) const {
    const Instr& c = code_[i];
    const void* in[3];
    for (size_t j = 0; j < c.in.size(); ++j) in[j] = s.at[static_cast<size_t>(c.in[j])];
    if (b_.tile[i]) {
      b_.tile[i](in, out, static_cast<size_t>(n));
    } else {
      std::memcpy(out, in[0], static_cast<size_t>(n) * itemsize(c.dtype));
    }
  }

  // Element offset of each operand at row r.
  void seek(State& s, int64_t r) const {
    for (size_t i = 0; i < operands_.size(); ++i) s.offset[i] = 0;
    for (size_t d = outer_.size(); d-- > 0;) {
      const int64_t at = r % outer_[d];
      r /= outer_[d];
      if (at == 0) continue;
      for (size_t i = 0; i < operands_.size(); ++i) s.offset[i] += at * operands_[i].outer[d];
    }
  }

  int64_t row_offset(const Operand& o, int64_t r) const {
    int64_t offset = 0;
    for (size_t d = outer_.size(); d-- > 0;) {
      offset += r % outer_[d] * o.outer[d];
      r /= outer_[d];
    }
    return offset;
  }

  // Whole rows [row0, row0 + rows): every instruction once.
  void whole_rows(State& s, int64_t row0) const {
    const int64_t k = std::min(tiling_.rows, rows_ - row0);
    seek(s, row0);
    for (size_t i = 0; i < code_.size(); ++i) {
      const Instr& c = code_[i];
      if (c.space == Space::kScalar) continue;
      switch (c.kind) {
        case InstrKind::kLoad: load_rows(s, i, row0, k); break;
        case InstrKind::kExpand: expand(s, i, row0, k); break;
        case InstrKind::kReduce: {
          char* acc = result(s, i, row0, 0);
          for (int64_t j = 0; j < k; ++j) fold(s, i, acc, j, columns_, true);
          break;
        }
        default: {
          char* out = result(s, i, row0, 0);
          call(s, i, out, c.space == Space::kRow ? k : k * columns_);
        }
      }
    }
  }

  // Where instruction i writes: an output's memory, a row slot or a tile slot. Sets s.at[i].
  char* result(State& s, size_t i, int64_t row0, int64_t column) const {
    const Instr& c = code_[i];
    if (c.store >= 0) {
      const Operand& o = operands_[inputs_.size() + static_cast<size_t>(c.store)];
      const int64_t element = c.space == Space::kRow ? row0 : row0 * columns_ + column;
      s.at[i] = o.base + element * o.item;
    } else if (c.space == Space::kFull) {
      s.at[i] = s.slots + c.slot * slot_bytes_;
    }
    return static_cast<char*>(s.at[i]);
  }

  void load_rows(State& s, size_t i, int64_t row0, int64_t k) const {
    const Instr& c = code_[i];
    const auto source = static_cast<size_t>(c.source);
    const Operand& o = operands_[source];
    if (c.space == Space::kRow) {
      auto* out = static_cast<char*>(s.at[i]);
      for (int64_t j = 0; j < k; ++j) {
        std::memcpy(out + j * o.item, o.base + row_offset(o, row0 + j) * o.item, static_cast<size_t>(o.item));
      }
      return;
    }
    char* first = o.base + s.offset[source] * o.item;
    if (o.dense || (k == 1 && o.inner == 1)) {
      s.at[i] = first;
      return;
    }
    char* out = s.slots + c.slot * slot_bytes_;
    for (int64_t j = 0; j < k; ++j) {
      const char* from = j == 0 ? first : o.base + row_offset(o, row0 + j) * o.item;
      gather(from, o.inner, out + j * columns_ * o.item, columns_, o.item);
    }
    s.at[i] = out;
  }

  void expand(State& s, size_t i, int64_t row0, int64_t k) const {
    const Instr& c = code_[i];
    const auto item = static_cast<int64_t>(itemsize(c.dtype));
    const auto* in = static_cast<const char*>(s.at[static_cast<size_t>(c.in[0])]);
    char* out = result(s, i, row0, 0);
    for (int64_t j = 0; j < k; ++j) fill(out + j * columns_ * item, in + j * item, columns_, item);
  }

  // Folds n elements (row j of the tile) into accumulator j.
  void fold(State& s, size_t i, char* acc, int64_t j, int64_t n, bool fresh) const {
    const Instr& c = code_[i];
    acc += j * static_cast<int64_t>(itemsize(c.dtype));
    if (fresh) reduce_identity(c.op, c.compute, acc);
    const auto item = static_cast<int64_t>(itemsize(c.compute));
    const auto* in = static_cast<const char*>(s.at[static_cast<size_t>(c.in[0])]) + j * n * item;
    for (int64_t at = 0; at < n; at += kFold) {
      b_.reduce[i](in + at * item, static_cast<size_t>(std::min(kFold, n - at)), acc);
    }
  }

  // One tile of one row of a tape without reductions.
  void plain_tile(State& s, int64_t row, int64_t tile) const {
    seek(s, row);
    run_phase(s, 0, row, tile * tiling_.tile, std::min(tiling_.tile, columns_ - tile * tiling_.tile));
  }

  // The full-space code of phase p over columns [column, column + n) of one row.
  void run_phase(State& s, size_t p, int64_t row, int64_t column, int64_t n) const {
    const auto& program = b_.tape.phase_code[p];
    for (size_t q = 0; q < program.size(); ++q) {
      const auto i = static_cast<size_t>(program[q]);
      const Instr& c = code_[i];
      char* slot = s.slots + b_.tape.phase_slot[p][q] * slot_bytes_;
      if (c.kind == InstrKind::kLoad) {
        const auto source = static_cast<size_t>(c.source);
        const Operand& o = operands_[source];
        char* from = o.base + (s.offset[source] + column * o.inner) * o.item;
        s.at[i] = from;
        if (o.inner == 1) continue;
        gather(from, o.inner, slot, n, o.item);
        s.at[i] = slot;
      } else if (c.kind == InstrKind::kReduce) {
        fold(s, i, static_cast<char*>(s.at[i]), 0, n, false);
      } else {
        const bool stores = c.store >= 0 && c.phase == static_cast<int32_t>(p);
        s.at[i] = stores ? result(s, i, row, column) : slot;
        if (c.kind == InstrKind::kExpand) {
          fill(static_cast<char*>(s.at[i]), s.at[static_cast<size_t>(c.in[0])], n,
               static_cast<int64_t>(itemsize(c.dtype)));
        } else {
          call(s, i, s.at[i], n);
        }
      }
    }
  }

  // The row-space code of phase p for one row, reductions excepted.
  void run_row_code(State& s, int32_t p, int64_t row) const {
    for (size_t i = 0; i < code_.size(); ++i) {
      const Instr& c = code_[i];
      if (c.space != Space::kRow || c.phase != p || c.kind == InstrKind::kReduce) continue;
      if (c.kind == InstrKind::kLoad) {
        load_rows(s, i, row, 1);
      } else {
        call(s, i, result(s, i, row, 0), 1);
      }
    }
  }

  // Where the partial results of one row lie: those of one reduction side by side, packed in its dtype.
  struct Partials {
    char* memory;
    int64_t pieces;
    char* of(int64_t reduction, int64_t piece, int64_t item) const {
      return memory + reduction * pieces * kPartialItem + piece * item;
    }
  };

  // Calls f(instruction, number among the reductions) for those of a phase.
  template <class F>
  void each_reduction(int32_t phase, F f) const {
    int64_t number = 0;
    for (size_t i = 0; i < code_.size(); ++i) {
      if (code_[i].kind != InstrKind::kReduce) continue;
      if (code_[i].phase == phase) f(i, number);
      ++number;
    }
  }

  // Phase p over one piece of a row; what it reduces goes to the piece's places.
  void run_piece(State& s, int32_t p, int64_t row, int64_t piece, const Partials& partials) const {
    each_reduction(p, [&](size_t i, int64_t number) {
      s.at[i] = partials.of(number, piece, static_cast<int64_t>(itemsize(code_[i].dtype)));
      reduce_identity(code_[i].op, code_[i].compute, s.at[i]);
    });
    const int64_t end = partials.pieces == 1 ? columns_ : std::min(columns_, (piece + 1) * kPartial);
    for (int64_t column = piece * kPartial; column < end; column += tiling_.tile) {
      run_phase(s, static_cast<size_t>(p), row, column, std::min(tiling_.tile, end - column));
    }
  }

  // The results of phase p's reductions of a row.
  void combine_pieces(State& s, int32_t p, int64_t row, const Partials& partials) const {
    each_reduction(p, [&](size_t i, int64_t number) {
      const Instr& c = code_[i];
      const auto item = static_cast<int64_t>(itemsize(c.dtype));
      char* acc = result(s, i, row, 0);
      if (partials.pieces == 1) {
        std::memcpy(acc, partials.of(number, 0, item), static_cast<size_t>(item));
        return;
      }
      reduce_identity(c.op, c.compute, acc);
      b_.combine[i](partials.of(number, 0, item), static_cast<size_t>(partials.pieces), acc);
    });
  }

  void phased_row(State& s, int64_t row) const {
    seek(s, row);
    const int64_t pieces = reductions_ > 0 ? pieces_of(columns_) : 1;
    SmallVec<uint64_t, 16> memory(static_cast<size_t>(reductions_ * pieces), 0);
    const Partials partials{reinterpret_cast<char*>(memory.data()), pieces};
    const auto home = s.at;
    for (int32_t p = 0; p < b_.tape.phases; ++p) {
      run_row_code(s, p, row);
      for (int64_t piece = 0; piece < pieces; ++piece) run_piece(s, p, row, piece, partials);
      each_reduction(p, [&](size_t i, int64_t) { s.at[i] = home[i]; });
      combine_pieces(s, p, row, partials);
    }
  }

  // Long rows that nothing full-sized depends on: their pieces in parallel.
  void run_partials() {
    const int64_t pieces = pieces_of(columns_), row_bytes = reductions_ * pieces * kPartialItem;
    BufferRef memory = allocate(static_cast<size_t>(rows_ * row_bytes));
    auto* partial = static_cast<char*>(memory->data());
    parallel_for(rows_ * pieces, [&](int64_t chunk) {
      const int64_t row = chunk / pieces;
      State s = make_state();
      seek(s, row);
      run_row_code(s, 0, row);
      run_piece(s, 0, row, chunk % pieces, {partial + row * row_bytes, pieces});
    });
    State s = make_state();
    for (int64_t row = 0; row < rows_; ++row) {
      seek(s, row);
      run_row_code(s, 0, row);
      combine_pieces(s, 0, row, {partial + row * row_bytes, pieces});
      for (int32_t p = 1; p < b_.tape.phases; ++p) run_row_code(s, p, row);
    }
  }

  const BoundTape& b_;
  const std::vector<Instr>& code_;
  std::vector<View> inputs_;
  std::span<const View> outputs_;
  std::vector<BufferRef> copies_;
  std::vector<Operand> operands_;
  std::vector<int64_t> inner_;
  Shape outer_;
  int64_t rows_ = 1, columns_ = 1;
  Tiling tiling_;
  int64_t slot_bytes_ = 0, row_bytes_ = 0, scalar_bytes_ = 0, reductions_ = 0;
  bool full_after_ = false, late_reduce_ = false, early_row_store_ = false;
};

}  // namespace

BoundTape bind(fusion::Tape tape, int row_axes, const Backend& backend) {
  BoundTape b;
  b.row_axes = row_axes;
  b.copy = backend.copy;
  const size_t n = tape.code.size();
  b.tile.resize(n, nullptr);
  b.reduce.resize(n, nullptr);
  b.combine.resize(n, nullptr);
  for (size_t i = 0; i < n; ++i) {
    const Instr& c = tape.code[i];
    if (c.kind == InstrKind::kOp) {
      b.tile[i] = backend.tile(c.op, c.compute);
      if (!b.tile[i]) unsupported(c.op, c.compute, backend.name);
    } else if (c.kind == InstrKind::kCast && c.compute != c.dtype) {
      b.tile[i] = backend.cast(c.compute, c.dtype);
      if (!b.tile[i]) unsupported(c.op, c.compute, backend.name);
    } else if (c.kind == InstrKind::kReduce) {
      b.reduce[i] = backend.reduce(c.op, c.compute);
      b.combine[i] = backend.reduce(c.op, c.dtype);
      if (!b.reduce[i] || !b.combine[i]) unsupported(c.op, c.compute, backend.name);
    }
  }
  b.tape = std::move(tape);
  return b;
}

bool donation_is_safe(const BoundTape& bound, const Shape& full_shape) {
  if (bound.tape.phases == 1) return true;
  return choose_tiling(bound, Runner::row_length(full_shape, bound.row_axes)).whole_rows;
}

void run_tape(const BoundTape& bound, const Shape& full_shape, std::span<const View> inputs,
              std::span<const View> outputs) {
  Runner(bound, full_shape, inputs, outputs).run();
}

}  // namespace lamina
