#include "cpp/core/data/cohort_io.h"

#include <optional>
#include <utility>

#include "cpp/core/base/file.h"
#include "cpp/core/data/column_file.h"
#include "cpp/core/data/stored_header.h"

namespace theriac::data {
namespace {

constexpr const char* kKind = "cohort";

std::string name_of(int field) { return std::string(field_name(static_cast<Field>(field))); }

Json vocabulary_json(const Vocabulary& vocabulary) {
  Json codes = Json::array();
  for (const codes::MedicalCode& code : vocabulary.codes()) {
    codes.push_back(Json::array({std::string(codes::system_name(code.system)), code.text}));
  }
  return codes;
}

Json write_columns(const CohortColumns& columns, const std::filesystem::path& file) {
  ColumnWriter writer(file);
  writer.add_texts("patient_ids", columns.patient_ids);
  writer.add("patient_offsets", columns.patient_offsets);
  writer.add_texts("visit_ids", columns.visit_ids);
  writer.add("times", columns.times);
  for (int f = 0; f < kFieldCount; ++f) {
    writer.add(name_of(f) + ".offsets", columns.offsets[static_cast<std::size_t>(f)]);
    writer.add(name_of(f) + ".ids", columns.ids[static_cast<std::size_t>(f)]);
  }
  return writer.finish();
}

Json header_json(const Cohort& cohort, Json columns) {
  Json vocabularies = Json::object();
  Json counts{{"patients", cohort.patients()}, {"visits", cohort.visits()}};
  for (int f = 0; f < kFieldCount; ++f) {
    vocabularies[name_of(f)] = vocabulary_json(cohort.vocabulary(static_cast<Field>(f)));
    counts[name_of(f)] = cohort.ids(static_cast<Field>(f)).size();
  }
  return Json{{"kind", kKind},
              {"format_version", kFormatVersion},
              {"fingerprint", cohort.fingerprint()},
              {"counts", std::move(counts)},
              {"provenance", cohort.provenance()},
              {"accounting", cohort.accounting()},
              {"columns", std::move(columns)},
              {"vocabularies", std::move(vocabularies)}};
}

codes::MedicalCode medical_code(const StoredHeader& header, const Json& entry,
                                const std::string& key, std::size_t position) {
  const bool pair =
      entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string();
  const auto system = pair ? codes::system_from_name(entry[0].get_ref<const std::string&>())
                           : std::optional<codes::System>();
  if (!system) {
    header.fail(key, "entry " + std::to_string(position) + " is not a [system, code] pair");
  }
  return {*system, entry[1].get<std::string>()};
}

Vocabulary read_vocabulary(const StoredHeader& header, int field) {
  const std::string key = "vocabularies/" + name_of(field);
  const Json& all = header.member("vocabularies");
  const auto found = all.is_object() ? all.find(name_of(field)) : all.end();
  if (found == all.end() || !found->is_array()) header.fail(key, "is missing or not an array");
  std::vector<codes::MedicalCode> codes;
  codes.reserve(found->size());
  for (const Json& entry : *found) codes.push_back(medical_code(header, entry, key, codes.size()));
  return Vocabulary(std::move(codes));
}

}  // namespace

void save_cohort(const Cohort& cohort, const std::filesystem::path& directory, bool overwrite) {
  replace_directory(directory, overwrite, kHeaderFile, [&](const std::filesystem::path& staged) {
    Json columns = write_columns(cohort.columns(), staged / kColumnFile);
    replace_file(staged / kHeaderFile, dump_json(header_json(cohort, std::move(columns))) + "\n");
  });
}

Cohort load_cohort(const std::filesystem::path& directory) {
  const StoredHeader header(directory);
  header.need_kind(kKind);
  const ColumnReader reader(directory / kColumnFile, header.member("columns"));
  CohortColumns columns;
  columns.patient_ids = reader.texts("patient_ids");
  columns.patient_offsets = reader.int64s("patient_offsets");
  columns.visit_ids = reader.texts("visit_ids");
  columns.times = reader.int64s("times");
  for (int f = 0; f < kFieldCount; ++f) {
    const auto field = static_cast<std::size_t>(f);
    columns.offsets[field] = reader.int64s(name_of(f) + ".offsets");
    columns.ids[field] = reader.int32s(name_of(f) + ".ids");
    columns.vocabularies[field] = read_vocabulary(header, f);
  }
  columns.accounting = header.object("accounting");
  columns.provenance = header.object("provenance");
  Cohort cohort(std::move(columns));
  header.check_fingerprint(cohort.fingerprint());
  return cohort;
}

}  // namespace theriac::data
