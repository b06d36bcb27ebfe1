// theriac merge inspect, search, soup: looking at models before merging them, and merging by trial.
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>

#include "cpp/cli/command.h"
#include "cpp/cli/terminal.h"
#include "cpp/core/base/file.h"

namespace theriac::cli {
namespace {

constexpr std::uint64_t kRecipeLimit = std::uint64_t{4} << 20;
constexpr std::size_t kAnswerLimit = std::size_t{1} << 20;  // of an evaluation command's output
constexpr std::size_t kMostTableRows = 200;

// ---- inspect -----------------------------------------------------------------------------------

void declare_inspect(cxxopts::Options& options) {
  options.add_options()("base", "what the models were fine-tuned from",
                        cxxopts::value<std::string>(), "MODEL")(
      "report", "also write one HTML page", cxxopts::value<std::string>(), "FILE.html");
}

std::string text_of(const Json& value, int digits = 4) {
  return value.is_number() ? number(value.get<double>(), digits) : "-";
}
std::string percent_of(const Json& value) {
  return value.is_number() ? number(value.get<double>() * 100, 1) + " %" : "-";
}
// A, B, ... Z, A1, B1: as columns of a table are called.
std::string letter(std::size_t i) {
  const std::string round = i < 26 ? "" : std::to_string(i / 26);
  return static_cast<char>('A' + i % 26) + round;
}
Json at(const Json& array, std::size_t i) {
  return array.is_array() && i < array.size() ? array[i] : Json();
}

void print_models(const Json& report) {
  const Json& all = report.at("global");
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = 0; i < report.at("models").size(); ++i) {
    rows.push_back({letter(i) + "  " + report["models"][i].get<std::string>(),
                    text_of(at(all.at("norms"), i)), text_of(at(all.at("norm_ratio"), i), 6),
                    percent_of(at(all.at("changed"), i)), text_of(at(all.at("sar"), i))});
  }
  print_table({"model", "|tau|", "|tau|/|base|", "changed", "SAR"}, rows);
}

void print_matrix(const Json& report, const char* key, const char* title, bool share) {
  const Json& matrix = report.at("global").at(key);
  if (!matrix.is_array() || matrix.size() < 2) return;
  std::vector<std::string> header{title};
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    header.push_back(letter(i));
    std::vector<std::string> row{letter(i)};
    for (const Json& value : matrix[i]) row.push_back(share ? percent_of(value) : text_of(value));
    rows.push_back(std::move(row));
  }
  print_line("");
  print_table(header, rows);
}

Json mean_cosine(const Json& matrix) {
  double sum = 0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    for (std::size_t j = i + 1; j < matrix.size(); ++j) {
      if (!matrix[i][j].is_number()) continue;
      sum += matrix[i][j].get<double>();
      ++count;
    }
  }
  return count == 0 ? Json() : Json(sum / static_cast<double>(count));
}

std::vector<std::string> layer_row(const std::string& name, const Json& statistics) {
  std::vector<std::string> row{name,
                               std::to_string(statistics.at("elements").get<std::uint64_t>())};
  std::string ratios;
  for (const Json& ratio : statistics.at("norm_ratio")) {
    ratios += (ratios.empty() ? "" : " ") + text_of(ratio);
  }
  row.push_back(ratios);
  row.push_back(text_of(mean_cosine(statistics.at("cosine"))));
  for (const char* key : {"sign_conflict", "sign_conflict_trimmed", "overlap"}) {
    row.push_back(percent_of(statistics.at(key)));
  }
  row.push_back(text_of(statistics.at("sti")));
  return row;
}

void print_layers(const Json& report) {
  std::vector<std::vector<std::string>> rows;
  for (const Json& layer : report.at("layers")) {
    if (rows.size() == kMostTableRows) break;
    rows.push_back(layer_row(layer.at("name").get<std::string>(), layer));
  }
  rows.push_back(layer_row("all", report.at("global")));
  print_line("");
  print_table({"layer", "elements", "|tau|/|base| of each", "mean cosine", "conflict",
               "trimmed conflict", "overlap", "STI"},
              rows);
  if (report.at("layers").size() > kMostTableRows) {
    print_line("the first " + std::to_string(kMostTableRows) + " of " +
               std::to_string(report.at("layers").size()) + " layers; --json has all");
  }
}

