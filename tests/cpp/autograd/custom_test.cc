// Functions with rules of their own, from C++.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "lamina/error.h"
#include "lamina/ops.h"
#include "lamina/transforms.h"

namespace lamina {
namespace {

using F = const Arrays&;

// x * y, each rule wrong by a factor of its own, so that a result tells which of them ran.
CustomRules odd_rules() {
  CustomRules rules;
  rules.vjp = [](F p, F c, F) { return Arrays{c[0] * p[1] * 3.0, Array()}; };
  rules.jvp = [](F p, F t) { return Arrays{t[0].valid() ? t[0] * p[1] * 5.0 : Array()}; };
  rules.vmap = [](F p, const std::vector<int>& axes) {
    return std::pair(Arrays{p[0] * p[1] * 7.0}, std::vector<int>{axes[0]});
  };
  return rules;
}
Arrays product(F x) { return {x[0] * x[1]}; }

float number(const Array& a) { return a.item<float>(); }

TEST(CustomFunction, EachRuleStandsForTheFunctionInItsTransform) {
  const Function f = custom_function(product, odd_rules());
  const Arrays at = {Array(2.f), Array(10.f)}, along = {Array(1.f), Array(1.f)};
  EXPECT_EQ(number(f(at)[0]), 20);
  EXPECT_EQ(number(vjp(f, at, {Array(1.f)}).second[0]), 30);
  EXPECT_EQ(number(vjp(f, at, {Array(1.f)}).second[1]), 0);
  EXPECT_EQ(number(jvp(f, at, along).second[0]), 50);
  const Array many = Array({1.f, 2.f}, {2});
  EXPECT_EQ(number(sum(vmap(f, {0, -1}, {0})({many, Array(10.f)})[0])), 210);
}

TEST(CustomFunction, WithoutARuleTheFunctionIsTransformed) {
  const Arrays at = {Array(2.f), Array(10.f)}, along = {Array(1.f), Array(1.f)};
  CustomRules only;
  only.jvp = odd_rules().jvp;
  EXPECT_EQ(number(grad(custom_function(product, only))(at)[0]), 10);
  only = {};
  only.vjp = odd_rules().vjp;
  EXPECT_EQ(number(jvp(custom_function(product, only), at, along).second[0]), 12);
}

TEST(CustomFunction, CompiledTracesKeepTheRules) {
  const Function f = compile(custom_function(product, odd_rules()));
  for (float x : {1.f, 2.f}) {
    const Arrays at = {Array(x), Array(10.f)};
    EXPECT_EQ(number(f(at)[0]), 10 * x);
    EXPECT_EQ(number(grad(f)(at)[0]), 30);
    EXPECT_EQ(number(jvp(f, at, {Array(1.f), Array(0.f)}).second[0]), 50);
  }
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const ValueError& e) { return e.what(); }
  return "nothing was thrown";
}

TEST(CustomFunction, WrongAnswersSayWhatWasWanted) {
  const Arrays at = {Array(2.f), Array(10.f)};
  CustomRules r;
  r.vjp = [](F, F, F) { return Arrays{Array(1.f)}; };
  EXPECT_EQ(message_of([&] { vjp(custom_function(product, r), at, {Array(1.f)}); }),
            "[custom_function] the rule for vjp must give one gradient for each of 2 arrays, gave 1");
  r.jvp = [](F, F) { return Arrays{zeros({3}, Dtype::kFloat32)}; };
  EXPECT_EQ(message_of([&] { jvp(custom_function(product, r), at, at); }),
            "[custom_function] the rule for jvp must give tangent 0 the shape (), gave (3,)");
  auto mapped = [&](const Array& out, int axis) {
    r.vmap = [=](F, const std::vector<int>&) { return std::pair(Arrays{out}, std::vector<int>{axis}); };
    return message_of([&] {
      vmap(custom_function(product, r), {0, -1}, {0})({Array({1.f, 2.f}, {2}), at[1]});
    });
  };
  EXPECT_EQ(mapped(Array(), 0), "[custom_function] the rule for vmap gave an empty handle as output 0");
  EXPECT_EQ(mapped(Array(1.f), 0),
            "[custom_function] the rule for vmap gave axis 0 for output 0 of shape ()");
  EXPECT_EQ(mapped(zeros({2, 1, 1}, Dtype::kFloat32), 2),
            "[custom_function] the rule for vmap must give output 0 the shape (2,) (mapped axis 2), gave (2, "
            "1, 1)");
}

TEST(CustomFunction, CheckpointsDrawTheSameNumbersAgain) {
  const Function noisy = [](F x) {
    return Arrays{x[0] * random::uniform(Array(0.f), Array(1.f), {4}, Dtype::kFloat32)};
  };
  random::seed(3);
  const auto [outs, grads] =
      vjp(checkpoint(noisy), {ones({4}, Dtype::kFloat32)}, {ones({4}, Dtype::kFloat32)});
  EXPECT_EQ(number(sum(abs(outs[0] - grads[0]))), 0);
  // The sequence went on once.
  const Array after = random::next_key();
  random::seed(3);
  random::next_key();
  EXPECT_TRUE(all(equal(after, random::next_key())).item<bool>());
}

}  // namespace
}  // namespace lamina
