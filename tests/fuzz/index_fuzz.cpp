// Index files from anywhere: refused with an Error, or every tensor has one shard whose name is a
// plain file name.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "cpp/core/tensorfile/model_files.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::map<std::string, std::vector<std::string>> shards;
  try {
    shards = theriac::tensorfile::parse_index(text, "index", ".safetensors");
  } catch (const theriac::Error&) {
    return 0;
  }
  std::vector<std::string> tensors;
  for (const auto& [shard, names] : shards) {
    const std::filesystem::path inside = std::filesystem::path("folder") / shard;
    require(inside.parent_path() == "folder" && inside.lexically_normal() == inside);
    require(shard.ends_with(".safetensors") && !names.empty());
    tensors.insert(tensors.end(), names.begin(), names.end());
  }
  std::sort(tensors.begin(), tensors.end());
  require(std::adjacent_find(tensors.begin(), tensors.end()) == tensors.end());
  return 0;
}
