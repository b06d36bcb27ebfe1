// Mapping tables between code systems, given by the host as CSV files.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cpp/core/base/options.h"
#include "cpp/core/codes/code.h"

namespace theriac::codes {

// Paths of mapping tables (options `maps.*`); an empty path means none.
struct MapOptions {
  std::string ndc_rxcui;  // columns ndc11, rxcui
  std::string rxcui_atc;  // columns rxcui, atc4 (or atc, atc3, atc5)
  std::string ndc_atc;    // columns ndc11, atc4 (or atc, atc3, atc5)
  std::string codes;      // columns source_system, source_code, target_system, target_code and,
                          // optionally, priority (empty: 0); systems by name or URI
  static const OptionTable<MapOptions>& table();
};

// Immutable after loading; may be shared between threads.
class CodeMaps {
 public:
  CodeMaps() = default;
  // Empty codes or classes mean "known, but maps to nothing" and are skipped. A malformed class or
  // target is a kDataError that names file, line and column. A malformed NDC or RXCUI on the side
  // that is looked up only makes its row useless: it is counted, and an error when every row is
  // such.
  static CodeMaps load(const MapOptions& options);

  // ATC level-3 classes (4 characters, sorted, distinct) of a medication coding: ATC directly
  // (truncated), RxNorm by rxcui_atc, NDC by ndc_rxcui then rxcui_atc, falling back to ndc_atc.
  // Empty when unmapped.
  std::vector<std::string> atc3(const MedicalCode& medication) const;
  // The same without an allocation, for readers that ask once a row: a view of the cached classes,
  // or of `scratch` for an ATC coding. Valid until `scratch` changes or the maps end.
  std::span<const std::string> atc3(const MedicalCode& medication, std::string& scratch) const;
  bool has_medication_map() const { return !ndc_atc_.empty() || !rxcui_atc_.empty(); }
  // Targets of one code in `codes`, best priority (smallest number) first; empty when unmapped.
  const std::vector<MedicalCode>& targets(const MedicalCode& source) const;
  bool has_code_map() const { return !targets_.empty(); }
  // Fingerprints of the tables, name -> hex; goes into data set and model records.
  const std::vector<std::pair<std::string, std::string>>& versions() const { return versions_; }
  // Rows with a malformed code to look up, by table as in `versions`.
  const std::vector<std::pair<std::string, std::int64_t>>& skipped_rows() const {
    return skipped_rows_;
  }

 private:
  // NDC is resolved over RxNorm once, when loading.
  std::unordered_map<std::string, std::vector<std::string>> rxcui_atc_, ndc_atc_;
  std::unordered_map<MedicalCode, std::vector<MedicalCode>> targets_;
  std::vector<std::pair<std::string, std::string>> versions_;
  std::vector<std::pair<std::string, std::int64_t>> skipped_rows_;
};

}  // namespace theriac::codes
