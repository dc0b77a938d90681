#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "backend/cpu/sort_keys.h"
#include "backend/reference/layout_scratch.h"
#include "core/thread_pool.h"

// A stable radix sort of items with unsigned keys, see key_of(). Long inputs are first dealt out to 2^11
// buckets by the top bits in which their keys differ, in parallel; what fits the cache is sorted digit by
// digit from the low end. Stability makes the result independent of the number of threads.
namespace lamina::cpu::radix {

inline constexpr int64_t kInsertion = 40;         // items up to which insertion sort wins
inline constexpr int64_t kCachedBytes = 1 << 18;  // size up to which digits are sorted in the cache
inline constexpr int64_t kGrain = 1 << 14;        // items worth a thread
inline constexpr int kBucketBits = 12;
inline constexpr int kDigitBits = 11;
inline constexpr int64_t kBuckets = 1 << kBucketBits;

template <class Item>
using KeyOf = decltype(key_of(Item{}));

template <class Item>
void insertion_sort(Item* items, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    const Item item = items[i];
    int64_t j = i;
    for (; j > 0 && key_of(item) < key_of(items[j - 1]); --j) items[j] = items[j - 1];
    items[j] = item;
  }
}

// One stable pass by the digit (key >> shift) & mask.
template <class Item>
void scatter_digit(const Item* from, Item* to, int64_t n, int shift, uint32_t mask, uint32_t* counts) {
  std::fill(counts, counts + mask + 1, 0u);
  for (int64_t i = 0; i < n; ++i) ++counts[static_cast<uint32_t>(key_of(from[i]) >> shift) & mask];
  uint32_t start = 0;
  for (uint32_t d = 0; d <= mask; ++d) start += std::exchange(counts[d], start);
  for (int64_t i = 0; i < n; ++i) {
    const Item item = from[i];
    to[counts[static_cast<uint32_t>(key_of(item) >> shift) & mask]++] = item;
  }
}

// Sorts `data` with `other` as working space; the result is in `other` where `want_other`. n < 2^32.
template <class Item>
void sort_cached(Item* data, Item* other, int64_t n, bool want_other) {
  using Key = KeyOf<Item>;
  Item* from = data;
  Item* to = other;
  if (n <= kInsertion) {
    insertion_sort(from, n);
  } else {
    Key all = ~Key{0}, any = 0;
    for (int64_t i = 0; i < n; ++i) {
      all &= key_of(data[i]);
      any |= key_of(data[i]);
    }
    const Key differ = all ^ any;
    const int top = std::bit_width(differ), widest = n < 1024 ? 8 : kDigitBits;
    int shift = differ == 0 ? 0 : std::countr_zero(differ);
    const int passes = (top - shift + widest - 1) / widest;
    uint32_t counts[1 << kDigitBits];
    for (int pass = passes; pass > 0; --pass) {
      const int width = (top - shift + pass - 1) / pass;
      scatter_digit(from, to, n, shift, (1u << width) - 1, counts);
      std::swap(from, to);
      shift += width;
    }
  }
  Item* wanted = want_other ? other : data;
  if (from != wanted) std::copy(from, from + n, wanted);
}

// How the keys of a long input are dealt out: bucket = (key >> shift) - base.
template <class Key>
struct Deal {
  int shift = 0;
  Key base = 0;
  int64_t buckets = 1;
  int64_t bucket(Key key) const { return static_cast<int64_t>((key >> shift) - base); }
};

template <class Item, class Source>
Deal<KeyOf<Item>> make_deal(const Source& source, int64_t n) {
  using Key = KeyOf<Item>;
  const int64_t pieces = std::max<int64_t>(1, std::min<int64_t>(4 * num_threads(), n / kGrain));
  const Scratch<Key> lows(pieces), highs(pieces);
  parallel_for(pieces, [&](int64_t p) {
    Key low = ~Key{0}, high = 0;
    for (int64_t i = n * p / pieces, end = n * (p + 1) / pieces; i < end; ++i) {
      const Key key = key_of(source(i));
      low = std::min(low, key);
      high = std::max(high, key);
    }
    lows[p] = low;
    highs[p] = high;
  });
  const Key low = *std::min_element(lows.data(), lows.data() + pieces);
  const Key high = *std::max_element(highs.data(), highs.data() + pieces);
  Deal<Key> deal;
  // Buckets are aligned to 2^shift, so that within one all higher bits agree.
  while ((high >> deal.shift) - (low >> deal.shift) >= static_cast<Key>(kBuckets)) ++deal.shift;
  deal.base = low >> deal.shift;
  deal.buckets = deal.bucket(high) + 1;
  return deal;
}

