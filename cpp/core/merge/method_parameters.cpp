#include "cpp/core/merge/method_parameters.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "cpp/core/base/error.h"

namespace theriac::merge {
namespace {

constexpr auto kGlobal = ParameterScope::kGlobal;
constexpr auto kModel = ParameterScope::kModel;
constexpr RealRange kAny{};
constexpr RealRange kAboveZero{0.0, std::numeric_limits<double>::infinity(), true, false};
constexpr RealRange kFromZero{0.0, std::numeric_limits<double>::infinity(), false, false};
constexpr RealRange kFromOne{1.0, std::numeric_limits<double>::infinity(), false, false};
constexpr RealRange kShare{0.0, 1.0, false, false};

// ---- one parameter -----------------------------------------------------------------------------

ParameterDeclaration number(std::string name, ParameterScope scope, double fallback,
                            RealRange range, std::string doc) {
  ParameterDeclaration out;
  out.name = std::move(name);
  out.scope = scope;
  out.fallback = fallback;
  out.range = range;
  out.doc = std::move(doc);
  return out;
}

ParameterDeclaration required_number(std::string name, ParameterScope scope, RealRange range,
                                     std::string doc) {
  ParameterDeclaration out = number(std::move(name), scope, 0, range, std::move(doc));
  out.required = true;
  out.fallback.reset();
  return out;
}

ParameterDeclaration optional_number(std::string name, ParameterScope scope, RealRange range,
                                     std::string doc) {
  ParameterDeclaration out = number(std::move(name), scope, 0, range, std::move(doc));
  out.fallback.reset();
  return out;
}

ParameterDeclaration count(std::string name, double fallback, std::string doc) {
  ParameterDeclaration out = number(std::move(name), kGlobal, fallback, kFromOne, std::move(doc));
  out.whole = true;
  return out;
}

ParameterDeclaration flag(std::string name, bool fallback, std::string doc) {
  ParameterDeclaration out;
  out.name = std::move(name);
  out.type = ParameterType::kFlag;
  out.fallback = fallback;
  out.doc = std::move(doc);
  return out;
}

// What it is where the recipe does not say, the kernel decides.
ParameterDeclaration optional_flag(std::string name, std::string doc) {
  ParameterDeclaration out = flag(std::move(name), false, std::move(doc));
  out.fallback.reset();
  return out;
}

ParameterDeclaration choice(std::string name, std::string fallback,
                            std::vector<std::string> choices, std::string doc) {
  ParameterDeclaration out;
  out.name = std::move(name);
  out.type = ParameterType::kText;
  if (!fallback.empty()) out.fallback = std::move(fallback);
  out.choices = std::move(choices);
  out.doc = std::move(doc);
  return out;
}

ParameterDeclaration required_text(std::string name, ParameterScope scope, std::string doc) {
  ParameterDeclaration out;
  out.name = std::move(name);
  out.scope = scope;
  out.type = ParameterType::kText;
  out.required = true;
  out.doc = std::move(doc);
  return out;
}

// ---- parameters that several methods share ------------------------------------------------------

std::vector<ParameterDeclaration> common_parameters() {
  return {
      choice("accumulate", "float32", {"float32", "native"},
             "element type of sums: float32 rounds once at the end, native uses the base's type"),
      choice("missing", "optional", {"optional", "error", "skip", "base"},
             "a tensor that some model lacks: merge those that have it, fail, leave the tensor "
             "out, or take the base's in its place"),
      choice("shape_mismatch", "method", {"method", "error", "skip", "crop"},
             "a tensor whose shape differs: what the method does by itself, fail, leave the model "
             "out, or cut to what all share"),
  };
}

ParameterDeclaration weight() {
  return required_number("weight", kModel, kAny, "weight of a model");
}
ParameterDeclaration weight_of_one() {
  return number("weight", kModel, 1.0, kAny, "weight of a model");
}
ParameterDeclaration lambda(double fallback) {
  return number("lambda", kGlobal, fallback, kAny, "factor of the merged difference");
}
ParameterDeclaration density() {
  return number("density", kModel, 1.0, kAny,
                "share of a difference that is kept; 1 or more keeps all, 0 or less nothing");
}
// Of methods whose output is a model for each task.
ParameterDeclaration one_task() {
  ParameterDeclaration out =
      number("task", kGlobal, 0, kFromZero,
             "model for this task, from 1 in the order of the models; 0: what all tasks share");
  out.whole = true;
  return out;
}
ParameterDeclaration model_or_masks() {
  return choice("output", "model", {"model", "masks"},
                "weights, or of each element whole numbers whose bit i is task i's mask");
}
ParameterDeclaration mask_threshold() {
  return number("mask_lambda", kModel, 0.4, kFromZero,
                "an element is a task's own where its difference exceeds this times the rest");
}

ParameterDeclaration rescale(const char* fallback) {
  ParameterDeclaration out =
      choice("rescale", fallback, {"l1", "inverse_density", "l2", "linf", "none"},
             "what sparsifying keeps of a difference: its L1, L2 or maximum norm, its expectation "
             "(kept entries over their probability), or nothing");
  out.when_true = "l1";
  out.when_false = "none";
  return out;
}

std::vector<ParameterDeclaration> sign_election() {
  return {
      choice("preset", "mergekit", {"mergekit", "paper", "fusionbench", "peft"},
             "convention that gives the parts below"),
      choice("scope", "", {"tensor", "global"}, "what the density is a share of"),
      choice("keep", "", {"exact", "ge"}, "exactly that share, or all that reach its threshold"),
      choice("zero_sign", "", {"plus", "majority"}, "elected sign of a sum of zero"),
      choice("reduce", "", {"mean", "sum", "max"}, "what is made of the agreeing entries"),
      choice("vote", "", {"weighted", "unweighted"}, "whether weights count in the election"),
  };
}

// ---- one method --------------------------------------------------------------------------------

struct Models {
  BaseRole role;
  bool needs_base;
  int minimum;
  int maximum = std::numeric_limits<int>::max();
};
constexpr Models kDifferences{BaseRole::kReference, true, 1};

struct Shapes {
  ShapeRule embeddings = ShapeRule::kError;
  ShapeRule others = ShapeRule::kError;
};
constexpr Shapes kArithmetic{ShapeRule::kCropToBase, ShapeRule::kSkipModel};
constexpr Shapes kCommon{ShapeRule::kSmallestCommon, ShapeRule::kError};

MethodDeclaration method(std::string name, std::string paper, Models models, Shapes shapes,
                         std::string doc, std::vector<ParameterDeclaration> parameters) {
  MethodDeclaration out;
  out.name = std::move(name);
  out.doc = std::move(doc);
  out.paper = std::move(paper);
  out.base_role = models.role;
  out.needs_base = models.needs_base;
  out.minimum_models = models.minimum;
  out.maximum_models = models.maximum;
  out.embedding_shapes = shapes.embeddings;
  out.other_shapes = shapes.others;
  out.parameters = std::move(parameters);
  for (auto& parameter : common_parameters()) out.parameters.push_back(std::move(parameter));
  return out;
}

// Methods of generalised task arithmetic share most of their parameters.
MethodDeclaration arithmetic(std::string name, std::string paper, std::string doc, bool normalize,
                             std::vector<ParameterDeclaration> more) {
  std::vector<ParameterDeclaration> parameters{
      weight(), flag("normalize", normalize, "divide by the sum of the weights that took part"),
      lambda(1.0),
      flag("int8_mask", false, "accepted for compatibility; masks are always one bit")};
  for (auto& parameter : more) parameters.push_back(std::move(parameter));
  return method(std::move(name), std::move(paper), kDifferences, kArithmetic, std::move(doc),
                std::move(parameters));
}

std::vector<ParameterDeclaration> sparse(const char* rescaling,
                                         std::vector<ParameterDeclaration> more) {
  std::vector<ParameterDeclaration> out{density(), rescale(rescaling)};
  for (auto& parameter : more) out.push_back(std::move(parameter));
  return out;
}

std::vector<ParameterDeclaration> outliers() {
  return sparse("none",
                {number("gamma", kModel, 0.01, kShare, "share of the largest entries dropped"),
                 flag("per_row", false, "rank within each row instead of the whole tensor")});
}

std::vector<ParameterDeclaration> ranked_dropping() {
  return sparse("l1", {number("epsilon", kModel, 0.15, kFromZero,
                              "half the spread of the keep probability around the density")});
}

// ---- the table ---------------------------------------------------------------------------------

void add_basic(std::vector<MethodDeclaration>& out) {
  out.push_back(method("linear", "2203.05482", {BaseRole::kMember, false, 1}, kCommon,
                       "weighted average of the models",
                       {weight(), flag("normalize", true, "divide by the sum of the weights")}));
  out.push_back(arithmetic("task_arithmetic", "2212.04089",
                           "base plus a weighted sum of the models' differences from it", false,
                           {}));
  out.push_back(method("expo", "2404.16792", {BaseRole::kReference, true, 1, 1}, kArithmetic,
                       "extrapolates from the base through one aligned model and beyond",
                       {number("alpha", kGlobal, 0.1, kAny, "how far beyond the model")}));
}

void add_spherical(std::vector<MethodDeclaration>& out) {
  const std::string end = "position between the base (0) and the other model (1)";
  out.push_back(method("slerp", "", {BaseRole::kMember, true, 2, 2}, kCommon,
                       "spherical interpolation of two models, each tensor as one vector",
                       {required_number("t", kGlobal, kAny, end)}));
  out.push_back(
      method("nuslerp", "", {BaseRole::kReference, false, 2, 2}, kCommon,
             "spherical interpolation of two models or of their differences from a base",
             {weight(), flag("nuslerp_flatten", true, "take each tensor as one vector"),
              flag("nuslerp_row_wise", false,
                   "without flatten: vectors along the first dimension instead of the last")}));
  out.push_back(method("multislerp", "", {BaseRole::kReference, false, 2}, {},
                       "spherical mean of several models by one step in the tangent space",
                       {weight(), flag("normalize_weights", true, "scale the weights to sum 1"),
                        number("eps", kGlobal, 1e-8, kAboveZero, "guards the norms")}));
  out.push_back(method("karcher", "2603.04972", {BaseRole::kMember, false, 2}, kCommon,
                       "Riemannian mean of several models on the sphere",
                       {count("max_iter", 10, "iterations at most"),
                        number("tol", kGlobal, 1e-5, kAboveZero, "step length that ends them")}));
  out.push_back(method("passthrough", "", {BaseRole::kDonor, false, 1, 1}, {},
                       "copies one model's tensors; with slices, stacks layers",
                       {optional_number("scale", kModel, kAny, "factor of the tensor")}));
}

void add_sparse(std::vector<MethodDeclaration>& out) {
  out.push_back(arithmetic("ties", "2306.01708",
                           "keeps the largest differences, elects a sign for each element and "
                           "merges what agrees",
                           true, sparse("none", sign_election())));
  out.push_back(arithmetic("dare_linear", "2311.03099", "randomly drops differences, then sums",
                           false, sparse("l1", {})));
  out.push_back(arithmetic("dare_ties", "2311.03099",
                           "randomly drops differences, then elects signs", false,
                           sparse("l1", {})));
  out.push_back(arithmetic("della", "2406.11617",
                           "drops small differences more often than large ones, then elects signs",
                           true, ranked_dropping()));
  out.push_back(arithmetic("della_linear", "2406.11617",
                           "drops small differences more often than large ones, then sums", false,
                           ranked_dropping()));
  out.push_back(arithmetic("breadcrumbs", "2312.06795",
                           "drops the smallest and the largest differences, then sums", false,
                           outliers()));
  out.push_back(arithmetic("breadcrumbs_ties", "2312.06795",
                           "drops the smallest and the largest differences, then elects signs",
                           false, outliers()));
}

void add_selective(std::vector<MethodDeclaration>& out) {
  const auto threshold = [] {
    return number("epsilon", kGlobal, 1e-5, kFromZero, "a difference above this is active");
  };
  out.push_back(
      method("sce", "2408.07990", kDifferences, {},
             "keeps the elements that vary most, weights models by energy, erases minorities",
             {number("select_topk", kGlobal, 1.0, kAny, "share of varying elements that is kept"),
              flag("int8_mask", false, "accepted for compatibility; masks are always one bit")}));
  out.push_back(method("nearswap", "", {BaseRole::kReference, true, 1, 1}, {},
                       "moves towards the other model where the two are close",
                       {required_number("t", kGlobal, kAny, "distance below which values swap")}));
  out.push_back(method("arcee_fusion", "", {BaseRole::kReference, true, 1, 1}, kCommon,
                       "takes the elements that changed in an unusually important way", {}));
  out.push_back(method("ram", "2601.13572", kDifferences, {},
                       "sums what one model changed, averages what several changed",
                       {threshold()}));
  out.push_back(
      method("ramplus_tl", "2601.13572", kDifferences, {},
             "ram that strengthens what one model alone changed",
             {threshold(), number("r", kGlobal, 0.1, kAny, "strength of that"),
              number("alpha", kGlobal, 0.2, kFromZero, "limit of the ratio it is given")}));
  out.push_back(
      method("model_stock", "2403.19522", {BaseRole::kReference, true, 2}, kCommon,
             "between base and average, as far as the angle between the models says",
             {flag("filter_wise", false, "an angle for each row instead of each tensor"),
              optional_flag("clamp_t",
                            "keep the position between base and average: by default true, "
                            "but false under accumulate: native, as in mergekit")}));
}

void add_whole_model(std::vector<MethodDeclaration>& out) {
  out.push_back(method("magmax", "2407.06322", kDifferences, {},
                       "takes each element's largest difference", {lambda(0.5)}));
  out.push_back(method("metagpt", "2406.11385", kDifferences, {},
                       "weights models by the squared norms of their differences", {}));
  out.push_back(
      method("lines", "2410.17146", kDifferences, {}, "scales differences linearly with depth",
             {weight_of_one(),
              optional_number("alpha", kGlobal, kAny,
                              "factor of the first layer and outside the layers; where it is "
                              "absent, from the norms of the differences"),
              required_number("beta", kGlobal, kAny, "added up to the last layer")}));
  out.push_back(method("emr", "2405.17461", kDifferences, {},
                       "one shared difference, with a mask and a scale for each model",
                       {choice("scale_from", "tensor_means", {"tensor_means", "global_sums"},
                               "what a model's scale compares"),
                        one_task(), model_or_masks()}));
  out.push_back(method("tall_masks", "2405.07813", kDifferences, {},
                       "the sum of the differences, with a mask for each model",
                       {mask_threshold(), one_task(), model_or_masks()}));
  out.push_back(
      method("consensus", "2405.07813", kDifferences, {},
             "the sum of the differences where several models use an element",
             {mask_threshold(), count("min_tasks", 2, "models that must use it"), lambda(0.3)}));
  out.push_back(
      method("pcb", "2410.02396", kDifferences, {},
             "balances competition within and between models, drops what loses",
             {weight_of_one(), number("ratio", kGlobal, 0.1, kShare, "share that is kept")}));
}

void add_data_driven(std::vector<MethodDeclaration>& out) {
  constexpr Models kAverage{BaseRole::kDonor, false, 1};
  out.push_back(
      method("fisher", "2111.09832", kAverage, {}, "average weighted by Fisher information",
             {weight_of_one(),
              required_text("statistics", kModel, "safetensors file with '<tensor>.fisher'"),
              flag("normalize", true, "scale each model's information to the same norm"),
              number("epsilon", kGlobal, 1e-6, kAboveZero, "added to the information")}));
  out.push_back(method(
      "regmean", "2212.09849", kAverage, {}, "least squares over the inputs of each linear layer",
      {required_text("statistics", kModel, "safetensors file with '<module>.gram'"),
       number("reduce_non_diagonal_ratio", kGlobal, 0.9, kShare,
              "factor of the entries off the diagonal"),
       flag("weight_transpose", true, "weights are [out, in]; off: [in, out]"),
       number("jitter", kGlobal, 1e-6, kFromZero,
              "added to the diagonal, as a share of its mean")}));
}

// Methods on singular values share two parameters.
MethodDeclaration spectral(std::string name, std::string paper, std::string doc,
                           std::vector<ParameterDeclaration> more, double factor = 1.0) {
  std::vector<ParameterDeclaration> parameters{
      lambda(factor),
      flag("average", false,
           "take the mean of the differences, as for tensors that are no matrices")};
  for (auto& parameter : more) parameters.push_back(std::move(parameter));
  return method(std::move(name), std::move(paper), kDifferences, {}, std::move(doc),
                std::move(parameters));
}

void add_spectral(std::vector<MethodDeclaration>& out) {
  out.push_back(spectral("tsv_m", "2412.00081",
                         "joins the models' first singular vectors and makes them orthogonal", {}));
  out.push_back(spectral("iso_c", "2502.04959",
                         "the sum of the differences with all singular values made equal", {}));
  out.push_back(spectral(
      "iso_cts", "2502.04959", "iso_c with room kept for what each model has alone",
      {number("common_fraction", kGlobal, 0.8, kShare, "share of the directions of the sum")}));
  out.push_back(spectral(
      "star", "2502.10339", "cuts small singular values, scales the rest up, averages",
      {number("eta", kGlobal, 0.4, kShare, "share of the sum of singular values that is kept")}));
  out.push_back(
      spectral("knots", "2410.19735", "trims and elects signs in a basis that all models share",
               {number("density", kGlobal, 0.2, kAny, "share of the aligned entries that is kept"),
                choice("scope", "global", {"global", "tensor"}, "what the density is a share of")},
               0.6));
  out.push_back(spectral("wudi", "2503.08099",
                         "minimises the interference with every model's own subspace",
                         {choice("solver", "adam", {"adam", "exact"},
                                 "steps of Adam from the sum on, as published, or the minimum"),
                          count("iterations", 400, "steps of Adam"),
                          number("learning_rate", kGlobal, 1e-5, kAboveZero, "of Adam")}));
}

void add_extraction(std::vector<MethodDeclaration>& out) {
  out.push_back(method(
      "extract_lora", "", {BaseRole::kReference, true, 1, 1}, {},
      "writes the model's differences from its base as a LoRA adapter",
      {count("max_rank", 128, "rank of a module at most"),
       number("sv_epsilon", kGlobal, 0, kFromZero, "singular values up to this are dropped"),
       flag("distribute_scale", true,
            "give the root of the singular values to both factors; off: all to A"),
       flag("embed_lora", false, "embeddings as low rank, too, instead of whole"),
       flag("skip_undecomposable", false, "leave norms and the like out instead of whole")}));
}

std::vector<MethodDeclaration> make_methods() {
  std::vector<MethodDeclaration> out;
  add_basic(out);
  add_spherical(out);
  add_sparse(out);
  add_selective(out);
  add_whole_model(out);
  add_spectral(out);
  add_data_driven(out);
  add_extraction(out);
  return out;
}

// ---- printing ----------------------------------------------------------------------------------

std::string shown(double value) {
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof text, value).ptr);
}

