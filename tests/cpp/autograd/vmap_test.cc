#include "autograd/vmap.h"

#include <set>

#include "graph/stream.h"
#include "vmap_cases.h"

namespace lamina::testing {
namespace {

using F = const Arrays&;

void check_all(const std::vector<Case>& cases, void (*check)(const Case&)) {
  for (const Case& c : cases) {
    check(c);
    if (::testing::Test::HasFailure()) return;
  }
}

class VmapCases : public ::testing::TestWithParam<std::vector<Case> (*)()> {};
TEST_P(VmapCases, EqualsALoop) {
  check_all(GetParam()(), [](const Case& c) { check_once(c, 3); });
}
TEST_P(VmapCases, EqualsALoopOfOne) {
  check_all(GetParam()(), [](const Case& c) { check_once(c, 1); });
}
TEST_P(VmapCases, NestsTwice) {
  check_all(GetParam()(), [](const Case& c) { check_twice(c, false); });
}
TEST_P(VmapCases, NestsOverDifferentOperands) {
  check_all(GetParam()(), [](const Case& c) { check_twice(c, true); });
}
TEST_P(VmapCases, WithoutExamples) { check_all(GetParam()(), check_empty); }
INSTANTIATE_TEST_SUITE_P(Elementwise, VmapCases, ::testing::Values(elementwise_cases));
INSTANTIATE_TEST_SUITE_P(Views, VmapCases, ::testing::Values(view_cases));
INSTANTIATE_TEST_SUITE_P(Reductions, VmapCases, ::testing::Values(reduction_cases));
INSTANTIATE_TEST_SUITE_P(Indexing, VmapCases, ::testing::Values(indexing_cases));
INSTANTIATE_TEST_SUITE_P(Matrices, VmapCases, ::testing::Values(matrix_cases));

void collect_ops(const Node* n, std::set<OpId>& ops) {
  ops.insert(n->op);
  for (const Node* in : n->inputs) collect_ops(in, ops);
}

TEST(Vmap, CasesCoverEveryOp) {
  std::set<OpId> ops;
  std::mt19937 rng(3);
  for (auto* cases : {elementwise_cases, view_cases, reduction_cases, indexing_cases, matrix_cases}) {
    for (const Case& c : cases()) {
      Arrays args;
      for (const Operand& o : c.operands) args.push_back(make_operand(o, {}, rng));
      for (const Array& out : c.fun(args)) collect_ops(out.node(), ops);
    }
  }
  // Leaves are never rebuilt, nor calls that are evaluated as a whole; custom ones have tests of their own.
  const std::set<OpId> elsewhere = {OpId::Data,   OpId::Scalar,       OpId::Placeholder,
                                    OpId::Arange, OpId::CustomOutput, OpId::Call};
  for (int i = 0; i < kNumOps; ++i) {
    const auto op = static_cast<OpId>(i);
    EXPECT_TRUE(ops.count(op) || elsewhere.count(op)) << op_info(op).name << " has no case";
  }
}

// ---- graphs ----

Array some(const Shape& shape, unsigned seed = 1) {
  std::mt19937 rng(seed);
  return floats()(shape, rng);
}

Array count(int64_t from, int64_t to) { return arange(from, to, int64_t{1}); }

// Random functions of the two arrays (2, 3) and (3,): every step takes arrays made before.
class RandomFunction {
 public:
  explicit RandomFunction(unsigned seed) : seed_(seed) {}

  Arrays operator()(F x) const {
    std::mt19937 rng(seed_);
    Arrays pool = x;
    for (int i = 0; i < 14; ++i) {
      auto pick = [&] { return pool[rng() % pool.size()]; };
      const Array a = pick(), b = pick();
      const Array made = step(rng() % 16, a, b, rng() % 3);
      if (made.ndim() <= 4 && made.size() <= 600) pool.push_back(made);
    }
    Array total = sum(pool[0]);
    for (const Array& a : pool) total = total + mean(a);
    return {total, pool.back(), pool[pool.size() / 2]};
  }

