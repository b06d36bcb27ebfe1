#include "cpp/core/data/column_file.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <utility>

#include "cpp/core/base/hash.h"

namespace theriac::data {
namespace {

static_assert(std::endian::native == std::endian::little,
              "columns are little-endian and are read and written as they lie in memory");

constexpr std::uint64_t kAlignment = 64;

template <class T>
std::string_view as_bytes(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

template <class T>
std::vector<T> as_values(std::string_view bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

std::size_t width_of(const std::string& type) {
  if (type == "int64") return 8;
  if (type == "int32") return 4;
  return type == "uint8" ? 1 : 0;
}

std::uint64_t aligned(std::uint64_t position) {
  return (position + kAlignment - 1) / kAlignment * kAlignment;
}

const std::string* text_member(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : found->get_ptr<const std::string*>();
}

const std::uint64_t* count_member(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : found->get_ptr<const std::uint64_t*>();
}

}  // namespace

void ColumnWriter::add_bytes(const std::string& name, const char* type, std::size_t width,
                             std::string_view bytes) {
  const std::uint64_t offset = aligned(end_);
  file_.write(std::string(static_cast<std::size_t>(offset - end_), '\0'));
  file_.write(bytes);
  end_ = offset + bytes.size();
  entries_.push_back(Json{{"name", name},
                          {"type", type},
                          {"offset", offset},
                          {"count", bytes.size() / width},
                          {"xxh3", hash64_hex(bytes)}});
}

void ColumnWriter::add(const std::string& name, std::span<const std::int64_t> values) {
  add_bytes(name, "int64", 8, as_bytes(values));
}

void ColumnWriter::add(const std::string& name, std::span<const std::int32_t> values) {
  add_bytes(name, "int32", 4, as_bytes(values));
}

void ColumnWriter::add_texts(const std::string& name, std::span<const std::string> texts) {
  std::vector<std::int64_t> offsets{0};
  offsets.reserve(texts.size() + 1);
  std::string bytes;
  for (const std::string& text : texts) {
    bytes += text;
    offsets.push_back(static_cast<std::int64_t>(bytes.size()));
  }
  add(name + ".offsets", std::span<const std::int64_t>(offsets));
  add_bytes(name + ".bytes", "uint8", 1, bytes);
}

Json ColumnWriter::finish() {
  file_.commit();
  return std::move(entries_);
}

void ColumnReader::fail(const std::string& name, const std::string& what) const {
  throw Error(Code::kDataError, "'" + file_name_ + "': column '" + name + "' " + what)
      .at("file", file_name_)
      .at("column", name);
}

ColumnReader::ColumnReader(const std::filesystem::path& file, const Json& columns)
    : file_name_(file.string()), file_(file) {
  if (!columns.is_array()) fail("", "list is missing or not an array");
  std::uint64_t end = 0;
  for (const Json& column : columns) add_entry(column, end);
  if (end != file_.bytes().size()) {
    throw Error(Code::kDataError, "'" + file_name_ + "' has " +
                                      std::to_string(file_.bytes().size()) +
                                      " bytes; its columns end at " + std::to_string(end))
        .at("file", file_name_);
  }
}

void ColumnReader::add_entry(const Json& column, std::uint64_t& end) {
  const std::string* name = column.is_object() ? text_member(column, "name") : nullptr;
  if (name == nullptr) fail("", "entry without a name");
  const std::string* type = text_member(column, "type");
  const std::string* hash = text_member(column, "xxh3");
  const std::uint64_t* offset = count_member(column, "offset");
  const std::uint64_t* count = count_member(column, "count");
  if (type == nullptr || hash == nullptr || offset == nullptr || count == nullptr) {
    fail(*name, "lacks type, offset, count or xxh3");
  }
  const std::size_t width = width_of(*type);
  if (width == 0) fail(*name, "has a type other than int64, int32 and uint8");
  const std::uint64_t size = file_.bytes().size();
  if (*offset % kAlignment != 0 || *offset > size || *count > (size - *offset) / width) {
    fail(*name, "does not lie within the file of " + std::to_string(size) + " bytes");
  }
  const std::string_view bytes = file_.bytes().substr(static_cast<std::size_t>(*offset),
                                                      static_cast<std::size_t>(*count * width));
  if (!entries_.emplace(*name, Entry{*type, bytes, *hash}).second) fail(*name, "is listed twice");
  end = std::max(end, *offset + *count * width);
}

std::string_view ColumnReader::checked(const std::string& name, const char* type) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail(name, "is missing");
  const Entry& entry = found->second;
  if (entry.type != type) fail(name, "is not of type " + std::string(type));
  if (hash64_hex(entry.bytes) != entry.hash) fail(name, "does not match its checksum");
  return entry.bytes;
}

std::vector<std::int64_t> ColumnReader::int64s(const std::string& name) const {
  return as_values<std::int64_t>(checked(name, "int64"));
}

std::vector<std::int32_t> ColumnReader::int32s(const std::string& name) const {
  return as_values<std::int32_t>(checked(name, "int32"));
}

std::vector<std::string> ColumnReader::texts(const std::string& name) const {
  const std::vector<std::int64_t> offsets = int64s(name + ".offsets");
  const std::string_view bytes = checked(name + ".bytes", "uint8");
  const auto size = static_cast<std::int64_t>(bytes.size());
  if (offsets.empty() || offsets.front() != 0 || offsets.back() != size) {
    fail(name + ".offsets", "does not run from 0 to " + std::to_string(size));
  }
  if (!std::is_sorted(offsets.begin(), offsets.end())) fail(name + ".offsets", "falls");
  std::vector<std::string> texts;
  texts.reserve(offsets.size() - 1);
  for (std::size_t i = 1; i < offsets.size(); ++i) {
    texts.emplace_back(bytes.substr(static_cast<std::size_t>(offsets[i - 1]),
                                    static_cast<std::size_t>(offsets[i] - offsets[i - 1])));
  }
  return texts;
}

}  // namespace theriac::data
