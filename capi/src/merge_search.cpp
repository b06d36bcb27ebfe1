// Looking at models before merging them, and merging by trial.
#include "cpp/core/merge/search.h"

#include <cmath>
#include <cstddef>
#include <limits>

#include "capi/src/handles.h"
#include "capi/src/merge_options.h"
#include "capi/src/schemas.h"
#include "cpp/core/base/file.h"
#include "cpp/core/base/options.h"
#include "cpp/core/merge/inspect.h"
#include "cpp/core/merge/inspect_page.h"

namespace theriac::capi {
namespace {

struct InspectDocument {
  std::string base, working_folder, page;
  std::vector<std::string> models;
  double density = merge::InspectOptions{}.density;
  std::int64_t rank = 0, spectral_limit = merge::InspectOptions{}.spectral_limit;
  static const OptionTable<InspectDocument>& table();
};

const OptionTable<InspectDocument>& InspectDocument::table() {
  static const auto options =
      OptionTable<InspectDocument>("merge.inspect", "What fine-tuning changed in several models")
          .text("base", &InspectDocument::base, "what the models were fine-tuned from")
          .texts("models", &InspectDocument::models, "folders or files, 1 to 64 of them")
          .text("working_folder", &InspectDocument::working_folder,
                "where relative paths of models start; empty: the process's own")
          .real("density", &InspectDocument::density, {0, 1},
                "share of each tensor's changes that trimming keeps, for the overlap; 0: leave it "
                "out")
          .integer(
              "rank", &InspectDocument::rank, {0, 1 << 20},
              "singular vectors of each model that STI and SAR look at; 0: the smaller side over "
              "the number of models")
          .integer(
              "spectral_limit", &InspectDocument::spectral_limit, {0, 1 << 16},
              "STI and SAR are left out of matrices with a smaller side beyond this, or a larger "
              "one beyond eight times this; 0: of all. Time grows with its cube")
          .text("page", &InspectDocument::page, "HTML file to write the report to as well");
  return options;
}

// What both searches have. Members of the same names are declared once here.
struct TrialDocument {
  std::string output, working_folder;
  bool minimize = false, resume = false, overwrite = false;
};

template <class Document>
OptionTable<Document> trial_table(std::string name, std::string doc) {
  return OptionTable<Document>(std::move(name), std::move(doc))
      .text("output", &Document::output, "folder to make")
      .text("working_folder", &Document::working_folder,
            "where relative paths of models start; empty: the process's own")
      .flag("minimize", &Document::minimize, "lower scores are better")
      .flag("resume", &Document::resume, "go on with what a stopped search left")
      .flag("overwrite", &Document::overwrite, "replace a model folder of that name");
}

struct SearchDocument : TrialDocument {
  std::string name;
  std::vector<std::string> leaves;
  std::int64_t evaluations = 100, population = 0;
  double sigma = merge::CoefficientOptions{}.sigma;
  double tolerance = merge::CoefficientOptions{}.tolerance;
  static const OptionTable<SearchDocument>& table();
};

const OptionTable<SearchDocument>& SearchDocument::table() {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  static const auto options =
      trial_table<SearchDocument>("merge.search", "A search for a recipe's numbers by CMA-ES")
          .text("name", &SearchDocument::name, "of the recipe's file, for messages")
          .texts("leaves", &SearchDocument::leaves,
                 "numbers of the recipe to vary, each as PATH=LOW:HIGH, the path as in "
                 "models[*].parameters.weight")
          .integer("evaluations", &SearchDocument::evaluations, {1, 1'000'000},
                   "at most; the first is the recipe as it is written")
          .integer("population", &SearchDocument::population, {0, 10'000},
                   "candidates of a generation; 0: 4 + floor(3 ln n) for n numbers")
          .real("sigma", &SearchDocument::sigma, {0, kInfinity, true, true},
                "spread of the first candidates, in units of HIGH - LOW")
          .real("tolerance", &SearchDocument::tolerance, {0, kInfinity, false, true},
                "stops when all spreads are below, in the same units");
  return options;
}

struct SoupDocument : TrialDocument {
  std::vector<std::string> models;
  static const OptionTable<SoupDocument>& table();
};

const OptionTable<SoupDocument>& SoupDocument::table() {
  static const auto options =
      trial_table<SoupDocument>("merge.soup", "A greedy soup of models of one architecture")
          .texts("models", &SoupDocument::models, "folders or files to choose from");
  return options;
}

// The nested document "merge" has a table of its own.
Json with_merge(Json schema) {
  schema["properties"]["merge"] = merge_schema();
  return schema;
}

struct Parts {
  Json own, merge = Json::object();
};
Parts split(const char* options_json, std::size_t length) {
  Parts out{options(options_json, length, "options_json")};
  const auto found = out.own.find("merge");
  if (found != out.own.end()) {
    out.merge = std::move(*found);
    out.own.erase(found);
  }
  return out;
}

merge::TrialOptions trial_options(const TrialDocument& document, const Json& merge,
                                  const ContextSettings& settings) {
  if (document.output.empty()) {
    throw Error(Code::kInvalidArgument, "option 'output' is missing: the folder to make")
        .at("option", "output");
  }
  merge::TrialOptions out;
  out.minimize = document.minimize;
  out.resume = document.resume;
  out.overwrite = document.overwrite;
  out.seed = settings.seed;
  out.merge = merge_options_of(merge, settings, "merge");
  out.merge.working_folder = document.working_folder;
  return out;
}

merge::Evaluator evaluator_of(const theriac_evaluator* evaluator) {
  if (evaluator == nullptr) refuse_null("evaluator");
  const bool whole = evaluator->struct_size >= offsetof(theriac_evaluator, user) + sizeof(void*);
  if (!whole || evaluator->evaluate == nullptr) {
    throw Error(Code::kInvalidArgument,
                "evaluator must have a function, and struct_size the size of theriac_evaluator")
        .at("argument", "evaluator");
  }
  return [function = evaluator->evaluate,
          user = evaluator->user](const std::filesystem::path& path) {
    double score = std::numeric_limits<double>::quiet_NaN();
    const std::int32_t answer = function(path.c_str(), &score, user);
    if (answer == -7) {
      throw Error(Code::kCallbackFailed, "the host's evaluator failed for '" + path.string() + "'");
    }
    if (answer != 0) throw Error(Code::kCancelled, "cancelled by the evaluator");
    return score;
  };
}

}  // namespace

Json merge_inspect_schema() { return InspectDocument::table().schema(); }
Json merge_search_schema() { return with_merge(SearchDocument::table().schema()); }
Json merge_soup_schema() { return with_merge(SoupDocument::table().schema()); }

}  // namespace theriac::capi

using namespace theriac;        // NOLINT(google-build-using-namespace): this file is the C boundary
using namespace theriac::capi;  // NOLINT(google-build-using-namespace)

theriac_status theriac_merge_inspect(const theriac_context* context, const char* options_json,
                                     size_t options_length, const theriac_callbacks* callbacks,
                                     theriac_bytes** out, theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_merge_inspect", error, [&] {
    const theriac_context& self = need(context, "context");
    theriac_bytes*& target = need_out(out, "out");
    const InspectDocument document =
        InspectDocument::table().parse(options(options_json, options_length, "options_json"));
    merge::InspectOptions settings;
    settings.base = document.base;
    settings.models = document.models;
    settings.working_folder = document.working_folder;
    settings.density = document.density;
    settings.rank = document.rank;
    settings.spectral_limit = document.spectral_limit;
    settings.threads = self.settings.runtime.threads;
    settings.version = theriac_version();
    Job job = make_job(callbacks);
    const Json report = merge::inspect_models(settings, job);
    if (!document.page.empty()) replace_file(document.page, merge::inspect_page(report));
    target = make_bytes(dump_json(report));
  });
}

