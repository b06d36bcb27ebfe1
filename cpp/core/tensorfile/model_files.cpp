#include "cpp/core/tensorfile/model_files.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "cpp/core/base/file.h"
#include "cpp/core/base/options.h"
#include "cpp/core/tensorfile/convert.h"
#include "cpp/core/tensorfile/gather.h"
#include "cpp/core/tensorfile/layout.h"

namespace theriac::tensorfile {
namespace {

namespace fs = std::filesystem;
using internal::shown;

constexpr std::string_view kIndexEnding = ".index.json";

// What belongs to a model beside weights and configuration.
constexpr std::array<std::string_view, 16> kSideFiles{"tokenizer_config.json",
                                                      "special_tokens_map.json",
                                                      "tokenizer.json",
                                                      "tokenizer.model",
                                                      "spiece.model",
                                                      "sentencepiece.bpe.model",
                                                      "added_tokens.json",
                                                      "merges.txt",
                                                      "chat_template.jinja",
                                                      "generation_config.json",
                                                      "chat_template.json",
                                                      "vocab.json",
                                                      "vocab.txt",
                                                      "preprocessor_config.json",
                                                      "processor_config.json",
                                                      "video_preprocessor_config.json"};

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

Error index_error(std::string_view what, const std::string& problem) {
  return Error(Code::kDataError, "'" + std::string(what) + "': " + problem)
      .at("file", std::string(what));
}

// An index comes from anywhere: it may only name files beside itself.
void check_shard_name(std::string_view what, const std::string& tensor, const std::string& shard,
                      std::string_view extension) {
  constexpr std::size_t kMostBytes = 255;
  const bool plain = shard.size() <= kMostBytes && shard.size() > extension.size() &&
                     shard.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos &&
                     shard.front() != '.' && shard.ends_with(extension);
  if (plain) return;
  throw index_error(what, "tensor " + shown(tensor) + " is in the file " + shown(shard) +
                              "; expected a plain file name that ends in '" +
                              std::string(extension) + "'")
      .at("tensor", tensor.substr(0, 4096));
}

// The header's bytes alone, once its stated length is plausible.
Header read_header(const FileBytes& file, const Limits& limits) {
  constexpr std::uint64_t kLength = internal::kLengthBytes;
  std::string prefix = file.read(0, static_cast<std::size_t>(std::min(file.size(), kLength)));
  if (prefix.size() == kLength) {
    const auto length = internal::load_little<std::uint64_t>(prefix.data());
    if (length <= limits.header_bytes && length <= file.size() - kLength) {
      prefix = file.read(0, static_cast<std::size_t>(kLength + length));
    }
  }
  try {
    return Header::parse(prefix, file.size(), limits);
  } catch (const Error& error) {
    Failure failure = error.failure();
    failure.message = "'" + file.name() + "': " + failure.message;
    failure.details.emplace_back("file", file.name());
    throw Error(std::move(failure));
  }
}

std::vector<TensorRecord> read_safetensors(const FileBytes& file, const Limits& limits) {
  Header header = read_header(file, limits);
  std::vector<TensorRecord> records;
  records.reserve(header.tensors.size());
  for (TensorInfo& tensor : header.tensors) {
    TensorRecord record;
    record.name = std::move(tensor.name);
    record.dtype = tensor.dtype;
    record.shape = std::move(tensor.shape);
    record.offset = header.buffer_offset + tensor.begin;
    record.bytes = tensor.end - tensor.begin;
    records.push_back(std::move(record));
  }
  return records;
}

bool is_torch_name(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt";
}

// The extension that the shards of an index share.
std::string shard_extension(const fs::path& index) {
  const std::string name = index.filename().string();
  const std::string stem = name.substr(0, name.size() - kIndexEnding.size());
  const fs::path extension = fs::path(stem).extension();
  if (extension == ".safetensors" || is_torch_name(stem)) return extension.string();
  throw Error(Code::kInvalidArgument, "'" + index.string() +
                                          "' is no index of tensor files; expected a name such as "
                                          "'model.safetensors.index.json'")
      .at("file", index.string());
}

}  // namespace

std::map<std::string, std::vector<std::string>> parse_index(std::string_view text,
                                                            std::string_view what,
                                                            std::string_view extension,
                                                            const ModelLimits& limits) {
  const JsonLimits json_limits{.bytes = static_cast<std::size_t>(limits.index_bytes), .depth = 8};
  const Json index = parse_json(text, what, Code::kDataError, json_limits);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object()) {
    throw index_error(what, "it has no object 'weight_map' of tensor names and file names");
  }
  if (map->size() > limits.tensors) {
    throw index_error(what, "it lists " + std::to_string(map->size()) + " tensors; at most " +
                                std::to_string(limits.tensors) + " are accepted");
  }
  std::map<std::string, std::vector<std::string>> shards;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string()) {
      throw index_error(what, "the file of tensor " + shown(tensor) + " is no string")
          .at("tensor", tensor.substr(0, 4096));
    }
    const auto& name = shard.get_ref<const std::string&>();
    auto found = shards.find(name);
    if (found == shards.end()) {
      check_shard_name(what, tensor, name, extension);
      if (shards.size() == limits.shards) {
        throw index_error(what, "it names more than " + std::to_string(limits.shards) + " files");
      }
      found = shards.emplace(name, std::vector<std::string>()).first;
    }
    found->second.push_back(tensor);
  }
  return shards;
}

