#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fusion/region.h"

namespace lamina::fusion {

// Where a value of a tape lives: one element for the whole run, one per row, or one per element.
enum class Space : uint8_t { kScalar, kRow, kFull };

enum class InstrKind : uint8_t {
  kLoad,    // memory of input `source`; no work where its layout can be used in place
  kOp,      // op over tiles of operands in the same space
  kCast,    // dtype conversion
  kExpand,  // a row value repeated over its row
  kReduce,  // folds a full value into a row value
};

// One instruction; its number is the number of the value that it makes.
struct Instr {
  InstrKind kind = InstrKind::kOp;
  OpId op = OpId::Data;
  Space space = Space::kFull;
  Dtype dtype = Dtype::kFloat32;    // of the value; 16-bit floats only between memory and a cast
  Dtype compute = Dtype::kFloat32;  // of the operands
  // A pair where it is an op: inner(in[0], in[1]) is an operand of `op`, the left one or not; in[2] is the
  // other. A square or root has its operand twice.
  OpId inner = OpId::Data;
  bool left = true;
  SmallVec<int32_t, 3> in;
  int32_t source = -1;  // kLoad: position in Tape::inputs
  int32_t store = -1;   // position in Tape::outputs that this value is written to
  int32_t phase = 0;    // a reduction ends phase p; what needs its result runs in phase p + 1
  int32_t slot = -1;    // tile memory where the row fits one tile (phases run one after the other over it)
};

struct TapeOutput {
  uint32_t node = 0;
  Space space = Space::kFull;
  Dtype dtype = Dtype::kFloat32;
  int32_t value = -1;
};

struct Tape {
  std::vector<Instr> code;       // in an order in which operands come first, phases ascending
  std::vector<uint32_t> inputs;  // values of the graph that are read
  std::vector<TapeOutput> outputs;
  // Position in `inputs` of the kernel's result in an epilogue: float32 tiles, whatever its dtype. -1: none.
  int32_t product = -1;
  int phases = 1;
  int slots = 0;     // for tiles of full values, when rows fit one tile
  int max_item = 4;  // bytes of the widest value in a slot
  // Where rows do not fit: what each phase runs, recomputing what it needs, and slots by instruction for it.
  std::vector<std::vector<int32_t>> phase_code;
  std::vector<std::vector<int32_t>> phase_slot;  // parallel to phase_code
  int phase_slots = 0;
  // Where a few rows of values fit a cache: each phase runs over the tiles of a row, each instruction runs
  // once.
  struct RowProgram {
    std::vector<std::vector<int32_t>> once;  // by phase: expansions that hold for all tiles of the row
    std::vector<std::vector<int32_t>> code;  // by phase; of an earlier phase: what it reads of that
    std::vector<std::vector<int32_t>> slot;  // parallel to code
    std::vector<int32_t> once_slot;          // by instruction, or -1
    std::vector<int32_t> kept;               // by instruction: the row that later phases read it from, or -1
    int slots = 0, rows = 0;
  };
  RowProgram row_program;
  // donors[o]: inputs whose memory output o may take over when shapes and layout agree and rows fit one tile.
  std::vector<std::vector<int32_t>> donors;
};

// Whether a backend runs the pair of ops in one pass; outer may be a reduction.
using PairTest = bool (*)(OpId inner, OpId outer, bool left, Dtype compute);

// Lowers a region. Outputs are the root, every wanted or stored node and, last, a wanted product.
Tape lower(const Graph& graph, const Region& region, PairTest has_pair = nullptr);
std::string print(const Tape& tape);

}  // namespace lamina::fusion
