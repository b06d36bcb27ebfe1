// One patient's codes read into what a frozen scorer takes. Part of a session: reuses its memory
// from call to call.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "cpp/core/codes/code.h"
#include "cpp/core/data/cohort.h"
#include "cpp/engine/clinical/frozen.h"
#include "cpp/engine/clinical/medication_state.h"

namespace theriac::clinical {

// How one entry of the history was read.
struct EntryReading {
  enum class How {
    kUsed,         // a code the model was trained with
    kUnseen,       // not met in training, read by its place in the code tree and its characters
    kSubstituted,  // read as an ancestor, named in `node`
    kRepeated,     // same code twice in one visit
    kUnknown,      // the model has no use for it
    kCurrentMedication,  // medication of the visit that is asked about
    kTooOld,             // before the latest visits that the model reads
    kWrongField,         // a medication class among diagnoses, and the like
  } how = How::kUnknown;
  const std::string* node = nullptr;  // relation node; lives as long as the reader
  bool counts() const {
    return how == How::kUsed || how == How::kUnseen || how == How::kSubstituted;
  }
};
const char* reason(EntryReading::How how) noexcept;  // for the answer's "ignored"

// Not synchronised. Spans given out are valid until the next begin().
class HistoryReader {
 public:
  explicit HistoryReader(const MedicationState& state);

  void begin(
      std::int32_t visits);  // forgets the last patient; `visits` >= 1, the last one is current
  EntryReading add(std::int32_t visit, data::Field field, const codes::MedicalCode& code);
  // The latest visits, sets sorted so that the order of entries changes no bit.
  std::span<const FrozenVisit> finish();

 private:
  struct Visit {
    std::vector<std::int32_t> ids[data::kFieldCount];
    std::vector<const void*>
        outside[2];  // codes outside the vocabulary met already, by their place in the cache
    std::vector<float> extra[2];  // sums of their vectors; empty without any
  };
  struct OutsideCode {
    EntryReading reading;
    std::string node;
    std::vector<float> vector;  // [dim]
  };
  EntryReading add_outside(Visit& visit, int field, const codes::MedicalCode& code);
  const OutsideCode& outside(int field, const codes::MedicalCode& code);

  const MedicationState& state_;
  std::int32_t count_ = 0, first_ = 0;  // visits of this patient; the first one that is read
  std::vector<Visit> visits_;
  std::vector<FrozenVisit> frozen_;
  std::unordered_map<codes::MedicalCode, OutsideCode> cache_[2];  // diagnoses, procedures
};

}  // namespace theriac::clinical
