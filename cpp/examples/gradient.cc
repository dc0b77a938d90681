// Fits a line by gradient descent: value_and_grad over a function of arrays.
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "lamina/ops.h"
#include "lamina/transforms.h"

using lamina::Array;
using lamina::Arrays;

int main() {
  lamina::random::seed(7);
  const Array x = lamina::random::normal({256});
  const Array y = 3.0 * x + 0.5 + 0.01 * lamina::random::normal({256});

  auto loss = [&](const Arrays& p) { return Arrays{lamina::mean(lamina::square(p[0] * x + p[1] - y))}; };
  auto step = lamina::value_and_grad(loss, {0, 1});

  Arrays p = {Array(0.0f), Array(0.0f)};
  for (int i = 0; i < 200; ++i) {
    const auto [value, gradient] = step(p);
    p = {p[0] - 0.1 * gradient[0], p[1] - 0.1 * gradient[1]};
    lamina::eval(p);
    if (i % 50 == 0) std::printf("step %3d  loss %.6f\n", i, static_cast<double>(value[0].item<float>()));
  }
  const double slope = static_cast<double>(p[0].item<float>()),
               offset = static_cast<double>(p[1].item<float>());
  std::printf("slope %.3f, offset %.3f\n", slope, offset);
  return std::fabs(slope - 3) < 0.01 && std::fabs(offset - 0.5) < 0.01 ? EXIT_SUCCESS : EXIT_FAILURE;
}
