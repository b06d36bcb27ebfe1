#include "cpp/cli/command.h"

#include <limits>
#include <sstream>

#include "cpp/cli/terminal.h"
#include "cpp/core/base/file.h"

namespace theriac::cli {
namespace {

constexpr std::uint64_t kDocumentLimit = std::uint64_t{64} << 20;

// An integer if it is written as one, and exactly so: "007" is a name.
Json id_of(const std::string& word) {
  const Json value = Json::parse(word, nullptr, false);
  const bool fits =
      value.is_number_integer() &&
      !(value.is_number_unsigned() &&
        value.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int64_t>::max()});
  return fits && value.dump() == word ? value : Json(word);
}

}  // namespace

const std::string& Call::word(std::size_t n, const char* what) const {
  if (n >= words.size()) throw UsageError(std::string("missing ") + what);
  return words[n];
}

std::string Call::text(const char* option, const std::string& fallback) const {
  return options.count(option) == 0 ? fallback : options[option].as<std::string>();
}

std::string Call::required(const char* option, const char* what) const {
  if (options.count(option) == 0)
    throw UsageError(std::string("missing --") + option + " (" + what + ")");
  return options[option].as<std::string>();
}

Json Call::whole_number(const char* option) const {
  Json value = Json::parse(text(option), nullptr, false);
  if (value.is_number_unsigned()) return value;
  throw UsageError(std::string("--") + option + " takes a whole number, not '" + text(option) +
                   "'");
}

Json Call::document(const char* option, char opens) const {
  const std::string given = text(option), name = std::string("--") + option;
  const std::size_t first = given.find_first_not_of(" \t\r\n");
  if (first == std::string::npos)
    throw UsageError(name + " is empty; it takes JSON or the name of a file that holds it");
  Json value = given[first] == opens ? parse_json(given, name)
                                     : parse_json(read_file(given, kDocumentLimit), given);
  if (opens == '{' ? value.is_object() : value.is_array()) return value;
  throw UsageError(name + ": '" + given + "' must hold a JSON " +
                   (opens == '{' ? "object" : "array"));
}

Json Call::history() const {
  Json ids = Json::array();
  std::istringstream given(text("history"));
  for (std::string word; given >> word;) ids.push_back(id_of(word));
  return ids;
}

Context Call::context() const {
  Json document = Json::object();
  if (options.count("device") != 0) document["device"] = text("device");
  for (const char* key : {"threads", "seed"}) {
    if (options.count(key) != 0) document[key] = whole_number(key);
  }
  return Context(dump_json(document));
}

Dataset open_saved(const Context& context, const std::string& path, const Progress& progress) {
  return Dataset::open(context, dump_json(Json{{"format", "theriac"}, {"path", path}}), progress,
                       &interrupt_token());
}

}  // namespace theriac::cli
