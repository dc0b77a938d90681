#include "backend/cpu/random.h"

#include "backend/reference/random.h"
#include "backend/reference/random_threefry.h"
#include "view_testing.h"

namespace lamina {
namespace {

using namespace view_testing;
using RandomFn = void (*)(const View&, const View&);

Box key_box(std::vector<uint32_t> words, const Shape& shape, Layout layout = Layout::kDense) {
  Box keys(Dtype::kUInt32, shape, layout);
  for (size_t i = 0; i < words.size(); ++i) value<uint32_t>(keys, static_cast<int64_t>(i)) = words[i];
  return keys;
}

std::vector<uint32_t> words_of(RandomFn random_bits, std::vector<uint32_t> key, int64_t n) {
  const Box keys = key_box(key, {2}), out(Dtype::kUInt32, {n});
  random_bits(keys, out);
  EXPECT_TRUE(out.guards_intact());
  std::vector<uint32_t> words;
  for (int64_t i = 0; i < n; ++i) words.push_back(value<uint32_t>(out, i));
  return words;
}

// The published test vectors of Threefry-2x32 with 20 rounds (Random123's known answers).
TEST(Threefry, KnownAnswers) {
  using Words = std::array<uint32_t, 2>;
  EXPECT_EQ(threefry({0, 0}, {0, 0}), (Words{0x6b200159, 0x99ba4efe}));
  EXPECT_EQ(threefry({~0u, ~0u}, {~0u, ~0u}), (Words{0x1cb996fc, 0xbb002be7}));
  EXPECT_EQ(threefry({0x13198a2e, 0x03707344}, {0x243f6a88, 0x85a308d3}), (Words{0xc4923a9c, 0x483df7a0}));
}

// Printed by mx.random.split(mx.random.key(seed), n) of MLX 0.32.4.
TEST(RandomBits, WordsOfMlx) {
  for (RandomFn f : {&reference::random_bits, &cpu::random_bits}) {
    using Words = std::vector<uint32_t>;
    EXPECT_EQ(words_of(f, {0, 0}, 2), (Words{928981903, 3453687069}));
    EXPECT_EQ(words_of(f, {0, 0}, 4), (Words{4146024105, 967050713, 2718843009, 1272950319}));
    EXPECT_EQ(words_of(f, {0, 7}, 6),
              (Words{276534068, 861967409, 1905761346, 1641862660, 2900896126, 1402713516}));
    EXPECT_EQ(words_of(f, {28744, 2249056121}, 4), (Words{1246917144, 3444626140, 944670341, 553609622}));
  }
}

// From mx.random.uniform(shape=(n,), key=mx.random.key(7)), which keeps the upper 24 bits: odd numbers of
// words.
TEST(RandomBits, OddNumbersOfWords) {
  for (RandomFn f : {&reference::random_bits, &cpu::random_bits}) {
    auto rounded = [&](int64_t n) {
      std::vector<int64_t> words;
      for (uint32_t w : words_of(f, {0, 7}, n)) words.push_back(static_cast<int64_t>(static_cast<float>(w)));
      return words;
    };
    EXPECT_EQ(rounded(1), (std::vector<int64_t>{3625411840}));
    EXPECT_EQ(rounded(3), (std::vector<int64_t>{966301632, 1830345088, 1948237312}));
    EXPECT_EQ(rounded(5), (std::vector<int64_t>{276534080, 861967424, 2793701120, 1641862656, 2900896000}));
  }
}

TEST(RandomBits, EverySizeAndWidthOnEveryTarget) {
  for_each_target([] {
    for (Dtype dtype : {Dtype::kUInt8, Dtype::kUInt16, Dtype::kUInt32}) {
      for (int64_t n = 0; n <= 600; n += n < 140 ? 1 : 23) {
        const Box keys = key_box({5, 6}, {2}), got(dtype, {n}), expected(dtype, {n});
        cpu::random_bits(keys, got);
        reference::random_bits(keys, expected);
        EXPECT_EQ(dense_bytes(got), dense_bytes(expected)) << describe(got);
        EXPECT_TRUE(got.guards_intact());
      }
    }
  });
}

TEST(RandomBits, NarrowElementsAreTheBytesOfTheWords) {
  for (RandomFn f : {&reference::random_bits, &cpu::random_bits}) {
    const Box keys = key_box({1, 2}, {2}), bytes(Dtype::kUInt8, {11}), halves(Dtype::kUInt16, {5});
    f(keys, bytes);
    f(keys, halves);
    const std::vector<uint32_t> words = words_of(f, {1, 2}, 3);
    for (int64_t i = 0; i < 11; ++i) {
      EXPECT_EQ(value<uint8_t>(bytes, i),
                static_cast<uint8_t>(words[static_cast<size_t>(i / 4)] >> (8 * (i % 4))));
    }
    for (int64_t i = 0; i < 5; ++i) {
      EXPECT_EQ(value<uint16_t>(halves, i),
                static_cast<uint16_t>(words[static_cast<size_t>(i / 2)] >> (16 * (i % 2))));
    }
  }
}

TEST(RandomBits, AKeyForEachRow) {
  for (RandomFn f : {&reference::random_bits, &cpu::random_bits}) {
    for (Layout layout : kInLayouts) {
      const Box keys = random_box(Dtype::kUInt32, {3, 2, 2}, layout, 4, Values::kBits);
      const Box out(Dtype::kUInt32, {3, 2, 5, 7});
      f(keys, out);
      EXPECT_TRUE(out.guards_intact());
      for (int64_t k = 0; k < 6; ++k) {
        const std::vector<uint32_t> words =
            words_of(f, {value<uint32_t>(keys, 2 * k), value<uint32_t>(keys, 2 * k + 1)}, 35);
        for (int64_t i = 0; i < 35; ++i)
          EXPECT_EQ(value<uint32_t>(out, k * 35 + i), words[static_cast<size_t>(i)]);
      }
    }
  }
}

TEST(RandomBits, EmptyRequests) {
  const Box none(Dtype::kUInt32, {0, 2}), one = key_box({1, 2}, {2}), out(Dtype::kUInt32, {0, 3}),
                                          nothing(Dtype::kUInt8, {0});
  for (RandomFn f : {&reference::random_bits, &cpu::random_bits}) {
    f(none, out);
    f(one, nothing);
    EXPECT_TRUE(out.guards_intact() && nothing.guards_intact());
  }
}

TEST(RandomBits, ThreadsDoNotChangeTheResult) {
  const Box key = key_box({0, 9}, {2}), line(Dtype::kUInt32, {200001}), expected(Dtype::kUInt32, {200001});
  expect_same_for_all_thread_counts(line, [&] { cpu::random_bits(key, line); });
  reference::random_bits(key, expected);
  EXPECT_EQ(dense_bytes(line), dense_bytes(expected));
  const Box keys = random_box(Dtype::kUInt32, {50, 2}, Layout::kDense, 4, Values::kBits),
            rows(Dtype::kUInt16, {50, 3001});
  expect_same_for_all_thread_counts(rows, [&] { cpu::random_bits(keys, rows); });
}

}  // namespace
}  // namespace lamina
