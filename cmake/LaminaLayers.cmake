# One target per layer of cpp/src. A layer sees the layers named in its row, and theirs, and nothing else:
# its sources are compiled with the same include root, the include rule (tools/check/include_rule.py) keeps
# them honest, and with tests on a link of each layer against its row alone proves it.
set(LAMINA_SOURCE_ROOT "${PROJECT_SOURCE_DIR}/cpp/src")
set(LAMINA_PUBLIC_INCLUDE "${PROJECT_SOURCE_DIR}/cpp/include")
set(LAMINA_GENERATED_INCLUDE "${PROJECT_BINARY_DIR}/include")

# The op tables: public headers include them as "lamina/table/<name>.def".
file(GLOB lamina_tables CONFIGURE_DEPENDS "${LAMINA_SOURCE_ROOT}/ops/*.def")
foreach(table IN LISTS lamina_tables)
  cmake_path(GET table FILENAME table_name)
  configure_file("${table}" "${LAMINA_GENERATED_INCLUDE}/lamina/table/${table_name}" COPYONLY)
endforeach()
configure_file("${PROJECT_SOURCE_DIR}/cmake/version.h.in" "${LAMINA_GENERATED_INCLUDE}/lamina/version.h" @ONLY)
configure_file("${PROJECT_SOURCE_DIR}/cmake/version.cc.in" "${PROJECT_BINARY_DIR}/src/version.cc" @ONLY)

# lamina_layer(<name> [UNITY] [DEPENDS <layer>...] [GENERATED <file>...]): the target lamina_<name> from
# cpp/src/<name>/**.cc. UNITY: its sources may be compiled in batches.
function(lamina_layer name)
  cmake_parse_arguments(arg "UNITY" "" "DEPENDS;GENERATED" ${ARGN})
  set(target lamina_${name})
  list(TRANSFORM arg_DEPENDS PREPEND lamina_)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${LAMINA_SOURCE_ROOT}/${name}/*.cc")
  list(APPEND sources ${arg_GENERATED})
  if(NOT sources)
    add_library(${target} INTERFACE)
    target_link_libraries(${target} INTERFACE ${arg_DEPENDS} lamina_flags lamina_dependencies)
    return()
  endif()
  add_library(${target} STATIC ${sources})
  target_include_directories(${target} PUBLIC
    "${LAMINA_SOURCE_ROOT}" "${LAMINA_PUBLIC_INCLUDE}" "${LAMINA_GENERATED_INCLUDE}")
  target_link_libraries(${target} PUBLIC ${arg_DEPENDS} lamina_flags lamina_dependencies)
  if(arg_UNITY AND LAMINA_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON)
  endif()
  set_property(GLOBAL APPEND PROPERTY lamina_object_layers ${target})
  if(LAMINA_BUILD_TESTS AND NOT LAMINA_SANITIZE)
    add_library(${target}_links_down SHARED $<TARGET_OBJECTS:${target}>)
    target_link_libraries(${target}_links_down PRIVATE ${arg_DEPENDS} lamina_dependencies)
    target_link_options(${target}_links_down PRIVATE -Wl,--no-undefined)
    set_target_properties(${target}_links_down PROPERTIES
      LINKER_LANGUAGE CXX LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/links_down")
  endif()
endfunction()

lamina_layer(core UNITY GENERATED "${PROJECT_BINARY_DIR}/src/version.cc")
lamina_layer(memory UNITY DEPENDS core)
lamina_layer(graph UNITY DEPENDS memory)
lamina_layer(quant UNITY DEPENDS memory)
lamina_layer(io DEPENDS memory quant)
lamina_layer(ops UNITY DEPENDS graph quant)
lamina_layer(autograd DEPENDS ops)
lamina_layer(export UNITY DEPENDS autograd io)
lamina_layer(fusion UNITY DEPENDS ops)
lamina_layer(backend DEPENDS autograd fusion io)
lamina_layer(explain UNITY DEPENDS backend)

# Kernels: the last of -O3 and -O2 on the command line wins, so this only changes optimized builds.
get_target_property(lamina_backend_type lamina_backend TYPE)
if(lamina_backend_type STREQUAL "STATIC_LIBRARY")
  target_compile_options(lamina_backend PRIVATE $<$<CONFIG:Release>:-O3>)
  # A check at each dereference makes the compiler spend minutes on one file of unrolled kernels; bounds,
  # overflows and shifts stay checked, and addresses are AddressSanitizer's.
  if(LAMINA_SANITIZE MATCHES "undefined")
    target_compile_options(lamina_backend PRIVATE -fno-sanitize=null,alignment,object-size)
  endif()
endif()

# Eigen's decompositions are large: -O2 halves their compile time and costs them no speed. The rest is plain loops.
file(GLOB lamina_reference_sources CONFIGURE_DEPENDS "${LAMINA_SOURCE_ROOT}/backend/reference/*.cc")
set_source_files_properties(${lamina_reference_sources} PROPERTIES COMPILE_OPTIONS "$<$<CONFIG:Release>:-O2>")

get_property(LAMINA_OBJECT_LAYERS GLOBAL PROPERTY lamina_object_layers)
set(LAMINA_ALL_OBJECTS "")
foreach(layer IN LISTS LAMINA_OBJECT_LAYERS)
  list(APPEND LAMINA_ALL_OBJECTS "$<TARGET_OBJECTS:${layer}>")
endforeach()
