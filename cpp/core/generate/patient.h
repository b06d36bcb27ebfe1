// Simulated patients: a life of chronic conditions, and stays with reasons, codes and orders.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "cpp/core/generate/hospital.h"

namespace theriac::generate {

struct CodedEntry {
  int entry = 0;          // condition or procedure of the ClinicalIndex
  std::string_view code;  // normal form, in the code system of the visit
  std::int64_t time = 0;  // procedures: when it was done
};

struct Order {
  int drug = 0;             // of drugs()
  bool class_only = false;  // ordered and coded at ATC level 4
  std::string_view reason;  // condition, procedure or routine
  std::int64_t time = 0;
};

struct Withheld {
  std::string_view atc3;
  std::string_view because;  // condition, or "given with " class
  bool interaction = false;
};

struct Visit {
  int number = 0;  // 0-based, in time order
  std::int64_t admit = 0, discharge = 0;
  bool icd10 = false;
  bool died = false;
  int reason = 0;                     // the acute condition that led to admission
  std::vector<int> present;           // conditions, acute ones first
  std::vector<CodedEntry> diagnoses;  // principal first
  std::vector<CodedEntry> procedures;
  std::vector<Order> orders;
  std::vector<std::string_view> uncoded;  // orders without any code
  std::vector<Withheld> withheld;
};

struct ChronicOnset {
  int condition = 0;
  std::int64_t time = 0;
};

struct Patient {
  std::int64_t index = 0;
  bool female = false;
  std::int64_t birth = 0;
  std::vector<ChronicOnset> chronic;
  std::vector<Visit> visits;
  std::optional<std::int64_t> death;
  double age_at(std::int64_t time) const {
    return static_cast<double>(time - birth) / static_cast<double>(kDay) / kDaysPerYear;
  }
};

// A function of (hospital, index) alone: any patient can be made without the others.
Patient simulate_patient(const Hospital& hospital, std::int64_t index);

}  // namespace theriac::generate
