#include "fusion/tape.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/fail.h"

namespace lamina::fusion {
namespace {

bool is_short_float(Dtype t) { return t == Dtype::kFloat16 || t == Dtype::kBFloat16; }
Dtype compute_of(Dtype t) { return is_short_float(t) ? Dtype::kFloat32 : t; }

Dtype reduce_result(OpId op, Dtype compute) {
  return op_info(op).result == ResultRule::kBool ? Dtype::kBool : compute;
}

class Lowering {
 public:
  Lowering(const Graph& graph, const Region& region, PairTest has_pair)
      : graph_(graph), region_(region), has_pair_(has_pair) {}

  Tape run() {
    for (uint32_t i : region_.nodes) value_[i] = lower_node(i);
    for (uint32_t i : region_.nodes) {
      if (is_output(i)) store(i, value_[i], space_of_node(i));
    }
    if (region_.kernel >= 0) {
      const auto k = static_cast<uint32_t>(region_.kernel);
      if (graph_.values[k].wanted) store(k, loads_.at(k), Space::kFull);
    }
    run_late();
    merge_pairs();
    order_by_phase();
    assign_slots();
    phase_programs();
    row_program();
    find_donors();
    return std::move(tape_);
  }

 private:
  const Value& node(uint32_t v) const { return graph_.values[v]; }

  bool is_output(uint32_t i) const {
    const auto& stored = region_.stored;
    return i == region_.nodes.back() || node(i).wanted ||
           std::find(stored.begin(), stored.end(), i) != stored.end();
  }

  bool is_product(uint32_t v) const { return region_.kernel == static_cast<int64_t>(v); }

  Space space_of(uint32_t v) const {
    if (is_product(v)) return Space::kFull;
    const uint32_t s = node(v).shape;
    const Shape& shape = graph_.shapes[s];
    if (std::all_of(shape.begin(), shape.end(), [](int64_t d) { return d == 1; }) && !in_region(v)) {
      return Space::kScalar;
    }
    if (region_.row_axes > 0 && region_.row_shape != region_.full_shape && constant_on_rows(shape)) {
      return Space::kRow;
    }
    return Space::kFull;
  }
  // Whether an input is one number a row: of the row shape, or of one that broadcasts to it.
  bool constant_on_rows(const Shape& shape) const {
    const size_t k = std::min(static_cast<size_t>(region_.row_axes), shape.size());
    return std::all_of(shape.end() - static_cast<ptrdiff_t>(k), shape.end(),
                       [](int64_t d) { return d == 1; });
  }
  bool in_region(uint32_t v) const { return value_.count(v) > 0; }

  int32_t emit(Instr instr) {
    for (int32_t in : instr.in) {
      const Instr& producer = tape_.code[static_cast<size_t>(in)];
      const int32_t ready = producer.kind == InstrKind::kReduce ? producer.phase + 1 : producer.phase;
      instr.phase = std::max(instr.phase, ready);
    }
    tape_.max_item = std::max(tape_.max_item, static_cast<int>(itemsize(instr.dtype)));
    tape_.code.push_back(std::move(instr));
    return static_cast<int32_t>(tape_.code.size()) - 1;
  }

  int32_t cast(int32_t v, Dtype to) {
    const Instr from = tape_.code[static_cast<size_t>(v)];
    if (from.dtype == to) return v;
    auto [it, fresh] = casts_.try_emplace({v, to}, 0);
    if (!fresh) return it->second;
    Instr c;
    c.kind = InstrKind::kCast;
    c.op = OpId::Cast;
    c.space = from.space;
    c.dtype = to;
    c.compute = from.dtype;
    c.in.push_back(v);
    return casts_[{v, to}] = emit(std::move(c));
  }

  int32_t expand(int32_t v) {
    const Instr from = tape_.code[static_cast<size_t>(v)];
    auto [it, fresh] = expands_.try_emplace(v, 0);
    if (!fresh) return it->second;
    Instr e;
    e.kind = InstrKind::kExpand;
    e.dtype = e.compute = from.dtype;
    e.in.push_back(v);
    return expands_[v] = emit(std::move(e));
  }

