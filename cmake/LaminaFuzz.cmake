# One libFuzzer program per file format, lamina_fuzz_<format>, from tests/fuzz. Needs clang, and LAMINA_SANITIZE
# with fuzzer-no-link (preset fuzz).
foreach(format IN ITEMS json npy npz safetensors gguf)
  set(target lamina_fuzz_${format})
  add_executable(${target} "${PROJECT_SOURCE_DIR}/tests/fuzz/main.cc")
  target_compile_definitions(${target} PRIVATE LAMINA_FUZZ_FORMAT="${format}")
  target_link_libraries(${target} PRIVATE lamina_io lamina_flags lamina_dependencies)
  target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  set_target_properties(${target} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/fuzz" EXCLUDE_FROM_ALL ON)
endforeach()
