#include "cpp/engine/sequence/tuner.h"

#include <algorithm>
#include <map>

#include "cpp/engine/sequence/ranking_protocol.h"
#include "cpp/engine/sequence/sequence_model.h"

namespace theriac::sequence {
namespace {

constexpr std::size_t kLargestGrid = 1000;

// What is evaluated with: null is plain prediction.
struct Candidate {
  Json augment;
  std::shared_ptr<const augment::Augmenter> augmenter;
};

Candidate candidate_of(const SequenceState& state, const Json& json) {
  if (json.is_null()) return {};
  auto augmenter = state.augmenter_of(json);
  Json effective = augment::AugmenterOptions::table().effective_json(augmenter->options());
  return {std::move(effective), state.prepared(std::move(augmenter))};
}

bool carries_out(const SequenceState& state, const Json& json) {
  try {
    candidate_of(state, json);
    return true;
  } catch (const Error& e) {
    if (e.code() != Code::kUnsupported) throw;
    return false;
  }
}

// By cut-off, the smallest first.
Json values_json(const metrics::RankingMetrics& metrics, RankingOptions options) {
  const std::map<std::string, double> values = metrics.values();
  std::sort(options.cutoffs.begin(), options.cutoffs.end());
  Json json = Json::object();
  for (const std::int64_t cutoff : options.cutoffs) {
    const std::string at = "@" + std::to_string(cutoff);
    for (const char* name : {"hr", "ndcg"}) json[name + at] = values.at(name + at);
  }
  for (const auto& [name, value] : values) json[name] = value;  // what else there is
  return json;
}

Json counts_json(const RankingCounts& counts, const MappedSequences& data) {
  return {{"answers", counts.answers},
          {"without_history", counts.without_history},
          {"unknown_answers", counts.unknown_answers},
          {"repeated_answers", counts.repeated_answers},
          {"unknown_items", data.unknown()}};
}

// Options of an evaluation beside the protocol's own.
struct Asked {
  RankingOptions ranking;
  Json augment, tune;
  std::string select = "ndcg@20";
};

Asked read_options(const Json& json) {
  Asked asked;
  if (!json.is_object() && !json.is_null())
    throw Error(Code::kInvalidArgument, "options must be a JSON object");
  Json rest = json.is_null() ? Json::object() : json;
  const auto take = [&rest](const char* name) {
    Json value = rest.value(name, Json());
    rest.erase(name);
    return value;
  };
  asked.augment = take("augment");
  asked.tune = take("tune");
  if (const Json select = take("select"); !select.is_null())
    asked.select = internal::as_text(select, "select");
  RankingOptions::table().update(asked.ranking, rest);
  if (!asked.augment.is_null() && !asked.tune.is_null()) {
    throw Error(Code::kInvalidArgument,
                "options 'augment' and 'tune' exclude each other; tune chooses the augmenter")
        .at("option", "tune");
  }
  return asked;
}

std::vector<Candidate> candidates(const SequenceState& state, const Json& tune) {
  const Json grid = tune.is_boolean() && tune.get<bool>() ? default_grid(state) : tune;
  if (!grid.is_array() || grid.empty() || grid.size() > kLargestGrid) {
    throw Error(Code::kInvalidArgument, "option 'tune' must be true or a list of 1 to " +
                                            std::to_string(kLargestGrid) + " augmenters")
        .at("option", "tune");
  }
  std::vector<Candidate> all(1);  // plain prediction first: it wins ties
  for (const Json& entry : grid) all.push_back(candidate_of(state, entry));
  return all;
}

}  // namespace

Json default_grid(const SequenceState& state) {
  Json grid = Json::array();
  const auto add = [&](Json entry) {
    if (carries_out(state, entry)) grid.push_back(std::move(entry));
  };
  for (const double ratio : {0.2, 0.3, 0.5, 0.7}) {
    for (const double original : {0.0, 0.5})
      add({{"op", "tmask_r"}, {"ratio", ratio}, {"original_weight", original}});
  }
  add({{"op", "tmask_r"}, {"ratio", 0.2}, {"ratio_high", 0.8}});
  add({{"op", "tmask_b"}, {"ratio", 0.5}, {"mask_as", "block"}});
  for (const double ratio : {0.2, 0.5})
    add({{"op", "substitute"}, {"ratio", ratio}, {"similar", "item_cf_iuf"}});
  add({{"op", "insert"}, {"ratio", 0.5}, {"similar", "item_cf_iuf"}});
  add({{"op", "window"}, {"window", 4}});
  add({{"op", "reorder"}, {"ratio", 0.5}});
  add({{"op", "tnoise"}, {"expected_noise", true}});
  for (const double shift : {0.3, 0.75}) add({{"op", "original"}, {"shift", shift}});
  return grid;
}

Json operators_of(const SequenceState& state) {
  Json names = Json::array();
  for (const char* op : {"crop", "reorder", "window", "mask", "substitute", "insert", "tmask_r",
                         "tmask_b", "tnoise", "original"}) {
    Json entry{{"op", op}};
    const bool similar = std::string_view(op) == "substitute" || std::string_view(op) == "insert";
    if (similar) entry["similar"] = "item_cf_iuf";
    if (carries_out(state, entry)) names.push_back(op);
  }
  return names;
}

Json evaluation_schema() {
  Json schema = RankingOptions::table().schema();
  const Json augmenter = augment::AugmenterOptions::table().schema();
  schema["properties"]["augment"] = augmenter;
  schema["properties"]["tune"] = {
      {"description",
       "augmenters to compare on this data, which must be validation data; true: a grid of the "
       "usual "
       "ones. Not together with augment."},
      {"oneOf", Json::array({{{"const", true}}, {{"type", "array"}, {"items", augmenter}}})}};
  schema["properties"]["select"] = {{"type", "string"},
                                    {"default", "ndcg@20"},
                                    {"description", "the metric that tuning maximises"}};
  return schema;
}

Evaluation evaluate(const SequenceState& state, const data::Sequences& sequences,
                    const Json& options, int threads, Job& job) {
  const Asked asked = read_options(options);
  const MappedSequences data(sequences, state.items);
  RankingCounts counts;
  const auto ranks = [&](const Candidate& candidate) {
    return ranks_of(data, *state.scorer, candidate.augmenter.get(), asked.ranking, threads, job,
                    &counts);
  };
  Candidate chosen;
  Json grid = Json::array();
  std::vector<std::int64_t> best;
  if (asked.tune.is_null()) {
    chosen = candidate_of(state, asked.augment);
    best = ranks(chosen);
  } else {
    double value = 0;
    for (const Candidate& candidate : candidates(state, asked.tune)) {
      std::vector<std::int64_t> own = ranks(candidate);
      Json values = values_json(summary(own, asked.ranking), asked.ranking);
      if (!values.contains(asked.select)) {
        throw Error(Code::kInvalidArgument,
                    "option 'select' is '" + asked.select + "', which cutoffs do not give")
            .at("option", "select");
      }
      const double selected = values.at(asked.select).get<double>();
      grid.push_back({{"augment", candidate.augment}, {"metrics", std::move(values)}});
      if (!best.empty() && selected <= value) continue;
      value = selected;
      best = std::move(own);
      chosen = candidate;
    }
  }
  Evaluation evaluation;
  Json& report = evaluation.report;
  report["metrics"] = values_json(summary(best, asked.ranking), asked.ranking);
  report["counts"] = counts_json(counts, data);
  report["by_length"] = by_length(data, best, asked.ranking);
  report["config"] = RankingOptions::table().effective_json(asked.ranking);
  report["config"]["augment"] = chosen.augment;
  if (!grid.empty()) {
    report["grid"] = std::move(grid);
    report["best"] = {{"augment", chosen.augment}, {"select", asked.select}};
  }
  return evaluation;
}

}  // namespace theriac::sequence