int inspect(const Call& call) {
  Json document = call.settings;
  if (call.options.count("base") != 0) document["base"] = call.text("base");
  if (!call.words.empty()) document["models"] = call.words;
  if (call.options.count("report") != 0) document["page"] = call.text("report");
  if (!document.contains("base"))
    throw UsageError("missing --base (the model that the others start from)");
  if (!document.contains("models")) throw UsageError("missing MODEL");
  std::string text;
  {
    const Context context = call.context();
    ProgressBar bar(call.quiet);
    text = context.inspect(dump_json(document), bar.listener(), &interrupt_token());
  }
  if (call.json) {
    print_line(text);
    return kDone;
  }
  const Json report = Json::parse(text);
  print_models(report);
  print_matrix(report, "cosine", "cosine", false);
  print_matrix(report, "sign_conflicts", "sign conflict", true);
  print_matrix(report, "overlaps", "overlap", true);
  print_layers(report);
  for (const Json& note : report.at("notes")) print_line(note.get<std::string>());
  if (call.options.count("report") != 0) print_line("written: " + call.text("report"));
  return kDone;
}

// ---- evaluation by a command -------------------------------------------------------------------

std::string shell_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

std::string filled_in(const std::string& command, const std::string& model) {
  constexpr std::string_view kMark = "{model}";
  std::string out;
  std::size_t from = 0;
  for (std::size_t found = command.find(kMark); found != std::string::npos;
       found = command.find(kMark, from)) {
    out += command.substr(from, found - from) + shell_quoted(model);
    from = found + kMark.size();
  }
  return out + command.substr(from);
}

// The number that is the last word of the output.
double last_number(const std::string& output, const std::string& command) {
  const auto end = output.find_last_not_of(" \t\r\n");
  if (end != std::string::npos) {
    const auto begin = output.find_last_of(" \t\r\n", end);
    const std::string word = output.substr(begin == std::string::npos ? 0 : begin + 1,
                                           end - (begin == std::string::npos ? 0 : begin + 1) + 1);
    char* rest = nullptr;
    const double value = std::strtod(word.c_str(), &rest);
    if (rest != word.c_str() && *rest == '\0') return value;
  }
  throw Error(Code::kDataError, "the evaluation command printed no number at its end: " + command);
}

struct PipeCloser {
  void operator()(FILE* pipe) const noexcept { pclose(pipe); }
};

double evaluate_by(const std::string& command, const std::string& model) {
  const std::string line = filled_in(command, model);
  std::fflush(nullptr);
  std::unique_ptr<FILE, PipeCloser> pipe(popen(line.c_str(), "r"));
  if (pipe == nullptr) throw Error(Code::kIoError, "cannot start the evaluation command: " + line);
  std::string output;
  std::array<char, 4096> buffer{};
  while (const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), pipe.get())) {
    output.append(buffer.data(), got);
    // Only the end matters, whatever a command says on the way.
    if (output.size() > kAnswerLimit) output.erase(0, output.size() - kAnswerLimit / 2);
  }
  const int status = pclose(pipe.release());
  if (interrupted()) throw Error(Code::kCancelled, "interrupted");
  if (status != 0) {
    const std::string how = WIFEXITED(status) ? "with status " + std::to_string(WEXITSTATUS(status))
                                              : "by signal " + std::to_string(WTERMSIG(status));
    throw Error(Code::kDataError, "the evaluation command ended " + how + ": " + line);
  }
  return last_number(output, line);
}

Evaluate evaluator_of(const Call& call) {
  const std::string command = call.required("evaluate", "a command that prints a model's score");
  if (command.find("{model}") == std::string::npos)
    throw UsageError("--evaluate needs '{model}' where the model's folder goes");
  return [command](const std::string& model) { return evaluate_by(command, model); };
}

// ---- search and soup ---------------------------------------------------------------------------

