#include "cpp/core/merge/plan.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/base/options.h"

namespace theriac::merge {
namespace {

using Shape = std::vector<std::uint64_t>;

std::string shown(const Shape& shape) {
  std::string out;
  for (const std::uint64_t size : shape) out += (out.empty() ? "" : ", ") + std::to_string(size);
  return "[" + out + "]";
}

// A list of config.json with an entry for each layer.
bool is_layer_list(const std::string& key, const Json& value, std::int64_t layers) {
  return key.find("layer") != std::string::npos && value.is_array() &&
         value.size() == static_cast<std::size_t>(layers);
}

// The object at a path of config.json ("text_config"), itself for an empty one.
const Json* find_part(const Json& config, const std::string& path) {
  const Json* at = &config;
  for (std::size_t first = 0; !path.empty() && first != std::string::npos;) {
    const std::size_t dot = path.find('.', first);
    if (!at->is_object()) return nullptr;
    const auto found = at->find(path.substr(first, dot == std::string::npos ? dot : dot - first));
    if (found == at->end()) return nullptr;
    at = &*found;
    first = dot == std::string::npos ? dot : dot + 1;
  }
  return at->is_object() ? at : nullptr;
}

// Collects what happened to many tensors into one sentence a kind.
class Notes {
 public:
  void add(const std::string& what) { entry(what); }
  void add(const std::string& what, const std::string& tensor) {
    Entry& at = entry(what);
    if (at.tensors++ < kShown) at.names += (at.names.empty() ? "" : ", ") + tensor;
  }
  std::vector<std::string> sentences() const {
    std::vector<std::string> out;
    for (const auto& [what, at] : entries_) {
      const std::string more = at.tensors > kShown ? ", ..." : "";
      const std::string count =
          at.tensors == 0 ? "" : " (" + std::to_string(at.tensors) + ": " + at.names + more + ")";
      out.push_back(what + count);
    }
    return out;
  }

 private:
  static constexpr std::size_t kShown = 5;
  struct Entry {
    std::size_t tensors = 0;
    std::string names;
  };
  Entry& entry(const std::string& what) {
    const auto [at, added] = index_.emplace(what, entries_.size());
    if (added) entries_.emplace_back(what, Entry{});
    return entries_[at->second].second;
  }
  std::vector<std::pair<std::string, Entry>> entries_;
  std::unordered_map<std::string, std::size_t> index_;
};

// A model with what is derived from it, once.
struct Input {
  const ModelTensors* model = nullptr;
  Architecture architecture;
  std::unordered_map<std::string_view, std::size_t> by_name;

  explicit Input(const ModelTensors& tensors)
      : model(&tensors), architecture(infer_architecture(tensors)) {
    for (std::size_t i = 0; i < tensors.tensors.size(); ++i) {
      by_name.emplace(tensors.tensors[i].name, i);
    }
  }
  const TensorShape* find(std::string_view name) const {
    const auto found = by_name.find(name);
    return found == by_name.end() ? nullptr : &model->tensors[found->second];
  }
  const Stack* stack(std::string_view prefix) const {
    for (const Stack& stack : architecture.stacks) {
      if (stack.prefix == prefix) return &stack;
    }
    return nullptr;
  }
};

// The three forms of a recipe, brought to one.
struct Source {
  std::size_t model = 0;
  const ParameterSet* own = nullptr;
  std::int64_t first = 0, last = 0;
};
struct Slice {
  std::vector<Source> sources;
  int base = -1;
  std::int64_t layers = 0;
  const ParameterSet* parameters = nullptr;
};
struct Module {
  std::string prefix;  // of the stack
  std::vector<Slice> slices;
  const ParameterSet* parameters = nullptr;
};

// A tensor on its way into the plan: one input a source, nullptr where the source lacks it.
struct Candidate {
  std::string name;
  std::int64_t layer = -1;
  double t = 0;
  const Slice* slice = nullptr;
  const Module* module = nullptr;
  std::vector<const TensorShape*> inputs;
};

// A source that takes part in one tensor.
struct Part {
  std::size_t source = 0;  // position in the slice
  std::size_t model = 0;
  const TensorShape* tensor = nullptr;
  bool crop = false;
};

class Planner {
 public:
  Planner(const MergeRecipe& recipe, const std::vector<ModelTensors>& models)
      : recipe_(recipe), models_(models) {
    plan_.method = find_method(recipe.merge_method);
    if (plan_.method == nullptr) {
      const std::string nearest = nearest_name(recipe.merge_method, method_names());
      fail({}, "merge_method",
           "there is no method '" + recipe.merge_method + "'" +
               (nearest.empty() ? "" : "; did you mean '" + nearest + "'?"));
    }
    for (std::size_t i = 0; i < models.size(); ++i) positions_.emplace(models[i].name, i);
    inputs_.resize(models.size());
  }

