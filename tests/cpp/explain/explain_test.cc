#include "lamina/explain.h"

#include <gtest/gtest.h>

#include "backend/plan.h"
#include "explain/layers.h"
#include "lamina/error.h"
#include "lamina/ops.h"

namespace lamina {
namespace {

using Kind = Explanation::Kind;

const Shape kSquare{6, 6};

std::string reasons(const Explanation& e) {
  std::string text;
  for (const auto& u : e.unfused) {
    text += e.values[u.producer].op + " -> " + e.values[u.consumer].op + ": " + u.reason + "\n";
  }
  return text;
}

Explanation explained(const std::function<Array(const Array&)>& f, const Shape& shape = kSquare,
                      Dtype t = Dtype::kFloat32) {
  return explain([&f](const Arrays& in) { return Arrays{f(in[0])}; }, {zeros(shape, t)}, {"x"});
}

TEST(Explain, SoftmaxIsOneTape) {
  const Explanation e = explained([](const Array& x) { return softmax(x, Axes{-1}); }, {8, 1000});
  ASSERT_EQ(e.steps.size(), 1u) << to_text(e);
  const Explanation::Step& s = e.steps[0];
  EXPECT_EQ(s.kind, Kind::kTape);
  EXPECT_EQ(s.phases, 3);
  EXPECT_EQ(s.values.size(), 6u);
  EXPECT_EQ(s.bytes_read, 8u * 1000 * 4);
  EXPECT_EQ(s.bytes_written, 8u * 1000 * 4);
  // max, subtract, exp, sum and multiply over 8000 elements each, and a reciprocal of each row's sum.
  EXPECT_EQ(s.flops, 5.0 * 8000 + 8);
  // All but the result: two full values and three numbers of each row.
  EXPECT_EQ(e.bytes_saved(), 2u * 8 * 1000 * 4 + 3u * 8 * 4);
  EXPECT_TRUE(e.unfused.empty());
}

TEST(Explain, SaysWhyAValueGoesThroughMemory) {
  struct Case {
    std::function<Array(const Array&)> f;
    std::string want;
  };
  const std::vector<Case> cases = {
      {[](const Array& x) { return matmul(exp(x), x); }, "exp -> matmul: consumer is a kernel: matmul\n"},
      {[](const Array& x) { return exp(matmul(x, x)); }, ""},
      {[](const Array& x) { return softmax(matmul(x, x), Axes{1}); },
       "matmul -> max: producer is a kernel: matmul, and the tape works on rows\n"
       "matmul -> subtract: producer is a kernel: matmul, and the tape works on rows\n"},
      {[](const Array& x) { return matmul(x, x) * matmul(x, exp(x)); },
       "exp -> matmul: consumer is a kernel: matmul\n"
       "matmul -> multiply: producer is a kernel: matmul, and the tape runs with another one\n"},
      {[](const Array& x) { return sort(x, 0) + 1.0; }, "sort -> add: producer is a kernel: sort\n"},
      {[](const Array& x) {
         const Array y = exp(x);
         return matmul(y, y) + y;
       },
       "exp -> matmul: consumer is a kernel: matmul\n"
       "exp -> add: another consumer is a kernel: matmul\n"},
      {[](const Array& x) { return sum(exp(x), Axes{0}, true); },
       "exp -> sum: consumer is a reduction over axes that are not trailing: sum over (0,)\n"},
      {[](const Array& x) { return transpose(exp(x)) + 1.0; },
       "exp -> transpose: consumer is a view: transpose\n"
       "transpose -> add: producer is a view: transpose\n"},
      {[](const Array& x) { return transpose(x) + 1.0; }, ""},
      {[](const Array& x) {
         return max(sum(exp(x), Axes{1}, true), Axes{0, 1}, true);
       },
       "sum -> max: the result of a reduction is reduced again\n"},
      {[](const Array& x) {
         return exp(slice(x, {0, 0}, {6, 1}, {1, 1})) + exp(slice(x, {0, 0}, {1, 6}, {1, 1}));
       },
       "exp -> add: different shapes: (1, 6) and (6, 6)\n"},
  };
  for (size_t i = 0; i < cases.size(); ++i) EXPECT_EQ(reasons(explained(cases[i].f)), cases[i].want) << i;
}

TEST(Explain, ConsumersInTwoTapes) {
  // What is summed up over columns has to be in memory, by a tape of its own.
  const Explanation e = explain(
      [](const Arrays& in) {
        const Array y = exp(in[0]);
        return Arrays{sum(sin(y), Axes{0}, true), cos(y)};
      },
      {zeros({4, 4})});
  EXPECT_EQ(reasons(e),
            "sin -> sum: consumer is a reduction over axes that are not trailing: sum over (0,)\n"
            "exp -> cos: consumers are in different tapes\n");
  EXPECT_EQ(e.count(Kind::kTape), 2u) << "one for exp and sin, which stores both";
}

TEST(Explain, EvaluatesNothingAndLeavesTheGraphAsItWas) {
  const Array base = exp(zeros({5}));
  const Array y = base * 2.0;
  const PlanCounters before = plan_counters();
  const Explanation e = explain({y}, {{"base", base}});
  EXPECT_EQ(plan_counters().hits, before.hits);
  EXPECT_EQ(plan_counters().misses, before.misses);
  EXPECT_FALSE(y.is_available());
  EXPECT_FALSE(base.is_available());
  EXPECT_EQ(sum(y).item<float>(), 10.f);
}

TEST(Explain, KnowsWhetherThePlanIsThere) {
  auto f = [](const Array& x) { return sqrt(exp(x) + 41.0) * erf(x); };
  EXPECT_FALSE(explained(f, {3, 17}).plan_known);
  const Array there = zeros({3, 17});
  there.eval();
  f(there).eval();
  EXPECT_TRUE(explained(f, {3, 17}).plan_known);
  EXPECT_TRUE(explained(f, {5, 4}).plan_known) << "sizes are arguments of a plan";
  EXPECT_FALSE(explained(f, {5, 1}).plan_known) << "a length of 1 is part of the structure";
}

TEST(Explain, StepsAreThoseOfThePlan) {
  // What explain says, against the bytes that evaluation holds at most.
  const Explanation e = explained([](const Array& x) { return matmul(tanh(x), x) * 3.0; }, {64, 64});
  ASSERT_EQ(e.steps.size(), 2u);
  EXPECT_EQ(e.steps[1].kind, Kind::kWithEpilogue);
  EXPECT_EQ(e.steps[1].flops, 2.0 * 64 * 64 * 64 + 64 * 64);
  EXPECT_EQ(e.steps[1].bytes_read, 2u * 64 * 64 * 4 + 4) << "and the number that it is multiplied with";
  EXPECT_EQ(e.steps[1].bytes_written, 64u * 64 * 4);
  EXPECT_EQ(e.steps[1].reads.size(), 3u);
  EXPECT_EQ(e.values[e.outputs[0]].op, "multiply");
  EXPECT_TRUE(e.values[e.outputs[0]].result);
}

TEST(Explain, CopiesBehindViewsAreSteps) {
  const Explanation flat = explained([](const Array& x) { return reshape(x, {36}) + 1.0; });
  EXPECT_EQ(flat.count(Kind::kView), 1u);
  const Explanation copied = explained([](const Array& x) { return reshape(transpose(x), {36}) + 1.0; });
  EXPECT_EQ(copied.count(Kind::kView), 1u);
  EXPECT_EQ(copied.count(Kind::kKernel), 1u) << "a reshape of a transposed array copies";
  EXPECT_EQ(copied.steps[1].bytes_written, 36u * 4);
}

TEST(Explain, BroadcastOperandsCountOnce) {
  const Explanation e = explain(
      [](const Arrays& in) {
        return Arrays{broadcast_to(in[0], {100, 7}) + in[1]};
      },
      {zeros({7}), zeros({100, 7})});
  EXPECT_EQ(e.steps.back().bytes_read, 7u * 4 + 700u * 4);
}

TEST(Explain, RefusesEvaluationInside) {
  EXPECT_THROW(explained([](const Array& x) { return x * static_cast<double>(x.item<float>()); }, {}),
               ValueError);
}

TEST(Explain, TextIsAligned) {
  const std::string text = to_text(explained([](const Array& x) { return matmul(exp(x) * 2.0, x); }, {3, 3}));
  EXPECT_NE(text.find("3 ops: 1 tape, 1 kernel, 0 views"), std::string::npos) << text;
  EXPECT_NE(text.find("reads\n  x  float32 (3, 3)\n"), std::string::npos) << text;
  EXPECT_NE(text.find("     1  tape    exp, multiply  %1 float32 (3, 3)  x, 2   40 B     36 B    18\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("     2  kernel  matmul         %2 float32 (3, 3)  %1, x  72 B     36 B    54\n"),
            std::string::npos)
      << text;
}

TEST(Explain, LooksThroughStopGradient) {
  const Explanation e = explained([](const Array& x) { return exp(stop_gradient(stop_gradient(sin(x)))); });
  ASSERT_EQ(e.steps.size(), 1u) << to_text(e);
  const Array x = zeros({4}) + 1.0;
  const Array kept = stop_gradient(sin(x));
  const Array y = exp(kept), z = matmul(stop_gradient(reshape(y, {2, 2})), stop_gradient(reshape(y, {2, 2})));
  eval({y, kept, z});
  EXPECT_EQ(kept.data<float>()[3], sin(x).data<float>()[0]) << "a view that somebody holds has its value";
  EXPECT_EQ(y.data<float>()[2], exp(sin(x)).data<float>()[2]);
  EXPECT_EQ(z.data<float>()[0], 2 * y.data<float>()[0] * y.data<float>()[0]);
}

// Whether two boxes share more than their borders.
bool overlap(Point a, Box p, Point b, Box q) {
  return a.x + p.width > b.x && b.x + q.width > a.x && a.y + p.height > b.y && b.y + q.height > a.y;
}

TEST(Layers, BoxesKeepApartAndEdgesPointDown) {
  uint64_t state = 1;
  auto draw = [&state](uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<Box> boxes(1 + draw(30));
    for (Box& b : boxes) b = {10.0 + static_cast<double>(draw(90)), 10.0 + static_cast<double>(draw(40))};
    std::vector<std::pair<size_t, size_t>> edges;
    for (size_t to = 1; to < boxes.size(); ++to) {
      for (uint64_t k = draw(4); k > 0; --k) edges.emplace_back(draw(to), to);
    }
    const Drawing d = draw_layers(boxes, edges, {5, 5});
    ASSERT_EQ(d.at.size(), boxes.size());
    for (size_t i = 0; i < boxes.size(); ++i) {
      EXPECT_GE(d.at[i].x, -1e-6);
      EXPECT_LE(d.at[i].x + boxes[i].width, d.size.width + 1e-6);
      EXPECT_LE(d.at[i].y + boxes[i].height, d.size.height + 1e-6);
      for (size_t j = 0; j < i; ++j) EXPECT_FALSE(overlap(d.at[i], boxes[i], d.at[j], boxes[j])) << i << j;
    }
    for (const auto& [from, to] : edges) EXPECT_LT(d.at[from].y + boxes[from].height, d.at[to].y);
  }
}

TEST(Layers, NothingToDraw) {
  const Drawing d = draw_layers({}, {}, {5, 5});
  EXPECT_TRUE(d.at.empty());
  EXPECT_EQ(d.size.height, 0);
}

}  // namespace
}  // namespace lamina
