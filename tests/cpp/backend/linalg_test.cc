#include "backend/reference/linalg.h"

#include "lamina/error.h"
#include "view_testing.h"

namespace lamina {
namespace {

using namespace view_testing;
using Wide = std::complex<double>;

double epsilon(Dtype t) { return t == Dtype::kFloat64 ? 0x1p-52 : 0x1p-23; }

Wide number(const View& v, int64_t i) {
  if (v.dtype == Dtype::kFloat64) return value<double>(v, i);
  if (v.dtype == Dtype::kFloat32) return value<float>(v, i);
  return Wide(value<std::complex<float>>(v, i));
}

// One matrix of a batch in double precision.
struct Dense {
  int64_t rows, columns;
  std::vector<Wide> at;
  Dense(int64_t r, int64_t c) : rows(r), columns(c), at(static_cast<size_t>(r * c)) {}
  Dense(const View& v, int64_t which) : Dense(v.shape[v.shape.size() - 2], v.shape.back()) {
    for (int64_t i = 0; i < rows * columns; ++i)
      at[static_cast<size_t>(i)] = number(v, which * rows * columns + i);
  }
  Wide& operator()(int64_t i, int64_t j) { return at[static_cast<size_t>(i * columns + j)]; }
  Wide operator()(int64_t i, int64_t j) const { return at[static_cast<size_t>(i * columns + j)]; }
  double norm() const {
    double sum = 0;
    for (const Wide& x : at) sum += std::norm(x);
    return std::sqrt(sum);
  }
};

Dense product(const Dense& a, const Dense& b) {
  Dense out(a.rows, b.columns);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t k = 0; k < a.columns; ++k) {
      for (int64_t j = 0; j < b.columns; ++j) out(i, j) += a(i, k) * b(k, j);
    }
  }
  return out;
}
Dense adjoint(const Dense& a) {
  Dense out(a.columns, a.rows);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.columns; ++j) out(j, i) = std::conj(a(i, j));
  }
  return out;
}
Dense scaled_columns(Dense a, const View& values, int64_t which) {
  const int64_t k = values.shape.back();
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.columns; ++j) a(i, j) *= j < k ? number(values, which * k + j) : Wide();
  }
  return a;
}
Dense first_columns(const Dense& a, int64_t k) {
  Dense out(a.rows, k);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < k; ++j) out(i, j) = a(i, j);
  }
  return out;
}
double distance(const Dense& a, const Dense& b) {
  Dense d = a;
  for (size_t i = 0; i < d.at.size(); ++i) d.at[i] -= b.at[i];
  return d.norm();
}
Dense identity(int64_t n) {
  Dense out(n, n);
  for (int64_t i = 0; i < n; ++i) out(i, i) = 1;
  return out;
}

// Backward errors of these methods grow no faster than n in practice (their proofs say n^1.5 or more).
double bound(const View& a, double norm) {
  const auto n = static_cast<double>(std::max(a.shape.back(), a.shape[a.shape.size() - 2]));
  return 8 * n * epsilon(a.dtype) * norm;
}

constexpr Dtype kReal[] = {Dtype::kFloat32, Dtype::kFloat64};
constexpr Dtype kAll[] = {Dtype::kFloat32, Dtype::kFloat64, Dtype::kComplex64};
constexpr std::pair<int64_t, int64_t> kSizes[] = {{1, 1},   {2, 2},   {3, 5},   {5, 3},   {16, 16}, {17, 40},
                                                  {40, 17}, {33, 33}, {100, 7}, {7, 100}, {90, 90}};

Box normal(Dtype t, const Shape& shape, uint64_t seed) {
  return random_box(t, shape, Layout::kDense, seed, Values::kNormal);
}

