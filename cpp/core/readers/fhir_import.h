// FHIR R4 resources, in any order and from any number of files, into a cohort.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cpp/core/base/input.h"
#include "cpp/core/base/job.h"
#include "cpp/core/data/cohort.h"
#include "cpp/core/data/policy.h"
#include "cpp/core/readers/code_resolver.h"
#include "cpp/core/readers/fhir_resource.h"
#include "cpp/core/readers/record_store.h"
#include "cpp/core/readers/row_counts.h"
#include "cpp/core/readers/string_pool.h"

namespace theriac::readers {

// Each resource is judged when it is read and kept as a few integers; references are resolved in
// finish(), since a Condition may be read before its Encounter. Not synchronised.
class FhirImport {
 public:
  explicit FhirImport(const data::CohortPolicy& policy, FhirLimits limits = {});

  // Reads one file: a resource a line, or JSON documents of any layout.
  void read(std::unique_ptr<ByteSource> source, bool one_resource_a_line);
  // Once, after the last file. `files` are named in the provenance.
  data::Cohort finish(const std::vector<std::filesystem::path>& files, Job& job);

 private:
  static constexpr std::uint32_t kNone = StringPool::kNone;

  // What a reference leads to.
  enum class Kind : std::uint8_t { kNothing, kPatient, kEncounter, kMedication, kCondition };
  struct Binding {
    Kind kind = Kind::kNothing;
    std::uint32_t index = 0;
  };
  struct Encounter {
    std::uint32_t name, subject, part_of;  // names; kNone when absent
    std::int64_t start;
    bool kept;                      // by its status
    std::uint32_t patient = kNone;  // found in finish()
    std::uint32_t visit = kNone;
  };
  struct Medication {
    std::uint32_t code;       // in the resolver, or kNone
    std::string_view reason;  // a literal
  };
  // A Condition or Procedure with a usable code.
  struct CodedEvent {
    std::uint32_t encounter, subject, code;
  };
  // A Condition that names no encounter.
  struct LooseCondition {
    std::uint32_t subject, code;
    bool is_problem_list_item;
  };
  struct MedicationEvent {
    std::uint32_t encounter, subject;
    std::uint32_t code;  // in the resolver; or, by reference, a name
    std::int32_t day;
    FhirType type;
    bool by_reference;
  };

  void add(const FhirResource& resource, const FhirParser& parser);
  void add_patient(const FhirResource& resource, const FhirParser& parser);
  void add_encounter(const FhirResource& resource, const FhirParser& parser);
  void add_condition(const FhirResource& resource);
  void add_procedure(const FhirResource& resource);
  void add_medication(const FhirResource& resource, const FhirParser& parser);
  void add_medication_event(const FhirResource& resource, const FhirParser& parser);

  RowCounts& counts(FhirType type) { return counts_[static_cast<std::size_t>(type)]; }
  codes::System system_of(std::string_view uri, bool procedure);
  ResolvedCode choose(const std::vector<FhirCoding>& codings, data::Field field);
  std::int64_t moment(std::string_view text, const char* field, const FhirParser& parser) const;

  // Names that a resource goes by: Type/id and its fullUrl. Empty ones are kNone.
  std::array<std::uint32_t, 2> names_of(const FhirResource& resource);
  std::uint32_t name_of(std::string_view reference);
  Binding binding(std::uint32_t name) const;
  Binding bound(const std::array<std::uint32_t, 2>& names) const;
  void bind(const std::array<std::uint32_t, 2>& names, Binding target);

  void find_patients();
  std::vector<std::uint32_t> find_roots();
  std::uint32_t parent_of(std::uint32_t encounter);
  void make_visits();
  std::optional<std::uint32_t> visit_of(std::uint32_t encounter, std::uint32_t subject,
                                        RowCounts& rows) const;
  void place_codes(std::vector<CodedEvent>& events, data::Field field, FhirType type);
  void place_loose_conditions();
  void place_medications();

  const data::CohortPolicy policy_;
  const FhirLimits limits_;
  CodeResolver resolver_;
  RecordStore store_;
  data::Accounting accounting_;
  std::vector<RowCounts> counts_;  // by FhirType

  StringPool names_;                                   // references, as Type/id or urn
  std::vector<Binding> bindings_;                      // beside names_
  StringPool uris_;                                    // of code systems
  std::vector<std::array<codes::System, 2>> systems_;  // beside uris_: for others, for procedures
  std::string scratch_;

  std::vector<std::uint32_t> patients_;  // names
  std::vector<Encounter> encounters_;
  std::vector<Medication> medications_;
  std::vector<CodedEvent> conditions_, procedures_;
  std::vector<LooseCondition> loose_conditions_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>>
      diagnosis_links_;  // condition name, encounter
  std::vector<MedicationEvent> medication_events_;
  std::int64_t reversed_dates_ = 0, undated_ = 0, merged_ = 0, lost_parents_ = 0;
};

}  // namespace theriac::readers
