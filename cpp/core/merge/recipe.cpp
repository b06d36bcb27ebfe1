#include "cpp/core/merge/recipe.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "cpp/core/base/options.h"
#include "cpp/core/merge/method_parameters.h"
#include "cpp/core/merge/settings.h"

namespace theriac::merge {
namespace {

// A filter is tried on every tensor: more of them than this is an attack, not a recipe.
constexpr std::size_t kMostFilters = 4096;
// More warnings than this help nobody.
constexpr std::size_t kMostWarnings = 1000;
constexpr std::size_t kShortestTemplate = 20;
constexpr std::int64_t kMostPadding = 1 << 20;

const std::vector<std::string>& dtype_names() {
  static const std::vector<std::string> names{"bfloat16", "float16", "float32", "int64"};
  return names;
}

const std::vector<std::string>& template_names() {
  static const std::vector<std::string> names{"auto",   "alpaca", "chatml",
                                              "exaone", "llama3", "mistral"};
  return names;
}

std::string list_of(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "'" : ", '") + name + "'";
  return out;
}

// "; did you mean 'x'?", or what there is to choose from.
std::string hint(std::string_view word, const std::vector<std::string>& names) {
  const std::string nearest = nearest_name(word, names);
  return nearest.empty() ? "; expected one of " + list_of(names)
                         : "; did you mean '" + nearest + "'?";
}

std::string joined(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : path + "." + std::string(key);
}
std::string joined(const std::string& path, std::size_t index) {
  return path + "[" + std::to_string(index) + "]";
}

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// A part of a reference as text; what could be mistaken for structure is quoted.
std::string part_text(const std::string& path, const std::string& revision) {
  const bool plain = path.find_first_of("+@") == std::string::npos;
  return (plain ? path : "'" + path + "'") + (revision.empty() ? "" : "@" + revision);
}

// path[@revision]
std::pair<std::string, std::string> split_revision(std::string_view text, std::string_view file,
                                                   Mark mark, std::string_view key_path) {
  const auto at = text.find('@');
  if (at != std::string_view::npos && text.find('@', at + 1) != std::string_view::npos) {
    throw error_at(file, mark, key_path,
                   quoted_for_message(text) +
                       " has more than one '@'; write a path that contains one as {model: {path: "
                       "..., revision: ...}}");
  }
  const std::string path(text.substr(0, at));
  if (path.empty()) {
    throw error_at(file, mark, key_path,
                   quoted_for_message(text) + " has an empty path; expected path[@revision]");
  }
  if (at == std::string_view::npos) return {path, ""};
  if (at + 1 == text.size()) {
    throw error_at(file, mark, key_path,
                   quoted_for_message(text) + " has an empty revision after '@'");
  }
  return {path, std::string(text.substr(at + 1))};
}

// Reads the documents of one text. Used once.
class Reader {
 public:
  Reader(std::string_view file, RecipeFile& out) : file_(file), out_(out) {}

  MergeRecipe document(const YamlDocument& document);

 private:
  // ---- errors, warnings, simple values
  [[noreturn]] void fail(Mark mark, const std::string& path, const std::string& problem) const {
    throw error_at(file_, mark, path, problem);
  }
  [[noreturn]] void fail_kind(const YamlNode& node, const std::string& path,
                              const std::string& expected) const {
    fail(node.mark(), path, "is " + node.described() + "; expected " + expected);
  }
  void warn(Mark mark, const std::string& path, const std::string& problem) {
    if (out_.warnings.size() >= kMostWarnings) return;
    const Error shown = error_at(file_, mark, path, problem);
    out_.warnings.push_back({std::string(file_), path, shown.what(), mark});
  }
  // A map whose other keys are reported; null counts as an empty one.
  void expect_map(const YamlNode& node, const std::string& path, const std::string& what,
                  const std::vector<std::string>& keys);
  std::string text(const YamlNode& node, const std::string& path, const std::string& what) const;
  std::string choice(const YamlNode& node, const std::string& path, const std::string& what,
                     const std::vector<std::string>& names) const;
  std::int64_t integer(const YamlNode& node, const std::string& path, std::int64_t low,
                       std::int64_t high) const;
  bool truth(const YamlNode& node, const std::string& path) const;

