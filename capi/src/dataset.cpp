// Data sets: reading, generating, dividing, describing, exporting. Nothing here needs the engine.
#include <sstream>

#include "capi/src/handles.h"
#include "capi/src/schemas.h"
#include "capi/src/stream_guard.h"
#include "cpp/core/base/options.h"
#include "cpp/core/data/arrow.h"
#include "cpp/core/data/cohort_io.h"
#include "cpp/core/data/policy.h"
#include "cpp/core/data/split.h"
#include "cpp/core/data/statistics.h"
#include "cpp/core/generate/cohort.h"
#include "cpp/core/readers/clinical.h"

namespace theriac::capi {
namespace {

// Takes a member out of a document, so that the rest can be checked against one table.
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

std::string take_path(Json& document) {
  std::string path = take_text(document, "path", "");
  if (path.empty())
    throw Error(Code::kInvalidArgument, "option 'path' is missing; it names the file or folder")
        .at("option", "path");
  return path;
}

struct ExportOptions {
  std::string table = "patients", format = "jsonl";
  static const OptionTable<ExportOptions>& schema_table() {
    static const auto* const t = new OptionTable<ExportOptions>(
        OptionTable<ExportOptions>("dataset.export", "A table of a data set as text")
            .choice("table", &ExportOptions::table, data::table_names(), "which table")
            .choice("format", &ExportOptions::format, {"csv", "jsonl", "arrow"},
                    "layout; arrow is an Arrow IPC stream"));
    return *t;
  }
};

data::Cohort open_cohort(const std::string& format, const std::string& path, const Json& rest,
                         Job& job) {
  if (format != "theriac")
    return readers::read_cohort(format, path, data::CohortPolicy::table().parse(rest), job);
  if (!rest.empty()) {
    throw Error(Code::kInvalidArgument, "option '" + rest.begin().key() +
                                            "' does not apply to a saved data set (format "
                                            "'theriac'); policies apply when raw records are read")
        .at("option", rest.begin().key());
  }
  return data::load_cohort(path);
}

void generate_data(Json document, Job& job) {
  const std::string kind = take_text(document, "kind", "cohort");
  const std::string path = take_path(document);
  if (kind == "cohort") {
    generate::write_cohort(path, generate::CohortOptions::table().parse(document), job);
    return;
  }
  if (kind != "hierarchy_claim") {
    throw Error(Code::kInvalidArgument,
                "option 'kind' is '" + kind + "'; expected cohort or hierarchy_claim")
        .at("option", "kind")
        .at("got", kind);
  }
  const std::string list = take_text(document, "list", "");
  const generate::HierarchyClaim claim =
      generate::hierarchy_claim(generate::HierarchyClaimOptions::table().parse(document), list);
  const std::filesystem::path folder = path;
  std::filesystem::create_directories(folder);
  save_cohort(claim.train, folder / "train", true);
  save_cohort(claim.test_seen, folder / "test_seen", true);
  save_cohort(claim.test_unseen, folder / "test_unseen", true);
}

Json with_properties(Json schema, const Json& extra) {
  Json properties = extra;
  for (const auto& [key, value] : schema["properties"].items()) properties[key] = value;
  schema["properties"] = std::move(properties);
  return schema;
}

}  // namespace

Json dataset_open_schema() {
  return with_properties(data::CohortPolicy::table().schema(),
                         {{"format",
                           {{"type", "string"},
                            {"enum", {"theriac", "mimic-iii", "mimic-iv", "fhir"}},
                            {"default", "theriac"},
                            {"description", "layout of what is read"}}},
                          {"path", {{"type", "string"}, {"description", "file or folder"}}}});
}
Json dataset_generate_schema() {
  Json claim = with_properties(
      generate::HierarchyClaimOptions::table().schema(),
      {{"kind", {{"const", "hierarchy_claim"}}},
       {"path", {{"type", "string"}}},
       {"list",
        {{"type", "string"},
         {"description",
          "official ICD-9 procedure list (CSV); empty: generated codes of the same shape"}}}});
  Json cohort =
      with_properties(generate::CohortOptions::table().schema(),
                      {{"kind", {{"const", "cohort"}}},
                       {"path", {{"type", "string"}, {"description", "folder to make"}}}});
  return Json{{"title", "dataset.generate"}, {"oneOf", Json::array({cohort, claim})}};
}
Json dataset_split_schema() { return data::SplitOptions::table().schema(); }
Json dataset_export_schema() { return ExportOptions::schema_table().schema(); }

}  // namespace theriac::capi

using namespace theriac;        // NOLINT(google-build-using-namespace): this file is the C boundary
using namespace theriac::capi;  // NOLINT(google-build-using-namespace)

