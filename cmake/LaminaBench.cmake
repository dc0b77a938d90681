# One Google Benchmark program per *_bench.cc of bench/micro; the other sources there are shared by all.
# The target lamina_bench builds them all.
find_package(benchmark CONFIG REQUIRED)

set(lamina_bench_root "${PROJECT_SOURCE_DIR}/bench/micro")
file(GLOB lamina_bench_sources CONFIGURE_DEPENDS "${lamina_bench_root}/*_bench.cc")
file(GLOB lamina_bench_shared CONFIGURE_DEPENDS "${lamina_bench_root}/*.cc")
list(FILTER lamina_bench_shared EXCLUDE REGEX "_bench\\.cc$")

add_library(lamina_bench_support OBJECT ${lamina_bench_shared})
target_include_directories(lamina_bench_support PUBLIC "${LAMINA_SOURCE_ROOT}" "${lamina_bench_root}")
target_link_libraries(lamina_bench_support PUBLIC lamina lamina_flags lamina_dependencies benchmark::benchmark)

add_custom_target(lamina_bench)
foreach(source IN LISTS lamina_bench_sources)
  cmake_path(GET source STEM name)
  set(target lamina_bench_${name})
  add_executable(${target} "${source}")
  target_link_libraries(${target} PRIVATE lamina_bench_support benchmark::benchmark_main)
  set_target_properties(${target} PROPERTIES
    OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bench")
  add_dependencies(lamina_bench ${target})
endforeach()
