// theriac data ...
#include <algorithm>
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
  return cli::open_saved(context, path, bar.listener());
}

// The figures that count a data set, by its kind.
std::vector<const char*> counted(const Json& info) {
  if (info.at("kind") == "sequences") return {"users", "items", "interactions"};
  return {"patients", "visits"};
}

std::string counts_line(const Json& info, const std::vector<const char*>& names) {
  std::string line;
  for (const char* name : names)
    line += (line.empty() ? "" : ", ") + dump_json(info.at(name)) + " " + name;
  return line;
}

// What an import kept and dropped, for a person.
void print_accounting(const Json& info) {
  print_line(counts_line(info, counted(info)));
  std::vector<std::vector<std::string>> rows;
  const Json tables = info.at("accounting").value("tables", Json::object());
  for (const auto& [name, table] : tables.items()) {
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
  document["format"] = call.word(0, "FORMAT (mimic-iii, mimic-iv, fhir or sequences)");
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
  document["kind"] = call.word(0, "KIND (cohort, sequences or hierarchy_claim)");
  document["path"] = call.required("output", "folder to make; of sequences: file to write");
  if (call.options.count("format") != 0) document["format"] = call.text("format");
  if (call.options.count("seed") != 0) document["seed"] = call.whole_number("seed");
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
  if (call.options.count("how") != 0) {
    std::string how = call.text("how");
    std::replace(how.begin(), how.end(), '-', '_');  // leave-one-out, file-order
    document["how"] = how;
  }
  if (call.options.count("seed") != 0) document["seed"] = call.whole_number("seed");
  const Dataset::Parts parts = open_saved(call, context, source).split(dump_json(document));
  const std::filesystem::path folder = target;
  std::filesystem::create_directories(folder);
  Json report = Json::object();
  std::vector<const char*> names;
  const std::pair<const char*, const Dataset*> named[] = {
      {"train", &parts.train}, {"valid", &parts.valid}, {"test", &parts.test}};
  for (const auto& [name, part] : named) {
    part->save((folder / name).string(), call.options.count("overwrite") != 0);
    const Json facts = Json::parse(part->info());
    names = counted(facts);
    report[name] = {{"path", (folder / name).string()}};
    for (const char* figure : names) report[name][figure] = facts.at(figure);
  }
  if (call.json) {
    print_json(report);
  } else {
    for (const auto& [name, part] : report.items()) {
      print_line(name + ": " + counts_line(part, names) + ", " +
                 part.at("path").get<std::string>());
    }
  }
  return kDone;
}

}  // namespace

const std::vector<Command>& data_commands() {
  static const auto* const commands = new std::vector<Command>{
      {"data import", "FORMAT PATH -o DIR",
       "records into a data set: mimic-iii, mimic-iv, fhir, sequences", declare_output, import},
      {"data generate", "KIND -o PATH [--format F]",
       "synthetic records: cohort, sequences, hierarchy_claim",
       [](cxxopts::Options& options) {
         options.add_options()("o,output", "folder to make; of sequences: file to write",
                               cxxopts::value<std::string>(), "PATH")(
             "format", "cohort: fhir or mimic-iv; sequences: lines or csv",
             cxxopts::value<std::string>(), "F");
       },
       generate},
      {"data info", "DIR", "counts, what was dropped and why, fingerprint", nullptr, info},
      {"data export", "DIR --table T --format F [-o FILE]", "a table as csv, jsonl, arrow or lines",
       [](cxxopts::Options& options) {
         options.add_options()(
             "table",
             "cohort: patients, visits, codes or vocabulary; sequences: sequences, "
             "interactions or vocabulary",
             cxxopts::value<std::string>(),
             "T")("format", "csv, jsonl or arrow; of table sequences also lines",
                  cxxopts::value<std::string>(), "F")("o,output", "file to write instead of stdout",
                                                      cxxopts::value<std::string>(), "FILE");
       },
       export_table},
      {"data split", "DIR -o DIR [--how H]",
       "train, valid and test: patient, time, file_order, fold; leave-one-out, time",
       [](cxxopts::Options& options) {
         declare_output(options);
         options.add_options()(
             "how",
             "cohort: patient, time, file-order or fold; sequences: leave-one-out "
             "or time",
             cxxopts::value<std::string>(), "H");
       },
       split},
  };
  return *commands;
}

}  // namespace theriac::cli
