// Pickles of named tensors, as torch.save writes them (protocol 2), read without running anything.
//
// A pickle is a program for a stack machine that may name any Python function. This machine knows
// the few names that tensors need (OrderedDict, the rebuild functions, storages, element types,
// torch.Size, set) and refuses the rest by name, so nothing can be called. Its work and memory are
// bounded by the length of the pickle and by limits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/tensorfile/safetensors.h"

namespace theriac::tensorfile {

struct PickleLimits {
  std::uint64_t bytes = std::uint64_t{256} << 20;
  std::size_t opcodes = 40'000'000;
  std::size_t depth = 256;      // of open marks
  std::size_t stack = 1 << 22;  // values
  std::size_t tensors = 1'000'000;
  std::size_t rank = 16;
  std::size_t name_bytes = 4096;
};

// A view into a storage; whether it fits in has been checked against `storage_elements`.
struct PickledTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::uint64_t> shape;
  std::vector<std::uint64_t> strides;  // in elements, one a dimension
  std::uint64_t first = 0;             // element of the storage
  std::string storage;                 // its key in the archive
  std::uint64_t storage_elements = 0;  // of `dtype`
};

struct PickledTensors {
  std::vector<PickledTensor> tensors;  // in the dictionary's order
  std::vector<std::string> ignored;    // keys whose values are no tensors, for a warning
};

// The tensors of the dictionary that the pickle holds, or of the one under its key "state_dict" or
// "model". Throws kDataError that names opcode and offset for a damaged pickle or one that names
// anything else, kUnsupported for protocols other than 2.
PickledTensors read_pickle(std::string_view bytes, const PickleLimits& limits = {});

}  // namespace theriac::tensorfile
