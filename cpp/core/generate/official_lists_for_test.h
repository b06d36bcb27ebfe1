// Finds the public code lists that tests compare with; they are not part of the repository.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <set>
#include <string>

#include "cpp/core/base/csv.h"

namespace theriac::generate::testing {

inline std::filesystem::path data_folder() {
  if (const char* folder = std::getenv("THERIAC_DATA_DIR")) return folder;
  return std::filesystem::path(THERIAC_SOURCE_DIR) / ".." / "shared" / "data";
}

inline std::optional<std::filesystem::path> find_data(const std::string& relative) {
  const auto path = data_folder() / relative;
  if (std::filesystem::exists(path)) return path;
  return std::nullopt;
}

// Values of `column` in the rows where `flag` has `value`.
inline std::set<std::string> column_where(const std::filesystem::path& path,
                                          const std::string& column, const std::string& flag,
                                          const std::string& value) {
  CsvReader reader(open_source(path));
  const std::size_t wanted = reader.column(column), test = reader.column(flag);
  std::set<std::string> values;
  while (reader.next()) {
    if (reader.field(test) == value) values.emplace(reader.field(wanted));
  }
  return values;
}

}  // namespace theriac::generate::testing
