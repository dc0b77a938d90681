// libFuzzer target; seeds: tests/golden/io/*.npz
#include <cstdlib>
#include <span>

#include "io/npz.h"
#include "lamina/error.h"
#include "lamina/memory.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  static const size_t limit = lamina::set_memory_limit(size_t{256} << 20);
  static_cast<void>(limit);
  try {
    for (const lamina::LoadedTensor& t : lamina::read_npz(std::as_bytes(std::span(data, bytes)), "fuzz")) {
      if (t.tensor.bytes.size() != lamina::tensor_bytes(t.tensor.dtype, t.tensor.shape)) std::abort();
    }
  } catch (const lamina::Error&) { return 0; }
  return 0;
}
