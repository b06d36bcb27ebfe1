#include "cpp/core/codes/mapping.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "cpp/core/base/csv.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/codes/hierarchy.h"
#include "cpp/core/codes/ndc.h"
#include "cpp/core/codes/text.h"

namespace theriac::codes {
namespace {

using internal::excerpt;
using internal::trim;

// Length of an ATC level-3 class.
constexpr std::size_t kClassLength = 4;

using Classes = std::vector<std::string>;
using ClassMap = std::unordered_map<std::string, Classes>;

void insert_sorted(Classes& classes, std::string_view added) {
  const auto at = std::lower_bound(classes.begin(), classes.end(), added);
  if (at == classes.end() || *at != added) classes.emplace(at, added);
}

// A table being read, and the fingerprint of what was read from it.
class Table {
 public:
  explicit Table(const std::string& path) : reader_(open_source(path)) {}
  bool next() { return reader_.next(); }
  std::size_t column(std::string_view name) const { return reader_.column(name); }
  int find_column(std::string_view name) const { return reader_.find_column(name); }
  std::string_view field(std::size_t column) {
    const std::string_view text = trim(reader_.field(column));
    print_.add(text);
    return text;
  }
  Error error(std::size_t column, std::string what) const {
    return reader_.error(column, std::move(what));
  }
  void count_usable() { ++usable_; }
  void skip(std::size_t column, std::string what) {
    if (skipped_++ == 0) first_skipped_ = reader_.error(column, std::move(what));
  }
  // A table of which no row can ever be found is the wrong table, not a table with a few bad rows.
  void finish() const {
    if (usable_ == 0 && first_skipped_) throw *first_skipped_;
  }
  std::int64_t skipped() const { return skipped_; }
  std::string fingerprint() const { return print_.hex(); }

 private:
  CsvReader reader_;
  Fingerprint print_;
  std::int64_t usable_ = 0, skipped_ = 0;
  std::optional<Error> first_skipped_;
};

// Column of the ATC code: any level from 3 down will do, level 4 is the usual one.
std::size_t atc_column(const Table& table) {
  for (std::string_view name : {"atc4", "atc", "atc3", "atc5"}) {
    if (const int at = table.find_column(name); at >= 0) return static_cast<std::size_t>(at);
  }
  return table.column("atc4");  // throws, naming the columns there are
}

std::string_view what_a_code_is(System system) {
  return system == System::kNdc ? " is no 11-digit NDC" : " is no RXCUI";
}

// Code of a row in normal form; empty when the row has none.
std::string read_code(Table& table, std::size_t column, System system) {
  const std::string_view text = table.field(column);
  std::string code = normalise(system, text);
  if (!code.empty() && !has_code_shape(system, code)) {
    throw table.error(column, excerpt(text).append(what_a_code_is(system)));
  }
  return code;
}

// The same for the code that rows are looked up by. A malformed one can never be asked for, and
// tables in use do have such rows (ten-digit NDCs, a leftover of an export); they are skipped and
// counted.
std::string read_key(Table& table, std::size_t column, System system) {
  const std::string_view text = table.field(column);
  std::string key = normalise(system, text);
  if (key.empty()) return key;
  if (has_code_shape(system, key)) {
    table.count_usable();
    return key;
  }
  table.skip(column, excerpt(text).append(what_a_code_is(system)));
  return {};
}

// ATC level-3 class of a row; empty when the row has none.
std::string read_class(Table& table, std::size_t column) {
  const std::string_view text = table.field(column);
  std::string code = normalise(System::kAtc, text);
  if (code.empty()) return code;
  if (code.size() < kClassLength || !has_code_shape(System::kAtc, code)) {
    throw table.error(
        column, excerpt(text) + " is no ATC code of level 3 or deeper, such as C03C or C03CA01");
  }
  code.resize(kClassLength);
  return code;
}

ClassMap read_classes(Table& table, std::string_view key_column, System system) {
  const std::size_t key_at = table.column(key_column), class_at = atc_column(table);
  ClassMap classes;
  while (table.next()) {
    std::string key = read_key(table, key_at, system);
    const std::string name = read_class(table, class_at);
    if (!key.empty() && !name.empty()) insert_sorted(classes[std::move(key)], name);
  }
  return classes;
}

// NDC to the classes of its RxNorm concepts.
ClassMap read_ndc_over_rxnorm(Table& table, const ClassMap& rxcui_atc) {
  const std::size_t ndc_at = table.column("ndc11"), rxcui_at = table.column("rxcui");
  ClassMap classes;
  while (table.next()) {
    std::string ndc = read_key(table, ndc_at, System::kNdc);
    const auto found = rxcui_atc.find(read_code(table, rxcui_at, System::kRxnorm));
    if (ndc.empty() || found == rxcui_atc.end()) continue;
    Classes& of_ndc = classes[std::move(ndc)];
    for (const std::string& name : found->second) insert_sorted(of_ndc, name);
  }
  return classes;
}

System read_system(Table& table, std::size_t column) {
  const std::string_view text = table.field(column);
  if (const auto system = system_from_name(text)) return *system;
  if (const auto system = system_from_uri(text, false)) return *system;
  throw table.error(
      column,
      excerpt(text) + " is no code system; expected a name such as icd10cm or snomed, or a URI");
}

std::int64_t read_priority(Table& table, int column) {
  if (column < 0) return 0;
  const auto at = static_cast<std::size_t>(column);
  const std::string_view text = table.field(at);
  if (text.empty()) return 0;
  std::int64_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc() || end != text.data() + text.size()) {
    throw table.error(at, excerpt(text) + " is no priority; expected a whole number");
  }
  return value;
}

struct Target {
  std::int64_t priority;
  MedicalCode code;
};
using TargetMap = std::unordered_map<MedicalCode, std::vector<Target>>;

TargetMap read_targets(Table& table) {
  const std::size_t source_system = table.column("source_system"),
                    source_code = table.column("source_code"),
                    target_system = table.column("target_system"),
                    target_code = table.column("target_code");
  const int priority = table.find_column("priority");
  TargetMap targets;
  while (table.next()) {
    const System from = read_system(table, source_system), to = read_system(table, target_system);
    MedicalCode source{from, normalise(from, table.field(source_code))};
    MedicalCode target{to, normalise(to, table.field(target_code))};
    const std::int64_t rank = read_priority(table, priority);
    if (source.text.empty() || target.text.empty()) continue;
    targets[std::move(source)].push_back({rank, std::move(target)});
  }
  return targets;
}

// Best first; rows of one priority stay in file order; a target named twice keeps its best place.
std::vector<MedicalCode> in_order(std::vector<Target> targets) {
  std::stable_sort(targets.begin(), targets.end(),
                   [](const Target& a, const Target& b) { return a.priority < b.priority; });
  std::vector<MedicalCode> codes;
  for (Target& target : targets) {
    if (std::find(codes.begin(), codes.end(), target.code) == codes.end()) {
      codes.push_back(std::move(target.code));
    }
  }
  return codes;
}

}  // namespace

