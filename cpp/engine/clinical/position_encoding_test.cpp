#include "cpp/engine/clinical/position_encoding.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>

#include "cpp/core/base/csv.h"
#include "cpp/core/base/error.h"

namespace theriac::clinical {
namespace {

using codes::MedicalCode;
using codes::System;

// Slots as text, '-' for the filler.
std::string slots_of(const PositionEncoding& encoding, const MedicalCode& code) {
  std::string text(static_cast<std::size_t>(encoding.slots()), ' ');
  encoding.characters(code, text);
  for (char& c : text) c = c == PositionEncoding::kFiller ? '-' : c;
  return text;
}

std::vector<std::int32_t> features_of(const PositionEncoding& encoding, const MedicalCode& code) {
  std::vector<std::int32_t> features(static_cast<std::size_t>(encoding.slots()));
  encoding.features(code, features);
  return features;
}

TEST(PositionEncoding, PlacesCharactersInSlots) {
  const PositionEncoding encoding(7, SlotLayout::kAligned, {});
  EXPECT_EQ(slots_of(encoding, {System::kIcd9cm, "4280"}), "-4280---");
  EXPECT_EQ(slots_of(encoding, {System::kIcd9cm, "E8121"}), "E8121---");
  EXPECT_EQ(slots_of(encoding, {System::kIcd9cm, "V4582"}), "-V4582--");
  EXPECT_EQ(slots_of(encoding, {System::kIcd10pcs, "0BH17EZ"}), "-0BH17EZ");
}

TEST(PositionEncoding, LayoutsDifferOnlyForIcd10CodesThatBeginWithE) {
  const PositionEncoding aligned(7, SlotLayout::kAligned, {});
  const PositionEncoding original(7, SlotLayout::kEveryLetterE, {});
  EXPECT_EQ(slots_of(aligned, {System::kIcd10cm, "E119"}), "-E119---");
  EXPECT_EQ(slots_of(original, {System::kIcd10cm, "E119"}), "E119----");
  EXPECT_EQ(slots_of(aligned, {System::kIcd10cm, "I10"}),
            slots_of(original, {System::kIcd10cm, "I10"}));
  EXPECT_EQ(slots_of(aligned, {System::kIcd9cm, "E8121"}),
            slots_of(original, {System::kIcd9cm, "E8121"}));
  EXPECT_EQ(slot_layout_from_name("aligned"), SlotLayout::kAligned);
  EXPECT_EQ(slot_layout_from_name("h"), SlotLayout::kEveryLetterE);
  EXPECT_THROW(slot_layout_from_name("H"), Error);
}

TEST(PositionEncoding, CharactersBeyondTheLastSlotHaveNoPlace) {
  const PositionEncoding encoding(5, SlotLayout::kAligned, {});
  EXPECT_EQ(encoding.slots(), 6);
  EXPECT_EQ(slots_of(encoding, {System::kIcd10pcs, "0BH17EZ"}), "-0BH17");
  EXPECT_EQ(slots_of(encoding, {System::kIcd9cm, ""}), "------");
}

TEST(PositionEncoding, FeaturesAreSortedWithinASlotAndUnseenOnesAreAbsent) {
  const std::vector<MedicalCode> codes = {
      {System::kIcd9cm, "42"}, {System::kIcd9cm, "4"}, {System::kIcd9cm, "19"}};
  const PositionEncoding encoding(2, SlotLayout::kAligned, codes);
  // Slot 0 {filler}, slot 1 {1, 4}, slot 2 {filler, 2, 9}.
  EXPECT_EQ(encoding.width(), 6);
  EXPECT_EQ(encoding.slot_width(0), 1);
  EXPECT_EQ(encoding.slot_width(1), 2);
  EXPECT_EQ(encoding.slot_width(2), 3);
  EXPECT_EQ(features_of(encoding, {System::kIcd9cm, "42"}), (std::vector<std::int32_t>{0, 2, 4}));
  EXPECT_EQ(features_of(encoding, {System::kIcd9cm, "1"}), (std::vector<std::int32_t>{0, 1, 3}));
  EXPECT_EQ(features_of(encoding, {System::kIcd9cm, "79"}), (std::vector<std::int32_t>{0, -1, 5}));
  EXPECT_EQ(features_of(encoding, {System::kIcd9cm, "E1"}), (std::vector<std::int32_t>{-1, 1, 3}));
}

TEST(PositionEncoding, AnEmptyVocabularyHasNoFeatures) {
  const PositionEncoding encoding(7, SlotLayout::kAligned, {});
  EXPECT_EQ(encoding.width(), 0);
  EXPECT_EQ(features_of(encoding, {System::kIcd9cm, "4280"}), std::vector<std::int32_t>(8, -1));
}

// The vocabularies of MIMIC-III have these alphabets (medication.md section 7.4): external causes
// and supplementary codes beside numbers, three to five characters; procedures of two to four
// digits.
TEST(PositionEncoding, HasThePublishedWidths) {
  std::vector<MedicalCode> diagnoses, procedures;
  for (int i = 0; i < 1000; ++i) {
    const std::string digits = std::to_string(1000 + i).substr(1);
    diagnoses.push_back({System::kIcd9cm, digits});
    diagnoses.push_back({System::kIcd9cm, digits + digits.substr(1)});
    diagnoses.push_back({System::kIcd9cm, "V" + digits.substr(1)});
    diagnoses.push_back({System::kIcd9cm, "E" + digits + digits.substr(2)});
    procedures.push_back({System::kIcd9proc, digits});
    procedures.push_back({System::kIcd9proc, digits + digits.substr(2)});
  }
  const auto widths = [](int length, const std::vector<MedicalCode>& codes) {
    const PositionEncoding encoding(length, SlotLayout::kAligned, codes);
    std::vector<int> slots;
    for (int slot = 0; slot < encoding.slots(); ++slot) slots.push_back(encoding.slot_width(slot));
    return std::pair(encoding.width(), slots);
  };
  EXPECT_EQ(widths(5, diagnoses), std::pair(55, std::vector<int>{2, 11, 10, 10, 11, 11}));
  EXPECT_EQ(widths(7, diagnoses), std::pair(57, std::vector<int>{2, 11, 10, 10, 11, 11, 1, 1}));
  EXPECT_EQ(widths(5, procedures), std::pair(43, std::vector<int>{1, 10, 10, 10, 11, 1}));
  EXPECT_EQ(widths(7, procedures), std::pair(45, std::vector<int>{1, 10, 10, 10, 11, 1, 1, 1}));
}

std::filesystem::path official_list(const std::string& system) {
  const char* data = std::getenv("THERIAC_DATA_DIR");
  const std::filesystem::path root =
      data != nullptr ? data : std::filesystem::path(THERIAC_SOURCE_DIR) / ".." / "shared" / "data";
  return root / "clinical" / system / "nodes.csv.gz";
}

// Slot sizes of a whole official list, counted here without the class: sets of characters a column.
TEST(PositionEncoding, AgreesWithAnIndependentCountOnOfficialLists) {
  for (const auto& [name, system] : {std::pair<std::string, System>{"icd9cm", System::kIcd9cm},
                                     {"icd9proc", System::kIcd9proc}}) {
    const auto path = official_list(name);
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "no code list at " << path;
    CsvReader reader(open_source(path));
    const std::size_t column = reader.column("code"), kind = reader.column("kind");
    std::vector<MedicalCode> codes;
    std::vector<std::set<char>> expected(8);
    while (reader.next()) {
      const std::string kind_text(reader.field(kind));
      if (kind_text == "root" || kind_text == "chapter" || kind_text == "block") continue;
      std::string text(reader.field(column));
      codes.push_back({system, text});
      if (text[0] != 'E') text.insert(0, 1, '-');
      text.resize(8, '-');
      for (std::size_t slot = 0; slot < 8; ++slot) expected[slot].insert(text[slot]);
    }
    const PositionEncoding encoding(7, SlotLayout::kAligned, codes);
    for (int slot = 0; slot < 8; ++slot) {
      EXPECT_EQ(static_cast<std::size_t>(encoding.slot_width(slot)),
                expected[static_cast<std::size_t>(slot)].size())
          << name << " slot " << slot;
    }
  }
}

}  // namespace
}  // namespace theriac::clinical