  // The value of an operand in its compute dtype, loaded if it comes from outside.
  int32_t operand(uint32_t v) {
    if (auto it = value_.find(v); it != value_.end()) return it->second;
    Instr load;
    load.kind = InstrKind::kLoad;
    load.space = space_of(v);
    load.dtype = load.compute = is_product(v) ? Dtype::kFloat32 : node(v).dtype;
    load.source = static_cast<int32_t>(tape_.inputs.size());
    if (is_product(v)) tape_.product = load.source;
    tape_.inputs.push_back(v);
    const int32_t raw = emit(std::move(load));
    return loads_[v] = raw;
  }
  int32_t read(uint32_t v) {
    auto it = loads_.find(v);
    const int32_t raw = it != loads_.end() ? it->second : operand(v);
    return cast(raw, compute_of(node(v).dtype));
  }

  int32_t lower_node(uint32_t i) {
    const Value& n = node(i);
    const Space space = space_of_node(i);
    if (n.op == OpId::Cast) {
      const int32_t in = in_space(read(n.inputs[0]), space);
      // Rounding to 16 bits happens here, and the value goes on in float32.
      return cast(is_short_float(n.dtype) ? cast(in, n.dtype) : cast_wide(in, n), compute_of(n.dtype));
    }
    Instr op;
    op.op = n.op;
    if (op_info(n.op).family == Family::kReduce) {
      op.kind = InstrKind::kReduce;
      op.space = Space::kRow;
      op.in.push_back(in_space(read(n.inputs[0]), Space::kFull));
      op.compute = tape_.code[static_cast<size_t>(op.in[0])].dtype;
      op.dtype = reduce_result(n.op, op.compute);
    } else {
      op.space = space;
      for (uint32_t in : n.inputs) op.in.push_back(in_space(read(in), space));
      op.compute = tape_.code[static_cast<size_t>(op.in[op.in.size() - 1])].dtype;
      op.dtype = compute_of(n.dtype);
    }
    const int32_t known = find(op);
    return known >= 0 ? known : emit(std::move(op));
  }

  // The instruction that computes the same of the same operands already, or -1.
  int32_t find(const Instr& op) const {
    for (size_t i = tape_.code.size(); i-- > 0;) {
      const Instr& c = tape_.code[i];
      const bool same = c.kind == op.kind && c.op == op.op && c.space == op.space && c.dtype == op.dtype &&
                        c.compute == op.compute &&
                        std::equal(c.in.begin(), c.in.end(), op.in.begin(), op.in.end());
      if (same) return static_cast<int32_t>(i);
    }
    return -1;
  }

  int32_t cast_wide(int32_t in, const Value& n) {
    const Dtype from = tape_.code[static_cast<size_t>(in)].dtype;
    if (from != n.dtype) return cast(in, n.dtype);
    return in;
  }

  Space space_of_node(uint32_t i) const {
    const uint32_t s = node(i).shape;
    return region_.row_axes > 0 && s == region_.row_shape && s != region_.full_shape ? Space::kRow
                                                                                     : Space::kFull;
  }

  // Rows are repeated for a full op; scalars go with anything.
  int32_t in_space(int32_t v, Space wanted) {
    const Space have = tape_.code[static_cast<size_t>(v)].space;
    if (have == Space::kFull && wanted == Space::kRow)
      fail<Error>("fusion", "a row operation reads the full value %{}", v);
    return have == Space::kRow && wanted == Space::kFull ? expand(v) : v;
  }

  void store(uint32_t i, int32_t value, Space space) {
    const Value& n = node(i);
    int32_t v = in_space(cast(value, n.dtype), space);
    const Instr& made = tape_.code[static_cast<size_t>(v)];
    // A value that already lives in memory, or in another output, or a scalar, needs a copy of its own.
    if (made.kind == InstrKind::kLoad || made.store >= 0 || made.space != space) {
      Instr copy;
      copy.kind = InstrKind::kCast;
      copy.op = OpId::Cast;
      copy.space = space;
      copy.dtype = copy.compute = n.dtype;
      copy.in.push_back(v);
      v = emit(std::move(copy));
    }
    tape_.code[static_cast<size_t>(v)].store = static_cast<int32_t>(tape_.outputs.size());
    tape_.outputs.push_back({i, space, n.dtype, v});
  }

