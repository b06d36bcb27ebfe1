// ICD-9-CM: volumes 1 and 2 (diagnoses) and volume 3 (procedures). Frozen since October 2013.
#include "cpp/core/codes/structural.h"
#include "cpp/core/codes/text.h"

namespace theriac::codes::internal {
namespace {

constexpr Chapter kDiagnosisChapters[] = {
    {"001-139", "001", "139", "Infectious and parasitic diseases"},
    {"140-239", "140", "239", "Neoplasms"},
    {"240-279", "240", "279", "Endocrine, nutritional, metabolic and immunity disorders"},
    {"280-289", "280", "289", "Diseases of the blood and blood-forming organs"},
    {"290-319", "290", "319", "Mental disorders"},
    {"320-389", "320", "389", "Diseases of the nervous system and sense organs"},
    {"390-459", "390", "459", "Diseases of the circulatory system"},
    {"460-519", "460", "519", "Diseases of the respiratory system"},
    {"520-579", "520", "579", "Diseases of the digestive system"},
    {"580-629", "580", "629", "Diseases of the genitourinary system"},
    {"630-679", "630", "679", "Complications of pregnancy, childbirth and the puerperium"},
    {"680-709", "680", "709", "Diseases of the skin and subcutaneous tissue"},
    {"710-739", "710", "739", "Diseases of the musculoskeletal system and connective tissue"},
    {"740-759", "740", "759", "Congenital anomalies"},
    {"760-779", "760", "779", "Conditions originating in the perinatal period"},
    {"780-799", "780", "799", "Symptoms, signs and ill-defined conditions"},
    {"800-999", "800", "999", "Injury and poisoning"},
    {"V01-V91", "V00", "V99", "Factors influencing health status and contact with services"},
    {"E000-E999", "E000", "E999", "External causes of injury and poisoning"},
};

constexpr Block kDiagnosisBlocks[] = {
    // Infectious and parasitic
    "001-009", "010-018", "020-027", "030-041", "042", "045-049", "050-059", "060-066", "070-079",
    "080-088", "090-099", "100-104", "110-118", "120-129", "130-136", "137-139",
    // Neoplasms
    "140-149", "150-159", "160-165", "170-176", "179-189", "190-199", "200-209", "210-229",
    "230-234", "235-238", "239",
    // Endocrine, nutritional, metabolic, immunity
    "240-246", "249-259", "260-269", "270-279",
    // Blood
    "280-289",
    // Mental
    "290-294", "295-299", "300-316", "317-319",
    // Nervous system and sense organs
    "320-327", "330-337", "338", "339", "340-349", "350-359", "360-379", "380-389",
    // Circulatory
    "390-392", "393-398", "401-405", "410-414", "415-417", "420-429", "430-438", "440-449",
    "451-459",
    // Respiratory
    "460-466", "470-478", "480-488", "490-496", "500-508", "510-519",
    // Digestive
    "520-529", "530-539", "540-543", "550-553", "555-558", "560-569", "570-579",
    // Genitourinary
    "580-589", "590-599", "600-608", "610-612", "614-616", "617-629",
    // Pregnancy, childbirth
    "630-639", "640-649", "650-659", "660-669", "670-677", "678-679",
    // Skin
    "680-686", "690-698", "700-709",
    // Musculoskeletal
    "710-719", "720-724", "725-729", "730-739",
    // Congenital
    "740-759",
    // Perinatal
    "760-763", "764-779",
    // Symptoms and signs
    "780-789", "790-796", "797-799",
    // Injury and poisoning
    "800-804", "805-809", "810-819", "820-829", "830-839", "840-848", "850-854", "860-869",
    "870-879", "880-887", "890-897", "900-904", "905-909", "910-919", "920-924", "925-929",
    "930-939", "940-949", "950-957", "958-959", "960-979", "980-989", "990-995", "996-999",
    // External causes
    "E000", "E001-E030", "E800-E807", "E810-E819", "E820-E825", "E826-E829", "E830-E838",
    "E840-E845", "E846-E849", "E850-E858", "E860-E869", "E870-E876", "E878-E879", "E880-E888",
    "E890-E899", "E900-E909", "E910-E915", "E916-E928", "E929", "E930-E949", "E950-E959",
    "E960-E969", "E970-E979", "E980-E989", "E990-E999",
    // Health status and contact with services
    "V01-V09", "V10-V19", "V20-V29", "V30-V39", "V40-V49", "V50-V59", "V60-V69", "V70-V82",
    "V83-V84", "V85", "V86", "V87", "V88", "V89", "V90", "V91"};
static_assert(in_order(kDiagnosisBlocks));

// Volume 3 has chapters of two-digit categories and no blocks.
constexpr Chapter kProcedureChapters[] = {
    {"00-00", "00", "00", "Procedures and interventions, not elsewhere classified"},
    {"01-05", "01", "05", "Operations on the nervous system"},
    {"06-07", "06", "07", "Operations on the endocrine system"},
    {"08-16", "08", "16", "Operations on the eye"},
    {"17-17", "17", "17", "Other miscellaneous diagnostic and therapeutic procedures"},
    {"18-20", "18", "20", "Operations on the ear"},
    {"21-29", "21", "29", "Operations on the nose, mouth and pharynx"},
    {"30-34", "30", "34", "Operations on the respiratory system"},
    {"35-39", "35", "39", "Operations on the cardiovascular system"},
    {"40-41", "40", "41", "Operations on the hemic and lymphatic system"},
    {"42-54", "42", "54", "Operations on the digestive system"},
    {"55-59", "55", "59", "Operations on the urinary system"},
    {"60-64", "60", "64", "Operations on the male genital organs"},
    {"65-71", "65", "71", "Operations on the female genital organs"},
    {"72-75", "72", "75", "Obstetrical procedures"},
    {"76-84", "76", "84", "Operations on the musculoskeletal system"},
    {"85-86", "85", "86", "Operations on the integumentary system"},
    {"87-99", "87", "99", "Miscellaneous diagnostic and therapeutic procedures"},
};

// "E812" is one category, as "812" and "V45" are.
constexpr std::size_t diagnosis_category(std::string_view code) {
  return code.front() == 'E' ? 4 : 3;
}

bool is_diagnosis(std::string_view code) {
  if (code.empty()) return false;
  const bool lettered = code.front() == 'E' || code.front() == 'V';
  const std::size_t category = diagnosis_category(code);
  return code.size() >= category && code.size() <= 5 &&
         all_digits(lettered ? code.substr(1) : code);
}

std::size_t diagnosis_parent(std::string_view code) {
  return code.size() > diagnosis_category(code) ? code.size() - 1 : 0;
}

bool is_procedure(std::string_view code) {
  return code.size() >= 2 && code.size() <= 4 && all_digits(code);
}

std::size_t procedure_parent(std::string_view code) {
  return code.size() > 2 ? code.size() - 1 : 0;
}

}  // namespace

const Rules kIcd9cmRules = {
    System::kIcd9cm,  "ICD9CM", is_diagnosis, diagnosis_parent, kDiagnosisChapters,
    kDiagnosisBlocks, {}};
const Rules kIcd9procRules = {
    System::kIcd9proc, "ICD9PROC", is_procedure, procedure_parent, kProcedureChapters, {}, {}};

}  // namespace theriac::codes::internal
