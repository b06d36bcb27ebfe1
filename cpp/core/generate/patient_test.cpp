#include "cpp/core/generate/patient.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <unordered_map>

namespace theriac::generate {
namespace {

CohortOptions options_of(std::int64_t hospital, std::int64_t seed = 1) {
  CohortOptions options;
  options.hospital = hospital;
  options.seed = seed;
  return options;
}

std::vector<Patient> simulate(const CohortOptions& options, std::int64_t count) {
  const Hospital hospital(options);
  std::vector<Patient> patients;
  for (std::int64_t i = 0; i < count; ++i) patients.push_back(simulate_patient(hospital, i));
  return patients;
}

int condition_named(std::string_view name) {
  const auto& all = ClinicalIndex::shared().conditions;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].table->name == name) return static_cast<int>(i);
  }
  ADD_FAILURE() << name;
  return -1;
}

const Condition& table_of(int id) {
  return *ClinicalIndex::shared().conditions[static_cast<std::size_t>(id)].table;
}

bool present(const Visit& visit, int id) {
  return std::find(visit.present.begin(), visit.present.end(), id) != visit.present.end();
}

using Classes = std::set<std::string_view>;

Classes classes_of(const Visit& visit) {
  Classes classes;
  for (const Order& order : visit.orders) {
    classes.insert(drugs()[static_cast<std::size_t>(order.drug)].atc.substr(0, 4));
  }
  return classes;
}

double jaccard(const Classes& a, const Classes& b) {
  std::size_t shared = 0;
  for (const auto one : a) shared += b.count(one);
  const std::size_t either = a.size() + b.size() - shared;
  return either == 0 ? 0.0 : static_cast<double>(shared) / static_cast<double>(either);
}

// Everything of a patient that files are made of, as one text.
std::string digest(const Patient& patient) {
  std::string text = std::to_string(patient.birth) + (patient.female ? "f" : "m");
  for (const auto& chronic : patient.chronic) {
    text += "c" + std::to_string(chronic.condition) + "@" + std::to_string(chronic.time);
  }
  for (const Visit& visit : patient.visits) {
    text += "v" + std::to_string(visit.admit) + "-" + std::to_string(visit.discharge);
    for (const auto& coded : visit.diagnoses) text.append("d").append(coded.code);
    for (const auto& done : visit.procedures)
      text.append("p").append(done.code) += std::to_string(done.time);
    for (const auto& order : visit.orders)
      text += "m" + std::to_string(order.drug) + "@" + std::to_string(order.time);
  }
  return text;
}

TEST(Patient, DependsOnHospitalAndIndexOnly) {
  const auto forwards = simulate(options_of(0), 60);
  const Hospital again(options_of(0));
  for (std::int64_t i = 59; i >= 0; --i) {
    EXPECT_EQ(digest(simulate_patient(again, i)), digest(forwards[static_cast<std::size_t>(i)]));
  }
  EXPECT_NE(digest(forwards[0]), digest(forwards[1]));
  EXPECT_NE(digest(simulate(options_of(1), 1)[0]), digest(forwards[0]));
  EXPECT_NE(digest(simulate(options_of(0, 2), 1)[0]), digest(forwards[0]));
}

TEST(Patient, StaysAreInOrderWithinThePeriodAndCodedAsOfTheirDate) {
  const Period period = period_of(options_of(0));
  for (const Patient& patient : simulate(options_of(0), 400)) {
    ASSERT_FALSE(patient.visits.empty());
    EXPECT_GE(patient.age_at(patient.visits.front().admit), 18.0);
    std::int64_t free_from = period.start;
    for (const Visit& visit : patient.visits) {
      EXPECT_GE(visit.admit, free_from);
      EXPECT_LT(visit.admit, period.end);
      EXPECT_GT(visit.discharge, visit.admit);
      EXPECT_EQ(visit.icd10, visit.admit >= kIcd10Start);
      EXPECT_EQ(visit.died, patient.death == visit.discharge);
      for (const Order& order : visit.orders) {
        EXPECT_GE(order.time, visit.admit);
        EXPECT_LE(order.time, visit.discharge);
      }
      free_from = visit.discharge;
    }
  }
}

