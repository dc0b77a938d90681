// Casts, copies, joins, scans, sorts, gathers, scatters and random numbers through the public API, each
// checked against the reference backend. Operands make float results exact in any order of summation, so that
// most comparisons want the same bytes.
#include <numeric>

#include "bench_support.h"

namespace lamina::bench {
namespace {

using Run = std::function<Array(const Arrays&)>;

void add(const std::string& name, std::function<Arrays()> operands, const Run& run, double tolerance = 0) {
  add_case({name, std::move(operands), run, like_reference(run, tolerance)});
}

// Small whole numbers of both signs: sums of 8M of them stay exact in float32.
template <class T>
Array whole_numbers(const Shape& shape, uint64_t seed) {
  Draws draws(seed);
  return array_of<T>(shape, [&](int64_t) { return T(static_cast<float>(draws.below(3) - 1)); });
}
Array indices(const Shape& shape, int64_t below, uint64_t seed) {
  Draws draws(seed);
  return array_of<int32_t>(shape, [&](int64_t) { return static_cast<int32_t>(draws.below(below)); });
}
std::string name_of(const char* family, const std::string& what, int64_t n) {
  return std::string(family) + "/" + what + "/" + size_text(n);
}

template <class From>
void add_casts_from(int64_t n) {
  const Dtype from = DtypeOf<From>::value;
  for (Dtype to : {Dtype::kFloat32, Dtype::kFloat64, Dtype::kFloat16, Dtype::kBFloat16, Dtype::kInt32,
                   Dtype::kInt8, Dtype::kUInt8, Dtype::kBool}) {
    if (to == from) continue;
    add(
        name_of("cast", std::string(dtype_name(from)) + "_to_" + std::string(dtype_name(to)), n),
        [n] {
          return Arrays{random_array<From>({n}, {0, 100}, 1)};
        },
        [to](const Arrays& in) { return astype(in[0], to); });
  }
}
void add_casts(int64_t n) {
  add_casts_from<float>(n);
  if (n != kSizes[1]) return;
  add_casts_from<double>(n);
  add_casts_from<float16_t>(n);
  add_casts_from<bfloat16_t>(n);
  add_casts_from<int32_t>(n);
  add_casts_from<uint8_t>(n);
}

// Layout copies of [n / 1024, 1024] or [32, 32] matrices.
template <class T>
void add_copies(int64_t n) {
  const int64_t width = n >= 1 << 20 ? 1024 : 32, height = n / width;
  auto matrix = [=] { return Arrays{random_array<T>({height, width}, {-100, 100}, 1)}; };
  auto named = [n](const char* what) {
    return name_of("copy", std::string(what) + "/" + std::string(dtype_name(DtypeOf<T>::value)), n);
  };
  add(named("transpose"), matrix, [](const Arrays& in) { return contiguous(transpose(in[0])); });
  add(named("every_second"), matrix, [=](const Arrays& in) {
    return contiguous(slice(in[0], {0, 0}, {height, width}, {1, 2}));
  });
  add(named("flip"), matrix, [](const Arrays& in) { return contiguous(flip(in[0])); });
  add(
      named("broadcast_row"),
      [=] {
        return Arrays{random_array<T>({width}, {-100, 100}, 1)};
      },
      [=](const Arrays& in) {
        return contiguous(broadcast_to(in[0], {height, width}));
      });
  add(
      named("swap_middle"),
      [=] {
        return Arrays{random_array<T>({4, height / 4, 16, width / 16}, {-9, 9}, 1)};
      },
      [](const Arrays& in) {
        return contiguous(transpose(in[0], Axes{0, 2, 1, 3}));
      });
  add(named("concatenate_columns"), matrix, [](const Arrays& in) {
    const Arrays twice{in[0], in[0]};
    return concatenate(twice, 1);
  });
  add(named("update_box"), matrix, [=](const Arrays& in) {
    const Array box = slice(in[0], {0, 0}, {height, width / 2});
    return slice_update(in[0], box, {0, width / 2}, {height, width}, {1, 1});
  });
}

void add_scans(int64_t n) {
  const int64_t width = std::min<int64_t>(n, 1024);
  auto line = [n] { return Arrays{whole_numbers<float>({n}, 1)}; };
  auto matrix = [=] { return Arrays{whole_numbers<float>({n / width, width}, 1)}; };
  for (auto [kind, what] : {std::pair{ScanKind::kSum, "sum"}, std::pair{ScanKind::kProd, "prod"},
                            std::pair{ScanKind::kMax, "max"}}) {
    add(name_of("scan", std::string(what) + "/line", n), line,
        [kind = kind](const Arrays& in) { return scan(in[0], kind, 0, false, true); });
  }
  add(
      name_of("scan", "logaddexp/line", n),
      [n] {
        return Arrays{random_array<float>({n}, {-3, 3}, 1)};
      },
      [](const Arrays& in) { return scan(in[0], ScanKind::kLogAddExp, 0, false, true); },
      // Every step rounds log-sums below 24; their roundings walk at random over n steps.
      8 * 0x1p-24 * std::sqrt(static_cast<double>(n)));
  if (width == n) return;
  add(name_of("scan", "sum/rows", n), matrix,
      [](const Arrays& in) { return scan(in[0], ScanKind::kSum, 1, false, true); });
  add(name_of("scan", "sum/columns", n), matrix,
      [](const Arrays& in) { return scan(in[0], ScanKind::kSum, 0, false, true); });
  add(name_of("scan", "sum_reversed/rows", n), matrix,
      [](const Arrays& in) { return scan(in[0], ScanKind::kSum, 1, true, true); });
}

template <class T>
void add_sorts(int64_t n) {
  const int64_t width = std::min<int64_t>(n, 1024);
  auto line = [n] { return Arrays{random_array<T>({n}, {-1e6, 1e6}, 1)}; };
  auto matrix = [=] { return Arrays{random_array<T>({n / width, width}, {-1e6, 1e6}, 1)}; };
  auto named = [n](const char* what) {
    return name_of("sort", std::string(what) + "/" + std::string(dtype_name(DtypeOf<T>::value)), n);
  };
  add(named("sort/line"), line, [](const Arrays& in) { return sort(in[0], 0); });
  add(named("argsort/line"), line, [](const Arrays& in) { return argsort(in[0], 0); });
  if (width == n) return;
  add(named("sort/rows"), matrix, [](const Arrays& in) { return sort(in[0], 1); });
  add(named("argsort/rows"), matrix, [](const Arrays& in) { return argsort(in[0], 1); });
  add(named("topk/rows"), matrix, [](const Arrays& in) { return topk(in[0], 32, 1); });
  add(named("argmax/rows"), matrix, [](const Arrays& in) { return argmax(in[0], 1); });
  add(named("argmax/columns"), matrix, [](const Arrays& in) { return argmax(in[0], 0); });
}

void add_gathers(int64_t n) {
  const int64_t width = n >= 1 << 20 ? 256 : 32, height = n / width;
  auto rows = [=] { return Arrays{whole_numbers<float>({height, width}, 1), indices({height}, height, 2)}; };
  add(name_of("gather", "rows", n), rows, [](const Arrays& in) { return take(in[0], in[1], 0); });
  add(
      name_of("gather", "elements", n),
      [n] {
        return Arrays{whole_numbers<float>({n}, 1), indices({n}, n, 2)};
      },
      [](const Arrays& in) { return take(in[0], in[1], 0); });
  add(
      name_of("gather", "columns", n),
      [=] {
        return Arrays{whole_numbers<float>({height, width}, 1), indices({width}, width, 2)};
      },
      [](const Arrays& in) { return take(in[0], in[1], 1); });
  add(
      name_of("gather", "along_rows", n),
      [=] {
        return Arrays{whole_numbers<float>({height, width}, 1), indices({height, width}, width, 2)};
      },
      [](const Arrays& in) { return take_along_axis(in[0], in[1], 1); });
  add(
      name_of("scatter", "add_rows", n),
      [=] {
        return Arrays{whole_numbers<float>({height, width}, 1), indices({height}, height, 2),
                      whole_numbers<float>({height, 1, width}, 3)};
      },
      [](const Arrays& in) {
        return scatter(in[0], std::span(&in[1], 1), in[2], Axes{0}, ScatterMode::kAdd);
      });
  add(
      name_of("scatter", "add_elements", n),
      [n] {
        return Arrays{whole_numbers<float>({n}, 1), indices({n}, n, 2), whole_numbers<float>({n, 1}, 3)};
      },
      [](const Arrays& in) {
        return scatter(in[0], std::span(&in[1], 1), in[2], Axes{0}, ScatterMode::kAdd);
      });
  add(
      name_of("scatter", "put_along_rows", n),
      [=] {
        return Arrays{whole_numbers<float>({height, width}, 1), indices({height, width}, width, 2),
                      whole_numbers<float>({height, width}, 3)};
      },
      [](const Arrays& in) { return put_along_axis(in[0], in[1], in[2], 1, ScatterMode::kAdd); });
}

void add_random(int64_t n) {
  auto key = [] { return Arrays{random::key(7)}; };
  add(name_of("random", "bits", n), key, [n](const Arrays& in) { return random::bits({n}, 4, in[0]); });
  add(name_of("random", "uniform", n), key,
      [n](const Arrays& in) { return random::uniform(Array(0.0), Array(1.0), {n}, Dtype::kFloat32, in[0]); });
  // Both backends see the same uniform numbers; erfinv is within 4 steps of the truth in each of them.
  add(
      name_of("random", "normal", n), key,
      [n](const Arrays& in) {
        return random::normal({n}, Dtype::kFloat32, std::nullopt, std::nullopt, in[0]);
      },
      16 * 0x1p-24);
}

[[maybe_unused]] const bool registered = [] {
  for (int64_t n : kSizes) {
    add_casts(n);
    add_copies<float>(n);
    add_scans(n);
    add_sorts<float>(n);
    add_gathers(n);
    add_random(n);
    if (n != kSizes[1]) continue;
    add_copies<bfloat16_t>(n);
    add_copies<double>(n);
    add_sorts<int32_t>(n);
  }
  return true;
}();

}  // namespace
}  // namespace lamina::bench
