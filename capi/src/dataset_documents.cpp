#include "capi/src/dataset_documents.h"

#include "capi/src/schemas.h"
#include "cpp/core/data/cohort_io.h"
#include "cpp/core/data/policy.h"
#include "cpp/core/data/sequences_io.h"
#include "cpp/core/data/split.h"
#include "cpp/core/generate/cohort.h"
#include "cpp/core/generate/sequences.h"

namespace theriac::capi {
namespace {

// `extra` first: what chooses the alternative stands before its options.
Json with_properties(Json schema, const Json& extra) {
  Json properties = extra;
  for (const auto& [key, value] : schema["properties"].items()) properties[key] = value;
  schema["properties"] = std::move(properties);
  return schema;
}

// Told apart by a member.
Json one_of(const char* title, Json alternatives) {
  return Json{{"title", title}, {"oneOf", std::move(alternatives)}};
}
// Told apart by the data set they are used on: a document may fit several.
Json any_of(const char* title, Json alternatives) {
  return Json{{"title", title}, {"anyOf", std::move(alternatives)}};
}

Json constant(const char* value) { return Json{{"const", value}}; }

Json path_schema(const char* description) {
  return Json{{"type", "string"}, {"description", description}};
}

Json required(Json schema, const char* key) {
  schema["required"] = Json::array({key});
  return schema;
}

}  // namespace

const std::vector<std::string>& data_formats() {
  static const auto* const formats =
      new std::vector<std::string>{"theriac", "mimic-iii", "mimic-iv", "fhir", kSequences};
  return *formats;
}

std::string take_text(Json& document, const char* key, const std::string& fallback) {
  const auto found = document.find(key);
  if (found == document.end()) return fallback;
  if (!found->is_string()) {
    throw Error(Code::kInvalidArgument,
                std::string("option '") + key + "' must be text, not " + found->type_name())
        .at("option", key);
  }
  std::string value = found->get<std::string>();
  document.erase(key);
  return value;
}

std::string take_choice(Json& document, const char* key, const std::string& fallback,
                        const std::vector<std::string>& names) {
  std::string value = take_text(document, key, fallback);
  std::string expected;
  for (const std::string& name : names) {
    if (value == name) return value;
    expected += (expected.empty() ? "" : ", ") + name;
  }
  const std::string near = nearest_name(value, names);
  throw Error(Code::kInvalidArgument, std::string("option '") + key + "' is '" + value +
                                          "'; expected one of " + expected +
                                          (near.empty() ? "" : "; did you mean '" + near + "'?"))
      .at("option", key)
      .at("got", value);
}

std::string take_path(Json& document) {
  std::string path = take_text(document, "path", "");
  if (path.empty())
    throw Error(Code::kInvalidArgument, "option 'path' is missing; it names the file or folder")
        .at("option", "path");
  return path;
}

const OptionTable<CohortExportOptions>& CohortExportOptions::options() {
  using O = CohortExportOptions;
  static const auto* const t =
      new OptionTable<O>(OptionTable<O>("dataset.export", "A table of a cohort as text")
                             .choice("table", &O::table, data::table_names(), "which table")
                             .choice("format", &O::format, {"csv", "jsonl", "arrow"},
                                     "layout; arrow is an Arrow IPC stream"));
  return *t;
}

const OptionTable<SequenceExportOptions>& SequenceExportOptions::options() {
  using O = SequenceExportOptions;
  static const auto* const t = new OptionTable<O>(
      OptionTable<O>("dataset.export", "A table of sequences as text")
          .choice("table", &O::table, data::sequence_table_names(), "which table")
          .choice("format", &O::format, {"csv", "jsonl", "arrow", "lines"},
                  "layout; arrow is an Arrow IPC stream, lines one user a line (of the table "
                  "sequences)"));
  return *t;
}

Json dataset_open_schema() {
  const Json saved{{"title", "saved"},
                   {"type", "object"},
                   {"properties",
                    {{"format", {{"const", "theriac"}, {"default", "theriac"}}},
                     {"path", path_schema("folder of a saved data set, of either kind")}}},
                   {"patternProperties", {{"^x-", true}}},
                   {"additionalProperties", false}};
  const Json cohort = with_properties(data::CohortPolicy::table().schema(),
                                      {{"format",
                                        {{"type", "string"},
                                         {"enum", {"mimic-iii", "mimic-iv", "fhir"}},
                                         {"description", "layout of the records"}}},
                                       {"path", path_schema("file or folder")}});
  const Json sequences = with_properties(
      data::SequencePolicy::table().schema(),
      {{"format", constant(kSequences)}, {"path", path_schema("text file, plain or gzip")}});
  return one_of("dataset.open",
                Json::array({saved, required(cohort, "format"), required(sequences, "format")}));
}

Json dataset_from_arrow_schema() {
  const Json cohort = with_properties(data::CohortPolicy::table().schema(),
                                      {{"kind", {{"const", kCohort}, {"default", kCohort}}}});
  const Json sequences =
      with_properties(data::SequencePolicy::table().schema(), {{"kind", constant(kSequences)}});
  return one_of("dataset.from_arrow", Json::array({cohort, required(sequences, "kind")}));
}

Json dataset_generate_schema() {
  const Json cohort = with_properties(generate::CohortOptions::table().schema(),
                                      {{"kind", {{"const", kCohort}, {"default", kCohort}}},
                                       {"path", path_schema("folder to make")}});
  const Json sequences =
      with_properties(generate::SequenceOptions::table().schema(),
                      {{"kind", constant(kSequences)}, {"path", path_schema("file to write")}});
  const Json claim = with_properties(
      generate::HierarchyClaimOptions::table().schema(),
      {{"kind", constant("hierarchy_claim")},
       {"path", path_schema("folder to make")},
       {"list",
        {{"type", "string"},
         {"description",
          "official ICD-9 procedure list (CSV); empty: generated codes of the same shape"}}}});
  return one_of("dataset.generate",
                Json::array({cohort, required(sequences, "kind"), required(claim, "kind")}));
}

Json dataset_split_schema() {
  return any_of("dataset.split", Json::array({data::SplitOptions::table().schema(),
                                              data::SequenceSplitOptions::table().schema()}));
}

Json dataset_export_schema() {
  return any_of("dataset.export", Json::array({CohortExportOptions::options().schema(),
                                               SequenceExportOptions::options().schema()}));
}

}  // namespace theriac::capi