TEST(Patient, ConditionsFitSexAgeAndCause) {
  for (const Patient& patient : simulate(options_of(2), 600)) {
    for (const auto& chronic : patient.chronic) {
      EXPECT_NE(table_of(chronic.condition).sex, patient.female ? Sex::kMale : Sex::kFemale);
    }
    for (const Visit& visit : patient.visits) {
      const Condition& reason = table_of(visit.reason);
      EXPECT_NE(reason.sex, patient.female ? Sex::kMale : Sex::kFemale) << reason.name;
      const double age = patient.age_at(visit.admit);
      // Ages are completed years.
      EXPECT_TRUE(reason.ages.from <= age && age < reason.ages.to + 1)
          << reason.name << " at " << age;
      for (const auto cause : reason.needs) {
        EXPECT_TRUE(present(visit, condition_named(cause))) << reason.name << " without " << cause;
      }
      EXPECT_FALSE(visit.diagnoses.empty());
    }
  }
}

TEST(Patient, SizesAreThoseOfHospitalData) {
  double visits = 0, diagnoses = 0, procedures = 0, classes = 0, several = 0;
  const auto patients = simulate(options_of(0), 1500);
  Classes all;
  for (const Patient& patient : patients) {
    several += patient.visits.size() >= 2 ? 1 : 0;
    for (const Visit& visit : patient.visits) {
      ++visits;
      diagnoses += static_cast<double>(visit.diagnoses.size());
      procedures += static_cast<double>(visit.procedures.size());
      const Classes given = classes_of(visit);
      classes += static_cast<double>(given.size());
      all.insert(given.begin(), given.end());
      EXPECT_LE(visit.diagnoses.size(), 15U);
    }
  }
  EXPECT_GT(several / static_cast<double>(patients.size()), 0.7);
  EXPECT_NEAR(visits / static_cast<double>(patients.size()), 2.6, 0.6);
  EXPECT_NEAR(diagnoses / visits, 7.0, 2.0);
  EXPECT_NEAR(procedures / visits, 1.8, 0.6);
  EXPECT_NEAR(classes / visits, 10.0, 2.5);
  EXPECT_GE(all.size(), 85U);
  EXPECT_LE(all.size(), 110U);
}

// Share of visits with a class, among those that have a condition and those that have not.
struct Shares {
  double with = 0, without = 0;
};
Shares shares(const std::vector<Patient>& patients, int condition, std::string_view atc3) {
  double given[2] = {0, 0}, count[2] = {1e-9, 1e-9};
  for (const Patient& patient : patients) {
    for (const Visit& visit : patient.visits) {
      const std::size_t side = present(visit, condition) ? 1 : 0;
      ++count[side];
      given[side] += classes_of(visit).contains(atc3) ? 1 : 0;
    }
  }
  return {given[1] / count[1], given[0] / count[0]};
}

TEST(Patient, ConditionsDecideTheClasses) {
  const auto patients = simulate(options_of(0), 2000);
  const std::vector<std::pair<std::string_view, std::string_view>> expected = {
      {"type 1 diabetes", "A10A"},
      {"hypothyroidism", "H03A"},
      {"epilepsy", "N03A"},
      {"gout", "M04A"},
      {"pneumonia", "J01D"},
      {"alcohol withdrawal", "N05B"},
      {"acute heart failure", "C03C"},
      {"delivery", "H01B"},
      {"hypokalaemia", "A12B"},
      {"HIV infection", "J05A"},
      {"Parkinson disease", "N04B"}};
  for (const auto& [condition, atc3] : expected) {
    const Shares found = shares(patients, condition_named(condition), atc3);
    EXPECT_GT(found.with, 0.5) << condition << " " << atc3;
    EXPECT_GT(found.with, 2 * found.without) << condition << " " << atc3;
  }
}

