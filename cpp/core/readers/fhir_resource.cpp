#include "cpp/core/readers/fhir_resource.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <utility>

#include <simdjson.h>

namespace theriac::readers {

namespace {

namespace dom = simdjson::dom;

constexpr std::array<std::string_view, kFhirTypeCount> kTypeNames = {"Patient",
                                                                     "Encounter",
                                                                     "Condition",
                                                                     "Procedure",
                                                                     "MedicationRequest",
                                                                     "MedicationAdministration",
                                                                     "MedicationStatement",
                                                                     "Medication",
                                                                     "Bundle",
                                                                     "other resources"};

// Fields of any resource that are looked at, gathered in one pass over its members.
enum Slot : std::size_t {
  kResourceType,
  kId,
  kStatus,
  kIntent,
  kDoNotPerform,
  kSubject,
  kEncounterField,
  kContext,
  kPartOf,
  kPeriod,
  kCode,
  kCategory,
  kVerification,
  kAuthoredOn,
  kEffectiveDate,
  kEffectivePeriod,
  kMedicationConcept,
  kMedicationReference,
  kContained,
  kDiagnosis,
  kEntry,
  kSlotCount
};
constexpr std::array<std::string_view, kSlotCount> kSlotNames = {"resourceType",
                                                                 "id",
                                                                 "status",
                                                                 "intent",
                                                                 "doNotPerform",
                                                                 "subject",
                                                                 "encounter",
                                                                 "context",
                                                                 "partOf",
                                                                 "period",
                                                                 "code",
                                                                 "category",
                                                                 "verificationStatus",
                                                                 "authoredOn",
                                                                 "effectiveDateTime",
                                                                 "effectivePeriod",
                                                                 "medicationCodeableConcept",
                                                                 "medicationReference",
                                                                 "contained",
                                                                 "diagnosis",
                                                                 "entry"};

// Where a value stands; written out only for an error.
struct Path {
  const Path* parent = nullptr;
  std::string_view name;
  std::int64_t index = -1;

  std::string text() const {
    std::string out = parent ? parent->text() : std::string();
    if (!name.empty()) out += (out.empty() ? "" : ".") + std::string(name);
    if (index >= 0) out += "[" + std::to_string(index) + "]";
    return out;
  }
};

struct ShapeError {
  std::string path, what;
};

[[noreturn]] void fail(const Path& path, const char* what) { throw ShapeError{path.text(), what}; }

dom::object object_of(dom::element value, const Path& path) {
  dom::object out;
  if (value.get(out)) fail(path, "is not an object");
  return out;
}

dom::array array_of(dom::element value, const Path& path) {
  dom::array out;
  if (value.get(out)) fail(path, "is not a list");
  return out;
}

std::string_view text_of(dom::element value, const Path& path) {
  std::string_view out;
  if (value.get(out)) fail(path, "is not a string");
  return out;
}

bool flag_of(dom::element value, const Path& path) {
  bool out = false;
  if (value.get(out)) fail(path, "is not true or false");
  return out;
}

std::optional<dom::element> member(dom::object object, std::string_view key) {
  dom::element out;
  if (object.at_key(key).get(out)) return std::nullopt;
  return out;
}

std::string_view text_member(dom::object object, std::string_view key, const Path& path) {
  const auto value = member(object, key);
  return value ? text_of(*value, Path{&path, key}) : std::string_view();
}

class Members {
 public:
  Members(dom::object object, const Path& path) {
    for (const auto& [key, value] : object) {
      for (std::size_t slot = 0; slot < kSlotCount; ++slot) {
        if (key != kSlotNames[slot]) continue;
        // Two statuses would leave open which one holds.
        if (has(slot)) fail(Path{&path, key}, "is there twice");
        values_[slot] = value;
        present_ |= std::uint32_t{1} << slot;
        break;
      }
    }
  }
  bool has(std::size_t slot) const { return (present_ >> slot & 1) != 0; }
  dom::element at(std::size_t slot) const { return values_[slot]; }
  std::string_view text(Slot slot, const Path& path) const {
    return has(slot) ? text_of(at(slot), Path{&path, kSlotNames[slot]}) : std::string_view();
  }
  // `reference` of a Reference; empty when it has only an identifier or a display.
  std::string_view reference(Slot slot, const Path& path) const {
    if (!has(slot)) return {};
    const Path here{&path, kSlotNames[slot]};
    return text_member(object_of(at(slot), here), "reference", here);
  }