  // Full values wait for the first phase that reads them.
  void run_late() {
    std::vector<int32_t> first(tape_.code.size(), -1);
    for (size_t i = tape_.code.size(); i-- > 0;) {
      Instr& c = tape_.code[i];
      if (needs_slot(c) && c.store < 0 && first[i] >= 0) c.phase = first[i];
      for (int32_t in : c.in) {
        int32_t& f = first[static_cast<size_t>(in)];
        f = f < 0 ? c.phase : std::min(f, c.phase);
      }
    }
  }

  // Ops that only one other op reads run in one pass with it.
  void merge_pairs() {
    merged_.assign(tape_.code.size(), 0);
    if (!has_pair_) return;
    std::vector<int> readers(tape_.code.size(), 0);
    for (const Instr& c : tape_.code) {
      for (int32_t in : c.in) ++readers[static_cast<size_t>(in)];
    }
    for (Instr& c : tape_.code) {
      const bool reduces = c.kind == InstrKind::kReduce;
      if (!reduces && (c.kind != InstrKind::kOp || c.space != Space::kFull || c.in.size() != 2)) continue;
      for (size_t side = 0; side < c.in.size() && c.inner == OpId::Data; ++side) {
        const auto p = static_cast<size_t>(c.in[side]);
        if (readers[p] == 1) merge(c, p, side == 0);
      }
    }
  }
  void merge(Instr& outer, size_t p, bool left) {
    const Instr& inner = tape_.code[p];
    const bool unary = inner.op == OpId::Square || inner.op == OpId::Sqrt;
    if (inner.kind != InstrKind::kOp || inner.space != Space::kFull || inner.store >= 0 ||
        inner.inner != OpId::Data || inner.phase != outer.phase || inner.dtype != outer.compute ||
        inner.compute != outer.compute || (inner.in.size() != 2 && !unary)) {
      return;
    }
    if (!has_pair_(inner.op, outer.op, left, outer.compute)) return;
    SmallVec<int32_t, 3> in;
    in.push_back(inner.in[0]);
    in.push_back(inner.in[unary ? 0 : 1]);
    if (outer.kind != InstrKind::kReduce) in.push_back(outer.in[left ? 1 : 0]);
    outer.in = std::move(in);
    outer.inner = inner.op;
    outer.left = left;
    merged_[p] = 1;
  }

  bool reads(int32_t i, int32_t value) const {
    const auto& in = code(i).in;
    return std::find(in.begin(), in.end(), value) != in.end();
  }
  bool is_merged(int32_t i) const { return merged_[static_cast<size_t>(i)] != 0; }

  // Instructions that have to come before others, beside their operands.
  using Earlier = std::vector<std::vector<int32_t>>;

  // Whether `last` needs `first`, over whatever comes in between.
  bool needs(int32_t last, int32_t first, const Earlier& earlier) const {
    std::vector<uint8_t> seen(tape_.code.size(), 0);
    std::vector<int32_t> stack = {last};
    while (!stack.empty()) {
      const int32_t i = stack.back();
      stack.pop_back();
      if (i == first) return true;
      if (std::exchange(seen[static_cast<size_t>(i)], 1)) continue;
      stack.insert(stack.end(), code(i).in.begin(), code(i).in.end());
      const auto& more = earlier[static_cast<size_t>(i)];
      stack.insert(stack.end(), more.begin(), more.end());
    }
    return false;
  }

