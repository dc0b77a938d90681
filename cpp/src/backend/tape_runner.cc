#include "backend/tape_runner.h"

#include <algorithm>
#include <cstring>

#include "backend/reference/elementwise.h"
#include "backend/tape_layout.h"
#include "backend/tape_tiles.h"
#include "backend/tile_copies.h"
#include "backend/tile_scratch.h"
#include "core/cpu_caches.h"
#include "core/fail.h"
#include "core/thread_pool.h"
#include "graph/eval.h"
#include "memory/buffer.h"

namespace lamina {

using fusion::Instr;
using fusion::InstrKind;
using fusion::Space;
using fusion::Tape;

namespace {

constexpr int64_t kScratchBytes = 24 << 10;      // of slots that a tile works in: about an L1 cache
constexpr int64_t kFetchedBytes = 1 << 20;       // of operands that may lie beyond the caches
constexpr int64_t kFetchedTileBytes = 1 << 10;   // that are asked for in a tile of the next row
constexpr int64_t kRowScratchBytes = 384 << 10;  // of values kept for a row between phases: about half an L2
constexpr int64_t kMinTile = 128, kMaxTile = 1024;
constexpr int64_t kFold = kMaxTile;  // longer rows are folded in pieces of this length, in order
constexpr int64_t kPartial = 32768;  // elements of a row of two such pieces or more that are folded apart
constexpr int64_t kPartialItem = 8;  // bytes of a partial result, at most
constexpr int64_t kSerialWork = 1 << 15;  // element-instructions below which threads do not pay
constexpr int64_t kChunkWork = 1 << 17;   // element-instructions of one parallel chunk
constexpr int64_t kManyChunks = 8, kLongChunk = 1 << 16;  // for a thread; elements of a chunk of tiles

char* thread_scratch(size_t bytes) {
  thread_local TileScratch scratch;
  return scratch.of(bytes);
}

// So many are enough.
int64_t many_chunks() { return kManyChunks * num_threads(); }

int64_t round_up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }

// How many pieces of a row are folded apart and then combined, in order: of long rows several threads can
// fold one. The row's length alone says so, and where tapes reduce tiles divide pieces as folds do: no sum
// depends on what is fused with it.
int64_t pieces_of(int64_t columns) {
  return columns < 2 * kPartial ? 1 : (columns + kPartial - 1) / kPartial;
}

// How a tape goes over rows, which follows from the tape and the length of a row alone.
struct Tiling {
  enum class Mode : uint8_t {
    kRows,       // tiles of whole rows
    kKept,       // a row by tiles, phase by phase; what later phases read is kept
    kRecompute,  // the same for rows beyond the caches: a phase makes anew what it reads
  } mode = Mode::kRows;
  int64_t tile = 0;  // elements of a full slot
  int64_t rows = 1;  // rows worked on at once
};

Tiling choose_tiling(const BoundTape& b, int64_t columns) {
  Tiling t;
  const int64_t slots = std::max(1, b.tape.slots), item = b.tape.max_item;
  const int64_t fitting = std::clamp(kScratchBytes / (slots * item) / 64 * 64, kMinTile, kMaxTile);
  const bool reduces = std::any_of(b.reduce.begin(), b.reduce.end(), [](ReduceFn f) { return f != nullptr; });
  if (columns <= (reduces ? kFold : fitting)) {
    t.rows = std::max<int64_t>(1, fitting / std::max<int64_t>(1, columns));
    t.tile = round_up(std::max(t.rows, t.rows * columns), 16);
  } else if (b.tape.phases > 1 && columns * b.tape.row_program.rows * item <= kRowScratchBytes &&
             pieces_of(columns) == 1) {
    t.mode = Tiling::Mode::kKept;
    t.tile = kFold;
  } else {
    t.mode = Tiling::Mode::kRecompute;
    const int64_t per_phase = std::max(slots, static_cast<int64_t>(b.tape.phase_slots));
    t.tile = reduces ? kFold : std::clamp(kScratchBytes / (per_phase * item) / 64 * 64, kMinTile, kMaxTile);
  }
  return t;
}

class Runner : private TapeLayout {
 public:
  Runner(const BoundTape& bound, const Shape& full, std::span<const View> inputs,
         std::span<const View> outputs)
      : TapeLayout(bound, full, inputs, outputs), b_(bound), code_(bound.tape.code) {
    tiling_ = choose_tiling(b_, columns_);
    bound_ = tiling_.mode == Tiling::Mode::kRecompute && is_elementwise(b_.tape) && reads_in_place();
    if (bound_) tiling_.tile = kBoundTile;
    fetches_ = bound_ && inputs_.size() > 1 && bytes_read() >= kFetchedBytes && !follows_many_streams();
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
    if (tiling_.mode == Tiling::Mode::kKept) {
      kept_bytes_ = round_up(columns_ * b_.tape.max_item, 64);
      if (b_.streams && writes_past_caches()) streams_ = b_.streams;
    }
  }

