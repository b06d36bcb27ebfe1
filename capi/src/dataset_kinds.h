// What the data set functions do for each kind of data, cohorts and sequences.
#pragma once

#include <string>

#include "cpp/core/base/job.h"
#include "cpp/core/base/json.h"
#include "cpp/core/data/arrow_abi.h"
#include "cpp/core/engine.h"

namespace theriac::capi {

struct DatasetParts {
  Dataset train, valid, test;
};

// Documents as theriac.h describes them; all throw theriac::Error.
Dataset open_dataset(Json document, Job& job);
void generate_dataset(Json document, Job& job);
// `stream` may be left for the caller to release where the options are refused.
Dataset dataset_from_stream(ArrowArrayStream& stream, Json document);
DatasetParts split_dataset(const Dataset& dataset, const Json& document);
Json describe_dataset(const Dataset& dataset);
void dataset_table(const Dataset& dataset, const std::string& table, ArrowArrayStream& out);
std::string export_dataset(const Dataset& dataset, const Json& document);
void save_dataset(const Dataset& dataset, const std::string& path, bool overwrite);

}  // namespace theriac::capi
