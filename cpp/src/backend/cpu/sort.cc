#include "backend/cpu/sort.h"

#include <algorithm>
#include <limits>

#include "backend/cpu/sort_radix.h"
#include "backend/reference/layout.h"
#include "backend/reference/sort.h"

namespace lamina::cpu {
namespace {

// A line of values along the sorted axis and where its results go; steps in bytes. The results are elements
// [length - kept, length) of the sorted line.
template <class T>
struct Line {
  const char* in;
  char* out;
  int64_t in_step, out_step, length, kept;

  T value(int64_t i) const { return *reinterpret_cast<const T*>(in + i * in_step); }
  template <class R>
  void put(int64_t i, R result) const {
    *reinterpret_cast<R*>(out + i * out_step) = result;
  }
};

// Calls body(Line<T>) for every line along `axis`; lines run in parallel, or one by one where they are few
// and long, so that each can use all threads.
template <class T, class Body>
void for_each_line(const View& in, const View& out, int64_t axis, const Body& body) {
  const auto a = static_cast<size_t>(axis);
  const View from = drop_axis(in, axis), to = drop_axis(out, axis);
  const auto loop = collapse_views<2>({&from, &to}, /*keep_order=*/false);
  const int64_t length = in.shape[a], kept = out.shape[a], lines = loop.size();
  if (kept == 0 || lines == 0) return;
  const int64_t in_step = in.strides[a] * static_cast<int64_t>(sizeof(T));
  const int64_t out_step = out.strides[a] * static_cast<int64_t>(itemsize(out.dtype));
  auto run = [&](int64_t begin, int64_t end) {
    for_each_row(loop, begin, end, [&](const auto& at, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        body(Line<T>{static_cast<const char*>(in.data) + at[0] + i * loop.inner_stride(0),
                     static_cast<char*>(out.data) + at[1] + i * loop.inner_stride(1), in_step, out_step,
                     length, kept});
      }
    });
  };
  if (lines < num_threads() && length >= 4 * radix::kGrain) return run(0, lines);
  parallel_ranges(lines, std::max<int64_t>(1, radix::kGrain / 2 / length), run);
}

// Values of few bits: counts how often each occurs.
template <class T>
void counting_sort(const Line<T>& line) {
  constexpr int64_t kValues = int64_t{1} << SortKey<T>::kBits;
  const Scratch<int64_t> counts(kValues);
  std::fill(counts.data(), counts.data() + kValues, 0);
  for (int64_t i = 0; i < line.length; ++i) ++counts[SortKey<T>::exact(line.value(i))];
  int64_t skip = line.length - line.kept, at = 0;
  for (int64_t key = 0; key < kValues; ++key) {
    const int64_t dropped = std::min(skip, counts[key]);
    skip -= dropped;
    const T value = SortKey<T>::value(static_cast<uint32_t>(key));
    for (int64_t n = counts[key] - dropped; n > 0; --n) line.put(at++, value);
  }
}

// Items that can be among the last `kept`, in their order; returns how many were written to `items`.
template <class Item, class Source>
int64_t select_largest(const Source& source, int64_t n, int64_t kept, Item* items) {
  const auto deal = radix::make_deal<Item>(source, n);
  int64_t counts[radix::kBuckets] = {};
  for (int64_t i = 0; i < n; ++i) ++counts[deal.bucket(key_of(source(i)))];
  int64_t first = deal.buckets - 1;
  for (int64_t found = counts[first]; found < kept; found += counts[--first]) {}
  int64_t at = 0;
  for (int64_t i = 0; i < n; ++i) {
    const Item item = source(i);
    if (deal.bucket(key_of(item)) >= first) items[at++] = item;
  }
  return at;
}

// Sorts the line's items and hands the last `kept` to put(i, item).
template <class Item, class T, class Source, class Put>
void sort_items(const Line<T>& line, const Source& source, const Put& put) {
  const int64_t n = line.length;
  const Scratch<Item> items(n), spare(n);
  int64_t sorted = n;
  if (n >= 1024 && line.kept <= n / 4) {
    sorted = select_largest(source, n, line.kept, spare.data());
    radix::sort_from(spare.data(), items.data(), sorted, /*want_other=*/true);
  } else {
    radix::sort(source, n, items.data(), spare.data());
  }
  for (int64_t i = 0, from = sorted - line.kept; i < line.kept; ++i) put(i, items[from + i]);
}

template <class T>
void sort_values(const Line<T>& line) {
  using Key = typename SortKey<T>::Key;
  if constexpr (SortKey<T>::kBits <= 16) {
    if (line.length >= int64_t{1} << (SortKey<T>::kBits - 2)) return counting_sort(line);
  }
  sort_items<Key>(
      line, [&](int64_t i) { return SortKey<T>::exact(line.value(i)); },
      [&](int64_t i, Key key) { line.put(i, SortKey<T>::value(key)); });
}

template <class Index, class T>
void sort_indices(const Line<T>& line) {
  constexpr bool kWide = SortKey<T>::kBits == 64;
  if (!kWide && line.length <= std::numeric_limits<uint32_t>::max()) {
    sort_items<Pair32>(
        line,
        [&](int64_t i) {
          return Pair32{static_cast<uint32_t>(i), static_cast<uint32_t>(SortKey<T>::equal(line.value(i)))};
        },
        [&](int64_t i, Pair32 item) { line.put(i, static_cast<Index>(item.index)); });
    return;
  }
  sort_items<Pair64>(
      line,
      [&](int64_t i) {
        return Pair64{SortKey<T>::equal(line.value(i)), static_cast<uint64_t>(i)};
      },
      [&](int64_t i, Pair64 item) { line.put(i, static_cast<Index>(item.index)); });
}

// Sorts each line and keeps its last out.shape[axis] values or indices.
void sort_lines(const View& in, const View& out, int64_t axis) {
  visit_dtype(in.dtype, [&]<class T>(std::type_identity<T>) {
    if constexpr (kIsComplex<T>) {
      reference::topk(in, out, axis);
    } else {
      for_each_line<T>(in, out, axis, [](const Line<T>& line) { sort_values(line); });
    }
  });
}

void argsort_lines(const View& in, const View& out, int64_t axis) {
  visit_dtype(in.dtype, [&]<class T>(std::type_identity<T>) {
    if constexpr (kIsComplex<T>) {
      reference::argtopk(in, out, axis);
    } else if (itemsize(out.dtype) == sizeof(uint32_t)) {
      for_each_line<T>(in, out, axis, [](const Line<T>& line) { sort_indices<uint32_t>(line); });
    } else {
      for_each_line<T>(in, out, axis, [](const Line<T>& line) { sort_indices<uint64_t>(line); });
    }
  });
}

}  // namespace

void sort(const View& in, const View& out, int64_t axis) { sort_lines(in, out, axis); }
void argsort(const View& in, const View& out, int64_t axis) { argsort_lines(in, out, axis); }
void partition(const View& in, const View& out, int64_t, int64_t axis) { sort_lines(in, out, axis); }
void argpartition(const View& in, const View& out, int64_t, int64_t axis) { argsort_lines(in, out, axis); }
void topk(const View& in, const View& out, int64_t axis) { sort_lines(in, out, axis); }
void argtopk(const View& in, const View& out, int64_t axis) { argsort_lines(in, out, axis); }

}  // namespace lamina::cpu