TEST(Linalg, LuFactorsRebuildTheMatrix) {
  for (Dtype t : kReal) {
    for (auto [m, n] : kSizes) {
      const int64_t k = std::min(m, n);
      const Box a = normal(t, {3, m, n}, 1), packed(t, {3, m, n}), pivots(Dtype::kUInt32, {3, k}),
                order(Dtype::kUInt32, {3, m});
      reference::lu(a, packed, pivots, order);
      for (int64_t b = 0; b < 3; ++b) {
        const Dense f(packed, b);
        Dense l(m, k), u(k, n);
        for (int64_t i = 0; i < m; ++i) {
          const int64_t r = value<uint32_t>(order, b * m + i);
          for (int64_t j = 0; j < k; ++j) l(i, j) = r == j ? Wide(1) : j < r ? f(r, j) : Wide();
        }
        for (int64_t i = 0; i < k; ++i) {
          for (int64_t j = i; j < n; ++j) u(i, j) = f(i, j);
          EXPECT_GE(value<uint32_t>(pivots, b * k + i), i);
          EXPECT_LT(value<uint32_t>(pivots, b * k + i), m);
        }
        for (const Wide& x : l.at) EXPECT_LE(std::abs(x), 1.0);
        EXPECT_LE(distance(product(l, u), Dense(a, b)), bound(a, l.norm() * u.norm()));
      }
      EXPECT_TRUE(packed.guards_intact() && pivots.guards_intact() && order.guards_intact());
    }
  }
}

TEST(Linalg, SolutionsSolve) {
  for (Dtype t : kReal) {
    for (int64_t n : {1, 2, 16, 17, 33, 90}) {
      const Box a = normal(t, {4, n, n}, 2), b = normal(t, {4, n, 3}, 3), x(t, {4, n, 3});
      expect_same_for_all_thread_counts(x, [&] { reference::solve(a, b, x); });
      for (int64_t i = 0; i < 4; ++i) {
        const Dense m(a, i), y(x, i);
        EXPECT_LE(distance(product(m, y), Dense(b, i)), bound(a, m.norm() * y.norm()));
      }
      for (bool upper : {false, true}) {
        // The other triangle must not be read.
        Box triangle = normal(t, {4, n, n}, 4);
        visit_dtype(t, [&]<class T>(std::type_identity<T>) {
          for (int64_t i = 0; i < 4 * n * n; ++i) {
            const int64_t r = i / n % n, c = i % n;
            if (upper ? r > c : r < c) value<T>(triangle, i) = from_double<T>(NAN);
            if (r == c) value<T>(triangle, i) = from_double<T>(2.0 + static_cast<double>(r % 3));
          }
        });
        reference::solve_triangular(triangle, b, upper, x);
        for (int64_t i = 0; i < 4; ++i) {
          Dense m(triangle, i);
          for (Wide& v : m.at) v = std::isnan(v.real()) ? Wide() : v;
          EXPECT_LE(distance(product(m, Dense(x, i)), Dense(b, i)), bound(a, m.norm() * Dense(x, i).norm()));
        }
      }
    }
  }
}

TEST(Linalg, CholeskyAndQrRebuildTheMatrix) {
  for (Dtype t : kReal) {
    for (auto [m, n] : kSizes) {
      const int64_t k = std::min(m, n);
      const Box a = normal(t, {2, m, n}, 5), q(t, {2, m, k}), r(t, {2, k, n});
      reference::qr(a, q, r);
      for (int64_t b = 0; b < 2; ++b) {
        const Dense left(q, b), right(r, b);
        EXPECT_LE(distance(product(left, right), Dense(a, b)), bound(a, Dense(a, b).norm()));
        EXPECT_LE(distance(product(adjoint(left), left), identity(k)), bound(a, std::sqrt(k)));
        for (int64_t i = 0; i < k; ++i) {
          for (int64_t j = 0; j < i; ++j) EXPECT_EQ(right(i, j), Wide());
        }
      }
      Box gram(t, {m, m}), root(t, {m, m});
      visit_dtype(t, [&]<class T>(std::type_identity<T>) {
        const Dense x(a, 0), g = product(x, adjoint(x));
        for (int64_t i = 0; i < m * m; ++i) {
          value<T>(gram, i) =
              from_double<T>(g.at[static_cast<size_t>(i)].real() + (i % (m + 1) == 0 ? 1.0 : 0.0));
        }
      });
      for (bool upper : {false, true}) {
        reference::cholesky(gram, upper, root);
        const Dense f(root, 0), whole(gram, 0);
        const Dense again = upper ? product(adjoint(f), f) : product(f, adjoint(f));
        EXPECT_LE(distance(again, whole), bound(gram, whole.norm()));
        for (int64_t i = 0; i < m; ++i) {
          for (int64_t j = 0; j < i; ++j) EXPECT_EQ(upper ? f(i, j) : f(j, i), Wide());
        }
      }
    }
  }
}

