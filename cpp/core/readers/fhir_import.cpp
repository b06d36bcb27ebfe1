#include "cpp/core/readers/fhir_import.h"

#include <algorithm>
#include <filesystem>
#include <unordered_map>

#include "cpp/core/readers/provenance.h"

namespace theriac::readers {

namespace {

using codes::System;
using data::Field;

// Every status of the R4 value sets that a rule rejects, as a reason; the data's own word never
// enters the report.
struct StatusReason {
  std::string_view status, reason;
};
constexpr StatusReason kStatusReasons[] = {
    {"", "no status"},
    {"planned", "status planned"},
    {"arrived", "status arrived"},
    {"triaged", "status triaged"},
    {"onleave", "status onleave"},
    {"cancelled", "status cancelled"},
    {"entered-in-error", "status entered-in-error"},
    {"unknown", "status unknown"},
    {"preparation", "status preparation"},
    {"not-done", "status not-done"},
    {"on-hold", "status on-hold"},
    {"stopped", "status stopped"},
    {"draft", "status draft"},
};

std::string_view status_reason(std::string_view status) {
  for (const auto& [known, reason] : kStatusReasons) {
    if (status == known) return reason;
  }
  return "a status that is not of FHIR R4";
}

bool is_one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool is_kept_encounter(std::string_view status) {
  return is_one_of(status, {"finished", "in-progress"});
}
bool is_kept_procedure(std::string_view status) {
  return is_one_of(status, {"completed", "in-progress"});
}
// Ordered, whatever became of it: only what was never meant, or never was, is left out.
bool is_kept_request(std::string_view status) {
  return is_one_of(status, {"active", "on-hold", "completed", "stopped", "unknown"});
}
// Given at least in part.
bool is_kept_administration(std::string_view status) {
  return is_one_of(status, {"in-progress", "on-hold", "completed", "stopped"});
}

// "Type/id" of a literal reference: relative, absolute or to a version; a urn as it stands. Empty
// for what leads nowhere: a conditional reference, or "#id" without that contained resource.
std::string_view reference_key(std::string_view reference) {
  if (reference.starts_with("urn:")) return reference;
  if (reference.starts_with('#') || reference.find('?') != std::string_view::npos) return {};
  reference = reference.substr(0, reference.find("/_history/"));
  const std::size_t id = reference.rfind('/');
  if (id == std::string_view::npos || id == 0) return reference;
  const std::size_t type = reference.rfind('/', id - 1);
  return type == std::string_view::npos ? reference : reference.substr(type + 1);
}

// The id of a resource from its name: the text after "Type/", or the whole urn.
std::string_view id_of(std::string_view name) {
  const std::size_t slash = name.rfind('/');
  return name.starts_with("urn:") || slash == std::string_view::npos ? name
                                                                     : name.substr(slash + 1);
}

constexpr std::string_view kNoCode = "text only, no code";
constexpr std::string_view kRepeated = "repeated resource";

}  // namespace

FhirImport::FhirImport(const data::CohortPolicy& policy, FhirLimits limits)
    : policy_(policy), limits_(limits), resolver_(policy) {
  for (int type = 0; type < kFhirTypeCount; ++type) {
    counts_.emplace_back(std::string(fhir_type_name(static_cast<FhirType>(type))));
  }
}

void FhirImport::read(std::unique_ptr<ByteSource> source, bool one_resource_a_line) {
  FhirParser parser(source->name(), limits_);
  const auto texts = one_resource_a_line ? json_lines(std::move(source), limits_)
                                         : json_documents(std::move(source), limits_);
  JsonText text;
  FhirResource resource;
  while (texts->next(text)) {
    parser.parse(text);
    while (parser.next(resource)) add(resource, parser);
  }
}

void FhirImport::add(const FhirResource& resource, const FhirParser& parser) {
  if (resource.type == FhirType::kBundle) return;  // its entries are what counts
  counts(resource.type).read();
  switch (resource.type) {
    case FhirType::kPatient:
      return add_patient(resource, parser);
    case FhirType::kEncounter:
      return add_encounter(resource, parser);
    case FhirType::kCondition:
      return add_condition(resource);
    case FhirType::kProcedure:
      return add_procedure(resource);
    case FhirType::kMedication:
      return add_medication(resource, parser);
    case FhirType::kMedicationRequest:
    case FhirType::kMedicationAdministration:
      return add_medication_event(resource, parser);
    case FhirType::kMedicationStatement:
      // What a patient takes at home is no decision of the visit, so it is no label of it.
      return counts(resource.type).dropped("home medication, not of the visit");
    case FhirType::kBundle:
    case FhirType::kOther:
      return counts(resource.type).dropped("resource type not used");
  }
}

std::uint32_t FhirImport::name_of(std::string_view reference) {
  if (reference.empty()) return kNone;
  const std::uint32_t name = names_.intern(reference_key(reference));
  if (name >= bindings_.size()) bindings_.resize(name + 1);
  return name;
}

std::array<std::uint32_t, 2> FhirImport::names_of(const FhirResource& resource) {
  std::array<std::uint32_t, 2> out{kNone, kNone};
  if (!resource.id.empty()) {
    scratch_.assign(fhir_type_name(resource.type)).append("/").append(resource.id);
    out[0] = name_of(scratch_);
  }
  // A fullUrl that no reference can lead to is no name.
  if (!reference_key(resource.full_url).empty()) out[1] = name_of(resource.full_url);
  return out;
}

FhirImport::Binding FhirImport::binding(std::uint32_t name) const {
  return name == kNone ? Binding{} : bindings_[name];
}

FhirImport::Binding FhirImport::bound(const std::array<std::uint32_t, 2>& names) const {
  const Binding first = binding(names[0]);
  return first.kind != Kind::kNothing ? first : binding(names[1]);
}

void FhirImport::bind(const std::array<std::uint32_t, 2>& names, Binding target) {
  for (const std::uint32_t name : names) {
    if (name != kNone && !names_.text(name).empty()) bindings_[name] = target;
  }
}

std::int64_t FhirImport::moment(std::string_view text, const char* field,
                                const FhirParser& parser) const {
  if (text.empty()) return data::kNoTime;
  try {
    return data::parse_time(text);
  } catch (const Error&) {
    throw parser.error(field, "is not a FHIR date or time");
  }
}

System FhirImport::system_of(std::string_view uri, bool procedure) {
  const std::uint32_t position = uris_.intern(uri);
  if (position == systems_.size()) {
    systems_.push_back({codes::system_from_uri(uri, false).value_or(System::kUnknown),
                        codes::system_from_uri(uri, true).value_or(System::kUnknown)});
  }
  return systems_[position][procedure ? 1 : 0];
}

// The best coding of one concept. Without a usable one: the reason that came closest, and the code
// counted as unmapped.
ResolvedCode FhirImport::choose(const std::vector<FhirCoding>& codings, Field field) {
  ResolvedCode best;
  best.reason = kNoCode;
  const FhirCoding* chosen = nullptr;
  for (const FhirCoding& coding : codings) {
    if (coding.code.empty()) continue;
    const System system = system_of(coding.system, field == Field::kProcedures);
    const ResolvedCode& found = resolver_.resolve(field, system, coding.code);
    if (found.rank >= best.rank) continue;
    best = found;
    chosen = &coding;
  }
  if (!best.usable()) {
    resolver_.count_unmapped(best, accounting_);
  } else if (field == Field::kMedications && resolver_.classes(best.code).empty()) {
    resolver_.name_medication(best.code, chosen->display);
  }
  return best;
}

void FhirImport::add_patient(const FhirResource& resource, const FhirParser& parser) {
  RowCounts& rows = counts(FhirType::kPatient);
  const auto names = names_of(resource);
  const Binding known = bound(names);
  if (known.kind == Kind::kPatient) return rows.dropped(kRepeated);
  if (known.kind != Kind::kNothing)
    throw parser.error("id", "is the id of another kind of resource as well");
  const std::uint32_t name = names[0] != kNone ? names[0] : names[1];
  if (name == kNone) return rows.dropped("no id");
  bind(names, {Kind::kPatient, static_cast<std::uint32_t>(patients_.size())});
  patients_.push_back(name);
  rows.kept();
}

void FhirImport::add_encounter(const FhirResource& resource, const FhirParser& parser) {
  RowCounts& rows = counts(FhirType::kEncounter);
  const auto names = names_of(resource);
  Encounter encounter{names[0] != kNone ? names[0] : names[1], name_of(resource.subject),
                      name_of(resource.part_of), moment(resource.start, "period.start", parser),
                      is_kept_encounter(resource.status)};
  const std::int64_t end = moment(resource.end, "period.end", parser);
  if (encounter.name == kNone) return rows.dropped("no id");
  const Binding known = bound(names);
  if (known.kind != Kind::kNothing) {
    const bool is_same = known.kind == Kind::kEncounter &&
                         encounters_[known.index].subject == encounter.subject &&
                         encounters_[known.index].start == encounter.start &&
                         encounters_[known.index].kept == encounter.kept;
    if (is_same) return rows.dropped(kRepeated);
    throw parser.error("id",
                       "is the id of an earlier resource with another patient, start or status");
  }
  const auto index = static_cast<std::uint32_t>(encounters_.size());
  bind(names, {Kind::kEncounter, index});
  encounters_.push_back(encounter);
  if (!encounter.kept) return rows.dropped(status_reason(resource.status));
  if (encounter.start == data::kNoTime) ++undated_;
  if (encounter.start != data::kNoTime && end != data::kNoTime && end < encounter.start)
    ++reversed_dates_;
  for (const std::string_view condition : resource.diagnoses) {
    if (!condition.empty()) diagnosis_links_.emplace_back(name_of(condition), index);
  }
}

void FhirImport::add_condition(const FhirResource& resource) {
  RowCounts& rows = counts(FhirType::kCondition);
  if (resource.verification == "refuted") return rows.dropped("verification status refuted");
  if (resource.verification == "entered-in-error")
    return rows.dropped("verification status entered-in-error");
  const ResolvedCode code = choose(resource.codings, Field::kDiagnoses);
  if (!code.usable()) return rows.dropped(code.reason);
  const std::uint32_t subject = name_of(resource.subject);
  if (!resource.encounter.empty()) {
    conditions_.push_back({name_of(resource.encounter), subject, code.code});
    return;
  }
  const auto names = names_of(resource);
  if (bound(names).kind != Kind::kNothing) return rows.dropped(kRepeated);
  bind(names, {Kind::kCondition, static_cast<std::uint32_t>(loose_conditions_.size())});
  loose_conditions_.push_back({subject, code.code, resource.is_problem_list_item});
}

void FhirImport::add_procedure(const FhirResource& resource) {
  RowCounts& rows = counts(FhirType::kProcedure);
  if (!is_kept_procedure(resource.status)) return rows.dropped(status_reason(resource.status));
  const ResolvedCode code = choose(resource.codings, Field::kProcedures);
  if (!code.usable()) return rows.dropped(code.reason);
  if (resource.encounter.empty()) return rows.dropped("no encounter");
  procedures_.push_back({name_of(resource.encounter), name_of(resource.subject), code.code});
}

void FhirImport::add_medication(const FhirResource& resource, const FhirParser& parser) {
  RowCounts& rows = counts(FhirType::kMedication);
  const auto names = names_of(resource);
  if (names[0] == kNone && names[1] == kNone) return rows.dropped("no id");
  Medication medication{kNone, status_reason(resource.status)};
  if (resource.status != "entered-in-error") {
    const ResolvedCode code = choose(resource.codings, Field::kMedications);
    medication = {code.code, code.reason};
  }
  const Binding known = bound(names);
  if (known.kind == Kind::kMedication && medications_[known.index].code == medication.code) {
    return rows.dropped(kRepeated);
  }
  if (known.kind != Kind::kNothing)
    throw parser.error("id", "is the id of an earlier resource with other content");
  bind(names, {Kind::kMedication, static_cast<std::uint32_t>(medications_.size())});
  medications_.push_back(medication);
  if (medication.code == kNone) return rows.dropped(medication.reason);
  rows.kept();
}

void FhirImport::add_medication_event(const FhirResource& resource, const FhirParser& parser) {
  RowCounts& rows = counts(resource.type);
  const bool is_request = resource.type == FhirType::kMedicationRequest;
  if (!(is_request ? is_kept_request(resource.status) : is_kept_administration(resource.status))) {
    return rows.dropped(status_reason(resource.status));
  }
  if (is_request && !is_one_of(resource.intent, {"order", "plan"}))
    return rows.dropped("intent other than order or plan");
  if (resource.do_not_perform) return rows.dropped("doNotPerform");
  if (resource.encounter.empty()) return rows.dropped("no encounter");
  MedicationEvent event{name_of(resource.encounter),
                        name_of(resource.subject),
                        kNone,
                        MedicationRow::kNoDay,
                        resource.type,
                        !resource.medication.empty()};
  if (event.by_reference) {
    event.code = name_of(resource.medication);
  } else {
    const ResolvedCode code = choose(resource.codings, Field::kMedications);
    if (!code.usable()) return rows.dropped(code.reason);
    event.code = code.code;
  }
  if (policy_.med_window == "first_day") {
    event.day = day_of(moment(resource.date, is_request ? "authoredOn" : "effective", parser));
  }
  medication_events_.push_back(event);
}

// --- After the last file: references become visits ---

void FhirImport::find_patients() {
  for (const std::uint32_t name : patients_) store_.add_patient(id_of(names_.text(name)));
  for (Encounter& encounter : encounters_) {
    const Binding subject = binding(encounter.subject);
    if (subject.kind == Kind::kPatient) encounter.patient = subject.index;
  }
}

// The encounter that this one is part of; kNone when it stands for itself.
std::uint32_t FhirImport::parent_of(std::uint32_t encounter) {
  const Encounter& child = encounters_[encounter];
  if (!child.kept || child.part_of == kNone) return kNone;
  const Binding parent = binding(child.part_of);
  if (parent.kind == Kind::kEncounter && encounters_[parent.index].kept &&
      encounters_[parent.index].patient == child.patient) {
    return parent.index;
  }
  ++lost_parents_;
  return kNone;
}

// The outermost encounter of each one. A circle of partOf is cut where it is met.
std::vector<std::uint32_t> FhirImport::find_roots() {
  std::vector<std::uint32_t> roots(encounters_.size(), kNone);
  std::vector<bool> on_path(encounters_.size(), false);
  std::vector<std::uint32_t> path;
  for (std::uint32_t start = 0; start < encounters_.size(); ++start) {
    std::uint32_t at = start;
    path.clear();
    while (roots[at] == kNone) {
      path.push_back(at);
      on_path[at] = true;
      const std::uint32_t parent = parent_of(at);
      if (parent == kNone || on_path[parent]) {
        if (parent != kNone) ++lost_parents_;
        roots[at] = at;
      } else {
        at = parent;
      }
    }
    for (const std::uint32_t passed : path) {
      roots[passed] = roots[at];
      on_path[passed] = false;
    }
  }
  return roots;
}

// One visit per outermost encounter, from its own start, or the first start among its parts.
void FhirImport::make_visits() {
  const std::vector<std::uint32_t> roots = find_roots();
  RowCounts& rows = counts(FhirType::kEncounter);
  std::vector<std::int64_t> first_part(encounters_.size(), data::kNoTime);
  for (std::uint32_t i = 0; i < encounters_.size(); ++i) {
    std::int64_t& first = first_part[roots[i]];
    const std::int64_t start = encounters_[i].start;
    if (encounters_[i].kept && start != data::kNoTime && (first == data::kNoTime || start < first))
      first = start;
  }
  const auto is_visit = [&](const Encounter& e) { return e.kept && e.patient != kNone; };
  for (std::uint32_t i = 0; i < encounters_.size(); ++i) {
    Encounter& encounter = encounters_[i];
    if (roots[i] != i || !is_visit(encounter)) continue;
    const std::int64_t start = encounter.start != data::kNoTime ? encounter.start : first_part[i];
    encounter.visit =
        store_.add_visit(encounter.patient, id_of(names_.text(encounter.name)), start);
  }
  for (std::uint32_t i = 0; i < encounters_.size(); ++i) {
    Encounter& encounter = encounters_[i];
    if (!encounter.kept) continue;  // counted when it was read
    if (!is_visit(encounter)) {
      rows.dropped(encounter.subject == kNone ? "no patient" : "patient not found");
      continue;
    }
    if (roots[i] != i) ++merged_;
    encounter.visit = encounters_[roots[i]].visit;
    rows.kept();
  }
}

std::optional<std::uint32_t> FhirImport::visit_of(std::uint32_t encounter, std::uint32_t subject,
                                                  RowCounts& rows) const {
  const Binding found = binding(encounter);
  std::string_view reason;
  if (found.kind != Kind::kEncounter) {
    reason = "encounter not found";
  } else if (encounters_[found.index].visit == kNone) {
    reason = "encounter not kept";
  } else if (subject != kNone && binding(subject).kind != Kind::kPatient) {
    reason = "patient not found";
  } else if (subject != kNone && binding(subject).index != encounters_[found.index].patient) {
    reason = "patient differs from the encounter's";
  } else {
    return encounters_[found.index].visit;
  }
  rows.dropped(reason);
  return std::nullopt;
}

void FhirImport::place_codes(std::vector<CodedEvent>& events, Field field, FhirType type) {
  RowCounts& rows = counts(type);
  std::int64_t order = 0;
  for (const CodedEvent& event : events) {
    const auto visit = visit_of(event.encounter, event.subject, rows);
    if (!visit) continue;
    store_.add_code(field, *visit, event.code, order++);
    rows.kept();
  }
  events = {};
}

// Conditions that name no encounter: an Encounter.diagnosis may name them; else a problem-list item
// goes where the policy says.
void FhirImport::place_loose_conditions() {
  RowCounts& rows = counts(FhirType::kCondition);
  std::vector<std::uint32_t> named_by(loose_conditions_.size(), kNone);
  for (const auto& [condition, encounter] : diagnosis_links_) {
    const Binding found = binding(condition);
    if (found.kind == Kind::kCondition) named_by[found.index] = encounters_[encounter].name;
  }
  const bool to_last_visit = policy_.problem_list == "last_visit";
  const std::vector<std::uint32_t> last =
      to_last_visit ? store_.last_visits() : std::vector<std::uint32_t>();
  std::int64_t order = static_cast<std::int64_t>(conditions_.size());
  for (std::size_t i = 0; i < loose_conditions_.size(); ++i) {
    const LooseCondition& condition = loose_conditions_[i];
    std::optional<std::uint32_t> visit;
    if (named_by[i] != kNone) {
      visit = visit_of(named_by[i], condition.subject, rows);
      if (!visit) continue;
    } else if (!condition.is_problem_list_item) {
      rows.dropped("no encounter");
      continue;
    } else if (!to_last_visit) {
      rows.dropped("problem-list item without an encounter (problem_list=drop)");
      continue;
    } else if (const Binding subject = binding(condition.subject);
               subject.kind == Kind::kPatient && last[subject.index] != kNone) {
      visit = last[subject.index];
    } else {
      rows.dropped("problem-list item of a patient without a visit");
      continue;
    }
    store_.add_code(Field::kDiagnoses, *visit, condition.code, order++);
    rows.kept();
  }
}

void FhirImport::place_medications() {
  for (const MedicationEvent& event : medication_events_) {
    RowCounts& rows = counts(event.type);
    const auto visit = visit_of(event.encounter, event.subject, rows);
    if (!visit) continue;
    std::uint32_t code = event.code;
    if (event.by_reference) {
      const Binding medication = binding(event.code);
      if (medication.kind != Kind::kMedication) {
        rows.dropped("medication not found");
        continue;
      }
      code = medications_[medication.index].code;
      if (code == kNone) {
        rows.dropped(medications_[medication.index].reason);
        continue;
      }
    }
    store_.add_medication({*visit, code, event.day, static_cast<std::uint32_t>(event.type)});
  }
  medication_events_ = {};
}

data::Cohort FhirImport::finish(const std::vector<std::filesystem::path>& files, Job& job) {
  job.milestone("grouping", 0, 0);
  find_patients();
  make_visits();
  job.check();
  place_loose_conditions();
  place_codes(conditions_, Field::kDiagnoses, FhirType::kCondition);
  place_codes(procedures_, Field::kProcedures, FhirType::kProcedure);
  job.check();
  place_medications();
  job.check();
  std::vector<data::RawPatient> patients = store_.finish(policy_, resolver_, counts_, accounting_);
  for (const RowCounts& rows : counts_) rows.add_to(accounting_);
  Json provenance = describe_source("fhir", files, resolver_.maps());
  add_warning(provenance, "encounters that end before they start", reversed_dates_);
  add_warning(provenance, "encounters without a start", undated_);
  add_warning(provenance, "encounters merged into the one they are part of", merged_);
  add_warning(provenance, "encounters whose partOf is not kept, of another patient, or a circle",
              lost_parents_);
  job.check();
  return data::apply_policy(std::move(patients), policy_, accounting_, std::move(provenance));
}

}  // namespace theriac::readers
