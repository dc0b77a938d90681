# The Python module lamina.core, with every layer linked in; the wheel also carries the Highway library.
find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module NumPy)
if(NOT pybind11_DIR)
  execute_process(COMMAND "${Python_EXECUTABLE}" -m pybind11 --cmakedir
    OUTPUT_VARIABLE lamina_pybind11_dir OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE lamina_pybind11_missing)
  if(NOT lamina_pybind11_missing)
    set(pybind11_DIR "${lamina_pybind11_dir}")
  endif()
endif()
set(PYBIND11_FINDPYTHON ON)
find_package(pybind11 2.12 CONFIG REQUIRED)

file(GLOB lamina_binding_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/cpp/bindings/*.cc")
if(NOT lamina_binding_sources)
  message(FATAL_ERROR "LAMINA_BUILD_PYTHON is on, but cpp/bindings holds no sources")
endif()

pybind11_add_module(lamina_python MODULE ${lamina_binding_sources} ${LAMINA_ALL_OBJECTS})
target_include_directories(lamina_python PRIVATE
  "${LAMINA_SOURCE_ROOT}" "${PROJECT_SOURCE_DIR}/cpp" "${LAMINA_PUBLIC_INCLUDE}" "${LAMINA_GENERATED_INCLUDE}")
target_link_libraries(lamina_python PRIVATE Python::NumPy lamina_flags lamina_dependencies)
target_compile_definitions(lamina_python PRIVATE LAMINA_VERSION_STRING="${PROJECT_VERSION}")
target_link_options(lamina_python PRIVATE
  "-Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/module.map" -Wl,--as-needed)
if(NOT LAMINA_SANITIZE)
  target_link_options(lamina_python PRIVATE -Wl,--no-undefined-version)
endif()
if(LAMINA_UNITY)
  set_target_properties(lamina_python PROPERTIES UNITY_BUILD ON)
endif()
# In the build tree the module lies in a package folder of its own, ready for PYTHONPATH or a stub generator.
set_target_properties(lamina_python PROPERTIES
  OUTPUT_NAME core
  LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/python/lamina"
  LINK_DEPENDS "${PROJECT_SOURCE_DIR}/cmake/module.map"
  INSTALL_RPATH "$ORIGIN/_libs")

# Stubs: a generator in cpp/bindings writes core.pyi from the module just built.
set(lamina_stub_generator "${PROJECT_SOURCE_DIR}/cpp/bindings/make_stubs.py")
if(EXISTS "${lamina_stub_generator}")
  set(lamina_stub "${PROJECT_BINARY_DIR}/typings/lamina/core.pyi")
  add_custom_command(TARGET lamina_python POST_BUILD
    COMMAND "${CMAKE_COMMAND}" -E make_directory "${PROJECT_BINARY_DIR}/typings/lamina"
    COMMAND "${Python_EXECUTABLE}" "${lamina_stub_generator}" "$<TARGET_FILE:lamina_python>" "${lamina_stub}"
    COMMENT "Writing core.pyi from the module" VERBATIM)
  install(FILES "${lamina_stub}" DESTINATION lamina COMPONENT python EXCLUDE_FROM_ALL)
endif()

install(TARGETS lamina_python DESTINATION lamina COMPONENT python EXCLUDE_FROM_ALL)

# Highway is the one shared library of the module that a machine need not have.
foreach(config NONE RELEASE RELWITHDEBINFO NOCONFIG)
  get_target_property(lamina_hwy_file hwy::hwy IMPORTED_LOCATION_${config})
  if(lamina_hwy_file)
    get_target_property(lamina_hwy_soname hwy::hwy IMPORTED_SONAME_${config})
    break()
  endif()
endforeach()
if(lamina_hwy_file MATCHES "\\.so" AND lamina_hwy_soname)
  install(FILES "${lamina_hwy_file}" RENAME "${lamina_hwy_soname}"
    DESTINATION lamina/_libs COMPONENT python EXCLUDE_FROM_ALL)
  install(FILES /usr/share/doc/libhwy1/copyright RENAME highway.copyright
    DESTINATION lamina/_libs COMPONENT python EXCLUDE_FROM_ALL OPTIONAL)
endif()
