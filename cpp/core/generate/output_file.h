// A text file written once from front to back, plain or gzip, that appears only when complete.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

namespace theriac::generate {

// Not synchronised. The same text gives the same bytes: the gzip header carries no time and no
// name.
class OutputFile {
 public:
  // With `compress`, ".gz" is appended to the name.
  OutputFile(const std::filesystem::path& path, bool compress);
  ~OutputFile();
  void write(std::string_view text);
  void finish();  // without it nothing is left behind

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace theriac::generate