  // ---- model references
  ModelReference reference(const YamlNode& node, const std::string& path);
  std::pair<std::string, std::string> reference_part(const YamlNode& node, const std::string& path);

  // ---- parameters
  ParameterSet parameters(const YamlNode& owner, const std::string& path, SettingLevel level);
  void check_parameter(const Setting& setting, SettingLevel level);
  SettingEntry filter_entry(const YamlNode& node, const std::string& path);
  std::vector<SettingValue> gradient(const YamlNode& node, const std::string& path) const;
  std::vector<SettingEntry> entries(const YamlNode& node, const std::string& path);

  // ---- what is merged
  std::vector<SourceModel> models(const YamlNode& node, const std::string& path);
  std::vector<OutputSlice> slices(const YamlNode& node, const std::string& path);
  OutputSlice slice(const YamlNode& node, const std::string& path);
  SliceSource slice_source(const YamlNode& node, const std::string& path);
  void layer_range(const YamlNode& node, const std::string& path, SliceSource& out) const;
  std::vector<OutputModule> modules(const YamlNode& node, const std::string& path);
  OutputModule module(const YamlMember& member, const std::string& path);

  // ---- the rest of a document
  std::string dtype(const YamlNode& root, const char* key) const;
  std::string chat_template(const YamlNode& root) const;
  void method(const YamlNode& root);
  void content(const YamlNode& root, MergeRecipe& out);
  std::optional<TokenizerRecipe> tokenizer(const YamlNode& root);
  void tokenizer_source(const YamlNode& node, const std::string& path, TokenizerRecipe& out);
  TokenEmbedding token(const YamlNode& node, const std::string& path);
  void token_source(const YamlNode& node, const std::string& path, TokenEmbedding& out);

  // A member that is there and not null.
  static const YamlNode* given(const YamlNode& map, std::string_view key) {
    const YamlNode* node = map.find(key);
    return node == nullptr || node->is_null() ? nullptr : node;
  }

