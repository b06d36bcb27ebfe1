# Imported targets from a LibTorch directory, without TorchConfig.cmake (which asks for a CUDA toolkit).
#
# Looks, in order, at -DTHERIAC_TORCH_DIR, THERIAC_TORCH_DIR in the environment, an importable Python torch,
# and the project's own .deps/ (filled by cmake/fetch-libtorch). The directory is the one that holds lib/ and
# include/ (`torch/` of a wheel).
#
# Result: LibTorch::cpu, LibTorch_VERSION, LibTorch_DIR, LibTorch_HAS_CUDA.

set(_candidates "")
if(THERIAC_TORCH_DIR)
  list(APPEND _candidates "${THERIAC_TORCH_DIR}")
elseif(DEFINED ENV{THERIAC_TORCH_DIR})
  list(APPEND _candidates "$ENV{THERIAC_TORCH_DIR}")
else()
  find_program(THERIAC_PYTHON3 python3)
  if(THERIAC_PYTHON3)
    execute_process(
      COMMAND "${THERIAC_PYTHON3}" -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s and s.submodule_search_locations else '')"
      OUTPUT_VARIABLE _python_torch OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(_python_torch)
      list(APPEND _candidates "${_python_torch}")
    endif()
  endif()
  list(APPEND _candidates "${CMAKE_CURRENT_LIST_DIR}/../.deps/libtorch/torch")
endif()

set(_looked "")
foreach(_dir IN LISTS _candidates)
  foreach(_sub "" "/torch")
    list(APPEND _looked "${_dir}${_sub}")
    if(NOT LibTorch_DIR_FOUND AND EXISTS "${_dir}${_sub}/lib/libtorch_cpu.so" AND EXISTS "${_dir}${_sub}/include/ATen/ATen.h")
      get_filename_component(LibTorch_DIR_FOUND "${_dir}${_sub}" REALPATH)
    endif()
  endforeach()
endforeach()

if(LibTorch_DIR_FOUND)
  set(LibTorch_DIR "${LibTorch_DIR_FOUND}")
  file(STRINGS "${LibTorch_DIR}/include/torch/headeronly/version.h" _version_lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH)")
  foreach(_part MAJOR MINOR PATCH)
    string(REGEX MATCH "TORCH_VERSION_${_part} ([0-9]+)" _ "${_version_lines}")
    set(_v_${_part} "${CMAKE_MATCH_1}")
  endforeach()
  set(LibTorch_VERSION "${_v_MAJOR}.${_v_MINOR}.${_v_PATCH}")
  set(LibTorch_HAS_CUDA OFF)
  if(EXISTS "${LibTorch_DIR}/lib/libtorch_cuda.so")
    set(LibTorch_HAS_CUDA ON)
  endif()
endif()

include(FindPackageHandleStandardArgs)
list(JOIN _looked ", " _looked)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_DIR VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "no lib/libtorch_cpu.so with headers in: ${_looked}. Run cmake/fetch-libtorch, or pass -DTHERIAC_TORCH_DIR=DIR")

if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION "${LibTorch_DIR}/lib/libc10.so" IMPORTED_NO_SONAME ON)
  add_library(LibTorch::cpu SHARED IMPORTED)
  set_target_properties(LibTorch::cpu PROPERTIES
    IMPORTED_LOCATION "${LibTorch_DIR}/lib/libtorch_cpu.so" IMPORTED_NO_SONAME OFF
    INTERFACE_COMPILE_DEFINITIONS "_GLIBCXX_USE_CXX11_ABI=1"
    INTERFACE_LINK_LIBRARIES LibTorch::c10)
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_NO_SONAME OFF)
  target_include_directories(LibTorch::cpu SYSTEM INTERFACE
    "${LibTorch_DIR}/include" "${LibTorch_DIR}/include/torch/csrc/api/include")
endif()