  // Where an output can take over the memory of an operand, whatever else reads that is to come first. Each
  // output asks for one operand.
  Earlier earlier_readers() const {
    const auto n = static_cast<int32_t>(tape_.code.size());
    Earlier earlier(tape_.code.size());
    std::vector<uint8_t> taken(tape_.code.size(), 0);
    for (int32_t i = 0; i < n; ++i) {
      if (is_merged(i) || code(i).store < 0 || code(i).space != Space::kFull) continue;
      for (int32_t load : code(i).in) {
        const Instr& l = code(load);
        if (l.kind != InstrKind::kLoad || l.space != Space::kFull || l.dtype != code(i).dtype) continue;
        if (taken[static_cast<size_t>(load)]) continue;
        std::vector<int32_t> readers;
        bool free = true;
        for (int32_t r = i + 1; r < n && free; ++r) {
          if (is_merged(r) || !reads(r, load)) continue;
          readers.push_back(r);
          free = code(r).phase == code(i).phase && !needs(r, i, earlier);
        }
        if (!free) continue;
        taken[static_cast<size_t>(load)] = 1;
        earlier[static_cast<size_t>(i)] = std::move(readers);
        break;
      }
    }
    return earlier;
  }

  // The instructions in an order that follows from that, else as they are.
  std::vector<int32_t> readers_first() const {
    const Earlier earlier = earlier_readers();
    const auto n = static_cast<int32_t>(tape_.code.size());
    const bool held_up =
        std::any_of(earlier.begin(), earlier.end(), [](const auto& e) { return !e.empty(); });
    std::vector<int32_t> order;
    std::vector<uint8_t> placed = merged_;
    const auto all_placed = [&](const auto& list) {
      return std::all_of(list.begin(), list.end(),
                         [&](int32_t i) { return placed[static_cast<size_t>(i)] != 0; });
    };
    for (int32_t i = 0; i < n;) {
      const auto at = static_cast<size_t>(i++);
      if (placed[at] || !all_placed(tape_.code[at].in) || !all_placed(earlier[at])) continue;
      placed[at] = 1;
      order.push_back(static_cast<int32_t>(at));
      if (held_up) i = 0;
    }
    return order;
  }

  // Stable order by phase; within a phase rows before full values would be wrong only across reductions, and
  // those end the phase.
  void order_by_phase() {
    std::vector<int32_t> order = readers_first(), place(tape_.code.size());
    auto rank = [this](int32_t i) {
      const Instr& c = tape_.code[static_cast<size_t>(i)];
      return std::pair(c.space == Space::kScalar ? -1 : c.phase,
                       c.space == Space::kFull || c.kind == InstrKind::kReduce);
    };
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return rank(a) < rank(b); });
    std::vector<Instr> sorted;
    for (size_t i = 0; i < order.size(); ++i) {
      place[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);
      sorted.push_back(std::move(tape_.code[static_cast<size_t>(order[i])]));
    }
    for (Instr& c : sorted) {
      for (int32_t& in : c.in) in = place[static_cast<size_t>(in)];
      tape_.phases = std::max(tape_.phases, c.phase + 1);
    }
    for (TapeOutput& o : tape_.outputs) o.value = place[static_cast<size_t>(o.value)];
    tape_.code = std::move(sorted);
  }

  static bool needs_slot(const Instr& c) { return c.space == Space::kFull && c.kind != InstrKind::kReduce; }

  int scan_slots(const std::vector<int32_t>& program, std::vector<int32_t>& slot_of) const {
    return scan_slots(program, slot_of, [this](int32_t i) { return needs_slot(code(i)); });
  }
  const Instr& code(int32_t i) const { return tape_.code[static_cast<size_t>(i)]; }

