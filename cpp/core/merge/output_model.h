// The files of a merged model: laid out before the first input byte is read, made at full size,
// filled at their final offsets by any thread, and published at once.
//
// While it grows a model lives in a staging folder beside its target, ".NAME.merging", with shards
// named "*.part": nothing there looks finished. Publishing renames the folder into place.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/json.h"
#include "cpp/core/merge/background_sync.h"
#include "cpp/core/merge/plan.h"
#include "cpp/core/tensorfile/safetensors.h"

namespace theriac::merge {

// Where a tensor of the output lies.
struct OutputTensor {
  std::string name;
  tensorfile::DType dtype = tensorfile::DType::kF32;
  std::vector<std::uint64_t> shape;
  // Filled by lay_out:
  std::uint64_t bytes = 0;
  std::size_t shard = 0;
  std::uint64_t offset = 0;  // in the shard's file
};

struct OutputShard {
  std::string file;         // "model-00001-of-00003.safetensors"
  std::string header;       // length and JSON, padded
  std::uint64_t bytes = 0;  // of the whole file
};

struct OutputLayout {
  std::vector<OutputTensor> tensors;  // in the order given
  std::vector<OutputShard> shards;
  std::uint64_t tensor_bytes = 0;  // the index's total_size
  std::uint64_t file_bytes() const noexcept;
};

// A new shard starts where the current one would grow beyond `shard_bytes`; a larger tensor gets
// one of its own. Inside a shard the order is the format's. Throws kInvalidArgument for names and
// shapes that the format cannot hold.
OutputLayout lay_out(std::vector<OutputTensor> tensors, std::uint64_t shard_bytes);

// model.safetensors.index.json of a layout.
std::string index_json(const OutputLayout& layout);

// config.json with the plan's edits and the element type, other text as it stands. `dtype`: a torch
// name such as "bfloat16", or empty to keep. Values are set where the path exists or its parent
// does.
std::string edited_config(const std::string& text, std::string_view what,
                          const std::vector<ConfigEdit>& edits, std::string_view dtype);

// ".NAME.merging" beside the target. Throws kInvalidArgument for a target without a name.
std::filesystem::path staging_folder(const std::filesystem::path& target);

// Throws kAlreadyExists where the target exists and may not be replaced: without `overwrite`, or
// when it is a folder of something else than a model; kInvalidArgument where it is no folder.
void check_target(const std::filesystem::path& target, bool overwrite);

// Makes a staging folder's files durable and renames it to the target; an old target is removed
// afterwards. On failure the staging folder stays.
void publish(const std::filesystem::path& staging, const std::filesystem::path& target,
             bool overwrite);

// The shards of a staging folder, open for writing. `write`, `read` and `copy` may be called from
// several threads at once.
class OutputFiles {
 public:
  // Makes every shard at full size and writes its header. Throws kIoError (disk full, no
  // permission); then the shards made so far are removed.
  static OutputFiles create(const std::filesystem::path& folder, const OutputLayout& layout);
  // Opens shards made before; what is read of them comes from the disk, not from the system's cache,
  // unless it is still to be written. Throws kDataError where one is missing or of another size.
  static OutputFiles reopen(const std::filesystem::path& folder, const OutputLayout& layout);
  ~OutputFiles();
  OutputFiles(OutputFiles&& other) noexcept;
  OutputFiles& operator=(OutputFiles&&) = delete;

  const OutputLayout& layout() const noexcept { return *layout_; }
  // Positions are bytes of the tensor. Throw kIoError with errno.
  void write(std::size_t tensor, std::uint64_t first, std::string_view bytes);
  void read(std::size_t tensor, std::uint64_t first, std::span<char> into) const;
  // Copies from an open file inside the kernel. False where that cannot be done (file systems, the
  // input's end): read and write instead. Throws kIoError.
  bool copy(std::size_t tensor, std::uint64_t first, std::uint64_t bytes, int input,
            std::uint64_t input_offset);
  // What is written is synced in the background as well. Throws kIoError for failures of either.
  void sync();
  // Gives the shards, synced before, their names. No other member may be called afterwards.
  void finish();

 private:
  OutputFiles(std::filesystem::path folder, const OutputLayout& layout)
      : folder_(std::move(folder)), layout_(&layout) {}
  std::filesystem::path part(std::size_t shard) const;
  void close() noexcept;
  void sync_in_background();

  std::filesystem::path folder_;
  const OutputLayout* layout_;
  std::vector<int> descriptors_;
  std::unique_ptr<BackgroundSync> background_;  // of large models
};

}  // namespace theriac::merge
