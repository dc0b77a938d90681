#pragma once

#include <gtest/gtest.h>

#include <complex>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "io/tensor.h"
#include "lamina/error.h"

namespace lamina::io_test {

inline std::string golden(const std::string& name) {
  return std::string(LAMINA_SOURCE_DIR) + "/tests/golden/io/" + name;
}

inline std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}
inline void write_bytes(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}
inline std::span<const std::byte> as_span(std::string_view bytes) { return std::as_bytes(std::span(bytes)); }
inline std::string as_string(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// A folder that goes with the test.
class TempDir {
 public:
  TempDir() {
    std::string name = testing::TempDir() + "lamina_io_XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  size_t entries() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

 private:
  std::string path_;
};

template <class T>
void append(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

// Element i as tests/golden/make_io.py writes it.
inline void append_element(std::string& out, Dtype dtype, int i) {
  const float real = static_cast<float>(i - 2) / 2;
  switch (dtype) {
    case Dtype::kBool: return append(out, static_cast<uint8_t>(i % 2));
    case Dtype::kUInt8: return append(out, static_cast<uint8_t>(i));
    case Dtype::kUInt16: return append(out, static_cast<uint16_t>(i));
    case Dtype::kUInt32: return append(out, static_cast<uint32_t>(i));
    case Dtype::kUInt64: return append(out, static_cast<uint64_t>(i));
    case Dtype::kInt8: return append(out, static_cast<int8_t>(i - 2));
    case Dtype::kInt16: return append(out, static_cast<int16_t>(i - 2));
    case Dtype::kInt32: return append(out, static_cast<int32_t>(i - 2));
    case Dtype::kInt64: return append(out, static_cast<int64_t>(i - 2));
    case Dtype::kFloat16: return append(out, float16_t(real).bits);
    case Dtype::kFloat32: return append(out, real);
    case Dtype::kFloat64: return append(out, static_cast<double>(real));
    case Dtype::kBFloat16: return append(out, bfloat16_t(real).bits);
    case Dtype::kComplex64:
      append(out, static_cast<float>(i) / 2);
      return append(out, static_cast<float>(-i));
  }
}

inline std::string pattern(Dtype dtype, const Shape& shape) {
  std::string out;
  for (int i = 0; i < num_elements(shape); ++i) append_element(out, dtype, i);
  return out;
}

inline void expect_pattern(const HostTensor& tensor, Dtype dtype, const Shape& shape) {
  EXPECT_EQ(tensor.dtype, dtype);
  EXPECT_EQ(tensor.shape, shape);
  EXPECT_FALSE(tensor.fortran_order);
  EXPECT_EQ(as_string(tensor.bytes), pattern(dtype, shape));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.bytes.data()) % itemsize(dtype), 0u);
}

// Runs `call`, which must throw E, and gives its message.
template <class E>
std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const E& e) { return e.what(); }
  ADD_FAILURE() << "nothing of the wanted type was thrown";
  return "";
}

using Parser = std::function<void(std::span<const std::byte>)>;

// Every front part of a file must be refused with a ValueError.
inline void expect_truncations_refused(const std::string& image, const Parser& parse) {
  for (size_t n = 0; n < image.size(); ++n) {
    // A copy of its own size, so that a read past the end is seen by AddressSanitizer.
    const std::vector<char> part(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(n));
    EXPECT_THROW(parse(std::as_bytes(std::span(part))), ValueError) << n;
  }
}

// Damages a file at random; each result must be read or refused with a typed error.
inline void expect_mutations_harmless(const std::string& image, unsigned seed, int rounds,
                                      const Parser& parse) {
  std::mt19937 rng(seed);
  int refused = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<char> damaged(image.begin(), image.end());
    for (unsigned flips = 1 + rng() % 4; flips-- > 0;) {
      char& byte = damaged[rng() % damaged.size()];
      switch (rng() % 4) {
        case 0: byte = static_cast<char>(byte ^ (1 << rng() % 8)); break;
        case 1: byte = static_cast<char>(rng()); break;
        case 2: byte = "0123456789[]{}(),:\"' "[rng() % 21]; break;
        default: byte = static_cast<char>(rng() % 2 ? 0xff : 0); break;
      }
    }
    if (rng() % 8 == 0) damaged.resize(rng() % (damaged.size() + 1));
    try {
      parse(std::as_bytes(std::span(damaged)));
    } catch (const Error&) { ++refused; }
  }
  EXPECT_GT(refused, 0);
}

}  // namespace lamina::io_test
