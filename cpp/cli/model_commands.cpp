// theriac info, schema, fit, model info, evaluate, recommend.
#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <iterator>
#include <optional>

#include "cpp/cli/command.h"
#include "cpp/cli/report.h"
#include "cpp/cli/terminal.h"
#include "cpp/core/base/file.h"

namespace theriac::cli {
namespace {

Dataset open_saved(const Context& context, const std::string& path) {
  return Dataset::open(context, dump_json(Json{{"format", "theriac"}, {"path", path}}), {},
                       &interrupt_token());
}

int info(const Call& call) {
  Json json = Json::parse(build_info());
  json["context"] = Json::parse(call.context().info());
  if (call.json) {
    print_json(json);
  } else {
    print_pairs(json);
  }
  return kDone;
}

int show_schema(const Call& call) {
  const Json json = Json::parse(
      schema(call.words.empty() ? std::string_view() : std::string_view(call.words[0])));
  if (call.json || !call.words.empty()) {
    print_json(json);
    return kDone;
  }
  print_line("documents:");
  for (const Json& kind : json.at("kinds")) print_line("  " + kind.get<std::string>());
  print_line("methods (theriac schema method.NAME):");
  for (const Json& method : json.at("methods"))
    print_line("  " + method.at("name").get<std::string>() + ": " + method.value("doc", ""));
  if (json.contains("methods_unavailable"))
    print_line("  " + json.at("methods_unavailable").get<std::string>());
  return kDone;
}

int fit(const Call& call) {
  const Context context = call.context();
  const std::string method = call.word(0, "METHOD (theriac schema lists them)");
  const std::string target = call.required("output", "folder of the model");
  const bool overwrite = call.options.count("overwrite") != 0;
  if (std::filesystem::exists(target) && !overwrite)
    throw UsageError("'" + target + "' exists; --overwrite replaces it");
  const std::string checkpoint = call.text("checkpoint", target + ".checkpoint");
  Model model = Model::create(context, method, dump_json(call.settings));
  std::optional<Dataset> train, valid;
  if (call.options.count("data") != 0) train = open_saved(context, call.text("data"));
  if (call.options.count("valid") != 0) valid = open_saved(context, call.text("valid"));
  const Json options{{"checkpoint", checkpoint}, {"resume", call.options.count("resume") != 0}};
  try {
    ProgressBar bar(call.quiet);
    model.fit(train ? &*train : nullptr, valid ? &*valid : nullptr, dump_json(options),
              bar.listener(), &interrupt_token());
  } catch (const Exception& e) {
    if (e.status() == THERIAC_CANCELLED && std::filesystem::exists(checkpoint)) {
      std::cerr << "theriac: stopped; finished epochs are saved in " << checkpoint
                << ", go on with the same command and --resume\n";
      return kInterrupted;
    }
    throw;
  }
  model.save(target, overwrite);
  if (call.options.count("checkpoint") == 0) std::filesystem::remove_all(checkpoint);
  const Json facts = Json::parse(model.info());
  if (call.json) {
    print_json(facts);
  } else {
    print_line("written: " + target + " (" + method + ", " +
               dump_json(facts.value("parameters", Json(0))) + " trained parameters)");
  }
  return kDone;
}

int model_info(const Call& call) {
  const Context context = call.context();
  const Json facts = Json::parse(Model::load(context, call.word(0, "MODEL folder")).info());
  if (call.json) {
    print_json(facts);
  } else {
    print_pairs(facts);
  }
  return kDone;
}

void print_report(const Json& report) {
  std::vector<std::vector<std::string>> rows;
  const Json bootstrap = report.value("bootstrap", Json::object());
  for (const auto& [name, value] : report.at("metrics").items()) {
    std::vector<std::string> row{
        name, value.is_number() ? number(value.get<double>()) : dump_json(value), "", ""};
    if (bootstrap.is_object() && bootstrap.contains(name) && bootstrap.at(name).is_object()) {
      const Json& entry = bootstrap.at(name);
      if (entry.contains("std")) row[2] = number(entry.at("std").get<double>());
      if (entry.contains("low"))
        row[3] =
            number(entry.at("low").get<double>()) + " to " + number(entry.at("high").get<double>());
    }
    rows.push_back(std::move(row));
  }
  print_table({"metric", "value", "std", "95 % of rounds"}, rows);
  print_pairs(report.value("counts", Json::object()));
  print_pairs(report.value("config", Json::object()));
  if (report.contains("limits")) print_line("limits: " + report.at("limits").get<std::string>());
}

int evaluate(const Call& call) {
  const Context context = call.context();
  const std::string path = call.word(0, "MODEL folder"),
                    data = call.required("data", "folder of the data set");
  const Model model = Model::load(context, path);
  const Dataset dataset = open_saved(context, data);
  Json report;
  {
    ProgressBar bar(call.quiet);
    report = Json::parse(
        model.evaluate(dataset, dump_json(call.settings), bar.listener(), &interrupt_token()));
  }
  if (call.options.count("report") != 0) {
    const std::string file = call.text("report");
    const bool html = std::filesystem::path(file).extension() == ".html";
    replace_file(file, html ? html_report(report, path, data) : dump_json(report, 2) + "\n");
  }
  if (call.json) {
    print_json(report);
  } else {
    print_report(report);
  }
  return kDone;
}

std::string read_request(const Call& call) {
  const std::string source = call.text("request", "-");
  if (source != "-") return read_file(source, 64U << 20);
  if (isatty(STDIN_FILENO) != 0)
    throw UsageError("missing --request FILE (or a request on standard input)");
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

void print_answer(const Json& answer) {
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
  print_pairs(answer.value("model", Json::object()));
  if (answer.contains("limits")) print_line("limits: " + answer.at("limits").get<std::string>());
}

int recommend(const Call& call) {
  const Context context = call.context();
  const std::string path = call.word(0, "MODEL folder");
  Json request = parse_json(read_request(call), "request");
  if (call.options.count("k") != 0) request["k"] = Json::parse(call.text("k"), nullptr, false);
  for (const auto& [key, value] : call.settings.items()) request[key] = value;
  const Model model = Model::load(context, path);
  Session session(model);
  const std::string document = dump_json(request);
  const std::string answer =
      call.options.count("explain") != 0 ? session.explain(document) : session.recommend(document);
  if (call.json) {
    print_line(answer);
  } else {
    print_answer(Json::parse(answer));
  }
  return kDone;
}

}  // namespace

const std::vector<Command>& model_commands() {
  static const auto* const commands = new std::vector<Command>{
      {"fit", "METHOD --data DIR [--valid DIR] -o MODEL",
       "trains a model; --resume goes on after a kill",
       [](cxxopts::Options& options) {
         options.add_options()("data", "data set to train on", cxxopts::value<std::string>(),
                               "DIR")("valid", "data set that selects the epoch",
                                      cxxopts::value<std::string>(), "DIR")(
             "o,output", "folder of the model", cxxopts::value<std::string>(), "MODEL")(
             "resume", "go on from the checkpoint of an interrupted run")(
             "checkpoint", "folder of checkpoints (default MODEL.checkpoint, removed at the end)",
             cxxopts::value<std::string>(), "DIR")("overwrite", "replace what is there");
       },
       fit},
      {"model info", "MODEL", "method, options, classes, training record, limits", nullptr,
       model_info},
      {"evaluate", "MODEL --data DIR [--report FILE]", "metrics on a data set",
       [](cxxopts::Options& options) {
         options.add_options()("data", "data set to evaluate on", cxxopts::value<std::string>(),
                               "DIR")("report", "also write FILE.json or FILE.html",
                                      cxxopts::value<std::string>(), "FILE");
       },
       evaluate},
      {"recommend", "MODEL [--request FILE|-] [-k N] [--explain]", "ranked classes for one patient",
       [](cxxopts::Options& options) {
         options.add_options()("request", "request document, - for standard input",
                               cxxopts::value<std::string>(),
                               "FILE")("k", "classes to list", cxxopts::value<std::string>(), "N")(
             "explain", "each input's effect, and the model's own weights");
       },
       recommend},
      {"info", "", "versions, devices, methods", nullptr, info},
      {"schema", "[KIND]", "keys of a configuration document as JSON Schema", nullptr, show_schema},
  };
  return *commands;
}

}  // namespace theriac::cli
