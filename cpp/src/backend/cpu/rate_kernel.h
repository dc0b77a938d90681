#pragma once

#include <cstdint>

namespace lamina::cpu {

// A loop of one instruction whose results wait for nothing but themselves: as many a second as a core does.
struct RateLoop {
  void (*run)(int64_t rounds);
  double ops;  // a round's operations; a multiply-add is two
};

// Only for a processor and a system that have what the name says; amx: on a thread that holds no AmxTiles.
extern const RateLoop kRateF32Avx2, kRateF32Avx512, kRateBFloat16Dot, kRateInt8Dot, kRateAmxBFloat16,
    kRateAmxInt8;

}  // namespace lamina::cpu