TEST(Patient, ContraindicatedClassesAreHeldBack) {
  const auto patients = simulate(options_of(0), 2500);
  const std::vector<std::pair<std::string_view, std::string_view>> held = {
      {"acute kidney injury", "C09A"},
      {"chronic kidney disease", "M01A"},
      {"heart failure", "M01A"},
      {"gastrointestinal bleeding", "B01A"},
      {"Parkinson disease", "A03F"}};
  for (const auto& [condition, atc3] : held) {
    const Shares found = shares(patients, condition_named(condition), atc3);
    EXPECT_LT(found.with, 0.4 * found.without) << condition << " " << atc3;
  }
  std::size_t withheld = 0;
  for (const Patient& patient : patients) {
    for (const Visit& visit : patient.visits) withheld += visit.withheld.size();
  }
  EXPECT_GT(withheld, 100U);
}

TEST(Patient, LateLeavesAppearOnlyLate) {
  CohortOptions options = options_of(0);
  options.late_leaf_share = 0.15;
  const Hospital hospital(options);
  const ClinicalIndex& clinic = hospital.clinic();
  std::set<std::string_view> late, all;
  const auto collect = [&](const IndexedCodes& family) {
    for (int leaf = 0; leaf < family.size(); ++leaf) {
      all.insert(family.code(leaf));
      if (hospital.late(family, leaf)) late.insert(family.code(leaf));
    }
  };
  for (const auto& condition : clinic.conditions) collect(condition.icd10);
  for (const auto& procedure : clinic.procedures) collect(procedure.icd10);
  EXPECT_NEAR(static_cast<double>(late.size()) / static_cast<double>(all.size()), 0.15, 0.01);

  std::set<std::string_view> seen_late;
  for (std::int64_t i = 0; i < 2500; ++i) {
    for (const Visit& visit : simulate_patient(hospital, i).visits) {
      for (const auto* codes : {&visit.diagnoses, &visit.procedures}) {
        for (const CodedEntry& coded : *codes) {
          if (!late.contains(coded.code)) continue;
          EXPECT_GE(visit.admit, hospital.period().late_from) << coded.code;
          seen_late.insert(coded.code);
        }
      }
    }
  }
  EXPECT_GT(seen_late.size(), late.size() / 2);
  // All hospitals of a seed see the same changes of the code system.
  const Hospital other(options_of(7));
  for (const auto& condition : clinic.conditions) {
    for (int leaf = 0; leaf < condition.icd10.size(); ++leaf) {
      EXPECT_EQ(hospital.late(condition.icd10, leaf), other.late(condition.icd10, leaf));
    }
  }
}

TEST(Patient, HospitalsHaveHabits) {
  const auto share_of = [](std::int64_t hospital, std::string_view atc3) {
    double given = 0, visits = 0;
    for (const Patient& patient : simulate(options_of(hospital), 500)) {
      for (const Visit& visit : patient.visits) {
        ++visits;
        given += classes_of(visit).contains(atc3) ? 1 : 0;
      }
    }
    return given / visits;
  };
  double spread = 0;
  for (const std::string_view atc3 : {"C09A", "C09C", "N05C", "J01F", "J01M", "A02B"}) {
    std::vector<double> found;
    for (const std::int64_t hospital : {0, 1, 2, 3}) found.push_back(share_of(hospital, atc3));
    const auto [low, high] = std::minmax_element(found.begin(), found.end());
    spread = std::max(spread, *high / std::max(*low, 1e-3));
  }
  EXPECT_GT(spread, 1.8);
}

TEST(Patient, EditionsFollowTheOption) {
  for (const std::string version : {"9", "10", "mixed"}) {
    CohortOptions options = options_of(0);
    options.icd_version = version;
    std::set<bool> seen;
    for (const Patient& patient : simulate(options, 80)) {
      for (const Visit& visit : patient.visits) seen.insert(visit.icd10);
    }
    const std::set<bool> expected = version == "9"    ? std::set<bool>{false}
                                    : version == "10" ? std::set<bool>{true}
                                                      : std::set<bool>{false, true};
    EXPECT_EQ(seen, expected) << version;
  }
}

// One-vs-rest logistic regression with AdaGrad: what a plain model learns from codes.
class Logistic {
 public:
  Logistic(std::size_t features, std::size_t classes)
      : classes_(classes), weights_(features * classes), squares_(features * classes, 1e-6F) {}

