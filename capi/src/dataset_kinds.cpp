#include "capi/src/dataset_kinds.h"

#include <sstream>
#include <utility>
#include <vector>

#include "capi/src/dataset_documents.h"
#include "cpp/core/data/arrow.h"
#include "cpp/core/data/cohort_io.h"
#include "cpp/core/data/policy.h"
#include "cpp/core/data/sequences_io.h"
#include "cpp/core/data/split.h"
#include "cpp/core/data/statistics.h"
#include "cpp/core/generate/cohort.h"
#include "cpp/core/generate/sequences.h"
#include "cpp/core/readers/clinical.h"
#include "cpp/core/readers/sequences.h"

namespace theriac::capi {
namespace {

Dataset dataset_of(data::Cohort cohort) {
  Dataset dataset;
  dataset.cohort = std::make_shared<const data::Cohort>(std::move(cohort));
  return dataset;
}

Dataset dataset_of(data::Sequences sequences) {
  Dataset dataset;
  dataset.kind = kSequences;
  dataset.sequences = std::make_shared<const data::Sequences>(std::move(sequences));
  return dataset;
}

template <class Parts>
DatasetParts parts_of(Parts parts) {
  return {dataset_of(std::move(parts.train)), dataset_of(std::move(parts.valid)),
          dataset_of(std::move(parts.test))};
}

Dataset open_saved(const std::string& path, const Json& rest) {
  for (const auto& [key, value] : rest.items()) {
    if (key.starts_with("x-")) continue;
    throw Error(Code::kInvalidArgument, "option '" + key +
                                            "' does not apply to a saved data set (format "
                                            "'theriac'); policies apply when raw records are read")
        .at("option", key);
  }
  if (data::stored_kind(path) == kSequences) return dataset_of(data::load_sequences(path));
  return dataset_of(data::load_cohort(path));
}

void generate_claim(const std::filesystem::path& folder, Json rest) {
  const std::string list = take_text(rest, "list", "");
  const generate::HierarchyClaim claim =
      generate::hierarchy_claim(generate::HierarchyClaimOptions::table().parse(rest), list);
  std::filesystem::create_directories(folder);
  save_cohort(claim.train, folder / "train", true);
  save_cohort(claim.test_seen, folder / "test_seen", true);
  save_cohort(claim.test_unseen, folder / "test_unseen", true);
}

}  // namespace

Dataset open_dataset(Json document, Job& job) {
  const std::string format = take_choice(document, "format", "theriac", data_formats());
  const std::string path = take_path(document);
  if (format == "theriac") return open_saved(path, document);
  if (format == kSequences) {
    return dataset_of(
        readers::read_sequences(path, data::SequencePolicy::table().parse(document), job));
  }
  return dataset_of(
      readers::read_cohort(format, path, data::CohortPolicy::table().parse(document), job));
}

void generate_dataset(Json document, Job& job) {
  const std::string kind =
      take_choice(document, "kind", kCohort, {kCohort, kSequences, "hierarchy_claim"});
  const std::string path = take_path(document);
  if (kind == kCohort) {
    generate::write_cohort(path, generate::CohortOptions::table().parse(document), job);
  } else if (kind == kSequences) {
    generate::write_sequences(path, generate::SequenceOptions::table().parse(document), job);
  } else {
    generate_claim(path, std::move(document));
  }
}

Dataset dataset_from_stream(ArrowArrayStream& stream, Json document) {
  if (take_choice(document, "kind", kCohort, {kCohort, kSequences}) == kSequences) {
    const data::SequencePolicy policy = data::SequencePolicy::table().parse(document);
    return dataset_of(data::import_sequences_stream(&stream, policy));
  }
  const data::CohortPolicy policy = data::CohortPolicy::table().parse(document);
  return dataset_of(data::import_cohort_stream(&stream, policy));
}

DatasetParts split_dataset(const Dataset& dataset, const Json& document) {
  if (dataset.sequences != nullptr) {
    return parts_of(data::split_sequences(*dataset.sequences,
                                          data::SequenceSplitOptions::table().parse(document)));
  }
  return parts_of(data::split_cohort(*dataset.cohort, data::SplitOptions::table().parse(document)));
}

Json describe_dataset(const Dataset& dataset) {
  return dataset.sequences != nullptr ? data::describe(*dataset.sequences)
                                      : data::describe(*dataset.cohort);
}

void dataset_table(const Dataset& dataset, const std::string& table, ArrowArrayStream& out) {
  if (dataset.sequences != nullptr) {
    data::export_sequences_stream(dataset.sequences, table, &out);
  } else {
    data::export_cohort_stream(dataset.cohort, table, &out);
  }
}

std::string export_dataset(const Dataset& dataset, const Json& document) {
  std::ostringstream stream;
  if (dataset.sequences != nullptr) {
    const SequenceExportOptions chosen = SequenceExportOptions::options().parse(document);
    data::export_sequence_table(*dataset.sequences, chosen.table, chosen.format, stream);
  } else {
    const CohortExportOptions chosen = CohortExportOptions::options().parse(document);
    data::export_table(*dataset.cohort, chosen.table, chosen.format, stream);
  }
  return std::move(stream).str();
}

void save_dataset(const Dataset& dataset, const std::string& path, bool overwrite) {
  if (dataset.sequences != nullptr) {
    data::save_sequences(*dataset.sequences, path, overwrite);
  } else {
    data::save_cohort(*dataset.cohort, path, overwrite);
  }
}

}  // namespace theriac::capi