const OptionTable<MapOptions>& MapOptions::table() {
  static const auto table =
      OptionTable<MapOptions>("maps",
                              "Mapping tables between code systems, as CSV files; empty: none")
          .text("ndc_rxcui", &MapOptions::ndc_rxcui, "NDC to RxNorm: columns ndc11, rxcui")
          .text("rxcui_atc", &MapOptions::rxcui_atc,
                "RxNorm to ATC: columns rxcui, atc4 (or atc, atc3, atc5)")
          .text("ndc_atc", &MapOptions::ndc_atc,
                "NDC to ATC where the way over RxNorm finds nothing: columns ndc11, atc4 (or atc, "
                "atc3, atc5)")
          .text("codes", &MapOptions::codes,
                "other maps, such as SNOMED CT to ICD-10-CM: columns source_system, source_code, "
                "target_system, target_code, priority");
  return table;
}

CodeMaps CodeMaps::load(const MapOptions& options) {
  CodeMaps maps;
  const auto read = [&maps](std::string_view name, const std::string& path, auto&& fill) {
    if (path.empty()) return;
    Table table(path);
    fill(table);
    table.finish();
    maps.versions_.emplace_back(name, table.fingerprint());
    maps.skipped_rows_.emplace_back(name, table.skipped());
  };
  read("rxcui_atc", options.rxcui_atc,
       [&](Table& table) { maps.rxcui_atc_ = read_classes(table, "rxcui", System::kRxnorm); });
  read("ndc_rxcui", options.ndc_rxcui,
       [&](Table& table) { maps.ndc_atc_ = read_ndc_over_rxnorm(table, maps.rxcui_atc_); });
  // merge() keeps what the way over RxNorm has found.
  read("ndc_atc", options.ndc_atc,
       [&](Table& table) { maps.ndc_atc_.merge(read_classes(table, "ndc11", System::kNdc)); });
  read("codes", options.codes, [&](Table& table) {
    for (auto& [source, targets] : read_targets(table)) {
      maps.targets_.emplace(source, in_order(std::move(targets)));
    }
  });
  return maps;
}

std::span<const std::string> CodeMaps::atc3(const MedicalCode& medication,
                                            std::string& scratch) const {
  const auto cached = [&medication](const ClassMap& map) -> std::span<const std::string> {
    const auto found = map.find(medication.text);
    if (found == map.end()) return {};
    return found->second;
  };
  switch (medication.system) {
    case System::kNdc:
      return cached(ndc_atc_);
    case System::kRxnorm:
      return cached(rxcui_atc_);
    case System::kAtc:
      break;
    default:
      return {};
  }
  if (medication.text.size() < kClassLength || !has_code_shape(System::kAtc, medication.text))
    return {};
  scratch.assign(medication.text, 0, kClassLength);
  return {&scratch, 1};
}

std::vector<std::string> CodeMaps::atc3(const MedicalCode& medication) const {
  std::string scratch;
  const auto classes = atc3(medication, scratch);
  return {classes.begin(), classes.end()};
}

const std::vector<MedicalCode>& CodeMaps::targets(const MedicalCode& source) const {
  static const std::vector<MedicalCode> none;
  const auto found = targets_.find(source);
  return found == targets_.end() ? none : found->second;
}

}  // namespace theriac::codes
