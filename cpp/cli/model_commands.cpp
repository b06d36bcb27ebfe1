// theriac info, schema, fit, model info, model import, evaluate.
#include <filesystem>
#include <iostream>
#include <optional>

#include "cpp/cli/command.h"
#include "cpp/cli/report.h"
#include "cpp/cli/terminal.h"
#include "cpp/core/base/file.h"

namespace theriac::cli {
namespace {

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

void refuse_existing(const std::string& target, bool overwrite) {
  if (std::filesystem::exists(target) && !overwrite)
    throw UsageError("'" + target + "' exists; --overwrite replaces it");
}

void print_written(const Call& call, const Model& model, const std::string& target,
                   const std::string& method) {
  const Json facts = Json::parse(model.info());
  if (call.json) {
    print_json(facts);
  } else {
    print_line("written: " + target + " (" + method + ", " +
               dump_json(facts.value("parameters", Json(0))) + " trained parameters)");
  }
}

int fit(const Call& call) {
  const Context context = call.context();
  const std::string method = call.word(0, "METHOD (theriac schema lists them)");
  const std::string target = call.required("output", "folder of the model");
  const bool overwrite = call.options.count("overwrite") != 0;
  refuse_existing(target, overwrite);
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
  print_written(call, model, target, method);
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

int import_weights(const Call& call) {
  const Context context = call.context();
  const std::string method = call.word(0, "METHOD (theriac schema lists them)"),
                    file = call.word(1, "FILE of the weights (.safetensors)"),
                    data = call.required("data", "folder of the data set that gives the items"),
                    target = call.required("output", "folder of the model");
  const bool overwrite = call.options.count("overwrite") != 0;
  refuse_existing(target, overwrite);
  const Model model = Model::import_weights(context, method, file, open_saved(context, data),
                                            dump_json(call.settings));
  model.save(target, overwrite);
  print_written(call, model, target, method);
  return kDone;
}

int evaluate(const Call& call) {
  const Context context = call.context();
  const std::string path = call.word(0, "MODEL folder"),
                    data = call.required("data", "folder of the data set");
  Json options = call.settings;
  if (call.options.count("augment") != 0) options["augment"] = call.document("augment");
  const Model model = Model::load(context, path);
  const Dataset dataset = open_saved(context, data);
  Json report;
  {
    ProgressBar bar(call.quiet);
    report = Json::parse(
        model.evaluate(dataset, dump_json(options), bar.listener(), &interrupt_token()));
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
      {"model import", "METHOD FILE --data DIR -o MODEL",
       "a model from weights that another program trained",
       [](cxxopts::Options& options) {
         options.add_options()("data", "data set that gives the items",
                               cxxopts::value<std::string>(), "DIR")(
             "o,output", "folder of the model", cxxopts::value<std::string>(), "MODEL")(
             "overwrite", "replace what is there");
       },
       import_weights},
      {"evaluate", "MODEL --data DIR [--augment JSON|FILE]", "metrics on a data set",
       [](cxxopts::Options& options) {
         options.add_options()("data", "data set to evaluate on", cxxopts::value<std::string>(),
                               "DIR")("augment",
                                      "answer with the mean over copies of each history; options "
                                      "of an augmenter",
                                      cxxopts::value<std::string>(), "JSON|FILE")(
             "report", "also write FILE.json or FILE.html", cxxopts::value<std::string>(), "FILE");
       },
       evaluate},
      {"info", "", "versions, devices, methods", nullptr, info},
      {"schema", "[KIND]", "keys of a configuration document as JSON Schema", nullptr, show_schema},
  };
  return *commands;
}

}  // namespace theriac::cli