theriac_status theriac_merge_search(const theriac_context* context, const char* recipe,
                                    size_t recipe_length, const char* options_json,
                                    size_t options_length, const theriac_evaluator* evaluator,
                                    const theriac_callbacks* callbacks, theriac_bytes** out,
                                    theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_merge_search", error, [&] {
    const theriac_context& self = need(context, "context");
    theriac_bytes*& target = need_out(out, "out");
    const std::string_view words = text(recipe, recipe_length, "recipe");
    const Parts parts = split(options_json, options_length);
    const SearchDocument document = SearchDocument::table().parse(parts.own);
    merge::CoefficientOptions settings;
    settings.trial = trial_options(document, parts.merge, self.settings);
    settings.leaves = document.leaves;
    settings.evaluations = static_cast<std::size_t>(document.evaluations);
    settings.population = static_cast<std::size_t>(document.population);
    settings.sigma = document.sigma;
    settings.tolerance = document.tolerance;
    const merge::Evaluator evaluate = evaluator_of(evaluator);
    Job job = make_job(callbacks);
    target = make_bytes(dump_json(
        merge::search_coefficients(words, document.name.empty() ? "recipe" : document.name,
                                   document.output, settings, evaluate, job)));
  });
}

theriac_status theriac_merge_soup(const theriac_context* context, const char* options_json,
                                  size_t options_length, const theriac_evaluator* evaluator,
                                  const theriac_callbacks* callbacks, theriac_bytes** out,
                                  theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_merge_soup", error, [&] {
    const theriac_context& self = need(context, "context");
    theriac_bytes*& target = need_out(out, "out");
    const Parts parts = split(options_json, options_length);
    const SoupDocument document = SoupDocument::table().parse(parts.own);
    merge::SoupOptions settings;
    settings.trial = trial_options(document, parts.merge, self.settings);
    settings.models = document.models;
    const merge::Evaluator evaluate = evaluator_of(evaluator);
    Job job = make_job(callbacks);
    target = make_bytes(dump_json(merge::greedy_soup(document.output, settings, evaluate, job)));
  });
}
