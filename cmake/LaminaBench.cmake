# One Google Benchmark program per file of bench/micro.
find_package(benchmark CONFIG REQUIRED)

file(GLOB lamina_bench_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/bench/micro/*.cc")
foreach(source IN LISTS lamina_bench_sources)
  cmake_path(GET source STEM name)
  set(target lamina_bench_${name})
  add_executable(${target} "${source}")
  target_include_directories(${target} PRIVATE
    "${LAMINA_SOURCE_ROOT}" "${PROJECT_SOURCE_DIR}/bench/micro" "${PROJECT_SOURCE_DIR}/tests/cpp")
  target_link_libraries(${target} PRIVATE
    lamina lamina_flags lamina_dependencies benchmark::benchmark benchmark::benchmark_main)
  set_target_properties(${target} PROPERTIES
    OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bench")
endforeach()
