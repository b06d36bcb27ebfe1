// Merge recipes: the YAML documents that say which models are merged, how, and into what.
//
// The language is the one that model merging settled on (mergekit's), so that recipes in circulation
// run unchanged. Unlike there, a key that nobody reads is reported, with the nearest one that exists.
//
// The structs are plain data; a parsed recipe is not changed any more and may be shared between
// threads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/merge/yaml.h"

namespace theriac::merge {

// A model, perhaps with a LoRA adapter on top. As text: path[@revision][+lora[@revision]].
struct ModelReference {
  std::string path, revision;            // revision: empty for none
  std::string lora_path, lora_revision;  // lora_path: empty for none
  std::string override_architecture;
  Mark mark;

  // Names the model in messages and identifies it: equal for equal references.
  std::string text() const;
  // The same model; where it was written does not count.
  friend bool operator==(const ModelReference& a, const ModelReference& b) {
    return a.path == b.path && a.revision == b.revision && a.lora_path == b.lora_path &&
           a.lora_revision == b.lora_revision && a.override_architecture == b.override_architecture;
  }
};

// Reads the text form. Throws kInvalidArgument for an empty path or lora, or more than one '+' or
// more than one '@' in a part; such paths need the form {model: {path: ...}}.
ModelReference parse_model_reference(std::string_view text, std::string_view file = "",
                                     Mark mark = {}, std::string_view key_path = "");

// One value as written; what it means depends on the parameter.
struct SettingValue {
  std::string text;
  bool quoted = false;
  Mark mark;
};

// For tensors whose name contains `filter`: one value, or a gradient over the layers.
struct SettingEntry {
  std::optional<std::string> filter;  // nothing: every tensor
  std::vector<SettingValue> values;   // never empty
  bool gradient = false;              // written as a list, even of one value
};

// The value of one parameter at one level of the recipe. A plain value is one entry without filter.
struct Setting {
  std::string name;
  std::vector<SettingEntry> entries;  // the first whose filter matches decides
  Mark mark;
  std::string key_path;  // "models[1].parameters.density"
};

// Where a value was given, from the most particular on: the order in which they are looked up.
enum class SettingLevel { kModel, kSlice, kModule, kGlobal };

// A `parameters:` map.
struct ParameterSet {
  SettingLevel level = SettingLevel::kGlobal;
  std::vector<Setting> settings;
  const Setting* find(std::string_view name) const noexcept;
};

struct SourceModel {
  ModelReference model;
  ParameterSet parameters;
  std::string key_path;
};

struct SliceSource {
  ModelReference model;
  std::int64_t first = 0, last = 0;  // layers [first, last), 0 <= first < last
  ParameterSet parameters;
  std::string key_path;
};

struct OutputSlice {
  std::vector<SliceSource> sources;  // at least one; all of one length
  std::optional<ModelReference> base_model;
  ParameterSet parameters;
  Mark mark;
  std::string key_path;
};

struct OutputModule {
  std::string name;
  std::vector<SourceModel> models;  // either this
  std::vector<OutputSlice> slices;  // or this
  ParameterSet parameters;
  Mark mark;
};

// Where a token's embedding comes from.
struct TokenEmbedding {
  enum class Kind { kDefault, kModel, kModelToken, kZero };
  Kind kind = Kind::kDefault;
  ModelReference model;                  // kModel, kModelToken
  std::string token;                     // kModelToken: by text
  std::optional<std::int64_t> token_id;  // or by number
  bool force = false;                    // also for models that have the token themselves
};

struct TokenizerRecipe {
  enum class Source { kUnion, kBase, kModel };
  Source source = Source::kUnion;
  ModelReference model;  // kModel
  std::vector<std::pair<std::string, TokenEmbedding>> tokens;
  std::int64_t pad_to_multiple_of = 0;  // 0: no padding
  Mark mark;
};

// One document. Exactly one of models, slices and modules is not empty.
struct MergeRecipe {
  std::string name;  // empty: the final one
  std::string merge_method;
  std::vector<SourceModel> models;
  std::vector<OutputSlice> slices;
  std::vector<OutputModule> modules;
  std::optional<ModelReference> base_model;
  ParameterSet parameters;
  std::string dtype, out_dtype;  // bfloat16, float16, float32, int64 or empty
  std::optional<TokenizerRecipe> tokenizer;
  std::string chat_template;  // auto, a built-in name, a template's text, or empty
  std::string file;           // for messages
  std::string source;         // this document, verbatim
};

struct RecipeWarning {
  std::string file, key_path, message;  // message: the whole sentence, with file, line and column
  Mark mark;
};

struct RecipeFile {
  std::vector<MergeRecipe> recipes;  // each after those that it refers to by name
  // Position of the one without a name, whose output is the result; nothing where all have names.
  std::optional<std::size_t> final_recipe;
  std::vector<RecipeWarning> warnings;  // keys and parameters that nobody reads, the first 1000
  std::string source;                   // the whole text, verbatim
};

struct RecipeOptions {
  bool strict = false;  // warnings are errors
  YamlLimits limits;
};

// Reads and checks a recipe: structure, model references, element types, method, and each parameter
// against the method's declaration (type, range, choices; whether a required one is given is known
// only when the plan is made). Keys starting with "x-" are free. Throws kInvalidArgument with file,
// line, column and key path.
RecipeFile parse_recipe(std::string_view text, std::string_view file,
                        const RecipeOptions& options = {});

// Every model that a recipe names, once each, in the order of the document: base model first where
// it stands first, and so on. Tokenizer sources included.
std::vector<ModelReference> referenced_models(const MergeRecipe& recipe);

}  // namespace theriac::merge