std::string shown(const RealRange& range) {
  const bool low = std::isfinite(range.low), high = std::isfinite(range.high);
  const std::string from = (range.open_low ? "above " : "at least ") + shown(range.low);
  const std::string to = (range.open_high ? "below " : "at most ") + shown(range.high);
  if (low && high && !range.open_low && !range.open_high) {
    return shown(range.low) + " to " + shown(range.high);
  }
  return (low ? from : "") + (low && high ? " and " : "") + (high ? to : "");
}

Json as_json(const ParameterValue& value) {
  return std::visit([](const auto& held) { return Json(held); }, value);
}

Json schema_of(const ParameterDeclaration& parameter) {
  Json out = Json::object();
  switch (parameter.type) {
    case ParameterType::kNumber:
      out["type"] = parameter.whole ? "integer" : "number";
      if (std::isfinite(parameter.range.low)) {
        out[parameter.range.open_low ? "exclusiveMinimum" : "minimum"] = parameter.range.low;
      }
      if (std::isfinite(parameter.range.high)) {
        out[parameter.range.open_high ? "exclusiveMaximum" : "maximum"] = parameter.range.high;
      }
      break;
    case ParameterType::kFlag:
      out["type"] = "boolean";
      break;
    case ParameterType::kText:
      out["type"] = "string";
      if (!parameter.choices.empty()) out["enum"] = parameter.choices;
      break;
  }
  if (!parameter.when_true.empty()) {
    out["type"] = Json{"string", "boolean"};
    out["enum"].push_back(true);
    out["enum"].push_back(false);
  }
  if (parameter.fallback) out["default"] = as_json(*parameter.fallback);
  out["description"] = parameter.doc;
  out["x-scope"] = parameter.scope == kModel ? "model" : "global";
  return out;
}

