// One subcommand of `theriac`: its words, its options, what it does.
#pragma once

#include <cxxopts.hpp>
#include <string>
#include <vector>

#include "cpp/core/base/json.h"
#include "theriac/theriac.hpp"

namespace theriac::cli {

// A mistake in how the command was called: exit status 2 and a pointer to the help.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What every subcommand gets: parsed options, positional words, and what --config and --set make
// together.
struct Call {
  cxxopts::ParseResult options;
  std::vector<std::string> words;  // positional arguments
  Json settings = Json::object();
  bool json = false, quiet = false;

  // The nth positional argument, or a usage error naming it.
  const std::string& word(std::size_t n, const char* what) const;
  std::string text(const char* option, const std::string& fallback = "") const;
  std::string required(const char* option, const char* what) const;
  Json whole_number(const char* option) const;  // or a usage error
  // A JSON object, or with `opens` '[' an array: the option's value if it starts so, else a file's.
  Json document(const char* option, char opens = '{') const;
  Json history() const;     // ids of --history; those written as integers are integers
  Context context() const;  // of --device, --threads, --seed
};

// A saved data set.
Dataset open_saved(const Context& context, const std::string& path, const Progress& progress = {});

struct Command {
  const char* words;     // "data import"
  const char* operands;  // "FORMAT PATH -o DIR"
  const char* summary;
  void (*declare)(
      cxxopts::Options& options);  // beside the options that all commands share; may be null
  int (*run)(const Call& call);    // exit status
};

const std::vector<Command>& data_commands();
const std::vector<Command>& codes_commands();
const std::vector<Command>& model_commands();
const std::vector<Command>& recommend_commands();
const std::vector<Command>& sequence_commands();
const std::vector<Command>& merge_commands();
const std::vector<Command>& inspect_commands();

// Exit statuses of the command.
inline constexpr int kDone = 0, kInputFault = 1, kUsage = 2, kInternal = 3, kInterrupted = 130;

}  // namespace theriac::cli
