#include <algorithm>

#include "cpp/core/base/json.h"
#include "cpp/core/base/utf8.h"
#include "cpp/core/tensorfile/layout.h"
#include "cpp/core/tensorfile/safetensors.h"

namespace theriac::tensorfile {
namespace {

using internal::shown;

[[noreturn]] void fail(const TensorToWrite& tensor, const std::string& what) {
  throw Error(Code::kInvalidArgument,
              "tensor " + shown(tensor.name) + " cannot be written: " + what)
      .at("tensor", tensor.name);
}

// What we write must be readable within the default limits of the reader.
void check(const TensorToWrite& tensor, const Limits& limits) {
  if (tensor.name.empty()) fail(tensor, "its name is empty");
  if (tensor.name == internal::kMetadataKey)
    fail(tensor, "the format keeps this name for its metadata");
  if (tensor.name.size() > limits.name_bytes) fail(tensor, "its name is too long");
  if (find_invalid_utf8(tensor.name) != std::string_view::npos)
    fail(tensor, "its name is not valid UTF-8");
  if (tensor.shape.size() > limits.rank) fail(tensor, "it has too many dimensions");
  for (const std::uint64_t dimension : tensor.shape) {
    if (dimension > internal::kGreatestDimension) fail(tensor, "a dimension is beyond 2^53");
  }
  const auto size = internal::byte_size(tensor.dtype, tensor.shape);
  if (!size) fail(tensor, "its shape overflows or ends inside a byte");
  if (*size != tensor.bytes.size()) {
    fail(tensor, "shape and dtype ask for " + std::to_string(*size) + " bytes, " +
                     std::to_string(tensor.bytes.size()) + " were given");
  }
}

// Widest elements first, so that every tensor is aligned to its element without padding between
// them.
void sort_for_alignment(std::vector<TensorToWrite>& tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
    return a.dtype != b.dtype ? a.dtype > b.dtype : a.name < b.name;
  });
}

void check_all(std::vector<TensorToWrite>& tensors) {
  const Limits limits;
  if (tensors.size() > limits.tensors) {
    throw Error(Code::kInvalidArgument,
                "more than " + std::to_string(limits.tensors) + " tensors in one file");
  }
  for (const auto& tensor : tensors) check(tensor, limits);
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const auto& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    throw Error(Code::kInvalidArgument, "two tensors are named " + shown(*twice))
        .at("tensor", std::string(*twice));
  }
}

std::string quoted(const std::string& text) {
  if (find_invalid_utf8(text) != std::string_view::npos) {
    throw Error(Code::kInvalidArgument, "the metadata text " + shown(text) + " is not valid UTF-8");
  }
  return dump_json(Json(text));
}

void append_entry(const TensorToWrite& tensor, std::uint64_t begin, std::string& json) {
  json += quoted(tensor.name) + ":{\"dtype\":\"" + std::string(dtype_name(tensor.dtype)) +
          "\",\"shape\":[";
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    json += (i == 0 ? "" : ",") + std::to_string(tensor.shape[i]);
  }
  json += "],\"data_offsets\":[" + std::to_string(begin) + "," +
          std::to_string(begin + tensor.bytes.size()) + "]}";
}

std::string metadata_json(const std::map<std::string, std::string>& metadata) {
  std::string json;
  for (const auto& [key, value] : metadata)
    json += (json.empty() ? "{" : ",") + quoted(key) + ":" + quoted(value);
  return json + "}";
}

// Length and JSON of sorted tensors, padded so that the buffer starts at a multiple of eight.
std::string header_of(const std::vector<TensorToWrite>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  if (!metadata.empty())
    json += "\"" + std::string(internal::kMetadataKey) + "\":" + metadata_json(metadata);
  std::uint64_t begin = 0;
  for (const auto& tensor : tensors) {
    if (json.size() > 1) json += ",";
    append_entry(tensor, begin, json);
    begin += tensor.bytes.size();
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (json.size() > Limits{}.header_bytes) {
    throw Error(Code::kInvalidArgument, "the header would have " + std::to_string(json.size()) +
                                            " bytes; the format allows " +
                                            std::to_string(Limits{}.header_bytes));
  }
  std::string out;
  for (std::size_t i = 0; i < internal::kLengthBytes; ++i) {
    out += static_cast<char>(static_cast<std::uint64_t>(json.size()) >> (8 * i));
  }
  return out + json;
}

}  // namespace

std::string serialise(std::vector<TensorToWrite> tensors,
                      const std::map<std::string, std::string>& metadata) {
  check_all(tensors);
  sort_for_alignment(tensors);
  std::string out = header_of(tensors, metadata);
  for (const auto& tensor : tensors) out += tensor.bytes;
  return out;
}

void write_file(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                const std::map<std::string, std::string>& metadata) {
  check_all(tensors);
  sort_for_alignment(tensors);
  AtomicFile file(path);
  file.write(header_of(tensors, metadata));
  for (const auto& tensor : tensors) file.write(tensor.bytes);
  file.commit();
}

}  // namespace theriac::tensorfile
