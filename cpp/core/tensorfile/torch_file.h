// Files of torch.save: a ZIP archive with one pickle (data.pkl) and one stored entry a storage.
#pragma once

#include <string>
#include <vector>

#include "cpp/core/tensorfile/bytes.h"
#include "cpp/core/tensorfile/pickle.h"
#include "cpp/core/tensorfile/zip.h"

namespace theriac::tensorfile {

// Where a tensor's elements lie in a file.
struct TensorRecord {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::uint64_t> shape;
  std::uint64_t bytes = 0;             // of the dense, row-major tensor
  std::uint64_t offset = 0;            // of the first element, in the file
  std::vector<std::uint64_t> strides;  // in elements; empty: dense and row-major
  std::size_t file = 0;                // index of the file
  // Number of the model's rule that computes the values, from 1; 0: they lie in the file. File and
  // offset are then those of what it is mainly computed from.
  std::size_t computed = 0;
  bool contiguous() const noexcept { return strides.empty(); }
};

struct TorchTensors {
  std::vector<TensorRecord> tensors;  // in the dictionary's order, `file` 0
  std::vector<std::string> ignored;   // keys of the dictionary that hold no tensor
};

// Reads directory and pickle, no tensor data. Every element of every tensor lies inside the file.
// Throws kDataError or kUnsupported, naming file, entry and offset: also for files of PyTorch before
// 1.6, TorchScript archives and big-endian data.
TorchTensors read_torch_file(const Bytes& file, const PickleLimits& limits = {});

}  // namespace theriac::tensorfile