theriac_status theriac_dataset_open(const theriac_context* context, const char* options_json,
                                    size_t options_length, const theriac_callbacks* callbacks,
                                    theriac_dataset** out, theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_dataset_open", error, [&] {
    need(context, "context");
    theriac_dataset*& target = need_out(out, "out");
    Json document = options(options_json, options_length, "options_json");
    const std::string format = take_text(document, "format", "theriac");
    const std::string path = take_path(document);
    Job job = make_job(callbacks);
    target = new theriac_dataset(open_cohort(format, path, document, job));
  });
}

theriac_status theriac_dataset_from_arrow(const theriac_context* context,
                                          struct ArrowArrayStream* stream, const char* options_json,
                                          size_t options_length, theriac_dataset** out,
                                          theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_dataset_from_arrow", error, [&] {
    const StreamGuard owned(
        need_out(stream, "stream"));  // released also when an argument is refused
    need(context, "context");
    theriac_dataset*& target = need_out(out, "out");
    const data::CohortPolicy policy =
        data::CohortPolicy::table().parse(options(options_json, options_length, "options_json"));
    target = new theriac_dataset(data::import_cohort_stream(stream, policy));
  });
}

theriac_status theriac_dataset_generate(const theriac_context* context, const char* options_json,
                                        size_t options_length, const theriac_callbacks* callbacks,
                                        theriac_error** error) noexcept {
  return guard("theriac_dataset_generate", error, [&] {
    need(context, "context");
    Job job = make_job(callbacks);
    generate_data(options(options_json, options_length, "options_json"), job);
  });
}

theriac_status theriac_dataset_split(const theriac_dataset* dataset, const char* options_json,
                                     size_t options_length, theriac_dataset** train,
                                     theriac_dataset** valid, theriac_dataset** test,
                                     theriac_error** error) noexcept {
  for (theriac_dataset** part : {train, valid, test}) {
    if (part != nullptr) *part = nullptr;
  }
  return guard("theriac_dataset_split", error, [&] {
    const theriac_dataset& self = need(dataset, "dataset");
    need_out(train, "train");
    need_out(valid, "valid");
    need_out(test, "test");
    data::SplitParts parts = data::split_cohort(
        *self.dataset.cohort,
        data::SplitOptions::table().parse(options(options_json, options_length, "options_json")));
    auto first = std::make_unique<theriac_dataset>(std::move(parts.train));
    auto second = std::make_unique<theriac_dataset>(std::move(parts.valid));
    auto third = std::make_unique<theriac_dataset>(std::move(parts.test));
    *train = first.release();
    *valid = second.release();
    *test = third.release();
  });
}

theriac_status theriac_dataset_info(const theriac_dataset* dataset, theriac_bytes** out,
                                    theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_dataset_info", error, [&] {
    const theriac_dataset& self = need(dataset, "dataset");
    theriac_bytes*& target = need_out(out, "out");
    target = make_bytes(dump_json(data::describe(*self.dataset.cohort)));
  });
}

theriac_status theriac_dataset_table(const theriac_dataset* dataset, const char* table,
                                     size_t table_length, struct ArrowArrayStream* stream,
                                     theriac_error** error) noexcept {
  return guard("theriac_dataset_table", error, [&] {
    ArrowArrayStream& target = need_out(stream, "stream");
    target = ArrowArrayStream{};
    const theriac_dataset& self = need(dataset, "dataset");
    data::export_cohort_stream(self.dataset.cohort, std::string(text(table, table_length, "table")),
                               &target);
  });
}

theriac_status theriac_dataset_export(const theriac_dataset* dataset, const char* options_json,
                                      size_t options_length, theriac_bytes** out,
                                      theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_dataset_export", error, [&] {
    const theriac_dataset& self = need(dataset, "dataset");
    theriac_bytes*& target = need_out(out, "out");
    const ExportOptions chosen =
        ExportOptions::schema_table().parse(options(options_json, options_length, "options_json"));
    std::ostringstream stream;
    data::export_table(*self.dataset.cohort, chosen.table, chosen.format, stream);
    target = make_bytes(std::move(stream).str());
  });
}

theriac_status theriac_dataset_save(const theriac_dataset* dataset, const char* path,
                                    size_t path_length, int32_t overwrite,
                                    theriac_error** error) noexcept {
  return guard("theriac_dataset_save", error, [&] {
    const theriac_dataset& self = need(dataset, "dataset");
    const std::string_view target = text(path, path_length, "path");
    if (target.empty())
      throw Error(Code::kInvalidArgument, "path is empty; it names the folder to write")
          .at("argument", "path");
    data::save_cohort(*self.dataset.cohort, std::string(target), overwrite != 0);
  });
}

theriac_dataset* theriac_dataset_retain(theriac_dataset* dataset) noexcept {
  return retain(dataset);
}
void theriac_dataset_release(theriac_dataset* dataset) noexcept { release(dataset); }
