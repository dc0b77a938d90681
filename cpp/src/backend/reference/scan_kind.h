#pragma once

#include <cstdint>

namespace lamina {

enum class ScanKind : uint8_t { kSum, kProd, kMax, kMin, kLogAddExp };

}  // namespace lamina
