#include "cpp/core/merge/output_model.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <system_error>
#include <utility>

#include "cpp/core/base/file.h"
#include "cpp/core/base/file_operations.h"
#include "cpp/core/merge/json_text.h"
#include "cpp/core/tensorfile/layout.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
using tensorfile::internal::shown;

constexpr std::string_view kPart = ".part";

// ---- layout ------------------------------------------------------------------------------------

void measure(OutputTensor& tensor) {
  const tensorfile::Limits limits;
  const auto bytes = tensorfile::internal::byte_size(tensor.dtype, tensor.shape);
  std::string problem;
  if (tensor.name.empty() || tensor.name.size() > limits.name_bytes) problem = "its name's length";
  if (tensor.name == tensorfile::internal::kMetadataKey) problem = "its name";
  if (tensor.shape.size() > limits.rank || !bytes) problem = "its shape";
  if (!problem.empty()) {
    throw Error(
        Code::kInvalidArgument,
        "tensor " + shown(tensor.name) + " cannot be written: the format does not allow " + problem)
        .at("tensor", tensor.name);
  }
  tensor.bytes = *bytes;
}

std::string entry_json(const OutputTensor& tensor, std::uint64_t begin) {
  std::string json = dump_json(Json(tensor.name)) + ":{\"dtype\":\"" +
                     std::string(tensorfile::dtype_name(tensor.dtype)) + "\",\"shape\":[";
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    json += (i == 0 ? "" : ",") + std::to_string(tensor.shape[i]);
  }
  return json + "],\"data_offsets\":[" + std::to_string(begin) + "," +
         std::to_string(begin + tensor.bytes) + "]}";
}

// Sorts a shard's tensors as the format wants it, then makes the header and the offsets.
void lay_out_shard(OutputLayout& layout, std::size_t shard, std::vector<std::size_t> members) {
  std::sort(members.begin(), members.end(), [&layout](std::size_t a, std::size_t b) {
    const OutputTensor &left = layout.tensors[a], &right = layout.tensors[b];
    return left.dtype != right.dtype ? left.dtype > right.dtype : left.name < right.name;
  });
  std::string json =
      "{\"" + std::string(tensorfile::internal::kMetadataKey) + "\":{\"format\":\"pt\"}";
  std::uint64_t begin = 0;
  for (const std::size_t i : members) {
    OutputTensor& tensor = layout.tensors[i];
    json += "," + entry_json(tensor, begin);
    tensor.shard = shard;
    tensor.offset = begin;
    begin += tensor.bytes;
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (json.size() > tensorfile::Limits{}.header_bytes) {
    throw Error(Code::kInvalidArgument,
                "the header of one output file would have " + std::to_string(json.size()) +
                    " bytes, more than the format allows; ask for smaller shards");
  }
  OutputShard& out = layout.shards[shard];
  for (unsigned i = 0; i < tensorfile::internal::kLengthBytes; ++i) {
    out.header += static_cast<char>(static_cast<std::uint64_t>(json.size()) >> (8 * i));
  }
  out.header += json;
  out.bytes = out.header.size() + begin;
  for (const std::size_t i : members) layout.tensors[i].offset += out.header.size();
}

std::string shard_name(std::size_t shard, std::size_t shards) {
  if (shards == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", shard + 1, shards);
  return name;
}

void check_names(const std::vector<OutputTensor>& tensors) {
  std::vector<std::string_view> names;
  for (const OutputTensor& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice == names.end()) return;
  throw Error(Code::kInvalidArgument, "two tensors of the output are named " + shown(*twice))
      .at("tensor", std::string(*twice));
}

// ---- config.json -------------------------------------------------------------------------------

std::vector<std::string> split(const std::string& path) {
  std::vector<std::string> out(1);
  for (const char c : path) {
    if (c == '.') {
      out.emplace_back();
    } else {
      out.back() += c;
    }
  }
  return out;
}

// Where the element type stands: at the top, and in the parts of a model of several.
std::vector<std::vector<std::string>> dtype_paths(const Json& config) {
  std::vector<std::vector<std::string>> out;
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (config.contains(key)) out.push_back({key});
  }
  if (out.empty()) out.push_back({"torch_dtype"});
  for (const auto& [part, value] : config.items()) {
    if (!value.is_object() || !part.ends_with("_config") || part == "quantization_config") continue;
    for (const char* key : {"torch_dtype", "dtype"}) {
      if (value.contains(key) && value.at(key).is_string()) out.push_back({part, key});
    }
  }
  return out;
}

// ---- folders -----------------------------------------------------------------------------------

// Space for the whole file now, so that a full disk is found before hours of work. Some file
// systems cannot reserve; there the file has the size only.
void reserve(int fd, std::uint64_t bytes, const fs::path& path) {
  int result = -1;
  do {
    result = ::fallocate(fd, 0, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result != 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
    result = ::ftruncate(fd, static_cast<off_t>(bytes));
  }
  if (result == 0) return;
  const int number = errno;
  throw Error(Code::kIoError, "no room for the output: '" + path.string() + "' needs " +
                                  std::to_string(bytes) +
                                  " bytes: " + std::generic_category().message(number))
      .at("file", path.string())
      .at("bytes", bytes)
      .at("errno", number);
}

constexpr std::uint64_t kSyncEvery = std::uint64_t{16} << 20;

void write_all(int fd, std::string_view bytes, std::uint64_t offset, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) throw io_error("write", path, errno);
    bytes.remove_prefix(static_cast<std::size_t>(wrote));
    offset += static_cast<std::uint64_t>(wrote);
  }
}

}  // namespace

