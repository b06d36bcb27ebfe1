// What `save`, `load` and every merger read and write:
//
//     config.json         method, options, training record, "format", "files" (hash of every other
//     file) model.safetensors   parameters and buffers under their dotted names vocab.*
//     vocabularies, one code a line tables/*            trees, interaction tables
//
// A directory appears whole or not at all, and is refused when a file in it is not the one that was
// saved with it: a model scored through another vocabulary gives confident nonsense.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "cpp/core/base/json.h"
#include "cpp/engine/tensor/tensor.h"

namespace theriac::train {

// Version of the layout above, `"format"` of config.json. Readers refuse a larger one.
inline constexpr std::int64_t kModelFormat = 1;

struct ModelDirectory {
  // An object with at least "method". `save` adds "format" and "files"; `load` has checked both.
  Json config = Json::object();
  tensor::NamedTensors tensors;
  // Relative name -> bytes: "vocab.diagnoses.txt", "tables/interactions.csv". One folder deep at
  // most.
  std::map<std::string, std::string> files;

  // Bytes of a file; kDataError naming it when the directory lacks it.
  const std::string& file(std::string_view name) const;
};

// Limits on directories from elsewhere; what is beyond them is kDataError.
struct ModelDirectoryLimits {
  std::uint64_t config_bytes = std::uint64_t{64} << 20;
  std::uint64_t file_bytes = std::uint64_t{1} << 30;   // each of `files`
  std::uint64_t total_bytes = std::uint64_t{4} << 30;  // all of `files`
  std::size_t files = 4096;
};

// Writes the directory whole (temporary name, sync, rename). kAlreadyExists without `overwrite`;
// kInvalidArgument on a file name that would leave the directory or take a reserved name.
void save_model_directory(const std::string& path, const ModelDirectory& directory, bool overwrite);

// Reads and checks. kNotFound when there is no config.json; kIncompatible on a newer format or on a
// vocabulary or table that is not the one the model was saved with; kDataError on anything
// malformed.
ModelDirectory load_model_directory(const std::string& path,
                                    const ModelDirectoryLimits& limits = {});

// config.json alone, parsed and its format checked: what `info` and dispatch need before tensors.
Json load_model_config(const std::string& path, const ModelDirectoryLimits& limits = {});

}  // namespace theriac::train
