#include "backend/reference/random.h"

#include <algorithm>
#include <cstring>

#include "backend/reference/layout.h"
#include "backend/reference/random_threefry.h"

namespace lamina::reference {

void random_bits(const View& keys, const View& out) {
  const auto axis = static_cast<int64_t>(keys.shape.size()) - 1;
  const int64_t word_step = keys.strides[static_cast<size_t>(axis)];
  const View firsts = drop_axis(keys, axis);
  const auto loop = collapse_views<1>({&firsts});
  if (loop.size() == 0 || out.size() == 0) return;
  const int64_t bytes = out.size() / loop.size() * static_cast<int64_t>(itemsize(out.dtype));
  const int64_t words = (bytes + 3) / 4, half = (words + 1) / 2;
  char* to = static_cast<char*>(out.data);
  for_each_row(loop, 0, loop.size(), [&](const auto& at, int64_t n) {
    for (int64_t k = 0; k < n; ++k, to += bytes) {
      const auto* key = reinterpret_cast<const uint32_t*>(static_cast<const char*>(keys.data) + at[0] +
                                                          k * loop.inner_stride(0));
      for (int64_t i = 0; i < words; ++i) {
        const auto block = threefry_block({key[0], key[word_step]}, i < half ? i : i - half, words);
        const uint32_t word = block[i < half ? 0 : 1];
        std::memcpy(to + 4 * i, &word, static_cast<size_t>(std::min<int64_t>(4, bytes - 4 * i)));
      }
    }
  });
}

}  // namespace lamina::reference
