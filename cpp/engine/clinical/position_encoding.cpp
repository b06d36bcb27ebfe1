#include "cpp/engine/clinical/position_encoding.h"

#include <string>

#include "cpp/core/base/error.h"

namespace theriac::clinical {
namespace {

std::size_t byte_of(char c) { return static_cast<unsigned char>(c); }

// Slot of a code's first character.
std::size_t first_slot(SlotLayout layout, const codes::MedicalCode& code) {
  if (!code.text.starts_with('E')) return 1;
  return layout == SlotLayout::kEveryLetterE || code.system == codes::System::kIcd9cm ? 0 : 1;
}

// The character of a slot, or the filler.
char character_at(const codes::MedicalCode& code, std::size_t first, std::size_t slot) {
  const bool filled = slot >= first && slot - first < code.text.size();
  return filled ? code.text[slot - first] : PositionEncoding::kFiller;
}

}  // namespace

SlotLayout slot_layout_from_name(std::string_view name) {
  if (name == "aligned") return SlotLayout::kAligned;
  if (name == "h") return SlotLayout::kEveryLetterE;
  throw Error(Code::kInvalidArgument,
              "layout is \"" + std::string(name) + "\"; expected \"aligned\" or \"h\"");
}

PositionEncoding::PositionEncoding(int length, SlotLayout layout,
                                   std::span<const codes::MedicalCode> codes)
    : layout_(layout),
      alphabets_(static_cast<std::size_t>(length) + 1),
      offsets_(alphabets_.size() + 1, 0) {
  std::vector<std::array<bool, 256>> seen(alphabets_.size());
  std::vector<char> slot_characters(alphabets_.size());
  for (const codes::MedicalCode& code : codes) {
    characters(code, slot_characters);
    for (std::size_t slot = 0; slot < seen.size(); ++slot) {
      seen[slot][byte_of(slot_characters[slot])] = true;
    }
  }
  // Features of a slot: the filler first, then characters by byte value.
  for (std::size_t slot = 0; slot < seen.size(); ++slot) {
    std::int16_t count = 0;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      alphabets_[slot][byte] = seen[slot][byte] ? count++ : std::int16_t{-1};
    }
    offsets_[slot + 1] = offsets_[slot] + count;
  }
}

void PositionEncoding::characters(const codes::MedicalCode& code, std::span<char> into) const {
  const std::size_t first = first_slot(layout_, code);
  for (std::size_t slot = 0; slot < into.size(); ++slot) {
    into[slot] = character_at(code, first, slot);
  }
}

void PositionEncoding::features(const codes::MedicalCode& code,
                                std::span<std::int32_t> into) const {
  const std::size_t first = first_slot(layout_, code);
  for (std::size_t slot = 0; slot < into.size(); ++slot) {
    const std::int16_t place = alphabets_[slot][byte_of(character_at(code, first, slot))];
    into[slot] = place < 0 ? kNoFeature : offsets_[slot] + place;
  }
}

}  // namespace theriac::clinical
