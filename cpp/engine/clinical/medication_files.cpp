#include "cpp/engine/clinical/medication_files.h"

#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "cpp/core/base/csv.h"

namespace theriac::clinical {
namespace {

constexpr std::string_view kInteractionsFile = "tables/interactions.csv";

struct FieldFile {
  data::Field field;
  std::string_view key;  // in config.json
  std::string_view file;
};
constexpr FieldFile kFiles[] = {{data::Field::kDiagnoses, "diagnoses", "vocab.diagnoses.txt"},
                                {data::Field::kProcedures, "procedures", "vocab.procedures.txt"},
                                {data::Field::kMedications, "classes", "vocab.classes.txt"}};

std::string vocabulary_text(const data::Vocabulary& vocabulary) {
  std::string text;
  for (const codes::MedicalCode& code : vocabulary.codes()) {
    text += codes::system_name(code.system);
    text += ' ';
    text += code.text;
    text += '\n';
  }
  return text;
}

codes::MedicalCode parse_code(std::string_view line, std::string_view file, std::size_t number) {
  const std::size_t blank = line.find(' ');
  const auto system = codes::system_from_name(line.substr(0, blank));
  if (blank == std::string_view::npos || !system || blank + 1 == line.size()) {
    throw Error(Code::kDataError, std::string(file) + " line " + std::to_string(number) +
                                      ": expected a code system, one blank and a code")
        .at("file", std::string(file))
        .at("line", number);
  }
  return {*system, std::string(line.substr(blank + 1))};
}

data::Vocabulary parse_vocabulary(std::string_view text, std::string_view file) {
  std::vector<codes::MedicalCode> codes;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    codes.push_back(parse_code(text.substr(0, end), file, codes.size() + 1));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return data::Vocabulary(std::move(codes));
}

void check_fingerprint(const data::Vocabulary& vocabulary, const Json& config, const FieldFile& f) {
  const Json::json_pointer at("/vocabularies/" + std::string(f.key) + "/fingerprint");
  if (config.contains(at) && config[at] == vocabulary.fingerprint()) return;
  throw Error(Code::kIncompatible,
              std::string(f.file) +
                  " is not the vocabulary that the model was saved with: its fingerprint "
                  "differs from the one in config.json")
      .at("file", std::string(f.file));
}

Error bad_config(std::string_view key) {
  return Error(Code::kDataError,
               "config.json: 'interactions' lacks '" + std::string(key) + "' of the right type");
}

std::string config_text(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key) || !object[key].is_string())
    throw bad_config(key);
  return object[key].get<std::string>();
}

std::int64_t config_count(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key) || !object[key].is_number_integer())
    throw bad_config(key);
  return object[key].get<std::int64_t>();
}

}  // namespace

void write_vocabularies(const Vocabularies& vocabularies, train::ModelDirectory& directory) {
  for (const FieldFile& f : kFiles) {
    directory.files[std::string(f.file)] = vocabulary_text(vocabularies.field(f.field));
  }
}

Vocabularies read_vocabularies(const train::ModelDirectory& directory) {
  Vocabularies vocabularies;
  data::Vocabulary* const places[] = {&vocabularies.diagnoses, &vocabularies.procedures,
                                      &vocabularies.classes};
  for (std::size_t i = 0; i < std::size(kFiles); ++i) {
    *places[i] = parse_vocabulary(directory.file(kFiles[i].file), kFiles[i].file);
    check_fingerprint(*places[i], directory.config, kFiles[i]);
  }
  return vocabularies;
}

Json describe(const Vocabularies& vocabularies) {
  Json json = Json::object();
  for (const FieldFile& f : kFiles) {
    const data::Vocabulary& vocabulary = vocabularies.field(f.field);
    json[std::string(f.key)] = {{"size", vocabulary.size()},
                                {"fingerprint", vocabulary.fingerprint()}};
  }
  return json;
}

void write_interactions(const std::optional<codes::InteractionTable>& table,
                        train::ModelDirectory& directory) {
  directory.config["interactions"] = describe(table);
  if (!table) return;
  std::string text = "system_a,code_a,system_b,code_b,severity,source,version\n";
  const std::string origin = csv_field(table->source) + ',' + csv_field(table->version) + '\n';
  for (const codes::InteractionPair& pair : table->pairs) {
    text += "atc," + csv_field(pair.a) + ",atc," + csv_field(pair.b) + ',' +
            csv_field(pair.severity) + ',' + origin;
  }
  directory.files[std::string(kInteractionsFile)] = text;
}

Json describe(const std::optional<codes::InteractionTable>& table) {
  if (!table) return nullptr;
  return {{"source", table->source},
          {"version", table->version},
          {"pairs", table->pairs.size()},
          {"unmapped_rows", table->unmapped_rows},
          {"same_class_rows", table->same_class_rows}};
}

std::optional<codes::InteractionTable> read_interactions(const train::ModelDirectory& directory) {
  const Json::json_pointer at("/interactions");
  if (!directory.config.contains(at) || directory.config[at].is_null()) return std::nullopt;
  const Json& described = directory.config[at];
  codes::InteractionTable table;
  table.source = config_text(described, "source");
  table.version = config_text(described, "version");
  table.unmapped_rows = config_count(described, "unmapped_rows");
  table.same_class_rows = config_count(described, "same_class_rows");

  CsvReader reader(
      memory_source(directory.file(kInteractionsFile), std::string(kInteractionsFile)));
  const std::size_t a = reader.column("code_a"), b = reader.column("code_b"),
                    severity = reader.column("severity");
  while (reader.next()) {
    codes::InteractionPair pair{std::string(reader.field(a)), std::string(reader.field(b)),
                                std::string(reader.field(severity))};
    const bool in_order = pair.a < pair.b && (table.pairs.empty() ||
                                              std::tie(table.pairs.back().a, table.pairs.back().b) <
                                                  std::tie(pair.a, pair.b));
    if (!in_order) throw reader.error(a, "expected distinct pairs in order, code_a before code_b");
    table.pairs.push_back(std::move(pair));
  }
  return table;
}

}  // namespace theriac::clinical
