#pragma once

#include <cstdint>

namespace lamina {

// How a matrix is stored in few bits: blocks of consecutive elements of a row share scales. The order is part
// of saved graphs: append only.
enum class QuantFormat : uint8_t {
  kAffine,  // integers of 1 to 6 or 8 bits with a scale and a bias for each group
  kMxfp4,   // E2M1 floats, a power of two (E8M0) for each group of 32
  kMxfp8,   // E4M3 floats, a power of two (E8M0) for each group of 32
  kNvfp4,   // E2M1 floats, an E4M3 scale for each group of 16
  // The blocks of GGUF files, scales among the codes (quant/gguf_blocks.h); they are read, never written.
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2K,
  kQ3K,
  kQ4K,
  kQ5K,
  kQ6K,
  kIq4Nl,
  kIq4Xs,
  kFp8,  // E4M3 floats, a float32 for each group of 128: checkpoints with block scales; read, never written
};

// A format with its parameters. Formats other than kAffine have one group size and one width each.
struct QuantSpec {
  QuantFormat format = QuantFormat::kAffine;
  int group_size = 64, bits = 4;
  friend bool operator==(const QuantSpec&, const QuantSpec&) = default;
};

}  // namespace lamina
