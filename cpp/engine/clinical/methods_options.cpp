#include "cpp/engine/clinical/methods_options.h"

namespace theriac::clinical {
namespace {

template <class S>
void add_common(OptionTable<S>& table) {
  table
      .real("threshold", &S::threshold, {0.0, 1.0},
            "a class is recommended at this probability or more")
      .integer("max_visits", &S::max_visits, {1, 10'000},
               "the latest visits of a patient that are read")
      .text("interactions", &S::interactions,
            "CSV file of interacting classes (atc3_a, atc3_b, or system_a, code_a, system_b, "
            "code_b, severity, source, "
            "version); empty: none")
      .choice("vocabulary", &S::vocabulary, {"training", "dataset"},
              "diagnosis and procedure codes of the model: those that occur in training, or all "
              "the data set lists")
      .texts("classes", &S::classes,
             "ATC level-3 classes to recommend; empty: those the data set lists");
}

// A member of a base as a member of S, which template argument deduction does not do by itself.
template <class S, class T>
T S::*own(T BackboneOptions::*member) {
  return member;
}

template <class S>
void add_backbone(OptionTable<S>& table) {
  add_common(table);
  table
      .group("encoder", own<S>(&BackboneOptions::encoder), EncoderOptions::table(),
             "code vectors: ids, relation embedding and position encoding")
      .group("tree", own<S>(&BackboneOptions::tree), TreeOptions::table(),
             "training of relation vectors; dim is taken from encoder.dim")
      .group(
          "lists", own<S>(&BackboneOptions::lists), data::ListOptions::table(),
          "official code lists as trees; without one, the known codes and their ancestors by rule")
      .text("table_cache", &S::table_cache,
            "folder of relation tables, read and added to; empty: none")
      .group("train", own<S>(&BackboneOptions::train), train::TrainOptions::table(),
             "the fit loop");
}

// The tree's width is the encoder's; naming another is a contradiction.
template <class S>
void settle_dim(S& options, const Json& json) {
  const bool named = json.is_object() && json.contains("tree") && json["tree"].is_object() &&
                     json["tree"].contains("dim");
  if (named && options.tree.dim != options.encoder.dim) {
    throw Error(Code::kInvalidArgument, "option 'tree.dim' is " + std::to_string(options.tree.dim) +
                                            " but 'encoder.dim' is " +
                                            std::to_string(options.encoder.dim) +
                                            "; leave tree.dim out")
        .at("option", "tree.dim");
  }
  options.tree.dim = options.encoder.dim;
}

// Section 5.1: the training of GAMENet's own repository.
GamenetOptions original_defaults() {
  GamenetOptions o;
  o.form = "original";
  o.encoder.dim = 64;
  o.encoder.use_id = true;
  o.encoder.use_relation = o.encoder.use_position = false;
  o.dropout = 0.4;
  o.graph_dropout = 0.3;
  o.loss.bce = 0.9;
  o.loss.margin = 0.01;
  o.train.epochs = 40;
  o.train.batch_size = 1;
  o.train.learning_rate = 2e-4;
  o.threshold = 0.5;
  return o;
}

bool asks_for_original(const Json& json) {
  return json.is_object() && json.contains("form") && json["form"] == "original";
}

}  // namespace

const OptionTable<GamenetOptions>& GamenetOptions::table() {
  static const auto table = [] {
    OptionTable<GamenetOptions> t("gamenet", "Graph-augmented memory network");
    t.choice("form", &GamenetOptions::form, {"corrected", "original"},
             "network as HIER uses it, or of the first paper with its own defaults (ids only, dim "
             "64, one sample a step)")
        .choice("ehr_graph", &GamenetOptions::ehr_graph, {"training", "all"},
                "co-occurrence graph from training patients, or from validation patients too")
        .real("dropout", &GamenetOptions::dropout, {0.0, 1.0, false, true},
              "original form: on code vectors")
        .real("graph_dropout", &GamenetOptions::graph_dropout, {0.0, 1.0, false, true},
              "between the graph convolutions")
        .group("loss", &GamenetOptions::loss, LossOptions::table(), "what training minimises");
    add_backbone(t);
    return t;
  }();
  return table;
}

GamenetOptions GamenetOptions::parse(const Json& json) {
  GamenetOptions options = asks_for_original(json) ? original_defaults() : GamenetOptions{};
  table().update(options, json);
  settle_dim(options, json);
  if (options.form == "original" &&
      (options.encoder.use_relation || options.encoder.use_position)) {
    throw Error(
        Code::kInvalidArgument,
        "option 'form' is original, which averages code ids; leave encoder.use_relation and "
        "encoder.use_position off, or set form to corrected")
        .at("option", "form");
  }
  if (options.loss.interactions && options.interactions.empty()) {
    throw Error(
        Code::kInvalidArgument,
        "option 'loss.interactions' is on but 'interactions' names no table of interacting classes")
        .at("option", "loss.interactions");
  }
  return options;
}

const OptionTable<RetainOptions>& RetainOptions::table() {
  static const auto table = [] {
    OptionTable<RetainOptions> t("retain", "Reverse-time attention");
    t.real("dropout", &RetainOptions::dropout, {0.0, 1.0, false, true}, "on visit vectors");
    add_backbone(t);
    return t;
  }();
  return table;
}

RetainOptions RetainOptions::parse(const Json& json) {
  RetainOptions options = table().parse(json);
  settle_dim(options, json);
  return options;
}

const OptionTable<FrequencyOptions>& FrequencyOptions::table() {
  static const auto table = [] {
    OptionTable<FrequencyOptions> t("baseline", "Baselines from counts");
    add_common(t);
    return t;
  }();
  return table;
}

const OptionTable<LogisticOptions>& LogisticOptions::table() {
  static const auto table = [] {
    OptionTable<LogisticOptions> t("logistic_regression",
                                   "One-vs-rest logistic regression on the current visit");
    t.real("c", &LogisticOptions::c, {0.0, 1e9, true, false}, "inverse of the L2 penalty")
        .integer("iterations", &LogisticOptions::iterations, {1, 100'000}, "Newton steps at most")
        .real("tolerance", &LogisticOptions::tolerance, {0.0, 1.0, true, false},
              "largest gradient at the solution, relative to the start");
    add_common(t);
    return t;
  }();
  return table;
}

}  // namespace theriac::clinical
