#include "cpp/core/generate/patient.h"

#include <algorithm>
#include <cmath>

#include "cpp/core/generate/prescriber.h"

namespace theriac::generate {
namespace {

constexpr double kYoungShare = 0.12;      // younger adults among inpatients
constexpr double kSingleVisit = 0.13;     // patients seen once
constexpr double kReadmission = 0.25;     // share of gaps that are early readmissions
constexpr double kSameSubtype = 0.85;     // a chronic condition keeps its leaf code between stays
constexpr double kExtraProcedure = 0.55;  // a further routine procedure
constexpr double kNoProcedure = 0.03;     // stays without any procedure code
constexpr std::size_t kMostVisits = 30;
constexpr std::size_t kMostDiagnoses = 15;
constexpr std::size_t kMostProcedures = 6;

bool suits(const Condition& condition, bool female) {
  return condition.sex == Sex::kAny || (condition.sex == Sex::kFemale) == female;
}

std::int64_t days(double count) {
  return static_cast<std::int64_t>(count * static_cast<double>(kDay));
}

double exponential(Random& random, double mean) { return -mean * std::log1p(-random.uniform()); }

// Makes one patient; used once.
class Simulator {
 public:
  Simulator(const Hospital& hospital, std::int64_t index)
      : hospital_(hospital),
        clinic_(hospital.clinic()),
        random_(hospital.patient_stream(index)),
        prescriber_(hospital, random_),
        onset_(static_cast<std::size_t>(clinic_.chronic), kNever),
        last_admitted_(clinic_.conditions.size(), -kNever),
        subtype_{std::vector<int>(static_cast<std::size_t>(clinic_.chronic), -1),
                 std::vector<int>(static_cast<std::size_t>(clinic_.chronic), -1)} {
    patient_.index = index;
  }

  Patient run() {
    draw_person();
    draw_chronic_conditions();
    for (const std::int64_t admit : draw_admissions()) {
      if (patient_.death) break;
      if (!patient_.visits.empty() && admit <= patient_.visits.back().discharge + kDay) continue;
      add_visit(admit);
    }
    return std::move(patient_);
  }

 private:
  static constexpr std::int64_t kNever = INT64_MAX / 4;

  const IndexedCondition& condition(int id) const {
    return clinic_.conditions[static_cast<std::size_t>(id)];
  }
  bool has(int chronic, std::int64_t time) const {
    return onset_[static_cast<std::size_t>(chronic)] <= time;
  }

  void draw_person();
  void draw_chronic_conditions();
  void set_onset(int id, std::int64_t time);
  std::vector<std::int64_t> draw_admissions();

  void add_visit(std::int64_t admit);
  bool present(const Visit& visit, int id) const;
  bool possible(const IndexedCondition& candidate, std::int64_t time) const;
  double risk_factor(const IndexedCondition& candidate, std::int64_t time) const;
  int draw_reason(std::int64_t time);
  void draw_complications(Visit& visit);
  void draw_stay(Visit& visit);
  void code_diagnoses(Visit& visit);
  void code(Visit& visit, int id);
  int leaf_of(const Visit& visit, int id);
  void do_procedures(Visit& visit);
  void do_procedure(Visit& visit, int id);
  void leave(Visit& visit);