std::string help_of(const ParameterDeclaration& parameter) {
  std::string out = "    " + parameter.name + "  " + expected_value(parameter);
  if (parameter.scope == kModel) out += ", of each model";
  if (parameter.required) out += ", required";
  if (parameter.fallback) out += ", default " + value_text(*parameter.fallback);
  return out + ": " + parameter.doc + "\n";
}

std::string models_of(const MethodDeclaration& method) {
  std::string out = method.minimum_models == method.maximum_models
                        ? "exactly " + std::to_string(method.minimum_models)
                        : std::to_string(method.minimum_models) + " or more";
  out += method.maximum_models == 1 || (method.minimum_models == 1 && method.maximum_models == 1)
             ? " model"
             : " models";
  if (method.base_role == BaseRole::kReference) {
    out += method.needs_base ? " beside a base model" : ", a base model if wanted";
  } else if (method.needs_base) {
    out += ", one of them the base";
  }
  return out;
}

}  // namespace

std::string value_text(const ParameterValue& value) {
  if (const auto* real = std::get_if<double>(&value)) return shown(*real);
  if (const auto* truth = std::get_if<bool>(&value)) return *truth ? "true" : "false";
  return std::get<std::string>(value);
}

const ParameterDeclaration* MethodDeclaration::find(std::string_view parameter) const noexcept {
  const auto found =
      std::find_if(parameters.begin(), parameters.end(),
                   [parameter](const ParameterDeclaration& p) { return p.name == parameter; });
  return found == parameters.end() ? nullptr : &*found;
}

