// theriac merge: models merged as a recipe says, or what that would do.
#include "cpp/cli/command.h"
#include "cpp/cli/report.h"
#include "cpp/cli/terminal.h"
#include "cpp/core/base/byte_count.h"
#include "cpp/core/base/file.h"

namespace theriac::cli {
namespace {

constexpr std::uint64_t kRecipeLimit = std::uint64_t{4} << 20;

std::int64_t bytes_of(const Call& call, const char* option) {
  try {
    return static_cast<std::int64_t>(parse_byte_count(call.text(option)));
  } catch (const Error& error) {
    throw UsageError(std::string("--") + option + ": " + error.what());
  }
}

void declare_merge(cxxopts::Options& options) {
  options.add_options()("resume", "go on with what a stopped run left")(
      "overwrite", "replace a model folder of that name")("strict",
                                                          "warnings of the recipe are errors")(
      "out-shard-size", "bytes of an output file: 5B, 200M", cxxopts::value<std::string>(), "SIZE")(
      "memory-limit", "bytes of all buffers together", cxxopts::value<std::string>(), "SIZE")(
      "report", "also write the report, as JSON", cxxopts::value<std::string>(), "FILE");
}

Json document_of(const Call& call, const std::string& recipe) {
  Json document = call.settings;
  document["name"] = recipe;
  for (const char* flag : {"resume", "overwrite", "strict"}) {
    if (call.options.count(flag) != 0) document[flag] = true;
  }
  if (call.options.count("out-shard-size") != 0)
    document["shard_bytes"] = bytes_of(call, "out-shard-size");
  if (call.options.count("memory-limit") != 0)
    document["memory_limit"] = bytes_of(call, "memory-limit");
  return document;
}

std::string carry_out(const Call& call, const std::string& recipe, const Json& document) {
  const Context context = call.context();
  ProgressBar bar(call.quiet);
  return context.merge(read_file(recipe, kRecipeLimit), dump_json(document), bar.listener(),
                       &interrupt_token());
}

int finish(const Call& call, const std::string& report) {
  if (call.options.count("report") != 0) replace_file(call.text("report"), report + "\n");
  if (call.json) {
    print_line(report);
    return kDone;
  }
  const Json json = Json::parse(report);
  for (const char* kind : {"warnings", "notes"}) {
    for (const Json& line : json.value(kind, Json::array())) print_line(line.get<std::string>());
  }
  return kDone;
}

int merge(const Call& call) {
  const std::string recipe = call.word(0, "RECIPE.yml"), output = call.word(1, "OUT");
  Json document = document_of(call, recipe);
  document["output"] = output;
  const int status = finish(call, carry_out(call, recipe, document));
  if (!call.json) print_line("written: " + output);
  return status;
}

int plan(const Call& call) {
  const std::string recipe = call.word(0, "RECIPE.yml");
  Json document = document_of(call, recipe);
  document["dry_run"] = true;
  const std::string report = carry_out(call, recipe, document);
  if (!call.json) print_line(dump_json(Json::parse(report), 2));
  return finish(call, report);
}

}  // namespace

const std::vector<Command>& merge_commands() {
  static const auto* const commands = new std::vector<Command>{
      {"merge plan", "RECIPE.yml", "what a merge would do: bytes, memory, each tensor's parameters",
       declare_merge, plan},
      {"merge", "RECIPE.yml OUT", "merges models as a recipe of mergekit's form says",
       declare_merge, merge},
  };
  return *commands;
}

}  // namespace theriac::cli
