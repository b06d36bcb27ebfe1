// Merging models as a recipe says. Nothing here needs the engine.
#include "cpp/core/merge/merge.h"

#include "capi/src/handles.h"
#include "capi/src/schemas.h"
#include "cpp/core/base/options.h"

namespace theriac::capi {
namespace {

struct MergeDocument {
  std::string output, name, working_folder;
  std::string accumulate = "float32";
  std::int64_t shard_bytes = 5'000'000'000, memory_limit = 0;
  bool dry_run = false, overwrite = false, resume = false, verify_on_resume = true, strict = false;
  bool write_card = true, copy_side_files = true, allow_non_finite = false;
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
          .choice("accumulate", &MergeDocument::accumulate, {"float32", "native"},
                  "arithmetic in float32 with one rounding, or rounded after each operation to the "
                  "type of the base, as mergekit does")
          .integer("shard_bytes", &MergeDocument::shard_bytes, {1, kMostBytes},
                   "a new file begins where one would grow beyond it")
          .integer("memory_limit", &MergeDocument::memory_limit, {0, kMostBytes},
                   "bytes of all buffers together; 0: none")
          .flag("overwrite", &MergeDocument::overwrite, "replace a model folder of that name")
          .flag("resume", &MergeDocument::resume, "go on with what a stopped run left")
          .flag("verify_on_resume", &MergeDocument::verify_on_resume,
                "read again what the stopped run had finished")
          .flag("strict", &MergeDocument::strict, "warnings of the recipe are errors")
          .flag("write_card", &MergeDocument::write_card, "write README.md")
          .flag("copy_side_files", &MergeDocument::copy_side_files,
                "copy the tokenizer's and generation's files")
          .flag("allow_non_finite", &MergeDocument::allow_non_finite,
                "accept NaN or infinity made of finite numbers");
  return options;
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
  options.working_folder = document.working_folder;
  options.version = theriac_version();
  return options;
}

}  // namespace

Json merge_schema() { return MergeDocument::table().schema(); }

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
    const std::string_view words = text(recipe, recipe_length, "recipe");
    const MergeDocument document =
        MergeDocument::table().parse(options(options_json, options_length, "options_json"));
    const merge::MergeOptions settings = merge_options(document, self.settings);
    const std::string name = document.name.empty() ? "recipe" : document.name;
    Job job = make_job(callbacks);
    if (!document.dry_run && document.output.empty())
      throw Error(Code::kInvalidArgument, "option 'output' is missing: the folder to make")
          .at("option", "output");
    const merge::MergeReport report =
        document.dry_run ? merge::plan_recipe(words, name, settings, job)
                         : merge::merge_recipe(words, name, document.output, settings, job);
    target = make_bytes(dump_json(report.json));
  });
}
