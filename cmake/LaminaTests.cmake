# One GoogleTest program per folder of tests/cpp, named lamina_<folder>_tests; ctest sees each test of it.
find_package(GTest CONFIG REQUIRED)
include(GoogleTest)

# The library keeps its copy of fmt to itself; the tests have their own.
add_library(lamina_tests_fmt STATIC "${LAMINA_SOURCE_ROOT}/core/fmt.cc")
target_link_libraries(lamina_tests_fmt PRIVATE lamina_flags lamina_dependencies)

set(lamina_tests_root "${PROJECT_SOURCE_DIR}/tests/cpp")
file(GLOB lamina_test_folders RELATIVE "${lamina_tests_root}" CONFIGURE_DEPENDS "${lamina_tests_root}/*")
foreach(folder IN LISTS lamina_test_folders)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${lamina_tests_root}/${folder}/*.cc")
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  if(NOT tests)
    continue()
  endif()
  set(target lamina_${folder}_tests)
  add_executable(${target} ${sources})
  target_include_directories(${target} PRIVATE "${LAMINA_SOURCE_ROOT}" "${lamina_tests_root}")
  target_compile_definitions(${target} PRIVATE LAMINA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  # Templates over every dtype: compiling them well costs more than running them once does.
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  target_link_libraries(${target} PRIVATE lamina lamina_flags lamina_dependencies lamina_tests_fmt GTest::gtest_main)
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
  gtest_discover_tests(${target} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 120
    WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}" PROPERTIES LABELS ${folder}
    ENVIRONMENT "LAMINA_CACHE_DIR=${PROJECT_BINARY_DIR}/tests/cache")
endforeach()
