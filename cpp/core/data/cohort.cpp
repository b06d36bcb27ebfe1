#include "cpp/core/data/cohort.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/base/utf8.h"
#include "cpp/core/data/column_checks.h"

namespace theriac::data {
namespace {

constexpr std::array<Field, kFieldCount> kFields = {Field::kDiagnoses, Field::kProcedures,
                                                    Field::kMedications};

std::size_t at(Field field) { return static_cast<std::size_t>(field); }

constexpr const char* kKind = "cohort";

[[noreturn]] void bad_column(const std::string& column, const std::string& what) {
  data::bad_column(kKind, column, what);
}

void check_utf8(const std::string& text, const std::string& column, std::size_t position) {
  if (find_invalid_utf8(text) == std::string::npos) return;
  bad_column(column, "is not UTF-8 at position " + std::to_string(position));
}

void check_patients(const CohortColumns& columns) {
  std::unordered_set<std::string_view> seen;
  seen.reserve(columns.patient_ids.size());
  for (std::size_t i = 0; i < columns.patient_ids.size(); ++i) {
    if (columns.patient_ids[i].empty()) bad_column("patient_ids", "has an empty id");
    check_utf8(columns.patient_ids[i], "patient_ids", i);
    if (!seen.insert(columns.patient_ids[i]).second) {
      bad_column("patient_ids", "repeats an earlier id at position " + std::to_string(i));
    }
  }
}

void check_visits(const CohortColumns& columns) {
  std::unordered_set<std::string_view> seen;
  for (std::size_t p = 0; p < columns.patient_ids.size(); ++p) {
    seen.clear();
    for (std::int64_t v = columns.patient_offsets[p]; v < columns.patient_offsets[p + 1]; ++v) {
      if (!seen.insert(columns.visit_ids[static_cast<std::size_t>(v)]).second) {
        bad_column("visit_ids", "repeats an id of the same patient at visit " + std::to_string(v));
      }
    }
  }
  for (std::size_t v = 0; v < columns.times.size(); ++v) {
    check_utf8(columns.visit_ids[v], "visit_ids", v);
    const std::int64_t time = columns.times[v];
    if (time != kNoTime && (time < kFirstTime || time > kLastTime)) {
      bad_column("times", "is outside the years 1 to 9999 at visit " + std::to_string(v));
    }
  }
}

void check_sets(const CohortColumns& columns, Field field) {
  const std::string column = std::string(field_name(field));
  const std::vector<std::int64_t>& offsets = columns.offsets[at(field)];
  const std::vector<std::int32_t>& ids = columns.ids[at(field)];
  const std::int32_t vocabulary = columns.vocabularies[at(field)].size();
  check_offsets(kKind, column + ".offsets", offsets, columns.visit_ids.size(), ids.size());
  std::vector<std::int64_t> last_visit(static_cast<std::size_t>(vocabulary), -1);
  for (std::size_t v = 0; v < columns.visit_ids.size(); ++v) {
    for (auto i = static_cast<std::size_t>(offsets[v]);
         i < static_cast<std::size_t>(offsets[v + 1]); ++i) {
      if (ids[i] < 0 || ids[i] >= vocabulary) {
        bad_column(column + ".ids", "has an id outside its vocabulary of " +
                                        std::to_string(vocabulary) + " at entry " +
                                        std::to_string(i));
      }
      auto& last = last_visit[static_cast<std::size_t>(ids[i])];
      if (last == static_cast<std::int64_t>(v)) {
        bad_column(column + ".ids", "repeats a code within visit " + std::to_string(v));
      }
      last = static_cast<std::int64_t>(v);
    }
  }
}

void check(const CohortColumns& columns) {
  check_offsets(kKind, "patient_offsets", columns.patient_offsets, columns.patient_ids.size(),
                columns.visit_ids.size());
  if (columns.times.size() != columns.visit_ids.size()) {
    bad_column("times", "has " + std::to_string(columns.times.size()) + " entries; expected " +
                            std::to_string(columns.visit_ids.size()));
  }
  check_patients(columns);
  check_visits(columns);
  for (const Field field : kFields) check_sets(columns, field);
}

std::string fingerprint_of(const CohortColumns& columns) {
  Fingerprint print;
  print.add("theriac.cohort.1");
  for (const std::string& id : columns.patient_ids) print.add(id);
  print.add_values(std::span<const std::int64_t>(columns.patient_offsets));
  for (const std::string& id : columns.visit_ids) print.add(id);
  print.add_values(std::span<const std::int64_t>(columns.times));
  for (const Field field : kFields) {
    print.add(columns.vocabularies[at(field)].fingerprint());
    print.add_values(std::span<const std::int64_t>(columns.offsets[at(field)]));
    print.add_values(std::span<const std::int32_t>(columns.ids[at(field)]));
  }
  return print.hex();
}

}  // namespace

Vocabulary::Vocabulary(std::vector<codes::MedicalCode> codes) : codes_(std::move(codes)) {
  if (codes_.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    throw Error(Code::kDataError, "a vocabulary has more codes than 32-bit ids can number");
  }
  index_.reserve(codes_.size());
  for (std::size_t id = 0; id < codes_.size(); ++id) {
    if (codes_[id].text.empty() || find_invalid_utf8(codes_[id].text) != std::string::npos) {
      throw Error(Code::kDataError,
                  "vocabulary position " + std::to_string(id) + " is empty or not UTF-8");
    }
    if (!index_.emplace(codes_[id], static_cast<std::int32_t>(id)).second) {
      throw Error(Code::kDataError, "vocabulary position " + std::to_string(id) + " repeats " +
                                        std::string(codes::system_name(codes_[id].system)) +
                                        " code '" + codes_[id].text + "'");
    }
  }
}

std::int32_t Vocabulary::find(const codes::MedicalCode& code) const noexcept {
  const auto found = index_.find(code);
  return found == index_.end() ? -1 : found->second;
}

std::string Vocabulary::fingerprint() const {
  Fingerprint print;
  print.add("theriac.vocabulary.1");
  for (const codes::MedicalCode& code : codes_) {
    print.add(codes::system_name(code.system)).add(code.text);
  }
  return print.hex();
}

std::string_view field_name(Field field) noexcept {
  switch (field) {
    case Field::kDiagnoses:
      return "diagnoses";
    case Field::kProcedures:
      return "procedures";
    case Field::kMedications:
      return "medications";
  }
  return "unknown";
}

Cohort::Cohort(CohortColumns columns) : columns_(std::move(columns)) {
  check(columns_);
  fingerprint_ = fingerprint_of(columns_);
}

VisitView Cohort::visit(std::int64_t visit) const {
  const auto v = static_cast<std::size_t>(visit);
  const auto set = [&](Field field) {
    const std::vector<std::int64_t>& offsets = columns_.offsets[at(field)];
    const auto first = static_cast<std::size_t>(offsets[v]);
    return std::span<const std::int32_t>(columns_.ids[at(field)])
        .subspan(first, static_cast<std::size_t>(offsets[v + 1]) - first);
  };
  return {columns_.visit_ids.at(v), columns_.times.at(v), set(Field::kDiagnoses),
          set(Field::kProcedures), set(Field::kMedications)};
}

CohortBuilder::CohortBuilder(Vocabulary diagnoses, Vocabulary procedures, Vocabulary medications)
    : fixed_(true) {
  columns_.vocabularies = {std::move(diagnoses), std::move(procedures), std::move(medications)};
  for (const Field field : kFields) {
    const auto size = static_cast<std::size_t>(columns_.vocabularies[at(field)].size());
    interners_[at(field)].last_visit.assign(size, -1);
  }
}

void CohortBuilder::begin_patient(std::string id) {
  const std::string position = std::to_string(columns_.patient_ids.size());
  if (id.empty()) {
    throw Error(Code::kDataError, "the patient at position " + position + " has an empty id");
  }
  if (!seen_.insert(id).second) {
    throw Error(Code::kDataError,
                "the patient at position " + position + " has the id of an earlier patient");
  }
  columns_.patient_ids.push_back(std::move(id));
  columns_.patient_offsets.push_back(columns_.patient_offsets.back());
}

std::int32_t CohortBuilder::intern(Field field, const codes::MedicalCode& code) {
  if (code.text.empty()) {
    throw Error(Code::kDataError,
                "a visit has an empty code among its " + std::string(field_name(field)));
  }
  if (fixed_) {
    const std::int32_t id = columns_.vocabularies[at(field)].find(code);
    if (id >= 0) return id;
    throw Error(Code::kDataError, std::string(codes::system_name(code.system)) + " code '" +
                                      code.text + "' is not in the fixed vocabulary of " +
                                      std::string(field_name(field)));
  }
  Interner& interner = interners_[at(field)];
  const auto next = static_cast<std::int32_t>(interner.codes.size());
  const auto [entry, added] = interner.index.emplace(code, next);
  if (added) {
    interner.codes.push_back(code);
    interner.last_visit.push_back(-1);
  }
  return entry->second;
}

void CohortBuilder::append_set(Field field, const std::vector<codes::MedicalCode>& codes) {
  const auto visit = static_cast<std::int64_t>(columns_.visit_ids.size());
  std::vector<std::int32_t>& ids = columns_.ids[at(field)];
  for (const codes::MedicalCode& code : codes) {
    const std::int32_t id = intern(field, code);
    std::int64_t& last = interners_[at(field)].last_visit[static_cast<std::size_t>(id)];
    if (last == visit) continue;
    last = visit;
    ids.push_back(id);
  }
  columns_.offsets[at(field)].push_back(static_cast<std::int64_t>(ids.size()));
}

void CohortBuilder::add_visit(std::string id, std::int64_t time,
                              const std::vector<codes::MedicalCode>& diagnoses,
                              const std::vector<codes::MedicalCode>& procedures,
                              const std::vector<codes::MedicalCode>& medications) {
  if (columns_.patient_ids.empty()) {
    throw Error(Code::kInvalidState, "add_visit was called before begin_patient");
  }
  append_set(Field::kDiagnoses, diagnoses);
  append_set(Field::kProcedures, procedures);
  append_set(Field::kMedications, medications);
  columns_.visit_ids.push_back(std::move(id));
  columns_.times.push_back(time);
  ++columns_.patient_offsets.back();
}

void CohortBuilder::set_accounting(Json accounting) { columns_.accounting = std::move(accounting); }
void CohortBuilder::set_provenance(Json provenance) { columns_.provenance = std::move(provenance); }

// Replaces ids by order of appearance with positions in (system, text) order.
void CohortBuilder::sort_vocabulary(Field field) {
  std::vector<codes::MedicalCode>& codes = interners_[at(field)].codes;
  std::vector<std::int32_t> order(codes.size());
  std::iota(order.begin(), order.end(), 0);
  const auto code = [&](std::int32_t id) -> codes::MedicalCode& {
    return codes[static_cast<std::size_t>(id)];
  };
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return code(a) < code(b); });
  std::vector<std::int32_t> rank(codes.size());
  std::vector<codes::MedicalCode> sorted;
  sorted.reserve(codes.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    rank[static_cast<std::size_t>(order[i])] = static_cast<std::int32_t>(i);
    sorted.push_back(std::move(code(order[i])));
  }
  for (std::int32_t& id : columns_.ids[at(field)]) id = rank[static_cast<std::size_t>(id)];
  columns_.vocabularies[at(field)] = Vocabulary(std::move(sorted));
}

Cohort CohortBuilder::finish() && {
  if (!fixed_) {
    for (const Field field : kFields) sort_vocabulary(field);
  }
  return Cohort(std::move(columns_));
}

}  // namespace theriac::data
