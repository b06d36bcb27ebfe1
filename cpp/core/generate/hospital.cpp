#include "cpp/core/generate/hospital.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string>
#include <unordered_set>

namespace theriac::generate {
namespace {

constexpr double kLateShareOfPeriod = 0.7;
constexpr double kLateBoost = 3.0;  // a code that has just come into use is used a lot

std::vector<double> log_normal(Random& random, std::size_t count, double sigma) {
  std::vector<double> values(count);
  for (double& value : values) value = std::exp(sigma * random.normal());
  return values;
}

double shift_odds(double probability, double by) {
  const double odds = probability / (1 - probability) * std::exp(by);
  return odds / (1 + odds);
}

// Families whose codes may be marked late: those of the code systems in use when the period ends.
std::vector<const IndexedCodes*> families_at_end(const ClinicalIndex& clinic, bool icd10) {
  std::vector<const IndexedCodes*> families;
  for (const auto& condition : clinic.conditions) {
    families.push_back(icd10 ? &condition.icd10 : &condition.icd9);
  }
  for (const auto& procedure : clinic.procedures) {
    families.push_back(icd10 ? &procedure.icd10 : &procedure.icd9);
  }
  return families;
}

}  // namespace

Period period_of(const CohortOptions& options) {
  const auto length =
      static_cast<std::int64_t>(static_cast<double>(options.years) * kDaysPerYear) * kDay;
  Period period;
  period.icd10_from = kIcd10Start;
  if (options.icd_version == "9") {
    period.start = kIcd10Start - length;
  } else if (options.icd_version == "10") {
    period.start = kIcd10Start;
  } else {
    period.start = kIcd10Start - length / 2;
  }
  period.end = period.start + length;
  period.late_from =
      period.start + static_cast<std::int64_t>(kLateShareOfPeriod * static_cast<double>(length));
  return period;
}

Hospital::Hospital(const CohortOptions& options)
    : clinic_(ClinicalIndex::shared()), period_(period_of(options)) {
  const auto seed = static_cast<std::uint64_t>(options.seed);
  const std::string name = "hospital " + std::to_string(options.hospital);
  patient_seed_ = derive_seed(seed, name + " patients");
  draw_habits(Random(seed, name + " habits"));
  choose_late_leaves(options.seed, options.late_leaf_share);
}

void Hospital::draw_habits(Random random) {
  thoroughness_ = random.uniform(0.78, 0.96);
  depth_ = random.uniform(0.40, 0.85);
  compliance_ = random.uniform(0.90, 0.98);
  class_orders_ = random.uniform(0.0, 0.15);
  mean_age_ = random.uniform(60.0, 67.0);
  case_mix_ = log_normal(random, clinic_.conditions.size(), 0.25);
  const auto alternatives = static_cast<std::size_t>(clinic_.alternatives);
  tilt_.resize(alternatives);
  drift_.resize(alternatives);
  for (double& value : tilt_) value = 0.8 * random.normal();
  for (double& value : drift_) value = 0.10 * random.normal();
  drug_weight_ = log_normal(random, drugs().size(), 0.9);
  leaf_weight_ = log_normal(random, static_cast<std::size_t>(clinic_.leaves), 0.9);
  for (const IndexedRoutine& routine : clinic_.routines) {
    routine_probability_.push_back(
        shift_odds(routine.treatment.probability, 0.5 * random.normal()));
  }
}

// Late codes come from the seed, not the hospital: a code system changes for everyone at once. The
// first, least specific code of a family is never late, so that every condition can always be
// coded.
void Hospital::choose_late_leaves(std::int64_t seed, double share) {
  late_.assign(static_cast<std::size_t>(clinic_.leaves), false);
  const auto families = families_at_end(clinic_, period_.end > period_.icd10_from);
  std::set<std::string_view> first, other;  // ordered, so that the shuffle starts from one order
  for (const IndexedCodes* family : families) {
    for (int leaf = 0; leaf < family->size(); ++leaf) {
      (leaf == 0 ? first : other).insert(family->code(leaf));
    }
  }
  std::vector<std::string_view> eligible;
  std::set_difference(other.begin(), other.end(), first.begin(), first.end(),
                      std::back_inserter(eligible));
  const auto wanted = static_cast<std::size_t>(
      std::lround(share * static_cast<double>(first.size() + eligible.size())));
  Random(static_cast<std::uint64_t>(seed), "late leaf codes").shuffle(eligible);
  eligible.resize(std::min(wanted, eligible.size()));
  const std::unordered_set<std::string_view> chosen(eligible.begin(), eligible.end());
  for (const IndexedCodes* family : families) {
    for (int leaf = 1; leaf < family->size(); ++leaf) {
      late_[static_cast<std::size_t>(family->habit + leaf)] = chosen.contains(family->code(leaf));
    }
  }
}

Random Hospital::patient_stream(std::int64_t patient) const {
  return Random(patient_seed_, "patient", static_cast<std::uint64_t>(patient));
}

double Hospital::preference(const IndexedAlternative& alternative, std::int64_t time) const {
  const auto habit = static_cast<std::size_t>(alternative.habit);
  return alternative.weight * std::exp(tilt_[habit] + drift_[habit] * period_.years_at(time));
}

int Hospital::choose_drug(const DrugRange& range, Random& random) const {
  double total = 0;
  for (int drug = range.first; drug < range.last; ++drug) {
    total += drug_weight_[static_cast<std::size_t>(drug)];
  }
  double left = random.uniform() * total;
  for (int drug = range.first; drug + 1 < range.last; ++drug) {
    left -= drug_weight_[static_cast<std::size_t>(drug)];
    if (left < 0) return drug;
  }
  return range.last - 1;
}

int Hospital::choose_leaf(const IndexedCodes& codes, std::int64_t time, Random& random) const {
  if (codes.size() == 1 || !random.chance(depth_)) return 0;
  const auto weight = [&](int leaf) {
    const double usual = leaf_weight_[static_cast<std::size_t>(codes.habit + leaf)];
    if (!late(codes, leaf)) return usual;
    return time < period_.late_from ? 0.0 : kLateBoost * usual;
  };
  double total = 0;
  for (int leaf = 1; leaf < codes.size(); ++leaf) total += weight(leaf);
  double left = random.uniform() * total;
  int last_in_use = 0;
  for (int leaf = 1; leaf < codes.size(); ++leaf) {
    if (weight(leaf) <= 0) continue;
    last_in_use = leaf;
    left -= weight(leaf);
    if (left < 0) break;
  }
  return last_in_use;
}

}  // namespace theriac::generate
