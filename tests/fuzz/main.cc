// A libFuzzer program for the format that LAMINA_FUZZ_FORMAT names: ./dev fuzz
#include "harness.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  lamina::fuzz::run(LAMINA_FUZZ_FORMAT, std::as_bytes(std::span(data, bytes)));
  return 0;
}