  const Hospital& hospital_;
  const ClinicalIndex& clinic_;
  Random random_;
  Prescriber prescriber_;
  Patient patient_;
  std::vector<std::int64_t> onset_;          // [chronic]
  std::vector<std::int64_t> last_admitted_;  // [conditions]: when last the reason for admission
  std::vector<int> subtype_[2];              // [icd9, icd10][chronic]: leaf used last, -1 none
};

void Simulator::draw_person() {
  patient_.female = random_.chance(0.52);
  const bool young = random_.chance(kYoungShare);
  const double age =
      young ? 32 + 7 * random_.normal() : hospital_.mean_age() + 14 * random_.normal();
  const Period& period = hospital_.period();
  patient_.birth = period.start - days(std::clamp(age, 18.0, 95.0) * kDaysPerYear);
}

void Simulator::draw_chronic_conditions() {
  for (int id = 0; id < clinic_.chronic; ++id) {
    const IndexedCondition& candidate = condition(id);
    const Condition& table = *candidate.table;
    if (!suits(table, patient_.female)) continue;
    double chance = table.frequency * hospital_.case_mix(id);
    std::int64_t earliest = 0;
    bool caused = true;
    for (const int cause : candidate.needs) {
      const std::int64_t since = onset_[static_cast<std::size_t>(cause)];
      caused = caused && since < kNever;
      earliest = std::max(earliest, since);
    }
    if (!caused) continue;
    for (const IndexedLink& risk : candidate.risks) {
      if (onset_[static_cast<std::size_t>(risk.target)] < kNever) chance *= risk.value;
    }
    if (!random_.chance(std::min(chance, 0.95))) continue;
    // Sum of two uniforms: most onsets in the middle of the range.
    const double within = 0.5 * (random_.uniform() + random_.uniform());
    const double age = table.ages.from + within * (table.ages.to - table.ages.from);
    std::int64_t onset = patient_.birth + days(age * kDaysPerYear);
    if (!candidate.needs.empty()) onset = std::max(onset, earliest);
    if (onset < hospital_.period().end) set_onset(id, onset);
  }
}

void Simulator::set_onset(int id, std::int64_t time) {
  std::int64_t& onset = onset_[static_cast<std::size_t>(id)];
  if (onset <= time) return;
  onset = time;
  const auto same = [&](const ChronicOnset& known) { return known.condition == id; };
  const auto known = std::find_if(patient_.chronic.begin(), patient_.chronic.end(), same);
  if (known != patient_.chronic.end()) {
    known->time = time;
  } else {
    patient_.chronic.push_back({id, time});
  }
}

// The sicker, the more stays; gaps are early readmissions or months.
std::vector<std::int64_t> Simulator::draw_admissions() {
  std::size_t count = 1;
  if (!random_.chance(kSingleVisit)) {
    const double more = 0.7 + 0.16 * static_cast<double>(patient_.chronic.size());
    count = 2 + static_cast<std::size_t>(exponential(random_, more));
  }
  count = std::min(count, kMostVisits);
  std::vector<double> times{0};  // days
  while (times.size() < count) {
    const double gap = random_.chance(kReadmission) ? 3 + exponential(random_, 18)
                                                    : 25 + exponential(random_, 230);
    times.push_back(times.back() + gap);
  }
  const Period& period = hospital_.period();
  const double length = static_cast<double>(period.end - period.start) / static_cast<double>(kDay);
  const double room = std::max(length - times.back(), 0.1 * length);
  const double first = random_.uniform() * room;
  std::vector<std::int64_t> admissions;
  for (const double time : times) {
    const double hour = std::clamp(14 + 5 * random_.normal(), 0.0, 23.9);
    const std::int64_t minutes = static_cast<std::int64_t>(hour * 60);
    const auto day = static_cast<std::int64_t>(first + time);
    if (day >= static_cast<std::int64_t>(length)) break;
    admissions.push_back(period.start + day * kDay + minutes * 60);
  }
  return admissions;
}

void Simulator::add_visit(std::int64_t admit) {
  Visit visit;
  visit.number = static_cast<int>(patient_.visits.size());
  visit.admit = admit;
  visit.icd10 = admit >= hospital_.period().icd10_from;
  visit.reason = draw_reason(admit);
  visit.present.push_back(visit.reason);
  last_admitted_[static_cast<std::size_t>(visit.reason)] = admit;
  draw_complications(visit);
  for (const ChronicOnset& chronic : patient_.chronic) {
    if (chronic.time <= admit) visit.present.push_back(chronic.condition);
  }
  draw_stay(visit);
  code_diagnoses(visit);
  do_procedures(visit);
  prescriber_.prescribe(visit);
  leave(visit);
  patient_.visits.push_back(std::move(visit));
}

bool Simulator::present(const Visit& visit, int id) const {
  return std::find(visit.present.begin(), visit.present.end(), id) != visit.present.end();
}

bool Simulator::possible(const IndexedCondition& candidate, std::int64_t time) const {
  const Condition& table = *candidate.table;
  const double age = patient_.age_at(time);
  if (!suits(table, patient_.female) || age < table.ages.from || age > table.ages.to) return false;
  const auto here = [&](int id) { return has(id, time); };
  return std::all_of(candidate.needs.begin(), candidate.needs.end(), here) &&
         (candidate.needs_any.empty() ||
          std::any_of(candidate.needs_any.begin(), candidate.needs_any.end(), here));
}

double Simulator::risk_factor(const IndexedCondition& candidate, std::int64_t time) const {
  double factor = 1;
  for (const IndexedLink& risk : candidate.risks) {
    if (has(risk.target, time)) factor *= risk.value;
  }
  return factor;
}

int Simulator::draw_reason(std::int64_t time) {
  std::vector<double> weights;
  for (int id = clinic_.chronic; id < static_cast<int>(clinic_.conditions.size()); ++id) {
    const IndexedCondition& candidate = condition(id);
    const std::int64_t again =
        last_admitted_[static_cast<std::size_t>(id)] + days(candidate.table->again_after);
    const bool ready = candidate.table->again_after <= 0 || time >= again;
    const bool eligible = candidate.table->frequency > 0 && ready && possible(candidate, time);
    weights.push_back(eligible ? candidate.table->frequency * hospital_.case_mix(id) *
                                     risk_factor(candidate, time)
                               : 0.0);
  }
  return clinic_.chronic + static_cast<int>(random_.weighted(weights));
}

// Complications of the reason and of each other, then what happens to come along.
void Simulator::draw_complications(Visit& visit) {
  const auto consider = [&](int id, double probability) {
    const IndexedCondition& candidate = condition(id);
    if (present(visit, id) || !possible(candidate, visit.admit)) return;
    const double chance = std::min(probability * risk_factor(candidate, visit.admit), 0.9);
    if (random_.chance(chance)) visit.present.push_back(id);
  };
  for (std::size_t next = 0; next < visit.present.size(); ++next) {  // grows while it is read
    for (const IndexedLink& link : condition(visit.present[next]).brings) {
      consider(link.target, link.value);
    }
  }
  for (int id = clinic_.chronic; id < static_cast<int>(clinic_.conditions.size()); ++id) {
    const double incidental = condition(id).table->incidental;
    if (incidental > 0) consider(id, incidental);
  }
}

void Simulator::draw_stay(Visit& visit) {
  double longest = 0, death = 0;
  for (const int id : visit.present) {
    if (id < clinic_.chronic) continue;
    longest = std::max(longest, condition(id).table->days);
    death = std::max(death, condition(id).table->death);
  }
  const double length = std::clamp(longest * std::exp(0.45 * random_.normal()), 0.4, 60.0);
  visit.discharge = visit.admit + days(length) / 60 * 60;
  const double age = patient_.age_at(visit.admit);
  visit.died = random_.chance(std::min(death * std::exp((age - 70) / 18), 0.6));
}

void Simulator::code_diagnoses(Visit& visit) {
  const IndexedCondition& reason = condition(visit.reason);
  code(visit, visit.reason);
  for (const auto* causes : {&reason.needs, &reason.needs_any}) {
    for (const int id : *causes) {
      if (has(id, visit.admit)) code(visit, id);
    }
  }
  for (const int id : visit.present) {
    if (random_.chance(hospital_.thoroughness())) code(visit, id);
  }
}

void Simulator::code(Visit& visit, int id) {
  if (visit.diagnoses.size() >= kMostDiagnoses) return;
  const IndexedCodes& family = visit.icd10 ? condition(id).icd10 : condition(id).icd9;
  if (family.size() == 0) return;
  const auto same = [&](const CodedEntry& coded) { return coded.entry == id; };
  if (std::any_of(visit.diagnoses.begin(), visit.diagnoses.end(), same)) return;
  for (const int other : visit.present) {
    const auto& redundant = condition(other).replaces;
    if (std::find(redundant.begin(), redundant.end(), id) != redundant.end()) return;
  }
  visit.diagnoses.push_back({id, family.code(leaf_of(visit, id)), visit.admit});
}

int Simulator::leaf_of(const Visit& visit, int id) {
  const IndexedCodes& family = visit.icd10 ? condition(id).icd10 : condition(id).icd9;
  if (id >= clinic_.chronic) return hospital_.choose_leaf(family, visit.admit, random_);
  int& last = subtype_[visit.icd10 ? 1 : 0][static_cast<std::size_t>(id)];
  if (last < 0 || !random_.chance(kSameSubtype)) {
    last = hospital_.choose_leaf(family, visit.admit, random_);
  }
  return last;
}

void Simulator::do_procedures(Visit& visit) {
  for (const int id : visit.present) {
    for (const IndexedLink& link : condition(id).procedures) {
      if (random_.chance(link.value)) do_procedure(visit, link.target);
    }
  }
  const bool extra =
      visit.procedures.empty() ? !random_.chance(kNoProcedure) : random_.chance(kExtraProcedure);
  if (!extra) return;
  std::vector<double> weights;
  for (const IndexedLink& link : clinic_.routine_procedures) weights.push_back(link.value);
  do_procedure(visit, clinic_.routine_procedures[random_.weighted(weights)].target);
}

void Simulator::do_procedure(Visit& visit, int id) {
  const auto same = [&](const CodedEntry& done) { return done.entry == id; };
  if (visit.procedures.size() >= kMostProcedures ||
      std::any_of(visit.procedures.begin(), visit.procedures.end(), same)) {
    return;
  }
  const IndexedProcedure& procedure = clinic_.procedures[static_cast<std::size_t>(id)];
  const IndexedCodes& family = visit.icd10 ? procedure.icd10 : procedure.icd9;
  const int leaf = hospital_.choose_leaf(family, visit.admit, random_);
  const double at = random_.uniform() * static_cast<double>(visit.discharge - visit.admit);
  visit.procedures.push_back({id, family.code(leaf), visit.admit + static_cast<std::int64_t>(at)});
}

void Simulator::leave(Visit& visit) {
  if (visit.died) {
    patient_.death = visit.discharge;
    return;
  }
  for (const int id : visit.present) {
    if (id < clinic_.chronic) continue;
    for (const IndexedLink& link : condition(id).leaves_behind) {
      const bool suited = suits(*condition(link.target).table, patient_.female);
      if (suited && random_.chance(link.value)) set_onset(link.target, visit.discharge);
    }
  }
}

}  // namespace

Patient simulate_patient(const Hospital& hospital, std::int64_t index) {
  return Simulator(hospital, index).run();
}

}  // namespace theriac::generate