ModelFiles ModelFiles::open(const fs::path& path, const ModelLimits& limits,
                            const ModelNames& names) {
  ModelFiles model;
  model.source_ = path;
  std::error_code failed;
  if (fs::is_directory(path, failed)) {
    model.folder_ = path;
    model.open_folder(limits, names);
  } else {
    model.folder_ = path.has_parent_path() ? path.parent_path() : fs::path(".");
    if (path.filename().string().ends_with(kIndexEnding)) {
      model.open_index(path, limits);
    } else {
      model.open_one(path, limits);
    }
  }
  model.finish(limits);
  return model;
}

void ModelFiles::open_folder(const ModelLimits& limits, const ModelNames& names) {
  const std::string candidates[] = {names.safetensors + ".safetensors", names.torch + ".bin"};
  for (const std::string& name : candidates) {
    const fs::path index = folder_ / (name + std::string(kIndexEnding));
    if (is_there(index)) return open_index(index, limits);
    if (is_there(folder_ / name)) {
      open_one(folder_ / name, limits);
      return read_side_files(limits);
    }
  }
  throw Error(Code::kNotFound, "'" + folder_.string() + "' holds no model: neither " +
                                   candidates[0] + " nor " + candidates[1] +
                                   " nor an index of either; a file of another name can be given "
                                   "by its own path")
      .at("file", folder_.string());
}

void ModelFiles::open_index(const fs::path& index, const ModelLimits& limits) {
  const std::string extension = shard_extension(index);
  const std::string text = read_file(index, limits.index_bytes);
  for (const auto& [shard, listed] : parse_index(text, index.string(), extension, limits)) {
    add_shard(folder_ / shard, listed, limits);
  }
  read_side_files(limits);
}

void ModelFiles::open_one(const fs::path& file, const ModelLimits& limits) {
  tensors_ = open_file(file, limits);
}

std::vector<TensorRecord> ModelFiles::open_file(const fs::path& path, const ModelLimits& limits) {
  auto file = std::make_shared<const FileBytes>(path);
  std::vector<TensorRecord> records;
  if (path.extension() == ".safetensors") {
    records = read_safetensors(*file, limits.safetensors);
  } else if (is_torch_name(path)) {
    TorchTensors torch = read_torch_file(*file, limits.pickle);
    records = std::move(torch.tensors);
    for (const std::string& key : torch.ignored) {
      warnings_.push_back("'" + path.string() + "': " + shown(key) +
                          " holds no tensor and is ignored");
    }
  } else {
    throw Error(Code::kInvalidArgument, "'" + path.string() +
                                            "' is no file of tensors; expected .safetensors, .bin, "
                                            ".pt, .pth, .ckpt or .index.json")
        .at("file", path.string());
  }
  for (TensorRecord& record : records) record.file = files_.size();
  files_.push_back(std::move(file));
  return records;
}