  MergePlan make() {
    choose_donor();
    for (const Module& module : modules()) plan_module(module);
    untie();
    edit_vocabulary();
    plan_.notes = notes_.sentences();
    return std::move(plan_);
  }

 private:
  [[noreturn]] void fail(Mark mark, const std::string& path, const std::string& problem) const {
    throw error_at(recipe_.file, mark, path, problem);
  }
  [[noreturn]] static void fail_data(const std::string& tensor, const std::string& problem) {
    throw Error(Code::kDataError, "tensor '" + tensor + "': " + problem).at("tensor", tensor);
  }
  const std::string& name_of(std::size_t model) const { return models_[model].name; }

  // ---- models
  std::size_t position(const ModelReference& reference, const std::string& path);
  const Input& input(std::size_t model);
  void choose_donor();

  // ---- forms of a recipe
  std::vector<Module> modules();
  std::vector<Module> modules_of_models(const std::vector<SourceModel>& models,
                                        const std::string& path, const std::string* only_prefix);
  Module module_of_slices(const std::vector<OutputSlice>& slices, const std::string& prefix);
  Module named_module(const OutputModule& module);
  void note_dropped_modules(const std::vector<Module>& modules);
  std::string only_prefix_of(const SliceSource& source);
  Slice slice_of_models(const std::vector<SourceModel>& models, const std::string& path);
  Slice slice_of(const OutputSlice& slice, const std::string& prefix);
  void set_range(Slice& slice, const std::string& prefix);
  void set_base(Slice& slice, const std::optional<ModelReference>& base);
  void check_count(const Slice& slice, Mark mark, const std::string& path, bool listed) const;

  // ---- tensors
  void plan_module(const Module& module);
  void plan_loose(const Module& module, const Slice& slice, bool after);
  void plan_layers(const Module& module, const Slice& slice, std::int64_t offset);
  void plan_tensor(Candidate candidate);
  void edit_layer_count(const Module& module, std::int64_t layers);
  void edit_layer_lists(const Module& module);
  Json layer_list(const Module& module, const std::string& part, const std::string& key,
                  const Json& fallback);
  bool follow_ties(Candidate& candidate);
  void untie();
  void edit_vocabulary();
  std::optional<std::vector<Part>> present_parts(const Candidate& candidate,
                                                 const std::string& policy);
  void fill_from_base(const Candidate& candidate, std::vector<Part>& parts) const;
  static int base_of(const Candidate& candidate, const std::vector<Part>& parts);
  bool too_few(const Candidate& candidate, const std::vector<Part>& parts) const;
  Shape fit_shapes(const Candidate& candidate, std::vector<Part>& parts, ShapeRule rule,
                   bool rows_free);
  ShapeRule shape_rule(const Candidate& candidate, const std::string& policy, bool embed) const;
  void add_merge(const Candidate& candidate, const std::vector<Part>& parts, Parameters global,
                 Shape shape, bool embed, bool rows_free);
  void add_copy(const Candidate& candidate, const Part& part);
  Parameters model_parameters(const Candidate& candidate, const Part& part);
  SettingScopes scopes(const Candidate& candidate) const {
    return {candidate.slice->parameters, candidate.module->parameters, &recipe_.parameters,
            recipe_.file};
  }

