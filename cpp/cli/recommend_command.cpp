// theriac recommend: classes for a patient, items for a user.
#include <unistd.h>

#include <iostream>
#include <iterator>

#include "cpp/cli/command.h"
#include "cpp/cli/report.h"
#include "cpp/cli/terminal.h"
#include "cpp/core/base/file.h"

namespace theriac::cli {
namespace {

std::string read_request(const Call& call) {
  const std::string source = call.text("request", "-");
  if (source != "-") return read_file(source, 64U << 20);
  if (isatty(STDIN_FILENO) != 0)
    throw UsageError("missing --request FILE, --history IDS or a request on standard input");
  return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

void print_inputs(const Json& inputs, const char* kind) {
  const Json entries = inputs.value(kind, Json::array());
  if (entries.empty()) return;
  std::string line = std::string("inputs ") + kind + ": ";
  bool first = true;
  for (const Json& entry : entries) {
    if (!first) line += ", ";
    first = false;
    line += entry.value("system", "") + " " + entry.value("code", "");
    if (entry.contains("read_as")) line += " as " + entry.at("read_as").get<std::string>();
    if (entry.contains("reason")) line += " (" + entry.at("reason").get<std::string>() + ")";
  }
  print_line(line);
}

// What must stand beside any answer.
void print_basis(const Json& answer) {
  if (answer.contains("augment"))
    print_line("mean over copies: " + augmenter_text(answer.at("augment")));
  print_pairs(answer.value("model", Json::object()));
  if (answer.contains("limits")) print_line("limits: " + answer.at("limits").get<std::string>());
}

void print_classes(const Json& answer) {
  std::vector<std::vector<std::string>> rows;
  for (const Json& row : answer.at("classes")) {
    rows.push_back({row.at("code").get<std::string>(), number(row.at("probability").get<double>()),
                    row.at("recommended").get<bool>() ? "yes" : "no"});
  }
  print_table({"class (ATC level 3)", "probability", "over threshold"}, rows);
  for (const Json& pair : answer.value("interactions", Json::array())) {
    print_line("interaction listed: " + pair.at("a").get<std::string>() + " with " +
               pair.at("b").get<std::string>() + " (" + pair.value("source", "") + ")");
  }
  const Json inputs = answer.value("inputs", Json::object());
  for (const char* kind : {"used", "substituted", "ignored"}) print_inputs(inputs, kind);
  for (const Json& effect :
       answer.value("explanation", Json::object()).value("top", Json::array())) {
    print_line("without " + effect.value("system", "") + " " + effect.value("code", "") + ": " +
               effect.value("class", "") + " " + number(effect.value("change", 0.0)));
  }
  print_basis(answer);
}

std::string shown(const Json& id) { return id.is_string() ? id.get<std::string>() : id.dump(); }

void print_items(const Json& answer) {
  std::vector<std::vector<std::string>> rows;
  for (const Json& row : answer.at("items"))
    rows.push_back({shown(row.at("id")), number(row.at("score").get<double>())});
  print_table({"item", "score"}, rows);
  const Json& inputs = answer.at("inputs");
  print_line("items of the history used: " + inputs.at("used").dump());
  std::string unknown;
  for (const Json& id : inputs.at("ignored")) unknown += (unknown.empty() ? "" : ", ") + shown(id);
  if (!unknown.empty()) print_line("ignored, not known to the model: " + unknown);
  print_basis(answer);
}

Json request_of(const Call& call) {
  Json request = Json::object();
  if (call.options.count("history") != 0) {
    if (call.options.count("request") != 0)
      throw UsageError("--history and --request say the same thing; give one of them");
    request["history"] = call.history();
  } else {
    request = parse_json(read_request(call), "request");
    if (!request.is_object()) throw UsageError("the request must be a JSON object");
  }
  if (call.options.count("k") != 0) request["k"] = call.whole_number("k");
  for (const auto& [key, value] : call.settings.items()) request[key] = value;
  return request;
}

int recommend(const Call& call) {
  const Context context = call.context();
  const std::string path = call.word(0, "MODEL folder");
  const std::string document = dump_json(request_of(call));
  const Model model = Model::load(context, path);
  Session session(model);
  if (call.options.count("augment") != 0) {
    const Augmenter augmenter(context, dump_json(call.document("augment")));
    session.set_augmenter(&augmenter);
  }
  const std::string answer =
      call.options.count("explain") != 0 ? session.explain(document) : session.recommend(document);
  if (call.json) {
    print_line(answer);
    return kDone;
  }
  const Json shown_answer = Json::parse(answer);
  if (shown_answer.contains("items")) {
    print_items(shown_answer);
  } else {
    print_classes(shown_answer);
  }
  return kDone;
}

}  // namespace

const std::vector<Command>& recommend_commands() {
  static const auto* const commands = new std::vector<Command>{
      {"recommend", "MODEL [--request FILE|-] [-k N] [--explain]",
       "ranked classes for one patient, or items for one user (--history)",
       [](cxxopts::Options& options) {
         options.add_options()("request", "request document, - for standard input",
                               cxxopts::value<std::string>(), "FILE")(
             "history", "a user's items instead, oldest first, with blanks between them",
             cxxopts::value<std::string>(),
             "IDS")("k", "classes or items to list", cxxopts::value<std::string>(), "N")(
             "augment", "the mean over copies of the history; options of an augmenter",
             cxxopts::value<std::string>(),
             "JSON|FILE")("explain", "each input's effect, and the model's own weights");
       },
       recommend},
  };
  return *commands;
}

}  // namespace theriac::cli
