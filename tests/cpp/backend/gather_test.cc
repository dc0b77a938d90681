#include "backend/cpu/gather.h"

#include <functional>

#include "backend/reference/gather.h"
#include "backend/reference/gather_nonzero.h"
#include "backend/reference/scatter.h"
#include "lamina/error.h"
#include "view_testing.h"

namespace lamina {
namespace {

using namespace view_testing;

constexpr Dtype kIndexDtypes[] = {Dtype::kUInt8, Dtype::kUInt16, Dtype::kUInt32, Dtype::kUInt64,
                                  Dtype::kInt8,  Dtype::kInt16,  Dtype::kInt32,  Dtype::kInt64};

int64_t index_at(const View& v, int64_t i) {
  int64_t index = 0;
  visit_dtype(v.dtype, [&]<class T>(std::type_identity<T>) {
    if constexpr (std::is_integral_v<T>) index = static_cast<int64_t>(value<T>(v, i));
  });
  return index;
}
void set_index(const View& v, int64_t i, int64_t index) {
  visit_dtype(v.dtype, [&]<class T>(std::type_identity<T>) {
    value<T>(v, i) = from_double<T>(static_cast<double>(index));
  });
}

// Indices from -length (0 where unsigned) to limit - 1, with the ends among them.
Box random_indices(Dtype dtype, const Shape& shape, Layout layout, int64_t length, int64_t limit,
                   uint64_t seed) {
  Box box(dtype, shape, layout);
  std::mt19937_64 rng(seed);
  for (int64_t i = 0; i < count(shape); ++i) {
    auto k = static_cast<int64_t>(rng() % static_cast<uint64_t>(limit));
    if (rng() % 5 == 0) k = rng() % 2 ? 0 : limit - 1;
    if (is_signed_integer(dtype) && rng() % 2) k -= length;
    set_index(box, i, k);
  }
  return box;
}

// Row-major position of coordinates in a shape, and back.
int64_t linear_of(const Shape& shape, const std::vector<int64_t>& at) {
  int64_t linear = 0;
  for (size_t d = 0; d < shape.size(); ++d) linear = linear * shape[d] + at[d];
  return linear;
}
std::vector<int64_t> coordinates(const Shape& shape, int64_t linear) {
  std::vector<int64_t> at(shape.size());
  for (size_t d = shape.size(); d-- > 0; linear /= shape[d]) at[d] = linear % shape[d];
  return at;
}

// Where element j of slice i lies in the indexed array.
int64_t source_of(const Shape& shape, std::span<const View> indices, const Axes& axes,
                  const Shape& slice_sizes, int64_t i, int64_t j) {
  std::vector<int64_t> at = coordinates(slice_sizes, j);
  for (size_t n = 0; n < indices.size(); ++n) {
    const int64_t k = index_at(indices[n], i), length = shape[static_cast<size_t>(axes[n])];
    at[static_cast<size_t>(axes[n])] += k < 0 ? k + length : k;
  }
  return linear_of(shape, at);
}

bool same_bytes(const View& a, int64_t i, const View& b, int64_t j) {
  return std::memcmp(element(a, i), element(b, j), itemsize(a.dtype)) == 0;
}

struct Case {
  Shape shape;
  Axes axes;
  Shape slice_sizes;
  Shape index_shape;
};
const Case kCases[] = {
    {{7}, {0}, {1}, {4}},
    {{7}, {0}, {1}, {}},
    {{7, 5}, {0}, {1, 5}, {3, 2}},
    {{7, 5}, {1}, {7, 1}, {6}},
    {{7, 5}, {0, 1}, {1, 1}, {2, 3}},
    {{7, 5}, {1, 0}, {1, 1}, {9}},
    {{6, 4, 3}, {1}, {6, 1, 3}, {5}},
    {{6, 4, 3}, {0, 2}, {1, 4, 1}, {2, 2}},
    {{6, 4, 3}, {0}, {3, 2, 3}, {4}},
    {{6, 4, 3}, {0, 1}, {2, 3, 1}, {7}},
    {{6, 4, 3}, {}, {6, 4, 3}, {}},
    {{5, 300}, {0}, {1, 300}, {40}},
    {{50, 3}, {0}, {1, 3}, {0}},
    {{50, 0}, {0}, {1, 0}, {3}},
};

Shape output_shape(const Case& c) {
  Shape shape = c.index_shape;
  for (int64_t d : c.slice_sizes) shape.push_back(d);
  return shape;
}
std::vector<Box> case_indices(const Case& c, Dtype dtype, Layout layout) {
  std::vector<Box> boxes;
  for (size_t n = 0; n < c.axes.size(); ++n) {
    const auto axis = static_cast<size_t>(c.axes[n]);
    const int64_t limit = c.shape[axis] - c.slice_sizes[axis] + 1;
    boxes.push_back(random_indices(dtype, c.index_shape, layout, c.shape[axis], limit, n + 3));
    // A negative index counts from the axis's end, so that a slice of more than one may not start there.
    for (int64_t i = 0; i < count(c.index_shape); ++i) {
      const int64_t k = index_at(boxes.back(), i);
      if (k < 0 && k + c.shape[axis] >= limit) set_index(boxes.back(), i, 0);
    }
  }
  return boxes;
}
std::vector<View> views(const std::vector<Box>& boxes) { return {boxes.begin(), boxes.end()}; }

using GatherFn = void (*)(const View&, std::span<const View>, const Axes&, const Shape&, const View&,
                          const char*);

TEST(Gather, EveryCaseLayoutAndIndexDtype) {
  for (GatherFn gather : {&reference::gather, &cpu::gather}) {
    for (const Case& c : kCases) {
      for (Dtype index_dtype : kIndexDtypes) {
        for (Layout layout : kInLayouts) {
          for (Dtype dtype : {Dtype::kUInt8, Dtype::kFloat16, Dtype::kFloat32, Dtype::kComplex64}) {
            const Box src = random_box(dtype, c.shape, layout, 1, Values::kBits);
            const std::vector<Box> boxes = case_indices(c, index_dtype, layout);
            const std::vector<View> indices = views(boxes);
            const Box out(dtype, output_shape(c), layout == Layout::kRepeated ? Layout::kTransposed : layout);
            gather(src, indices, c.axes, c.slice_sizes, out, "gather");
            const int64_t slice = count(c.slice_sizes);
            int64_t wrong = 0;
            for (int64_t i = 0; i < count(c.index_shape); ++i) {
              for (int64_t j = 0; j < slice; ++j) {
                wrong += !same_bytes(out, i * slice + j, src,
                                     source_of(c.shape, indices, c.axes, c.slice_sizes, i, j));
              }
            }
            EXPECT_EQ(wrong, 0) << describe(src) << " to " << describe(out);
            EXPECT_TRUE(out.guards_intact());
          }
        }
      }
    }
  }
}

TEST(Take, EveryAxisAndLayout) {
  for (auto take : {&reference::take, &cpu::take}) {
    for (int64_t axis = 0; axis < 3; ++axis) {
      for (const Shape& index_shape : {Shape{}, Shape{4}, Shape{2, 3}, Shape{0}}) {
        for (Layout layout : kInLayouts) {
          const Shape shape = {4, 5, 6};
          const auto a = static_cast<size_t>(axis);
          const Box src = random_box(Dtype::kFloat32, shape, layout, 1, Values::kBits);
          const Box indices = random_indices(Dtype::kInt32, index_shape, layout, shape[a], shape[a], 2);
          Shape out_shape(shape.begin(), shape.begin() + a);
          for (int64_t d : index_shape) out_shape.push_back(d);
          for (size_t d = a + 1; d < 3; ++d) out_shape.push_back(shape[d]);
          const Box out(Dtype::kFloat32, out_shape, layout == Layout::kRepeated ? Layout::kSlice : layout);
          take(src, indices, out, axis, "take");
          const int64_t after = count(Shape(shape.begin() + a + 1, shape.end())), taken = count(index_shape);
          for (int64_t i = 0; i < count(out_shape); ++i) {
            const int64_t k = index_at(indices, i / after % taken), row = i / after / taken * shape[a];
            EXPECT_TRUE(same_bytes(out, i, src, (row + (k < 0 ? k + shape[a] : k)) * after + i % after));
          }
          EXPECT_TRUE(out.guards_intact());
        }
      }
    }
  }
}

// Enough to be split over threads, in several chunks, and past the streaming threshold.
TEST(Take, ManyRowsOnEveryTarget) {
  constexpr int64_t kRows = 40000, kCols = 450;
  const Box src = random_box(Dtype::kFloat32, {500, kCols}, Layout::kDense, 1, Values::kBits);
  const Box indices = random_indices(Dtype::kUInt16, {kRows}, Layout::kDense, 500, 500, 2);
  const Box out(Dtype::kFloat32, {kRows, kCols});
  for_each_target([&] {
    std::memset(out.view().data, 0, static_cast<size_t>(kRows * kCols) * 4);
    cpu::take(src, indices, out, 0);
    int64_t wrong = 0;
    for (int64_t i = 0; i < kRows; ++i) {
      wrong +=
          std::memcmp(element(out, i * kCols), element(src, index_at(indices, i) * kCols), kCols * 4) != 0;
    }
    EXPECT_EQ(wrong, 0);
  });
}

TEST(Take, MoreIndicesThanAChunk) {
  constexpr int64_t kCount = (int64_t{1} << 20) + 77;
  const Box src = random_box(Dtype::kInt16, {100}, Layout::kDense, 1, Values::kBits);
  const Box indices = random_indices(Dtype::kInt8, {kCount}, Layout::kDense, 100, 100, 2),
            out(Dtype::kInt16, {kCount});
  expect_same_for_all_thread_counts(out, [&] { cpu::take(src, indices, out, 0); });
  int64_t wrong = 0;
  for (int64_t i = 0; i < kCount; ++i) {
    const int64_t k = index_at(indices, i);
    wrong += !same_bytes(out, i, src, k < 0 ? k + 100 : k);
  }
  EXPECT_EQ(wrong, 0);
}

TEST(TakeAlongAxis, EveryAxisLayoutAndDtype) {
  for (auto take_along_axis : {&reference::take_along_axis, &cpu::take_along_axis}) {
    for (int64_t axis = 0; axis < 3; ++axis) {
      for (Layout layout : kInLayouts) {
        for (Dtype dtype : {Dtype::kBool, Dtype::kBFloat16, Dtype::kFloat32, Dtype::kInt64}) {
          for (Dtype index_dtype : kIndexDtypes) {
            const Shape shape = {4, 5, 6};
            Shape picked = shape;
            picked[static_cast<size_t>(axis)] = 9;
            const int64_t length = shape[static_cast<size_t>(axis)];
            const Box src = random_box(dtype, shape, layout, 1, Values::kBits);
            const Box indices = random_indices(index_dtype, picked, layout, length, length, 2);
            const Box out(dtype, picked, layout == Layout::kRepeated ? Layout::kSlice : layout);
            take_along_axis(src, indices, out, axis, "take_along_axis");
            for (int64_t i = 0; i < count(picked); ++i) {
              std::vector<int64_t> at = coordinates(picked, i);
              const int64_t k = index_at(indices, i);
              at[static_cast<size_t>(axis)] = k < 0 ? k + length : k;
              EXPECT_TRUE(same_bytes(out, i, src, linear_of(shape, at)));
            }
            EXPECT_TRUE(out.guards_intact());
          }
        }
      }
    }
  }
}

// ---- errors

template <class E>
void expect_error(const char* message, const std::function<void()>& body) {
  try {
    body();
    ADD_FAILURE() << "no error; expected " << message;
  } catch (const E& e) { EXPECT_STREQ(e.what(), message); }
}

TEST(Gather, IndicesOutOfBounds) {
  const Box src = random_box(Dtype::kFloat32, {5, 4}, Layout::kDense, 1), out(Dtype::kFloat32, {3, 4});
  const Box rows(Dtype::kFloat32, {3, 1, 4}), pairs(Dtype::kFloat32, {3, 1, 1}),
      along(Dtype::kFloat32, {3, 4});
  auto indices = [](Dtype dtype, std::vector<int64_t> values) {
    Box box(dtype, {static_cast<int64_t>(values.size())});
    for (size_t i = 0; i < values.size(); ++i) set_index(box, static_cast<int64_t>(i), values[i]);
    return box;
  };
  const Box high = indices(Dtype::kInt32, {0, 7, 9}), low = indices(Dtype::kInt64, {-5, -6, 4});
  const Box fine = indices(Dtype::kInt32, {0, 1, 2}), huge = indices(Dtype::kUInt64, {0, 0, 0});
  value<uint64_t>(huge, 2) = ~uint64_t{0};
  const Box floats(Dtype::kFloat32, {3}), mask(Dtype::kBool, {3});
  for (auto take : {&reference::take, &cpu::take}) {
    expect_error<IndexError>("[take] index 7 is out of bounds for axis 0 of length 5",
                             [&] { take(src, high, out, 0, "take"); });
    expect_error<IndexError>("[take] index -6 is out of bounds for axis 0 of length 5",
                             [&] { take(src, low, out, 0, "take"); });
    expect_error<IndexError>("[take] index 18446744073709551615 is out of bounds for axis 0 of length 5",
                             [&] { take(src, huge, out, 0, "take"); });
    expect_error<DtypeError>("[take] indices must be integers, got float32",
                             [&] { take(src, floats, out, 0, "take"); });
    expect_error<DtypeError>("[take] indices must be integers, got bool",
                             [&] { take(src, mask, out, 0, "take"); });
    const Box none(Dtype::kFloat32, {0, 4}), nothing(Dtype::kFloat32, {3, 0}),
        empty_rows(Dtype::kFloat32, {5, 0});
    expect_error<IndexError>("[take] index 0 is out of bounds for axis 0 of length 0",
                             [&] { take(none, fine, out, 0, "take"); });
    expect_error<IndexError>("[take] index 7 is out of bounds for axis 0 of length 5",
                             [&] { take(empty_rows, high, nothing, 0, "take"); });
  }
  for (GatherFn gather : {&reference::gather, &cpu::gather}) {
    const std::vector<View> two = {fine, high};
    expect_error<IndexError>("[gather] index 7 is out of bounds for axis 1 of length 4", [&] {
      gather(src, two, {0, 1}, {1, 1}, pairs, "gather");
    });
    const std::vector<View> windows = {low};
    expect_error<IndexError>("[gather] index -6 is out of bounds for axis 0 of length 5", [&] {
      gather(src, windows, {0}, {1, 4}, rows, "gather");
    });
    const Box wide(Dtype::kFloat32, {3, 3, 4}), starts = indices(Dtype::kInt8, {0, 2, 3});
    const std::vector<View> three = {starts};
    expect_error<IndexError>("[gather] index 3 is out of bounds for axis 0 of length 5", [&] {
      gather(src, three, {0}, {3, 4}, wide, "gather");
    });
  }
  const Box table = random_indices(Dtype::kInt32, {3, 4}, Layout::kDense, 5, 5, 1);
  set_index(table, 6, 5);
  for (auto take_along_axis : {&reference::take_along_axis, &cpu::take_along_axis}) {
    expect_error<IndexError>("[take_along_axis] index 5 is out of bounds for axis 0 of length 5",
                             [&] { take_along_axis(src, table, along, 0, "take_along_axis"); });
  }
}

TEST(Gather, TheFirstBadIndexIsReportedWhateverTheThreads) {
  constexpr int64_t kCount = 200000;
  const Box src = random_box(Dtype::kFloat32, {10}, Layout::kDense, 1), out(Dtype::kFloat32, {kCount});
  const Box indices(Dtype::kInt32, {kCount});
  for (int64_t i = 0; i < kCount; ++i) set_index(indices, i, i < 60000 ? 0 : i);
  for (int threads : {1, 2, 7}) {
    set_num_threads(threads);
    expect_error<IndexError>("[take] index 60000 is out of bounds for axis 0 of length 10",
                             [&] { cpu::take(src, indices, out, 0); });
    expect_error<IndexError>("[take_along_axis] index 60000 is out of bounds for axis 0 of length 10",
                             [&] { cpu::take_along_axis(src, indices, out, 0); });
  }
  set_num_threads(default_thread_count());
}

// ---- scatter

template <class T>
T plain_combine(ScatterMode mode, T old, T update, bool is_bool) {
  switch (mode) {
    case ScatterMode::kSet: return update;
    case ScatterMode::kMax: return is_nan(old) ? old : is_nan(update) || less(old, update) ? update : old;
    case ScatterMode::kMin: return is_nan(old) ? old : is_nan(update) || less(update, old) ? update : old;
    default: break;
  }
  const bool adds = mode == ScatterMode::kAdd;
  if constexpr (kIsHalf<T>) {
    const float a = old, b = update;
    return T(adds ? a + b : a * b);
  } else if constexpr (kIsComplex<T>) {
    return adds ? old + update : old * update;
  } else {
    const T result = adds ? static_cast<T>(old + update) : static_cast<T>(old * update);
    return is_bool ? static_cast<T>(result != 0) : result;
  }
}

constexpr ScatterMode kModes[] = {ScatterMode::kSet, ScatterMode::kAdd, ScatterMode::kMultiply,
                                  ScatterMode::kMax, ScatterMode::kMin};

// A dense copy with the updates applied one by one.
void plain_apply(const View& out, int64_t target, const View& updates, int64_t from, ScatterMode mode) {
  visit_dtype(out.dtype, [&]<class T>(std::type_identity<T>) {
    T& to = value<T>(out, target);
    to = plain_combine(mode, to, value<T>(updates, from), out.dtype == Dtype::kBool);
  });
}

Box dense_copy(const View& v) {
  Box copy(v.dtype, v.shape);
  for (int64_t i = 0; i < v.size(); ++i) std::memcpy(element(copy, i), element(v, i), itemsize(v.dtype));
  return copy;
}

TEST(Scatter, EveryCaseModeAndDtype) {
  for (const Case& c : kCases) {
    for (Dtype dtype : kAllDtypes) {
      for (ScatterMode mode : kModes) {
        for (Layout layout : kOutLayouts) {
          const Box out = random_box(dtype, c.shape, layout, 1), expected = dense_copy(out);
          const Box updates = random_box(dtype, output_shape(c), layout, 2);
          const std::vector<Box> boxes = case_indices(c, Dtype::kInt32, layout);
          const std::vector<View> indices = views(boxes);
          reference::scatter(out, indices, updates, c.axes, mode);
          const int64_t slice = count(c.slice_sizes);
          for (int64_t i = 0; i < count(c.index_shape); ++i) {
            for (int64_t j = 0; j < slice; ++j) {
              plain_apply(expected, source_of(c.shape, indices, c.axes, c.slice_sizes, i, j), updates,
                          i * slice + j, mode);
            }
          }
          EXPECT_EQ(dense_bytes(out), dense_bytes(expected))
              << describe(out) << " mode " << static_cast<int>(mode);
          EXPECT_TRUE(out.guards_intact());
        }
      }
    }
  }
}

// Many duplicates: sums of floats would show any change of order.
void check_large_scatter(const Shape& shape, int64_t updates_count, Dtype dtype, ScatterMode mode) {
  SCOPED_TRACE(to_string(shape) + " " + std::string(dtype_name(dtype)));
  Shape update_shape = {updates_count, 1};
  for (size_t d = 1; d < shape.size(); ++d) update_shape.push_back(shape[d]);
  const Box start = random_box(dtype, shape, Layout::kDense, 1, Values::kNormal), out(dtype, shape);
  const Box updates = random_box(dtype, update_shape, Layout::kDense, 2, Values::kNormal);
  const Box indices = random_indices(Dtype::kInt32, {updates_count}, Layout::kDense, shape[0], shape[0], 3);
  const View list[] = {indices};
  const size_t bytes = static_cast<size_t>(count(shape)) * itemsize(dtype);
  expect_same_for_all_thread_counts(out, [&] {
    std::memcpy(out.view().data, start.view().data, bytes);
    reference::scatter(out, list, updates, {0}, mode);
  });
  const Box expected = dense_copy(start);
  const int64_t slice = count(shape) / shape[0];
  for (int64_t i = 0; i < updates_count; ++i) {
    const int64_t k = index_at(indices, i), row = k < 0 ? k + shape[0] : k;
    for (int64_t j = 0; j < slice; ++j) plain_apply(expected, row * slice + j, updates, i * slice + j, mode);
  }
  EXPECT_EQ(dense_bytes(out), dense_bytes(expected));
}

TEST(Scatter, ThreadsDoNotChangeTheOrderOfUpdates) {
  for (ScatterMode mode : {ScatterMode::kAdd, ScatterMode::kSet}) {
    check_large_scatter({50, 1000}, 300, Dtype::kFloat32, mode);
    check_large_scatter({1000, 3}, 60000, Dtype::kFloat32, mode);
    check_large_scatter({5000}, 100000, Dtype::kFloat64, mode);
    check_large_scatter({7}, 70000, Dtype::kBFloat16, mode);
  }
  check_large_scatter({300}, (int64_t{1} << 20) + 5, Dtype::kInt32, ScatterMode::kAdd);
}

TEST(ScatterAlongAxis, EveryAxisModeAndDtype) {
  for (Dtype dtype : kAllDtypes) {
    for (ScatterMode mode : kModes) {
      for (int64_t axis = 0; axis < 3; ++axis) {
        for (Layout layout : kOutLayouts) {
          const Shape shape = {3, 4, 5};
          Shape picked = shape;
          picked[static_cast<size_t>(axis)] = 8;
          const int64_t length = shape[static_cast<size_t>(axis)];
          const Box out = random_box(dtype, shape, layout, 1), expected = dense_copy(out);
          const Box updates = random_box(dtype, picked, layout, 2);
          const Box indices = random_indices(Dtype::kInt16, picked, layout, length, length, 3);
          reference::scatter_along_axis(out, indices, updates, axis, mode);
          for (int64_t i = 0; i < count(picked); ++i) {
            std::vector<int64_t> at = coordinates(picked, i);
            const int64_t k = index_at(indices, i);
            at[static_cast<size_t>(axis)] = k < 0 ? k + length : k;
            plain_apply(expected, linear_of(shape, at), updates, i, mode);
          }
          EXPECT_EQ(dense_bytes(out), dense_bytes(expected)) << describe(out) << " axis " << axis;
          EXPECT_TRUE(out.guards_intact());
        }
      }
    }
  }
}

TEST(Scatter, NothingIsWrittenWhereAnIndexIsBad) {
  const Box out = random_box(Dtype::kFloat32, {5, 4}, Layout::kDense, 1), before = dense_copy(out);
  const Box updates = random_box(Dtype::kFloat32, {3, 1, 4}, Layout::kDense, 2);
  const Box indices(Dtype::kInt32, {3}), table(Dtype::kInt32, {3, 4});
  for (int64_t i = 0; i < 3; ++i) set_index(indices, i, i == 2 ? -6 : i);
  for (int64_t i = 0; i < 12; ++i) set_index(table, i, i == 11 ? 5 : 0);
  const View list[] = {indices};
  expect_error<IndexError>("[scatter] index -6 is out of bounds for axis 0 of length 5",
                           [&] { reference::scatter(out, list, updates, {0}, ScatterMode::kAdd); });
  const Box flat = random_box(Dtype::kFloat32, {3, 4}, Layout::kDense, 2);
  expect_error<IndexError>("[put_along_axis] index 5 is out of bounds for axis 0 of length 5",
                           [&] { reference::scatter_along_axis(out, table, flat, 0, ScatterMode::kSet); });
  EXPECT_EQ(dense_bytes(out), dense_bytes(before));
}

// ---- masks

TEST(Nonzero, EveryDtypeAndLayout) {
  for (Dtype dtype : kAllDtypes) {
    for (Layout layout : kInLayouts) {
      for (const Shape& shape : {Shape{7}, Shape{3, 4, 5}, Shape{0, 3}, Shape{1}, Shape{}}) {
        const Box mask = random_box(dtype, shape, layout, 5, Values::kSpecial);
        std::vector<std::vector<int64_t>> expected;
        visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
          for (int64_t i = 0; i < count(shape); ++i) {
            if (widen(value<T>(mask, i)) != ComputeType<T>{}) expected.push_back(coordinates(shape, i));
          }
        });
        const auto found = static_cast<int64_t>(expected.size());
        EXPECT_EQ(reference::count_nonzero(mask), found) << describe(mask);
        std::vector<Box> boxes;
        for (size_t d = 0; d < shape.size(); ++d)
          boxes.emplace_back(Dtype::kInt64, Shape{found}, Layout::kSlice);
        reference::nonzero(mask, views(boxes));
        for (int64_t i = 0; i < found; ++i) {
          for (size_t d = 0; d < shape.size(); ++d) {
            EXPECT_EQ(value<int64_t>(boxes[d], i), expected[static_cast<size_t>(i)][d]);
          }
        }
      }
    }
  }
}

TEST(Nonzero, LargeMasksInEveryThreadCount) {
  const Box mask(Dtype::kBool, {400, 501});
  fill(mask, 4);
  const int64_t found = reference::count_nonzero(mask);
  const Box rows(Dtype::kInt64, {found}), cols(Dtype::kInt64, {found});
  const View outs[] = {rows, cols};
  expect_same_for_all_thread_counts(rows, [&] { reference::nonzero(mask, outs); });
  expect_same_for_all_thread_counts(cols, [&] { reference::nonzero(mask, outs); });
  int64_t at = 0;
  for (int64_t i = 0; i < 400 * 501; ++i) {
    if (!value<uint8_t>(mask, i)) continue;
    EXPECT_EQ(value<int64_t>(rows, at), i / 501);
    EXPECT_EQ(value<int64_t>(cols, at++), i % 501);
  }
  EXPECT_EQ(at, found);
}

}  // namespace
}  // namespace lamina
