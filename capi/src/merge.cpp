// Merging models as a recipe says. Nothing here needs the engine.
#include "cpp/core/merge/merge.h"

#include <filesystem>
#include <optional>

#include "capi/src/handles.h"
#include "capi/src/merge_options.h"
#include "capi/src/schemas.h"
#include "cpp/core/base/options.h"
#include "cpp/core/base/runtime.h"

namespace theriac::capi {
namespace {

struct MergeDocument {
  std::string output, name, working_folder;
  std::string accumulate = "float32";
  std::string hub_cache, adapter_dtype = "model", intermediate_folder;
  std::int64_t shard_bytes = 5'000'000'000, memory_limit = 0, io_threads = 0;
  bool dry_run = false, overwrite = false, resume = false, verify_on_resume = true, strict = false;
  bool write_card = true, copy_side_files = true, copy_tokenizer = true, allow_non_finite = false;
  bool verify = false, allow_crimes = false;
  static const OptionTable<MergeDocument>& table();
};

const OptionTable<MergeDocument>& MergeDocument::table() {
  constexpr std::int64_t kMostBytes = std::int64_t{1} << 60;
  static const auto options =
      OptionTable<MergeDocument>("merge", "How a merge recipe is carried out")
          .text("output", &MergeDocument::output, "folder to make; not used by a dry run")
          .flag("dry_run", &MergeDocument::dry_run,
                "only say what would be done: bytes, memory, tensors and their parameters")
          .text("name", &MergeDocument::name, "of the recipe's file, for messages")
          .text("working_folder", &MergeDocument::working_folder,
                "where relative paths of models start; empty: the process's own")
          .text(
              "hub_cache", &MergeDocument::hub_cache,
              "folder of the hub's client (models--ORG--NAME/...), where models named ORG/NAME are "
              "looked for; empty: nowhere")
          .text(
              "intermediate_folder", &MergeDocument::intermediate_folder,
              "where the named documents of a recipe are made and kept; empty: in a folder that is "
              "removed at the end")
          .choice("adapter_dtype", &MergeDocument::adapter_dtype,
                  {"model", "float32", "bfloat16", "float16"},
                  "element type that weights changed by an adapter count as; model: their own")
          .choice("accumulate", &MergeDocument::accumulate, {"float32", "native"},
                  "arithmetic in float32 with one rounding, or rounded after each operation to the "
                  "type of the base, as mergekit does")
          .integer("shard_bytes", &MergeDocument::shard_bytes, {1, kMostBytes},
                   "a new file begins where one would grow beyond it")
          .integer("memory_limit", &MergeDocument::memory_limit, {0, kMostBytes},
                   "bytes of all buffers together; 0: none")
          .integer("io_threads", &MergeDocument::io_threads, {0, 1024},
                   "threads beside the context's, so that more reads are under way")
          .flag("overwrite", &MergeDocument::overwrite, "replace a model folder of that name")
          .flag("resume", &MergeDocument::resume,
                "go on with what a stopped run left; with an empty recipe, with that run's recipe "
                "and "
                "options")
          .flag("verify_on_resume", &MergeDocument::verify_on_resume,
                "read again what the stopped run had finished; without it only after a killed "
                "process: a failing power supply may lose what the journal says is done")
          .flag("verify", &MergeDocument::verify,
                "read the finished files again and compare checksums")
          .flag("allow_crimes", &MergeDocument::allow_crimes,
                "merge models of different architectures by their tensors' names")
          .flag("strict", &MergeDocument::strict, "warnings of the recipe are errors")
          .flag("write_card", &MergeDocument::write_card, "write README.md")
          .flag("copy_side_files", &MergeDocument::copy_side_files,
                "copy the tokenizer's and generation's files")
          .flag("copy_tokenizer", &MergeDocument::copy_tokenizer, "of these, the tokenizer's")
          .flag("allow_non_finite", &MergeDocument::allow_non_finite,
                "accept NaN or infinity made of finite numbers");
  return options;
}

std::optional<tensorfile::DType> adapter_dtype(const std::string& name) {
  if (name == "float32") return tensorfile::DType::kF32;
  if (name == "bfloat16") return tensorfile::DType::kBF16;
  if (name == "float16") return tensorfile::DType::kF16;
  return std::nullopt;
}

// What a merge was asked for, so that it can be resumed by its output's name alone.
struct Request {
  std::string recipe;
  Json options;
  std::uint64_t seed = 0;

