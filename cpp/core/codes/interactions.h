// Drug-drug interaction knowledge as pairs of ATC level-3 classes (medication.md
// sections 3.1, 10.4).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cpp/core/codes/mapping.h"

namespace theriac::codes {

struct InteractionPair {
  std::string a, b;      // ATC level-3 classes, a < b
  std::string severity;  // as the table says, may be empty
};

// Immutable after loading. Pairs are sorted and distinct.
struct InteractionTable {
  std::string source, version;  // version: the table's own, else its fingerprint
  std::vector<InteractionPair> pairs;
  std::int64_t unmapped_rows =
      0;  // rows with a code that no map knows: their interaction is NOT in `pairs`
  std::int64_t same_class_rows =
      0;  // rows whose codes only share classes: not expressible at level 3

  // Host's table: CSV with columns system_a, code_a, system_b, code_b, severity, source, version
  // (the last three optional), or the short form atc3_a, atc3_b. ATC codes are truncated to
  // level 3. Of rows about one pair the most severe wins; several sources or versions are joined
  // with "; ".
  static InteractionTable from_csv(const std::filesystem::path& path);
  // The same with codes of other systems (ingredients in RxNorm, NDC) taken to classes by the
  // host's maps.
  static InteractionTable from_csv(const std::filesystem::path& path, const CodeMaps& maps);
  // Research construction from kept STITCH pairs and a CID -> ATC table (lines
  // "CID,ATC7[,ATC7...]").
  static InteractionTable from_twosides(const std::filesystem::path& pairs_csv,
                                        const std::filesystem::path& cid_atc);
  // Pairs between positions of a class list, a < b.
  std::vector<std::pair<std::int32_t, std::int32_t>> among(
      const std::vector<std::string>& classes) const;
};

// Order of severities: contraindicated 4, major (severe, high, serious) 3, moderate (medium) 2,
// minor (mild, low) 1, anything else 0. Any case.
int severity_rank(std::string_view severity) noexcept;

}  // namespace theriac::codes
