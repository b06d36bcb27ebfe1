#include "cpp/core/readers/record_store.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace theriac::readers {

namespace {

constexpr std::int64_t kDaySeconds = 24 * 60 * 60;

}  // namespace

std::int32_t day_of(std::int64_t seconds) noexcept {
  if (seconds == data::kNoTime) return MedicationRow::kNoDay;
  const std::int64_t day = seconds / kDaySeconds - (seconds % kDaySeconds < 0 ? 1 : 0);
  return static_cast<std::int32_t>(day);
}

std::uint32_t RecordStore::add_patient(std::string_view id) {
  patients_.push_back(ids_.intern(id));
  return static_cast<std::uint32_t>(patients_.size() - 1);
}

std::uint32_t RecordStore::add_visit(std::uint32_t patient, std::string_view id,
                                     std::int64_t time) {
  visits_.push_back({patient, ids_.intern(id), time});
  return static_cast<std::uint32_t>(visits_.size() - 1);
}

std::vector<std::uint32_t> RecordStore::last_visits() const {
  std::vector<std::uint32_t> out(patients_.size(), StringPool::kNone);
  for (std::uint32_t v = 0; v < visits_.size(); ++v) {
    std::uint32_t& last = out[visits_[v].patient];
    const bool is_later = last == StringPool::kNone || visits_[last].time < visits_[v].time ||
                          (visits_[last].time == visits_[v].time &&
                           data::id_before(ids_.text(visits_[last].id), ids_.text(visits_[v].id)));
    if (is_later) last = v;
  }
  return out;
}

void RecordStore::add_code(data::Field field, std::uint32_t visit, std::uint32_t code,
                           std::int64_t order) {
  coded_.at(static_cast<std::size_t>(field)).push_back({order, visit, code});
}

// medication.md 2.1 step 4 without the intensive-care stay: the first day on which the visit has
// any prescription with a code, whether or not a map knows it.
void RecordStore::drop_after_first_day(std::vector<RowCounts>& tables) {
  std::vector<std::int32_t> first(visits_.size(), INT32_MAX);
  for (const MedicationRow& row : medications_) {
    if (row.day != MedicationRow::kNoDay) first[row.visit] = std::min(first[row.visit], row.day);
  }
  std::erase_if(medications_, [&](const MedicationRow& row) {
    if (row.day == first[row.visit]) return false;
    tables[row.table].dropped(row.day == MedicationRow::kNoDay
                                  ? "no date (med_window=first_day)"
                                  : "after the first day (med_window=first_day)");
    return true;
  });
}

// (visit, class) pairs as visit << 32 | class, sorted and distinct.
std::vector<std::uint64_t> RecordStore::visit_classes(const CodeResolver& resolver,
                                                      std::vector<RowCounts>& tables,
                                                      data::Accounting& accounting) {
  std::vector<std::uint64_t> code_rows;
  code_rows.reserve(medications_.size());
  for (const MedicationRow& row : medications_) {
    if (resolver.classes(row.code).empty()) {
      tables[row.table].dropped("no medication class known for the code");
      resolver.count_unmapped_medication(row.code, accounting);
    } else {
      tables[row.table].kept();
      code_rows.push_back(std::uint64_t{row.visit} << 32 | row.code);
    }
  }
  medications_ = {};
  // Repeats go before the classes are written out: a drug is ordered many times in one stay.
  std::sort(code_rows.begin(), code_rows.end());
  code_rows.erase(std::unique(code_rows.begin(), code_rows.end()), code_rows.end());
  std::vector<std::uint64_t> out;
  for (const std::uint64_t row : code_rows) {
    for (const std::uint32_t atc : resolver.classes(static_cast<std::uint32_t>(row))) {
      out.push_back((row >> 32 << 32) | atc);
    }
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

// The codes of `visit` from position `at` of the sorted rows, which moves behind them.
std::vector<codes::MedicalCode> RecordStore::take_codes(data::Field field, std::uint32_t visit,
                                                        std::size_t& at,
                                                        const CodeResolver& resolver) const {
  const auto& rows = coded_.at(static_cast<std::size_t>(field));
  std::vector<codes::MedicalCode> out;
  for (; at < rows.size() && rows[at].visit == visit; ++at)
    out.push_back(resolver.code(rows[at].code));
  return out;
}

std::vector<data::RawPatient> RecordStore::finish(const data::CohortPolicy& policy,
                                                  const CodeResolver& resolver,
                                                  std::vector<RowCounts>& tables,
                                                  data::Accounting& accounting) {
  if (policy.med_window == "first_day") drop_after_first_day(tables);
  const std::vector<std::uint64_t> classes = visit_classes(resolver, tables, accounting);
  for (auto& rows : coded_) {
    std::stable_sort(rows.begin(), rows.end(), [](const CodedRow& a, const CodedRow& b) {
      return std::tie(a.visit, a.order) < std::tie(b.visit, b.order);
    });
  }
  std::vector<data::RawPatient> out(patients_.size());
  for (std::size_t i = 0; i < patients_.size(); ++i) out[i].id = ids_.text(patients_[i]);
  std::array<std::size_t, 2> at{};
  std::size_t next_class = 0;
  for (std::uint32_t v = 0; v < visits_.size(); ++v) {
    data::RawVisit& visit = out[visits_[v].patient].visits.emplace_back();
    visit.id = ids_.text(visits_[v].id);
    visit.time = visits_[v].time;
    visit.diagnoses = take_codes(data::Field::kDiagnoses, v, at[0], resolver);
    visit.procedures = take_codes(data::Field::kProcedures, v, at[1], resolver);
    for (; next_class < classes.size() && classes[next_class] >> 32 == v; ++next_class) {
      visit.medications.push_back(resolver.code(static_cast<std::uint32_t>(classes[next_class])));
    }
  }
  *this = RecordStore();
  return out;
}

}  // namespace theriac::readers