TEST(Linalg, SingularValuesAndVectors) {
  for (Dtype t : kAll) {
    const Dtype real = t == Dtype::kFloat64 ? t : Dtype::kFloat32;
    for (auto [m, n] : kSizes) {
      const int64_t k = std::min(m, n);
      const Box a = normal(t, {2, m, n}, 6), s(real, {2, k}), only(real, {2, k});
      for (bool full : {false, true}) {
        const Box u(t, {2, m, full ? m : k}), vt(t, {2, full ? n : k, n});
        reference::svd(a, &u.view(), s, &vt.view());
        for (int64_t b = 0; b < 2; ++b) {
          const Dense left(u, b), right = adjoint(Dense(vt, b));
          const Dense again =
              product(scaled_columns(first_columns(left, k), s, b), adjoint(first_columns(right, k)));
          EXPECT_LE(distance(again, Dense(a, b)), bound(a, Dense(a, b).norm()));
          EXPECT_LE(distance(product(adjoint(left), left), identity(left.columns)), bound(a, std::sqrt(m)));
          EXPECT_LE(distance(product(adjoint(right), right), identity(right.columns)),
                    bound(a, std::sqrt(n)));
          for (int64_t i = 0; i + 1 < k; ++i) {
            EXPECT_GE(number(s, b * k + i).real(), number(s, b * k + i + 1).real());
          }
        }
      }
      reference::svd(a, nullptr, only, nullptr);
      for (int64_t i = 0; i < 2 * k; ++i) {
        EXPECT_LE(std::abs(number(only, i) - number(s, i)), bound(a, Dense(a, i / k).norm()));
      }
    }
  }
}

TEST(Linalg, HermitianEigenvaluesAndVectors) {
  for (Dtype t : kAll) {
    const Dtype real = t == Dtype::kFloat64 ? t : Dtype::kFloat32;
    for (int64_t n : {1, 2, 5, 33, 90}) {
      for (bool upper : {false, true}) {
        const Box a = normal(t, {2, n, n}, 7), w(real, {2, n}), v(t, {2, n, n}), only(real, {2, n});
        reference::eigh(a, upper, w, &v.view());
        reference::eigh(a, upper, only, nullptr);
        for (int64_t b = 0; b < 2; ++b) {
          Dense whole(a, b);
          for (int64_t i = 0; i < n; ++i) {
            whole(i, i) = whole(i, i).real();
            for (int64_t j = 0; j < i; ++j) {
              if (upper) {
                whole(i, j) = std::conj(whole(j, i));
              } else {
                whole(j, i) = std::conj(whole(i, j));
              }
            }
          }
          const Dense vectors(v, b);
          EXPECT_LE(distance(product(whole, vectors), scaled_columns(vectors, w, b)), bound(a, whole.norm()));
          EXPECT_LE(distance(product(adjoint(vectors), vectors), identity(n)), bound(a, std::sqrt(n)));
          for (int64_t i = 0; i < n; ++i) {
            if (i > 0) { EXPECT_GE(number(w, b * n + i).real(), number(w, b * n + i - 1).real()); }
            EXPECT_LE(std::abs(number(only, b * n + i) - number(w, b * n + i)), bound(a, whole.norm()));
          }
        }
      }
    }
  }
}

