#include "backend/reference/gather_nonzero.h"

#include <vector>

#include "backend/reference/layout.h"
#include "backend/reference/layout_dtype.h"
#include "core/thread_pool.h"

namespace lamina::reference {
namespace {

constexpr int64_t kBlock = 32768;  // elements that one thread counts or lists at a time

template <class T>
bool nonzero_at(const char* p) {
  const T value = *reinterpret_cast<const T*>(p);
  if constexpr (kIsHalf<T>) {
    return (value.bits & 0x7fffu) != 0;
  } else {
    return value != T{};
  }
}

// Non-zero elements of each block of kBlock, in row-major order.
std::vector<int64_t> count_blocks(const View& mask, const CollapsedLoop<1>& loop) {
  const int64_t size = loop.size();
  std::vector<int64_t> counts(static_cast<size_t>((size + kBlock - 1) / kBlock));
  visit_dtype(mask.dtype, [&]<class T>(std::type_identity<T>) {
    parallel_for(static_cast<int64_t>(counts.size()), [&](int64_t b) {
      int64_t found = 0;
      for_each_row(loop, b * kBlock, std::min(size, (b + 1) * kBlock), [&](const auto& at, int64_t n) {
        const char* p = static_cast<const char*>(mask.data) + at[0];
        const int64_t step = loop.inner_stride(0);
        if (step == static_cast<int64_t>(sizeof(T))) {
          for (int64_t i = 0; i < n; ++i) found += nonzero_at<T>(p + i * static_cast<int64_t>(sizeof(T)));
        } else {
          for (int64_t i = 0; i < n; ++i) found += nonzero_at<T>(p + i * step);
        }
      });
      counts[static_cast<size_t>(b)] = found;
    });
  });
  return counts;
}

}  // namespace

int64_t count_nonzero(const View& mask) {
  int64_t total = 0;
  for (int64_t n : count_blocks(mask, collapse_views<1>({&mask}))) total += n;
  return total;
}

void nonzero(const View& mask, std::span<const View> outs) {
  if (mask.shape.empty()) return;
  const auto loop = collapse_views<1>({&mask});
  std::vector<int64_t> starts = count_blocks(mask, loop);
  int64_t total = 0;
  for (int64_t& n : starts) {
    const int64_t here = n;
    n = total;
    total += here;
  }
  const size_t rank = mask.shape.size();
  auto put = [&](size_t d, int64_t at, int64_t value) {
    static_cast<int64_t*>(outs[d].data)[at * outs[d].strides[0]] = value;
  };
  visit_dtype(mask.dtype, [&]<class T>(std::type_identity<T>) {
    parallel_for(static_cast<int64_t>(starts.size()), [&](int64_t b) {
      int64_t at_out = starts[static_cast<size_t>(b)], linear = b * kBlock;
      for_each_row(loop, linear, std::min(loop.size(), linear + kBlock), [&](const auto& at, int64_t n) {
        const char* p = static_cast<const char*>(mask.data) + at[0];
        for (int64_t i = 0; i < n; ++i, ++linear) {
          if (!nonzero_at<T>(p + i * loop.inner_stride(0))) continue;
          int64_t rest = linear;
          for (size_t d = rank; d-- > 0;) {
            put(d, at_out, rest % mask.shape[d]);
            rest /= mask.shape[d];
          }
          ++at_out;
        }
      });
    });
  });
}

}  // namespace lamina::reference
