#pragma once

#include <string>
#include <vector>

namespace lamina {

// Applies LAMINA_SIMD (sse2, avx2, avx3, avx3_dl) once for the process; every kernel lookup calls it.
// Throws ValueError, at each call, for a name that is unknown or that this CPU does not support.
void init_simd_target();
// Name of the target whose kernels run, such as "avx3_dl".
const char* simd_target_name();
// Names that LAMINA_SIMD may take on this CPU, best first.
std::vector<std::string> supported_simd_targets();

}  // namespace lamina