 private:
  std::array<dom::element, kSlotCount> values_;
  std::uint32_t present_ = 0;
};
static_assert(kSlotCount <= 32);

FhirType type_of(std::string_view name) {
  for (std::size_t i = 0; i + 1 < kTypeNames.size(); ++i) {
    if (name == kTypeNames[i]) return static_cast<FhirType>(i);
  }
  return FhirType::kOther;
}

void read_codings(dom::element concept_value, const Path& path, std::vector<FhirCoding>& out) {
  const auto list = member(object_of(concept_value, path), "coding");
  if (!list) return;
  const Path list_path{&path, "coding"};
  std::int64_t index = 0;
  for (const dom::element item : array_of(*list, list_path)) {
    const Path here{&list_path, {}, index++};
    const dom::object coding = object_of(item, here);
    out.push_back({text_member(coding, "system", here), text_member(coding, "code", here),
                   text_member(coding, "display", here)});
  }
}

// The first code of a CodeableConcept that FHIR binds to one value set, such as a verification
// status.
std::string_view bound_code(dom::element concept_value, const Path& path) {
  std::vector<FhirCoding> codings;
  read_codings(concept_value, path, codings);
  for (const FhirCoding& coding : codings) {
    if (!coding.code.empty()) return coding.code;
  }
  return {};
}

bool has_category(dom::element list, const Path& path, std::string_view code) {
  std::vector<FhirCoding> codings;
  std::int64_t index = 0;
  for (const dom::element item : array_of(list, path))
    read_codings(item, Path{&path, {}, index++}, codings);
  for (const FhirCoding& coding : codings) {
    if (coding.code == code) return true;
  }
  return false;
}

// Codings of the contained Medication that "#id" names; the reference stays unresolved when there
// is none.
bool read_contained(dom::element list, const Path& path, std::string_view id,
                    std::vector<FhirCoding>& out) {
  std::int64_t index = 0;
  for (const dom::element item : array_of(list, path)) {
    const Path here{&path, {}, index++};
    const dom::object resource = object_of(item, here);
    if (text_member(resource, "id", here) != id) continue;
    if (text_member(resource, "resourceType", here) != "Medication") continue;
    if (const auto code = member(resource, "code")) read_codings(*code, Path{&here, "code"}, out);
    return true;
  }
  return false;
}

void read_encounter(const Members& members, const Path& path, FhirResource& out) {
  out.part_of = members.reference(kPartOf, path);
  if (members.has(kPeriod)) {
    const Path here{&path, "period"};
    const dom::object period = object_of(members.at(kPeriod), here);
    out.start = text_member(period, "start", here);
    out.end = text_member(period, "end", here);
  }
  if (!members.has(kDiagnosis)) return;
  const Path list_path{&path, "diagnosis"};
  std::int64_t index = 0;
  for (const dom::element item : array_of(members.at(kDiagnosis), list_path)) {
    const Path here{&list_path, {}, index++};
    const auto condition = member(object_of(item, here), "condition");
    if (!condition) continue;
    const Path condition_path{&here, "condition"};
    out.diagnoses.push_back(
        text_member(object_of(*condition, condition_path), "reference", condition_path));
  }
}

void read_condition(const Members& members, const Path& path, FhirResource& out) {
  if (members.has(kVerification)) {
    out.verification =
        bound_code(members.at(kVerification), Path{&path, kSlotNames[kVerification]});
  }
  if (members.has(kCategory)) {
    out.is_problem_list_item = has_category(
        members.at(kCategory), Path{&path, kSlotNames[kCategory]}, "problem-list-item");
  }
}

void read_medication(const Members& members, const Path& path, FhirResource& out) {
  out.intent = members.text(kIntent, path);
  if (members.has(kDoNotPerform)) {
    out.do_not_perform = flag_of(members.at(kDoNotPerform), Path{&path, kSlotNames[kDoNotPerform]});
  }
  out.date = members.text(kAuthoredOn, path);
  if (out.date.empty()) out.date = members.text(kEffectiveDate, path);
  if (out.date.empty() && members.has(kEffectivePeriod)) {
    const Path here{&path, kSlotNames[kEffectivePeriod]};
    out.date = text_member(object_of(members.at(kEffectivePeriod), here), "start", here);
  }
  if (members.has(kMedicationConcept)) {
    read_codings(members.at(kMedicationConcept), Path{&path, kSlotNames[kMedicationConcept]},
                 out.codings);
  }
  out.medication = members.reference(kMedicationReference, path);
  if (!out.medication.starts_with('#') || !members.has(kContained)) return;
  const Path contained{&path, kSlotNames[kContained]};
  if (read_contained(members.at(kContained), contained, out.medication.substr(1), out.codings))
    out.medication = {};
}

void read_resource(const Members& members, const Path& path, FhirResource& out) {
  if (out.type == FhirType::kOther || out.type == FhirType::kBundle) return;
  out.id = members.text(kId, path);
  if (out.type == FhirType::kPatient) return;
  out.status = members.has(kStatus) ? members.text(kStatus, path) : std::string_view();
  out.subject = members.reference(kSubject, path);
  out.encounter =
      members.reference(members.has(kEncounterField) ? kEncounterField : kContext, path);
  if (members.has(kCode)) read_codings(members.at(kCode), Path{&path, "code"}, out.codings);
  switch (out.type) {
    case FhirType::kEncounter:
      return read_encounter(members, path, out);
    case FhirType::kCondition:
      return read_condition(members, path, out);
    case FhirType::kMedicationRequest:
    case FhirType::kMedicationAdministration:
    case FhirType::kMedicationStatement:
      return read_medication(members, path, out);
    default:
      return;
  }
}

std::string explain(simdjson::error_code error, const FhirLimits& limits) {
  if (error == simdjson::DEPTH_ERROR) {
    return "is nested deeper than " + std::to_string(limits.depth) + " levels";
  }
  if (error == simdjson::UTF8_ERROR) return "is not valid UTF-8";
  return std::string("is not valid JSON: ") + simdjson::error_message(error);
}

}  // namespace

void FhirResource::clear() {
  // The lists keep their memory: one resource follows another by the million.
  std::vector<FhirCoding> codings_kept = std::move(codings);
  std::vector<std::string_view> diagnoses_kept = std::move(diagnoses);
  codings_kept.clear();
  diagnoses_kept.clear();
  *this = FhirResource();
  codings = std::move(codings_kept);
  diagnoses = std::move(diagnoses_kept);
}

struct FhirParser::State {
  std::string file;
  FhirLimits limits;
  dom::parser parser;
  JsonText text;
  dom::element root;
  bool pending = false;               // the text's own resource is still to be handed out
  std::optional<dom::array> entries;  // of a Bundle in one text
  dom::array::iterator at, end;
  std::int64_t entry = 0;
  FhirType type = FhirType::kOther;  // of the resource at hand