  // Linear scan over `program` (positions in code); slots of dead values are taken again.
  template <class Wants>
  int scan_slots(const std::vector<int32_t>& program, std::vector<int32_t>& slot_of, Wants wants) const {
    std::vector<int32_t> last(tape_.code.size(), -1);
    for (size_t p = 0; p < program.size(); ++p) {
      for (int32_t in : tape_.code[static_cast<size_t>(program[p])].in)
        last[static_cast<size_t>(in)] = static_cast<int32_t>(p);
    }
    std::vector<int32_t> free_slots, slot(tape_.code.size(), -1);
    int count = 0;
    slot_of.assign(program.size(), -1);
    for (size_t p = 0; p < program.size(); ++p) {
      const auto at = static_cast<size_t>(program[p]);
      const Instr& c = tape_.code[at];
      // An operand that dies here may hand its slot to the result where the items have one size.
      std::vector<int32_t> after;
      for (size_t j = 0; j < c.in.size(); ++j) {
        const auto in = static_cast<size_t>(c.in[j]);
        if (last[in] != static_cast<int32_t>(p) || slot[in] < 0) continue;
        const bool same = itemsize(tape_.code[in].dtype) == itemsize(c.dtype) && c.kind != InstrKind::kExpand;
        (same ? free_slots : after).push_back(std::exchange(slot[in], -1));
      }
      if (wants(program[p])) {
        if (free_slots.empty()) free_slots.push_back(count++);
        slot[at] = free_slots.back();
        free_slots.pop_back();
        slot_of[p] = slot[at];
        if (last[at] < 0) free_slots.push_back(std::exchange(slot[at], -1));
      }
      free_slots.insert(free_slots.end(), after.begin(), after.end());
    }
    return count;
  }

  void assign_slots() {
    std::vector<int32_t> all(tape_.code.size()), slots;
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
    tape_.slots = scan_slots(all, slots);
    for (size_t i = 0; i < all.size(); ++i) tape_.code[i].slot = slots[i];
  }

  // Phase p over tiles: the full values that its reductions and stores need, made anew from the inputs.
  void phase_programs() {
    for (int p = 0; p < tape_.phases; ++p) {
      std::vector<uint8_t> need(tape_.code.size(), 0);
      for (size_t i = tape_.code.size(); i-- > 0;) {
        const Instr& c = tape_.code[i];
        const bool full = c.space == Space::kFull || c.kind == InstrKind::kReduce;
        if (full && c.phase == p && (c.kind == InstrKind::kReduce || c.store >= 0)) need[i] = 1;
        if (!need[i]) continue;
        for (int32_t in : c.in) {
          if (needs_slot(tape_.code[static_cast<size_t>(in)])) need[static_cast<size_t>(in)] = 1;
        }
      }
      std::vector<int32_t> program, slots;
      for (size_t i = 0; i < tape_.code.size(); ++i) {
        if (need[i]) program.push_back(static_cast<int32_t>(i));
      }
      tape_.phase_slots = std::max(tape_.phase_slots, scan_slots(program, slots));
      tape_.phase_code.push_back(std::move(program));
      tape_.phase_slot.push_back(std::move(slots));
    }
  }