void ModelFiles::add_shard(const fs::path& path, const std::vector<std::string>& listed,
                           const ModelLimits& limits) {
  std::unordered_map<std::string_view, bool> wanted;  // name -> found
  for (const std::string& name : listed) wanted.emplace(name, false);
  std::size_t unlisted = 0;
  std::string example;
  for (TensorRecord& record : open_file(path, limits)) {
    const auto entry = wanted.find(record.name);
    if (entry == wanted.end()) {
      if (unlisted++ == 0) example = record.name;
      continue;
    }
    entry->second = true;
    tensors_.push_back(std::move(record));
  }
  for (const std::string& name : listed) {
    if (wanted.at(name)) continue;
    throw Error(Code::kDataError, "'" + path.string() + "' has no tensor " + shown(name) +
                                      ", which the index says it has")
        .at("file", path.string())
        .at("tensor", name.substr(0, 4096));
  }
  if (unlisted == 0) return;
  warnings_.push_back("'" + path.string() + "' holds " + std::to_string(unlisted) +
                      " tensors that the index does not list, such as " + shown(example) +
                      "; they are ignored");
}

void ModelFiles::read_side_files(const ModelLimits& limits) {
  const fs::path config = folder_ / "config.json";
  if (is_there(config)) {
    const JsonLimits json_limits{.bytes = static_cast<std::size_t>(limits.config_bytes)};
    config_ = parse_json(read_file(config, limits.config_bytes), config.string(), Code::kDataError,
                         json_limits);
  }
  for (const std::string_view name : kSideFiles) {
    if (is_there(folder_ / name)) side_files_.emplace_back(name);
  }
}

void ModelFiles::finish(const ModelLimits& limits) {
  if (tensors_.size() > limits.tensors) {
    throw Error(Code::kDataError, "'" + source_.string() + "' holds " +
                                      std::to_string(tensors_.size()) + " tensors; at most " +
                                      std::to_string(limits.tensors) + " are accepted")
        .at("file", source_.string());
  }
  std::sort(tensors_.begin(), tensors_.end(),
            [](const TensorRecord& a, const TensorRecord& b) { return a.name < b.name; });
}

const TensorRecord* ModelFiles::find(std::string_view name) const noexcept {
  const auto found = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const TensorRecord& record, std::string_view wanted) { return record.name < wanted; });
  return found == tensors_.end() || found->name != name ? nullptr : &*found;
}

const TensorRecord& ModelFiles::at(std::string_view name) const {
  if (const TensorRecord* found = find(name)) return *found;
  constexpr std::size_t kCompared = 10'000;  // bounds the time an error takes
  std::vector<std::string> names;
  for (std::size_t i = 0; i < std::min(kCompared, tensors_.size()); ++i) {
    names.push_back(tensors_[i].name);
  }
  const std::string nearest = nearest_name(name, names);
  throw Error(Code::kNotFound, "'" + source_.string() + "' has no tensor " + shown(name) +
                                   (nearest.empty() ? "" : "; the nearest is " + shown(nearest)))
      .at("file", source_.string())
      .at("tensor", std::string(name));
}

void ModelFiles::read(const TensorRecord& tensor, std::uint64_t first_byte,
                      std::span<char> into) const {
  if (first_byte > tensor.bytes || into.size() > tensor.bytes - first_byte) {
    throw Error(Code::kInvalidArgument, "tensor " + shown(tensor.name) + " has " +
                                            std::to_string(tensor.bytes) + " bytes; " +
                                            std::to_string(into.size()) + " at " +
                                            std::to_string(first_byte) + " were asked for")
        .at("tensor", tensor.name);
  }
  if (tensor.computed != 0) return read_computed(tensor, first_byte, into);
  const FileBytes& file = *files_.at(tensor.file);
  try {
    if (tensor.contiguous()) {
      file.read(tensor.offset + first_byte, into);
    } else {
      internal::gather(file, tensor, first_byte, into);
    }
  } catch (const Error& error) {
    Failure failure = error.failure();
    failure.message = "tensor " + shown(tensor.name) + ": " + failure.message;
    failure.details.emplace_back("tensor", tensor.name);
    throw Error(std::move(failure));
  }
}

