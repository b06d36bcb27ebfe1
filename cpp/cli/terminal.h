// What a person sees: progress, tables, one JSON document.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cpp/core/base/json.h"
#include "theriac/theriac.hpp"

namespace theriac::cli {

// Progress on stderr: a bar on a terminal, a line for each finished phase or epoch elsewhere,
// nothing when quiet.
class ProgressBar {
 public:
  explicit ProgressBar(bool quiet);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  Progress listener();

 private:
  void show(std::string_view phase, std::uint64_t done, std::uint64_t total,
            std::string_view metrics);
  bool quiet_, terminal_, open_ = false;
  std::string last_;
};

// The token that Ctrl-C and SIGTERM request; installed on first use.
const CancelToken& interrupt_token();
bool interrupted();

void print(std::string_view text);       // stdout, as it is
void print_line(std::string_view text);  // stdout, with a line end
void print_json(const Json& document);   // stdout, indented
void print_pairs(const Json& object,
                 int indent = 0);  // "key  value" lines, nested objects indented
// Left-aligned first column, right-aligned others.
void print_table(const std::vector<std::string>& header,
                 const std::vector<std::vector<std::string>>& rows);
std::string number(double value, int digits = 4);

}  // namespace theriac::cli