void declare_trials(cxxopts::Options& options) {
  options.add_options()(
      "evaluate",
      "shell command that prints a model's score as its last word; {model} stands "
      "for the folder",
      cxxopts::value<std::string>(), "COMMAND")("minimize", "lower scores are better")(
      "resume", "go on with what a stopped search left")("overwrite",
                                                         "replace a model folder of that name")(
      "report", "also write the report, as JSON", cxxopts::value<std::string>(), "FILE");
}

void declare_search(cxxopts::Options& options) {
  declare_trials(options);
  options.add_options()("vary", "a number of the recipe, as PATH=LOW:HIGH (repeatable)",
                        cxxopts::value<std::vector<std::string>>(), "PATH=LOW:HIGH")(
      "evaluations", "at most", cxxopts::value<std::string>(), "N");
}

void declare_soup(cxxopts::Options& options) {
  declare_trials(options);
  options.add_options()("o,output", "folder to make", cxxopts::value<std::string>(), "OUT");
}

Json trial_document(const Call& call, const std::string& output) {
  Json document = call.settings;
  document["output"] = output;
  for (const char* flag : {"minimize", "resume", "overwrite"}) {
    if (call.options.count(flag) != 0) document[flag] = true;
  }
  return document;
}

int finish(const Call& call, const std::string& text, const std::string& output) {
  if (call.options.count("report") != 0) replace_file(call.text("report"), text + "\n");
  if (call.json) {
    print_line(text);
    return kDone;
  }
  const Json report = Json::parse(text);
  print_line("score " + text_of(report.at("best").at("score"), 6) + " after " +
             std::to_string(report.at("evaluations").size()) + " evaluations");
  if (report["best"].contains("values")) {
    for (const auto& [path, value] : report["best"]["values"].items()) {
      print_line("  " + path + ": " + dump_json(value));
    }
  }
  print_line("written: " + output + "; its recipe is mergekit_config.yml there");
  return kDone;
}

int search(const Call& call) {
  const std::string recipe = call.word(0, "RECIPE.yml"), output = call.word(1, "OUT");
  Json document = trial_document(call, output);
  document["name"] = recipe;
  if (call.options.count("vary") != 0)
    document["leaves"] = call.options["vary"].as<std::vector<std::string>>();
  if (!document.contains("leaves")) throw UsageError("missing --vary (PATH=LOW:HIGH)");
  if (call.options.count("evaluations") != 0) {
    document["evaluations"] = Json::parse(call.text("evaluations"), nullptr, false);
    if (!document["evaluations"].is_number_unsigned())
      throw UsageError("--evaluations takes a whole number, not '" + call.text("evaluations") +
                       "'");
  }
  const Evaluate evaluate = evaluator_of(call);
  std::string text;
  {
    const Context context = call.context();
    ProgressBar bar(call.quiet);
    text = context.search(read_file(recipe, kRecipeLimit), dump_json(document), evaluate,
                          bar.listener(), &interrupt_token());
  }
  return finish(call, text, output);
}

int soup(const Call& call) {
  const std::string output = call.required("output", "the folder to make");
  if (call.words.empty()) throw UsageError("missing MODEL");
  Json document = trial_document(call, output);
  document["models"] = call.words;
  const Evaluate evaluate = evaluator_of(call);
  std::string text;
  {
    const Context context = call.context();
    ProgressBar bar(call.quiet);
    text = context.soup(dump_json(document), evaluate, bar.listener(), &interrupt_token());
  }
  return finish(call, text, output);
}

}  // namespace

const std::vector<Command>& inspect_commands() {
  static const auto* const commands = new std::vector<Command>{
      {"merge inspect", "MODEL... --base MODEL [--report FILE.html]",
       "what fine-tuning changed, and how well the changes agree", declare_inspect, inspect},
      {"merge search", "RECIPE.yml OUT --vary PATH=LOW:HIGH --evaluate COMMAND",
       "searches for a recipe's numbers by trial", declare_search, search},
      {"merge soup", "MODEL... -o OUT --evaluate COMMAND",
       "averages the models that do not make the score worse", declare_soup, soup},
  };
  return *commands;
}

}  // namespace theriac::cli