 private:
  static bool broadcast(const Array& a, const Array& b) {
    for (size_t i = 1; i <= std::min(a.shape().size(), b.shape().size()); ++i) {
      const int64_t m = a.shape(-static_cast<int>(i)), n = b.shape(-static_cast<int>(i));
      if (m != n && m != 1 && n != 1) return false;
    }
    return true;
  }
  static Array pairwise(unsigned k, const Array& a, const Array& b) {
    const Array c = broadcast(a, b) ? b : sum(b);
    switch (k) {
      case 0: return a + c;
      case 1: return a * tanh(c);
      case 2: return maximum(a, c);
      default: return where(greater(a, Array(0.1)), a, c);
    }
  }
  static Array step(unsigned k, const Array& a, const Array& b, unsigned way) {
    const int last = a.ndim() - 1;
    if (k < 4 || last < 0) return pairwise(k % 4, a, b);
    const int axis = static_cast<int>(way) % a.ndim();
    switch (k) {
      case 4: return sin(a);
      case 5: return transpose(a);
      case 6: return sum(a, Axes{axis}, way == 0);
      case 7: return reshape(a, {-1});
      case 8: return softmax(a, Axes{axis});
      case 9: return concatenate(Arrays{a, flip(a, Axes{axis})}, axis);
      case 10: return take(a, Array({0, -1, 0}, {3}), axis);
      case 11: return sort(a, axis);
      case 12: return matmul(a, swapaxes(reshape(a, {-1, a.shape(-1)}), 0, 1));
      case 13: return scan(a, ScanKind::kSum, axis, way == 1, true);
      case 14: return expand_dims(a, {axis});
      default: return take_along_axis(a, argsort(a, axis), axis);
    }
  }

