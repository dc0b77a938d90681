// What the rows say at the corners, as NumPy has it, spelled out by hand: the other tests take the rows for
// granted.
#include "tile_testing.h"

namespace lamina {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int32_t kLow = std::numeric_limits<int32_t>::min();
using C = std::complex<float>;

template <class Out = void, class T>
auto unary(OpId id, T x) {
  using R = std::conditional_t<std::is_void_v<Out>, T, Out>;
  R out;
  const void* operands[] = {&x};
  simd_tile(id, kDtypeOf<T>)(operands, &out, 1);
  return out;
}
template <class Out = void, class T>
auto binary(OpId id, T x, std::type_identity_t<T> y) {
  using R = std::conditional_t<std::is_void_v<Out>, T, Out>;
  R out;
  const void* operands[] = {&x, &y};
  simd_tile(id, kDtypeOf<T>)(operands, &out, 1);
  return out;
}
void expect_same(float got, float want) {
  if (std::isnan(want)) {
    EXPECT_TRUE(std::isnan(got)) << got;
  } else {
    EXPECT_EQ(got, want);
    EXPECT_EQ(std::signbit(got), std::signbit(want)) << want;
  }
}

class TileSemantics : public testing::EveryTarget {};

TEST_P(TileSemantics, FloorDivideAndRemainderFollowPython) {
  struct Case {
    float x, y, quotient, rest;
  };
  for (auto [x, y, quotient, rest] : std::vector<Case>{{5, 3, 1, 2},
                                                       {-5, 3, -2, 1},
                                                       {5, -3, -2, -1},
                                                       {-5, -3, 1, -2},
                                                       {5, 0, kInf, kNan},
                                                       {0, 0, kNan, kNan},
                                                       {5, kInf, 0, 5},
                                                       {-5, kInf, -1, kInf},
                                                       {kInf, 2, kNan, kNan},
                                                       {kNan, 1, kNan, kNan},
                                                       {1, kNan, kNan, kNan},
                                                       {-0.0f, 3, -0.0f, 0.0f},
                                                       {6, -3, -2, -0.0f},
                                                       {-6, 3, -2, 0.0f},
                                                       {-1e-30f, 1, -1, 1},
                                                       {1e30f, 1e-30f, kInf, 8.166816e-31f},
                                                       {1, 0.1f, 9, 0x1.999996p-4f},
                                                       {-1, 0.1f, -10, 0x1p-26f}}) {
    expect_same(binary(OpId::FloorDivide, x, y), quotient);
    expect_same(binary(OpId::Remainder, x, y), rest);
  }
  struct Whole {
    int32_t x, y, quotient, rest;
  };
  for (auto [x, y, quotient, rest] : std::vector<Whole>{{5, 3, 1, 2},
                                                        {-5, 3, -2, 1},
                                                        {5, -3, -2, -1},
                                                        {-5, -3, 1, -2},
                                                        {5, 0, 0, 0},
                                                        {kLow, -1, kLow, 0},
                                                        {kLow, 0, 0, 0},
                                                        {kLow, 1, kLow, 0},
                                                        {7, kLow, -1, kLow + 7}}) {
    EXPECT_EQ(binary(OpId::FloorDivide, x, y), quotient) << x << " " << y;
    EXPECT_EQ(binary(OpId::Remainder, x, y), rest) << x << " " << y;
  }
  EXPECT_EQ(binary(OpId::FloorDivide, uint8_t{200}, 7), 28);
  EXPECT_EQ(binary(OpId::Remainder, uint8_t{200}, 7), 4);
  EXPECT_FALSE(binary(OpId::Remainder, true, false));
}

TEST_P(TileSemantics, IntegersWrapAround) {
  EXPECT_EQ(unary(OpId::Negative, kLow), kLow);
  EXPECT_EQ(unary(OpId::Abs, kLow), kLow);
  EXPECT_EQ(unary(OpId::Negative, uint8_t{200}), 56);
  EXPECT_EQ(binary(OpId::Add, uint8_t{200}, 100), 44);
  EXPECT_EQ(binary(OpId::Multiply, int32_t{65536}, 65536), 0);
  EXPECT_EQ(binary(OpId::Multiply, uint16_t{65535}, 65535), 1);
  EXPECT_EQ(unary(OpId::Square, uint8_t{200}), 64);
  EXPECT_EQ(binary(OpId::Subtract, kLow, 1), std::numeric_limits<int32_t>::max());
}

TEST_P(TileSemantics, Powers) {
  EXPECT_EQ(binary(OpId::Power, int32_t{2}, 31), kLow);
  EXPECT_EQ(binary(OpId::Power, int32_t{2}, 33), 0);
  EXPECT_EQ(binary(OpId::Power, int32_t{7}, 40), -142118463);
  EXPECT_EQ(binary(OpId::Power, int32_t{5}, -3), 0);
  EXPECT_EQ(binary(OpId::Power, int32_t{1}, -3), 1);
  EXPECT_EQ(binary(OpId::Power, int32_t{-1}, -3), -1);
  EXPECT_EQ(binary(OpId::Power, int32_t{-1}, -2), 1);
  EXPECT_EQ(binary(OpId::Power, int32_t{0}, -1), 0);
  EXPECT_EQ(binary(OpId::Power, int32_t{0}, 0), 1);
  EXPECT_EQ(binary(OpId::Power, false, true), false);
  EXPECT_EQ(binary(OpId::Power, false, false), true);
  struct Case {
    float x, y, want;
  };
  for (auto [x, y, want] : std::vector<Case>{{-5, 3, -125},       {-5, 0.5f, kNan},      {0, 0, 1},
                                             {kNan, 0, 1},        {1, kNan, 1},          {kNan, 1, kNan},
                                             {-1, kInf, 1},       {-1, -kInf, 1},        {0.5f, kInf, 0},
                                             {0.5f, -kInf, kInf}, {-0.0f, 3, -0.0f},     {-0.0f, -3, -kInf},
                                             {-0.0f, 2, 0},       {-kInf, 3, -kInf},     {-kInf, 0.5f, kInf},
                                             {-kInf, -3, -0.0f},  {-2, 16777215, -kInf}, {2, -149, 0x1p-149f},
                                             {2, 128, kInf},      {10, 10, 1e10f},       {3, 4, 81}}) {
    expect_same(binary(OpId::Power, x, y), want);
  }
  EXPECT_EQ(binary(OpId::Power, C(1, 5), C(2, 0)), C(-24, 10));
  EXPECT_EQ(binary(OpId::Power, C(0, 0), C(0, 0)), C(1, 0));
  EXPECT_EQ(binary(OpId::Power, C(0, 0), C(2, 0)), C(0, 0));
}

TEST_P(TileSemantics, ShiftsBeyondTheWidth) {
  for (int32_t by : {32, 33, 1000, -1}) {
    EXPECT_EQ(binary(OpId::LeftShift, int32_t{5}, by), 0);
    EXPECT_EQ(binary(OpId::RightShift, int32_t{5}, by), 0);
    EXPECT_EQ(binary(OpId::RightShift, int32_t{-5}, by), -1);
  }
  EXPECT_EQ(binary(OpId::LeftShift, uint8_t{200}, 100), 0);
  EXPECT_EQ(binary(OpId::RightShift, int64_t{-8}, 2), -2);
  EXPECT_EQ(binary(OpId::LeftShift, int32_t{1}, 31), kLow);
}

TEST_P(TileSemantics, OrderOfNumbersAndNan) {
  for (OpId id : {OpId::Maximum, OpId::Minimum}) {
    expect_same(binary(id, kNan, 1.0f), kNan);
    expect_same(binary(id, 1.0f, kNan), kNan);
  }
  for (OpId id : {OpId::Equal, OpId::Less, OpId::LessEqual, OpId::Greater, OpId::GreaterEqual}) {
    EXPECT_FALSE(binary<bool>(id, kNan, kNan));
    EXPECT_FALSE(binary<bool>(id, C(kNan, 0), C(kNan, 0)));
  }
  EXPECT_TRUE(binary<bool>(OpId::NotEqual, kNan, kNan));
  EXPECT_TRUE(binary<bool>(OpId::LogicalAnd, kNan, 1.0f));
  EXPECT_FALSE(unary<bool>(OpId::LogicalNot, kNan));
  EXPECT_TRUE(unary<bool>(OpId::LogicalNot, -0.0f));
  // Real part first, then imaginary part.
  EXPECT_TRUE(binary<bool>(OpId::Less, C(1, 5), C(2, 0)));
  EXPECT_TRUE(binary<bool>(OpId::Greater, C(1, 1), C(1, -1)));
  EXPECT_EQ(binary(OpId::Maximum, C(1, 1), C(1, -1)), C(1, 1));
  EXPECT_TRUE(std::isnan(binary(OpId::Minimum, C(1, 0), C(0, kNan)).imag()));
}

TEST_P(TileSemantics, SignsRoundingAndParts) {
  expect_same(unary(OpId::Sign, kNan), kNan);
  expect_same(unary(OpId::Sign, -0.0f), 0);
  expect_same(unary(OpId::Sign, -kInf), -1);
  EXPECT_EQ(unary(OpId::Sign, C(3, 4)), C(0.6f, 0.8f));
  EXPECT_EQ(unary(OpId::Sign, C(kInf, -1)), C(1, 0));
  EXPECT_EQ(unary(OpId::Sign, uint8_t{9}), 1);
  expect_same(unary(OpId::Round, 2.5f), 2);
  expect_same(unary(OpId::Round, -0.5f), -0.0f);
  EXPECT_EQ(unary(OpId::Round, C(2.5f, -1.5f)), C(2, -2));
  expect_same(unary(OpId::Floor, -0.5f), -1);
  expect_same(unary(OpId::Ceil, -0.5f), -0.0f);
  EXPECT_EQ(unary(OpId::Floor, int32_t{-7}), -7);
  EXPECT_EQ(unary<float>(OpId::Abs, C(3, -4)), 5.0f);
  EXPECT_EQ(unary<float>(OpId::Imag, C(3, -4)), -4.0f);
  EXPECT_EQ(unary<float>(OpId::Real, C(3, -4)), 3.0f);
  EXPECT_EQ(unary(OpId::Imag, 3.0f), 0.0f);
  EXPECT_EQ(unary(OpId::Conjugate, C(3, -4)), C(3, 4));
  EXPECT_EQ(unary(OpId::BitwiseInvert, int32_t{0}), -1);
  EXPECT_EQ(unary(OpId::BitwiseInvert, true), false);
  EXPECT_TRUE(unary<bool>(OpId::IsNan, C(0, kNan)));
  EXPECT_TRUE(unary<bool>(OpId::IsInf, C(0, -kInf)));
  EXPECT_TRUE(unary<bool>(OpId::IsFinite, int32_t{3}));
  EXPECT_FALSE(unary<bool>(OpId::IsPosInf, -kInf));
  EXPECT_TRUE(unary<bool>(OpId::IsNegInf, -kInf));
  EXPECT_FALSE(unary<bool>(OpId::IsNegInf, std::numeric_limits<uint8_t>::max()));
}

TEST_P(TileSemantics, EdgesOfElementaryFunctions) {
  struct Case {
    OpId id;
    float x, want;
  };
  for (auto [id, x, want] : std::vector<Case>{
           {OpId::Log, 0, -kInf},         {OpId::Log, -1, kNan},       {OpId::Log, kInf, kInf},
           {OpId::Log1p, -1, -kInf},      {OpId::Log1p, -0.0f, -0.0f}, {OpId::Log1p, -2, kNan},
           {OpId::Exp, -kInf, 0},         {OpId::Exp, 1000, kInf},     {OpId::Expm1, -kInf, -1},
           {OpId::Expm1, kInf, kInf},     {OpId::Sqrt, -1, kNan},      {OpId::Rsqrt, 0, kInf},
           {OpId::Rsqrt, kInf, 0},        {OpId::Sin, kInf, kNan},     {OpId::Cos, -kInf, kNan},
           {OpId::Sin, -0.0f, -0.0f},     {OpId::Tanh, kInf, 1},       {OpId::Tanh, -kInf, -1},
           {OpId::Erf, kInf, 1},          {OpId::Erf, -10, -1},        {OpId::Erfinv, 1, kInf},
           {OpId::Erfinv, -1, -kInf},     {OpId::Erfinv, 1.5f, kNan},  {OpId::Arcsin, 1.5f, kNan},
           {OpId::Arctanh, 1, kInf},      {OpId::Arctanh, -1, -kInf},  {OpId::Arctanh, 2, kNan},
           {OpId::Arccosh, 0.5f, kNan},   {OpId::Arccosh, 1, 0},       {OpId::Sigmoid, -kInf, 0},
           {OpId::Sigmoid, kInf, 1},      {OpId::Cosh, -kInf, kInf},   {OpId::Log2, 8, 3},
           {OpId::Log2, 0x1p-140f, -140}, {OpId::Log10, 1000, 3},      {OpId::Log10, 1e10f, 10}}) {
    expect_same(unary(id, x), want);
    expect_same(static_cast<float>(unary(id, static_cast<double>(x))), want);
  }
  expect_same(binary(OpId::LogAddExp, -kInf, -kInf), -kInf);
  expect_same(binary(OpId::LogAddExp, kInf, -kInf), kInf);
  expect_same(binary(OpId::LogAddExp, kInf, kNan), kNan);
  expect_same(binary(OpId::Arctan2, 0.0f, -0.0f), 3.14159265f);
  expect_same(binary(OpId::Arctan2, -0.0f, 0.0f), -0.0f);
  expect_same(binary(OpId::Arctan2, kInf, -kInf), 2.35619449f);
}

TEST_P(TileSemantics, SelectMovesBitsOfEveryDtype) {
  for (int i = 0; i < kNumDtypes; ++i) {
    Dtype dtype = static_cast<Dtype>(i);
    size_t size = itemsize(dtype);
    for (size_t n = 0; n <= 130; ++n) {
      testing::Guarded x(n * size, size), y(n * size, size), out(n * size, size), c(n, 1);
      std::vector<unsigned char> want(n * size);
      for (size_t k = 0; k < n * size; ++k) {
        bool pick = (k / size) % 3 == 1;
        static_cast<unsigned char*>(c.data())[k / size] = pick;
        static_cast<unsigned char*>(x.data())[k] = static_cast<unsigned char>(k % 2);
        static_cast<unsigned char*>(y.data())[k] = static_cast<unsigned char>(k / 2 % 2);
        want[k] = static_cast<unsigned char>(pick ? k % 2 : k / 2 % 2);
      }
      const void* operands[] = {c.data(), x.data(), y.data()};
      simd_tile(OpId::Select, dtype)(operands, out.data(), n);
      ASSERT_EQ(n ? std::memcmp(out.data(), want.data(), n * size) : 0, 0)
          << dtype_name(dtype) << " n = " << n;
      ASSERT_TRUE(out.intact() && x.intact() && y.intact() && c.intact())
          << dtype_name(dtype) << " n = " << n;
    }
  }
}

LAMINA_INSTANTIATE_TARGETS(TileSemantics);

}  // namespace
}  // namespace lamina
