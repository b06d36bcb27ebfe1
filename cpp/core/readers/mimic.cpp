// MIMIC-III (v1.4) and MIMIC-IV (v2.2) hospital tables; medication.md sections 2.1 to 2.3. The two
// differ in column names and in that MIMIC-IV says which ICD a code is of.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cpp/core/base/csv.h"
#include "cpp/core/readers/clinical.h"
#include "cpp/core/readers/code_resolver.h"
#include "cpp/core/readers/progress_source.h"
#include "cpp/core/readers/provenance.h"
#include "cpp/core/readers/record_store.h"
#include "cpp/core/readers/row_counts.h"

namespace theriac::readers {

namespace {

namespace fs = std::filesystem;
using codes::System;
using data::Field;

enum Table : std::uint32_t { kAdmissions, kDiagnosesIcd, kProceduresIcd, kPrescriptions };
constexpr std::array<const char*, 4> kTableNames = {"admissions", "diagnoses_icd", "procedures_icd",
                                                    "prescriptions"};

// What differs between the two versions.
struct Layout {
  const char* format;
  bool has_icd_version;
  const char* code_column;
  const char* start_column;  // of a prescription
  const char* other_code_column;
  const char* other_format;
};
constexpr Layout kMimicIii = {"mimic-iii", false, "icd9_code", "startdate", "icd_code", "mimic-iv"};
constexpr Layout kMimicIv = {"mimic-iv", true, "icd_code", "starttime", "icd9_code", "mimic-iii"};

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return text;
}

// The table's file in the folder, under any case, plain or gzip; empty when there is none.
fs::path find_table(const fs::path& folder, const std::string& table) {
  fs::path found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = lower(entry.path().filename().string());
    if (name != table + ".csv" && name != table + ".csv.gz") continue;
    if (!found.empty()) {
      throw Error(Code::kInvalidArgument,
                  "the folder holds table '" + table + "' twice, as '" + found.filename().string() +
                      "' and '" + entry.path().filename().string() + "'; keep one of them")
          .at("file", folder.string());
    }
    found = entry.path();
  }
  return found;
}

// The folder itself, or its "hosp" folder, where MIMIC-IV keeps these tables.
fs::path table_folder(const fs::path& folder) {
  std::error_code failed;
  if (!fs::is_directory(folder, failed)) {
    throw Error(Code::kNotFound, "'" + folder.string() +
                                     "' is not a folder; a MIMIC source is a folder of CSV tables")
        .at("file", folder.string());
  }
  if (find_table(folder, kTableNames[kAdmissions]).empty() &&
      fs::is_directory(folder / "hosp", failed)) {
    return folder / "hosp";
  }
  return folder;
}

std::vector<fs::path> find_tables(const fs::path& folder) {
  const fs::path place = table_folder(folder);
  std::vector<fs::path> out;
  for (const char* table : kTableNames) {
    out.push_back(find_table(place, table));
    if (out.back().empty()) {
      throw Error(Code::kNotFound, "'" + place.string() + "' has no table '" + table +
                                       "'; expected a file " + table + ".csv or " + table +
                                       ".csv.gz, in any case")
          .at("file", place.string());
    }
  }
  return out;
}

// A whole number that is not negative; nullopt for an empty field. Errors never quote the field.
std::optional<std::int64_t> whole_number(const CsvReader& csv, std::size_t column) {
  const std::string_view text = trim(csv.field(column));
  if (text.empty()) return std::nullopt;
  std::int64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.front() == '-') throw csv.error(column, "is negative; expected a whole number from 0");
  if (failed != std::errc() || end != text.data() + text.size()) {
    throw csv.error(column, "is not a whole number; expected decimal digits");
  }
  return value;
}

std::int64_t required_number(const CsvReader& csv, std::size_t column) {
  const auto value = whole_number(csv, column);
  if (!value) throw csv.error(column, "is empty; expected a whole number");
  return *value;
}

std::int64_t moment(const CsvReader& csv, std::size_t column) {
  const std::string_view text = trim(csv.field(column));
  if (text.empty()) return data::kNoTime;
  try {
    return data::parse_time(text);
  } catch (const Error&) {
    throw csv.error(column, "is not a date; expected YYYY-MM-DD or YYYY-MM-DD HH:MM:SS");
  }
}