  std::string_view file_;
  RecipeFile& out_;
  const MethodDeclaration* method_ = nullptr;
};

void Reader::expect_map(const YamlNode& node, const std::string& path, const std::string& what,
                        const std::vector<std::string>& keys) {
  if (node.is_null()) return;
  if (!node.is_map()) fail_kind(node, path, "a map with the keys of " + what);
  for (const YamlMember& member : node.members()) {
    if (starts_with(member.key, "x-")) continue;
    if (std::find(keys.begin(), keys.end(), member.key) != keys.end()) continue;
    warn(member.mark, joined(path, member.key),
         "is not a key of " + what + " and is ignored" + hint(member.key, keys));
  }
}

std::string Reader::text(const YamlNode& node, const std::string& path,
                         const std::string& what) const {
  if (!node.is_scalar() || node.text().empty()) fail_kind(node, path, what);
  return node.text();
}

std::string Reader::choice(const YamlNode& node, const std::string& path, const std::string& what,
                           const std::vector<std::string>& names) const {
  std::string word = text(node, path, what);
  if (std::find(names.begin(), names.end(), word) == names.end()) {
    fail(node.mark(), path, "is " + quoted_for_message(word) + ", not " + what + hint(word, names));
  }
  return word;
}

std::int64_t Reader::integer(const YamlNode& node, const std::string& path, std::int64_t low,
                             std::int64_t high) const {
  const auto value =
      node.is_scalar() ? yaml_integer(node.text(), node.quoted()) : std::optional<std::int64_t>();
  if (!value || *value < low || *value > high) {
    fail_kind(node, path, "a whole number, " + std::to_string(low) + " to " + std::to_string(high));
  }
  return *value;
}

bool Reader::truth(const YamlNode& node, const std::string& path) const {
  const auto value =
      node.is_scalar() ? yaml_flag(node.text(), node.quoted()) : std::optional<bool>();
  if (!value) fail_kind(node, path, "true or false");
  return *value;
}

// ---- model references --------------------------------------------------------------------------

std::pair<std::string, std::string> Reader::reference_part(const YamlNode& node,
                                                           const std::string& path) {
  if (node.is_scalar()) return split_revision(node.text(), file_, node.mark(), path);
  expect_map(node, path, "a model's path", {"path", "revision"});
  const YamlNode* name = given(node, "path");
  if (name == nullptr)
    fail(node.mark(), path, "has no 'path'; expected {path: ..., revision: ...}");
  const YamlNode* revision = given(node, "revision");
  return {text(*name, joined(path, "path"), "a path"),
          revision == nullptr ? "" : text(*revision, joined(path, "revision"), "a revision")};
}

ModelReference Reader::reference(const YamlNode& node, const std::string& path) {
  if (node.is_scalar()) return parse_model_reference(node.text(), file_, node.mark(), path);
  if (!node.is_map()) fail_kind(node, path, "a model: a path, or {model: ..., lora: ...}");
  expect_map(node, path, "a model reference", {"model", "lora", "override_architecture"});
  const YamlNode* model = given(node, "model");
  if (model == nullptr) fail(node.mark(), path, "has no 'model'; expected {model: ..., lora: ...}");
  ModelReference out;
  out.mark = node.mark();
  std::tie(out.path, out.revision) = reference_part(*model, joined(path, "model"));
  if (const YamlNode* lora = given(node, "lora")) {
    std::tie(out.lora_path, out.lora_revision) = reference_part(*lora, joined(path, "lora"));
  }
  if (const YamlNode* architecture = given(node, "override_architecture")) {
    out.override_architecture =
        text(*architecture, joined(path, "override_architecture"), "an architecture's name");
  }
  return out;
}

// ---- parameters --------------------------------------------------------------------------------

std::vector<SettingValue> Reader::gradient(const YamlNode& node, const std::string& path) const {
  std::vector<SettingValue> out;
  out.reserve(node.items().size());
  for (std::size_t i = 0; i < node.items().size(); ++i) {
    const YamlNode& item = node.items()[i];
    const auto number =
        item.is_scalar() ? yaml_number(item.text(), item.quoted()) : std::optional<double>();
    const bool flag = item.is_scalar() && yaml_flag(item.text(), item.quoted()).has_value();
    if (!flag && (!number || !std::isfinite(*number))) {
      fail_kind(item, joined(path, i), "a finite number, as in a list of values over the layers");
    }
    out.push_back({item.text(), item.quoted(), item.mark()});
  }
  if (out.empty()) fail(node.mark(), path, "is an empty list; expected at least one value");
  return out;
}

SettingEntry Reader::filter_entry(const YamlNode& node, const std::string& path) {
  if (!node.is_map()) {
    fail_kind(node, path, "{filter: ..., value: ...}, as the other entries of the list");
  }
  expect_map(node, path, "a filtered value", {"filter", "value"});
  SettingEntry out;
  if (const YamlNode* filter = given(node, "filter")) {
    out.filter = text(*filter, joined(path, "filter"), "a part of a tensor's name, '*' or nothing");
  }
  const YamlNode* value = given(node, "value");
  if (value == nullptr)
    fail(node.mark(), path, "has no 'value'; expected {filter: ..., value: ...}");
  if (value->is_scalar()) {
    out.values.push_back({value->text(), value->quoted(), value->mark()});
  } else if (value->is_sequence()) {
    out.gradient = true;
    out.values = gradient(*value, joined(path, "value"));
  } else {
    fail_kind(*value, joined(path, "value"), "a value or a list of numbers");
  }
  return out;
}

std::vector<SettingEntry> Reader::entries(const YamlNode& node, const std::string& path) {
  if (node.is_scalar()) return {{std::nullopt, {{node.text(), node.quoted(), node.mark()}}, false}};
  if (node.is_map()) return {filter_entry(node, path)};
  if (node.is_null()) fail(node.mark(), path, "has no value");
  const auto items = node.items();
  if (items.empty() || !items[0].is_map()) return {{std::nullopt, gradient(node, path), true}};
  if (items.size() > kMostFilters) {
    fail(node.mark(), path,
         "has " + std::to_string(items.size()) + " filters; at most " +
             std::to_string(kMostFilters) + " are accepted");
  }
  std::vector<SettingEntry> out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    out.push_back(filter_entry(items[i], joined(path, i)));
  }
  return out;
}

