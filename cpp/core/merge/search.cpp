#include "cpp/core/merge/search.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <system_error>
#include <utility>

#include "cpp/core/base/file.h"
#include "cpp/core/base/file_operations.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/merge/cmaes.h"
#include "cpp/core/merge/merger.h"
#include "cpp/core/merge/recipe_leaves.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStateFile = "search.json";
constexpr const char* kBestFile = "best.yml";
constexpr const char* kLockFile = "lock";
constexpr std::uint64_t kStateLimit = std::uint64_t{64} << 20;
constexpr std::size_t kMostEvaluations = 1'000'000;

fs::path search_folder(const fs::path& output) {
  fs::path target = fs::absolute(output).lexically_normal();
  if (!target.has_filename()) target = target.parent_path();
  if (!target.has_filename()) {
    throw Error(Code::kInvalidArgument,
                "the output '" + output.string() + "' has no name; expected a folder to make")
        .at("option", "output");
  }
  return target.parent_path() / ("." + target.filename().string() + ".search");
}

// ".NAME.search": scores and best recipe of a search, and where its candidates are merged. Held by one
// process at a time.
class SearchFolder {
 public:
  SearchFolder(const fs::path& output, const Json& identity, bool resume)
      : path_(search_folder(output)), identity_(identity) {
    std::error_code failed;
    fs::create_directories(path_, failed);
    lock();
    remove_candidates();
    if (resume && fs::exists(path_ / kStateFile)) {
      read();
    } else {
      fs::remove(path_ / kBestFile, failed);
      write();
    }
  }
  ~SearchFolder() { remove_candidates(); }
  SearchFolder(const SearchFolder&) = delete;
  SearchFolder& operator=(const SearchFolder&) = delete;

  const fs::path& path() const { return path_; }
  fs::path candidate() const { return path_ / "candidate"; }
  // Of evaluations in their order; null for one without.
  const std::vector<double>& scores() const { return scores_; }
  void add(double score) {
    scores_.push_back(score);
    write();
  }
  void best(const std::string& recipe) { replace_file(path_ / kBestFile, recipe); }
  bool has_best() const { return fs::exists(path_ / kBestFile); }
  void remove() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  void remove_candidates() const {
    std::error_code ignored;
    fs::remove_all(path_ / "candidate", ignored);
    fs::remove_all(path_ / ".candidate.merging", ignored);
  }

 private:
  void lock() {
    const fs::path file = path_ / kLockFile;
    lock_.emplace(open_retrying(file, O_RDWR | O_CREAT));
    if (!lock_->is_open()) throw io_error("write", file, errno);
    if (::flock(lock_->get(), LOCK_EX | LOCK_NB) == 0) return;
    throw Error(Code::kBusy, "another search works for the same output ('" + path_.string() + "')")
        .at("file", file.string());
  }

  void read() {
    const fs::path file = path_ / kStateFile;
    const Json state = parse_json(read_file(file, kStateLimit), file.string(), Code::kDataError);
    const auto malformed = [&file](const std::string& problem) {
      return Error(Code::kDataError,
                   "'" + file.string() + "' " + problem + "; remove it, or search without 'resume'")
          .at("file", file.string());
    };
    if (!state.is_object() || !state.contains("identity") || !state.contains("scores") ||
        !state["scores"].is_array() || state["scores"].size() > kMostEvaluations) {
      throw malformed("is no state of a search");
    }
    if (state["identity"] != identity_) {
      std::string different;
      for (const auto& [key, value] : identity_.items()) {
        if (!state["identity"].is_object() || !state["identity"].contains(key) ||
            state["identity"][key] != value) {
          different += (different.empty() ? "" : ", ") + key;
        }
      }
      throw Error(Code::kIncompatible, "the search to resume ('" + file.string() +
                                           "') is another one: " + different +
                                           " differ; repeat it as it was, or do not resume")
          .at("file", file.string());
    }
    for (const Json& score : state["scores"]) {
      if (!score.is_number() && !score.is_null()) throw malformed("has a score that is no number");
      scores_.push_back(score.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                        : score.get<double>());
    }
  }
  void write() const {
    Json scores = Json::array();
    for (const double score : scores_) scores.push_back(std::isnan(score) ? Json() : Json(score));
    replace_file(path_ / kStateFile,
                 dump_json(Json{{"identity", identity_}, {"scores", std::move(scores)}}));
  }

