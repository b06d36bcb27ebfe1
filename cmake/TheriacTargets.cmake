# Helpers that give every target of ours the same language level, warnings, visibility and sanitizers.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/archive")
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
include(GNUInstallDirs)
include(CTest)

find_program(THERIAC_CCACHE ccache)
if(THERIAC_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # One cache serves every clone: paths are hashed relative to the build folder.
  set(CMAKE_C_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_NOHASHDIR=1
    CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} ${THERIAC_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_C_COMPILER_LAUNCHER})
endif()
find_program(THERIAC_MOLD mold)
if(THERIAC_MOLD AND CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  add_link_options(-fuse-ld=mold)
endif()

# Build id of a front/engine pair: version plus what decides the layout of shared classes.
set(THERIAC_LIBTORCH_VERSION "2.11.0" CACHE STRING "LibTorch version that the engine is built against")
set(THERIAC_BUILD_ID "theriac-${PROJECT_VERSION}-${CMAKE_CXX_COMPILER_ID}-${CMAKE_CXX_COMPILER_VERSION}-seam1")

add_library(theriac_flags INTERFACE)
target_include_directories(theriac_flags INTERFACE "${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/capi/include")
target_compile_options(theriac_flags INTERFACE
  $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang>:-Wall -Wextra -Wconversion -Wshadow -Wnon-virtual-dtor -Wno-sign-conversion>
  # GCC 12 warns of std::string appends that can neither overlap nor overflow (GCC bug 105329).
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict -Wno-stringop-overflow -Wno-array-bounds>
  $<$<COMPILE_LANG_AND_ID:C,GNU,Clang>:-Wall -Wextra -Wpedantic -Wstrict-prototypes>
  $<$<AND:$<BOOL:${THERIAC_WERROR}>,$<COMPILE_LANG_AND_ID:CXX,GNU,Clang>>:-Werror>
  $<$<AND:$<BOOL:${THERIAC_WERROR}>,$<COMPILE_LANG_AND_ID:C,GNU,Clang>>:-Werror>)
if(THERIAC_SANITIZE)
  target_compile_options(theriac_flags INTERFACE -fsanitize=${THERIAC_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(theriac_flags INTERFACE -fsanitize=${THERIAC_SANITIZE})
endif()

# theriac_folder(NAME DEPENDS ...): one static library of the sources in the current folder, and one test
# program of the *_test.cpp beside them. A folder may use only the folders it names.
function(theriac_folder name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cpp" "${CMAKE_CURRENT_SOURCE_DIR}/methods/*.cpp")
  list(FILTER sources EXCLUDE REGEX "_(test|bench|fuzz)\\.cpp$")
  file(GLOB tests CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*_test.cpp"
    "${CMAKE_CURRENT_SOURCE_DIR}/methods/*_test.cpp")
  if(sources)
    add_library(theriac_${name} STATIC ${sources})
    target_link_libraries(theriac_${name} PUBLIC theriac_flags ${ARG_DEPENDS} PRIVATE ${ARG_LINK})
    # What the core computes depends neither on the processor nor on the compiler's choice of fused steps.
    target_compile_options(theriac_${name} PRIVATE $<$<CXX_COMPILER_ID:GNU,Clang,AppleClang>:-ffp-contract=off>)
    # Half the time of a source is its JSON header; one precompiled copy serves the core. Folders with further
    # definitions (ARG_LINK may bring some) can not share it.
    if(name STREQUAL "base")
      target_precompile_headers(theriac_base PRIVATE "${PROJECT_SOURCE_DIR}/cpp/core/base/json.h")
    elseif(NOT ARG_LINK)
      target_precompile_headers(theriac_${name} REUSE_FROM theriac_base)
    endif()
  else()
    add_library(theriac_${name} INTERFACE)
    target_link_libraries(theriac_${name} INTERFACE theriac_flags ${ARG_DEPENDS})
  endif()
  if(THERIAC_BUILD_TESTS AND tests)
    theriac_test(${name}_test SOURCES ${tests} LINK theriac_${name})
  endif()
endfunction()

# A GoogleTest program, one ctest entry (the program prints its own cases).
function(theriac_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  # Tests run once; what they call is optimised, they are not.
  set_source_files_properties(${ARG_SOURCES} PROPERTIES COMPILE_OPTIONS "-O0")
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE theriac_flags ${ARG_LINK} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE THERIAC_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  set_tests_properties(${name} PROPERTIES TIMEOUT 900)
endfunction()