  unsigned seed_;
};

TEST(Vmap, RandomGraphsEqualALoop) {
  for (unsigned seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    check_once({"random graph", RandomFunction(seed), {{{2, 3}}, {{3}}}, 512}, 3);
    check_twice({"random graph", RandomFunction(seed), {{{2, 3}}, {{3}}}, 512}, seed % 2 == 0);
    if (HasFailure()) return;
  }
}

TEST(Vmap, GradientsOfRandomGraphsEqualALoop) {
  for (unsigned seed = 100; seed < 130; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    check_once({"gradient of a random graph", grad(RandomFunction(seed), {0, 1}), {{{2, 3}}, {{3}}}, 2048},
               3);
    if (HasFailure()) return;
  }
}

TEST(Vmap, GradientThroughVmapEqualsGradientThroughALoop) {
  for (unsigned seed = 200; seed < 220; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const RandomFunction fun(seed);
    auto loss = [](const Function& mapped) {
      return grad([mapped](F x) { return Arrays{sum(sin(mapped(x)[0]))}; }, {0, 1});
    };
    const std::vector<int> axes = {1, -1};
    const Arrays args = {some({2, 4, 3}), some({3}, 2)};
    expect_all_close(loss(vmap_with(fun, axes, at_axis(0)))(args), loss(looped(fun, axes, at_axis(0)))(args),
                     2048);
    if (HasFailure()) return;
  }
}

TEST(Vmap, RowsOfAJacobian) {
  const Array a = some({3, 4}), x = some({4}, 2);
  auto fun = [&](F in) { return Arrays{matmul(a, sin(in[0]))}; };
  auto row = [&](F cotangent) { return vjp(fun, {x}, cotangent).second; };
  auto column = [&](F tangent) { return jvp(fun, {x}, tangent).second; };
  const Array expected = a * cos(x);
  expect_close(vmap(row, {0}, {0})({eye(3, 3)})[0], expected, 16);
  expect_close(vmap(column, {1}, {1})({eye(4, 4)})[0], expected, 16);
}

TEST(Vmap, DeepChains) {
  constexpr int kDepth = 100'000;
  auto fun = [](F x) {
    Array y = x[0], shared = x[1];
    for (int i = 0; i < kDepth; ++i) {
      y = y + Array(1);
      shared = shared + Array(2);
    }
    return Arrays{y, shared, y + shared};
  };
  const Arrays out = vmap(fun, {0, -1}, {0, -1, 0})({count(0, 3), Array(5)});
  expect_close(out[0], count(kDepth, kDepth + 3), 0);
  expect_close(out[1], Array(5 + 2 * kDepth), 0);
  expect_close(out[2], count(3 * kDepth + 5, 3 * kDepth + 8), 0);
}

TEST(Vmap, NodesThatDependOnNoMappedArgumentAreShared) {
  Array inside;
  auto fun = [&](F x) {
    inside = exp(x[1]);
    return Arrays{x[0] * inside, inside, x[1]};
  };
  const Arrays args = {some({2, 3}), some({3})};
  const Arrays out = vmap(fun, {0, -1}, {0, -1, -1})(args);
  EXPECT_TRUE(out[1].same(inside));
  EXPECT_TRUE(out[2].same(args[1]));
  EXPECT_EQ(out[0].node()->inputs[1], inside.node());
}

TEST(Vmap, OutputsWithoutAMappedArgumentAreRepeated) {
  auto fun = [](F x) { return Arrays{x[1], count(0, 2), x[0]}; };
  const Array x = some({2, 4}), y = some({3}, 2);
  const Arrays out = vmap(fun, {1, -1}, {1, 0, 1})({x, y});
  expect_close(out[0], broadcast_to(expand_dims(y, {1}), {3, 4}), 0);
  expect_close(out[1], broadcast_to(count(0, 2), {4, 2}), 0);
  expect_close(out[2], x, 0);
}

TEST(Vmap, OneArrayAlongTwoAxes) {
  const Array x = some({3, 3});
  auto fun = [](F in) { return Arrays{matmul(in[0], in[1])}; };
  expect_close(vmap(fun, {0, 1}, {0})({x, x})[0], sum(x * transpose(x), Axes{1}), 16);
}

TEST(Vmap, CapturedMappedArgumentsOfAnOuterVmap) {
  const Array x = some({3, 2}), y = some({4, 2}, 2);
  auto outer = [&](F a) {
    auto inner = [&](F b) { return Arrays{sum(a[0] * b[0])}; };
    return vmap(inner, {0}, {0})({y});
  };
  expect_close(vmap(outer, {0}, {0})({x})[0], matmul(x, transpose(y)), 16);
}

TEST(Vmap, KeepsTheStreamOfEachNode) {
  const Stream other = new_stream(default_device());
  auto fun = [&](F x) {
    const StreamScope scope(other);
    return Arrays{sin(x[0])};
  };
  const Array out = vmap(fun, {0}, {0})({some({2, 3})})[0];
  EXPECT_EQ(out.stream().index, other.index);
  expect_close(out, sin(some({2, 3})), 8);
}

TEST(Vmap, OutAxesFromTheOutputs) {
  std::vector<std::string> shapes;
  auto axes = [&](F outs) {
    for (const Array& a : outs) shapes.push_back(to_string(a.shape()));
    return std::vector<int>{outs[0].ndim(), 0};
  };
  auto fun = [](F x) { return Arrays{x[0], sum(x[0])}; };
  const Array x = some({4, 2, 3});
  const Arrays out = vmap_with(fun, {0}, axes)({x});
  EXPECT_EQ(shapes, (std::vector<std::string>{"(2, 3)", "()"}));
  expect_close(out[0], moveaxis(x, 0, -1), 0);
  expect_close(out[1], sum(x, Axes{1, 2}), 16);
}

TEST(Vmap, InsideCompile) {
  auto fun = [](F x) { return Arrays{softmax(x[0] * x[1], Axes{-1})}; };
  const Arrays args = {some({4, 3}), some({3}, 2)};
  const Function mapped = vmap(fun, {0, -1}, {1});
  expect_all_close(compile(mapped)(args), mapped(args), 0);
  expect_all_close(vmap(compile(fun), {0, -1}, {1})(args), mapped(args), 0);
}

// ---- the loop rule ----

TEST(Vmap, LoopRuleIsRightForAnyOp) {
  const Array x = some({3, 2, 5}), y = some({4, 5}, 2);
  auto fun = [](F in) { return Arrays{concatenate(in, 0)}; };
  Array node = fun({some({2, 5}), y})[0];
  autograd::BatchCall b{{node.node()->op, *node.node(), {x, y}, {}}, {true, false}, 3};
  expect_all_close(autograd::batch_by_loop(b), looped(fun, {0, -1}, at_axis(0))({x, y}), 0);
  expect_all_close(autograd::batch_by_loop(b), autograd::batch(b), 0);
}

TEST(Vmap, LoopRuleOfSeveralOutputs) {
  const Array w = some({3, 2, 64});
  const Array q = quantize(some({2, 64}), 32, 4)[0];
  const Node& tuple = *q.node()->inputs[0];
  autograd::BatchCall b{{tuple.op, tuple, {w}, {}}, {true}, 3};
  expect_all_close(autograd::batch_by_loop(b), autograd::batch(b), 0);
}

// ---- functions with rules of their own ----

// sin(x) * y with a gradient that is not its own, so that a test sees which of the two ran.
Function odd_product(int* calls = nullptr, int* rules = nullptr) {
  return custom_vjp(
      [calls](F x) {
        if (calls) ++*calls;
        return Arrays{sin(x[0]) * x[1], x[0] + x[1]};
      },
      [rules](F primals, F cotangents, F outputs) {
        if (rules) ++*rules;
        return Arrays{cotangents[0] * primals[1] * 3.0 + cotangents[1], sum(cotangents[0] * outputs[0])};
      });
}

TEST(VmapCustom, ValueAndGradientEqualALoop) {
  const Case value{"custom", odd_product(), {{{3}}, {{}}}, 8};
  check_once(value, 3);
  check_twice(value, false);
  check_twice(value, true);
  auto loss = [f = odd_product()](F x) {
    const Arrays y = f(x);
    return Arrays{sum(y[0] * y[1])};
  };
  const Case gradient{"gradient of custom", grad(loss, {0, 1}), {{{3}}, {{}}}, 64};
  check_once(gradient, 3);
  check_twice(gradient, false);
  check_twice(gradient, true);
}

TEST(VmapCustom, GradientThroughVmap) {
  const Function fun = odd_product();
  for (const std::vector<int>& axes : {std::vector<int>{0, 0}, {1, -1}, {-1, 0}}) {
    auto loss = [&](const Function& mapped) {
      return grad(
          [mapped](F x) {
            const Arrays y = mapped(x);
            return Arrays{sum(y[0] * y[0] + y[1])};
          },
          {0, 1});
    };
    const Arrays args = {some(axes[0] < 0 ? Shape{4} : Shape{4, 4}),
                         some(axes[1] < 0 ? Shape{} : Shape{4}, 2)};
    expect_all_close(loss(vmap_with(fun, axes, at_axis(0)))(args), loss(looped(fun, axes, at_axis(0)))(args),
                     64);
  }
}

TEST(VmapCustom, OneCallForAllOutputs) {
  int calls = 0, rules = 0;
  const Function mapped = vmap(odd_product(&calls, &rules), {0, -1}, {0, 0});
  auto loss = [&](F x) {
    const Arrays y = mapped(x);
    return Arrays{sum(y[0]) + sum(y[1])};
  };
  eval(grad(loss, {0, 1})({some({4, 3}), some({}, 2)}));
  EXPECT_EQ(calls, 1);  // on the example; its graph serves all examples
  EXPECT_EQ(rules, 1);
}

TEST(VmapCustom, WhatIsInsideACallIsMappedOnceOnly) {
  int calls = 0;
  const Function inner = odd_product(&calls);
  auto rule = [](F, F c, F) { return Arrays{c[0], Array()}; };
  const Function outer = custom_vjp([&](F x) { return Arrays{exp(inner(x)[0])}; }, rule);
  const Arrays args = {some({4, 3}), some({4}, 2)};
  expect_all_close(vmap(outer, {0, 0}, {0})(args), Arrays{exp(sin(args[0]) * expand_dims(args[1], {1}))}, 16);
  EXPECT_EQ(calls, 1);
}

TEST(VmapCustom, CapturedMappedArguments) {
  // y is not among the primals: the function and its rule see it as a captured array.
  auto fun = [](F x) {
    const Array y = exp(x[1]);
    auto body = [y](F p) { return Arrays{p[0] * y}; };
    auto rule = [y](F, F c, F) { return Arrays{c[0] * y * 2.0}; };
    return custom_vjp(body, rule)({x[0]});
  };
  check_once({"captured", fun, {{{3}}, {{3}}}, 8}, 3);
  check_twice({"captured", fun, {{{3}}, {{3}}}, 8}, true);
  auto loss = [](const Function& mapped) {
    return grad([mapped](F x) { return Arrays{sum(mapped(x)[0])}; });
  };
  const Arrays args = {some({4, 3}), some({4, 3}, 2)};
  expect_close(loss(vmap(fun, {0, 0}, {0}))(args)[0], exp(args[1]) * 2.0, 8);
}

TEST(VmapCustom, IntegerAndMissingGradients) {
  auto body = [](F x) { return Arrays{take(x[0], x[1], 0)}; };
  auto rule = [](F p, F c, F) { return Arrays{broadcast_to(c[0], p[0].shape()), Array()}; };
  const Function fun = custom_vjp(body, rule);
  auto loss = [&](F x) { return Arrays{sum(vmap(fun, {-1, 0}, {0})(x)[0])}; };
  const Arrays g = grad(loss)({some({5}), Array({1, 4, 1}, {3})});
  expect_close(g[0], full({5}, Array(3.f)), 0);
}

TEST(VmapCustom, Checkpoint) {
  auto body = [](F x) { return Arrays{tanh(matmul(x[0], x[1]))}; };
  const Function plain = body, saved = checkpoint(body);
  auto loss = [](const Function& f) {
    return grad([f](F x) { return Arrays{sum(square(f(x)[0]))}; }, {0, 1});
  };
  const Operand x{{2, 3}}, w{{3, 4}};
  check_once({"checkpoint", saved, {x, w}, 64}, 3);
  check_once({"gradient of checkpoint", loss(saved), {x, w}, 256}, 3);
  const Arrays args = {some({5, 2, 3}), some({3, 4}, 2)};
  expect_all_close(loss(vmap(saved, {0, -1}, {0}))(args), loss(vmap(plain, {0, -1}, {0}))(args), 64);
}

// ---- bad input ----

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const ValueError& e) { return e.what(); }
  return "nothing was thrown";
}
Arrays identity(F x) { return x; }

