// A model on disk as named tensors, whatever files hold them: safetensors or PyTorch, one file or
// shards with an index. Opening reads headers only; tensor data is read on demand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/json.h"
#include "cpp/core/tensorfile/bytes.h"
#include "cpp/core/tensorfile/pickle.h"
#include "cpp/core/tensorfile/safetensors.h"
#include "cpp/core/tensorfile/torch_file.h"

namespace theriac::tensorfile {

struct ModelLimits {
  Limits safetensors;
  PickleLimits pickle;
  std::uint64_t index_bytes = 100'000'000;
  std::uint64_t config_bytes = std::uint64_t{64} << 20;
  std::size_t tensors = 1'000'000;
  std::size_t shards = 10'000;
};

// The weight_map of an index file: shard -> its tensors, in the index's order. Shards are plain file
// names that end in `extension` (".safetensors", ".bin"). Throws kDataError naming `what` and key.
std::map<std::string, std::vector<std::string>> parse_index(std::string_view text,
                                                            std::string_view what,
                                                            std::string_view extension,
                                                            const ModelLimits& limits = {});

// Names of a folder's files without extension: "model" for model.safetensors and
// model.safetensors.index.json.
struct ModelNames {
  std::string safetensors = "model";
  std::string torch = "pytorch_model";
};

// How a tensor is computed from others when it is asked for: weights with an adapter on top, rows
// that a tokenizer rearranges. Immutable; may be shared between threads.
class ComputedTensor {
 public:
  virtual ~ComputedTensor() = default;
  // Elements [first, first + count) of the row-major tensor. The values do not depend on how the
  // tensor is divided into calls.
  virtual void read(std::uint64_t first, std::size_t count, float* into) const = 0;
  // Bytes that one call needs beside `into`, at most, for `count` elements.
  virtual std::uint64_t memory(std::uint64_t count) const = 0;
};

// Movable and copyable; copies share the open files. Const members may be called from several
// threads at once.
class ModelFiles {
 public:
  // `path`: a folder, in which the first of these is taken: model.safetensors.index.json,
  // model.safetensors, pytorch_model.bin.index.json, pytorch_model.bin; or one of such files
  // (.safetensors; .bin, .pt, .pth or .ckpt; .index.json). Throws kNotFound, kIoError, kDataError,
  // kUnsupported.
  static ModelFiles open(const std::filesystem::path& path, const ModelLimits& limits = {},
                         const ModelNames& names = {});

  const std::vector<TensorRecord>& tensors() const noexcept { return tensors_; }  // by name
  const TensorRecord* find(std::string_view name) const noexcept;
  const TensorRecord& at(std::string_view name) const;  // throws kNotFound naming the nearest
  const std::string& file_name(const TensorRecord& tensor) const noexcept {
    return files_[tensor.file]->name();
  }

  // Fills `into` with the dense tensor's bytes from `first_byte` on; strided tensors are gathered,
  // which costs most when asked for in small pieces. Throws kInvalidArgument for a range beyond the
  // tensor, kIoError with errno, kDataError when the file has become too short.
  void read(const TensorRecord& tensor, std::uint64_t first_byte, std::span<char> into) const;
  std::string read(const TensorRecord& tensor) const;  // all of it

  // The same in elements, as float32: stored values widened, computed ones before they are rounded
  // to the tensor's type. `raw`: room for `count` stored elements. Throws as `read` does, and
  // kUnsupported for a type that is no floating point.
  void read_floats(const TensorRecord& tensor, std::uint64_t first, std::size_t count, float* into,
                   char* raw) const;
  // Bytes that reading `count` elements of a computed tensor needs beside the results; else 0.
  std::uint64_t memory(const TensorRecord& tensor, std::uint64_t count) const;

  // Replaces the tensor of that name, or adds one. Pointers to records and `find` results become
  // invalid. `record.file` and `offset` are kept; see TensorRecord::computed.
  void set_computed(TensorRecord record, std::shared_ptr<const ComputedTensor> rule);
  // The same with a tensor of another model.
  void set_stored(std::string name, const ModelFiles& other, const TensorRecord& record);
  void set_config(Json config) { config_ = std::move(config); }
  void add_warning(std::string warning) { warnings_.push_back(std::move(warning)); }
  // A model that has no files yet: what a plan needs to know of one.
  static ModelFiles described(std::filesystem::path folder, std::vector<TensorRecord> tensors,
                              Json config);
  bool has_files() const noexcept { return !files_.empty(); }

  const std::filesystem::path& folder() const noexcept { return folder_; }
  // config.json of the folder; null if there is none or a single tensor file was opened.
  const Json& config() const noexcept { return config_; }
  // Names of the tokenizer's and generation's files in the folder, to be copied beside a new model.
  const std::vector<std::string>& side_files() const noexcept { return side_files_; }
  const std::vector<std::string>& warnings() const noexcept { return warnings_; }

 private:
  ModelFiles() = default;
  void open_folder(const ModelLimits& limits, const ModelNames& names);
  void open_index(const std::filesystem::path& index, const ModelLimits& limits);
  void open_one(const std::filesystem::path& file, const ModelLimits& limits);
  void read_side_files(const ModelLimits& limits);
  std::vector<TensorRecord> open_file(const std::filesystem::path& path, const ModelLimits& limits);
  void add_shard(const std::filesystem::path& path, const std::vector<std::string>& listed,
                 const ModelLimits& limits);
  void finish(const ModelLimits& limits);

  void set(TensorRecord record);
  void read_computed(const TensorRecord& tensor, std::uint64_t first_byte,
                     std::span<char> into) const;

  std::filesystem::path folder_, source_;
  std::vector<std::shared_ptr<const FileBytes>> files_;
  std::vector<std::shared_ptr<const ComputedTensor>> rules_;
  std::vector<TensorRecord> tensors_;
  Json config_;
  std::vector<std::string> side_files_, warnings_;
};

}  // namespace theriac::tensorfile