std::uint64_t OutputLayout::file_bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const OutputShard& shard : shards) sum += shard.bytes;
  return sum;
}

OutputLayout lay_out(std::vector<OutputTensor> tensors, std::uint64_t shard_bytes) {
  OutputLayout layout;
  layout.tensors = std::move(tensors);
  check_names(layout.tensors);
  std::vector<std::vector<std::size_t>> members(1);
  std::uint64_t filled = 0;
  for (std::size_t i = 0; i < layout.tensors.size(); ++i) {
    OutputTensor& tensor = layout.tensors[i];
    measure(tensor);
    const bool fits = filled <= shard_bytes && tensor.bytes <= shard_bytes - filled;
    if (!members.back().empty() && !fits) {
      members.emplace_back();
      filled = 0;
    }
    members.back().push_back(i);
    filled += tensor.bytes;
    layout.tensor_bytes += tensor.bytes;
  }
  layout.shards.resize(members.size());
  for (std::size_t i = 0; i < members.size(); ++i) {
    layout.shards[i].file = shard_name(i, members.size());
    lay_out_shard(layout, i, std::move(members[i]));
  }
  return layout;
}

std::string index_json(const OutputLayout& layout) {
  std::vector<std::pair<std::string_view, std::size_t>> order;
  for (const OutputTensor& tensor : layout.tensors) order.emplace_back(tensor.name, tensor.shard);
  std::sort(order.begin(), order.end());
  // By hand: an ordered JSON object searches all its keys at each insertion.
  std::string out =
      "{\n  \"metadata\": {\n    \"total_size\": " + std::to_string(layout.tensor_bytes) +
      "\n  },\n  \"weight_map\": {";
  for (std::size_t i = 0; i < order.size(); ++i) {
    out += (i == 0 ? "\n    " : ",\n    ") + dump_json(Json(std::string(order[i].first))) + ": \"" +
           layout.shards[order[i].second].file + "\"";
  }
  return out + "\n  }\n}\n";
}

std::string edited_config(const std::string& text, std::string_view what,
                          const std::vector<ConfigEdit>& edits, std::string_view dtype) {
  const Json config = parse_json(text, what, Code::kDataError);
  if (!config.is_object()) return text;
  JsonText out(text);
  for (const ConfigEdit& edit : edits) out.set(split(edit.key), dump_json(edit.value));
  if (!dtype.empty()) {
    for (const auto& path : dtype_paths(config)) {
      out.set(path, "\"" + std::string(dtype) + "\"");
    }
  }
  return out.text();
}

fs::path staging_folder(const fs::path& target) {
  const fs::path path = resolved_target(target);
  return folder_of(path) / ("." + path.filename().string() + ".merging");
}

void check_target(const fs::path& target, bool overwrite) {
  constexpr std::string_view kMarkers[] = {"config.json", "model.safetensors",
                                           "model.safetensors.index.json"};
  check_replaceable(target, overwrite, kMarkers);
}

void publish(const fs::path& staging, const fs::path& target, bool overwrite) {
  check_target(target, overwrite);
  publish_directory(staging, target, overwrite);
}

OutputFiles OutputFiles::create(const fs::path& folder, const OutputLayout& layout) {
  OutputFiles out(folder, layout);
  try {
    for (std::size_t i = 0; i < layout.shards.size(); ++i) {
      const OutputShard& shard = layout.shards[i];
      const int fd = open_retrying(out.part(i), O_RDWR | O_CREAT | O_TRUNC);
      if (fd < 0) throw io_error("create", out.part(i), errno);
      out.descriptors_.push_back(fd);
      reserve(fd, shard.bytes, out.part(i));
      write_all(fd, shard.header, 0, out.part(i));
    }
    out.sync_in_background();
  } catch (...) {
    std::error_code ignored;
    for (std::size_t i = 0; i < layout.shards.size(); ++i) fs::remove(out.part(i), ignored);
    throw;
  }
  return out;
}

