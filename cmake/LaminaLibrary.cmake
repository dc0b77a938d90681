# The public library: all layers in one file, its headers, and a package for find_package(lamina).
include(CMakePackageConfigHelpers)

add_library(lamina ${LAMINA_ALL_OBJECTS})
add_library(lamina::lamina ALIAS lamina)
set_target_properties(lamina PROPERTIES
  LINKER_LANGUAGE CXX VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} EXPORT_NAME lamina)
target_compile_features(lamina PUBLIC cxx_std_20)
target_include_directories(lamina PUBLIC
  "$<BUILD_INTERFACE:${LAMINA_PUBLIC_INCLUDE};${LAMINA_GENERATED_INCLUDE}>"
  "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
target_link_libraries(lamina PRIVATE $<BUILD_INTERFACE:lamina_flags> $<BUILD_INTERFACE:lamina_dependencies>)

if(BUILD_SHARED_LIBS)
  target_link_options(lamina PRIVATE
    "-Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/lamina.map" -Wl,--as-needed)
  if(NOT LAMINA_SANITIZE)
    target_link_options(lamina PRIVATE -Wl,--no-undefined)
  endif()
  set_target_properties(lamina PROPERTIES LINK_DEPENDS "${PROJECT_SOURCE_DIR}/cmake/lamina.map")
else()
  # A static library leaves its dependencies to the final link; the package finds them again there.
  target_link_libraries(lamina PRIVATE
    $<INSTALL_INTERFACE:hwy::hwy> $<INSTALL_INTERFACE:ZLIB::ZLIB> $<INSTALL_INTERFACE:Threads::Threads>)
endif()

# The wheel carries the Python module only.
if(NOT LAMINA_IS_WHEEL OR LAMINA_BUILD_TESTS)
  set(lamina_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/lamina")
  install(TARGETS lamina EXPORT lamina-targets COMPONENT devel)
  install(DIRECTORY "${LAMINA_PUBLIC_INCLUDE}/lamina" "${LAMINA_GENERATED_INCLUDE}/lamina"
    DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT devel
    FILES_MATCHING PATTERN "*.h" PATTERN "*.def")
  install(EXPORT lamina-targets NAMESPACE lamina:: DESTINATION "${lamina_package_dir}" COMPONENT devel)
  configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/lamina-config.cmake.in"
    "${PROJECT_BINARY_DIR}/lamina-config.cmake" INSTALL_DESTINATION "${lamina_package_dir}")
  write_basic_package_version_file("${PROJECT_BINARY_DIR}/lamina-config-version.cmake"
    COMPATIBILITY SameMinorVersion)
  install(FILES "${PROJECT_BINARY_DIR}/lamina-config.cmake" "${PROJECT_BINARY_DIR}/lamina-config-version.cmake"
    DESTINATION "${lamina_package_dir}" COMPONENT devel)
endif()
