#include "cpp/engine/clinical/similar_codes.h"

#include <string>
#include <vector>

namespace theriac::clinical {
namespace {

std::string similar_file(const char* table, std::size_t field) {
  return std::string("tables/") + table + "." +
         std::string(data::field_name(static_cast<data::Field>(field))) + ".bin";
}

std::array<std::int32_t, 3> sizes_of(const Vocabularies& vocabularies) {
  return {static_cast<std::int32_t>(vocabularies.diagnoses.size()),
          static_cast<std::int32_t>(vocabularies.procedures.size()),
          static_cast<std::int32_t>(vocabularies.classes.size())};
}

}  // namespace

SimilarCodeTables similar_codes(const MappedCohort& cohort, const Vocabularies& vocabularies) {
  constexpr std::size_t kNeighbours = 10;
  const auto sizes = sizes_of(vocabularies);
  SimilarCodeTables tables;
  for (std::size_t f = 0; f < sizes.size(); ++f) {
    if (sizes[f] == 0) continue;
    std::vector<augment::Ids> visits;
    for (std::int64_t v = 0; v < cohort.cohort().visits(); ++v) {
      augment::Ids& own = visits.emplace_back();
      for (const std::int32_t id : cohort.ids(static_cast<data::Field>(f), v))
        own.push_back(id + 1);
    }
    const auto table = [&](augment::CoOccurrence weighting) {
      return std::make_shared<const augment::SimilarityTable>(
          augment::similar_by_users(visits, sizes[f], kNeighbours, weighting));
    };
    tables.item_cf[f] = table(augment::CoOccurrence::kCount);
    tables.item_cf_iuf[f] = table(augment::CoOccurrence::kInverseUserFrequency);
  }
  return tables;
}

void write_similar(const SimilarCodeTables& tables, train::ModelDirectory& directory) {
  for (std::size_t f = 0; f < tables.item_cf.size(); ++f) {
    if (tables.item_cf[f])
      directory.files[similar_file("item_cf", f)] = augment::to_bytes(*tables.item_cf[f]);
    if (tables.item_cf_iuf[f])
      directory.files[similar_file("item_cf_iuf", f)] = augment::to_bytes(*tables.item_cf_iuf[f]);
  }
}

SimilarCodeTables read_similar(const Vocabularies& vocabularies,
                               const train::ModelDirectory& directory) {
  const auto sizes = sizes_of(vocabularies);
  SimilarCodeTables tables;
  for (std::size_t f = 0; f < sizes.size(); ++f) {
    tables.item_cf[f] =
        augment::stored_table(directory.files, similar_file("item_cf", f), sizes[f]);
    tables.item_cf_iuf[f] =
        augment::stored_table(directory.files, similar_file("item_cf_iuf", f), sizes[f]);
  }
  return tables;
}

}  // namespace theriac::clinical
