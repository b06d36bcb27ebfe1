// Mergers: models added one by one, merged at the end.
#include "cpp/core/merge/merger.h"

#include <system_error>

#include "capi/src/handles.h"
#include "capi/src/merge_options.h"
#include "capi/src/schemas.h"
#include "cpp/core/base/file.h"
#include "cpp/core/base/options.h"

struct theriac_merger : theriac::capi::Handle<theriac::capi::Tag::kMerger, theriac::Kind::kMerger> {
  theriac_merger(theriac::merge::Merger made, theriac::ContextSettings of_context)
      : merger(std::move(made)), settings(std::move(of_context)) {}
  theriac::merge::Merger merger;
  theriac::ContextSettings settings;
  mutable theriac::capi::Gate gate;
};

namespace theriac::capi {
namespace {

constexpr std::uint64_t kSavedLimit = std::uint64_t{64} << 20;

struct MergerDocument {
  std::string base_model, dtype, out_dtype;
  static const OptionTable<MergerDocument>& table();
};

const OptionTable<MergerDocument>& MergerDocument::table() {
  static const auto options =
      OptionTable<MergerDocument>("merger", "A merge whose models are added one by one")
          .text("base_model", &MergerDocument::base_model,
                "what the models were fine-tuned from; not every method needs it")
          .choice("dtype", &MergerDocument::dtype, {"", "float32", "float16", "bfloat16"},
                  "element type of the arithmetic; empty: that of the models")
          .choice("out_dtype", &MergerDocument::out_dtype, {"", "float32", "float16", "bfloat16"},
                  "element type of the result; empty: as dtype");
  return options;
}

constexpr const char* kParametersDoc =
    "of the method, for all models, by name: numbers, flags, text, a list of numbers over the "
    "layers, "
    "or a list of {\"filter\", \"value\"}";

// The method's parameters depend on the method and are checked with it.
Json take(Json& document, const char* key, Json fallback) {
  const auto found = document.find(key);
  if (found == document.end()) return fallback;
  Json out = std::move(*found);
  document.erase(found);
  return out;
}

std::string path_of(const char* path, std::size_t length) {
  std::string out(text(path, length, "path"));
  if (out.empty()) refuse_null("path");
  return out;
}

}  // namespace

Json merger_schema() {
  Json schema = MergerDocument::table().schema();
  schema["properties"]["parameters"] =
      Json{{"type", "object"}, {"default", Json::object()}, {"description", kParametersDoc}};
  return schema;
}

}  // namespace theriac::capi

using namespace theriac;        // NOLINT(google-build-using-namespace): this file is the C boundary
using namespace theriac::capi;  // NOLINT(google-build-using-namespace)

theriac_status theriac_merger_create(const theriac_context* context, const char* method,
                                     size_t method_length, const char* options_json,
                                     size_t options_length, theriac_merger** out,
                                     theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_merger_create", error, [&] {
    const theriac_context& home = need(context, "context");
    theriac_merger*& target = need_out(out, "out");
    const std::string name(text(method, method_length, "method"));
    Json document = options(options_json, options_length, "options_json");
    merge::MergerOptions settings;
    settings.parameters = take(document, "parameters", Json::object());
    const MergerDocument parsed = MergerDocument::table().parse(document);
    settings.base_model = parsed.base_model;
    settings.dtype = parsed.dtype;
    settings.out_dtype = parsed.out_dtype;
    target = new theriac_merger(merge::Merger(name, std::move(settings)), home.settings);
  });
}

theriac_status theriac_merger_add(theriac_merger* merger, const char* path, size_t path_length,
                                  const char* parameters_json, size_t parameters_length,
                                  theriac_error** error) noexcept {
  return guard("theriac_merger_add", error, [&] {
    theriac_merger& self = need(merger, "merger");
    const std::string folder = path_of(path, path_length);
    Json parameters = options(parameters_json, parameters_length, "parameters_json");
    const Exclusive entered(self.gate, "merger");
    self.merger.add(folder, std::move(parameters));
  });
}

theriac_status theriac_merger_info(const theriac_merger* merger, theriac_bytes** out,
                                   theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_merger_info", error, [&] {
    const theriac_merger& self = need(merger, "merger");
    theriac_bytes*& target = need_out(out, "out");
    const Shared entered(self.gate, "merger");
    target = make_bytes(dump_json(self.merger.info()));
  });
}

theriac_status theriac_merger_finish(const theriac_merger* merger, const char* path,
                                     size_t path_length, const char* options_json,
                                     size_t options_length, const theriac_callbacks* callbacks,
                                     theriac_bytes** out, theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_merger_finish", error, [&] {
    const theriac_merger& self = need(merger, "merger");
    theriac_bytes*& target = need_out(out, "out");
    const std::string folder = path_of(path, path_length);
    const merge::MergeOptions settings =
        merge_options_of(options(options_json, options_length, "options_json"), self.settings);
    Job job = make_job(callbacks);
    const Shared entered(self.gate, "merger");
    target = make_bytes(dump_json(self.merger.finish(folder, settings, job)));
  });
}

theriac_status theriac_merger_save(const theriac_merger* merger, const char* path,
                                   size_t path_length, int32_t overwrite,
                                   theriac_error** error) noexcept {
  return guard("theriac_merger_save", error, [&] {
    const theriac_merger& self = need(merger, "merger");
    const std::string file = path_of(path, path_length);
    const Shared entered(self.gate, "merger");
    std::error_code ignored;
    if (overwrite == 0 && std::filesystem::exists(file, ignored)) {
      throw Error(Code::kAlreadyExists, "'" + file + "' exists; overwrite it or take another name")
          .at("file", file);
    }
    replace_file(file, self.merger.serialised());
  });
}

theriac_status theriac_merger_load(const theriac_context* context, const char* path,
                                   size_t path_length, theriac_merger** out,
                                   theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_merger_load", error, [&] {
    const theriac_context& home = need(context, "context");
    theriac_merger*& target = need_out(out, "out");
    const std::string file = path_of(path, path_length);
    target =
        new theriac_merger(merge::Merger::parse(read_file(file, kSavedLimit), file), home.settings);
  });
}

void theriac_merger_release(theriac_merger* merger) noexcept { release(merger); }
