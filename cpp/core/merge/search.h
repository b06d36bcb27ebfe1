// Merging by trial: candidates are merged into temporary folders, scored by the host, and removed; the
// best one is merged into the output.
//
// search_coefficients varies numbers of a recipe by CMA-ES (cmaes.h; as in Akiba et al., "Evolutionary
// Optimization of Model Merging Recipes", 2403.13187). greedy_soup adds models to an average as long as
// the score does not fall (Wortsman et al., "Model soups", 2203.05482, recipe 1).
//
// What is known is kept in a folder ".NAME.search" beside the output, NAME being the output's: the scores
// ("search.json") and the best recipe so far ("best.yml"). After a cancel, an error or a crash the same
// call with `resume` repeats no evaluation. The folder is removed when the output stands.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/core/base/json.h"
#include "cpp/core/merge/merge.h"

namespace theriac::merge {

// The score of a model folder (an absolute path), on the thread that called the search. NaN: this
// candidate has none and counts as the worst. Throws to stop the search.
using Evaluator = std::function<double(const std::filesystem::path& model)>;

struct TrialOptions {
  bool minimize = false;   // lower scores are better
  bool resume = false;     // goes on from what a stopped run left, else discards it
  bool overwrite = false;  // replaces the output if it is a model's folder
  std::uint64_t seed = 0;
  // How candidates and the output are merged. Its resume and overwrite are not used.
  MergeOptions merge;
};

struct CoefficientOptions {
  TrialOptions trial;
  std::vector<std::string> leaves;  // "PATH=LOW:HIGH", recipe_leaves.h
  std::size_t evaluations = 100;    // at most; the recipe as it is written is the first
  std::size_t population = 0;       // of a generation; 0: 4 + floor(3 ln n)
  double sigma = 0.3;               // of the first draws, in units of high - low
  double tolerance = 1e-3;          // stops when all spreads are below, in the same units
};

// {"best": {"score", "evaluation", "values": {path: value}}, "recipe": text, "evaluations": [{"score",
// "values"}], "evaluations_resumed", "generations", "stopped": "evaluations" | "converged", "merge": the
// report of the output's merge}. Values outside the bounds are mirrored at them before they are used.
//
// Throws as merge_recipe and find_leaves do, what the evaluator throws, kNumericError where no candidate
// has a score, kBusy where another search works for the same output, kIncompatible for resuming a search
// with another recipe, other options or other models.
Json search_coefficients(std::string_view recipe, const std::string& file_name,
                         const std::filesystem::path& output, const CoefficientOptions& options,
                         const Evaluator& evaluate, Job& job);

struct SoupOptions {
  TrialOptions trial;
  std::vector<std::string> models;  // at least one; folders or files
};

// {"best": {"score", "models"}, "recipe": text of the soup, "evaluations": [{"score", "models",
// "added"}], "evaluations_resumed", "merge"}. Models are positions in `models`. Every ingredient is
// scored by itself first, then they are tried in descending order of that score, earlier ones first among
// equals.
Json greedy_soup(const std::filesystem::path& output, const SoupOptions& options,
                 const Evaluator& evaluate, Job& job);

// A recipe that averages models, as text.
std::string averaging_recipe(const std::vector<std::string>& models);

}  // namespace theriac::merge