void Reader::check_parameter(const Setting& setting, SettingLevel level) {
  const ParameterDeclaration* declaration = method_->find(setting.name);
  if (declaration == nullptr) {
    warn(setting.mark, setting.key_path,
         "is not a parameter of the method " + method_->name + " and is ignored" +
             hint(setting.name, parameter_names(*method_)));
    return;
  }
  if (level == SettingLevel::kModel && declaration->scope == ParameterScope::kGlobal) {
    warn(setting.mark, setting.key_path,
         "is ignored: '" + setting.name + "' of the method " + method_->name +
             " holds for all models; give it under 'parameters' of the recipe");
  }
  check_setting(setting, *declaration, file_);
}

ParameterSet Reader::parameters(const YamlNode& owner, const std::string& path,
                                SettingLevel level) {
  ParameterSet out;
  out.level = level;
  const YamlNode* node = given(owner, "parameters");
  if (node == nullptr) return out;
  const std::string here = joined(path, "parameters");
  if (!node->is_map()) fail_kind(*node, here, "a map of parameters to values");
  for (const YamlMember& member : node->members()) {
    if (starts_with(member.key, "x-")) continue;
    Setting setting;
    setting.name = member.key;
    setting.mark = member.mark;
    setting.key_path = joined(here, member.key);
    setting.entries = entries(member.value, setting.key_path);
    check_parameter(setting, level);
    out.settings.push_back(std::move(setting));
  }
  return out;
}

// ---- what is merged ----------------------------------------------------------------------------

std::vector<SourceModel> Reader::models(const YamlNode& node, const std::string& path) {
  if (!node.is_sequence() || node.items().empty()) {
    fail_kind(node, path, "a list of {model: ..., parameters: ...}, at least one");
  }
  std::vector<SourceModel> out;
  for (std::size_t i = 0; i < node.items().size(); ++i) {
    const YamlNode& item = node.items()[i];
    const std::string here = joined(path, i);
    if (!item.is_map()) fail_kind(item, here, "{model: ..., parameters: ...}");
    expect_map(item, here, "a model", {"model", "parameters"});
    const YamlNode* model = given(item, "model");
    if (model == nullptr) fail(item.mark(), here, "has no 'model'");
    out.push_back({reference(*model, joined(here, "model")),
                   parameters(item, here, SettingLevel::kModel), here});
  }
  return out;
}

void Reader::layer_range(const YamlNode& node, const std::string& path, SliceSource& out) const {
  constexpr std::int64_t kMostLayers = 1'000'000'000;
  if (!node.is_sequence() || node.items().size() != 2) {
    fail_kind(node, path, "two layers, [first, last), as in [0, 16]");
  }
  out.first = integer(node.items()[0], joined(path, 0), 0, kMostLayers);
  out.last = integer(node.items()[1], joined(path, 1), 0, kMostLayers);
  if (out.first >= out.last) {
    fail(node.mark(), path,
         "[" + std::to_string(out.first) + ", " + std::to_string(out.last) +
             ") holds no layer; expected first < last, of which last is left out");
  }
}

SliceSource Reader::slice_source(const YamlNode& node, const std::string& path) {
  if (!node.is_map()) fail_kind(node, path, "{model: ..., layer_range: [first, last]}");
  expect_map(node, path, "a source", {"model", "layer_range", "parameters"});
  const YamlNode* model = given(node, "model");
  const YamlNode* range = given(node, "layer_range");
  if (model == nullptr) fail(node.mark(), path, "has no 'model'");
  if (range == nullptr) fail(node.mark(), path, "has no 'layer_range'; expected [first, last]");
  SliceSource out;
  out.key_path = path;
  out.model = reference(*model, joined(path, "model"));
  layer_range(*range, joined(path, "layer_range"), out);
  out.parameters = parameters(node, path, SettingLevel::kModel);
  return out;
}

