// Decides the orders of one patient's stays: first-line classes, what is held back, what goes on.
#pragma once

#include <string_view>
#include <vector>

#include "cpp/core/base/random.h"
#include "cpp/core/generate/patient.h"

namespace theriac::generate {

// Remembers long-term medication between the stays of one patient.
class Prescriber {
 public:
  Prescriber(const Hospital& hospital, Random& random);

  // Fills orders, uncoded and withheld of a visit whose conditions and procedures are known.
  void prescribe(Visit& visit);

 private:
  struct LongTerm {
    bool decided = false;
    int drug = -1;  // -1: decided against, or nothing suitable
  };
  struct Objection {
    std::string_view because;  // empty: none
    bool interaction = false;
  };

  void treat_acute(Visit& visit, const std::vector<IndexedTreatment>& treatments,
                   std::string_view reason);
  void continue_long_term(Visit& visit, const IndexedCondition& condition);
  void add_routines(Visit& visit);
  // A drug by the hospital's preference to which there is no objection, or -1.
  int choose(Visit& visit, const IndexedTreatment& treatment);
  // Against a drug in this stay; honoured with the hospital's compliance.
  Objection objection(const Visit& visit, int drug);
  void order(Visit& visit, int drug, std::string_view reason);

  const Hospital& hospital_;
  const ClinicalIndex& clinic_;
  Random& random_;
  std::vector<LongTerm> long_term_;  // [treatments of conditions]
};

}  // namespace theriac::generate
