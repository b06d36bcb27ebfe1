// Files for the tests of this folder: small ones written on the spot, and the clinical data if
// present.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/csv.h"
#include "cpp/core/base/error.h"

namespace theriac::codes::testing {

// A file in a fresh folder that goes away with the object.
class TempFile {
 public:
  TempFile(std::string_view name, std::string_view bytes) {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "theriac-codes-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    path_ = folder_ / name;
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ~TempFile() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path folder_, path_;
};

inline std::filesystem::path data_folder() {
  const char* given = std::getenv("THERIAC_DATA_DIR");
  const std::filesystem::path root =
      given != nullptr
          ? std::filesystem::path(given)
          : std::filesystem::path(THERIAC_SOURCE_DIR).parent_path() / "shared" / "data";
  return root / "clinical";
}

// In a test body: skips with the reason when a file of the clinical data is absent.
#define THERIAC_NEED_DATA(relative)                                                    \
  if (!std::filesystem::exists(::theriac::codes::testing::data_folder() / (relative))) \
  GTEST_SKIP() << "needs " << (relative) << " under THERIAC_DATA_DIR/clinical"

// The failure that `call` throws; a test failure when it throws none.
inline Failure failure_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.failure();
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

// One column of a CSV table.
inline std::vector<std::string> read_column(const std::filesystem::path& path,
                                            std::string_view name) {
  CsvReader reader(open_source(path));
  const std::size_t column = reader.column(name);
  std::vector<std::string> values;
  while (reader.next()) values.emplace_back(reader.field(column));
  return values;
}

}  // namespace theriac::codes::testing
