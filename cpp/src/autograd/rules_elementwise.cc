#include <array>
#include <cmath>

#include "autograd/rules.h"

namespace lamina::autograd {
namespace {

// A constant in the dtype of `like`'s real numbers.
Array num(double v, const Array& like) { return Array(v, like.dtype()); }
Array zero_like(const Array& a) { return Array(int64_t{0}, a.dtype()); }
// g where the condition holds, else 0.
Array only(const Array& condition, const Array& g) { return where(condition, g, zero_like(g)); }

struct Row {
  OpId op;
  ElementwiseRules rules;
};

constexpr ElementwiseRules kZero{};
constexpr Row unary(OpId op, ElementwiseRule x) { return {op, {{x, nullptr, nullptr}}}; }
constexpr Row flat(OpId op) { return {op, kZero}; }
constexpr Row binary(OpId op, ElementwiseRule x, ElementwiseRule y) { return {op, {{x, y, nullptr}}}; }

Array abs_rule(const Grad& g) { return multiply(g.out, sign(g.x)); }

// x / |x| turns with the part of a step across x; real signs are flat.
Array sign_rule(const Grad& g) {
  if (!is_complex(g.x.dtype())) return Array();
  const Array size = abs(g.x);
  const Array nowhere = equal(size, num(0, size));
  const Array along = real(multiply(conjugate(g.value), g.out));
  return only(logical_not(nowhere),
              divide(subtract(g.out, multiply(g.value, along)), where(nowhere, num(1, size), size)));
}

// x * log-free derivative of x^y; 0 where y is 0, so that 0^0 has no NaN.
Array power_x(const Grad& g) {
  const Array d = multiply(g.y, power(g.x, subtract(g.y, num(1, g.y))));
  return multiply(g.out, only(not_equal(g.y, num(0, g.y)), d));
}
Array power_y(const Grad& g) {
  const Array safe = where(equal(g.x, num(0, g.x)), num(1, g.x), g.x);
  return multiply(g.out, multiply(g.value, log(safe)));
}

// Extremum: ties share the gradient.
Array larger(const Grad& g, const Array& mine, const Array& other, bool max) {
  const Array wins = max ? greater(mine, other) : less(mine, other);
  const Array tie = equal(mine, other);
  return where(wins, g.out, only(tie, multiply(g.out, num(0.5, g.out))));
}

// exp(x) / (exp(x) + exp(y)); one half where both are the same infinity.
Array sigmoid_of_difference(const Array& x, const Array& y) {
  const Array difference = where(equal(x, y), num(0, x), subtract(x, y));
  if (!is_complex(x.dtype())) return sigmoid(difference);
  return num(1, x) / (num(1, x) + exp(negative(difference)));
}

constexpr double kTwoOverRootPi = 1.1283791670955126, kHalfRootPi = 0.8862269254527580;
constexpr double kLog2E = 1.4426950408889634, kLog10E = 0.4342944819032518;

constexpr Row kRows[] = {
    unary(OpId::Negative, [](const Grad& g) { return negative(g.out); }),
    unary(OpId::Abs, abs_rule),
    unary(OpId::Sign, sign_rule),
    unary(OpId::Square, [](const Grad& g) { return g.out * (num(2, g.x) * g.x); }),
    unary(OpId::Sqrt, [](const Grad& g) { return g.out * (num(0.5, g.x) / g.value); }),
    unary(OpId::Rsqrt, [](const Grad& g) { return g.out * (num(-0.5, g.x) * (g.value / g.x)); }),
    unary(OpId::Reciprocal, [](const Grad& g) { return g.out * negative(square(g.value)); }),
    unary(OpId::Exp, [](const Grad& g) { return g.out * g.value; }),
    unary(OpId::Expm1, [](const Grad& g) { return g.out * (g.value + num(1, g.x)); }),
    unary(OpId::Log, [](const Grad& g) { return g.out / g.x; }),
    unary(OpId::Log2, [](const Grad& g) { return g.out * (num(kLog2E, g.x) / g.x); }),
    unary(OpId::Log10, [](const Grad& g) { return g.out * (num(kLog10E, g.x) / g.x); }),
    unary(OpId::Log1p, [](const Grad& g) { return g.out / (g.x + num(1, g.x)); }),
    unary(OpId::Sin, [](const Grad& g) { return g.out * cos(g.x); }),
    unary(OpId::Cos, [](const Grad& g) { return g.out * negative(sin(g.x)); }),
    unary(OpId::Tan, [](const Grad& g) { return g.out * (num(1, g.x) + square(g.value)); }),
    unary(OpId::Arcsin, [](const Grad& g) { return g.out * rsqrt(num(1, g.x) - square(g.x)); }),
    unary(OpId::Arccos, [](const Grad& g) { return g.out * negative(rsqrt(num(1, g.x) - square(g.x))); }),
    unary(OpId::Arctan, [](const Grad& g) { return g.out / (num(1, g.x) + square(g.x)); }),
    unary(OpId::Sinh, [](const Grad& g) { return g.out * cosh(g.x); }),
    unary(OpId::Cosh, [](const Grad& g) { return g.out * sinh(g.x); }),
    unary(OpId::Tanh, [](const Grad& g) { return g.out * (num(1, g.x) - square(g.value)); }),
    unary(OpId::Arcsinh, [](const Grad& g) { return g.out * rsqrt(square(g.x) + num(1, g.x)); }),
    unary(OpId::Arccosh, [](const Grad& g) { return g.out * rsqrt(square(g.x) - num(1, g.x)); }),
    unary(OpId::Arctanh, [](const Grad& g) { return g.out / (num(1, g.x) - square(g.x)); }),
    unary(OpId::Erf,
          [](const Grad& g) { return g.out * (num(kTwoOverRootPi, g.x) * exp(negative(square(g.x)))); }),
    unary(OpId::Erfinv, [](const Grad& g) { return g.out * (num(kHalfRootPi, g.x) * exp(square(g.value))); }),
    unary(OpId::Sigmoid, [](const Grad& g) { return g.out * (g.value * (num(1, g.x) - g.value)); }),
    flat(OpId::Floor),
    flat(OpId::Ceil),
    flat(OpId::Trunc),
    flat(OpId::Round),
    flat(OpId::LogicalNot),
    flat(OpId::BitwiseInvert),
    flat(OpId::IsNan),
    flat(OpId::IsInf),
    flat(OpId::IsFinite),
    flat(OpId::IsPosInf),
    flat(OpId::IsNegInf),
    unary(OpId::Conjugate, [](const Grad& g) { return conjugate(g.out); }),
    unary(OpId::Real, [](const Grad& g) { return g.out; }),
    unary(OpId::Imag, [](const Grad& g) { return is_complex(g.x.dtype()) ? g.out : Array(); }),
    binary(
        OpId::Add, [](const Grad& g) { return g.out; }, [](const Grad& g) { return g.out; }),
    // Summed first where y is broadcast: fewer numbers to negate.
    binary(
        OpId::Subtract, [](const Grad& g) { return g.out; },
        [](const Grad& g) { return negative(sum_to(g.out, g.y.shape())); }),
    binary(
        OpId::Multiply, [](const Grad& g) { return g.out * g.y; }, [](const Grad& g) { return g.out * g.x; }),
    binary(
        OpId::Divide, [](const Grad& g) { return g.out / g.y; },
        [](const Grad& g) { return g.out * negative(g.value / g.y); }),
    flat(OpId::FloorDivide),
    binary(
        OpId::Remainder, [](const Grad& g) { return g.out; },
        [](const Grad& g) { return g.out * negative(floor_divide(g.x, g.y)); }),
    binary(OpId::Power, power_x, power_y),
    binary(
        OpId::Maximum, [](const Grad& g) { return larger(g, g.x, g.y, true); },
        [](const Grad& g) { return larger(g, g.y, g.x, true); }),
    binary(
        OpId::Minimum, [](const Grad& g) { return larger(g, g.x, g.y, false); },
        [](const Grad& g) { return larger(g, g.y, g.x, false); }),
    // Both infinite and equal: half each, where exp(x - value) would be NaN.
    binary(
        OpId::LogAddExp, [](const Grad& g) { return g.out * sigmoid_of_difference(g.x, g.y); },
        [](const Grad& g) { return g.out * sigmoid_of_difference(g.y, g.x); }),
    binary(
        OpId::Arctan2, [](const Grad& g) { return g.out * (g.y / (square(g.x) + square(g.y))); },
        [](const Grad& g) { return g.out * negative(g.x / (square(g.x) + square(g.y))); }),
    flat(OpId::Equal),
    flat(OpId::NotEqual),
    flat(OpId::Less),
    flat(OpId::LessEqual),
    flat(OpId::Greater),
    flat(OpId::GreaterEqual),
    flat(OpId::LogicalAnd),
    flat(OpId::LogicalOr),
    flat(OpId::LogicalXor),
    flat(OpId::BitwiseAnd),
    flat(OpId::BitwiseOr),
    flat(OpId::BitwiseXor),
    flat(OpId::LeftShift),
    flat(OpId::RightShift),
    {OpId::Select,
     {{nullptr, [](const Grad& g) { return only(g.x, g.out); },
       [](const Grad& g) { return where(g.x, zero_like(g.out), g.out); }}}},
};

// A row of the tables without a rule does not compile.
constexpr bool has_rule(OpId op) {
  for (const Row& r : kRows) {
    if (r.op == op) return true;
  }
  return false;
}
#define UNARY(id, ...) static_assert(has_rule(OpId::id), "no gradient rule for " #id);
#define BINARY(id, ...) static_assert(has_rule(OpId::id), "no gradient rule for " #id);
#define TERNARY(id, ...) static_assert(has_rule(OpId::id), "no gradient rule for " #id);
#include "lamina/table/binary.def"
#include "lamina/table/ternary.def"
#include "lamina/table/unary.def"
#undef UNARY
#undef BINARY
#undef TERNARY

constexpr auto kByOp = [] {
  std::array<ElementwiseRules, kNumOps> table{};
  for (const Row& r : kRows) table[static_cast<size_t>(r.op)] = r.rules;
  return table;
}();

}  // namespace

const ElementwiseRules& elementwise_rules(OpId op) { return kByOp[static_cast<size_t>(op)]; }

}  // namespace lamina::autograd
