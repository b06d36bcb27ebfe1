// theriac data ...
#include <cstdio>
#include <filesystem>

#include "cpp/cli/command.h"
#include "cpp/cli/terminal.h"
#include "cpp/core/base/file.h"

namespace theriac::cli {
namespace {

void declare_output(cxxopts::Options& options) {
  options.add_options()("o,output", "folder to write", cxxopts::value<std::string>(), "DIR")(
      "overwrite", "replace what is there");
}

Dataset open_saved(const Call& call, const Context& context, const std::string& path) {
  ProgressBar bar(call.quiet);
  return Dataset::open(context, dump_json(Json{{"format", "theriac"}, {"path", path}}),
                       bar.listener(), &interrupt_token());
}

// What an import kept and dropped, for a person.
void print_accounting(const Json& info) {
  print_line(std::to_string(info.at("patients").get<std::int64_t>()) + " patients, " +
             std::to_string(info.at("visits").get<std::int64_t>()) + " visits");
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, table] : info.at("accounting").at("tables").items()) {
    std::string reasons;
    for (const auto& [reason, count] : table.at("dropped").items())
      reasons += (reasons.empty() ? "" : "; ") + reason + ": " + dump_json(count);
    rows.push_back({name, dump_json(table.at("read")), dump_json(table.at("kept")), reasons});
  }
  if (!rows.empty()) print_table({"table", "read", "kept", "dropped"}, rows);
  const Json unmapped = info.at("accounting").value("unmapped", Json::object());
  for (const auto& [what, entry] : unmapped.items()) {
    std::string top;
    for (const Json& code : entry.at("top"))
      top += (top.empty() ? "" : ", ") + code.at("code").get<std::string>() + " (" +
             dump_json(code.at("rows")) + ")";
    print_line("not mapped, " + what + ": " + dump_json(entry.at("rows")) +
               " rows, most frequent: " + top);
  }
}

int import(const Call& call) {
  const Context context = call.context();
  const std::string target = call.required("output", "folder to write");
  Json document = call.settings;
  document["format"] = call.word(0, "FORMAT (mimic-iii, mimic-iv or fhir)");
  document["path"] = call.word(1, "PATH of the records");
  if (std::filesystem::exists(target) && call.options.count("overwrite") == 0)
    throw UsageError("'" + target + "' exists; --overwrite replaces it");
  std::string info;
  {
    ProgressBar bar(call.quiet);
    const Dataset dataset =
        Dataset::open(context, dump_json(document), bar.listener(), &interrupt_token());
    dataset.save(target, call.options.count("overwrite") != 0);
    info = dataset.info();
  }
  if (call.json) {
    print_line(info);
  } else {
    print_accounting(Json::parse(info));
    print_line("written: " + target);
  }
  return kDone;
}

int generate(const Call& call) {
  const Context context = call.context();
  Json document = call.settings;
  document["kind"] = call.word(0, "KIND (cohort or hierarchy_claim)");
  document["path"] = call.required("output", "folder to make");
  if (call.options.count("format") != 0) document["format"] = call.text("format");
  if (call.options.count("seed") != 0)
    document["seed"] = Json::parse(call.text("seed"), nullptr, false);
  {
    ProgressBar bar(call.quiet);
    context.generate(dump_json(document), bar.listener(), &interrupt_token());
  }
  if (call.json) {
    print_json({{"path", document["path"]}});
  } else {
    print_line("written: " + document["path"].get<std::string>());
  }
  return kDone;
}

int info(const Call& call) {
  const Context context = call.context();
  const std::string text = open_saved(call, context, call.word(0, "DIR of the data set")).info();
  if (call.json) {
    print_line(text);
    return kDone;
  }
  Json json = Json::parse(text);
  print_accounting(json);
  json.erase("accounting");
  print_pairs(json);
  return kDone;
}

int export_table(const Call& call) {
  const Context context = call.context();
  const Dataset dataset = open_saved(call, context, call.word(0, "DIR of the data set"));
  Json document = call.settings;
  if (call.options.count("table") != 0) document["table"] = call.text("table");
  if (call.options.count("format") != 0) document["format"] = call.text("format");
  const std::string text = dataset.export_text(dump_json(document));
  if (call.options.count("output") != 0) {
    replace_file(call.text("output"), text);
  } else {
    print(text);
  }
  return kDone;
}

int split(const Call& call) {
  const Context context = call.context();
  const std::string source = call.word(0, "DIR of the data set"),
                    target = call.required("output", "folder for train, valid and test");
  Json document = call.settings;
  if (call.options.count("how") != 0) document["how"] = call.text("how");
  if (call.options.count("seed") != 0)
    document["seed"] = Json::parse(call.text("seed"), nullptr, false);
  const Dataset::Parts parts = open_saved(call, context, source).split(dump_json(document));
  const std::filesystem::path folder = target;
  std::filesystem::create_directories(folder);
  Json report = Json::object();
  const std::pair<const char*, const Dataset*> named[] = {
      {"train", &parts.train}, {"valid", &parts.valid}, {"test", &parts.test}};
  for (const auto& [name, part] : named) {
    part->save((folder / name).string(), call.options.count("overwrite") != 0);
    const Json facts = Json::parse(part->info());
    report[name] = {{"path", (folder / name).string()},
                    {"patients", facts.at("patients")},
                    {"visits", facts.at("visits")}};
  }
  if (call.json) {
    print_json(report);
  } else {
    for (const auto& [name, part] : report.items()) {
      print_line(name + ": " + dump_json(part.at("patients")) + " patients, " +
                 dump_json(part.at("visits")) + " visits, " + part.at("path").get<std::string>());
    }
  }
  return kDone;
}

}  // namespace

const std::vector<Command>& data_commands() {
  static const auto* const commands = new std::vector<Command>{
      {"data import", "FORMAT PATH -o DIR", "records into a data set: mimic-iii, mimic-iv, fhir",
       declare_output, import},
      {"data generate", "KIND -o DIR [--format F]", "synthetic records: cohort, hierarchy_claim",
       [](cxxopts::Options& options) {
         options.add_options()("o,output", "folder to make", cxxopts::value<std::string>(), "DIR")(
             "format", "fhir or mimic-iv", cxxopts::value<std::string>(), "F");
       },
       generate},
      {"data info", "DIR", "counts, what was dropped and why, fingerprint", nullptr, info},
      {"data export", "DIR --table T --format F [-o FILE]", "a table as csv, jsonl or arrow",
       [](cxxopts::Options& options) {
         options.add_options()("table", "patients, visits, codes or vocabulary",
                               cxxopts::value<std::string>(), "T")(
             "format", "csv, jsonl or arrow", cxxopts::value<std::string>(), "F")(
             "o,output", "file to write instead of stdout", cxxopts::value<std::string>(), "FILE");
       },
       export_table},
      {"data split", "DIR -o DIR [--how H]",
       "train, valid and test: patient, time, file_order, fold",
       [](cxxopts::Options& options) {
         declare_output(options);
         options.add_options()("how", "patient, time, file_order or fold",
                               cxxopts::value<std::string>(), "H");
       },
       split},
  };
  return *commands;
}

}  // namespace theriac::cli
