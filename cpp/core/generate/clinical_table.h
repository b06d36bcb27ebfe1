// The small clinical world behind synthetic cohorts: common conditions of hospital patients, how
// they are coded, what is done for them and which medication classes are given first.
//
// Written by hand from general medical knowledge, for data that behaves like hospital data: numbers
// are plausible magnitudes, not epidemiology, and nothing here is advice on treatment. Immutable.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace theriac::generate {

enum class Course { kChronic, kAcute };
enum class Sex { kAny, kFemale, kMale };

struct AgeRange {
  double from = 18, to = 100;  // years
};

// One way to treat: every drug whose ATC code starts with `atc` ("C09A", or "J01XA01" for
// vancomycin).
struct Alternative {
  std::string_view atc{};
  double weight = 1;  // usual practice; hospitals tilt it
};

// With this probability one of the alternatives is given.
struct Treatment {
  double probability;
  std::vector<Alternative> alternatives{};
};

// A value attached to another entry by name: an odds factor, or a probability.
struct Link {
  std::string_view name{};
  double value;
};

using CodeList = std::vector<std::string_view>;  // normal form, least specific first

struct Condition {
  std::string_view name{};
  Course course = Course::kChronic;
  Sex sex = Sex::kAny;
  AgeRange ages{};        // chronic: age of onset; acute: age at which it occurs
  double frequency = 0;   // chronic: share of patients it reaches by the end of `ages`;
                          // acute: weight among reasons for admission, 0 for pure complications
  double incidental = 0;  // acute: probability that it accompanies an admission
  std::vector<std::string_view> needs{};      // chronic conditions that must all be present
  std::vector<std::string_view> needs_any{};  // at least one of these, unless empty
  std::vector<Link> risks{};                  // frequency and incidental times value when present
  std::vector<Link> brings{};                 // acute: complications of the same stay, probability
  std::vector<Link> leaves_behind{};          // acute: chronic conditions afterwards, probability
  std::vector<std::string_view> replaces{};   // conditions whose own code it makes redundant
  double again_after = 0;        // acute: days before it can be the reason for admission again
  CodeList icd9cm{}, icd10cm{};  // both empty: coded as the conditions it needs (elective surgery)
  std::vector<Link> procedures{};  // name in procedures(), probability
  std::vector<Treatment> treatments{};
  double days = 4;   // acute: typical length of stay
  double death = 0;  // acute: probability of dying in the stay at age 70
};

struct Procedure {
  std::string_view name{};
  CodeList icd9proc{}, icd10pcs{};
  std::vector<Treatment> treatments{};  // what the procedure itself calls for
};

struct Drug {
  std::string_view atc{};  // level 5, or level 4 where there is no fifth
  std::string_view name{};
  std::string_view route{};
};

// A class (ATC prefix) held back while any of the conditions is present.
struct Contraindication {
  std::string_view atc{};
  std::vector<std::string_view> conditions{};
};

// Two classes (ATC prefixes) that are not started together.
struct Avoidance {
  std::string_view first{}, second{};
};

// Given to many inpatients whatever the diagnosis.
struct Routine {
  std::string_view reason{};
  std::string_view with{};  // ATC prefix that must already be ordered; empty for anyone
  Treatment treatment{};
};

const std::vector<Condition>& chronic_conditions();  // causes before their consequences
const std::vector<Condition>& acute_conditions();
const std::vector<Procedure>& procedures();
const std::vector<Link>& routine_procedures();  // name, weight: when nothing specific was done
const std::vector<Drug>& drugs();               // sorted by ATC code
const std::vector<Contraindication>& contraindications();
const std::vector<Avoidance>& avoidances();
const std::vector<Routine>& routines();

// Medication orders that carry no code at all, as hospitals have them (flushes, diluents).
const std::vector<std::string_view>& uncoded_orders();

}  // namespace theriac::generate