  const MergeRecipe& recipe_;
  const std::vector<ModelTensors>& models_;
  std::unordered_map<std::string_view, std::size_t> positions_;
  std::vector<std::optional<Input>> inputs_;  // made when first asked for
  MergePlan plan_;
  Notes notes_;
  std::set<std::string> planned_;  // names, across modules
  bool untied_ = false;            // some head is an embedding in one model and not in another
};

// ---- models ------------------------------------------------------------------------------------

std::size_t Planner::position(const ModelReference& reference, const std::string& path) {
  const std::string text = reference.text();
  const auto found = positions_.find(text);
  if (found == positions_.end()) {
    fail(reference.mark, path,
         "the model " + quoted_for_message(text) + " is not among those given");
  }
  if (!reference.override_architecture.empty()) {
    notes_.add("override_architecture is ignored: architectures are inferred from the tensors");
  }
  return found->second;
}

const Input& Planner::input(std::size_t model) {
  if (!inputs_[model]) inputs_[model].emplace(models_[model]);
  return *inputs_[model];
}

void Planner::choose_donor() {
  if (recipe_.base_model) {
    plan_.donor = position(*recipe_.base_model, "base_model");
    return;
  }
  MergeRecipe merged = recipe_;
  merged.tokenizer.reset();  // a vocabulary's source is not what is merged
  plan_.donor = position(referenced_models(merged).front(), "");
}

// ---- forms of a recipe -------------------------------------------------------------------------

std::vector<Module> Planner::modules() {
  if (!recipe_.models.empty()) return modules_of_models(recipe_.models, "models", nullptr);
  std::vector<Module> out;
  if (!recipe_.slices.empty()) {
    const SliceSource& first = recipe_.slices.front().sources.front();
    out.push_back(module_of_slices(recipe_.slices, only_prefix_of(first)));
    return out;
  }
  for (const OutputModule& module : recipe_.modules) {
    out.push_back(named_module(module));
    for (std::size_t i = 0; i + 1 < out.size(); ++i) {
      if (out[i].prefix == out.back().prefix) {
        fail(module.mark, "modules." + module.name,
             "is the same part of the model ('" + out[i].prefix + "') as a module before it");
      }
    }
  }
  note_dropped_modules(out);
  return out;
}

std::string Planner::only_prefix_of(const SliceSource& source) {
  const Architecture& architecture = input(position(source.model, source.key_path)).architecture;
  if (architecture.stacks.size() == 1) return architecture.stacks[0].prefix;
  std::string names;
  for (const Stack& stack : architecture.stacks) {
    names += (names.empty() ? "'" : ", '") + stack.prefix + "'";
  }
  fail(source.model.mark, source.key_path,
       "'slices' asks for a model with one stack of layers; this one has " + names +
           "; give the slices of each under 'modules'");
}

// Equal layers, one slice: what `models` means for each stack that any of the models has.
std::vector<Module> Planner::modules_of_models(const std::vector<SourceModel>& models,
                                               const std::string& path,
                                               const std::string* only_prefix) {
  const Slice all = slice_of_models(models, path);
  std::vector<Module> out;
  std::set<std::string> seen;
  for (const Source& source : all.sources) {
    for (const Stack& stack : input(source.model).architecture.stacks) {
      if (only_prefix != nullptr && stack.prefix != *only_prefix) continue;
      if (!seen.insert(stack.prefix).second) continue;
      Module module;
      module.prefix = stack.prefix;
      module.slices.push_back(all);
      set_range(module.slices[0], stack.prefix);
      out.push_back(std::move(module));
    }
  }
  return out;
}

Slice Planner::slice_of_models(const std::vector<SourceModel>& models, const std::string& path) {
  Slice slice;
  for (const SourceModel& model : models) {
    slice.sources.push_back({position(model.model, model.key_path), &model.parameters, 0, 0});
  }
  set_base(slice, recipe_.base_model);
  const bool added =
      recipe_.base_model && slice.base < 0 && plan_.method->base_role != BaseRole::kDonor;
  if (added) {
    slice.base = static_cast<int>(slice.sources.size());
    slice.sources.push_back({position(*recipe_.base_model, "base_model"), nullptr, 0, 0});
  }
  check_count(slice, models.front().model.mark, path, true);
  return slice;
}

void Planner::set_range(Slice& slice, const std::string& prefix) {
  std::optional<std::size_t> first;
  for (Source& source : slice.sources) {
    const Stack* stack = input(source.model).stack(prefix);
    if (stack == nullptr) continue;  // all its tensors count as missing
    if (!first) first = source.model;
    source.last = stack->layers;
    if (slice.layers != 0 && stack->layers != slice.layers) {
      throw Error(Code::kDataError, "model '" + name_of(*first) + "' has " +
                                        std::to_string(slice.layers) + " layers in '" + prefix +
                                        "' and model '" + name_of(source.model) + "' has " +
                                        std::to_string(stack->layers) +
                                        "; use 'slices' to say which layers belong together")
          .at("model", name_of(source.model));
    }
    slice.layers = stack->layers;
  }
}

void Planner::set_base(Slice& slice, const std::optional<ModelReference>& base) {
  if (!base) return;
  const std::size_t model = position(*base, "base_model");
  for (std::size_t i = 0; i < slice.sources.size() && slice.base < 0; ++i) {
    if (slice.sources[i].model == model) slice.base = static_cast<int>(i);
  }
}

void Planner::check_count(const Slice& slice, Mark mark, const std::string& path,
                          bool listed) const {
  const MethodDeclaration& method = *plan_.method;
  const bool beside = method.base_role == BaseRole::kReference;
  if (method.needs_base && slice.base < 0) {
    fail(mark, path,
         "the method " + method.name + " needs a base model; " +
             (listed ? "give 'base_model'"
                     : "give 'base_model' and name that model among the sources of each slice"));
  }
  const auto models = static_cast<int>(slice.sources.size()) - (beside && slice.base >= 0 ? 1 : 0);
  if (models >= method.minimum_models && models <= method.maximum_models) return;
  const std::string wanted = method.minimum_models == method.maximum_models
                                 ? "exactly " + std::to_string(method.minimum_models)
                                 : "at least " + std::to_string(method.minimum_models);
  fail(mark, path,
       "the method " + method.name + " takes " + wanted +
           (beside ? ", not counting the base model" : ", the base model included") +
           "; here are " + std::to_string(models));
}

Slice Planner::slice_of(const OutputSlice& slice, const std::string& prefix) {
  Slice out;
  out.parameters = &slice.parameters;
  for (const SliceSource& source : slice.sources) {
    const std::size_t model = position(source.model, source.key_path);
    const Stack* stack = input(model).stack(prefix);
    if (stack == nullptr) {
      fail(source.model.mark, source.key_path,
           "the model '" + name_of(model) + "' has no layers called '" + prefix +
               "'; models of different architectures cannot be stacked");
    }
    if (source.last > stack->layers) {
      fail(source.model.mark, source.key_path + ".layer_range",
           "ends at layer " + std::to_string(source.last) + "; the model '" + name_of(model) +
               "' has " + std::to_string(stack->layers));
    }
    out.sources.push_back({model, &source.parameters, source.first, source.last});
  }
  out.layers = slice.sources.front().last - slice.sources.front().first;
  set_base(out, slice.base_model ? slice.base_model : recipe_.base_model);
  check_count(out, slice.mark, slice.key_path, false);
  return out;
}

Module Planner::module_of_slices(const std::vector<OutputSlice>& slices,
                                 const std::string& prefix) {
  Module out;
  out.prefix = prefix;
  for (const OutputSlice& slice : slices) out.slices.push_back(slice_of(slice, prefix));
  return out;
}

Module Planner::named_module(const OutputModule& module) {
  const ModelReference& first = module.models.empty() ? module.slices.front().sources.front().model
                                                      : module.models.front().model;
  const Architecture& architecture = input(position(first, "modules." + module.name)).architecture;
  const std::string prefix = architecture.stacks[find_stack(architecture, module.name)].prefix;
  Module out = module.models.empty()
                   ? module_of_slices(module.slices, prefix)
                   : std::move(modules_of_models(module.models,
                                                 "modules." + module.name + ".models", &prefix)
                                   .front());
  out.parameters = &module.parameters;
  return out;
}

void Planner::note_dropped_modules(const std::vector<Module>& modules) {
  for (const Stack& stack : input(plan_.donor).architecture.stacks) {
    const bool kept = std::any_of(modules.begin(), modules.end(), [&stack](const Module& module) {
      return module.prefix == stack.prefix;
    });
    if (!kept) notes_.add("the module '" + stack.prefix + "' is not listed and left out");
  }
}

// ---- tensors of a module -----------------------------------------------------------------------

void Planner::plan_module(const Module& module) {
  plan_loose(module, module.slices.front(), false);
  std::int64_t layers = 0;
  for (const Slice& slice : module.slices) {
    plan_layers(module, slice, layers);
    layers += slice.layers;
  }
  plan_loose(module, module.slices.back(), true);
  edit_layer_count(module, layers);
  edit_layer_lists(module);
}

// The first source that has a tensor decides to which stack it belongs; the others are asked for it
// by name, since a model with fewer stacks may count it to another.
void Planner::plan_loose(const Module& module, const Slice& slice, bool after) {
  std::set<std::string_view> seen;
  for (const Source& source : slice.sources) {
    for (const Stack& stack : input(source.model).architecture.stacks) {
      for (const std::size_t i : after ? stack.after : stack.before) {
        const std::string& name = models_[source.model].tensors[i].name;
        if (!seen.insert(name).second || stack.prefix != module.prefix) continue;
        Candidate candidate;
        candidate.name = name;
        candidate.slice = &slice;
        candidate.module = &module;
        for (const Source& other : slice.sources) {
          candidate.inputs.push_back(input(other.model).find(name));
        }
        plan_tensor(std::move(candidate));
      }
    }
  }
}

// Visits only layers that exist: a file may name layer 999999999 and nothing before it.
void Planner::plan_layers(const Module& module, const Slice& slice, std::int64_t offset) {
  std::map<std::int64_t, std::set<std::string_view>> layers;  // index in the slice -> rests
  for (const Source& source : slice.sources) {
    const Stack* stack = input(source.model).stack(module.prefix);
    if (stack == nullptr) continue;
    const auto last = stack->tensors.lower_bound(source.last);
    for (auto at = stack->tensors.lower_bound(source.first); at != last; ++at) {
      auto& rests = layers[at->first - source.first];
      for (const auto& [rest, tensor] : at->second) rests.insert(rest);
    }
  }
  for (const auto& [index, rests] : layers) {
    for (const std::string_view rest : rests) {
      Candidate candidate;
      candidate.layer = offset + index;
      candidate.name = layer_tensor_name(module.prefix, candidate.layer, rest);
      candidate.t = layer_position(index, slice.layers);
      candidate.slice = &slice;
      candidate.module = &module;
      for (const Source& source : slice.sources) {
        candidate.inputs.push_back(
            input(source.model).find(layer_tensor_name(module.prefix, source.first + index, rest)));
      }
      plan_tensor(std::move(candidate));
    }
  }
}

void Planner::edit_layer_count(const Module& module, std::int64_t layers) {
  const Stack* stack = input(plan_.donor).stack(module.prefix);
  if (stack == nullptr || stack->layers == layers) return;
  if (const auto key = layer_count_key(models_[plan_.donor].config, *stack)) {
    plan_.config_edits.push_back({*key, layers});
    return;
  }
  notes_.add("the number of layers of '" + module.prefix + "' is " + std::to_string(layers) +
             " now, but no key of config.json could be told to hold it; edit it by hand");
}

// Lists with an entry a layer ("layer_types" of models whose layers differ in attention) follow the
// layers that the output is made of.
void Planner::edit_layer_lists(const Module& module) {
  const Stack* stack = input(plan_.donor).stack(module.prefix);
  const Json& config = models_[plan_.donor].config;
  if (stack == nullptr || !config.is_object()) return;
  const auto count = layer_count_key(config, *stack);
  if (!count) return;
  const std::size_t dot = count->rfind('.');
  const std::string part = dot == std::string::npos ? "" : count->substr(0, dot);
  const Json* owner = find_part(config, part);
  if (owner == nullptr) return;
  for (const auto& [key, value] : owner->items()) {
    if (!is_layer_list(key, value, stack->layers)) continue;
    Json list = layer_list(module, part, key, value);
    if (list != value) {
      plan_.config_edits.push_back({(part.empty() ? "" : part + ".") + key, std::move(list)});
    }
  }
}

Json Planner::layer_list(const Module& module, const std::string& part, const std::string& key,
                         const Json& fallback) {
  Json out = Json::array();
  for (const Slice& slice : module.slices) {
    const Source& source = slice.sources.front();
    const Stack* stack = input(source.model).stack(module.prefix);
    const Json* owner = find_part(models_[source.model].config, part);
    const Json* list = &fallback;
    if (owner != nullptr && stack != nullptr && owner->contains(key) &&
        is_layer_list(key, owner->at(key), stack->layers)) {
      list = &owner->at(key);
    }
    for (std::int64_t i = source.first; i < source.last; ++i) {
      if (static_cast<std::size_t>(i) >= list->size()) return fallback;
      out.push_back((*list)[static_cast<std::size_t>(i)]);
    }
  }
  return out;
}

// ---- one tensor --------------------------------------------------------------------------------

// A head that a model leaves out because it is its embedding is found there. False where no model
// has a head of its own: then it is not written.
bool Planner::follow_ties(Candidate& candidate) {
  if (candidate.layer >= 0 || !is_output_head_name(candidate.name)) return true;
  bool own_head = false, any_tied = false;
  for (std::size_t i = 0; i < candidate.inputs.size(); ++i) {
    const Input& model = input(candidate.slice->sources[i].model);
    const TensorShape*& head = candidate.inputs[i];
    if (!model.architecture.tied) {
      own_head = own_head || head != nullptr;
      continue;
    }
    const TensorShape* embedding = model.find(model.architecture.tied_embedding);
    // A file that says "tied" and holds another shape for it is believed in what it holds.
    if (head != nullptr && head->shape != embedding->shape) {
      own_head = true;
      continue;
    }
    any_tied = true;
    head = embedding;
  }
  if (!own_head) {
    notes_.add("the output head is the embedding (tie_word_embeddings) and is not written twice",
               candidate.name);
    return false;
  }
  if (any_tied) untied_ = true;
  return true;
}

void Planner::untie() {
  if (!untied_) return;
  notes_.add(
      "some models tie the output head to the embedding and others do not; both are written");
  const Json& config = models_[plan_.donor].config;
  if (const auto key = tied_key(config); key && input(plan_.donor).architecture.tied) {
    plan_.config_edits.push_back({*key, false});
  }
}

// Where the embedding has other rows than the donor's configuration says, that is edited: a tokenizer,
// an adapter or a cut has changed them.
void Planner::edit_vocabulary() {
  const auto embedding = std::find_if(
      plan_.tensors.begin(), plan_.tensors.end(),
      [](const PlannedTensor& tensor) { return tensor.is_embed && tensor.shape.size() == 2; });
  if (embedding == plan_.tensors.end()) return;
  const auto key = vocabulary_key(models_[plan_.donor].config);
  if (key && key->second != embedding->shape[0]) {
    plan_.config_edits.push_back({key->first, embedding->shape[0]});
  }
}

void Planner::plan_tensor(Candidate candidate) {
  if (!planned_.insert(candidate.name).second || !follow_ties(candidate)) return;
  Parameters global = resolve_global(*plan_.method, scopes(candidate), candidate.name, candidate.t);
  auto parts = present_parts(candidate, global.text("missing"));
  if (!parts) return;
  const int base = base_of(candidate, *parts);
  const Part& preferred = (*parts)[base < 0 ? 0 : static_cast<std::size_t>(base)];
  const bool numbers = std::all_of(parts->begin(), parts->end(),
                                   [](const Part& part) { return part.tensor->arithmetic; });
  if (!numbers) {
    notes_.add("not floating point and copied from model '" + name_of(preferred.model) + "'",
               candidate.name);
    return add_copy(candidate, preferred);
  }
  const bool embed = candidate.layer < 0 && is_embedding_name(candidate.name);
  const bool rows_free = embed && recipe_.tokenizer && preferred.tensor->shape.size() == 2;
  const Part kept = preferred;  // fit_shapes may drop parts
  Shape shape;
  if (!too_few(candidate, *parts)) {
    // Rows that the tokenizer arranges are equal in the end; columns must be so from the start.
    const ShapeRule rule =
        rows_free ? ShapeRule::kError : shape_rule(candidate, global.text("shape_mismatch"), embed);
    shape = fit_shapes(candidate, *parts, rule, rows_free);
  }
  if (too_few(candidate, *parts)) {
    notes_.add("found in fewer models than " + plan_.method->name + " takes, and copied from '" +
                   name_of(kept.model) + "'",
               candidate.name);
    return add_copy(candidate, kept);
  }
  add_merge(candidate, *parts, std::move(global), std::move(shape), embed, rows_free);
}

// Nothing where the tensor is left out of the output.
std::optional<std::vector<Part>> Planner::present_parts(const Candidate& candidate,
                                                        const std::string& policy) {
  std::vector<Part> out;
  std::string lacking;
  const Slice& slice = *candidate.slice;
  for (std::size_t i = 0; i < slice.sources.size(); ++i) {
    if (candidate.inputs[i] != nullptr || policy == "base") {
      out.push_back({i, slice.sources[i].model, candidate.inputs[i], false});
    }
    if (candidate.inputs[i] == nullptr && lacking.empty()) {
      lacking = name_of(slice.sources[i].model);
    }
  }
  if (lacking.empty()) return out;
  if (policy == "error") fail_data(candidate.name, "missing in model '" + lacking + "'");
  if (policy == "skip") {
    notes_.add("missing in model '" + lacking + "' and left out", candidate.name);
    return std::nullopt;
  }
  if (policy == "base") {
    fill_from_base(candidate, out);
    notes_.add("missing in model '" + lacking + "', for which the base stands in", candidate.name);
    return out;
  }
  const bool base_lacks =
      slice.base >= 0 && candidate.inputs[static_cast<std::size_t>(slice.base)] == nullptr;
  if (base_lacks && plan_.method->base_role == BaseRole::kReference) {
    fail_data(candidate.name,
              "missing in the base model '" +
                  name_of(slice.sources[static_cast<std::size_t>(slice.base)].model) +
                  "', so that no difference can be taken; 'missing: skip' leaves it out");
  }
  notes_.add("missing in model '" + lacking + "' and merged from those that have it",
             candidate.name);
  return out;
}

void Planner::fill_from_base(const Candidate& candidate, std::vector<Part>& parts) const {
  const int base = candidate.slice->base;
  const TensorShape* stand_in =
      base < 0 ? nullptr : candidate.inputs[static_cast<std::size_t>(base)];
  if (stand_in == nullptr) {
    fail_data(candidate.name,
              "missing in some model, and there is no base model that has it, as "
              "'missing: base' asks for");
  }
  const std::size_t model = candidate.slice->sources[static_cast<std::size_t>(base)].model;
  for (Part& part : parts) {
    if (part.tensor != nullptr) continue;
    part.tensor = stand_in;
    part.model = model;
  }
}

int Planner::base_of(const Candidate& candidate, const std::vector<Part>& parts) {
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (static_cast<int>(parts[i].source) == candidate.slice->base) return static_cast<int>(i);
  }
  return -1;
}

bool Planner::too_few(const Candidate& candidate, const std::vector<Part>& parts) const {
  const bool has_base = base_of(candidate, parts) >= 0;
  // The base by itself is not merged, whatever its weight.
  if (has_base && parts.size() == 1 && candidate.slice->sources.size() > 1) return true;
  const bool beside = has_base && plan_.method->base_role == BaseRole::kReference;
  return static_cast<int>(parts.size()) - (beside ? 1 : 0) < plan_.method->minimum_models;
}

ShapeRule Planner::shape_rule(const Candidate& candidate, const std::string& policy,
                              bool embed) const {
  if (policy == "error") return ShapeRule::kError;
  if (policy == "skip") return ShapeRule::kSkipModel;
  const bool to_base =
      candidate.slice->base >= 0 && plan_.method->base_role == BaseRole::kReference;
  if (policy == "crop") return to_base ? ShapeRule::kCropToBase : ShapeRule::kSmallestCommon;
  return embed ? plan_.method->embedding_shapes : plan_.method->other_shapes;
}

// The output's shape; cuts and drops parts as the rule says. `rows_free`: the first dimension is
// made equal by the tokenizer later and does not count.
Shape Planner::fit_shapes(const Candidate& candidate, std::vector<Part>& parts, ShapeRule rule,
                          bool rows_free) {
  const int base = base_of(candidate, parts);
  const Part wanted = parts[base < 0 ? 0 : static_cast<std::size_t>(base)];
  Shape shape = wanted.tensor->shape;
  const auto differs = [&shape, rows_free](const Part& part) {
    const Shape& other = part.tensor->shape;
    if (!rows_free || other.size() != shape.size()) return other != shape;
    return !std::equal(other.begin() + 1, other.end(), shape.begin() + 1);
  };
  const auto odd = std::find_if(parts.begin(), parts.end(), differs);
  if (odd == parts.end()) return shape;
  const std::string both = shown(odd->tensor->shape) + " in model '" + name_of(odd->model) +
                           "' and " + shown(shape) + " in model '" + name_of(wanted.model) + "'";
  if (rule == ShapeRule::kSkipModel) {
    notes_.add("of another shape in model '" + name_of(odd->model) + "', which is left out",
               candidate.name);
    std::erase_if(parts, differs);
    return shape;
  }
  const bool same_rank = std::all_of(parts.begin(), parts.end(), [&shape](const Part& part) {
    return part.tensor->shape.size() == shape.size();
  });
  if (rule == ShapeRule::kError || !same_rank) {
    fail_data(candidate.name,
              "its shape is " + both + (same_rank ? "; see the parameter 'shape_mismatch'" : ""));
  }
  for (const Part& part : parts) {
    for (std::size_t d = 0; d < shape.size(); ++d) {
      const std::uint64_t size = part.tensor->shape[d];
      if (size >= shape[d]) continue;
      if (rule == ShapeRule::kCropToBase) {
        fail_data(candidate.name, "its shape is " + both + ", which is too small to be cut");
      }
      shape[d] = size;
    }
  }
  for (Part& part : parts) part.crop = part.tensor->shape != shape;
  notes_.add("of different shapes, and cut to what the models share", candidate.name);
  return shape;
}

Parameters Planner::model_parameters(const Candidate& candidate, const Part& part) {
  const Source& source = candidate.slice->sources[part.source];
  const bool is_base = static_cast<int>(part.source) == candidate.slice->base;
  Parameters out = resolve_model(*plan_.method, source.own, scopes(candidate), part.tensor->name,
                                 candidate.name, candidate.t, is_base);
  const ParameterDeclaration* weight = plan_.method->find("weight");
  if (is_base && weight != nullptr && plan_.method->base_role == BaseRole::kMember &&
      !out.has("weight")) {
    out.set(*weight, 0.0);
    notes_.add("the base model has no weight and counts with 0");
  }
  return out;
}

void Planner::add_merge(const Candidate& candidate, const std::vector<Part>& parts,
                        Parameters global, Shape shape, bool embed, bool rows_free) {
  PlannedTensor out;
  out.name = candidate.name;
  out.shape = std::move(shape);
  out.base = base_of(candidate, parts);
  out.parameters = std::move(global);
  out.t = candidate.t;
  out.layer = candidate.layer;
  out.is_embed = embed;
  out.rows_from_tokenizer = rows_free;
  for (const Part& part : parts) {
    out.sources.push_back(
        {part.model, part.tensor->name, part.crop, model_parameters(candidate, part)});
  }
  plan_.tensors.push_back(std::move(out));
}

void Planner::add_copy(const Candidate& candidate, const Part& part) {
  PlannedTensor out;
  out.name = candidate.name;
  out.shape = part.tensor->shape;
  out.action = PlannedAction::kCopy;
  out.sources.push_back({part.model, part.tensor->name, false, {}});
  out.base = static_cast<int>(part.source) == candidate.slice->base ? 0 : -1;
  out.t = candidate.t;
  out.layer = candidate.layer;
  out.is_embed = candidate.layer < 0 && is_embedding_name(candidate.name);
  out.rows_from_tokenizer =
      out.is_embed && recipe_.tokenizer && part.tensor->arithmetic && out.shape.size() == 2;
  plan_.tensors.push_back(std::move(out));
}

}  // namespace

MergePlan resolve(const MergeRecipe& recipe, const std::vector<ModelTensors>& models) {
  return Planner(recipe, models).make();
}

}  // namespace theriac::merge