  [[noreturn]] void rethrow(const ShapeError& error) const {
    throw fhir_error(file, text, error.path, error.what);
  }
  void read(dom::element value, std::string_view full_url, const Path& path, FhirResource& out);
  void read_entry(dom::element value, const Path& path, FhirResource& out);
  void start_entries(const Members& members, const Path& path);
};

FhirParser::FhirParser(std::string file, FhirLimits limits) : state_(std::make_unique<State>()) {
  state_->file = std::move(file);
  state_->limits = limits;
}

FhirParser::~FhirParser() = default;

void FhirParser::parse(const JsonText& text) {
  State& s = *state_;
  s.text = text;
  s.entries.reset();
  s.pending = true;
  auto failed = simdjson::SUCCESS;
  if (s.parser.max_depth() != s.limits.depth || s.parser.capacity() < text.text.size()) {
    const std::size_t room =
        std::max({text.text.size(), 2 * s.parser.capacity(), std::size_t{1} << 16});
    failed = s.parser.allocate(room, s.limits.depth);
  }
  if (!failed) failed = s.parser.parse(text.text.data(), text.text.size(), false).get(s.root);
  if (failed == simdjson::MEMALLOC)
    throw Error(Code::kOutOfMemory, s.file + ": no memory for one resource");
  if (failed) throw fhir_error(s.file, text, "", explain(failed, s.limits));
}

bool FhirParser::next(FhirResource& out) {
  State& s = *state_;
  out.clear();
  const Path top;
  try {
    if (s.pending) {
      s.pending = false;
      if (s.text.entry >= 0) {
        s.read_entry(s.root, top, out);
      } else {
        s.read(s.root, {}, top, out);
      }
      return true;
    }
    if (!s.entries || !(s.at != s.end)) return false;
    const Path list{&top, "Bundle.entry"};
    const dom::element value = *s.at;
    ++s.at;
    s.read_entry(value, Path{&list, {}, s.entry++}, out);
    return true;
  } catch (const ShapeError& error) {
    s.rethrow(error);
  }
}

void FhirParser::State::read_entry(dom::element value, const Path& path, FhirResource& out) {
  const dom::object item = object_of(value, path);
  const std::string_view full_url = text_member(item, "fullUrl", path);
  const auto resource = member(item, "resource");
  type = FhirType::kOther;
  if (!resource) return;  // a request or response without a body: nothing to use
  read(*resource, full_url, Path{&path, "resource"}, out);
}

void FhirParser::State::read(dom::element value, std::string_view full_url, const Path& path,
                             FhirResource& out) {
  const Members members(object_of(value, path), path);
  if (!members.has(kResourceType)) fail(path, "has no resourceType; expected a FHIR resource");
  type = type_of(members.text(kResourceType, path));
  out.type = type;
  out.full_url = full_url;
  const bool stands_alone = text.entry < 0 && !path.parent;
  read_resource(members, stands_alone ? Path{nullptr, fhir_type_name(type)} : path, out);
  // A Bundle inside a Bundle stays closed: FHIR search, history and batch results do not nest.
  if (type == FhirType::kBundle && stands_alone)
    start_entries(members, Path{nullptr, fhir_type_name(type)});
}

void FhirParser::State::start_entries(const Members& members, const Path& path) {
  if (!members.has(kEntry)) return;
  entries = array_of(members.at(kEntry), Path{&path, "entry"});
  at = entries->begin();
  end = entries->end();
  entry = 0;
}

Error FhirParser::error(const std::string& field, const std::string& what) const {
  const std::string type(fhir_type_name(state_->type));
  return fhir_error(state_->file, state_->text, type + "." + field, what);
}

std::string_view fhir_type_name(FhirType type) noexcept {
  return kTypeNames[static_cast<std::size_t>(type)];
}

}  // namespace theriac::readers
