#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lamina {

// Applies LAMINA_SIMD (avx3_dl, avx3, avx2 or sse2) once for the process; every kernel lookup calls it.
// Throws ValueError, at each call, for a name that is unknown or that this CPU does not support.
void init_simd_target();
// Makes kernels looked up from now on those of the named target; throws like init_simd_target.
void set_simd_target(std::string_view name);
// Name of the target whose kernels run, such as "avx3_dl"; "sse2" stands for the compiler's baseline.
const char* simd_target_name();
// Names that LAMINA_SIMD may take on this CPU, best first.
std::vector<std::string> supported_simd_targets();

}  // namespace lamina
