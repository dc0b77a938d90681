# Third-party packages of the C++ core. All come from the system; nothing is downloaded.
find_package(Threads REQUIRED)
find_package(hwy CONFIG REQUIRED)
find_package(Eigen3 3.4 CONFIG REQUIRED)
find_package(fmt 9 CONFIG REQUIRED)
find_package(ZLIB REQUIRED)

# Of fmt only the headers are used: its functions are compiled once, in src/core/fmt.cc, so that neither the wheel
# nor an installed library needs its shared object.
get_target_property(lamina_fmt_include fmt::fmt-header-only INTERFACE_INCLUDE_DIRECTORIES)
add_library(lamina_dependencies INTERFACE)
target_include_directories(lamina_dependencies SYSTEM INTERFACE ${lamina_fmt_include})
target_link_libraries(lamina_dependencies INTERFACE
  hwy::hwy Eigen3::Eigen ZLIB::ZLIB Threads::Threads)

# Every file must see the same SIMD targets: scalar emulation, AVX2, AVX-512, AVX-512 with VNNI.
set(LAMINA_SIMD_WITHOUT "HWY_SSSE3|HWY_SSE4" CACHE STRING "SIMD targets of Highway that are left out")
mark_as_advanced(LAMINA_SIMD_WITHOUT)
target_compile_definitions(lamina_dependencies INTERFACE
  HWY_WANT_AVX3_DL=1 "HWY_DISABLED_TARGETS=(${LAMINA_SIMD_WITHOUT})")

# Eigen must not start threads of its own beside the library's pool.
target_compile_definitions(lamina_dependencies INTERFACE EIGEN_DONT_PARALLELIZE EIGEN_MPL2_ONLY)
