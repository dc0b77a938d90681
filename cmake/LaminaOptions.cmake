# Options, and the compile flags every target of the project shares.
include(CMakeDependentOption)
include(GNUInstallDirs)

set(LAMINA_IS_WHEEL OFF)
if(DEFINED SKBUILD)
  set(LAMINA_IS_WHEEL ON)
endif()

option(BUILD_SHARED_LIBS "Build the C++ library as a shared library" ON)
option(LAMINA_BUILD_PYTHON "Build the Python module lamina.core" ${LAMINA_IS_WHEEL})
option(LAMINA_BUILD_TESTS "Build the C++ tests" OFF)
option(LAMINA_BUILD_BENCH "Build the C++ micro benchmarks" OFF)
option(LAMINA_BUILD_FUZZ "Build the fuzz programs of the file formats; needs clang" OFF)
option(LAMINA_BUILD_EXAMPLES "Build cpp/examples together with the library" OFF)
option(LAMINA_WERROR "Treat compiler warnings as errors" OFF)
option(LAMINA_UNITY "Compile small sources in batches: half the time of a clean build, more for a change" ON)
option(LAMINA_CCACHE "Compile through ccache where it is installed" ON)
set(LAMINA_SANITIZE "" CACHE STRING "Sanitizers for every target, such as 'address,undefined' or 'thread'")

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# pybind11 turns link-time optimization on for its module alone unless this is set.
set(CMAKE_INTERPROCEDURAL_OPTIMIZATION OFF)

if(LAMINA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(LAMINA_CCACHE_PROGRAM ccache)
  if(LAMINA_CCACHE_PROGRAM)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${LAMINA_CCACHE_PROGRAM}")
  endif()
endif()

# Contraction off: the same source gives the same bits on every compiler; kernels ask for FMA by name.
# No semantic interposition: calls inside the shared library stay direct and can be inlined.
add_library(lamina_flags INTERFACE)
target_compile_features(lamina_flags INTERFACE cxx_std_20)
target_compile_options(lamina_flags INTERFACE
  -ffp-contract=off -fno-math-errno -fvisibility-inlines-hidden -fno-semantic-interposition
  -Wall -Wextra -Wpedantic -Wshadow
  $<$<BOOL:${LAMINA_WERROR}>:-Werror>)

# Optimized builds use -O2; the kernel layer raises itself to -O3 (see LaminaLayers).
string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")

if(LAMINA_SANITIZE)
  add_compile_options(-fsanitize=${LAMINA_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${LAMINA_SANITIZE})
endif()
