#include "cpp/core/data/cohort_policy_apply.h"

#include <algorithm>
#include <string>
#include <unordered_set>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/data/official_lists.h"

namespace theriac::data {
namespace {

using codes::MedicalCode;
using Codes = std::vector<MedicalCode>;

constexpr std::string_view kPatients = "cohort patients";
constexpr std::string_view kVisits = "cohort visits";
constexpr std::string_view kRepeated = "repeated in the visit";

struct FieldTable {
  Codes RawVisit::*codes;
  std::string_view name;     // of its accounting table
  std::string_view lacking;  // in the reason a visit is dropped for
};
constexpr FieldTable kFieldTables[] = {
    {&RawVisit::diagnoses, "cohort diagnoses", "diagnoses"},
    {&RawVisit::procedures, "cohort procedures", "procedures"},
    {&RawVisit::medications, "cohort medications", "medications"}};

// "0012" and "12" are the same number; nothing is left of "0".
std::string_view without_zeros(std::string_view digits) noexcept {
  const std::size_t first = digits.find_first_not_of('0');
  return first == std::string_view::npos ? std::string_view() : digits.substr(first);
}

bool all_digits(std::string_view text) noexcept {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Takes raw patients through the policy step by step. Every step leaves the books balanced.
class PolicyRun {
 public:
  PolicyRun(std::vector<RawPatient> patients, const CohortPolicy& policy, Accounting& accounting)
      : policy_(policy), accounting_(accounting), lists_(policy), patients_(std::move(patients)) {}

  void clean_codes();
  void keep_frequent_diagnoses();
  void drop_visits();
  void drop_patients();
  void order();
  Cohort build(Json provenance);

 private:
  void count_input(const RawPatient& patient);
  void resolve_unknown(Codes& set, std::string_view table);
  void drop_repeats(Codes& set, std::string_view table);
  std::string reason_to_drop(const RawVisit& visit) const;
  void count_dropped_codes(const RawVisit& visit, std::string_view reason);
  bool visit_before(const RawVisit& a, const RawVisit& b) const;

  const CohortPolicy& policy_;
  Accounting& accounting_;
  OfficialLists lists_;
  std::vector<RawPatient> patients_;
};

void PolicyRun::count_input(const RawPatient& patient) {
  accounting_.read(kPatients);
  accounting_.read(kVisits, static_cast<std::int64_t>(patient.visits.size()));
  for (const RawVisit& visit : patient.visits) {
    for (const FieldTable& field : kFieldTables) {
      accounting_.read(field.name, static_cast<std::int64_t>((visit.*field.codes).size()));
    }
  }
}

void PolicyRun::resolve_unknown(Codes& set, std::string_view table) {
  std::size_t kept = 0;
  for (const MedicalCode& code : set) {
    const OfficialLists::Answer& answer = lists_.resolve(code);
    if (!answer.known) accounting_.unmapped(codes::system_name(code.system), code.text);
    if (answer.code) {
      set[kept++] = *answer.code;
    } else {
      accounting_.dropped(table, "not in the official list");
    }
  }
  set.resize(kept);
}

void PolicyRun::drop_repeats(Codes& set, std::string_view table) {
  std::unordered_set<MedicalCode> seen;
  std::erase_if(set, [&](const MedicalCode& code) {
    if (seen.insert(code).second) return false;
    accounting_.dropped(table, kRepeated);
    return true;
  });
}

void PolicyRun::clean_codes() {
  for (RawPatient& patient : patients_) {
    count_input(patient);
    for (RawVisit& visit : patient.visits) {
      resolve_unknown(visit.diagnoses, "cohort diagnoses");
      resolve_unknown(visit.procedures, "cohort procedures");
      for (const FieldTable& field : kFieldTables) drop_repeats(visit.*field.codes, field.name);
      std::sort(visit.medications.begin(), visit.medications.end());
    }
  }
}

void PolicyRun::keep_frequent_diagnoses() {
  if (policy_.top_k_dx == 0) return;
  std::unordered_map<MedicalCode, std::int64_t> counts;
  for (const RawPatient& patient : patients_) {
    for (const RawVisit& visit : patient.visits) {
      for (const MedicalCode& code : visit.diagnoses) ++counts[code];
    }
  }
  if (static_cast<std::int64_t>(counts.size()) <= policy_.top_k_dx) return;
  std::vector<std::pair<MedicalCode, std::int64_t>> ranked(counts.begin(), counts.end());
  std::sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  std::unordered_set<MedicalCode> frequent;
  for (std::int64_t i = 0; i < policy_.top_k_dx; ++i) {
    frequent.insert(std::move(ranked[static_cast<std::size_t>(i)].first));
  }
  for (RawPatient& patient : patients_) {
    for (RawVisit& visit : patient.visits) {
      const auto rare = std::erase_if(
          visit.diagnoses, [&](const MedicalCode& code) { return !frequent.contains(code); });
      if (rare == 0) continue;
      accounting_.dropped("cohort diagnoses", "not among the top_k_dx most frequent",
                          static_cast<std::int64_t>(rare));
    }
  }
}

// Empty when the visit stays.
std::string PolicyRun::reason_to_drop(const RawVisit& visit) const {
  std::string lacking;
  int fields = 0;
  for (const FieldTable& field : kFieldTables) {
    if (!(visit.*field.codes).empty()) continue;
    lacking += (lacking.empty() ? "" : ", ") + std::string(field.lacking);
    ++fields;
  }
  if (fields == 0 || (!policy_.require_all_three && fields < kFieldCount)) return {};
  return "without " + lacking;
}

void PolicyRun::count_dropped_codes(const RawVisit& visit, std::string_view reason) {
  for (const FieldTable& field : kFieldTables) {
    const auto rows = static_cast<std::int64_t>((visit.*field.codes).size());
    if (rows > 0) accounting_.dropped(field.name, reason, rows);
  }
}

void PolicyRun::drop_visits() {
  for (RawPatient& patient : patients_) {
    std::erase_if(patient.visits, [&](const RawVisit& visit) {
      const std::string reason = reason_to_drop(visit);
      if (reason.empty()) return false;
      accounting_.dropped(kVisits, reason);
      count_dropped_codes(visit, "visit dropped");
      return true;
    });
  }
}

void PolicyRun::drop_patients() {
  std::erase_if(patients_, [&](const RawPatient& patient) {
    const auto visits = static_cast<std::int64_t>(patient.visits.size());
    if (visits >= policy_.min_visits) return false;
    accounting_.dropped(kPatients,
                        visits == 0 ? "no usable visit" : "fewer usable visits than min_visits");
    if (visits > 0) accounting_.dropped(kVisits, "patient dropped", visits);
    for (const RawVisit& visit : patient.visits) count_dropped_codes(visit, "patient dropped");
    return true;
  });
}

bool PolicyRun::visit_before(const RawVisit& a, const RawVisit& b) const {
  if (policy_.visit_order == "visit_id" || a.time == b.time) return a.id < b.id;
  if (a.time == kNoTime || b.time == kNoTime) return b.time == kNoTime;
  return a.time < b.time;
}

void PolicyRun::order() {
  std::sort(patients_.begin(), patients_.end(),
            [](const RawPatient& a, const RawPatient& b) { return id_before(a.id, b.id); });
  for (RawPatient& patient : patients_) {
    std::sort(patient.visits.begin(), patient.visits.end(),
              [this](const RawVisit& a, const RawVisit& b) { return visit_before(a, b); });
  }
}

Cohort PolicyRun::build(Json provenance) {
  CohortBuilder builder;
  for (RawPatient& patient : patients_) {
    builder.begin_patient(std::move(patient.id));
    accounting_.kept(kPatients);
    accounting_.kept(kVisits, static_cast<std::int64_t>(patient.visits.size()));
    for (RawVisit& visit : patient.visits) {
      builder.add_visit(std::move(visit.id), visit.time, visit.diagnoses, visit.procedures,
                        visit.medications);
      for (const FieldTable& field : kFieldTables) {
        accounting_.kept(field.name, static_cast<std::int64_t>((visit.*field.codes).size()));
      }
    }
    patient.visits = {};  // gives its memory back while the cohort grows
  }
  if (provenance.is_null()) provenance = Json::object();
  provenance["policy"] = CohortPolicy::table().effective_json(policy_);
  provenance["lists"] = lists_.fingerprints();
  builder.set_provenance(std::move(provenance));
  builder.set_accounting(accounting_.to_json());
  return std::move(builder).finish();
}

}  // namespace

bool id_before(std::string_view a, std::string_view b) noexcept {
  const bool a_number = all_digits(a), b_number = all_digits(b);
  if (a_number != b_number) return a_number;
  if (!a_number) return a < b;
  const std::string_view x = without_zeros(a), y = without_zeros(b);
  if (x.size() != y.size()) return x.size() < y.size();
  return x != y ? x < y : a < b;
}

std::vector<MedicalCode> medication_classes(const codes::CodeMaps& maps,
                                            const MedicalCode& medication,
                                            const CohortPolicy& policy) {
  Codes classes;
  for (std::string& text : maps.atc3(medication)) {
    classes.push_back({codes::System::kAtc, std::move(text)});
    if (policy.med_map == "first") break;
  }
  return classes;
}

Cohort apply_policy(std::vector<RawPatient> patients, const CohortPolicy& policy,
                    Accounting& accounting, Json provenance) {
  PolicyRun run(std::move(patients), policy, accounting);
  run.clean_codes();
  run.keep_frequent_diagnoses();
  run.drop_visits();
  run.drop_patients();
  run.order();
  return run.build(std::move(provenance));
}

}  // namespace theriac::data
