// From a recipe's text to a model directory.
//
// The output is the usual one: safetensors shards with their index, config.json and the tokenizer's
// files of the donor, README.md, and the recipe as mergekit_config.yml. Nothing under the target's
// name exists before all of it is complete and on disk.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "cpp/core/base/job.h"
#include "cpp/core/base/json.h"
#include "cpp/core/merge/executor.h"

namespace theriac::merge {

struct MergeOptions {
  ExecuteOptions execute;
  std::uint64_t shard_bytes = 5'000'000'000;
  bool overwrite = false;        // replaces the target if it is a model's folder, or empty
  bool resume = false;           // goes on with what a stopped run left, else discards it
  bool verify_on_resume = true;  // reads again what is said to be done
  bool strict = false;           // warnings of the recipe are errors
  bool keep_unfinished = true;   // what a stopped run did, to be resumed
  bool verify = false;           // reads the finished files again and compares checksums
  bool allow_crimes = false;     // models of different architectures are no error
  bool write_card = true;        // README.md
  bool copy_side_files = true;   // tokenizer and generation settings
  bool copy_tokenizer = true;    // of these, the tokenizer
  // Where the named documents of a recipe are made. Empty: in a folder that is removed at the end, or,
  // where all documents have names, in the output itself.
  std::filesystem::path intermediate_folder;
  // What the caller was asked, kept with an unfinished output: see stored_request.
  std::string request;
  std::filesystem::path working_folder;            // what relative paths of models start from
  std::filesystem::path hub_cache;                 // where models of the hub lie; see InputOptions
  std::optional<tensorfile::DType> adapter_dtype;  // see apply_adapter
  std::chrono::milliseconds journal_interval{1000};
  std::string version;     // of the caller's product, for card, report and journal
  KernelResolver kernels;  // empty: find_kernel
};

struct MergeReport {
  Json json;
};

// Throws kInvalidArgument for a recipe or options that make no sense, kNotFound for a model,
// kAlreadyExists, kBusy, kIoError, kDataError, kNumericError, kUnsupported, kIncompatible (resuming
// another merge), kCancelled. After a stop in the middle the message says where the unfinished
// output is; the same call with `resume` goes on.
MergeReport merge_recipe(std::string_view text, const std::string& file_name,
                         const std::filesystem::path& output, const MergeOptions& options,
                         Job& job);

// What merge_recipe would do: bytes, memory, and each tensor with its sources and parameters. Reads
// headers only, writes nothing.
MergeReport plan_recipe(std::string_view text, const std::string& file_name,
                        const MergeOptions& options, Job& job);

// MergeOptions::request of a stopped merge into `output`, or nothing.
std::optional<std::string> stored_request(const std::filesystem::path& output);

}  // namespace theriac::merge
