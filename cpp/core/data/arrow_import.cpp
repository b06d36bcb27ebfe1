// Consumer side of arrow.h.

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cpp/core/base/error.h"
#include "cpp/core/base/options.h"
#include "cpp/core/base/utf8.h"
#include "cpp/core/codes/mapping.h"
#include "cpp/core/data/arrow.h"
#include "cpp/core/data/arrow_column.h"
#include "cpp/core/data/cohort_policy_apply.h"

namespace theriac::data {
namespace {

constexpr std::string_view kRows = "arrow codes";
constexpr std::int64_t kRowsBetweenChecks = 8'192;

// Any of the three structs, released exactly once.
template <class Struct>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Struct* taken) : value(*taken) { taken->release = nullptr; }
  ~Owned() {
    if (value.release != nullptr) value.release(&value);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  Struct value{};
};

// The producer's own words, cut to a sensible length and made printable.
std::string producer_text(ArrowArrayStream& stream, int status) {
  constexpr std::size_t kLongest = 1'000;
  const char* text = stream.get_last_error == nullptr ? nullptr : stream.get_last_error(&stream);
  if (text == nullptr || *text == '\0') return "error number " + std::to_string(status);
  const std::string words(text, ::strnlen(text, kLongest));
  const std::size_t bad = find_invalid_utf8(words);
  return bad == std::string::npos ? words : words.substr(0, bad);
}

class Stream {
 public:
  explicit Stream(ArrowArrayStream* taken) : stream_(taken) {
    if (stream_.value.get_schema == nullptr || stream_.value.get_next == nullptr) {
      throw Error(Code::kInvalidArgument, "the Arrow stream lacks its callbacks");
    }
  }

  void schema(ArrowSchema& out) {
    const int status = stream_.value.get_schema(&stream_.value, &out);
    if (status != 0) out.release = nullptr;  // what a failing call left there is not ours
    check(status, "schema");
  }

  // False at the end of the stream.
  bool next(ArrowArray& out) {
    const int status = stream_.value.get_next(&stream_.value, &out);
    if (status != 0) out.release = nullptr;
    check(status, "batch " + std::to_string(batch_++));
    return out.release != nullptr;
  }

 private:
  void check(int status, const std::string& what) {
    if (status == 0) return;
    if (status == ENOMEM) throw Error(Code::kOutOfMemory, "the Arrow producer ran out of memory");
    throw Error(Code::kDataError, "the Arrow producer failed to give its " + what + ": " +
                                      producer_text(stream_.value, status))
        .at("errno", status);
  }

  Owned<ArrowArrayStream> stream_;
  std::int64_t batch_ = 0;
};

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
  CodesImport(const CohortPolicy& policy, const ArrowSchema& schema);
  void add(const ArrowArray& batch, Job* job);
  Cohort finish() &&;

 private:
  const ArrowColumn& column(std::size_t i) const { return *columns_[i]; }
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
  std::vector<std::optional<ArrowColumn>> columns_;
  std::vector<std::int64_t> children_;  // position of each column in the struct, -1 when absent
  std::int64_t schema_children_ = 0, rows_ = 0;
  std::string scratch_, visit_scratch_;
  RawTable table_;
};

enum : std::size_t { kPatient, kVisit, kTime, kField, kSystem, kCode };
struct Expected {
  const char* name;
  ColumnRole role;
  bool required;
};
constexpr std::array<Expected, 6> kExpected = {{{"patient", ColumnRole::kIdentifier, true},
                                                {"visit", ColumnRole::kIdentifier, true},
                                                {"time", ColumnRole::kTime, false},
                                                {"field", ColumnRole::kText, true},
                                                {"system", ColumnRole::kText, true},
                                                {"code", ColumnRole::kText, true}}};

std::vector<std::string> child_names(const ArrowSchema& schema) {
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < schema.n_children; ++i) {
    const ArrowSchema* child = schema.children[i];
    names.emplace_back(child == nullptr || child->name == nullptr ? "" : child->name);
  }
  return names;
}

std::int64_t position_of(const std::vector<std::string>& names, const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return -1;
  if (std::find(found + 1, names.end(), name) != names.end()) {
    throw Error(Code::kDataError, "the Arrow table has two columns '" + name + "'")
        .at("column", name);
  }
  return found - names.begin();
}

