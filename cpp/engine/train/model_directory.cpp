#include "cpp/engine/train/model_directory.h"

#include <algorithm>
#include <filesystem>

#include "cpp/core/base/file.h"
#include "cpp/core/base/hash.h"

namespace theriac::train {
namespace {

namespace fs = std::filesystem;

constexpr char kConfigFile[] = "config.json";
constexpr char kTensorFile[] = "model.safetensors";

bool is_component(std::string_view part) {
  if (part.empty() || part.size() > 200 || part.front() == '.') return false;
  return std::all_of(part.begin(), part.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

// "name" or "folder/name" of plain characters: nothing that leaves the directory.
bool is_file_name(std::string_view name) {
  if (name == kConfigFile || name == kTensorFile) return false;
  const std::size_t slash = name.find('/');
  if (slash == std::string_view::npos) return is_component(name);
  return is_component(name.substr(0, slash)) && is_component(name.substr(slash + 1));
}

std::string hash_of(std::string_view bytes) { return Fingerprint().add(bytes).hex(); }

Error data_error(const fs::path& file, std::string what) {
  return Error(Code::kDataError, file.string() + ": " + std::move(what)).at("file", file.string());
}

// Every member in one place, so that no config can be written with a stale hash.
Json config_to_write(const ModelDirectory& directory) {
  Json config = directory.config;
  if (!config.is_object() || !config.contains("method") || !config["method"].is_string()) {
    throw Error(Code::kInternal, "a model's config needs an object with a 'method'");
  }
  config["format"] = kModelFormat;
  config["files"] = Json::object();
  for (const auto& [name, bytes] : directory.files) config["files"][name] = hash_of(bytes);
  return config;
}

void check_format(const Json& config, const fs::path& file) {
  if (!config.is_object() || !config.contains("format") || !config["format"].is_number_integer()) {
    throw data_error(file, "no 'format' number; this is not a model directory of theriac");
  }
  const auto format = config["format"].get<std::int64_t>();
  if (format >= 1 && format <= kModelFormat) return;
  throw Error(Code::kIncompatible, file.string() + ": format " + std::to_string(format) +
                                       "; this build reads formats 1 to " +
                                       std::to_string(kModelFormat))
      .at("file", file.string());
}

void check_config(const Json& config, const fs::path& file) {
  check_format(config, file);
  if (!config.contains("method") || !config["method"].is_string()) {
    throw data_error(file, "no 'method' text");
  }
  const bool has_files = config.contains("files") && config["files"].is_object();
  if (!has_files) throw data_error(file, "no 'files' object");
}

// Reads one file that config.json lists, within what is left of the total, and compares its hash.
std::string read_listed(const fs::path& path, const std::string& expected, std::uint64_t limit) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) throw data_error(path, "listed in config.json, but not there");
  std::string bytes = read_file(path, limit);
  const std::string found = hash_of(bytes);
  if (found == expected) return bytes;
  throw Error(Code::kIncompatible, path.string() +
                                       ": not the file this model was saved with (hash " + found +
                                       ", config.json has " + expected + ")")
      .at("file", path.string());
}

std::map<std::string, std::string> read_files(const fs::path& root, const Json& listed,
                                              const ModelDirectoryLimits& limits) {
  if (listed.size() > limits.files) {
    throw data_error(root / kConfigFile, "lists " + std::to_string(listed.size()) +
                                             " files; the limit is " +
                                             std::to_string(limits.files));
  }
  std::map<std::string, std::string> files;
  std::uint64_t left = limits.total_bytes;
  for (const auto& [name, hash] : listed.items()) {
    if (!is_file_name(name) || !hash.is_string()) {
      throw data_error(root / kConfigFile, "'files' has the bad entry '" + name.substr(0, 200) +
                                               "'; expected relative names with their hashes");
    }
    std::string bytes =
        read_listed(root / name, hash.get<std::string>(), std::min(left, limits.file_bytes));
    left -= bytes.size();
    files.emplace(name, std::move(bytes));
  }
  return files;
}

}  // namespace

const std::string& ModelDirectory::file(std::string_view name) const {
  const auto found = files.find(std::string(name));
  if (found != files.end()) return found->second;
  throw Error(Code::kDataError, "the model directory has no file '" + std::string(name) + "'")
      .at("file", std::string(name));
}

void save_model_directory(const std::string& path, const ModelDirectory& directory,
                          bool overwrite) {
  for (const auto& [name, bytes] : directory.files) {
    if (is_file_name(name)) continue;
    throw Error(Code::kInvalidArgument, "'" + name + "' cannot be a file of a model directory")
        .at("file", name);
  }
  const std::string config = dump_json(config_to_write(directory), 2) + "\n";
  replace_directory(path, overwrite, "config.json", [&](const fs::path& root) {
    for (const auto& [name, bytes] : directory.files) {
      fs::create_directories((root / name).parent_path());
      replace_file(root / name, bytes);
    }
    tensor::write_tensors((root / kTensorFile).string(), directory.tensors);
    replace_file(root / kConfigFile, config);
  });
}

Json load_model_config(const std::string& path, const ModelDirectoryLimits& limits) {
  const fs::path file = fs::path(path) / kConfigFile;
  std::error_code ignored;
  if (!fs::exists(file, ignored)) {
    throw Error(Code::kNotFound, "'" + path + "' is not a model directory: it has no config.json")
        .at("file", file.string());
  }
  JsonLimits json_limits;
  json_limits.bytes = static_cast<std::size_t>(limits.config_bytes);
  Json config = parse_json(read_file(file, limits.config_bytes), file.string(), Code::kDataError,
                           json_limits);
  check_config(config, file);
  return config;
}

ModelDirectory load_model_directory(const std::string& path, const ModelDirectoryLimits& limits) {
  ModelDirectory directory;
  directory.config = load_model_config(path, limits);
  directory.files = read_files(path, directory.config["files"], limits);
  const fs::path tensors = fs::path(path) / kTensorFile;
  std::error_code ignored;
  if (!fs::exists(tensors, ignored)) throw data_error(tensors, "not there");
  directory.tensors = tensor::read_tensors(tensors.string());
  return directory;
}

}  // namespace theriac::train