  fs::path path_;
  Json identity_;
  std::optional<Descriptor> lock_;  // held as long as it is open
  std::vector<double> scores_;
};

// Scores recipes one after another: recorded ones from the folder, the others by merging.
class Trials {
 public:
  Trials(SearchFolder& folder, const TrialOptions& options, const std::string& file_name,
         const Evaluator& evaluate, std::size_t total, Job& job)
      : folder_(folder),
        options_(options),
        file_name_(file_name),
        evaluate_(evaluate),
        total_(total),
        job_(job) {}

  // The score as the evaluator gave it.
  double score(const std::string& recipe) {
    const std::size_t number = done_++;
    double score = 0;
    if (number < folder_.scores().size()) {
      score = folder_.scores()[number];
      ++resumed_;
    } else {
      score = evaluated(recipe);
      folder_.add(score);
    }
    if (!std::isnan(score) && (!best_ || better(score, *best_))) {
      best_ = score;
      best_recipe_ = recipe;
      best_number_ = number;
      folder_.best(recipe);
    }
    Json metrics{{"score", std::isnan(score) ? Json() : Json(score)}};
    metrics["best"] = best_ ? Json(*best_) : Json();
    job_.milestone("evaluate", done_, total_, dump_json(metrics));
    return score;
  }

  bool better(double a, double b) const { return options_.minimize ? a < b : a > b; }
  std::size_t done() const { return done_; }
  std::size_t resumed() const { return resumed_; }
  const std::optional<double>& best() const { return best_; }
  const std::string& best_recipe() const { return best_recipe_; }
  std::size_t best_number() const { return best_number_; }

  Json merge_best(const fs::path& output, const std::string& recipe) {
    MergeOptions merge = options_.merge;
    merge.overwrite = options_.overwrite;
    merge.resume = false;
    return merge_recipe(recipe, file_name_, output, merge, job_).json;
  }

 private:
  double evaluated(const std::string& recipe) {
    MergeOptions merge = options_.merge;
    merge.overwrite = merge.resume = merge.keep_unfinished = false;
    folder_.remove_candidates();
    merge_recipe(recipe, file_name_, folder_.candidate(), merge, job_);
    job_.check();
    const double score = evaluate_(folder_.candidate());
    folder_.remove_candidates();
    job_.check();
    return std::isfinite(score) ? score : std::numeric_limits<double>::quiet_NaN();
  }

  SearchFolder& folder_;
  const TrialOptions& options_;
  const std::string& file_name_;
  const Evaluator& evaluate_;
  std::size_t total_;
  Job& job_;
  std::size_t done_ = 0, resumed_ = 0, best_number_ = 0;
  std::optional<double> best_;
  std::string best_recipe_;
};

// Runs `body`; what stops it names the folder where everything is kept.
template <class Body>
Json kept(const SearchFolder& folder, const Body& body) {
  try {
    return body();
  } catch (const Error& error) {
    Failure failure = error.failure();
    if (folder.has_best()) {
      failure.message += "; the best recipe so far is '" + (folder.path() / kBestFile).string() +
                         "', and the same search with 'resume' goes on from there";
      failure.details.emplace_back("best", (folder.path() / kBestFile).string());
    }
    throw Error(std::move(failure));
  }
}

Json identity_of(const TrialOptions& options) {
  return Json{{"search", 1},
              {"version", options.merge.version},
              {"minimize", options.minimize},
              {"seed", options.seed},
              {"merge_seed", options.merge.execute.seed},
              {"accumulate",
               options.merge.execute.accumulate == Accumulate::kNative ? "native" : "float32"}};
}

Json fingerprints(const std::vector<std::string>& models, const fs::path& folder) {
  Json out = Json::object();
  for (const std::string& model : models) {
    std::error_code ignored;
    // A hub's name or an adapter is the merge's to judge.
    if (fs::exists(folder / model, ignored)) out[model] = model_fingerprint(folder / model);
  }
  return out;
}

