// Rows of an import as small numbers, and their last step into raw patients.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/data/cohort_policy_apply.h"
#include "cpp/core/readers/code_resolver.h"
#include "cpp/core/readers/row_counts.h"
#include "cpp/core/readers/string_pool.h"

namespace theriac::readers {

// One medication row on its way to a visit. 16 bytes, because a hospital has tens of millions.
struct MedicationRow {
  static constexpr std::int32_t kNoDay = INT32_MIN;
  std::uint32_t visit;
  std::uint32_t code;       // in the CodeResolver
  std::int32_t day;         // since 1970-01-01, or kNoDay
  std::uint32_t table = 0;  // which of the RowCounts given to finish()
};

// Day of a moment of data::parse_time, floor towards the past.
std::int32_t day_of(std::int64_t seconds) noexcept;

// Patients, visits and their coded rows. Not synchronised.
class RecordStore {
 public:
  std::uint32_t add_patient(std::string_view id);
  std::uint32_t add_visit(std::uint32_t patient, std::string_view id, std::int64_t time);
  // Each patient's latest visit by time, among equals by id; StringPool::kNone without any. Undated
  // visits count as the earliest.
  std::vector<std::uint32_t> last_visits() const;

  // `order` is the place among the visit's codes of the field; ties keep the order of adding.
  void add_code(data::Field field, std::uint32_t visit, std::uint32_t code, std::int64_t order);
  void add_medication(const MedicationRow& row) { medications_.push_back(row); }

  // Applies the medication window and the maps, counting each medication row in its table, and
  // hands out the patients. The store is empty afterwards.
  std::vector<data::RawPatient> finish(const data::CohortPolicy& policy,
                                       const CodeResolver& resolver, std::vector<RowCounts>& tables,
                                       data::Accounting& accounting);

 private:
  struct Visit {
    std::uint32_t patient;
    std::uint32_t id;  // in ids_
    std::int64_t time;
  };
  struct CodedRow {
    std::int64_t order;
    std::uint32_t visit, code;
  };

  void drop_after_first_day(std::vector<RowCounts>& tables);
  std::vector<std::uint64_t> visit_classes(const CodeResolver& resolver,
                                           std::vector<RowCounts>& tables,
                                           data::Accounting& accounting);
  std::vector<codes::MedicalCode> take_codes(data::Field field, std::uint32_t visit,
                                             std::size_t& at, const CodeResolver& resolver) const;

  StringPool ids_;
  std::vector<std::uint32_t> patients_;  // ids
  std::vector<Visit> visits_;
  std::array<std::vector<CodedRow>, 2> coded_;  // diagnoses, procedures
  std::vector<MedicationRow> medications_;
};

}  // namespace theriac::readers