class MimicImport {
 public:
  MimicImport(const Layout& layout, const data::CohortPolicy& policy)
      : layout_(layout), policy_(policy), resolver_(policy) {
    for (const char* name : kTableNames) tables_.emplace_back(name);
  }

  data::Cohort read(const fs::path& folder, Job& job) {
    const std::vector<fs::path> files = find_tables(folder);
    ReadProgress progress(job, files);
    read_admissions(CsvReader(progress.open(files[kAdmissions])));
    read_codes(CsvReader(progress.open(files[kDiagnosesIcd])), Field::kDiagnoses, kDiagnosesIcd);
    read_codes(CsvReader(progress.open(files[kProceduresIcd])), Field::kProcedures, kProceduresIcd);
    read_prescriptions(CsvReader(progress.open(files[kPrescriptions])));
    return finish(files, job);
  }

 private:
  struct Admission {
    std::uint32_t visit;
    std::int64_t subject;
    std::uint64_t line;
  };
  // Columns that name a row's stay.
  struct Keys {
    std::size_t subject, admission;
    explicit Keys(const CsvReader& csv)
        : subject(csv.column("subject_id")), admission(csv.column("hadm_id")) {}
  };

  void read_admissions(CsvReader csv);
  void read_codes(CsvReader csv, Field field, Table table);
  void read_prescriptions(CsvReader csv);
  std::optional<std::uint32_t> visit_of(const CsvReader& csv, const Keys& keys, RowCounts& counts);
  System system_of(const CsvReader& csv, Field field, int version_column) const;
  void check_layout(const CsvReader& csv) const;
  data::Cohort finish(const std::vector<fs::path>& files, Job& job);

  const Layout& layout_;
  const data::CohortPolicy& policy_;
  CodeResolver resolver_;
  RecordStore store_;
  std::vector<RowCounts> tables_;
  data::Accounting accounting_;
  std::unordered_map<std::int64_t, std::uint32_t> patients_;
  std::unordered_map<std::int64_t, Admission> admissions_;
  std::int64_t reversed_dates_ = 0, undated_ = 0;
};

void MimicImport::read_admissions(CsvReader csv) {
  const Keys keys(csv);
  const std::size_t admit = csv.column("admittime"), discharge = csv.column("dischtime");
  RowCounts& counts = tables_[kAdmissions];
  while (csv.next()) {
    counts.read();
    const std::int64_t subject = required_number(csv, keys.subject);
    const std::int64_t id = required_number(csv, keys.admission);
    const std::int64_t start = moment(csv, admit), end = moment(csv, discharge);
    if (start == data::kNoTime) ++undated_;
    if (start != data::kNoTime && end != data::kNoTime && end < start) ++reversed_dates_;
    auto [patient, is_new] = patients_.try_emplace(subject, 0);
    if (is_new) patient->second = store_.add_patient(std::to_string(subject));
    const auto [other, added] = admissions_.try_emplace(id, Admission{0, subject, csv.line()});
    if (!added) {
      throw csv.error(keys.admission, "repeats the admission of line " +
                                          std::to_string(other->second.line) +
                                          "; every admission needs an id of its own");
    }
    other->second.visit = store_.add_visit(patient->second, std::to_string(id), start);
    counts.kept();
  }
}

// The visit of a row, or nothing when the row cannot belong to one; then it is counted.
std::optional<std::uint32_t> MimicImport::visit_of(const CsvReader& csv, const Keys& keys,
                                                   RowCounts& counts) {
  const auto subject = whole_number(csv, keys.subject);
  const auto id = whole_number(csv, keys.admission);
  if (!id) {
    counts.dropped("no admission id");
    return std::nullopt;
  }
  const auto admission = admissions_.find(*id);
  if (admission == admissions_.end()) {
    counts.dropped("admission not in the admissions table");
    return std::nullopt;
  }
  if (subject && *subject != admission->second.subject) {
    counts.dropped("patient differs from the admission's");
    return std::nullopt;
  }
  return admission->second.visit;
}