  void run() {
    // Empty rows may still have results of their own, of which reductions are only one kind.
    if (rows_ == 0 || (columns_ == 0 && !has_row_code())) return;
    const int64_t row = std::max<int64_t>(1, columns_), ops = static_cast<int64_t>(code_.size());
    const bool serial = rows_ * row * ops < kSerialWork;
    // Each chunk spreads the scalars anew: of many items it takes more.
    const auto group_of = [ops](int64_t items, int64_t elems) {
      const int64_t least = kChunkWork / (elems * ops);
      return std::max({int64_t{1}, least, std::min(items / many_chunks(), kLongChunk / elems)});
    };
    if (tiling_.mode == Tiling::Mode::kRows) {
      const int64_t blocks = (rows_ + tiling_.rows - 1) / tiling_.rows;
      split(blocks, group_of(blocks, row * tiling_.rows), serial,
            [this](State& s, int64_t begin, int64_t end) {
              for (int64_t i = begin; i < end; ++i) whole_rows(s, i * tiling_.rows);
            });
    } else if (tiling_.mode == Tiling::Mode::kKept) {
      split(rows_, group_of(rows_, row), serial, [this](State& s, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) kept_row(s, i);
        if (streams_) streams_->fence();
      });
    } else if (is_elementwise(b_.tape)) {
      const int64_t tiles = rows_ * tiles_of(columns_);
      split(tiles, group_of(tiles, tiling_.tile), serial, [this](State& s, int64_t begin, int64_t end) {
        bound_ ? bound_tiles(s, begin, end) : plain_tiles(s, begin, end);
      });
    } else if (!full_after_ && !late_reduce_ && !early_row_store_ && pieces_of(columns_) > 1) {
      run_partials();
    } else {
      split(rows_, group_of(rows_, row), serial, [this](State& s, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) phased_row(s, i);
      });
    }
  }

 private:
  // What one thread works with: a pointer for every value, and where the outer loops stand.
  struct State {
    SmallVec<void*, 32> at;
    char* slots = nullptr;
    char* kept = nullptr;
    SmallVec<int64_t, 24> offset;  // of operands, in elements
  };

  // Whether the elements of each row of every input follow each other.
  bool reads_in_place() const {
    return std::all_of(code_.begin(), code_.end(), [this](const Instr& c) {
      return c.kind != InstrKind::kLoad || c.space != Space::kFull ||
             operands_[static_cast<size_t>(c.source)].inner == 1;
    });
  }
  int64_t bytes_read() const {
    int64_t bytes = 0;
    for (const Instr& c : code_) {
      if (c.kind == InstrKind::kLoad && c.space == Space::kFull)
        bytes += rows_ * columns_ * static_cast<int64_t>(itemsize(c.dtype));
    }
    return bytes;
  }

  // Whether full results are large, and not in an input's place, whose lines the caches have anyway. Rows of
  // several phases read for a while and write for a while: without reading the lines that they write they are
  // faster (RMS norm of 2048 x 4096, on slow memory: 3.1 ms, 1.9). What a later phase reads stays in the
  // caches.
  bool writes_past_caches() const {
    const auto& phases = b_.tape.row_program.code;
    for (size_t p = 0; p < phases.size(); ++p) {
      for (const int32_t i : phases[p]) {
        const Instr& c = code_[static_cast<size_t>(i)];
        if (c.store >= 0 && c.phase != static_cast<int32_t>(p)) return false;
      }
    }
    for (size_t i = inputs_.size(); i < operands_.size(); ++i) {
      const Operand& out = operands_[i];
      if (!b_.streams->worth(rows_ * columns_ * out.item)) return false;
      for (size_t j = 0; j < inputs_.size(); ++j) {
        if (operands_[j].base == out.base) return false;
      }
    }
    return true;
  }

  bool has_row_code() const {
    return std::any_of(code_.begin(), code_.end(), [](const Instr& c) { return c.space == Space::kRow; });
  }
  int64_t tiles_of(int64_t n) const { return (n + tiling_.tile - 1) / tiling_.tile; }

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
    const Tape& t = b_.tape;
    const int64_t slots = std::max({t.slots, t.phase_slots, t.row_program.slots}) * slot_bytes_;
    const int64_t kept = t.row_program.rows * kept_bytes_;
    char* memory = thread_scratch(static_cast<size_t>(slots + row_bytes_ + scalar_bytes_ + kept));
    s.slots = memory;
    char* row = memory + slots;
    char* scalar = row + row_bytes_;
    s.kept = scalar + scalar_bytes_;
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
      b_.spread(out, operands_[static_cast<size_t>(c.source)].base, tiling_.tile,
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
  char* result(State& s, size_t i, int64_t row, int64_t column, char* slot) const {
    const Instr& c = code_[i];
    if (c.store >= 0) {
      const Operand& o = operands_[inputs_.size() + static_cast<size_t>(c.store)];
      const int64_t element = c.space == Space::kRow ? row : row * columns_ + column;
      s.at[i] = o.base + element * o.item;
    } else if (c.space == Space::kFull) {
      s.at[i] = slot;
    }
    return static_cast<char*>(s.at[i]);
  }
  char* result(State& s, size_t i, int64_t row, int64_t column) const {
    return result(s, i, row, column, s.slots + code_[i].slot * slot_bytes_);
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
    for (int64_t j = 0; j < k; ++j) b_.spread(out + j * columns_ * item, in + j * item, columns_, item);
  }

  // Folds n elements (row j of the tile) into accumulator j.
  void fold(State& s, size_t i, char* acc, int64_t j, int64_t n, bool fresh) const {
    const Instr& c = code_[i];
    acc += j * static_cast<int64_t>(itemsize(c.dtype));
    if (fresh) reduce_identity(c.op, c.compute, acc);
    const auto item = static_cast<int64_t>(itemsize(c.compute));
    const auto row = [&](size_t k) {
      return static_cast<const char*>(s.at[static_cast<size_t>(c.in[k])]) + j * n * item;
    };
    for (int64_t at = 0; at < n; at += kFold) {
      const auto count = static_cast<size_t>(std::min(kFold, n - at));
      if (b_.reduce_products[i]) {
        b_.reduce_products[i](row(0) + at * item, row(1) + at * item, count, acc);
      } else {
        b_.reduce[i](row(0) + at * item, count, acc);
      }
    }
  }

  // One row, phase by phase over its tiles, each instruction once.
  void kept_row(State& s, int64_t row) const {
    const Tape::RowProgram& program = b_.tape.row_program;
    seek(s, row);
    for (int32_t p = 0; p < b_.tape.phases; ++p) {
      run_row_code(s, p, row);
      each_reduction(p, [&](size_t i, int64_t) {
        reduce_identity(code_[i].op, code_[i].compute, result(s, i, row, 0));
      });
      for (const int32_t e : program.once[static_cast<size_t>(p)]) {
        const auto i = static_cast<size_t>(e);
        s.at[i] = s.slots + program.once_slot[i] * slot_bytes_;
        spread(s, i, std::min(tiling_.tile, columns_));
      }
      const bool last = p + 1 == b_.tape.phases && row + 1 < rows_;  // which seldom waits for memory
      for (int64_t column = 0; column < columns_; column += tiling_.tile) {
        if (last) fetch_tile(row + 1, column, std::min(tiling_.tile, columns_ - column));
        kept_tile(s, static_cast<size_t>(p), row, column, std::min(tiling_.tile, columns_ - column));
      }
    }
  }

  // Asks for what the first phase reads of elements [column, column + n) of a row. Some lines are enough: the
  // hardware fetches those behind them, which all of them would keep from reading.
  void fetch_tile(int64_t row, int64_t column, int64_t n) const {
    for (const int32_t i : b_.tape.row_program.code[0]) {
      const Instr& c = code_[static_cast<size_t>(i)];
      if (c.kind != InstrKind::kLoad) continue;
      const Operand& o = operands_[static_cast<size_t>(c.source)];
      if (o.inner != 1) continue;
      const char* at = o.base + (row_offset(o, row) + column) * o.item;
      const int64_t bytes = std::min(kFetchedTileBytes, n * o.item);
      for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(at + b, 0, 2);
    }
  }

  void kept_tile(State& s, size_t p, int64_t row, int64_t column, int64_t n) const {
    const Tape::RowProgram& program = b_.tape.row_program;
    for (size_t q = 0; q < program.code[p].size(); ++q) {
      const auto i = static_cast<size_t>(program.code[p][q]);
      const Instr& c = code_[i];
      char* slot = s.slots + program.slot[p][q] * slot_bytes_;
      if (c.kind == InstrKind::kLoad) {
        load_tile(s, i, slot, column, n);
      } else if (c.kind == InstrKind::kReduce) {
        fold(s, i, static_cast<char*>(s.at[i]), 0, n, false);
      } else {
        if (program.kept[i] >= 0) {
          slot = s.kept + program.kept[i] * kept_bytes_ + column * static_cast<int64_t>(itemsize(c.dtype));
        }
        char* to = result(s, i, row, column, slot);
        if (c.phase != static_cast<int32_t>(p)) continue;
        const bool past_caches = streams_ && to != slot;
        if (past_caches) s.at[i] = slot;
        compute(s, i, n);
        if (past_caches) streams_->copy(to, slot, n * static_cast<int64_t>(itemsize(c.dtype)));
      }
    }
  }

  // The value of instruction i to s.at[i].
  void compute(State& s, size_t i, int64_t n) const {
    if (code_[i].kind == InstrKind::kExpand) {
      spread(s, i, n);
    } else {
      call(s, i, s.at[i], n);
    }
  }

  // Elements [column, column + n) of a row of an input: in place where they follow each other.
  void load_tile(State& s, size_t i, char* slot, int64_t column, int64_t n) const {
    const auto source = static_cast<size_t>(code_[i].source);
    const Operand& o = operands_[source];
    char* from = o.base + (s.offset[source] + column * o.inner) * o.item;
    s.at[i] = o.inner == 1 ? from : slot;
    if (o.inner != 1) gather(from, o.inner, slot, n, o.item);
  }

  // One number n times.
  void spread(State& s, size_t i, int64_t n) const {
    const Instr& c = code_[i];
    b_.spread(s.at[i], s.at[static_cast<size_t>(c.in[0])], n, static_cast<int64_t>(itemsize(c.dtype)));
  }

  // Tiles [begin, end) of a tape without reductions, row after row.
  void plain_tiles(State& s, int64_t begin, int64_t end) const {
    const int64_t tiles = tiles_of(columns_);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = i % tiles * tiling_.tile;
      seek(s, i / tiles);
      run_phase(s, 0, i / tiles, column, std::min(tiling_.tile, columns_ - column));
    }
  }

  // The same where all operands are contiguous along their rows.
  void bound_tiles(State& s, int64_t begin, int64_t end) const {
    const int64_t tiles = tiles_of(columns_);
    for (int64_t i = begin; i < end;) {
      const int64_t row = i / tiles, last = std::min(end, (row + 1) * tiles);
      seek(s, row);
      run_tiles(
          {b_, operands_, inputs_.size(), s.offset, s.at, s.slots, slot_bytes_, row, columns_, fetches_},
          i - row * tiles, last - row * tiles);
      i = last;
    }
  }

  // The full-space code of phase p over columns [column, column + n) of one row.
  void run_phase(State& s, size_t p, int64_t row, int64_t column, int64_t n) const {
    const auto& program = b_.tape.phase_code[p];
    for (size_t q = 0; q < program.size(); ++q) {
      const auto i = static_cast<size_t>(program[q]);
      const Instr& c = code_[i];
      char* slot = s.slots + b_.tape.phase_slot[p][q] * slot_bytes_;
      if (c.kind == InstrKind::kLoad) {
        load_tile(s, i, slot, column, n);
      } else if (c.kind == InstrKind::kReduce) {
        fold(s, i, static_cast<char*>(s.at[i]), 0, n, false);
      } else {
        const bool stores = c.store >= 0 && c.phase == static_cast<int32_t>(p);
        s.at[i] = stores ? result(s, i, row, column, slot) : slot;
        compute(s, i, n);
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
  Tiling tiling_;
  int64_t slot_bytes_ = 0, kept_bytes_ = 0, row_bytes_ = 0, scalar_bytes_ = 0, reductions_ = 0;
  bool full_after_ = false, late_reduce_ = false, early_row_store_ = false;
  bool bound_ = false, fetches_ = false;
  const StreamCopy* streams_ = nullptr;
};

}  // namespace

BoundTape bind(fusion::Tape tape, int row_axes, const Backend& backend) {
  BoundTape b;
  b.row_axes = row_axes;
  b.spread = backend.spread;
  b.streams = backend.streams;
  b.copy = backend.copy;
  const size_t n = tape.code.size();
  b.tile.resize(n, nullptr);
  b.reduce.resize(n, nullptr);
  b.reduce_products.resize(n, nullptr);
  b.combine.resize(n, nullptr);
  for (size_t i = 0; i < n; ++i) {
    const Instr& c = tape.code[i];
    if (c.kind == InstrKind::kOp) {
      b.tile[i] = c.inner == OpId::Data ? backend.tile(c.op, c.compute)
                                        : backend.pair(c.inner, c.op, c.left, c.compute);
      if (!b.tile[i]) unsupported(c.op, c.compute, backend.name);
    } else if (c.kind == InstrKind::kCast && c.compute != c.dtype) {
      b.tile[i] = backend.cast(c.compute, c.dtype);
      if (!b.tile[i]) unsupported(c.op, c.compute, backend.name);
    } else if (c.kind == InstrKind::kReduce) {
      b.reduce[i] = backend.reduce(c.op, c.compute);
      if (c.inner != OpId::Data) b.reduce_products[i] = backend.reduce_products(c.op, c.compute);
      b.combine[i] = backend.reduce(c.op, c.dtype);
      if (!b.reduce[i] || !b.combine[i]) unsupported(c.op, c.compute, backend.name);
    }
  }
  b.tape = std::move(tape);
  return b;
}

bool donation_is_safe(const BoundTape& bound, const Shape& full_shape) {
  if (bound.tape.phases == 1) return true;
  return choose_tiling(bound, row_length(full_shape, bound.row_axes)).mode != Tiling::Mode::kRecompute;
}

void run_tape(const BoundTape& bound, const Shape& full_shape, std::span<const View> inputs,
              std::span<const View> outputs) {
  Runner(bound, full_shape, inputs, outputs).run();
}

}  // namespace lamina
