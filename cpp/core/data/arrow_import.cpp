// Consumer side of arrow.h.

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cpp/core/base/error.h"
#include "cpp/core/codes/mapping.h"
#include "cpp/core/data/arrow.h"
#include "cpp/core/data/arrow_table_reader.h"
#include "cpp/core/data/cohort_policy_apply.h"

namespace theriac::data {
namespace {

constexpr std::string_view kRows = "arrow codes";

// Raw patients and visits by id, in the order of their first row.
class RawTable {
 public:
  RawVisit& visit(std::string_view patient, std::string_view visit) {
    if (patients_.empty() || patients_[patient_].id != patient) find_patient(patient);
    std::vector<RawVisit>& visits = patients_[patient_].visits;
    if (visits.empty() || visits[visit_].id != visit) find_visit(visit);
    return visits[visit_];
  }
  std::vector<RawPatient> take() && { return std::move(patients_); }

 private:
  using Index = std::unordered_map<std::string, std::size_t>;

  void find_patient(std::string_view id) {
    const auto [entry, added] = patient_index_.try_emplace(std::string(id), patients_.size());
    patient_ = entry->second;
    visit_ = 0;
    if (!added) return;
    patients_.push_back({std::string(id), {}});
    visit_index_.emplace_back();
  }

  void find_visit(std::string_view id) {
    std::vector<RawVisit>& visits = patients_[patient_].visits;
    const auto [entry, added] = visit_index_[patient_].try_emplace(std::string(id), visits.size());
    visit_ = entry->second;
    if (added) visits.emplace_back().id = id;
  }

  std::vector<RawPatient> patients_;
  Index patient_index_;
  std::vector<Index> visit_index_;       // by patient
  std::size_t patient_ = 0, visit_ = 0;  // of the last row: tables are mostly sorted
};

class CodesImport {
 public:
  CodesImport(const CohortPolicy& policy, ArrowTableReader& table)
      : policy_(policy), maps_(codes::CodeMaps::load(policy.maps)), table_(table) {}
  void read(Job* job);
  Cohort finish() &&;

 private:
  const ArrowColumn& column(std::size_t i) const { return table_.column(i); }
  void add_row(std::int64_t row);
  RawVisit* visit_of(std::int64_t row);
  void add_time(std::int64_t row, RawVisit& visit) const;
  void add_code(std::int64_t row, RawVisit& visit);
  bool add_medication(const codes::MedicalCode& code, RawVisit& visit);
  void add_mapped(const codes::MedicalCode& code, std::vector<codes::MedicalCode>& set);
  Field field_of(std::int64_t row);
  codes::System system_of(std::int64_t row);
  void drop(std::string_view reason) { accounting_.dropped(kRows, reason); }

  const CohortPolicy& policy_;
  codes::CodeMaps maps_;
  Accounting accounting_;
  ArrowTableReader& table_;
  std::string scratch_, visit_scratch_;
  RawTable raw_;
};

enum : std::size_t { kPatient, kVisit, kTime, kField, kSystem, kCode };
std::vector<ExpectedColumn> expected_columns() {
  return {{"patient", ColumnRole::kIdentifier, true}, {"visit", ColumnRole::kIdentifier, true},
          {"time", ColumnRole::kTime, false},         {"field", ColumnRole::kText, true},
          {"system", ColumnRole::kText, true},        {"code", ColumnRole::kText, true}};
}

void CodesImport::read(Job* job) {
  while (table_.next_batch()) {
    for (std::int64_t row = 0; row < table_.rows(); ++row) {
      table_.report(job, row);
      accounting_.read(kRows);
      if (table_.is_null(row)) {
        drop("null row");
      } else {
        add_row(row);
      }
    }
  }
}

void CodesImport::add_row(std::int64_t row) {
  RawVisit* const visit = visit_of(row);
  if (visit == nullptr) return;
  add_time(row, *visit);
  if (column(kField).is_null(row)) return drop("no field");
  if (column(kCode).is_null(row)) return drop("no code");
  if (column(kSystem).is_null(row)) return drop("no system");
  add_code(row, *visit);
}

RawVisit* CodesImport::visit_of(std::int64_t row) {
  std::string_view patient, visit;
  if (!column(kPatient).is_null(row)) patient = column(kPatient).text(row, scratch_);
  if (!column(kVisit).is_null(row)) visit = column(kVisit).text(row, visit_scratch_);
  if (patient.empty() || visit.empty()) {
    drop(patient.empty() ? "no patient" : "no visit");
    return nullptr;
  }
  return &raw_.visit(patient, visit);
}

void CodesImport::add_time(std::int64_t row, RawVisit& visit) const {
  if (!table_.has(kTime) || column(kTime).is_null(row)) return;
  const std::int64_t time = column(kTime).time(row);
  visit.time = visit.time == kNoTime ? time : std::min(visit.time, time);
}

Field CodesImport::field_of(std::int64_t row) {
  const std::string_view name = column(kField).text(row, scratch_);
  for (int f = 0; f < kFieldCount; ++f) {
    if (name == field_name(static_cast<Field>(f))) return static_cast<Field>(f);
  }
  column(kField).fail(row, "expected diagnoses, procedures or medications");
}

codes::System CodesImport::system_of(std::int64_t row) {
  const auto system = codes::system_from_name(column(kSystem).text(row, scratch_));
  if (system) return *system;
  column(kSystem).fail(row,
                       "expected a code system such as icd9cm, icd9proc, icd10cm, icd10pcs or atc");
}

void CodesImport::add_code(std::int64_t row, RawVisit& visit) {
  const Field field = field_of(row);
  codes::MedicalCode code{system_of(row), {}};
  code.text = codes::normalise(code.system, column(kCode).text(row, scratch_));
  if (code.text.empty()) return drop("no code");
  if (field == Field::kMedications) {
    if (!add_medication(code, visit)) return drop("medication without an ATC class");
  } else {
    add_mapped(code, field == Field::kDiagnoses ? visit.diagnoses : visit.procedures);
  }
  accounting_.kept(kRows);
}

bool CodesImport::add_medication(const codes::MedicalCode& code, RawVisit& visit) {
  const std::vector<codes::MedicalCode> classes = medication_classes(maps_, code, policy_);
  visit.medications.insert(visit.medications.end(), classes.begin(), classes.end());
  if (classes.empty()) accounting_.unmapped(codes::system_name(code.system), code.text);
  return !classes.empty();
}

void CodesImport::add_mapped(const codes::MedicalCode& code, std::vector<codes::MedicalCode>& set) {
  const std::vector<codes::MedicalCode>& targets = maps_.targets(code);
  set.push_back(targets.empty() ? code : targets.front());
}

Cohort CodesImport::finish() && {
  Json versions = Json::object();
  for (const auto& [name, print] : maps_.versions()) versions[name] = print;
  Json provenance{{"format", "arrow"}, {"maps", std::move(versions)}};
  return apply_policy(std::move(raw_).take(), policy_, accounting_, std::move(provenance));
}

}  // namespace

Cohort import_cohort_stream(ArrowArrayStream* in, const CohortPolicy& policy, Job* job) {
  ArrowTableReader table(in);
  if (policy.med_window == "first_day") {
    throw Error(
        Code::kInvalidArgument,
        "option 'med_window' is 'first_day', but an Arrow table of codes has no prescription "
        "days; expected 'stay'")
        .at("option", "med_window");
  }
  table.open(expected_columns());
  CodesImport import(policy, table);
  import.read(job);
  return std::move(import).finish();
}

}  // namespace theriac::data
