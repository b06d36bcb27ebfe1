// dataset.json of a stored data set of any kind (FORMAT.md), as untrusted bytes.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "cpp/core/base/json.h"

namespace theriac::data {

inline constexpr const char* kHeaderFile = "dataset.json";
inline constexpr const char* kColumnFile = "columns.bin";
inline constexpr std::int64_t kFormatVersion = 1;

// Every complaint is kDataError and names the file and the member.
class StoredHeader {
 public:
  // Throws kNotFound without the file, kDataError for one that is no header of a known kind, and
  // kIncompatible for another format version.
  explicit StoredHeader(const std::filesystem::path& directory);

  const std::string& kind() const noexcept { return kind_; }
  // Throws kDataError, naming both kinds, when the data set is of another.
  void need_kind(std::string_view kind) const;

  const Json& member(const char* key) const;
  Json object(const char* key) const;
  void check_fingerprint(const std::string& actual) const;
  [[noreturn]] void fail(const std::string& key, const std::string& what) const;

 private:
  void read_kind();
  void check_version() const;

  std::string file_, kind_;
  Json json_;
};

}  // namespace theriac::data
