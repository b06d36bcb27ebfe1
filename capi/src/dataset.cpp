// Data sets: reading, generating, dividing, describing, exporting. Nothing here needs the engine.
#include "capi/src/dataset_kinds.h"
#include "capi/src/handles.h"
#include "capi/src/stream_guard.h"

using namespace theriac;        // NOLINT(google-build-using-namespace): this file is the C boundary
using namespace theriac::capi;  // NOLINT(google-build-using-namespace)

theriac_status theriac_dataset_open(const theriac_context* context, const char* options_json,
                                    size_t options_length, const theriac_callbacks* callbacks,
                                    theriac_dataset** out, theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_dataset_open", error, [&] {
    need(context, "context");
    theriac_dataset*& target = need_out(out, "out");
    Job job = make_job(callbacks);
    target = new theriac_dataset(
        open_dataset(options(options_json, options_length, "options_json"), job));
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
    target = new theriac_dataset(
        dataset_from_stream(*stream, options(options_json, options_length, "options_json")));
  });
}

theriac_status theriac_dataset_generate(const theriac_context* context, const char* options_json,
                                        size_t options_length, const theriac_callbacks* callbacks,
                                        theriac_error** error) noexcept {
  return guard("theriac_dataset_generate", error, [&] {
    need(context, "context");
    Job job = make_job(callbacks);
    generate_dataset(options(options_json, options_length, "options_json"), job);
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
    DatasetParts parts =
        split_dataset(self.dataset, options(options_json, options_length, "options_json"));
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
    target = make_bytes(dump_json(describe_dataset(self.dataset)));
  });
}

theriac_status theriac_dataset_table(const theriac_dataset* dataset, const char* table,
                                     size_t table_length, struct ArrowArrayStream* stream,
                                     theriac_error** error) noexcept {
  return guard("theriac_dataset_table", error, [&] {
    ArrowArrayStream& target = need_out(stream, "stream");
    target = ArrowArrayStream{};
    const theriac_dataset& self = need(dataset, "dataset");
    dataset_table(self.dataset, std::string(text(table, table_length, "table")), target);
  });
}

theriac_status theriac_dataset_export(const theriac_dataset* dataset, const char* options_json,
                                      size_t options_length, theriac_bytes** out,
                                      theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_dataset_export", error, [&] {
    const theriac_dataset& self = need(dataset, "dataset");
    theriac_bytes*& target = need_out(out, "out");
    target = make_bytes(
        export_dataset(self.dataset, options(options_json, options_length, "options_json")));
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
    save_dataset(self.dataset, std::string(target), overwrite != 0);
  });
}

theriac_dataset* theriac_dataset_retain(theriac_dataset* dataset) noexcept {
  return retain(dataset);
}
void theriac_dataset_release(theriac_dataset* dataset) noexcept { release(dataset); }
