// The vocabulary of a merged model, and which rows of its models' embeddings each token gets.
//
// Before the merge method runs, every model's embeddings (and output heads) are rearranged to the
// rows of the new vocabulary: a token that the model has keeps its row; one that it lacks gets the
// token's default, the same for all models; rows of padding get the mean of the model's other rows.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cpp/core/merge/recipe.h"
#include "cpp/core/merge/vocabulary.h"
#include "cpp/core/tensorfile/model_files.h"

namespace theriac::merge {

// One of the models that the recipe names, in their order.
struct TokenizerInput {
  std::string name;
  const Vocabulary* vocabulary = nullptr;
  std::int64_t rows = 0;  // of its embedding; a token with a greater number has none
  bool merged = false;    // not only named as a source of tokens
};

struct TokenizerPlan {
  struct Origin {
    std::uint32_t model = 0;
    std::int32_t row = 0;
  };

  std::size_t source = 0;             // the model whose tokenizer files the output gets
  std::int64_t tokens = 0, rows = 0;  // rows: with padding
  std::vector<AddedToken> appended;   // to the source's tokenizer.json
  // own[model][row]: the model's row of that token, or -1 for the default. Empty where not merged.
  std::vector<std::vector<std::int32_t>> own;
  // The default of row r: the mean of origins [first_origin[r], first_origin[r + 1]); of none: zeros.
  std::vector<std::uint32_t> first_origin;  // tokens + 1
  std::vector<Origin> origins;
  std::vector<std::string> notes;
};

// `base`: the recipe's base model, or nothing. `find`: position of a reference among `models`. Throws
// kInvalidArgument for a token source that does not have the token, kUnsupported where tokens would
// have to be added to a tokenizer without tokenizer.json.
TokenizerPlan plan_tokenizer(const MergeRecipe& recipe, const std::vector<TokenizerInput>& models,
                             std::optional<std::size_t> base,
                             const std::function<std::size_t(const ModelReference&)>& find);

// Rows of a model's embedding as its files have it: of the first one that is a matrix. 0 without one.
std::int64_t embedding_rows(const tensorfile::ModelFiles& model);

// The merged models with their embeddings rearranged; the others as they are. Values are computed
// when they are read. Throws kDataError where embeddings of the same name have different widths, or
// where a default's model has no such tensor.
std::vector<tensorfile::ModelFiles> arrange_embeddings(
    const std::vector<std::shared_ptr<const tensorfile::ModelFiles>>& models,
    const TokenizerPlan& plan);

// tokenizer.json with the appended tokens; other text as it stands.
std::string with_tokens(const std::string& tokenizer_json, const std::vector<AddedToken>& tokens);
// tokenizer_config.json, where it lists added tokens, and added_tokens.json.
std::string config_with_tokens(const std::string& tokenizer_config,
                               const std::vector<AddedToken>& tokens);
std::string list_with_tokens(const std::string& added_tokens,
                             const std::vector<AddedToken>& tokens);

}  // namespace theriac::merge
