#include "cpp/core/generate/prescriber.h"

#include <algorithm>
#include <cmath>

namespace theriac::generate {
namespace {

constexpr double kRevise = 0.04;      // chance per stay that a long-term choice is made anew
constexpr double kContinued = 0.96;   // chance that a long-term drug is ordered in a stay
constexpr double kUncoded = 0.12;     // chance of one order without a code
constexpr double kOnAdmission = 0.7;  // share of acute orders written on the day of admission

bool ordered(const Visit& visit, const DrugRange& range) {
  return std::any_of(visit.orders.begin(), visit.orders.end(),
                     [&](const Order& order) { return range.contains(order.drug); });
}

std::string_view atc3(int drug) { return drugs()[static_cast<std::size_t>(drug)].atc.substr(0, 4); }

}  // namespace

Prescriber::Prescriber(const Hospital& hospital, Random& random)
    : hospital_(hospital),
      clinic_(hospital.clinic()),
      random_(random),
      long_term_(static_cast<std::size_t>(hospital.clinic().treatments)) {}

// What is urgent comes first, so that long-term drugs give way to it and not the other way round.
void Prescriber::prescribe(Visit& visit) {
  for (const int id : visit.present) {
    if (id < clinic_.chronic) continue;
    const auto& condition = clinic_.conditions[static_cast<std::size_t>(id)];
    treat_acute(visit, condition.treatments, condition.table->name);
  }
  for (const CodedEntry& done : visit.procedures) {
    const auto& procedure = clinic_.procedures[static_cast<std::size_t>(done.entry)];
    treat_acute(visit, procedure.treatments, procedure.table->name);
  }
  for (const int id : visit.present) {
    if (id < clinic_.chronic) {
      continue_long_term(visit, clinic_.conditions[static_cast<std::size_t>(id)]);
    }
  }
  add_routines(visit);
  if (random_.chance(kUncoded)) {
    const auto& orders = uncoded_orders();
    visit.uncoded.push_back(orders[random_.below(orders.size())]);
  }
}

void Prescriber::treat_acute(Visit& visit, const std::vector<IndexedTreatment>& treatments,
                             std::string_view reason) {
  for (const IndexedTreatment& treatment : treatments) {
    if (!random_.chance(treatment.probability)) continue;
    const int drug = choose(visit, treatment);
    if (drug >= 0) order(visit, drug, reason);
  }
}

void Prescriber::continue_long_term(Visit& visit, const IndexedCondition& condition) {
  for (std::size_t t = 0; t < condition.treatments.size(); ++t) {
    LongTerm& state = long_term_[static_cast<std::size_t>(condition.habit) + t];
    if (!state.decided || random_.chance(kRevise)) {
      state.decided = true;
      const bool wanted = random_.chance(condition.treatments[t].probability);
      state.drug = wanted ? choose(visit, condition.treatments[t]) : -1;
    } else if (state.drug >= 0) {
      const Objection against = objection(visit, state.drug);
      if (!against.because.empty()) {
        visit.withheld.push_back({atc3(state.drug), against.because, against.interaction});
        continue;
      }
    }
    if (state.drug >= 0 && random_.chance(kContinued)) {
      order(visit, state.drug, condition.table->name);
    }
  }
}

void Prescriber::add_routines(Visit& visit) {
  for (std::size_t i = 0; i < clinic_.routines.size(); ++i) {
    const IndexedRoutine& routine = clinic_.routines[i];
    if (routine.needs_other && !ordered(visit, routine.with)) continue;
    if (!random_.chance(hospital_.routine_probability(static_cast<int>(i)))) continue;
    const int drug = choose(visit, routine.treatment);
    if (drug >= 0) order(visit, drug, routine.reason);
  }
}

int Prescriber::choose(Visit& visit, const IndexedTreatment& treatment) {
  std::vector<double> weights;
  for (const auto& alternative : treatment.alternatives) {
    // Already ordered for another reason: the treatment is in place.
    if (ordered(visit, alternative.drugs)) return -1;
    weights.push_back(hospital_.preference(alternative, visit.admit));
  }
  for (std::size_t tries = 0; tries < weights.size(); ++tries) {
    const std::size_t pick = random_.weighted(weights);
    const int drug = hospital_.choose_drug(treatment.alternatives[pick].drugs, random_);
    const Objection against = objection(visit, drug);
    if (against.because.empty()) return drug;
    visit.withheld.push_back({atc3(drug), against.because, against.interaction});
    weights[pick] = 0;
    if (std::all_of(weights.begin(), weights.end(), [](double w) { return w <= 0; })) break;
  }
  return -1;
}

Prescriber::Objection Prescriber::objection(const Visit& visit, int drug) {
  Objection found;
  for (const auto& rule : clinic_.contraindications) {
    if (!rule.drugs.contains(drug)) continue;
    for (const int condition : rule.conditions) {
      if (std::find(visit.present.begin(), visit.present.end(), condition) == visit.present.end()) {
        continue;
      }
      found = {clinic_.conditions[static_cast<std::size_t>(condition)].table->name, false};
    }
  }
  for (const auto& rule : clinic_.avoidances) {
    for (const Order& other : visit.orders) {
      const bool clash = (rule.first.contains(drug) && rule.second.contains(other.drug)) ||
                         (rule.second.contains(drug) && rule.first.contains(other.drug));
      if (clash && found.because.empty()) found = {atc3(other.drug), true};
    }
  }
  if (!found.because.empty() && !random_.chance(hospital_.compliance())) return {};
  return found;
}

void Prescriber::order(Visit& visit, int drug, std::string_view reason) {
  const auto same = [&](const Order& other) { return other.drug == drug; };
  if (std::any_of(visit.orders.begin(), visit.orders.end(), same)) return;
  Order placed;
  placed.drug = drug;
  placed.reason = reason;
  placed.class_only = random_.chance(hospital_.class_orders());
  const auto stay = static_cast<double>(visit.discharge - visit.admit);
  const double when = random_.chance(kOnAdmission) ? std::min(4.0 * 3600, 0.5 * stay) : 0.9 * stay;
  placed.time = visit.admit + static_cast<std::int64_t>(random_.uniform() * when);
  visit.orders.push_back(placed);
}

}  // namespace theriac::generate
