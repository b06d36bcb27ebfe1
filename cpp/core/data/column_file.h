// columns.bin of a stored data set: columns one after the other, each at a multiple of 64 bytes,
// described by the "columns" member of dataset.json (FORMAT.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cpp/core/base/file.h"
#include "cpp/core/base/json.h"

namespace theriac::data {

// Writes columns in the order of the calls.
class ColumnWriter {
 public:
  explicit ColumnWriter(std::filesystem::path file) : file_(std::move(file)) {}
  void add(const std::string& name, std::span<const std::int64_t> values);
  void add(const std::string& name, std::span<const std::int32_t> values);
  // Two columns: NAME.offsets (int64, one more than texts) and NAME.bytes (uint8).
  void add_texts(const std::string& name, std::span<const std::string> texts);
  // Makes the file; returns the "columns" member.
  Json finish();

 private:
  void add_bytes(const std::string& name, const char* type, std::size_t width,
                 std::string_view bytes);

  AtomicFile file_;
  std::uint64_t end_ = 0;
  Json entries_ = Json::array();
};

// Reads columns of untrusted bytes. The constructor checks that every column lies within the file;
// a read checks its type and XXH3. Every failure is kDataError and names file and column.
class ColumnReader {
 public:
  ColumnReader(const std::filesystem::path& file, const Json& columns);
  std::vector<std::int64_t> int64s(const std::string& name) const;
  std::vector<std::int32_t> int32s(const std::string& name) const;
  std::vector<std::string> texts(const std::string& name) const;

 private:
  struct Entry {
    std::string type;
    std::string_view bytes;
    std::string hash;
  };
  void add_entry(const Json& column, std::uint64_t& end);
  std::string_view checked(const std::string& name, const char* type) const;
  [[noreturn]] void fail(const std::string& name, const std::string& what) const;

  std::string file_name_;
  MappedFile file_;
  std::unordered_map<std::string, Entry> entries_;
};

}  // namespace theriac::data
