#include "fusion/region.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "fusion/tape.h"
#include "lamina/error.h"

namespace lamina::fusion {
namespace {

// Builds graphs by hand: leaves are declared first and renumbered behind the nodes.
class Builder {
 public:
  uint32_t shape(const Shape& s) {
    for (uint32_t i = 0; i < shapes_.size(); ++i) {
      if (shapes_[i] == s) return i;
    }
    shapes_.push_back(s);
    return static_cast<uint32_t>(shapes_.size()) - 1;
  }
  int leaf(const Shape& s, Dtype t = Dtype::kFloat32) {
    leaves_.push_back({OpId::Data, t, shape(s), {}, {}, false});
    return -static_cast<int>(leaves_.size());
  }
  int node(OpId op, const Shape& s, std::vector<int> in, Dtype t = Dtype::kFloat32, Axes axes = {}) {
    nodes_.push_back({op, t, shape(s), {}, axes, false});
    inputs_.push_back(std::move(in));
    return static_cast<int>(nodes_.size()) - 1;
  }
  void can_take_epilogue(int i) { nodes_[static_cast<size_t>(i)].takes_epilogue = true; }
  void want(int i) { nodes_[static_cast<size_t>(i)].wanted = true; }

  Graph graph() const {
    Graph g;
    g.nodes = nodes_.size();
    g.values = nodes_;
    g.shapes = shapes_;
    g.values.insert(g.values.end(), leaves_.begin(), leaves_.end());
    for (size_t i = 0; i < nodes_.size(); ++i) {
      for (int in : inputs_[i]) {
        const int id = in >= 0 ? in : static_cast<int>(nodes_.size()) - in - 1;
        g.values[i].inputs.push_back(static_cast<uint32_t>(id));
      }
    }
    return g;
  }