OutputSlice Reader::slice(const YamlNode& node, const std::string& path) {
  if (!node.is_map()) fail_kind(node, path, "{sources: [...], parameters: ...}");
  expect_map(node, path, "a slice", {"sources", "base_model", "parameters", "residual_weight"});
  OutputSlice out;
  out.mark = node.mark();
  out.key_path = path;
  const YamlNode* sources = given(node, "sources");
  const std::string here = joined(path, "sources");
  if (sources == nullptr) fail(node.mark(), path, "has no 'sources'");
  if (!sources->is_sequence() || sources->items().empty()) {
    fail_kind(*sources, here, "a list of {model: ..., layer_range: ...}, at least one");
  }
  for (std::size_t i = 0; i < sources->items().size(); ++i) {
    out.sources.push_back(slice_source(sources->items()[i], joined(here, i)));
    const SliceSource& first = out.sources.front();
    const SliceSource& last = out.sources.back();
    if (last.last - last.first != first.last - first.first) {
      fail(sources->items()[i].mark(), joined(joined(here, i), "layer_range"),
           "spans " + std::to_string(last.last - last.first) + " layers and the first source " +
               std::to_string(first.last - first.first) +
               "; the sources of a slice must be equally long");
    }
  }
  if (const YamlNode* base = given(node, "base_model")) {
    out.base_model = reference(*base, joined(path, "base_model"));
  }
  out.parameters = parameters(node, path, SettingLevel::kSlice);
  return out;
}

std::vector<OutputSlice> Reader::slices(const YamlNode& node, const std::string& path) {
  if (!node.is_sequence() || node.items().empty()) {
    fail_kind(node, path, "a list of {sources: [...]}, at least one");
  }
  std::vector<OutputSlice> out;
  for (std::size_t i = 0; i < node.items().size(); ++i) {
    out.push_back(slice(node.items()[i], joined(path, i)));
  }
  return out;
}

OutputModule Reader::module(const YamlMember& member, const std::string& path) {
  const YamlNode& node = member.value;
  if (!node.is_map()) fail_kind(node, path, "{models: [...]} or {slices: [...]}");
  expect_map(node, path, "a module", {"models", "slices", "parameters"});
  OutputModule out;
  out.name = member.key;
  out.mark = member.mark;
  const YamlNode* models_node = given(node, "models");
  const YamlNode* slices_node = given(node, "slices");
  if ((models_node == nullptr) == (slices_node == nullptr)) {
    fail(member.mark, path, "needs exactly one of 'models' and 'slices'");
  }
  out.parameters = parameters(node, path, SettingLevel::kModule);
  if (models_node != nullptr) out.models = models(*models_node, joined(path, "models"));
  if (slices_node != nullptr) out.slices = slices(*slices_node, joined(path, "slices"));
  return out;
}

std::vector<OutputModule> Reader::modules(const YamlNode& node, const std::string& path) {
  if (!node.is_map() || node.members().empty()) {
    fail_kind(node, path, "a map of module names to {models: [...]} or {slices: [...]}");
  }
  std::vector<OutputModule> out;
  for (const YamlMember& member : node.members()) {
    if (!starts_with(member.key, "x-")) out.push_back(module(member, joined(path, member.key)));
  }
  return out;
}

// ---- the rest of a document --------------------------------------------------------------------

std::string Reader::dtype(const YamlNode& root, const char* key) const {
  const YamlNode* node = given(root, key);
  if (node == nullptr) return "";
  std::string name = text(*node, key, "an element type");
  if (starts_with(name, "torch.")) name.erase(0, std::string_view("torch.").size());
  const auto& names = dtype_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    fail(node->mark(), key,
         "is " + quoted_for_message(node->text()) + ", not an element type that can be merged" +
             hint(name, names));
  }
  return name;
}

std::string Reader::chat_template(const YamlNode& root) const {
  const YamlNode* node = given(root, "chat_template");
  if (node == nullptr) return "";
  std::string value = text(*node, "chat_template", "'auto', a template's name or its text");
  const bool jinja = value.size() >= kShortestTemplate && value.find('{') != std::string::npos;
  const auto& names = template_names();
  if (!jinja && std::find(names.begin(), names.end(), value) == names.end()) {
    fail(node->mark(), "chat_template",
         "is " + quoted_for_message(value) + ", neither a known template nor the text of one" +
             hint(value, names));
  }
  return value;
}

void Reader::tokenizer_source(const YamlNode& node, const std::string& path, TokenizerRecipe& out) {
  using Source = TokenizerRecipe::Source;
  if (node.is_scalar() && (node.text() == "union" || node.text() == "base")) {
    out.source = node.text() == "union" ? Source::kUnion : Source::kBase;
    return;
  }
  out.source = Source::kModel;
  out.model = reference(node, path);
}

