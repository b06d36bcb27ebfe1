// A cohort: patients, their visits in order, and each visit's coded diagnoses, procedures and
// medication classes (medication.md section 1).
//
// Columnar and immutable. Every set is a CSR slice of vocabulary ids; visits of a patient are
// contiguous and in the order of the policy (time by default). May be shared between threads.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "cpp/core/base/json.h"
#include "cpp/core/codes/code.h"

namespace theriac::data {

// Codes in a fixed order; the position is the id used inside. Immutable after building.
class Vocabulary {
 public:
  Vocabulary() = default;
  // Throws kDataError on a duplicate, an empty text or one that is not UTF-8.
  explicit Vocabulary(std::vector<codes::MedicalCode> codes);
  std::int32_t size() const noexcept { return static_cast<std::int32_t>(codes_.size()); }
  const codes::MedicalCode& code(std::int32_t id) const {
    return codes_.at(static_cast<std::size_t>(id));
  }
  const std::vector<codes::MedicalCode>& codes() const noexcept { return codes_; }
  std::int32_t find(const codes::MedicalCode& code) const noexcept;  // -1 when absent
  std::string fingerprint() const;                                   // order matters

 private:
  std::vector<codes::MedicalCode> codes_;
  std::unordered_map<codes::MedicalCode, std::int32_t> index_;
};

enum class Field : int { kDiagnoses = 0, kProcedures = 1, kMedications = 2 };
inline constexpr int kFieldCount = 3;
std::string_view field_name(Field field) noexcept;  // "diagnoses", "procedures", "medications"

// One visit's sets, as views into the cohort.
struct VisitView {
  std::string_view id;
  std::int64_t time;  // admission, seconds since 1970-01-01 of the source's own wall clock; kNoTime
                      // if unknown
  std::span<const std::int32_t> diagnoses, procedures, medications;
  std::span<const std::int32_t> field(Field f) const {
    return f == Field::kDiagnoses ? diagnoses : f == Field::kProcedures ? procedures : medications;
  }
};
inline constexpr std::int64_t kNoTime = INT64_MIN;
inline constexpr std::int64_t kFirstTime = -62'135'596'800;  // 0001-01-01 00:00:00
inline constexpr std::int64_t kLastTime = 253'402'300'799;   // 9999-12-31 23:59:59

// "2150-08-07 21:40:00"; empty for kNoTime. Throws kInvalidArgument outside kFirstTime..kLastTime.
std::string format_time(std::int64_t seconds);
// Accepts "YYYY", "YYYY-MM", "YYYY-MM-DD", and a time ("HH:MM" or "HH:MM:SS") after a blank or 'T'
// with optional fraction and zone ("Z", "+HH:MM"); fraction and zone are dropped (wall clock). What
// is left out is the first of its kind ("2150" is 2150-01-01 00:00:00). Throws kDataError
// otherwise, without quoting the text: an admission time is patient data.
std::int64_t parse_time(std::string_view text);

// The columns of a cohort. Shapes: P patients, V visits, and per field N set members over a
// vocabulary.
struct CohortColumns {
  std::vector<std::string> patient_ids;          // [P], distinct, not empty, UTF-8
  std::vector<std::int64_t> patient_offsets{0};  // [P + 1] visit numbers, from 0 to V
  std::vector<std::string> visit_ids;            // [V], distinct within a patient, UTF-8
  std::vector<std::int64_t> times;               // [V], kNoTime or within kFirstTime..kLastTime
  std::array<std::vector<std::int64_t>, kFieldCount> offsets{
      std::vector<std::int64_t>{0}, std::vector<std::int64_t>{0},
      std::vector<std::int64_t>{0}};                       // [V + 1] each, from 0 to N
  std::array<std::vector<std::int32_t>, kFieldCount> ids;  // [N] each, distinct within a visit
  std::array<Vocabulary, kFieldCount> vocabularies;
  Json accounting = Json::object(), provenance = Json::object();
};

class Cohort {
 public:
  Cohort() = default;  // no patients, no vocabulary, no fingerprint: a place to move one into
  // Throws kDataError, naming the column, when columns contradict each other or the shapes above.
  explicit Cohort(CohortColumns columns);

  std::int64_t patients() const noexcept {
    return static_cast<std::int64_t>(columns_.patient_ids.size());
  }
  std::int64_t visits() const noexcept {
    return static_cast<std::int64_t>(columns_.visit_ids.size());
  }
  std::string_view patient_id(std::int64_t patient) const {
    return columns_.patient_ids.at(static_cast<std::size_t>(patient));
  }
  // Visits of a patient: [first, last) in visit numbers.
  std::int64_t first_visit(std::int64_t patient) const {
    return columns_.patient_offsets.at(static_cast<std::size_t>(patient));
  }
  std::int64_t last_visit(std::int64_t patient) const {
    return columns_.patient_offsets.at(static_cast<std::size_t>(patient) + 1);
  }
  VisitView visit(std::int64_t visit) const;
  const Vocabulary& vocabulary(Field field) const {
    return columns_.vocabularies[static_cast<std::size_t>(field)];
  }
  std::span<const std::int64_t> patient_offsets() const noexcept {
    return columns_.patient_offsets;
  }
  std::span<const std::int64_t> offsets(Field field) const {
    return columns_.offsets[static_cast<std::size_t>(field)];
  }
  std::span<const std::int32_t> ids(Field field) const {
    return columns_.ids[static_cast<std::size_t>(field)];
  }
  std::span<const std::int64_t> times() const noexcept { return columns_.times; }
  const CohortColumns& columns() const noexcept { return columns_; }

  // What was read, dropped and why; the policy and map versions used. Documents, kept with the
  // data.
  const Json& accounting() const noexcept { return columns_.accounting; }
  const Json& provenance() const noexcept { return columns_.provenance; }
  // XXH3-128 over vocabularies, ids, times and sets; independent of accounting and provenance.
  const std::string& fingerprint() const noexcept { return fingerprint_; }

 private:
  CohortColumns columns_;
  std::string fingerprint_;
};

// Builds a cohort visit by visit. Patients and visits are kept in the order given; vocabularies are
// sorted by (system, text) unless fixed beforehand.
class CohortBuilder {
 public:
  CohortBuilder() = default;
  // Fixes vocabularies (a split keeps its parent's); codes outside are errors.
  CohortBuilder(Vocabulary diagnoses, Vocabulary procedures, Vocabulary medications);

  void begin_patient(std::string id);  // throws kDataError on a duplicate id
  // Sets are de-duplicated, first occurrence kept, order kept.
  void add_visit(std::string id, std::int64_t time,
                 const std::vector<codes::MedicalCode>& diagnoses,
                 const std::vector<codes::MedicalCode>& procedures,
                 const std::vector<codes::MedicalCode>& medications);
  void set_accounting(Json accounting);
  void set_provenance(Json provenance);
  Cohort finish() &&;

 private:
  // Codes of one field in order of first appearance; sorted into a vocabulary at the end.
  struct Interner {
    std::vector<codes::MedicalCode> codes;
    std::unordered_map<codes::MedicalCode, std::int32_t> index;
    std::vector<std::int64_t> last_visit;  // per code: the visit that took it last, against repeats
  };
  std::int32_t intern(Field field, const codes::MedicalCode& code);
  void append_set(Field field, const std::vector<codes::MedicalCode>& codes);
  void sort_vocabulary(Field field);

  bool fixed_ = false;
  CohortColumns columns_;
  std::array<Interner, kFieldCount> interners_;
  std::unordered_set<std::string> seen_;
};

}  // namespace theriac::data