 private:
  std::vector<Shape> shapes_;
  std::vector<Value> nodes_, leaves_;
  std::vector<std::vector<int>> inputs_;
};

const Shape kFull{5, 7}, kRow{5, 1};

// max, subtract, exp, sum, divide: softmax as its formula is written.
Builder softmax() {
  Builder b;
  const int x = b.leaf(kFull);
  const int top = b.node(OpId::Max, kRow, {x}, Dtype::kFloat32, {1});
  const int e = b.node(OpId::Exp, kFull, {b.node(OpId::Subtract, kFull, {x, top})});
  const int total = b.node(OpId::Sum, kRow, {e}, Dtype::kFloat32, {1});
  b.want(b.node(OpId::Divide, kFull, {e, total}));
  return b;
}

TEST(Regions, SoftmaxIsOneRegion) {
  const Graph g = softmax().graph();
  const Partition p = form_regions(g);
  verify(g, p);
  EXPECT_EQ(print(g, p), "region full=(5, 7) row_axes=1: max subtract exp sum divide\n");
}

TEST(Regions, SoftmaxHasThreePhasesAndFewSlots) {
  const Graph g = softmax().graph();
  const Tape t = lower(g, form_regions(g).regions[0]);
  EXPECT_EQ(t.phases, 3);
  EXPECT_EQ(t.inputs.size(), 1u);
  EXPECT_EQ(t.outputs.size(), 1u);
  EXPECT_LE(t.slots, 3);
  // Long rows: the exponentials are made again where they are needed, and nothing else is stored.
  ASSERT_EQ(t.phase_code.size(), 3u);
  auto ops = [&](size_t phase) {
    std::string names;
    for (int32_t i : t.phase_code[phase]) {
      const Instr& c = t.code[static_cast<size_t>(i)];
      if (c.kind == InstrKind::kOp || c.kind == InstrKind::kReduce)
        names += std::string(op_info(c.op).name) + " ";
    }
    return names;
  };
  EXPECT_EQ(ops(0), "max ");
  EXPECT_EQ(ops(1), "subtract exp sum ");
  EXPECT_EQ(ops(2), "subtract exp divide ");
}

// Names of the ops and reductions among instructions of a tape.
std::string ops_of(const Tape& t, const std::vector<int32_t>& program) {
  std::string names;
  for (int32_t i : program) {
    const Instr& c = t.code[static_cast<size_t>(i)];
    if (c.inner != OpId::Data) names += std::string(op_info(c.inner).name) + "+";
    if (c.kind == InstrKind::kOp || c.kind == InstrKind::kReduce)
      names += std::string(op_info(c.op).name) + " ";
  }
  return names;
}

TEST(Regions, RowsThatFitKeepWhatLaterPhasesRead) {
  const Graph g = softmax().graph();
  const Tape t = lower(g, form_regions(g).regions[0]);
  const Tape::RowProgram& r = t.row_program;
  ASSERT_EQ(r.code.size(), 3u);
  EXPECT_EQ(ops_of(t, r.code[0]), "max ");
  EXPECT_EQ(ops_of(t, r.code[1]), "subtract exp sum ");
  EXPECT_EQ(ops_of(t, r.code[2]), "exp divide ");  // exp is only read again there
  EXPECT_EQ(r.rows, 1);
  const auto kept = std::count_if(r.kept.begin(), r.kept.end(), [](int32_t row) { return row >= 0; });
  EXPECT_EQ(kept, 1);
  EXPECT_EQ(r.once[1].size() + r.once[2].size(), 2u);  // the maximum and the sum, spread over a tile
}

TEST(Regions, PairsOfOpsAreOneInstruction) {
  Builder b;
  const int x = b.leaf(kFull), y = b.leaf(kFull), z = b.leaf(kFull);
  const int product = b.node(OpId::Multiply, kFull, {x, y});
  const int difference = b.node(OpId::Subtract, kFull, {z, product});
  const int square = b.node(OpId::Square, kFull, {difference});
  b.want(b.node(OpId::Sum, kRow, {square}, Dtype::kFloat32, {1}));
  const Graph g = b.graph();
  const Region region = form_regions(g).regions[0];
  const auto all = [](const Tape& t) {
    std::vector<int32_t> program(t.code.size());
    for (size_t i = 0; i < program.size(); ++i) program[i] = static_cast<int32_t>(i);
    return ops_of(t, program);
  };
  EXPECT_EQ(all(lower(g, region)), "multiply subtract square sum ");
  const Tape t = lower(g, region, [](OpId, OpId, bool, Dtype) { return true; });
  EXPECT_EQ(all(t), "multiply+subtract square+sum ");
  for (const Instr& c : t.code) {
    if (c.op == OpId::Subtract) {
      EXPECT_FALSE(c.left);
      EXPECT_EQ(c.in.size(), 3u);
    }
    if (c.op == OpId::Sum) {
      ASSERT_EQ(c.in.size(), 2u);
      EXPECT_EQ(c.in[0], c.in[1]);
    }
  }
}

TEST(Regions, LengthsOfOneBesideReducedAxesBelongToTheRow) {
  const struct {
    Shape in, out;
    Axes axes;
    int row_axes;
  } cases[] = {{{5, 1}, {1, 1}, {0}, 2}, {{5, 1, 7}, {1, 1, 1}, {0, 2}, 3}, {{2, 5, 1}, {2, 1, 1}, {1}, 2}};
  for (const auto& c : cases) {
    Builder b;
    const int x = b.leaf(c.in);
    const int square = b.node(OpId::Square, c.in, {x});
    b.want(b.node(OpId::Sum, c.out, {square}, Dtype::kFloat32, c.axes));
    const Graph g = b.graph();
    const Partition p = form_regions(g);
    verify(g, p);
    ASSERT_EQ(p.regions.size(), 1u);
    EXPECT_EQ(p.regions[0].row_axes, c.row_axes);
  }
}

TEST(Regions, RowWorkBetweenReductionAndFullJoins) {
  // x * rsqrt(sum(x * x) * c): the row ops are seen before the reduction that explains them.
  Builder b;
  const int x = b.leaf(kFull), c = b.leaf({});
  const int sum = b.node(OpId::Sum, kRow, {b.node(OpId::Multiply, kFull, {x, x})}, Dtype::kFloat32, {1});
  const int scale = b.node(OpId::Rsqrt, kRow, {b.node(OpId::Multiply, kRow, {sum, c})});
  b.want(b.node(OpId::Multiply, kFull, {x, scale}));
  const Graph g = b.graph();
  const Partition p = form_regions(g);
  verify(g, p);
  EXPECT_EQ(print(g, p), "region full=(5, 7) row_axes=1: multiply sum multiply rsqrt multiply\n");
}

TEST(Regions, ReductionOverLeadingAxisStaysAlone) {
  Builder b;
  const int x = b.leaf(kFull);
  const int e = b.node(OpId::Exp, kFull, {x});
  b.want(b.node(OpId::Sum, {1, 7}, {e}, Dtype::kFloat32, {0}));
  const Partition p = form_regions(b.graph());
  ASSERT_EQ(p.regions.size(), 1u);
  EXPECT_EQ(p.region_of[1], -1);
}

TEST(Regions, ValueOfTwoRegionsIsStored) {
  // exp feeds a matrix product and an addition: it cannot be inside the addition's region.
  Builder b;
  const Shape square{6, 6};
  const int e = b.node(OpId::Exp, square, {b.leaf(square)});
  const int m = b.node(OpId::Matmul, square, {e, e});
  b.want(b.node(OpId::Add, square, {m, e}));
  const Graph g = b.graph();
  const Partition p = form_regions(g);
  verify(g, p);
  EXPECT_EQ(p.regions.size(), 2u);
  EXPECT_NE(p.region_of[0], p.region_of[2]);
}

TEST(Regions, PathThroughAnotherOpIsNotEnclosed) {
  // a -> matmul -> c and a -> c: a must be finished before the product, so it cannot join c.
  Builder b;
  const Shape square{6, 6};
  const int a = b.node(OpId::Exp, square, {b.leaf(square)});
  const int d = b.node(OpId::Sin, square, {a});
  const int m = b.node(OpId::Matmul, square, {d, d});
  b.want(b.node(OpId::Multiply, square, {a, m}));
  const Graph g = b.graph();
  const Partition p = form_regions(g);
  verify(g, p);
  EXPECT_NE(p.region_of[static_cast<size_t>(a)], p.region_of[3]);
}

TEST(Regions, WantedInsideIsAnOutput) {
  Builder b;
  const int e = b.node(OpId::Exp, kFull, {b.leaf(kFull)});
  b.want(e);
  b.want(b.node(OpId::Sin, kFull, {e}));
  const Graph g = b.graph();
  const Partition p = form_regions(g);
  ASSERT_EQ(p.regions.size(), 1u);
  const Tape t = lower(g, p.regions[0]);
  ASSERT_EQ(t.outputs.size(), 2u);
  EXPECT_EQ(t.outputs[0].node, 0u);
  EXPECT_EQ(t.outputs[1].node, 1u);
}

// The regions of a graph, in print.
std::string printed(const Builder& b) {
  const Graph g = b.graph();
  const Partition p = form_regions(g);
  verify(g, p);
  return print(g, p);
}

TEST(Regions, AValueIsStoredForReadersBehindTheRoot) {
  // relu(x + y), of which the sum is read again later: by a tape behind a product.
  Builder b;
  const Shape square{6, 6};
  const int x = b.leaf(square), sum = b.node(OpId::Add, square, {x, b.leaf(square)});
  const int relu = b.node(OpId::Abs, square, {sum});
  const int m = b.node(OpId::Matmul, square, {relu, x});
  b.want(b.node(OpId::Multiply, square, {m, sum}));
  const Graph g = b.graph();
  Partition p = form_regions(g);
  verify(g, p);
  EXPECT_EQ(print(g, p), "region full=(6, 6) row_axes=0: multiply\nregion full=(6, 6) row_axes=0: add abs\n");
  EXPECT_EQ(p.regions[1].stored, std::vector<uint32_t>{0});
  EXPECT_EQ(p.decisions[0].refusal, Refusal::kTwoRegions);
  const Tape t = lower(g, p.regions[1]);
  ASSERT_EQ(t.outputs.size(), 2u);
  EXPECT_EQ(t.outputs[0].node, 0u);
  p.regions[1].stored.clear();
  EXPECT_THROW(verify(g, p), Error);
}

TEST(Regions, AValueOfTwoKernelsTapesIsNotStoredByOneOfThem) {
  // Both products have a tape as their epilogue; were the sum part of the gate's, one would have none.
  Builder b;
  const int x = b.leaf({5, 3});
  const int up = b.node(OpId::Matmul, kFull, {x, b.leaf({3, 7})});
  const int gate = b.node(OpId::Matmul, kFull, {x, b.leaf({3, 7})});
  b.can_take_epilogue(up);
  b.can_take_epilogue(gate);
  const int sum = b.node(OpId::Add, kFull, {up, b.leaf(kFull)});
  const int out = b.node(OpId::Multiply, kFull, {gate, sum});
  b.want(b.node(OpId::Sort, kFull, {out}));
  b.want(b.node(OpId::Sort, kFull, {sum}));
  const Graph g = b.graph();
  const Partition p = form_regions(g);
  verify(g, p);
  EXPECT_EQ(p.regions.size(), 2u);
  for (const Region& r : p.regions) EXPECT_GE(r.kernel, 0);
}

TEST(Regions, ResultsOfOneValueAreOneRegion) {
  Builder b;
  const int e = b.node(OpId::Exp, kFull, {b.leaf(kFull)});
  b.want(b.node(OpId::Sin, kFull, {e}));
  b.want(b.node(OpId::Cos, kFull, {e}));
  b.want(b.node(OpId::Negative, kFull, {e}));
  EXPECT_EQ(printed(b), "region full=(5, 7) row_axes=0: exp sin cos negative\n");
}

TEST(Regions, ResultsThatReadTheSameAreOneRegion) {
  Builder b;
  const int x = b.leaf(kFull), y = b.leaf(kFull), z = b.leaf(kFull);
  b.want(b.node(OpId::Add, kFull, {x, y}));
  b.want(b.node(OpId::Multiply, kFull, {y, z}));
  b.want(b.node(OpId::Sin, kFull, {b.leaf(kFull)}));
  EXPECT_EQ(printed(b), "region full=(5, 7) row_axes=0: sin\nregion full=(5, 7) row_axes=0: add multiply\n");
}

TEST(Regions, ResultsStayApart) {
  const std::string two = "region full=(5, 7) row_axes=0: cos\nregion full=(5, 7) row_axes=0: sin\n";
  {
    Builder b;  // what else reads one of them may lead to the other
    const int x = b.leaf(kFull), sine = b.node(OpId::Sin, kFull, {x});
    b.want(sine);
    b.want(b.node(OpId::Cos, kFull, {x}));
    b.want(b.node(OpId::Sort, kFull, {sine}));
    EXPECT_EQ(printed(b), two);
  }
  {
    Builder b;  // works on rows
    const int x = b.leaf(kFull);
    b.want(b.node(OpId::Sin, kFull, {x}));
    b.want(b.node(OpId::Sum, kRow, {x}, Dtype::kFloat32, {1}));
    EXPECT_EQ(printed(b), "region full=(5, 7) row_axes=1: sum\nregion full=(5, 7) row_axes=0: sin\n");
  }
  {
    Builder b;  // one would wait for the product
    const Shape square{6, 6};
    const int x = b.leaf(square), m = b.node(OpId::Matmul, square, {b.leaf(square), b.leaf(square)});
    b.want(b.node(OpId::Sin, square, {x}));
    b.want(b.node(OpId::Add, square, {x, m}));
    EXPECT_EQ(printed(b), "region full=(6, 6) row_axes=0: add\nregion full=(6, 6) row_axes=0: sin\n");
  }
}

TEST(Regions, SaysWhyANodeStaysOut) {
  const Shape square{6, 6};
  auto refusals = [](const Graph& g, const Options& o = {}) {
    std::vector<Refusal> out;
    for (const Decision& d : form_regions(g, o).decisions) out.push_back(d.refusal);
    return out;
  };
  using R = std::vector<Refusal>;
  EXPECT_EQ(refusals(softmax().graph()), R(5, Refusal::kNone));
  Options off;
  off.fuse = false;
  EXPECT_EQ(refusals(softmax().graph(), off), (R{Refusal::kFusionOff, Refusal::kFusionOff,
                                                 Refusal::kFusionOff, Refusal::kFusionOff, Refusal::kNone}));
  {
    Builder b;  // exp -> matmul, exp -> add: the product decides
    const int e = b.node(OpId::Exp, square, {b.leaf(square)});
    const int m = b.node(OpId::Matmul, square, {e, e});
    b.want(b.node(OpId::Add, square, {m, e}));
    EXPECT_EQ(refusals(b.graph()), (R{Refusal::kConsumerAlone, Refusal::kNone, Refusal::kNone}));
    EXPECT_EQ(form_regions(b.graph()).decisions[0].consumer, 1u);
  }
  {
    Builder b;  // a sum over columns inside a region of sums over both axes
    const int x = b.leaf(square);
    const int all = b.node(OpId::Sum, {1, 1}, {x}, Dtype::kFloat32, {0, 1});
    const int rows = b.node(OpId::Sum, {6, 1}, {x}, Dtype::kFloat32, {1});
    const int scaled = b.node(OpId::Multiply, square, {x, rows});
    b.want(b.node(OpId::Add, square, {scaled, all}));
    EXPECT_EQ(refusals(b.graph()), (R{Refusal::kRows, Refusal::kNone, Refusal::kNone, Refusal::kNone}));
  }
  {
    Builder b;  // (6, 1) and (1, 6) cannot both be rows of (6, 6)
    const int column = b.node(OpId::Exp, {6, 1}, {b.leaf({6, 1})});
    const int row = b.node(OpId::Exp, {1, 6}, {b.leaf({1, 6})});
    b.want(b.node(OpId::Add, square, {column, row}));
    EXPECT_EQ(refusals(b.graph()), (R{Refusal::kNone, Refusal::kShape, Refusal::kNone}));
  }
  {
    Builder b;
    int x = b.leaf(square);
    for (int i = 0; i < 5; ++i) x = b.node(OpId::Add, square, {x, b.leaf(square)});
    Options few;
    few.max_inputs = 4;  // the edge to the node that would join counts
    EXPECT_EQ(refusals(b.graph(), few), (R{Refusal::kInputLimit, Refusal::kNone, Refusal::kInputLimit,
                                           Refusal::kNone, Refusal::kNone}));
    few = {};
    few.max_nodes = 2;
    EXPECT_EQ(refusals(b.graph(), few),
              (R{Refusal::kNodeLimit, Refusal::kNone, Refusal::kNodeLimit, Refusal::kNone, Refusal::kNone}));
  }
}

TEST(Regions, NodeLimitSplits) {
  Builder b;
  int x = b.leaf(kFull);
  for (int i = 0; i < 1000; ++i) x = b.node(OpId::Exp, kFull, {x});
  b.want(x);
  Options o;
  o.max_nodes = 64;
  const Graph g = b.graph();
  const Partition p = form_regions(g, o);
  verify(g, p);
  for (const Region& r : p.regions) EXPECT_LE(r.nodes.size(), 64u);
  EXPECT_EQ(p.regions.size(), 16u);
}

TEST(Regions, WithoutFusionEveryNodeIsItsOwn) {
  const Graph g = softmax().graph();
  Options o;
  o.fuse = false;
  const Partition p = form_regions(g, o);
  verify(g, p);
  EXPECT_EQ(p.regions.size(), g.nodes);
}

TEST(Tapes, HalfPrecisionIsWidenedAtLoadsAndRoundedAtTheOutput) {
  Builder b;
  const int x = b.leaf(kFull, Dtype::kBFloat16);
  const int y = b.node(OpId::Multiply, kFull, {x, x}, Dtype::kBFloat16);
  b.want(b.node(OpId::Exp, kFull, {y}, Dtype::kBFloat16));
  const Graph g = b.graph();
  const Tape t = lower(g, form_regions(g).regions[0]);
  EXPECT_EQ(print(t),
            "  0 p0 full   load - bfloat16 s0\n"
            "  1 p0 full   cast - float32 %0 s1\n"
            "  2 p0 full   op multiply float32 %1 %1 s1\n"
            "  3 p0 full   op exp float32 %2 s1\n"
            "  4 p0 full   cast - bfloat16 %3 s0 -> out0\n");
}

TEST(Tapes, OperandsOfFewerRowsAreRowValues) {
  // x - sum(x) * few, where `few` has one number for several rows.
  const Shape full{2, 5, 7}, row{2, 5, 1}, few{2, 1, 1};
  Builder b;
  const int x = b.leaf(full);
  const int total = b.node(OpId::Sum, row, {x}, Dtype::kFloat32, {2});
  const int scaled = b.node(OpId::Multiply, row, {total, b.leaf(few)});
  b.want(b.node(OpId::Subtract, full, {x, scaled}));
  const Graph g = b.graph();
  const Partition p = form_regions(g);
  ASSERT_EQ(p.regions.size(), 1u);
  EXPECT_EQ(print(lower(g, p.regions[0])),
            "  0 p0 row    load - float32\n"
            "  1 p0 full   load - float32 s0\n"
            "  2 p0 row    reduce sum float32 %1\n"
            "  3 p1 row    op multiply float32 %2 %0\n"
            "  4 p1 full   expand - float32 %3 s1\n"
            "  5 p1 full   op subtract float32 %1 %4 s1 -> out0\n");
}

TEST(Tapes, DonorIsNotReadAfterTheOutputIsWritten) {
  // out = x + y may overwrite either operand; with exp(x) read later, only y.
  Builder b;
  const int x = b.leaf(kFull), y = b.leaf(kFull);
  const int s = b.node(OpId::Add, kFull, {x, y});
  b.want(s);
  b.want(b.node(OpId::Multiply, kFull, {s, b.node(OpId::Exp, kFull, {x})}));
  const Graph g = b.graph();
  const Tape t = lower(g, form_regions(g).regions[0]);
  for (size_t o = 0; o < t.outputs.size(); ++o) {
    for (int32_t donor : t.donors[o]) {
      int32_t load = -1, last = -1;
      for (size_t i = 0; i < t.code.size(); ++i) {
        if (t.code[i].kind == InstrKind::kLoad && t.code[i].source == donor) load = static_cast<int32_t>(i);
        for (int32_t in : t.code[i].in) {
          if (in == load) last = static_cast<int32_t>(i);
        }
      }
      EXPECT_LE(last, t.outputs[o].value);
    }
  }
}

TEST(Tapes, AnOutputWaitsForOtherReadersOfWhatItMayOverwrite) {
  // x + y may overwrite x once sin(x) is done, and y * sin(x) may overwrite y once x + y is.
  Builder b;
  const int x = b.leaf(kFull), y = b.leaf(kFull);
  b.want(b.node(OpId::Add, kFull, {x, y}));
  b.want(b.node(OpId::Multiply, kFull, {y, b.node(OpId::Sin, kFull, {x})}));
  const Graph g = b.graph();
  const Partition p = form_regions(g);
  ASSERT_EQ(p.regions.size(), 1u);
  const Tape t = lower(g, p.regions[0]);
  ASSERT_EQ(t.outputs.size(), 2u);
  const auto may_overwrite = [&](size_t o, int leaf) {
    const uint32_t value = static_cast<uint32_t>(g.nodes) + static_cast<uint32_t>(-leaf - 1);
    return std::any_of(t.donors[o].begin(), t.donors[o].end(),
                       [&](int32_t d) { return t.inputs[static_cast<size_t>(d)] == value; });
  };
  EXPECT_TRUE(may_overwrite(0, x));
  EXPECT_TRUE(may_overwrite(1, y));
}

TEST(Verify, RejectsARegionThatLeaks) {
  Builder b;
  const Shape square{6, 6};
  const int e = b.node(OpId::Exp, square, {b.leaf(square)});
  const int s = b.node(OpId::Sin, square, {e});
  b.want(b.node(OpId::Matmul, square, {e, s}));
  const Graph g = b.graph();
  Partition bad;
  Region& both = bad.regions.emplace_back();
  both.nodes = {0, 1};
  both.full_shape = both.row_shape = g.values[0].shape;
  bad.region_of = {0, 0, -1};
  EXPECT_THROW(verify(g, bad), Error);
}

TEST(Tapes, EqualOpsOfEqualOperandsAreComputedOnce) {
  // exp(x) * exp(x) + max(exp(x)): three exponentials, of which two are the same node's twin.
  Builder b;
  const int x = b.leaf(kFull);
  const int e = b.node(OpId::Exp, kFull, {x}), f = b.node(OpId::Exp, kFull, {x});
  const int top = b.node(OpId::Max, kRow, {b.node(OpId::Exp, kFull, {x})}, Dtype::kFloat32, {1});
  b.want(b.node(OpId::Add, kFull, {b.node(OpId::Multiply, kFull, {e, f}), top}));
  const Graph g = b.graph();
  const Partition p = form_regions(g);
  ASSERT_EQ(p.regions.size(), 1u);
  auto count = [](const Tape& t, OpId op) {
    return std::count_if(t.code.begin(), t.code.end(), [op](const Instr& c) { return c.op == op; });
  };
  EXPECT_EQ(count(lower(g, p.regions[0]), OpId::Exp), 1);
  EXPECT_EQ(count(lower(g, p.regions[0]), OpId::Multiply), 1);
}

TEST(Tapes, WantedTwinsHaveResultsOfTheirOwn) {
  Builder b;
  const int x = b.leaf(kFull), y = b.leaf(kFull);
  const int e = b.node(OpId::Add, kFull, {x, y}), f = b.node(OpId::Add, kFull, {x, y});
  const int other = b.node(OpId::Add, kFull, {y, x});
  b.want(e);
  b.want(f);
  b.want(b.node(OpId::Multiply, kFull, {b.node(OpId::Subtract, kFull, {e, f}), other}));
  const Graph g = b.graph();
  const Tape t = lower(g, form_regions(g).regions[0]);
  ASSERT_EQ(t.outputs.size(), 3u);
  EXPECT_NE(t.outputs[0].value, t.outputs[1].value);
  int adds = 0;
  for (const Instr& c : t.code) adds += c.kind == InstrKind::kOp && c.op == OpId::Add;
  EXPECT_EQ(adds, 2) << "operands in another order are other operands";
}

// A product, and tanh(product + bias) below it.
struct Biased {
  Builder b;
  int product, sum, result;