void no_score_at_all() {
  throw Error(Code::kNumericError,
              "no candidate has a score: every evaluation gave NaN or infinity");
}

Json score_json(double score) { return std::isnan(score) ? Json() : Json(score); }

// ---- coefficients ------------------------------------------------------------------------------

// A number of any size as one between 0 and 1, mirrored at the bounds: a step over a bound comes back,
// so that the search's own model of the landscape stays unbounded.
double folded(double x) {
  const double period = std::abs(std::fmod(x, 2.0));
  return period > 1 ? 2 - period : period;
}

class CoefficientSearch {
 public:
  CoefficientSearch(std::string_view recipe, std::vector<RecipeLeaf> leaves,
                    const CoefficientOptions& options, Trials& trials)
      : recipe_(recipe), leaves_(std::move(leaves)), options_(options), trials_(trials) {}

  Json run() {
    std::vector<double> start;
    for (const RecipeLeaf& leaf : leaves_) {
      start.push_back((leaf.value - leaf.low) / (leaf.high - leaf.low));
    }
    CmaEs search(start, options_.sigma, options_.trial.seed, options_.population);
    evaluate(start);  // as it is written
    const char* stopped = "evaluations";
    while (trials_.done() < options_.evaluations) {
      std::vector<double> costs;
      for (const std::vector<double>& candidate : search.ask()) {
        if (trials_.done() == options_.evaluations) break;
        const double score = evaluate(candidate);
        costs.push_back(options_.trial.minimize ? score : -score);
      }
      if (costs.size() < search.ask().size()) break;
      search.tell(costs);
      if (search.converged(options_.tolerance)) {
        stopped = "converged";
        break;
      }
    }
    if (!trials_.best()) no_score_at_all();
    return Json{{"best", Json{{"score", *trials_.best()},
                              {"evaluation", trials_.best_number()},
                              {"values", history_[trials_.best_number()]["values"]}}},
                {"recipe", trials_.best_recipe()},
                {"evaluations", history_},
                {"evaluations_resumed", trials_.resumed()},
                {"generations", search.generation()},
                {"stopped", stopped}};
  }

 private:
  double evaluate(const std::vector<double>& candidate) {
    std::vector<double> values;
    Json named = Json::object();
    for (std::size_t i = 0; i < leaves_.size(); ++i) {
      const RecipeLeaf& leaf = leaves_[i];
      values.push_back(std::clamp(leaf.low + folded(candidate[i]) * (leaf.high - leaf.low),
                                  leaf.low, leaf.high));
      named[leaf.path] = values.back();
    }
    const double score = trials_.score(with_values(recipe_, leaves_, values));
    history_.push_back(Json{{"score", score_json(score)}, {"values", std::move(named)}});
    return score;
  }

  std::string_view recipe_;
  std::vector<RecipeLeaf> leaves_;
  const CoefficientOptions& options_;
  Trials& trials_;
  Json history_ = Json::array();
};

std::vector<RecipeLeaf> leaves_of(std::string_view recipe, const std::string& file_name,
                                  const CoefficientOptions& options) {
  if (options.leaves.empty()) {
    throw Error(Code::kInvalidArgument,
                "option 'leaves' is empty; expected the numbers to vary, as in "
                "models[*].parameters.weight=0:1")
        .at("option", "leaves");
  }
  std::vector<LeafRequest> requests;
  for (const std::string& text : options.leaves) requests.push_back(parse_leaf_request(text));
  return find_leaves(recipe, file_name, requests);
}

// ---- soup --------------------------------------------------------------------------------------

class GreedySoup {
 public:
  GreedySoup(const SoupOptions& options, Trials& trials) : options_(options), trials_(trials) {}

