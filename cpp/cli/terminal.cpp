#include "cpp/cli/terminal.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

namespace theriac::cli {
namespace {

theriac_cancel* interrupt_handle = nullptr;  // for the signal handler, which can reach nothing else

void on_signal(int) { theriac_cancel_request(interrupt_handle); }

std::string metrics_text(std::string_view metrics) {
  const Json json = Json::parse(metrics, nullptr, false);
  std::string text;
  if (!json.is_object()) return text;
  for (const auto& [key, value] : json.items()) {
    if (value.is_number_float()) text += "  " + key + " " + number(value.get<double>());
    if (value.is_number_integer())
      text += "  " + key + " " + std::to_string(value.get<std::int64_t>());
  }
  return text;
}

}  // namespace

const CancelToken& interrupt_token() {
  static const auto* const token = [] {
    auto* made = new CancelToken;
    interrupt_handle = made->get();
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = static_cast<int>(SA_RESETHAND);  // a second Ctrl-C ends the program at once
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    return made;
  }();
  return *token;
}

bool interrupted() {
  return interrupt_handle != nullptr && theriac_cancel_requested(interrupt_handle) != 0;
}

ProgressBar::ProgressBar(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) != 0) {}

ProgressBar::~ProgressBar() {
  if (open_) std::fputs("\r\033[K", stderr);
}

Progress ProgressBar::listener() {
  if (quiet_) return {};
  return [this](std::string_view phase, std::uint64_t done, std::uint64_t total,
                std::string_view metrics) {
    show(phase, done, total, metrics);
    return true;
  };
}

void ProgressBar::show(std::string_view phase, std::uint64_t done, std::uint64_t total,
                       std::string_view metrics) {
  const std::string figures = metrics_text(metrics);
  std::string line(phase);
  if (total > 0) line += " " + std::to_string(done) + "/" + std::to_string(total);
  line += figures;
  if (!terminal_) {
    // Elsewhere only milestones: lines that carry figures or close a phase.
    if ((figures.empty() && done != total) || line == last_) return;
    std::fprintf(stderr, "%s\n", line.c_str());
    last_ = line;
    return;
  }
  constexpr std::uint64_t kWidth = 24;
  const std::uint64_t filled = total == 0 ? 0 : std::min(kWidth, done * kWidth / total);
  const std::string bar = std::string(filled, '=') + std::string(kWidth - filled, ' ');
  std::fprintf(stderr, "\r\033[K[%s] %s", bar.c_str(), line.c_str());
  std::fflush(stderr);
  open_ = true;
}

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }
void print_line(std::string_view text) {
  print(text);
  print("\n");
}
void print_json(const Json& document) { print_line(dump_json(document, 2)); }

std::string number(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

void print_pairs(const Json& object, int indent) {
  std::size_t width = 0;
  for (const auto& [key, value] : object.items()) width = std::max(width, key.size());
  for (const auto& [key, value] : object.items()) {
    std::string line(static_cast<std::size_t>(indent), ' ');
    line += key + std::string(width - key.size() + 2, ' ');
    if (value.is_object() && !value.empty()) {
      print_line(line);
      print_pairs(value, indent + 2);
      continue;
    }
    if (value.is_string()) {
      line += value.get<std::string>();
    } else if (value.is_number_float()) {
      line += number(value.get<double>());
    } else {
      line += dump_json(value);
    }
    print_line(line);
  }
}

void print_table(const std::vector<std::string>& header,
                 const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const std::string& cell : header) widths.push_back(cell.size());
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  const auto line = [&](const std::vector<std::string>& row) {
    std::string text;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string pad(widths[c] - row[c].size(), ' ');
      text += c == 0 ? row[c] + pad : "  " + pad + row[c];
    }
    print_line(text);
  };
  line(header);
  for (const auto& row : rows) line(row);
}

}  // namespace theriac::cli
