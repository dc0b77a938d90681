#include "memory/size_class.h"

#include <gtest/gtest.h>

namespace lamina {
namespace {

constexpr size_t kPage = 4096;

TEST(SizeClass, EverySmallRequestFitsItsClassAndNoSmallerOne) {
  for (size_t bytes = 0; bytes <= kSmallMaxBytes; ++bytes) {
    unsigned index = small_class(bytes);
    ASSERT_LT(index, kSmallClasses);
    ASSERT_GE(small_class_bytes(index), bytes);
    if (index > 0) { ASSERT_LT(small_class_bytes(index - 1), bytes); }
  }
}

TEST(SizeClass, ClassesAreAlignedAndOrdered) {
  EXPECT_EQ(small_class_bytes(0), kAlignmentBytes);
  EXPECT_EQ(small_class_bytes(kSmallClasses - 1), kSmallMaxBytes);
  for (unsigned i = 0; i < kSmallClasses; ++i) {
    EXPECT_EQ(small_class_bytes(i) % kAlignmentBytes, 0u) << i;
    EXPECT_EQ(small_class(small_class_bytes(i)), i);
  }
}

TEST(SizeClass, WasteIsAtMostAnEighth) {
  for (size_t bytes = 513; bytes < size_t{8} << 20; bytes += bytes / 97) {
    size_t capacity = block_capacity(bytes, kPage);
    EXPECT_GE(capacity, bytes);
    EXPECT_LE(8 * (capacity - bytes), bytes) << bytes;
  }
}

TEST(SizeClass, LargeBlocksAreWholePages) {
  for (size_t bytes : {kSmallMaxBytes + 1, kHugeBytes - 1, kHugeBytes, kHugeBytes + 1, size_t{5} << 30}) {
    EXPECT_EQ(block_capacity(bytes, kPage) % kPage, 0u) << bytes;
  }
  EXPECT_EQ(block_capacity(kHugeBytes + 1, kPage), kHugeBytes + kPage);
  EXPECT_EQ(block_capacity(kSmallMaxBytes + 1, 65536), 2 * kSmallMaxBytes);
}

TEST(SizeClass, BinsHoldEveryBlockThatMayServeARequest) {
  for (size_t capacity = kSmallMaxBytes + kPage; capacity < size_t{1} << 40; capacity += capacity / 63) {
    size_t first = large_bin(capacity);
    EXPECT_LT(first, kLargeBins);
    EXPECT_LT(large_bin(capacity + capacity / 8), first + kBinsPerRequest) << capacity;
  }
  EXPECT_LT(large_bin(SIZE_MAX), kLargeBins);
}

}  // namespace
}  // namespace lamina
