#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace lamina {

// SpreadFn by plain loops.
inline void fill(void* out, const void* value, int64_t n, int64_t item) {
  switch (item) {
    case 1: std::memset(out, *static_cast<const unsigned char*>(value), static_cast<size_t>(n)); return;
    case 2: std::fill_n(static_cast<uint16_t*>(out), n, *static_cast<const uint16_t*>(value)); return;
    case 4: std::fill_n(static_cast<uint32_t*>(out), n, *static_cast<const uint32_t*>(value)); return;
    default: std::fill_n(static_cast<uint64_t*>(out), n, *static_cast<const uint64_t*>(value)); return;
  }
}

template <class T>
void gather_strided(const char* in, int64_t stride, char* out, int64_t n) {
  const T* p = reinterpret_cast<const T*>(in);
  T* q = reinterpret_cast<T*>(out);
  for (int64_t i = 0; i < n; ++i) q[i] = p[i * stride];
}

// n elements from `in` with a step in elements, packed to `out`.
inline void gather(const char* in, int64_t stride, char* out, int64_t n, int64_t item) {
  if (stride == 1) {
    std::memcpy(out, in, static_cast<size_t>(n * item));
  } else if (stride == 0) {
    fill(out, in, n, item);
  } else if (item == 1) {
    gather_strided<uint8_t>(in, stride, out, n);
  } else if (item == 2) {
    gather_strided<uint16_t>(in, stride, out, n);
  } else if (item == 4) {
    gather_strided<uint32_t>(in, stride, out, n);
  } else {
    gather_strided<uint64_t>(in, stride, out, n);
  }
}

}  // namespace lamina