  void step(const std::vector<std::size_t>& active, const std::vector<bool>& target) {
    const std::vector<float> scores = score(active);
    for (std::size_t m = 0; m < classes_; ++m) {
      const float error = 1 / (1 + std::exp(-scores[m])) - (target[m] ? 1.0F : 0.0F);
      for (const std::size_t feature : active) {
        const std::size_t at = feature * classes_ + m;
        const float gradient = error + 1e-4F * weights_[at];
        squares_[at] += gradient * gradient;
        weights_[at] -= 0.3F * gradient / std::sqrt(squares_[at]);
      }
    }
  }
  std::vector<float> score(const std::vector<std::size_t>& active) const {
    std::vector<float> scores(classes_);
    for (const std::size_t feature : active) {
      for (std::size_t m = 0; m < classes_; ++m) scores[m] += weights_[feature * classes_ + m];
    }
    return scores;
  }

 private:
  std::size_t classes_;
  std::vector<float> weights_, squares_;  // [features, classes]
};

struct LearningSample {
  std::vector<std::size_t> features;
  Classes classes, before;  // of this visit and the one before
  bool first = true;
};

// Features: codes of the visit, and classes of the visit before.
class Featuriser {
 public:
  std::vector<LearningSample> samples(const Patient& patient) {
    std::vector<LearningSample> result;
    for (const Visit& visit : patient.visits) {
      LearningSample sample;
      sample.features.push_back(id("bias"));
      for (const auto& coded : visit.diagnoses)
        sample.features.push_back(id("d" + std::string(coded.code)));
      for (const auto& done : visit.procedures)
        sample.features.push_back(id("p" + std::string(done.code)));
      if (!result.empty()) sample.before = result.back().classes;
      for (const auto atc3 : sample.before) sample.features.push_back(id("m" + std::string(atc3)));
      sample.classes = classes_of(visit);
      sample.first = result.empty();
      result.push_back(std::move(sample));
    }
    return result;
  }
  std::size_t size() const { return ids_.size(); }

 private:
  std::size_t id(const std::string& name) { return ids_.emplace(name, ids_.size()).first->second; }
  std::unordered_map<std::string, std::size_t> ids_;
};

TEST(Patient, LabelsCanBeLearntFromCodesAndHistory) {
  Featuriser featuriser;
  std::vector<LearningSample> train, test;
  std::map<std::string_view, std::size_t> class_ids;
  const auto patients = simulate(options_of(0), 2400);
  for (const Patient& patient : patients) {
    for (auto& sample : featuriser.samples(patient)) {
      for (const auto atc3 : sample.classes) class_ids.emplace(atc3, class_ids.size());
      (patient.index % 6 == 0 ? test : train).push_back(std::move(sample));
    }
  }
  Logistic model(featuriser.size(), class_ids.size());
  for (int epoch = 0; epoch < 3; ++epoch) {
    for (const auto& sample : train) {
      std::vector<bool> target(class_ids.size());
      for (const auto atc3 : sample.classes) target[class_ids.at(atc3)] = true;
      model.step(sample.features, target);
    }
  }
  std::map<std::string_view, double> frequency;
  for (const auto& sample : train) {
    for (const auto atc3 : sample.classes) frequency[atc3] += 1 / static_cast<double>(train.size());
  }
  Classes usual;
  for (const auto& [atc3, share] : frequency) {
    if (share > 0.33) usual.insert(atc3);
  }
  double learnt = 0, nearest = 0, popular = 0, count = 0;
  for (const auto& sample : test) {
    if (sample.first) continue;
    const auto scores = model.score(sample.features);
    Classes recommended;
    for (const auto& [atc3, at] : class_ids) {
      if (scores[at] > -0.6F) recommended.insert(atc3);  // probability 0.35: best for Jaccard
    }
    learnt += jaccard(recommended, sample.classes);
    nearest += jaccard(sample.before, sample.classes);
    popular += jaccard(usual, sample.classes);
    ++count;
  }
  EXPECT_GT(learnt / count, nearest / count + 0.05);
  EXPECT_GT(nearest / count, popular / count + 0.05);
  EXPECT_LT(nearest / count, 0.60);
  RecordProperty("jaccard", std::to_string(learnt / count));
}

}  // namespace
}  // namespace theriac::generate
