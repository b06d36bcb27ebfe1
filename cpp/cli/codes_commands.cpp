// theriac codes ...
#include "cpp/cli/command.h"
#include "cpp/cli/terminal.h"

namespace theriac::cli {
namespace {

void declare_list(cxxopts::Options& options) {
  options.add_options()("list", "official list; without it the structural hierarchy answers",
                        cxxopts::value<std::string>(), "FILE")(
      "format", "layout of the list: csv or cms-order", cxxopts::value<std::string>(), "F");
}

Json request(const Call& call, const char* op) {
  Json document = call.settings;
  document["op"] = op;
  document["system"] = call.word(0, "SYSTEM (icd9cm, icd9proc, icd10cm, icd10pcs or atc)");
  for (const char* key : {"list", "format"}) {
    if (call.options.count(key) != 0) document[key] = call.text(key);
  }
  return document;
}

int import(const Call& call) {
  Json document = request(call, "import");
  document["list"] = call.word(1, "FILE of the official list");
  document["path"] = call.required("output", "file to write");
  const Json answer = Json::parse(call.context().codes_query(dump_json(document)));
  if (call.json) {
    print_json(answer);
  } else {
    print_pairs(answer);
    print_line("written: " + document["path"].get<std::string>());
  }
  return kDone;
}

int info(const Call& call) {
  const Json answer = Json::parse(call.context().codes_query(dump_json(request(call, "info"))));
  if (call.json) {
    print_json(answer);
  } else {
    print_pairs(answer);
  }
  return kDone;
}

int ancestors(const Call& call) {
  Json document = request(call, "ancestors");
  call.word(1, "CODE");
  document["codes"] = std::vector<std::string>(call.words.begin() + 1, call.words.end());
  const Json answer = Json::parse(call.context().codes_query(dump_json(document)));
  if (call.json) {
    print_json(answer);
    return kDone;
  }
  for (const Json& row : answer.at("codes")) {
    std::string line = row.at("code").get<std::string>();
    if (row.contains("listed") && !row.at("listed").get<bool>()) line += " (not listed)";
    for (const Json& ancestor : row.at("ancestors")) line += " -> " + ancestor.get<std::string>();
    print_line(line);
  }
  return kDone;
}

}  // namespace

const std::vector<Command>& codes_commands() {
  static const auto* const commands = new std::vector<Command>{
      {"codes ancestors", "SYSTEM CODE... [--list FILE]", "each code's chain to the root",
       declare_list, ancestors},
      {"codes info", "SYSTEM [--list FILE]", "nodes of a code system by level", declare_list, info},
      {"codes import", "SYSTEM FILE -o OUT.csv",
       "checks an official list and writes it in our form",
       [](cxxopts::Options& options) {
         options.add_options()("o,output", "file to write", cxxopts::value<std::string>(), "OUT")(
             "format", "layout of the list: csv or cms-order", cxxopts::value<std::string>(), "F");
       },
       import},
  };
  return *commands;
}

}  // namespace theriac::cli