TEST(VmapErrors, NameWhatWasWantedAndWhatCame) {
  const Array x = some({3, 4}), y = some({5});
  const struct {
    std::function<void()> call;
    const char* message;
  } cases[] = {
      {[&] {
         vmap(identity, {0}, {0})({x, y});
       },
       "[vmap] wants one entry of in_axes for each argument, got 1 for 2 arguments"},
      {[&] {
         vmap(identity, {0, 0}, {0, 0})({x, y});
       },
       "[vmap] mapped axes must have one length: argument 0 of shape (3, 4) has 3 along axis 0, argument 1 "
       "of shape (5,) "
       "has 5 along axis 0"},
      {[&] { vmap(identity, {2}, {0})({x}); },
       "[vmap] in_axes[0] must be -1 or an axis of the argument of shape (3, 4), got 2"},
      {[&] {
         vmap(identity, {0, -2}, {0, 0})({x, y});
       },
       "[vmap] in_axes[1] must be -1 or an axis of the argument of shape (5,), got -2"},
      {[&] { vmap(identity, {0}, {0})({Array(1.f)}); },
       "[vmap] in_axes[0] must be -1 or an axis of the argument of shape (), got 0"},
      {[&] { vmap(identity, {-1}, {-1})({x}); },
       "[vmap] wants at least one mapped argument, in_axes has none"},
      {[&] { vmap(identity, {}, {})({}); }, "[vmap] wants at least one mapped argument, in_axes has none"},
      {[&] {
         vmap(identity, {0}, {0, 0})({x});
       },
       "[vmap] wants one entry of out_axes for each output, got 2 for 1 outputs"},
      {[&] { vmap(identity, {0}, {2})({x}); },
       "[vmap] out_axes[0] must be -1 or an axis of the output of shape (4,) and the mapped axis, got 2"},
      {[&] { vmap(identity, {0}, {-2})({x}); },
       "[vmap] out_axes[0] must be -1 or an axis of the output of shape (4,) and the mapped axis, got -2"},
      {[&] { vmap(identity, {0}, {-1})({x}); },
       "[vmap] output 0 depends on a mapped argument: out_axes[0] must be an axis, got -1"},
      {[&] { vmap([](F) { return Arrays(1); }, {0}, {0})({x}); }, "[vmap] output 0 is an empty array handle"},
      {[&] { vmap(identity, {0}, {0})({Array()}); }, "[array] an empty array handle has no value"},
  };
  for (const auto& c : cases) EXPECT_EQ(message_of(c.call), c.message);
}

