// libFuzzer target; seeds: tests/golden/io/*.safetensors
#include <cstdlib>
#include <span>

#include "io/safetensors.h"
#include "lamina/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  const std::span<const std::byte> file = std::as_bytes(std::span(data, bytes));
  try {
    const lamina::SafetensorsHeader header = lamina::parse_safetensors(file, "fuzz");
    size_t end = header.data_begin;
    for (const lamina::TensorEntry& t : header.tensors) {
      if (t.end - t.begin != lamina::tensor_bytes(t.dtype, t.shape)) std::abort();
      if (header.data_begin + t.begin != end) std::abort();
      end = header.data_begin + t.end;
    }
    if (end != bytes) std::abort();
  } catch (const lamina::Error&) { return 0; }
  return 0;
}
