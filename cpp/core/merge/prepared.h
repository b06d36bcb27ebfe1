// A merge with all that is known before the first tensor is read: models opened, vocabulary and
// parameters resolved, output laid out.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cpp/core/merge/inputs.h"
#include "cpp/core/merge/merge.h"
#include "cpp/core/merge/output_model.h"
#include "cpp/core/merge/tokenizer_plan.h"

namespace theriac::merge {

// What a recipe's `tokenizer` or `tokenizer_source` comes to.
struct PreparedTokenizer {
  TokenizerPlan plan;
  std::filesystem::path folder;  // of the tokenizer that the output gets
  // What config.json and generation_config.json say of tokens, in the new numbers.
  std::vector<ConfigEdit> config_edits, generation_edits;
};

// Must not move once it is made: `execution` refers to plan and models.
struct Prepared {
  MergeRecipe recipe;
  std::string source;  // the recipe's text, verbatim
  std::vector<InputModel> models;
  std::optional<PreparedTokenizer> tokenizer;
  MergePlan plan;
  Execution execution;
  OutputLayout layout;
  std::vector<std::string> warnings;

  const InputModel& donor() const { return models[plan.donor]; }
  // The method whose output is no model but an adapter: it needs no execution and no layout.
  bool makes_adapter() const { return plan.method->name == "extract_lora"; }
  // What the output's config.json will say; empty where there is none.
  std::string config_text() const;
};

// `named`: models that earlier documents make. Throws as merge_recipe does.
void prepare_merge(Prepared& out, const MergeRecipe& recipe, const std::string& source,
                   const std::map<std::string, tensorfile::ModelFiles, std::less<>>& named,
                   const MergeOptions& options, Job& job);

// What must be equal for a merge to be resumed. Threads and limits may differ.
Json identity_of(const Prepared& prepared, const MergeOptions& options);

std::string_view name_of(Accumulate accumulate) noexcept;

}  // namespace theriac::merge