OutputFiles OutputFiles::reopen(const fs::path& folder, const OutputLayout& layout) {
  OutputFiles out(folder, layout);
  for (std::size_t i = 0; i < layout.shards.size(); ++i) {
    const OutputShard& shard = layout.shards[i];
    std::error_code ignored;
    // Stopped while the files got their names.
    if (!fs::exists(out.part(i), ignored)) fs::rename(folder / shard.file, out.part(i), ignored);
    const int fd = open_retrying(out.part(i), O_RDWR);
    if (fd < 0) throw io_error("open", out.part(i), errno);
    out.descriptors_.push_back(fd);
    struct stat status {};
    if (::fstat(fd, &status) != 0) throw io_error("inspect", out.part(i), errno);
    if (static_cast<std::uint64_t>(status.st_size) != shard.bytes) {
      throw Error(Code::kDataError, "'" + out.part(i).string() + "' has " +
                                        std::to_string(status.st_size) + " bytes; " +
                                        std::to_string(shard.bytes) +
                                        " are expected; start without resuming")
          .at("file", out.part(i).string());
    }
    // Pages that could not be written to the disk stay readable and count as written: a later sync does
    // not fail for them. What is read from here on is what the disk has.
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    write_all(fd, shard.header, 0, out.part(i));
  }
  out.sync_in_background();
  return out;
}

OutputFiles::~OutputFiles() { close(); }

OutputFiles::OutputFiles(OutputFiles&& other) noexcept
    : folder_(std::move(other.folder_)),
      layout_(other.layout_),
      descriptors_(std::move(other.descriptors_)),
      background_(std::move(other.background_)) {
  other.descriptors_.clear();
}

void OutputFiles::sync_in_background() {
  if (layout_->file_bytes() < 2 * kSyncEvery) return;
  background_ = std::make_unique<BackgroundSync>(descriptors_, kSyncEvery);
}

void OutputFiles::close() noexcept {
  background_.reset();
  for (const int fd : descriptors_) ::close(fd);
  descriptors_.clear();
}

fs::path OutputFiles::part(std::size_t shard) const {
  return folder_ / (layout_->shards[shard].file + std::string(kPart));
}

void OutputFiles::write(std::size_t tensor, std::uint64_t first, std::string_view bytes) {
  const OutputTensor& at = layout_->tensors[tensor];
  const std::uint64_t begin = at.offset + first;
  write_all(descriptors_[at.shard], bytes, begin, part(at.shard));
  if (background_) background_->wrote(at.shard, bytes.size());
}

void OutputFiles::read(std::size_t tensor, std::uint64_t first, std::span<char> into) const {
  const OutputTensor& at = layout_->tensors[tensor];
  for (std::size_t used = 0; used < into.size();) {
    const ssize_t got = ::pread(descriptors_[at.shard], into.data() + used, into.size() - used,
                                static_cast<off_t>(at.offset + first + used));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) throw io_error("read", part(at.shard), got < 0 ? errno : EIO);
    used += static_cast<std::size_t>(got);
  }
}

bool OutputFiles::copy(std::size_t tensor, std::uint64_t first, std::uint64_t bytes, int input,
                       std::uint64_t input_offset) {
  const OutputTensor& at = layout_->tensors[tensor];
  auto from = static_cast<off_t>(input_offset);
  auto to = static_cast<off_t>(at.offset + first);
  while (bytes > 0) {
    const ssize_t copied = ::copy_file_range(input, &from, descriptors_[at.shard], &to,
                                             static_cast<std::size_t>(bytes), 0);
    if (copied < 0 && errno == EINTR) continue;
    if (copied < 0 && (is_unsupported(errno) || errno == EXDEV || errno == EPERM || errno == EIO)) {
      return false;  // reading and writing will tell which of the two files fails, if one does
    }
    if (copied < 0) throw io_error("write", part(at.shard), errno);
    if (copied == 0) return false;  // the end of the input, or a file system that will not
    if (background_) background_->wrote(at.shard, static_cast<std::uint64_t>(copied));
    bytes -= static_cast<std::uint64_t>(copied);
  }
  return true;
}

void OutputFiles::sync() {
  const auto failure = background_ ? background_->stop() : std::nullopt;
  if (failure) throw io_error("sync", part(failure->file), failure->number);
  for (std::size_t i = 0; i < descriptors_.size(); ++i) {
    if (::fdatasync(descriptors_[i]) != 0) throw io_error("sync", part(i), errno);
  }
}

void OutputFiles::finish() {
  close();
  for (std::size_t i = 0; i < layout_->shards.size(); ++i) {
    const fs::path name = folder_ / layout_->shards[i].file;
    if (::rename(part(i).c_str(), name.c_str()) != 0) throw io_error("create", name, errno);
  }
}

}  // namespace theriac::merge
