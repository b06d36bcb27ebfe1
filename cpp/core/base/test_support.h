// What the tests of several folders share: catching an Error, its details, scratch folders.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "cpp/core/base/error.h"

namespace theriac::testing_support {

// The Error that `call` throws, or nothing.
template <class Call>
std::optional<Failure> failure_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.failure();
  }
  return std::nullopt;
}

inline std::string detail(const Failure& failure, std::string_view key) {
  for (const auto& [name, value] : failure.details) {
    if (name == key) return value;
  }
  return "(none)";
}

// A folder of its own, removed at the end.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "theriac-test-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error("no scratch folder");
    path_ = path;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace theriac::testing_support