TEST(Linalg, GeneralEigenvaluesAndVectors) {
  for (Dtype t : kAll) {
    for (int64_t n : {1, 2, 5, 33}) {
      const Box a = normal(t, {2, n, n}, 8), w(Dtype::kComplex64, {2, n}), v(Dtype::kComplex64, {2, n, n});
      reference::eig(a, w, &v.view());
      for (int64_t b = 0; b < 2; ++b) {
        const Dense whole(a, b), vectors(v, b);
        // Computed in double: what is left is the rounding of the results to float32.
        const double tolerance = 8 * std::sqrt(n) * 0x1p-23 * whole.norm();
        EXPECT_LE(distance(product(whole, vectors), scaled_columns(vectors, w, b)), tolerance);
        for (int64_t j = 0; j < n; ++j) {
          double length = 0, largest = 0, its_imaginary = 0;
          for (int64_t i = 0; i < n; ++i) {
            length += std::norm(vectors(i, j));
            if (std::abs(vectors(i, j)) <= largest * (1 + 1e-6)) continue;
            largest = std::abs(vectors(i, j));
            its_imaginary = vectors(i, j).imag();
          }
          EXPECT_NEAR(length, 1, n * 0x1p-22);
          EXPECT_LE(std::abs(its_imaginary), 0x1p-22);
        }
      }
    }
  }
}

template <class F>
void expect_error(const F& f, const std::string& wanted) {
  try {
    f();
    FAIL() << "no error, wanted: " << wanted;
  } catch (const LinalgError& e) {
    EXPECT_NE(std::string(e.what()).find(wanted), std::string::npos) << e.what();
  }
}

TEST(Linalg, ErrorsNameTheMatrix) {
  Box a = normal(Dtype::kFloat32, {5, 3, 3}, 9), b = normal(Dtype::kFloat32, {5, 3, 3}, 10);
  const Box out(Dtype::kFloat32, {5, 3, 3}), values(Dtype::kFloat32, {5, 3}),
      complex(Dtype::kComplex64, {5, 3});
  for (int64_t i : {2, 4}) {
    for (int64_t j = 0; j < 3; ++j) value<float>(a, i * 9 + j * 3) = 0;
  }
  expect_same_for_all_thread_counts(b, [&] {
    expect_error([&] { reference::solve(a, b, out); }, "[linalg::solve] matrix 2 of the batch is singular");
  });
  expect_error([&] { reference::solve_triangular(a, b, true, out); }, "matrix 2 of the batch is singular");
  expect_error([&] { reference::cholesky(a, false, out); }, "of the batch is not positive definite");
  value<float>(b, 30) = std::numeric_limits<float>::infinity();
  expect_error([&] { reference::svd(b, nullptr, values, nullptr); },
               "[linalg::svd] matrix 3 of the batch has values");
  expect_error([&] { reference::eigh(b, false, values, nullptr); }, "[linalg::eigh] matrix 3");
  expect_error([&] { reference::eig(b, complex, nullptr); }, "[linalg::eig] matrix 3");
}

TEST(Linalg, EmptyMatrices) {
  const Box a(Dtype::kFloat32, {2, 0, 3}), u(Dtype::kFloat32, {2, 0, 0}), s(Dtype::kFloat32, {2, 0}),
      vt(Dtype::kFloat32, {2, 3, 3}), q(Dtype::kFloat32, {2, 0, 0}), r(Dtype::kFloat32, {2, 0, 3});
  reference::svd(a, &u.view(), s, &vt.view());
  for (int64_t i = 0; i < 18; ++i) EXPECT_EQ(value<float>(vt, i), i % 9 % 4 == 0 ? 1.0f : 0.0f);
  reference::qr(a, q, r);
  const Box tall(Dtype::kFloat32, {3, 0}), packed(Dtype::kFloat32, {3, 0}), pivots(Dtype::kUInt32, {0}),
      order(Dtype::kUInt32, {3});
  reference::lu(tall, packed, pivots, order);
  for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(value<uint32_t>(order, i), i);
}

}  // namespace
}  // namespace lamina
