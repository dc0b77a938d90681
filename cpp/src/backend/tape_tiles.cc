#include "backend/tape_tiles.h"

#include <algorithm>
#include <cstring>

namespace lamina {

using fusion::Instr;
using fusion::InstrKind;
using fusion::Space;

namespace {

constexpr int64_t kFetchedLines = 4;  // of a tile

// An instruction with its operands and its result in memory. Steps are bytes from one tile to the next, 0 for
// slots and what is the same everywhere.
struct Bound {
  TileFn tile;
  size_t item;
  const void* in[3];
  void* out;
  int64_t steps[3], out_step;

  void run(size_t n) {
    if (tile) {
      tile(in, out, n);
    } else {
      std::memcpy(out, in[0], n * item);
    }
    for (size_t j = 0; j < 3; ++j) in[j] = static_cast<const char*>(in[j]) + steps[j];
    out = static_cast<char*>(out) + out_step;
  }
};

// An operand that is read, at the tile before the next one. Asking for the first lines of that makes the
// hardware ask for the others: it loses sight of an operand while tiles of others are read.
struct Stream {
  const char* at;
  int64_t step;

  void fetch() {
    at += step;
    for (int64_t line = 0; line < kFetchedLines; ++line) __builtin_prefetch(at + 64 * line, 0, 2);
  }
};

class Tiles {
 public:
  Tiles(const TileRow& row, int64_t first) : row_(row) {
    const std::vector<Instr>& code = row.tape.tape.code;
    const auto& program = row.tape.tape.phase_code[0];
    SmallVec<void*, 32> values(row.values.size(), nullptr);
    SmallVec<int64_t, 32> steps(row.values.size(), 0);
    std::copy(row.values.begin(), row.values.end(), values.begin());
    for (size_t q = 0; q < program.size(); ++q) {
      const auto i = static_cast<size_t>(program[q]);
      const Instr& c = code[i];
      const bool loads = c.kind == InstrKind::kLoad;
      if (loads || c.store >= 0) {
        const size_t operand =
            loads ? static_cast<size_t>(c.source) : row.inputs + static_cast<size_t>(c.store);
        steps[i] = kBoundTile * row.operands[operand].item;
        values[i] = at_row(operand) + first * steps[i];
      } else {
        values[i] = row.slots + row.tape.tape.phase_slot[0][q] * row.slot_bytes;
      }
      if (!loads) {
        bind(c, row.tape.tile[i], values, steps, i);
      } else if (row.fetches) {
        streams_.push_back({static_cast<const char*>(values[i]), steps[i]});
      }
    }
  }

  void next(size_t n) {
    for (Stream& s : streams_) s.fetch();
    for (Bound& b : bound_) b.run(n);
  }

 private:
  char* at_row(size_t operand) const {
    const Operand& o = row_.operands[operand];
    const int64_t outputs_row = row_.row * row_.columns;
    return o.base + (operand < row_.inputs ? row_.offsets[operand] : outputs_row) * o.item;
  }

  void bind(const Instr& c, TileFn tile, std::span<void* const> values, std::span<const int64_t> steps,
            size_t i) {
    Bound b{tile, itemsize(c.dtype), {}, values[i], {}, steps[i]};
    for (size_t j = 0; j < c.in.size(); ++j) {
      b.in[j] = values[static_cast<size_t>(c.in[j])];
      b.steps[j] = steps[static_cast<size_t>(c.in[j])];
    }
    bound_.push_back(b);
  }

  const TileRow& row_;
  SmallVec<Bound, 16> bound_;
  SmallVec<Stream, 24> streams_;
};

}  // namespace

bool is_elementwise(const fusion::Tape& tape) {
  return tape.phases == 1 && std::all_of(tape.code.begin(), tape.code.end(), [](const Instr& c) {
           return c.space != Space::kRow && c.kind != InstrKind::kReduce;
         });
}

void run_tiles(const TileRow& row, int64_t begin, int64_t end) {
  Tiles tiles(row, begin);
  for (int64_t i = begin; i < end; ++i) {
    tiles.next(static_cast<size_t>(std::min(kBoundTile, row.columns - i * kBoundTile)));
  }
}

}  // namespace lamina