  Json run() {
    std::vector<double> alone;
    for (std::size_t i = 0; i < options_.models.size(); ++i) alone.push_back(evaluate({i}));
    if (!trials_.best()) no_score_at_all();
    std::vector<std::size_t> order(alone.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::erase_if(order, [&alone](std::size_t i) { return std::isnan(alone[i]); });
    std::stable_sort(order.begin(), order.end(), [this, &alone](std::size_t a, std::size_t b) {
      return trials_.better(alone[a], alone[b]);
    });
    std::vector<std::size_t> soup{order.front()};
    double score = alone[order.front()];
    history_[order.front()]["added"] = true;
    for (std::size_t i = 1; i < order.size(); ++i) {
      std::vector<std::size_t> tried = soup;
      tried.push_back(order[i]);
      const double found = evaluate(tried);
      const bool add = !std::isnan(found) && !trials_.better(score, found);  // not lower
      history_.back()["added"] = add;
      if (!add) continue;
      soup = std::move(tried);
      score = found;
    }
    return Json{{"best", Json{{"score", score}, {"models", soup}}},
                {"recipe", recipe(soup)},
                {"evaluations", history_},
                {"evaluations_resumed", trials_.resumed()}};
  }

 private:
  std::string recipe(const std::vector<std::size_t>& members) const {
    std::vector<std::string> models;
    for (const std::size_t i : members) models.push_back(options_.models[i]);
    return averaging_recipe(models);
  }
  double evaluate(const std::vector<std::size_t>& members) {
    const double score = trials_.score(recipe(members));
    history_.push_back(Json{{"score", score_json(score)}, {"models", members}, {"added", false}});
    return score;
  }

  const SoupOptions& options_;
  Trials& trials_;
  Json history_ = Json::array();
};

}  // namespace

Json search_coefficients(std::string_view recipe, const std::string& file_name,
                         const fs::path& output, const CoefficientOptions& options,
                         const Evaluator& evaluate, Job& job) {
  check_target(output, options.trial.overwrite);
  const std::vector<RecipeLeaf> leaves = leaves_of(recipe, file_name, options);
  if (options.evaluations == 0) {
    throw Error(Code::kInvalidArgument, "option 'evaluations' is 0; expected at least 1")
        .at("option", "evaluations");
  }
  CmaEs(std::vector<double>(leaves.size()), options.sigma, 0, options.population);  // checks them
  std::vector<std::string> models;
  for (const ModelReference& model :
       referenced_models(parse_recipe(recipe, file_name).recipes.front())) {
    models.push_back(model.path);
  }
  Json identity = identity_of(options.trial);
  identity["recipe"] = Fingerprint().add(recipe).hex();
  identity["leaves"] = options.leaves;
  identity["population"] = options.population;
  identity["sigma"] = options.sigma;
  identity["models"] = fingerprints(models, options.trial.merge.working_folder);
  SearchFolder folder(output, identity, options.trial.resume);
  return kept(folder, [&] {
    Trials trials(folder, options.trial, file_name, evaluate, options.evaluations, job);
    Json report = CoefficientSearch(recipe, leaves, options, trials).run();
    report["merge"] = trials.merge_best(output, trials.best_recipe());
    folder.remove();
    return report;
  });
}

Json greedy_soup(const fs::path& output, const SoupOptions& options, const Evaluator& evaluate,
                 Job& job) {
  check_target(output, options.trial.overwrite);
  if (options.models.empty()) {
    throw Error(Code::kInvalidArgument,
                "option 'models' is empty; expected the models to choose "
                "from")
        .at("option", "models");
  }
  Json identity = identity_of(options.trial);
  identity["ingredients"] = options.models;
  identity["models"] = fingerprints(options.models, options.trial.merge.working_folder);
  SearchFolder folder(output, identity, options.trial.resume);
  return kept(folder, [&] {
    const std::string file_name = "soup";
    Trials trials(folder, options.trial, file_name, evaluate, 2 * options.models.size() - 1, job);
    Json report = GreedySoup(options, trials).run();
    report["merge"] = trials.merge_best(output, report["recipe"].get<std::string>());
    folder.remove();
    return report;
  });
}

std::string averaging_recipe(const std::vector<std::string>& models) {
  std::string out = "merge_method: linear\nmodels:\n";
  for (const std::string& model : models) {
    out += "  - model: " + model_yaml(model) + "\n    parameters: {weight: 1.0}\n";
  }
  return out;
}

}  // namespace theriac::merge