void Reader::token_source(const YamlNode& node, const std::string& path, TokenEmbedding& out) {
  using Kind = TokenEmbedding::Kind;
  const YamlNode* kind = node.is_map() ? given(node, "kind") : nullptr;
  if (kind == nullptr) {
    out.kind = Kind::kModel;
    out.model = reference(node, path);
    return;
  }
  const std::string name =
      choice(*kind, joined(path, "kind"), "a kind of embedding", {"model_token", "zero"});
  expect_map(node, path, "an embedding", {"kind", "model", "token", "token_id"});
  if (name == "zero") {
    out.kind = Kind::kZero;
    return;
  }
  out.kind = Kind::kModelToken;
  const YamlNode* model = given(node, "model");
  const YamlNode* word = given(node, "token");
  const YamlNode* id = given(node, "token_id");
  if (model == nullptr) fail(node.mark(), path, "has no 'model'");
  if ((word == nullptr) == (id == nullptr)) {
    fail(node.mark(), path, "needs exactly one of 'token' and 'token_id'");
  }
  out.model = reference(*model, joined(path, "model"));
  if (word != nullptr) out.token = text(*word, joined(path, "token"), "a token");
  if (id != nullptr) out.token_id = integer(*id, joined(path, "token_id"), 0, INT32_MAX);
}

TokenEmbedding Reader::token(const YamlNode& node, const std::string& path) {
  TokenEmbedding out;
  if (!node.is_map() && !node.is_null()) fail_kind(node, path, "{source: ..., force: ...}");
  expect_map(node, path, "a token", {"source", "force"});
  if (const YamlNode* source = given(node, "source")) {
    token_source(*source, joined(path, "source"), out);
  }
  if (const YamlNode* force = given(node, "force"))
    out.force = truth(*force, joined(path, "force"));
  return out;
}

std::optional<TokenizerRecipe> Reader::tokenizer(const YamlNode& root) {
  const YamlNode* source = given(root, "tokenizer_source");
  const YamlNode* node = given(root, "tokenizer");
  if (source != nullptr && node != nullptr) {
    fail(node->mark(), "tokenizer",
         "cannot stand beside 'tokenizer_source'; write the source as tokenizer: {source: ...}");
  }
  TokenizerRecipe out;
  if (source != nullptr) {
    out.mark = source->mark();
    tokenizer_source(*source, "tokenizer_source", out);
    return out;
  }
  if (node == nullptr) return std::nullopt;
  out.mark = node->mark();
  expect_map(*node, "tokenizer", "a tokenizer", {"source", "tokens", "pad_to_multiple_of"});
  if (const YamlNode* inner = given(*node, "source")) {
    tokenizer_source(*inner, "tokenizer.source", out);
  }
  if (const YamlNode* padding = given(*node, "pad_to_multiple_of")) {
    out.pad_to_multiple_of = integer(*padding, "tokenizer.pad_to_multiple_of", 1, kMostPadding);
  }
  if (const YamlNode* tokens = given(*node, "tokens")) {
    if (!tokens->is_map()) fail_kind(*tokens, "tokenizer.tokens", "a map of tokens");
    for (const YamlMember& member : tokens->members()) {
      out.tokens.emplace_back(member.key,
                              token(member.value, joined("tokenizer.tokens", member.key)));
    }
  }
  return out;
}

void Reader::method(const YamlNode& root) {
  const YamlNode* node = given(root, "merge_method");
  if (node == nullptr) fail(root.mark(), "", "the document has no 'merge_method'");
  const std::string name = choice(*node, "merge_method", "a merge method", method_names());
  method_ = find_method(name);
}

void Reader::content(const YamlNode& root, MergeRecipe& out) {
  std::vector<std::string> found;
  for (const char* key : {"models", "slices", "modules"}) {
    if (given(root, key) != nullptr) found.emplace_back(key);
  }
  if (found.size() != 1) {
    fail(root.mark(), "",
         "the document needs exactly one of 'models', 'slices' and 'modules'; it has " +
             (found.empty() ? "none" : list_of(found)));
  }
  if (const YamlNode* node = given(root, "models")) out.models = models(*node, "models");
  if (const YamlNode* node = given(root, "slices")) out.slices = slices(*node, "slices");
  if (const YamlNode* node = given(root, "modules")) out.modules = modules(*node, "modules");
}

