#include "cpp/core/data/table.h"

#include <string>

#include "cpp/core/base/error.h"
#include "cpp/core/base/options.h"
#include "cpp/core/data/cohort_io.h"
#include "cpp/core/data/text_table.h"

namespace theriac::data {
namespace {

constexpr TableColumn kPatientColumns[] = {{"patient", ColumnType::kText},
                                           {"visits", ColumnType::kInt64}};
constexpr TableColumn kVisitColumns[] = {
    {"patient", ColumnType::kText}, {"visit", ColumnType::kText}, {"time", ColumnType::kTime}};
constexpr TableColumn kCodeColumns[] = {
    {"patient", ColumnType::kText}, {"visit", ColumnType::kText},  {"time", ColumnType::kTime},
    {"field", ColumnType::kText},   {"system", ColumnType::kText}, {"code", ColumnType::kText}};
constexpr TableColumn kVocabularyColumns[] = {{"field", ColumnType::kText},
                                              {"id", ColumnType::kInt32},
                                              {"system", ColumnType::kText},
                                              {"code", ColumnType::kText}};

}  // namespace

std::vector<std::string> table_names() { return {"patients", "visits", "codes", "vocabulary"}; }

void unknown_table(const std::string& kind, const std::string& table,
                   const std::vector<std::string>& tables) {
  const std::string near = nearest_name(table, tables);
  throw Error(Code::kInvalidArgument, kind + " has no table '" + table + "'; expected " +
                                          listed(tables) +
                                          (near.empty() ? "" : " (nearest: " + near + ")"))
      .at("table", table);
}

TableCursor::TableCursor(const Cohort& cohort, std::string_view table) : cohort_(&cohort) {
  if (table == "patients") {
    columns_ = kPatientColumns;
    next_ = &TableCursor::next_patient;
  } else if (table == "visits") {
    columns_ = kVisitColumns;
    next_ = &TableCursor::next_visit;
  } else if (table == "codes") {
    columns_ = kCodeColumns;
    next_ = &TableCursor::next_code;
  } else if (table == "vocabulary") {
    columns_ = kVocabularyColumns;
    next_ = &TableCursor::next_vocabulary;
  } else {
    unknown_table("a cohort", std::string(table), table_names());
  }
}

bool TableCursor::next_patient() {
  if (patient_ == cohort_->patients()) return false;
  row_[0].text = cohort_->patient_id(patient_);
  row_[1].number = cohort_->last_visit(patient_) - cohort_->first_visit(patient_);
  ++patient_;
  return true;
}

void TableCursor::find_patient() {
  while (cohort_->last_visit(patient_) <= visit_) ++patient_;
}

bool TableCursor::next_visit() {
  if (visit_ == cohort_->visits()) return false;
  find_patient();
  const VisitView visit = cohort_->visit(visit_);
  row_[0].text = cohort_->patient_id(patient_);
  row_[1].text = visit.id;
  row_[2].number = visit.time;
  ++visit_;
  return true;
}

bool TableCursor::next_code() {
  for (; visit_ < cohort_->visits(); ++visit_, field_ = 0) {
    const VisitView visit = cohort_->visit(visit_);
    for (; field_ < kFieldCount; ++field_, position_ = 0) {
      const auto field = static_cast<Field>(field_);
      const std::span<const std::int32_t> ids = visit.field(field);
      if (position_ == ids.size()) continue;
      find_patient();
      const codes::MedicalCode& code = cohort_->vocabulary(field).code(ids[position_++]);
      row_[0].text = cohort_->patient_id(patient_);
      row_[1].text = visit.id;
      row_[2].number = visit.time;
      row_[3].text = field_name(field);
      row_[4].text = codes::system_name(code.system);
      row_[5].text = code.text;
      return true;
    }
  }
  return false;
}

bool TableCursor::next_vocabulary() {
  for (; field_ < kFieldCount; ++field_, position_ = 0) {
    const auto field = static_cast<Field>(field_);
    const Vocabulary& vocabulary = cohort_->vocabulary(field);
    if (position_ == static_cast<std::size_t>(vocabulary.size())) continue;
    const auto id = static_cast<std::int32_t>(position_++);
    const codes::MedicalCode& code = vocabulary.code(id);
    row_[0].text = field_name(field);
    row_[1].number = id;
    row_[2].text = codes::system_name(code.system);
    row_[3].text = code.text;
    return true;
  }
  return false;
}

}  // namespace theriac::data