TEST(VmapErrors, EvaluatingInsideThrowsAndLeavesAllUsable) {
  const Array x = some({3, 4});
  auto peek = [](F in) {
    sum(in[0]).eval();
    return in;
  };
  EXPECT_NE(message_of([&] { vmap(peek, {0}, {0})({x}); }).find("has no value"), std::string::npos);
  expect_close(vmap(identity, {0}, {1})({x})[0], transpose(x), 0);
}

TEST(VmapErrors, OfTheFunctionPassThrough) {
  auto wrong = [](F in) { return Arrays{matmul(in[0], in[0])}; };
  EXPECT_THROW(vmap(wrong, {0}, {0})({some({2, 3, 4})}), ShapeError);
  auto thrower = [](F) -> Arrays { throw std::logic_error("mine"); };
  EXPECT_THROW(vmap(thrower, {0}, {0})({some({2})}), std::logic_error);
}

TEST(VmapErrors, IndicesOutOfBoundsThrowAtEval) {
  auto fun = [](F x) { return Arrays{take(x[0], x[1], 0)}; };
  const Array out = vmap(fun, {0, 0}, {0})({some({2, 3}), Array({0, 3}, {2})})[0];
  EXPECT_THROW(out.eval(), IndexError);
}

}  // namespace
}  // namespace lamina::testing