MergeRecipe Reader::document(const YamlDocument& document) {
  const YamlNode& root = document.root;
  if (!root.is_map()) fail_kind(root, "", "a map with merge_method and models");
  expect_map(root, "", "a merge recipe",
             {"name", "merge_method", "models", "slices", "modules", "base_model", "parameters",
              "dtype", "out_dtype", "tokenizer_source", "tokenizer", "chat_template"});
  MergeRecipe out;
  out.file = std::string(file_);
  out.source = std::string(document.text);
  if (const YamlNode* name = given(root, "name")) out.name = text(*name, "name", "a name");
  method(root);
  out.merge_method = method_->name;
  if (const YamlNode* base = given(root, "base_model")) {
    out.base_model = reference(*base, "base_model");
  }
  out.parameters = parameters(root, "", SettingLevel::kGlobal);
  content(root, out);
  out.dtype = dtype(root, "dtype");
  out.out_dtype = dtype(root, "out_dtype");
  out.tokenizer = tokenizer(root);
  out.chat_template = chat_template(root);
  return out;
}

// ---- several documents -------------------------------------------------------------------------

struct NamedDocuments {
  std::vector<MergeRecipe> recipes;
  std::vector<Mark> marks;  // of each document
  std::map<std::string, std::size_t, std::less<>> by_name;
};

void check_names(NamedDocuments& documents, std::string_view file) {
  std::optional<std::size_t> unnamed;
  for (std::size_t i = 0; i < documents.recipes.size(); ++i) {
    const std::string& name = documents.recipes[i].name;
    if (!name.empty()) {
      if (!documents.by_name.emplace(name, i).second) {
        throw error_at(file, documents.marks[i], "name",
                       "two documents have the name " + quoted_for_message(name));
      }
    } else if (unnamed) {
      throw error_at(file, documents.marks[i], "",
                     "a second document without 'name'; only the final merge may lack one (the "
                     "other starts at line " +
                         std::to_string(documents.marks[*unnamed].line) + ")");
    } else {
      unnamed = i;
    }
  }
}

// Depth first in the order of the text; at most as deep as there are documents.
class DependencyOrder {
 public:
  DependencyOrder(const NamedDocuments& documents, std::string_view file)
      : documents_(documents), file_(file), states_(documents.recipes.size(), State::kNew) {}

  std::vector<std::size_t> order() {
    for (std::size_t i = 0; i < states_.size(); ++i) visit(i);
    return std::move(order_);
  }

 private:
  enum class State { kNew, kOpen, kDone };

  void visit(std::size_t i) {
    if (states_[i] == State::kDone) return;
    if (states_[i] == State::kOpen) fail_cycle(i);
    states_[i] = State::kOpen;
    path_.push_back(i);
    for (const ModelReference& model : referenced_models(documents_.recipes[i])) {
      const auto found = documents_.by_name.find(model.path);
      if (found != documents_.by_name.end() && model.revision.empty()) visit(found->second);
    }
    path_.pop_back();
    states_[i] = State::kDone;
    order_.push_back(i);
  }

  [[noreturn]] void fail_cycle(std::size_t i) const {
    std::string cycle;
    const auto start = std::find(path_.begin(), path_.end(), i);
    for (auto at = start; at != path_.end(); ++at) {
      cycle += documents_.recipes[*at].name + " -> ";
    }
    cycle += documents_.recipes[i].name;
    throw error_at(file_, documents_.marks[i], "",
                   "merges refer to each other in a cycle: " + cycle)
        .at("cycle", cycle);
  }

  const NamedDocuments& documents_;
  std::string_view file_;
  std::vector<State> states_;
  std::vector<std::size_t> path_, order_;
};

