#pragma once

#include <hwy/detect_targets.h>

// Targets worth compiling kernels for: the SSE2 baseline, AVX2, AVX3 (AVX-512) and AVX3_DL (with VNNI).
// Include before <hwy/foreach_target.h>.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
