// Arrays are lazy: an expression is a graph until it is needed, and then runs fused.
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "lamina/ops.h"

int main() {
  const lamina::Array x = lamina::linspace(-3, 3, 7);
  const lamina::Array gelu = x * 0.5 * (1.0 + lamina::erf(x * std::sqrt(0.5)));
  std::printf("evaluated before eval: %s\n", gelu.is_available() ? "yes" : "no");
  gelu.eval();  // one pass over memory

  double worst = 0;
  for (int i = 0; i < 7; ++i) {
    const double v = -3.0 + i;
    const double expected = v * 0.5 * (1 + std::erf(v * std::sqrt(0.5)));
    worst = std::fmax(worst, std::fabs(static_cast<double>(gelu.data<float>()[i]) - expected));
    std::printf("gelu(%+.0f) = %+.6f\n", v, static_cast<double>(gelu.data<float>()[i]));
  }

  try {
    lamina::matmul(lamina::zeros({2, 3}), lamina::zeros({4, 5}));
  } catch (const lamina::ShapeError& e) { std::printf("an error: %s\n", e.what()); }
  return worst < 1e-6 ? EXIT_SUCCESS : EXIT_FAILURE;
}
