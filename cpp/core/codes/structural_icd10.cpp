// ICD-10-CM (chapters, blocks, placeholder rule) and ICD-10-PCS (seven axes).
#include "cpp/core/codes/structural.h"
#include "cpp/core/codes/text.h"

namespace theriac::codes::internal {
namespace {

// Chapters end at the last category of their letter where nothing follows, so that new ones fall
// in.
constexpr Chapter kChapters[] = {
    {"01", "A00", "B99", "Certain infectious and parasitic diseases"},
    {"02", "C00", "D49", "Neoplasms"},
    {"03", "D50", "D9Z", "Diseases of the blood and certain disorders of the immune mechanism"},
    {"04", "E00", "E9Z", "Endocrine, nutritional and metabolic diseases"},
    {"05", "F00", "F9Z", "Mental, behavioral and neurodevelopmental disorders"},
    {"06", "G00", "G9Z", "Diseases of the nervous system"},
    {"07", "H00", "H5Z", "Diseases of the eye and adnexa"},
    {"08", "H60", "H9Z", "Diseases of the ear and mastoid process"},
    {"09", "I00", "I9Z", "Diseases of the circulatory system"},
    {"10", "J00", "J9Z", "Diseases of the respiratory system"},
    {"11", "K00", "K9Z", "Diseases of the digestive system"},
    {"12", "L00", "L9Z", "Diseases of the skin and subcutaneous tissue"},
    {"13", "M00", "M9Z", "Diseases of the musculoskeletal system and connective tissue"},
    {"14", "N00", "N9Z", "Diseases of the genitourinary system"},
    {"15", "O00", "O9Z", "Pregnancy, childbirth and the puerperium"},
    {"16", "P00", "P9Z", "Certain conditions originating in the perinatal period"},
    {"17", "Q00", "QZZ", "Congenital malformations, deformations and chromosomal abnormalities"},
    {"18", "R00", "R9Z", "Symptoms, signs and abnormal findings, not elsewhere classified"},
    {"19", "S00", "T9Z", "Injury, poisoning and other consequences of external causes"},
    {"20", "V00", "Y9Z", "External causes of morbidity"},
    {"21", "Z00", "Z9Z", "Factors influencing health status and contact with health services"},
    {"22", "U00", "U9Z", "Codes for special purposes"},
};

constexpr Block kBlocks[] = {
    // 01 Infectious and parasitic
    "A00-A09", "A15-A19", "A20-A28", "A30-A49", "A50-A64", "A65-A69", "A70-A74", "A75-A79",
    "A80-A89", "A90-A99", "B00-B09", "B10", "B15-B19", "B20", "B25-B34", "B35-B49", "B50-B64",
    "B65-B83", "B85-B89", "B90-B94", "B95-B97", "B99",
    // 02 Neoplasms
    "C00-C96", "C00-C75", "C00-C14", "C15-C26", "C30-C39", "C40-C41", "C43-C44", "C45-C49", "C50",
    "C51-C58", "C60-C63", "C64-C68", "C69-C72", "C73-C75", "C76-C80", "C7A", "C7B", "C81-C96",
    "D00-D09", "D10-D36", "D37-D48", "D3A", "D49",
    // 03 Blood, immune mechanism
    "D50-D53", "D55-D59", "D60-D64", "D65-D69", "D70-D77", "D78", "D80-D89",
    // 04 Endocrine, nutritional, metabolic
    "E00-E07", "E08-E13", "E15-E16", "E20-E35", "E36", "E40-E46", "E50-E64", "E65-E68", "E70-E88",
    "E89",
    // 05 Mental
    "F01-F09", "F10-F19", "F20-F29", "F30-F39", "F40-F48", "F50-F59", "F60-F69", "F70-F79",
    "F80-F89", "F90-F98", "F99",
    // 06 Nervous system
    "G00-G09", "G10-G14", "G20-G26", "G30-G32", "G35-G37", "G40-G47", "G50-G59", "G60-G65",
    "G70-G73", "G80-G83", "G89-G99",
    // 07 Eye
    "H00-H05", "H10-H11", "H15-H22", "H25-H28", "H30-H36", "H40-H42", "H43-H44", "H46-H47",
    "H49-H52", "H53-H54", "H55-H57", "H59",
    // 08 Ear
    "H60-H62", "H65-H75", "H80-H83", "H90-H94", "H95",
    // 09 Circulatory
    "I00-I02", "I05-I09", "I10-I16", "I20-I25", "I26-I28", "I30-I52", "I60-I69", "I70-I79",
    "I80-I89", "I95-I99",
    // 10 Respiratory
    "J00-J06", "J09-J18", "J20-J22", "J30-J39", "J40-J47", "J60-J70", "J80-J84", "J85-J86",
    "J90-J94", "J95", "J96-J99",
    // 11 Digestive
    "K00-K14", "K20-K31", "K35-K38", "K40-K46", "K50-K52", "K55-K64", "K65-K68", "K70-K77",
    "K80-K87", "K90-K95",
    // 12 Skin
    "L00-L08", "L10-L14", "L20-L30", "L40-L45", "L49-L54", "L55-L59", "L60-L75", "L76", "L80-L99",
    // 13 Musculoskeletal
    "M00-M25", "M00-M02", "M04", "M05-M14", "M15-M19", "M20-M25", "M26-M27", "M30-M36", "M40-M54",
    "M40-M43", "M45-M49", "M50-M54", "M60-M79", "M60-M63", "M65-M67", "M70-M79", "M80-M94",
    "M80-M85", "M86-M90", "M91-M94", "M95", "M96", "M97", "M99",
    // 14 Genitourinary
    "N00-N08", "N10-N16", "N17-N19", "N20-N23", "N25-N29", "N30-N39", "N40-N53", "N60-N65",
    "N70-N77", "N80-N98", "N99",
    // 15 Pregnancy, childbirth
    "O00-O08", "O09", "O10-O16", "O20-O29", "O30-O48", "O60-O77", "O80-O82", "O85-O92", "O94-O9A",
    // 16 Perinatal
    "P00-P04", "P05-P08", "P09", "P10-P15", "P19-P29", "P35-P39", "P50-P61", "P70-P74", "P76-P78",
    "P80-P83", "P84", "P90-P96",
    // 17 Congenital
    "Q00-Q07", "Q10-Q18", "Q20-Q28", "Q30-Q34", "Q35-Q37", "Q38-Q45", "Q50-Q56", "Q60-Q64",
    "Q65-Q79", "Q80-Q89", "Q90-Q99",
    // 18 Symptoms and signs
    "R00-R09", "R10-R19", "R20-R23", "R25-R29", "R30-R39", "R40-R46", "R47-R49", "R50-R69",
    "R70-R79", "R80-R82", "R83-R89", "R90-R94", "R97", "R99",
    // 19 Injury, poisoning
    "S00-S09", "S10-S19", "S20-S29", "S30-S39", "S40-S49", "S50-S59", "S60-S69", "S70-S79",
    "S80-S89", "S90-S99", "T07-T88", "T07", "T14", "T15-T19", "T20-T32", "T20-T25", "T26-T28",
    "T30-T32", "T33-T34", "T36-T50", "T51-T65", "T66-T78", "T79", "T80-T88",
    // 22 Special purposes
    "U00-U49",
    // 20 External causes
    "V00-X58", "V00-V99", "V00-V09", "V10-V19", "V20-V29", "V30-V39", "V40-V49", "V50-V59",
    "V60-V69", "V70-V79", "V80-V89", "V90-V94", "V95-V97", "V98-V99", "W00-X58", "W00-W19",
    "W20-W49", "W50-W64", "W65-W74", "W85-W99", "X00-X08", "X10-X19", "X30-X39", "X50", "X52-X58",
    "X71-X83", "X92-Y09", "Y21-Y33", "Y35-Y38", "Y62-Y84", "Y62-Y69", "Y70-Y82", "Y83-Y84",
    "Y90-Y99",
    // 21 Health status and contact with services
    "Z00-Z13", "Z14-Z15", "Z16", "Z17", "Z18", "Z19", "Z20-Z29", "Z30-Z39", "Z40-Z53", "Z55-Z65",
    "Z66", "Z67", "Z68", "Z69-Z76", "Z77-Z99"};

static_assert(in_order(kBlocks));

// Categories with a letter at the end are printed after the category they were split from. The last
// three came after 2021 and widened their block's official name; the block keeps its older name
// here.
constexpr PlacedCategory kPlaced[] = {
    {"C4A", "C43-C44"}, {"M1A", "M05-M14"}, {"Z3A", "Z30-Z39"},
    {"I1A", "I10-I16"}, {"I5A", "I30-I52"}, {"J4A", "J40-J47"},
};

constexpr bool is_alphanumeric(char c) { return is_digit(c) || is_upper(c); }

bool all_alphanumeric(std::string_view text) {
  for (char c : text) {
    if (!is_alphanumeric(c)) return false;
  }
  return true;
}

// Letter, digit (A since QA0), digit or letter A, B; then up to four letters or digits.
bool is_clinical(std::string_view code) {
  if (code.size() < 3 || code.size() > 7 || !is_upper(code[0])) return false;
  if (!is_digit(code[1]) && code[1] != 'A') return false;
  if (!is_digit(code[2]) && code[2] != 'A' && code[2] != 'B') return false;
  return all_alphanumeric(code.substr(3));
}

// A seventh character (encounter, trimester, eye) stands behind placeholders X that only fill the
// gap: S02.62XA is a form of S02.62. An X further left is part of the code: T36.0X1A is below
// T36.0X1 and T36.0X.
std::size_t clinical_parent(std::string_view code) {
  constexpr std::size_t kCategory = 3, kFull = 7;
  if (code.size() <= kCategory) return 0;
  std::size_t length = code.size() - 1;
  if (code.size() < kFull) return length;
  while (length > kCategory && code[length - 1] == 'X') --length;
  return length;
}

// Section, body system, operation, body part, approach, device, qualifier; I and O are not used, so
// that they are never read as 1 and 0.
bool is_procedure(std::string_view code) {
  return !code.empty() && code.size() <= 7 && all_alphanumeric(code) &&
         code.find_first_of("IO") == std::string_view::npos;
}

// Strict prefixes; the section hangs under the root (no chapters, no blocks).
std::size_t procedure_parent(std::string_view code) { return code.size() - 1; }

}  // namespace

const Rules kIcd10cmRules = {System::kIcd10cm, "ICD10CM", is_clinical, clinical_parent,
                             kChapters,        kBlocks,   kPlaced};
const Rules kIcd10pcsRules = {
    System::kIcd10pcs, "ICD10PCS", is_procedure, procedure_parent, {}, {}, {}};

}  // namespace theriac::codes::internal
