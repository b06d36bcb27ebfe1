// One hospital in one period: its habits, and the calendar of code systems.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "cpp/core/base/random.h"
#include "cpp/core/generate/clinical_index.h"
#include "cpp/core/generate/cohort.h"

namespace theriac::generate {

inline constexpr std::int64_t kDay = 86400;  // seconds
inline constexpr double kDaysPerYear = 365.25;

// Seconds since 1970-01-01. Hospitals in the United States changed from ICD-9-CM to ICD-10-CM and
// ICD-10-PCS for discharges on and after 2015-10-01.
inline constexpr std::int64_t kIcd10Start = 1443657600;

struct Period {
  std::int64_t start = 0, end = 0;
  std::int64_t icd10_from = 0;  // admissions from here on are coded in ICD-10
  std::int64_t late_from = 0;   // late leaf codes come into use here (70 % of the period)
  double years_at(std::int64_t time) const {
    return static_cast<double>(time - start) / static_cast<double>(kDay) / kDaysPerYear;
  }
};
Period period_of(const CohortOptions& options);

// Which hospital codes how and prescribes what. A function of (seed, hospital) alone; immutable,
// may be shared between threads. Differences between hospitals are log-normal around the clinical
// table.
class Hospital {
 public:
  explicit Hospital(const CohortOptions& options);

  const Period& period() const { return period_; }
  const ClinicalIndex& clinic() const { return clinic_; }
  Random patient_stream(std::int64_t patient) const;

  double case_mix(int condition) const { return case_mix_[static_cast<std::size_t>(condition)]; }
  double thoroughness() const { return thoroughness_; }  // P(a present condition is coded)
  double compliance() const { return compliance_; }      // P(a contraindication is honoured)
  double class_orders() const { return class_orders_; }  // share of orders coded at ATC level 4
  double mean_age() const { return mean_age_; }
  double routine_probability(int routine) const {
    return routine_probability_[static_cast<std::size_t>(routine)];
  }
  // Current preference for an alternative: usual practice, tilted by habit, drifting over the
  // years.
  double preference(const IndexedAlternative& alternative, std::int64_t time) const;
  int choose_drug(const DrugRange& drugs, Random& random) const;
  // A leaf of the family as coded here at that time: the least specific one, or with the hospital's
  // coding depth a specific one in use.
  int choose_leaf(const IndexedCodes& codes, std::int64_t time, Random& random) const;
  bool late(const IndexedCodes& codes, int leaf) const {
    return late_[static_cast<std::size_t>(codes.habit + leaf)];
  }

 private:
  void draw_habits(Random random);
  void choose_late_leaves(std::int64_t seed, double share);

  const ClinicalIndex& clinic_;
  Period period_;
  std::uint64_t patient_seed_ = 0;
  double thoroughness_ = 0, depth_ = 0, compliance_ = 0, class_orders_ = 0, mean_age_ = 0;
  std::vector<double> case_mix_;             // [conditions]
  std::vector<double> tilt_, drift_;         // [alternatives]; log scale, drift a year
  std::vector<double> drug_weight_;          // [drugs]
  std::vector<double> leaf_weight_;          // [leaves]
  std::vector<double> routine_probability_;  // [routines]
  std::vector<bool> late_;                   // [leaves]
};

}  // namespace theriac::generate
