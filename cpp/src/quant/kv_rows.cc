#include "quant/kv_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lamina {
namespace {

// The group's scale as it is kept.
float16_t scale_of(const float* x, int64_t n, int bits) {
  float low = 0, high = 0;
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) {
    low = std::min(low, x[i]), high = std::max(high, x[i]);
    finite = finite && std::isfinite(x[i]);
  }
  if (!finite) return float16_t(std::numeric_limits<float>::quiet_NaN());
  const float most = std::max(-low, high);
  return float16_t(bits == 8 ? most / 127 : (-low == most ? low : high) / -8);
}

}  // namespace

void encode_kv_row(const float* row, int64_t elems, int bits, void* codes, float16_t* scales) {
  const float least = bits == 8 ? -127 : -8, most = bits == 8 ? 127 : 7;
  for (int64_t begin = 0; begin < elems; begin += kKvGroup) {
    const int64_t end = std::min(elems, begin + kKvGroup);
    const float16_t stored = scale_of(row + begin, end - begin, bits);
    scales[begin / kKvGroup] = stored;
    const float scale = static_cast<float>(stored);
    const float inverse = scale == 0 || std::isnan(scale) ? 0 : 1 / scale;
    for (int64_t i = begin; i < end; ++i) {
      const float x = inverse == 0 ? 0 : std::nearbyint(row[i] * inverse);
      const int code = static_cast<int>(std::clamp(x, least, most));
      if (bits == 8) {
        static_cast<int8_t*>(codes)[i] = static_cast<int8_t>(code);
      } else {
        uint8_t& byte = static_cast<uint8_t*>(codes)[i / 2];
        const int kept = code + 8;
        byte = static_cast<uint8_t>(i % 2 == 0 ? kept : byte | kept << 4);
      }
    }
  }
}

void decode_kv_row(const void* codes, const float16_t* scales, int64_t elems, int bits, float* row) {
  for (int64_t i = 0; i < elems; ++i) {
    const int code = bits == 8 ? static_cast<const int8_t*>(codes)[i]
                               : (static_cast<const uint8_t*>(codes)[i / 2] >> (i % 2 * 4) & 15) - 8;
    row[i] = static_cast<float>(scales[i / kKvGroup]) * static_cast<float>(code);
  }
}

}  // namespace lamina