void MimicImport::check_layout(const CsvReader& csv) const {
  if (csv.find_column(layout_.code_column) >= 0 || csv.find_column(layout_.other_code_column) < 0)
    return;
  throw Error(Code::kDataError, csv.name() + ": line 1 has the column '" +
                                    layout_.other_code_column + "' instead of '" +
                                    layout_.code_column + "'; the table looks like " +
                                    layout_.other_format + ": read it under that format")
      .at("file", csv.name())
      .at("line", 1)
      .at("column", layout_.code_column);
}

System MimicImport::system_of(const CsvReader& csv, Field field, int version_column) const {
  const bool is_diagnosis = field == Field::kDiagnoses;
  if (!layout_.has_icd_version) return is_diagnosis ? System::kIcd9cm : System::kIcd9proc;
  const auto column = static_cast<std::size_t>(version_column);
  const std::string_view version = trim(csv.field(column));
  if (version == "9") return is_diagnosis ? System::kIcd9cm : System::kIcd9proc;
  if (version == "10") return is_diagnosis ? System::kIcd10cm : System::kIcd10pcs;
  throw csv.error(column, "is neither 9 nor 10; expected the version of ICD that the code is of");
}

void MimicImport::read_codes(CsvReader csv, Field field, Table table) {
  check_layout(csv);
  const Keys keys(csv);
  const std::size_t code = csv.column(layout_.code_column), sequence = csv.column("seq_num");
  const int version = layout_.has_icd_version ? static_cast<int>(csv.column("icd_version")) : -1;
  RowCounts& counts = tables_[table];
  while (csv.next()) {
    counts.read();
    const auto visit = visit_of(csv, keys, counts);
    const auto order = whole_number(csv, sequence);
    if (trim(csv.field(code)).empty()) {
      if (visit) counts.dropped("no code");
      continue;
    }
    const ResolvedCode& resolved =
        resolver_.resolve(field, system_of(csv, field, version), csv.field(code));
    if (!visit) continue;
    if (!resolved.usable()) {
      counts.dropped(resolved.reason);
      continue;
    }
    counts.kept();
    store_.add_code(field, *visit, resolved.code,
                    order.value_or(std::numeric_limits<std::int64_t>::max()));
  }
}

void MimicImport::read_prescriptions(CsvReader csv) {
  const Keys keys(csv);
  const std::size_t ndc = csv.column("ndc"), drug = csv.column("drug"),
                    start = csv.column(layout_.start_column);
  const bool needs_day = policy_.med_window == "first_day";
  RowCounts& counts = tables_[kPrescriptions];
  while (csv.next()) {
    counts.read();
    const auto visit = visit_of(csv, keys, counts);
    if (!visit) continue;
    const ResolvedCode& resolved =
        resolver_.resolve(Field::kMedications, System::kNdc, csv.field(ndc));
    if (!resolved.usable()) {
      counts.dropped(resolved.reason);
      continue;
    }
    if (resolver_.classes(resolved.code).empty())
      resolver_.name_medication(resolved.code, trim(csv.field(drug)));
    const std::int32_t day = needs_day ? day_of(moment(csv, start)) : MedicationRow::kNoDay;
    store_.add_medication({*visit, resolved.code, day, kPrescriptions});
  }
}

data::Cohort MimicImport::finish(const std::vector<fs::path>& files, Job& job) {
  job.milestone("grouping", 0, 0);
  std::vector<data::RawPatient> patients = store_.finish(policy_, resolver_, tables_, accounting_);
  for (const RowCounts& counts : tables_) counts.add_to(accounting_);
  Json provenance = describe_source(layout_.format, files, resolver_.maps());
  add_warning(provenance, "admissions that end before they start", reversed_dates_);
  add_warning(provenance, "admissions without a start", undated_);
  job.check();
  return data::apply_policy(std::move(patients), policy_, accounting_, std::move(provenance));
}

}  // namespace

data::Cohort read_mimic_iii(const fs::path& folder, const data::CohortPolicy& policy, Job& job) {
  return MimicImport(kMimicIii, policy).read(folder, job);
}

data::Cohort read_mimic_iv(const fs::path& folder, const data::CohortPolicy& policy, Job& job) {
  return MimicImport(kMimicIv, policy).read(folder, job);
}

}  // namespace theriac::readers