  // See Tape::RowProgram. A row is free for another value once its last reading phase is over.
  void row_program() {
    Tape::RowProgram& r = tape_.row_program;
    const size_t n = tape_.code.size();
    const auto phases = static_cast<size_t>(tape_.phases);
    std::vector<std::vector<uint8_t>> reads(phases, std::vector<uint8_t>(n, 0));
    std::vector<int32_t> last(n, -1);
    for (const Instr& c : tape_.code) {
      for (int32_t in : c.in) {
        reads[static_cast<size_t>(c.phase)][static_cast<size_t>(in)] = 1;
        last[static_cast<size_t>(in)] = std::max(last[static_cast<size_t>(in)], c.phase);
      }
    }
    r.once_slot.assign(n, -1);
    r.kept.assign(n, -1);
    std::vector<int32_t> row_end;  // by row: the last phase that reads it
    for (size_t i = 0; i < n; ++i) {
      const Instr& c = tape_.code[i];
      const bool made = c.kind == InstrKind::kOp || c.kind == InstrKind::kCast;
      if (!needs_slot(c) || !made || c.store >= 0 || last[i] <= c.phase) continue;
      const auto free = std::find_if(row_end.begin(), row_end.end(), [&](int32_t e) { return e < c.phase; });
      r.kept[i] = static_cast<int32_t>(free - row_end.begin());
      if (free == row_end.end()) row_end.push_back(0);
      row_end[static_cast<size_t>(r.kept[i])] = last[i];
    }
    r.rows = static_cast<int>(row_end.size());
    for (size_t p = 0; p < phases; ++p) {
      std::vector<int32_t> once, program, slots;
      for (size_t i = 0; i < n; ++i) {
        const Instr& c = tape_.code[i];
        const bool now = c.phase == static_cast<int32_t>(p), full = needs_slot(c);
        if (is_once(c)) {
          if (now) once.push_back(static_cast<int32_t>(i));
        } else if ((now && (full || c.kind == InstrKind::kReduce)) || (full && reads[p][i])) {
          program.push_back(static_cast<int32_t>(i));
        }
      }
      const auto wants = [&](int32_t i) {
        const Instr& c = code(i);
        const bool made = c.phase == static_cast<int32_t>(p) || c.kind == InstrKind::kLoad;
        return needs_slot(c) && made && r.kept[static_cast<size_t>(i)] < 0;
      };
      r.slots = std::max(r.slots, scan_slots(program, slots, wants));
      r.once.push_back(std::move(once));
      r.code.push_back(std::move(program));
      r.slot.push_back(std::move(slots));
    }
    for (size_t i = 0; i < n; ++i) {
      if (is_once(tape_.code[i])) r.once_slot[i] = r.slots++;
    }
  }
  static bool is_once(const Instr& c) { return c.kind == InstrKind::kExpand && c.store < 0; }

  // Output o may overwrite input i where nothing reads i after o's instruction.
  void find_donors() {
    tape_.donors.resize(tape_.outputs.size());
    for (size_t o = 0; o < tape_.outputs.size(); ++o) {
      for (size_t l = 0; l < tape_.code.size(); ++l) {
        const Instr& load = tape_.code[l];
        if (load.kind != InstrKind::kLoad || load.space != tape_.outputs[o].space ||
            load.dtype != tape_.outputs[o].dtype || load.source == tape_.product) {
          continue;
        }
        int32_t last = -1;
        for (size_t i = 0; i < tape_.code.size(); ++i) {
          const auto& in = tape_.code[i].in;
          if (std::find(in.begin(), in.end(), static_cast<int32_t>(l)) != in.end())
            last = static_cast<int32_t>(i);
        }
        if (last <= tape_.outputs[o].value) tape_.donors[o].push_back(load.source);
      }
    }
  }

  const Graph& graph_;
  const Region& region_;
  const PairTest has_pair_;
  Tape tape_;
  std::vector<uint8_t> merged_;  // instructions that became part of others
  std::map<uint32_t, int32_t> value_, loads_;
  std::map<std::pair<int32_t, Dtype>, int32_t> casts_;
  std::map<int32_t, int32_t> expands_;
};

}  // namespace

Tape lower(const Graph& graph, const Region& region, PairTest has_pair) {
  return Lowering(graph, region, has_pair).run();
}

std::string print(const Tape& tape) {
  static constexpr const char* kKinds[] = {"load", "op", "cast", "expand", "reduce"};
  static constexpr const char* kSpaces[] = {"scalar", "row", "full"};
  std::string text;
  for (size_t i = 0; i < tape.code.size(); ++i) {
    const Instr& c = tape.code[i];
    text += fmt::format("{:3} p{} {:6} {} {} {}", i, c.phase, kSpaces[static_cast<int>(c.space)],
                        kKinds[static_cast<int>(c.kind)],
                        c.kind == InstrKind::kOp || c.kind == InstrKind::kReduce ? op_info(c.op).name : "-",
                        dtype_name(c.dtype));
    if (c.inner != OpId::Data)
      text += fmt::format(" {} of {}", c.left ? "left" : "right", op_info(c.inner).name);
    for (int32_t in : c.in) text += fmt::format(" %{}", in);
    if (c.slot >= 0) text += fmt::format(" s{}", c.slot);
    if (c.store >= 0) text += fmt::format(" -> out{}", c.store);
    text += '\n';
  }
  return text;
}

}  // namespace lamina::fusion