// Rounded to the tensor's type, a piece at a time.
void ModelFiles::read_computed(const TensorRecord& tensor, std::uint64_t first_byte,
                               std::span<char> into) const {
  const auto each = static_cast<std::uint64_t>(dtype_bits(tensor.dtype)) / 8;
  constexpr std::size_t kPiece = std::size_t{1} << 14;
  std::vector<float> values(std::min<std::size_t>(kPiece, into.size() / each + 2));
  std::vector<char> bytes(values.size() * each);
  while (!into.empty()) {
    const std::uint64_t first = first_byte / each;
    const std::uint64_t skipped = first_byte - first * each;
    const auto wanted = (skipped + into.size() + each - 1) / each;
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(values.size(), wanted));
    rules_.at(tensor.computed - 1)->read(first, count, values.data());
    from_float(tensor.dtype, values.data(), count, bytes.data());
    const auto size =
        static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), count * each - skipped));
    std::memcpy(into.data(), bytes.data() + skipped, size);
    into = into.subspan(size);
    first_byte += size;
  }
}

void ModelFiles::read_floats(const TensorRecord& tensor, std::uint64_t first, std::size_t count,
                             float* into, char* raw) const {
  if (tensor.computed != 0) return rules_.at(tensor.computed - 1)->read(first, count, into);
  const auto each = static_cast<std::uint64_t>(dtype_bits(tensor.dtype)) / 8;
  const auto size = static_cast<std::size_t>(count * each);
  if (tensor.dtype == DType::kF32) {
    return read(tensor, first * each, {reinterpret_cast<char*>(into), size});
  }
  read(tensor, first * each, {raw, size});
  to_float(tensor.dtype, raw, count, into);
}

std::uint64_t ModelFiles::memory(const TensorRecord& tensor, std::uint64_t count) const {
  return tensor.computed == 0 ? 0 : rules_.at(tensor.computed - 1)->memory(count);
}

void ModelFiles::set(TensorRecord record) {
  const auto at = std::lower_bound(
      tensors_.begin(), tensors_.end(), record.name,
      [](const TensorRecord& tensor, const std::string& name) { return tensor.name < name; });
  if (at != tensors_.end() && at->name == record.name) {
    *at = std::move(record);
  } else {
    tensors_.insert(at, std::move(record));
  }
}

void ModelFiles::set_computed(TensorRecord record, std::shared_ptr<const ComputedTensor> rule) {
  record.strides.clear();
  rules_.push_back(std::move(rule));
  record.computed = rules_.size();
  set(std::move(record));
}

void ModelFiles::set_stored(std::string name, const ModelFiles& other, const TensorRecord& record) {
  TensorRecord out = record;
  out.name = std::move(name);
  if (record.computed != 0)
    return set_computed(std::move(out), other.rules_.at(record.computed - 1));
  const auto& file = other.files_.at(record.file);
  const auto at = std::find(files_.begin(), files_.end(), file);
  out.file = static_cast<std::size_t>(at - files_.begin());
  if (at == files_.end()) files_.push_back(file);
  set(std::move(out));
}

ModelFiles ModelFiles::described(fs::path folder, std::vector<TensorRecord> tensors, Json config) {
  ModelFiles out;
  out.folder_ = out.source_ = std::move(folder);
  out.tensors_ = std::move(tensors);
  out.config_ = std::move(config);
  out.finish({});
  return out;
}

std::string ModelFiles::read(const TensorRecord& tensor) const {
  std::string bytes(static_cast<std::size_t>(tensor.bytes), '\0');
  read(tensor, 0, std::span<char>(bytes));
  return bytes;
}

}  // namespace theriac::tensorfile
