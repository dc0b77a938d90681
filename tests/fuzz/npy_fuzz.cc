// libFuzzer target; seeds: tests/golden/io/*.npy
#include <cstdlib>
#include <span>

#include "io/npy.h"
#include "lamina/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  try {
    const lamina::LoadedTensor t = lamina::read_npy(std::as_bytes(std::span(data, bytes)), nullptr, "fuzz");
    if (t.tensor.bytes.size() != lamina::tensor_bytes(t.tensor.dtype, t.tensor.shape)) std::abort();
    // What was read can be written, and then reads the same.
    std::string image = lamina::npy_header(t.tensor);
    image.append(reinterpret_cast<const char*>(t.tensor.bytes.data()), t.tensor.bytes.size());
    const lamina::NpyHeader again = lamina::parse_npy(std::as_bytes(std::span(image)), "again");
    if (again.dtype != t.tensor.dtype || !(again.shape == t.tensor.shape)) std::abort();
  } catch (const lamina::Error&) { return 0; }
  return 0;
}
