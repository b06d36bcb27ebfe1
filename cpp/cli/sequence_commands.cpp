// theriac tune, augment: copies of a user's history, whose predictions are averaged.
#include <limits>

#include "cpp/cli/command.h"
#include "cpp/cli/report.h"
#include "cpp/cli/terminal.h"
#include "cpp/core/base/options.h"

namespace theriac::cli {
namespace {

std::string joined(const std::vector<std::int32_t>& ids) {
  std::string line;
  for (const std::int32_t id : ids) line += (line.empty() ? "" : " ") + std::to_string(id);
  return line;
}

std::vector<std::int32_t> history_of(const Call& call) {
  call.required("history", "ids, oldest first, with blanks between them");
  std::vector<std::int32_t> history;
  for (const Json& id : call.history()) {
    const bool good = id.is_number_integer() && id.get<std::int64_t>() >= 1 &&
                      id.get<std::int64_t>() <= std::numeric_limits<std::int32_t>::max();
    if (!good) {
      throw UsageError("--history: item " + std::to_string(history.size() + 1) +
                       " is not a whole number from 1 on, as augmenters number items");
    }
    history.push_back(id.get<std::int32_t>());
  }
  return history;
}

Json document_of(const Augmenter& augmenter, const std::vector<std::int32_t>& history,
                 const Copies& copies) {
  Json json{{"augmenter", Json::parse(augmenter.info())},
            {"history", history},
            {"copies", Json::array()}};
  for (std::size_t c = 0; c < copies.weights.size(); ++c)
    json["copies"].push_back({{"items", copies.histories[c]}, {"weight", copies.weights[c]}});
  return json;
}

int augment(const Call& call) {
  const Context context = call.context();
  const std::vector<std::int32_t> history = history_of(call);
  Json options = call.options.count("augment") == 0 ? Json::object() : call.document("augment");
  merge_json(options, call.settings);
  const Augmenter augmenter(context, dump_json(options));
  const Copies copies =
      call.options.count("key") == 0
          ? augmenter.apply(history)
          : augmenter.apply(history, call.whole_number("key").get<std::uint64_t>());
  if (call.json) {
    print_json(document_of(augmenter, history, copies));
    return kDone;
  }
  std::vector<std::vector<std::string>> rows;
  for (std::size_t c = 0; c < copies.weights.size(); ++c)
    rows.push_back({joined(copies.histories[c]), number(copies.weights[c])});
  print_table({"copy", "weight"}, rows);
  return kDone;
}

// Metrics of predictions beside each other; entries {"augment", "metrics"}.
void print_comparison(const Json& entries) {
  std::vector<std::string> header{"prediction"};
  for (const auto& [name, value] : entries.at(0).at("metrics").items()) header.push_back(name);
  std::vector<std::vector<std::string>> rows;
  for (const Json& entry : entries) {
    rows.push_back({augmenter_text(entry.at("augment"))});
    for (const auto& [name, value] : entry.at("metrics").items())
      rows.back().push_back(number(value.get<double>()));
  }
  print_table(header, rows);
}

Json evaluated(const Call& call, const Model& model, const Dataset& dataset, const Json& options) {
  ProgressBar bar(call.quiet);
  return Json::parse(
      model.evaluate(dataset, dump_json(options), bar.listener(), &interrupt_token()));
}

// What the choice is worth on data that had no part in it.
Json tested(const Call& call, const Model& model, const Dataset& dataset, const Json& best) {
  Json options = call.settings;
  options.erase("tune");
  Json reports{{"plain", evaluated(call, model, dataset, options)}};
  options["augment"] = best;
  reports["best"] = best.is_null() ? reports.at("plain") : evaluated(call, model, dataset, options);
  return reports;
}

void print_tuning(const Json& tuning) {
  const Json &validation = tuning.at("validation"), &best = validation.at("best");
  print_comparison(validation.at("grid"));
  print_line("best " + best.at("select").get<std::string>() + ": " +
             augmenter_text(best.at("augment")));
  if (!tuning.contains("test")) return;
  const Json& test = tuning.at("test");
  Json entries = Json::array({{{"augment", nullptr}, {"metrics", test.at("plain").at("metrics")}}});
  if (!best.at("augment").is_null())
    entries.push_back(
        {{"augment", best.at("augment")}, {"metrics", test.at("best").at("metrics")}});
  print_line("test data:");
  print_comparison(entries);
}

int tune(const Call& call) {
  const Context context = call.context();
  const std::string path = call.word(0, "MODEL folder"),
                    data = call.required("data", "folder of the validation data");
  Json options = call.settings;
  if (call.options.count("grid") != 0) options["tune"] = call.document("grid", '[');
  if (!options.contains("tune")) options["tune"] = true;
  const Model model = Model::load(context, path);
  Json tuning{{"validation", evaluated(call, model, open_saved(context, data), options)}};
  if (call.options.count("test") != 0) {
    tuning["test"] = tested(call, model, open_saved(context, call.text("test")),
                            tuning.at("validation").at("best").at("augment"));
  }
  if (call.json) {
    print_json(tuning);
  } else {
    print_tuning(tuning);
  }
  return kDone;
}

}  // namespace

const std::vector<Command>& sequence_commands() {
  static const auto* const commands = new std::vector<Command>{
      {"tune", "MODEL --data VALID [--test TEST]", "picks an augmenter on validation data, or none",
       [](cxxopts::Options& options) {
         options.add_options()("data", "validation data, which the choice is made on",
                               cxxopts::value<std::string>(), "VALID")(
             "grid", "augmenters to compare, an array; without it the usual ones",
             cxxopts::value<std::string>(), "JSON|FILE")(
             "test", "data to evaluate the choice on, once", cxxopts::value<std::string>(), "TEST");
       },
       tune},
      {"augment", "--history IDS [--augment JSON|FILE]", "the copies of a history, with weights",
       [](cxxopts::Options& options) {
         options.add_options()("history", "items, oldest first, with blanks between them",
                               cxxopts::value<std::string>(), "IDS")(
             "augment", "options of the augmenter; --set wins", cxxopts::value<std::string>(),
             "JSON|FILE")("key", "a number that names the user; without it the history does",
                          cxxopts::value<std::string>(), "N");
       },
       augment},
  };
  return *commands;
}

}  // namespace theriac::cli