  std::string text() const {
    return dump_json(Json{{"recipe", recipe}, {"options", options}, {"seed", seed}});
  }
  static Request stored(const std::string& output) {
    const auto text = merge::stored_request(output);
    if (!text) {
      throw Error(Code::kNotFound, "there is no stopped merge into '" + output +
                                       "' that could be resumed without its recipe")
          .at("output", output);
    }
    const Json json = parse_json(*text, "merge.request", Code::kDataError);
    if (!json.is_object() || !json.value("recipe", Json()).is_string() ||
        !json.value("options", Json()).is_object() ||
        !json.value("seed", Json()).is_number_unsigned()) {
      throw Error(Code::kDataError, "the request of the stopped merge into '" + output +
                                        "' cannot be read; resume it with its recipe")
          .at("output", output);
    }
    return {json.at("recipe"), json.at("options"), json.at("seed")};
  }
};

// Folders as they are named now: resuming may start elsewhere.
void make_absolute(Json& options, const char* key, bool always) {
  const std::string folder = options.value(key, std::string());
  if (folder.empty() && !always) return;
  options[key] = std::filesystem::absolute(folder.empty() ? "." : folder).string();
}

merge::MergeOptions merge_options(const MergeDocument& document, const ContextSettings& settings) {
  merge::MergeOptions options;
  options.execute.threads = settings.runtime.threads;
  options.execute.seed = settings.seed;
  options.execute.memory_limit = static_cast<std::uint64_t>(document.memory_limit);
  options.execute.allow_non_finite = document.allow_non_finite;
  options.execute.accumulate =
      document.accumulate == "native" ? merge::Accumulate::kNative : merge::Accumulate::kFloat32;
  options.shard_bytes = static_cast<std::uint64_t>(document.shard_bytes);
  options.overwrite = document.overwrite;
  options.resume = document.resume;
  options.verify_on_resume = document.verify_on_resume;
  options.strict = document.strict;
  options.write_card = document.write_card;
  options.copy_side_files = document.copy_side_files;
  options.copy_tokenizer = document.copy_tokenizer;
  options.verify = document.verify;
  options.allow_crimes = document.allow_crimes;
  options.working_folder = document.working_folder;
  options.hub_cache = document.hub_cache;
  options.intermediate_folder = document.intermediate_folder;
  options.adapter_dtype = adapter_dtype(document.adapter_dtype);
  if (document.io_threads > 0) {
    const int own = settings.runtime.threads > 0 ? settings.runtime.threads : available_cores();
    options.execute.threads = own + static_cast<int>(document.io_threads);
  }
  options.version = theriac_version();
  return options;
}

}  // namespace

Json merge_schema() { return MergeDocument::table().schema(); }

merge::MergeOptions merge_options_of(const Json& document, const ContextSettings& settings,
                                     const std::string& path) {
  for (const char* key : {"output", "dry_run", "name", "working_folder", "strict"}) {
    if (document.is_object() && document.contains(key)) {
      throw Error(Code::kInvalidArgument,
                  "option '" + (path.empty() ? "" : path + ".") + key + "' has no meaning here")
          .at("option", key);
    }
  }
  return merge_options(MergeDocument::table().parse(document, path), settings);
}

}  // namespace theriac::capi

using namespace theriac;        // NOLINT(google-build-using-namespace): this file is the C boundary
using namespace theriac::capi;  // NOLINT(google-build-using-namespace)

theriac_status theriac_merge_recipe(const theriac_context* context, const char* recipe,
                                    size_t recipe_length, const char* options_json,
                                    size_t options_length, const theriac_callbacks* callbacks,
                                    theriac_bytes** out, theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_merge_recipe", error, [&] {
    const theriac_context& self = need(context, "context");
    theriac_bytes*& target = need_out(out, "out");
    Request request;
    request.recipe = text(recipe, recipe_length, "recipe");
    request.options = options(options_json, options_length, "options_json");
    request.seed = self.settings.seed;
    MergeDocument document = MergeDocument::table().parse(request.options);
    if (request.recipe.empty() && document.resume && !document.output.empty()) {
      const std::string output = document.output;
      request = Request::stored(output);
      document = MergeDocument::table().parse(request.options);
      document.output = output;
      document.resume = true;
    }
    make_absolute(request.options, "working_folder", true);
    make_absolute(request.options, "intermediate_folder", false);
    make_absolute(request.options, "hub_cache", false);
    merge::MergeOptions settings = merge_options(document, self.settings);
    settings.execute.seed = request.seed;
    settings.request = request.text();
    const std::string name = document.name.empty() ? "recipe" : document.name;
    Job job = make_job(callbacks);
    if (!document.dry_run && document.output.empty())
      throw Error(Code::kInvalidArgument, "option 'output' is missing: the folder to make")
          .at("option", "output");
    const merge::MergeReport report =
        document.dry_run
            ? merge::plan_recipe(request.recipe, name, settings, job)
            : merge::merge_recipe(request.recipe, name, document.output, settings, job);
    target = make_bytes(dump_json(report.json));
  });
}
