// A code's characters as one-hot features by position (HIER; medication.md section 7.4).
//
// Characters stand in slots 0..length: slot 0 is for the letter of ICD-9 external causes, all other
// codes begin in slot 1, so that the first digit of E812 and of 812 meet in one slot; empty slots
// hold a filler.
//   4280 -> [-,4,2,8,0,-,-,-]   E8121 -> [E,8,1,2,1,-,-,-]   0BH17EZ -> [-,0,B,H,1,7,E,Z]
// Every slot has its own alphabet, of what the codes it was fitted on have there (the filler
// counts).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cpp/core/codes/code.h"

namespace theriac::clinical {

// Which codes begin in slot 0.
enum class SlotLayout {
  kAligned,      // ICD-9-CM external causes (E000 to E999)
  kEveryLetterE  // every code that begins with E, also ICD-10 "E119": what HIER's authors do
};
SlotLayout slot_layout_from_name(
    std::string_view name);  // "aligned" | "h"; kInvalidArgument otherwise

// Immutable after construction; may be shared between threads.
class PositionEncoding {
 public:
  static constexpr int kLength = 7;       // serves ICD-9 and ICD-10
  static constexpr int kShortLength = 5;  // ICD-9 alone
  static constexpr char kFiller = '\0';
  static constexpr std::int32_t kNoFeature = -1;

  PositionEncoding(int length, SlotLayout layout, std::span<const codes::MedicalCode> codes);

  int slots() const noexcept { return static_cast<int>(offsets_.size()) - 1; }  // length + 1
  int width() const noexcept { return offsets_.back(); }  // features of all slots
  int slot_width(int slot) const {
    return offsets_.at(static_cast<std::size_t>(slot) + 1) -
           offsets_.at(static_cast<std::size_t>(slot));
  }

  // The character in each slot [slots]. Characters beyond the last slot have no place.
  void characters(const codes::MedicalCode& code, std::span<char> into) const;
  // The feature in [0, width) of each slot [slots]; kNoFeature for a character that the slot did
  // not have when it was fitted: a zero block.
  void features(const codes::MedicalCode& code, std::span<std::int32_t> into) const;

 private:
  using Alphabet = std::array<std::int16_t, 256>;  // byte -> place in the slot, or -1
  SlotLayout layout_;
  std::vector<Alphabet> alphabets_;    // [slots]
  std::vector<std::int32_t> offsets_;  // [slots + 1] first feature of each slot
};

}  // namespace theriac::clinical