  explicit Biased(Dtype t = Dtype::kFloat32) {
    const int x = b.leaf({5, 3}, t), w = b.leaf({3, 7}, t), bias = b.leaf({7}, t);
    product = b.node(OpId::Matmul, kFull, {x, w}, t);
    b.can_take_epilogue(product);
    sum = b.node(OpId::Add, kFull, {product, bias}, t);
    result = b.node(OpId::Tanh, kFull, {sum}, t);
    b.want(result);
  }
  Partition parts(const Options& options = {}) const {
    const Graph g = b.graph();
    Partition p = form_regions(g, options);
    verify(g, p);
    return p;
  }
  Refusal refusal() const { return parts().decisions[static_cast<size_t>(product)].refusal; }
};

TEST(Epilogues, AKernelTakesTheRegionOfItsConsumers) {
  const Biased m;
  const Partition p = m.parts();
  EXPECT_EQ(print(m.b.graph(), p), "region full=(5, 7) row_axes=0: [matmul] add tanh\n");
  EXPECT_EQ(m.refusal(), Refusal::kNone);
  const Tape t = lower(m.b.graph(), p.regions[0]);
  ASSERT_GE(t.product, 0);
  EXPECT_EQ(t.inputs[static_cast<size_t>(t.product)], static_cast<uint32_t>(m.product));
  EXPECT_EQ(t.phases, 1);
}

TEST(Epilogues, TheProductIsReadInFloat32) {
  const Biased m(Dtype::kBFloat16);
  const Tape t = lower(m.b.graph(), m.parts().regions[0]);
  for (const Instr& c : t.code) {
    if (c.kind == InstrKind::kLoad) {
      const bool product = c.source == t.product;
      EXPECT_EQ(c.dtype, product ? Dtype::kFloat32 : Dtype::kBFloat16);
    }
  }
  // Of the two loads only the bias is converted; the result is rounded.
  EXPECT_EQ(
      std::count_if(t.code.begin(), t.code.end(), [](const Instr& c) { return c.kind == InstrKind::kCast; }),
      2);
  for (const auto& donors : t.donors) {
    EXPECT_EQ(std::count(donors.begin(), donors.end(), t.product), 0) << "tiles are no memory to give away";
  }
}

TEST(Epilogues, AWantedProductIsOneOutputMore) {
  Biased m(Dtype::kFloat16);
  m.b.want(m.product);
  EXPECT_EQ(m.refusal(), Refusal::kNone);
  const Tape t = lower(m.b.graph(), m.parts().regions[0]);
  ASSERT_EQ(t.outputs.size(), 2u);
  EXPECT_EQ(t.outputs[0].node, static_cast<uint32_t>(m.result));
  EXPECT_EQ(t.outputs[1].node, static_cast<uint32_t>(m.product));
  EXPECT_EQ(t.outputs[1].dtype, Dtype::kFloat16);
}

TEST(Epilogues, OneElementIsNotAScalarOfTheTape) {
  Builder b;
  const int product = b.node(OpId::Matmul, {1, 1}, {b.leaf({1, 3}), b.leaf({3, 1})});
  b.can_take_epilogue(product);
  b.want(b.node(OpId::Tanh, {1, 1}, {product}));
  const Graph g = b.graph();
  const Tape t = lower(g, form_regions(g).regions[0]);
  ASSERT_EQ(t.product, 0);
  EXPECT_EQ(t.code[0].space, Space::kFull);
}

TEST(Epilogues, AreRefused) {
  {
    Biased m;
    m.b.node(OpId::Sort, kFull, {m.product});
    EXPECT_EQ(m.refusal(), Refusal::kConsumerAlone);
  }
  {
    Biased m;
    const int sine = m.b.node(OpId::Sin, kFull, {m.product});
    m.b.want(m.b.node(OpId::Sum, kRow, {sine}, Dtype::kFloat32, {1}));
    EXPECT_EQ(m.refusal(), Refusal::kTwoRegions);
  }
  {
    Biased m;
    m.b.want(m.b.node(OpId::Sum, kRow, {m.result}, Dtype::kFloat32, {1}));
    EXPECT_EQ(m.refusal(), Refusal::kRowTape) << "tanh is wanted and summed up";
  }
  EXPECT_EQ(Biased().parts({.fuse = false}).decisions[0].refusal, Refusal::kFusionOff);
  EXPECT_EQ(Biased().parts({.epilogues = false}).decisions[0].refusal, Refusal::kNoEpilogue);
}

TEST(Epilogues, RowWorkAndOtherShapesAreRefused) {
  Builder b;
  const int product = b.node(OpId::Matmul, kFull, {b.leaf({5, 3}), b.leaf({3, 7})});
  b.can_take_epilogue(product);
  b.want(b.node(OpId::Sum, kRow, {b.node(OpId::Exp, kFull, {product})}, Dtype::kFloat32, {1}));
  EXPECT_EQ(form_regions(b.graph()).decisions[0].refusal, Refusal::kRowTape);

  Builder wide;
  const int line = wide.node(OpId::Matmul, {1, 7}, {wide.leaf({1, 3}), wide.leaf({3, 7})});
  wide.can_take_epilogue(line);
  wide.want(wide.node(OpId::Add, kFull, {line, wide.leaf(kFull)}));
  EXPECT_EQ(form_regions(wide.graph()).decisions[0].refusal, Refusal::kShape);
}

TEST(Epilogues, TheLastOfTwoKernelsTakesTheGate) {
  Builder b;
  const int x = b.leaf({5, 3});
  const int up = b.node(OpId::Matmul, kFull, {x, b.leaf({3, 7})});
  const int gate = b.node(OpId::Matmul, kFull, {x, b.leaf({3, 7})});
  b.can_take_epilogue(up);
  b.can_take_epilogue(gate);
  b.want(b.node(OpId::Multiply, kFull, {up, b.node(OpId::Sigmoid, kFull, {gate})}));
  const Graph g = b.graph();
  const Partition p = form_regions(g);
  verify(g, p);
  EXPECT_EQ(p.regions[0].kernel, gate);
  EXPECT_EQ(p.decisions[static_cast<size_t>(up)].refusal, Refusal::kTaken);
}

TEST(Epilogues, VerifyFindsAKernelThatIsReadElsewhere) {
  Biased m;
  Partition p = m.parts();
  m.b.node(OpId::Sort, kFull, {m.product});
  const Graph g = m.b.graph();
  p.region_of.push_back(-1);
  EXPECT_THROW(verify(g, p), Error);
}

}  // namespace
}  // namespace lamina::fusion