[[noreturn]] void fail_strict(const std::vector<RecipeWarning>& warnings) {
  std::string message;
  for (const RecipeWarning& warning : warnings) {
    message += (message.empty() ? "" : "\n") + warning.message;
  }
  throw Error(Code::kInvalidArgument, message)
      .at("file", warnings[0].file)
      .at("line", warnings[0].mark.line)
      .at("column", warnings[0].mark.column)
      .at("key_path", warnings[0].key_path);
}

void collect_models(const std::vector<SourceModel>& models, std::vector<ModelReference>& out) {
  for (const SourceModel& source : models) out.push_back(source.model);
}
void collect_slices(const std::vector<OutputSlice>& slices, std::vector<ModelReference>& out) {
  for (const OutputSlice& slice : slices) {
    if (slice.base_model) out.push_back(*slice.base_model);
    for (const SliceSource& source : slice.sources) out.push_back(source.model);
  }
}
void collect_tokenizer(const TokenizerRecipe& tokenizer, std::vector<ModelReference>& out) {
  if (tokenizer.source == TokenizerRecipe::Source::kModel) out.push_back(tokenizer.model);
  for (const auto& [token, embedding] : tokenizer.tokens) {
    if (!embedding.model.path.empty()) out.push_back(embedding.model);
  }
}

}  // namespace

std::string ModelReference::text() const {
  std::string out = part_text(path, revision);
  if (!lora_path.empty()) out += "+" + part_text(lora_path, lora_revision);
  if (!override_architecture.empty()) out += " (as " + override_architecture + ")";
  return out;
}

ModelReference parse_model_reference(std::string_view text, std::string_view file, Mark mark,
                                     std::string_view key_path) {
  const auto plus = text.find('+');
  if (plus != std::string_view::npos && text.find('+', plus + 1) != std::string_view::npos) {
    throw error_at(file, mark, key_path,
                   quoted_for_message(text) +
                       " has more than one '+'; write a path that contains one as {model: {path: "
                       "...}, lora: ...}");
  }
  ModelReference out;
  out.mark = mark;
  std::tie(out.path, out.revision) = split_revision(text.substr(0, plus), file, mark, key_path);
  if (plus != std::string_view::npos) {
    std::tie(out.lora_path, out.lora_revision) =
        split_revision(text.substr(plus + 1), file, mark, key_path);
  }
  return out;
}

const Setting* ParameterSet::find(std::string_view name) const noexcept {
  for (const Setting& setting : settings) {
    if (setting.name == name) return &setting;
  }
  return nullptr;
}

std::vector<ModelReference> referenced_models(const MergeRecipe& recipe) {
  std::vector<ModelReference> all;
  if (recipe.base_model) all.push_back(*recipe.base_model);
  collect_models(recipe.models, all);
  collect_slices(recipe.slices, all);
  for (const OutputModule& module : recipe.modules) {
    collect_models(module.models, all);
    collect_slices(module.slices, all);
  }
  if (recipe.tokenizer) collect_tokenizer(*recipe.tokenizer, all);
  std::stable_sort(all.begin(), all.end(), [](const ModelReference& a, const ModelReference& b) {
    return std::pair(a.mark.line, a.mark.column) < std::pair(b.mark.line, b.mark.column);
  });
  std::map<std::string, bool> seen;
  std::erase_if(all, [&seen](const ModelReference& model) {
    return !seen.emplace(model.text(), true).second;
  });
  return all;
}

RecipeFile parse_recipe(std::string_view text, std::string_view file,
                        const RecipeOptions& options) {
  RecipeFile out;
  out.source = std::string(text);
  NamedDocuments documents;
  for (const YamlDocument& document : parse_yaml(text, file, options.limits)) {
    if (document.root.is_null()) continue;  // "---" at the end of a file
    documents.marks.push_back(document.root.mark());
    documents.recipes.push_back(Reader(file, out).document(document));
  }
  if (documents.recipes.empty()) throw error_at(file, {}, "", "the recipe is empty");
  check_names(documents, file);
  const std::vector<std::size_t> order = DependencyOrder(documents, file).order();
  for (const std::size_t i : order) {
    if (documents.recipes[i].name.empty()) out.final_recipe = out.recipes.size();
    out.recipes.push_back(std::move(documents.recipes[i]));
  }
  if (options.strict && !out.warnings.empty()) fail_strict(out.warnings);
  return out;
}

}  // namespace theriac::merge