[[noreturn]] void missing_column(const std::string& name, const std::vector<std::string>& names) {
  const std::string near = nearest_name(name, names);
  throw Error(Code::kDataError, "the Arrow table has no column '" + name + "'" +
                                    (near.empty() ? "" : "; nearest: '" + near + "'"))
      .at("column", name);
}

CodesImport::CodesImport(const CohortPolicy& policy, const ArrowSchema& schema)
    : policy_(policy), maps_(codes::CodeMaps::load(policy.maps)) {
  constexpr std::int64_t kMostColumns = 4'096;
  const std::string_view format = schema.format == nullptr ? "" : schema.format;
  if (format != "+s" || schema.n_children < 0 || schema.n_children > kMostColumns ||
      (schema.n_children > 0 && schema.children == nullptr)) {
    throw Error(Code::kDataError,
                "the Arrow stream is not a table (a struct of up to 4096 columns)");
  }
  schema_children_ = schema.n_children;
  const std::vector<std::string> names = child_names(schema);
  for (const Expected& expected : kExpected) {
    const std::int64_t position = position_of(names, expected.name);
    children_.push_back(position);
    auto& slot = columns_.emplace_back();
    if (position >= 0) slot.emplace(*schema.children[position], expected.name, expected.role);
    if (position < 0 && expected.required) missing_column(expected.name, names);
  }
}

void CodesImport::add(const ArrowArray& batch, Job* job) {
  if (batch.n_children != schema_children_ || batch.length < 0 || batch.offset < 0 ||
      (batch.n_children > 0 && batch.children == nullptr)) {
    throw Error(Code::kDataError, "an Arrow batch does not have the columns of its schema");
  }
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    if (!columns_[i]) continue;
    const ArrowArray* child = batch.children[children_[i]];
    if (child == nullptr) {
      throw Error(Code::kDataError,
                  std::string("an Arrow batch lacks the column '") + kExpected[i].name + "'")
          .at("column", kExpected[i].name);
    }
    columns_[i]->bind(*child, batch.offset, batch.length, rows_);
  }
  const bool row_bitmap = batch.null_count != 0 && batch.n_buffers == 1 && batch.buffers != nullptr;
  const auto* valid = row_bitmap ? static_cast<const unsigned char*>(batch.buffers[0]) : nullptr;
  for (std::int64_t row = 0; row < batch.length; ++row) {
    if (job != nullptr && row % kRowsBetweenChecks == 0) {
      job->progress("read arrow", static_cast<std::uint64_t>(rows_ + row), 0);
    }
    accounting_.read(kRows);
    const std::int64_t bit = batch.offset + row;
    if (valid != nullptr && (valid[bit / 8] >> (bit % 8) & 1) == 0) {
      drop("null row");
    } else {
      add_row(row);
    }
  }
  rows_ += batch.length;
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
  return &table_.visit(patient, visit);
}

void CodesImport::add_time(std::int64_t row, RawVisit& visit) const {
  if (!columns_[kTime] || column(kTime).is_null(row)) return;
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
  return apply_policy(std::move(table_).take(), policy_, accounting_, std::move(provenance));
}

}  // namespace

Cohort import_cohort_stream(ArrowArrayStream* in, const CohortPolicy& policy, Job* job) {
  if (in == nullptr || in->release == nullptr) {
    throw Error(Code::kInvalidArgument, "the Arrow stream is null or was released before");
  }
  Stream stream(in);
  if (policy.med_window == "first_day") {
    throw Error(
        Code::kInvalidArgument,
        "option 'med_window' is 'first_day', but an Arrow table of codes has no prescription "
        "days; expected 'stay'")
        .at("option", "med_window");
  }
  Owned<ArrowSchema> schema;
  stream.schema(schema.value);
  if (schema.value.release == nullptr) {
    throw Error(Code::kDataError, "the Arrow producer gave a released schema");
  }
  CodesImport import(policy, schema.value);
  for (;;) {
    Owned<ArrowArray> batch;
    if (!stream.next(batch.value)) break;
    import.add(batch.value, job);
  }
  return std::move(import).finish();
}

}  // namespace theriac::data