// Writes the items to `to`, bucket by bucket in their order; starts[b] is where bucket b begins,
// starts[buckets] == n.
template <class Item, class Source>
void deal_out(const Source& source, int64_t n, const Deal<KeyOf<Item>>& deal, Item* to, int64_t* starts) {
  const int64_t pieces = std::max<int64_t>(1, std::min<int64_t>(4 * num_threads(), n / kGrain));
  const Scratch<int64_t> counts(pieces * deal.buckets);
  auto piece = [&](int64_t p, auto&& body) {
    for (int64_t i = n * p / pieces, end = n * (p + 1) / pieces; i < end; ++i) body(source(i));
  };
  parallel_for(pieces, [&](int64_t p) {
    int64_t* mine = counts.data() + p * deal.buckets;
    std::fill(mine, mine + deal.buckets, 0);
    piece(p, [&](const Item& item) { ++mine[deal.bucket(key_of(item))]; });
  });
  int64_t start = 0;
  for (int64_t b = 0; b < deal.buckets; ++b) {
    starts[b] = start;
    for (int64_t p = 0; p < pieces; ++p) start += std::exchange(counts[p * deal.buckets + b], start);
  }
  starts[deal.buckets] = n;
  parallel_for(pieces, [&](int64_t p) {
    int64_t* mine = counts.data() + p * deal.buckets;
    piece(p, [&](const Item& item) { to[mine[deal.bucket(key_of(item))]++] = item; });
  });
}

template <class Item>
void sort_from(Item* data, Item* other, int64_t n, bool want_other);

// Sorts the buckets that deal_out left in `data`.
template <class Item>
void sort_buckets(Item* data, Item* other, const int64_t* starts, int64_t buckets, bool want_other) {
  const int64_t n = starts[buckets];
  auto sort_bucket = [&](int64_t b) {
    sort_from(data + starts[b], other + starts[b], starts[b + 1] - starts[b], want_other);
  };
  // A bucket that holds much of the input would keep one thread busy alone: all threads share those, one at a
  // time.
  const int64_t huge = std::max(n / 4, 4 * kGrain);
  for (int64_t b = 0; b < buckets; ++b) {
    if (starts[b + 1] - starts[b] > huge) sort_bucket(b);
  }
  parallel_ranges(buckets, std::max<int64_t>(1, buckets * kGrain / std::max<int64_t>(n, 1)),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t b = begin; b < end; ++b) {
                      if (starts[b + 1] - starts[b] <= huge) sort_bucket(b);
                    }
                  });
}

template <class Item>
void sort_from(Item* data, Item* other, int64_t n, bool want_other) {
  if (n * static_cast<int64_t>(sizeof(Item)) <= kCachedBytes) return sort_cached(data, other, n, want_other);
  auto source = [data](int64_t i) { return data[i]; };
  const auto deal = make_deal<Item>(source, n);
  if (deal.buckets == 1) {
    if (want_other) std::copy(data, data + n, other);
    return;
  }
  const Scratch<int64_t> starts(deal.buckets + 1);
  deal_out(source, n, deal, other, starts.data());
  sort_buckets(other, data, starts.data(), deal.buckets, !want_other);
}

// Sorts source(0), ..., source(n - 1) into `items`; `spare` is working space of the same size.
template <class Item, class Source>
void sort(const Source& source, int64_t n, Item* items, Item* spare) {
  if (n * static_cast<int64_t>(sizeof(Item)) > kCachedBytes) {
    const auto deal = make_deal<Item>(source, n);
    if (deal.buckets > 1) {
      const Scratch<int64_t> starts(deal.buckets + 1);
      deal_out(source, n, deal, spare, starts.data());
      return sort_buckets(spare, items, starts.data(), deal.buckets, true);
    }
  }
  for (int64_t i = 0; i < n; ++i) items[i] = source(i);
  sort_from(items, spare, n, false);
}

}  // namespace lamina::cpu::radix