const std::vector<MethodDeclaration>& merge_methods() {
  static const std::vector<MethodDeclaration> methods = make_methods();
  return methods;
}

const MethodDeclaration* find_method(std::string_view name) {
  for (const MethodDeclaration& method : merge_methods()) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

std::vector<std::string> method_names() {
  std::vector<std::string> out;
  out.reserve(merge_methods().size());
  for (const MethodDeclaration& method : merge_methods()) out.push_back(method.name);
  return out;
}

std::vector<std::string> parameter_names(const MethodDeclaration& method) {
  std::vector<std::string> out;
  out.reserve(method.parameters.size());
  for (const ParameterDeclaration& parameter : method.parameters) out.push_back(parameter.name);
  return out;
}

const std::vector<TiesConvention>& ties_conventions() {
  // preset, scope, keep, zero_sign, reduce, vote. `mean` under mergekit is over the weights, and
  // `normalize: false` turns it into a sum.
  static const std::vector<TiesConvention> conventions{
      {"mergekit", "tensor", "exact", "plus", "mean", "weighted"},
      {"paper", "global", "ge", "majority", "mean", "unweighted"},
      {"fusionbench", "global", "ge", "majority", "sum", "unweighted"},
      {"peft", "tensor", "exact", "plus", "mean", "unweighted"},
  };
  return conventions;
}

const TiesConvention& ties_convention(std::string_view preset) {
  std::vector<std::string> names;
  for (const TiesConvention& convention : ties_conventions()) {
    if (convention.preset == preset) return convention;
    names.push_back(convention.preset);
  }
  const std::string nearest = nearest_name(preset, names);
  throw Error(Code::kInvalidArgument,
              "there is no preset '" + std::string(preset) + "' of ties" +
                  (nearest.empty() ? "" : "; did you mean '" + nearest + "'?"))
      .at("parameter", "preset");
}

std::string expected_value(const ParameterDeclaration& parameter) {
  switch (parameter.type) {
    case ParameterType::kNumber: {
      const std::string range = shown(parameter.range);
      const std::string kind = parameter.whole ? "a whole number" : "a number";
      return range.empty() ? kind : kind + ", " + range;
    }
    case ParameterType::kFlag:
      return "true or false";
    case ParameterType::kText:
      break;
  }
  if (parameter.choices.empty()) return "text";
  std::string out;
  for (const auto& name : parameter.choices) out += (out.empty() ? "one of '" : ", '") + name + "'";
  if (!parameter.when_true.empty()) out += ", true, false";
  return out;
}

Json parameter_schema(const MethodDeclaration& method) {
  Json out{{"type", "object"}, {"title", method.name}, {"description", method.doc}};
  Json& properties = out["properties"] = Json::object();
  Json required = Json::array();
  for (const ParameterDeclaration& parameter : method.parameters) {
    properties[parameter.name] = schema_of(parameter);
    if (parameter.required) required.push_back(parameter.name);
  }
  if (!required.empty()) out["required"] = std::move(required);
  out["additionalProperties"] = false;
  return out;
}

std::string methods_help() {
  std::string out;
  for (const MethodDeclaration& method : merge_methods()) {
    out += method.name + ": " + method.doc;
    if (!method.paper.empty()) out += " (arXiv " + method.paper + ")";
    out += "\n  takes " + models_of(method) + "\n";
    for (const ParameterDeclaration& parameter : method.parameters) out += help_of(parameter);
  }
  return out;
}

}  // namespace theriac::merge
