#include "cpp/engine/clinical/session.h"

#include <algorithm>
#include <numeric>

#include "cpp/core/base/options.h"
#include "cpp/engine/clinical/augmented_scorer.h"
#include "cpp/engine/clinical/history.h"
#include "cpp/engine/clinical/medication_recommender.h"
#include "cpp/engine/clinical/request.h"
#include "cpp/engine/clinical/visit_batch.h"
#include "cpp/engine/eval/multilabel_protocol.h"

namespace theriac::clinical {
namespace {

struct SessionOptions {
  double threshold = -1;
  std::int64_t k = 20;
  static const OptionTable<SessionOptions>& table() {
    static const auto* const t = new OptionTable<SessionOptions>(
        OptionTable<SessionOptions>("session", "Scoring one patient at a time")
            .real("threshold", &SessionOptions::threshold, {-1, 1},
                  "classes at or above it are marked as recommended; negative: the model's")
            .integer("k", &SessionOptions::k, {0, 100000},
                     "classes an answer lists when the request does not say; 0 lists all"));
    return *t;
  }
};

// One request read and scored.
struct Scored {
  std::vector<EntryReading> readings;  // one an entry
  std::vector<float> probabilities;    // [classes]
  std::vector<std::int32_t> order;     // class ids, most probable first, ties by id
};

Json entry_json(const RequestEntry& entry) {
  return {{"visit", entry.visit},
          {"field", data::field_name(entry.field)},
          {"system", codes::system_name(entry.code.system)},
          {"code", entry.as_given}};
}

class MedicationSession final : public Session {
 public:
  MedicationSession(std::shared_ptr<const MedicationState> state, const SessionOptions& options,
                    int threads)
      : state_(std::move(state)),
        options_(options),
        threads_(threads),
        scorer_(state_->scorer),
        reader_(*state_),
        classes_(static_cast<std::size_t>(state_->classes.size())) {
    if (options_.threshold < 0) options_.threshold = state_->threshold;
    probabilities_.resize(classes_);
    order_.resize(classes_);
  }

  Outcome recommend(std::string_view request_json, std::string& answer_json) noexcept override {
    return tensor::guarded([&] { answer_json = dump_json(answer(read(request_json), nullptr)); });
  }

  Outcome explain(std::string_view request_json, std::string& answer_json) noexcept override {
    return tensor::guarded([&] {
      FrozenAttention attention;
      answer_json = dump_json(answer(read(request_json), &attention));
    });
  }

  Outcome recommend_codes(const CodeHistory& history, RankedClasses& ranked) noexcept override {
    return tensor::guarded([&] { rank_codes(history, ranked); });
  }

  Outcome set_augmenter(std::shared_ptr<const augment::Augmenter> augmenter) noexcept override {
    return tensor::guarded([&] {
      scorer_ =
          augmenter ? augmented_scorer(state_->scorer, augmenter, state_->similar) : state_->scorer;
      augmenter_ = std::move(augmenter);
    });
  }

  Outcome recommend_dataset(const Dataset& dataset, Job& job,
                            std::vector<float>& probabilities) noexcept override {
    return tensor::guarded([&] {
      if (!dataset.cohort)
        throw Error(Code::kInvalidArgument,
                    "medication models score data sets of kind cohort, not " + dataset.kind);
      const Vocabularies vocabularies{state_->diagnoses, state_->procedures, state_->classes};
      const MappedCohort mapped(*dataset.cohort, vocabularies);
      const ReadCohort cohort =
          read_cohort(mapped, state_->diagnoses_encoder.get(), state_->procedures_encoder.get());
      probabilities.clear();
      probabilities.reserve(static_cast<std::size_t>(dataset.cohort->visits()) * classes_);
      eval::score_cohort(*dataset.cohort, FrozenCohortScorer(cohort, *scorer_, state_->max_visits),
                         threads_, job, [&](std::int64_t, std::span<const float> rows) {
                           probabilities.insert(probabilities.end(), rows.begin(), rows.end());
                         });
    });
  }

 private:
  Request read(std::string_view request_json) const {
    Request request = parse_request(request_json);
    if (request.threshold < 0) request.threshold = options_.threshold;
    if (request.k < 0) request.k = options_.k;
    return request;
  }

  // Scores the request without entry `left_out` (none: the number of entries).
  void score(const Request& request, std::size_t left_out, Scored& scored,
             FrozenAttention* attention) {
    reader_.begin(static_cast<std::int32_t>(request.dates.size()));
    scored.readings.assign(request.entries.size(), EntryReading{});
    for (std::size_t i = 0; i < request.entries.size(); ++i) {
      const RequestEntry& entry = request.entries[i];
      if (i != left_out) scored.readings[i] = reader_.add(entry.visit, entry.field, entry.code);
    }
    scored.probabilities.resize(classes_);
    scorer_->score(reader_.finish(), workspace_, scored.probabilities, attention);
  }

  static void rank(std::span<const float> probabilities, std::size_t wanted,
                   std::vector<std::int32_t>& order) {
    std::iota(order.begin(), order.end(), 0);
    const auto middle = order.begin() + static_cast<std::ptrdiff_t>(std::min(wanted, order.size()));
    std::partial_sort(order.begin(), middle, order.end(), [&](std::int32_t a, std::int32_t b) {
      const float x = probabilities[static_cast<std::size_t>(a)],
                  y = probabilities[static_cast<std::size_t>(b)];
      return x != y ? x > y : a < b;
    });
  }

  void rank_codes(const CodeHistory& history, RankedClasses& ranked) {
    const std::int32_t visits = check_history(history);
    reader_.begin(visits);
    ranked.ignored = ranked.substituted = 0;
    for (std::uint64_t i = 0; i < history.entries; ++i) {
      code_.system = static_cast<codes::System>(history.system[i]);
      code_.text = codes::normalise(code_.system, history.code[i]);
      const EntryReading reading =
          reader_.add(history.visit[i], static_cast<data::Field>(history.field[i]), code_);
      if (!reading.counts()) ++ranked.ignored;
      if (reading.how == EntryReading::How::kSubstituted) ++ranked.substituted;
    }
    scorer_->score(reader_.finish(), workspace_, probabilities_, nullptr);
    const auto wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>(ranked.capacity, classes_));
    rank(probabilities_, wanted, order_);
    for (std::size_t i = 0; i < wanted; ++i) {
      const std::int32_t id = order_[i];
      ranked.class_code[i] = state_->classes.code(id).text.c_str();
      ranked.probability[i] = probabilities_[static_cast<std::size_t>(id)];
    }
    ranked.count = wanted;
  }

  // Number of visits; throws naming the entry.
  static std::int32_t check_history(const CodeHistory& history) {
    constexpr std::uint64_t kMaxEntries = 10000;
    constexpr std::int32_t kMaxVisits = 1000;
    if (history.entries > kMaxEntries) {
      throw Error(Code::kInvalidArgument, "entries is " + std::to_string(history.entries) +
                                              "; at most " + std::to_string(kMaxEntries) +
                                              " codes a patient")
          .at("argument", "entries");
    }
    std::int32_t last = 0;
    for (std::uint64_t i = 0; i < history.entries; ++i) {
      const auto refuse = [i](const char* argument, const std::string& what) {
        throw Error(Code::kInvalidArgument,
                    std::string(argument) + "[" + std::to_string(i) + "] " + what)
            .at("argument", argument)
            .at("index", i);
      };
      if (history.visit[i] < last || history.visit[i] >= kMaxVisits)
        refuse("visit", "must not decrease, start at 0 or above and stay below 1000");
      if (history.field[i] < 0 || history.field[i] >= data::kFieldCount)
        refuse("field", "must be 0 (diagnosis), 1 (procedure) or 2 (medication)");
      if (history.system[i] < 0 || history.system[i] >= codes::kSystemCount)
        refuse("system", "is not a code system");
      if (history.code[i] == nullptr) refuse("code", "must not be NULL");
      last = history.visit[i];
    }
    return last + 1;
  }

  // With attention given, the answer carries an explanation.
  Json answer(const Request& request, FrozenAttention* attention) {
    Scored scored;
    score(request, request.entries.size(), scored, attention);
    const std::size_t listed =
        request.k == 0 ? classes_ : std::min(classes_, static_cast<std::size_t>(request.k));
    scored.order.resize(classes_);
    rank(scored.probabilities, classes_, scored.order);
    const std::vector<std::int32_t> shown(
        scored.order.begin(), scored.order.begin() + static_cast<std::ptrdiff_t>(listed));
    Json json;
    json["classes"] = Json::array();
    for (const std::int32_t id : shown) {
      const auto p = static_cast<double>(scored.probabilities[static_cast<std::size_t>(id)]);
      json["classes"].push_back({{"code", class_text(id)},
                                 {"system", codes::system_name(state_->classes.code(id).system)},
                                 {"probability", p},
                                 {"recommended", p >= request.threshold}});
    }
    json["threshold"] = request.threshold;
    json["interactions"] = interactions(request, scored);
    json["inputs"] = inputs(request, scored);
    if (attention != nullptr) json["explanation"] = explanation(request, scored, shown, *attention);
    json["model"] = model_json();
    if (augmenter_)
      json["augment"] = augment::AugmenterOptions::table().effective_json(augmenter_->options());
    json["limits"] = state_->limits;
    return json;
  }

  const std::string& class_text(std::int32_t id) const { return state_->classes.code(id).text; }

  // Listed pairs among the classes over the threshold, and between them and the classes of the
  // visit before.
  Json interactions(const Request& request, const Scored& scored) const {
    std::vector<std::int32_t> over, previous;
    for (const std::int32_t id : scored.order) {
      if (static_cast<double>(scored.probabilities[static_cast<std::size_t>(id)]) >=
          request.threshold)
        over.push_back(id);
    }
    const auto before = static_cast<std::int32_t>(request.dates.size()) - 2;
    for (const RequestEntry& entry : request.entries) {
      if (entry.field != data::Field::kMedications || entry.visit != before) continue;
      const std::int32_t id =
          state_->classes.find({entry.code.system, entry.code.text.substr(0, 4)});
      if (id >= 0 && std::find(over.begin(), over.end(), id) == over.end() &&
          std::find(previous.begin(), previous.end(), id) == previous.end())
        previous.push_back(id);
    }
    Json pairs = Json::array();
    const auto add = [&](std::int32_t a, std::int32_t b, const char* between) {
      if (state_->matrix.classes() == 0 || !state_->matrix.interacts(a, b)) return;
      pairs.push_back({{"a", class_text(a)},
                       {"b", class_text(b)},
                       {"between", between},
                       {"severity", severity(class_text(a), class_text(b))},
                       {"source", state_->interactions.source},
                       {"version", state_->interactions.version}});
    };
    for (std::size_t i = 0; i < over.size(); ++i) {
      for (std::size_t j = i + 1; j < over.size(); ++j) add(over[i], over[j], "recommended");
      for (const std::int32_t b : previous) add(over[i], b, "recommended and previous visit");
    }
    return pairs;
  }

  std::string severity(const std::string& a, const std::string& b) const {
    for (const codes::InteractionPair& pair : state_->interactions.pairs) {
      if ((pair.a == a && pair.b == b) || (pair.a == b && pair.b == a)) return pair.severity;
    }
    return {};
  }

  static Json inputs(const Request& request, const Scored& scored) {
    Json used = Json::array(), ignored = Json::array(), substituted = Json::array();
    for (std::size_t i = 0; i < request.entries.size(); ++i) {
      const EntryReading& reading = scored.readings[i];
      Json entry = entry_json(request.entries[i]);
      if (const std::string& date =
              request.dates[static_cast<std::size_t>(request.entries[i].visit)];
          !date.empty())
        entry["date"] = date;
      switch (reading.how) {
        case EntryReading::How::kUsed:
          used.push_back(std::move(entry));
          break;
        case EntryReading::How::kUnseen:
          entry["unseen_in_training"] = true;
          used.push_back(std::move(entry));
          break;
        case EntryReading::How::kSubstituted:
          entry["read_as"] = reading.node == nullptr ? std::string() : *reading.node;
          substituted.push_back(std::move(entry));
          break;
        default:
          entry["reason"] = reason(reading.how);
          ignored.push_back(std::move(entry));
      }
    }
    return {{"used", std::move(used)},
            {"substituted", std::move(substituted)},
            {"ignored", std::move(ignored)}};
  }

  // Leave one code out (medication.md 10.3): the change of each listed class's probability when the
  // entry is absent, and the weights that the model itself put on visits and classes.
  Json explanation(const Request& request, const Scored& scored,
                   const std::vector<std::int32_t>& shown, const FrozenAttention& attention) {
    struct Effect {
      std::size_t entry;
      std::int32_t id;
      double change;
    };
    Json codes_json = Json::array();
    std::vector<Effect> effects;
    Scored without;
    for (std::size_t i = 0; i < request.entries.size(); ++i) {
      if (!scored.readings[i].counts()) continue;
      score(request, i, without, nullptr);
      Json entry = entry_json(request.entries[i]);
      entry["effects"] = Json::array();
      for (const std::int32_t id : shown) {
        const auto at = static_cast<std::size_t>(id);
        const double change = static_cast<double>(without.probabilities[at]) -
                              static_cast<double>(scored.probabilities[at]);
        entry["effects"].push_back({{"class", class_text(id)}, {"change", change}});
        effects.push_back({i, id, change});
      }
      codes_json.push_back(std::move(entry));
    }
    std::stable_sort(effects.begin(), effects.end(), [](const Effect& a, const Effect& b) {
      return std::abs(a.change) > std::abs(b.change);
    });
    Json top = Json::array();
    for (std::size_t i = 0; i < std::min<std::size_t>(10, effects.size()); ++i) {
      Json entry = entry_json(request.entries[effects[i].entry]);
      entry["class"] = class_text(effects[i].id);
      entry["change"] = effects[i].change;
      top.push_back(std::move(entry));
    }
    return {
        {"method", "leave one code out: probability without the code minus probability with it"},
        {"top", std::move(top)},
        {"codes", std::move(codes_json)},
        {"attention", attention_json(request, attention)}};
  }

  Json attention_json(const Request& request, const FrozenAttention& attention) const {
    Json json = Json::object();
    const std::size_t skipped =
        request.dates.size() -
        std::min(request.dates.size(), static_cast<std::size_t>(state_->max_visits));
    const auto visits = [&](const std::vector<float>& weights) {
      Json list = Json::array();
      for (std::size_t v = 0; v < weights.size(); ++v)
        list.push_back({{"visit", skipped + v}, {"weight", weights[v]}});
      return list;
    };
    if (!attention.visits.empty()) json["visits"] = visits(attention.visits);
    if (!attention.visits_procedures.empty())
      json["visits_procedures"] = visits(attention.visits_procedures);
    if (!attention.memory.empty()) {
      Json list = Json::array();
      for (std::size_t m = 0; m < attention.memory.size(); ++m)
        list.push_back(
            {{"class", class_text(static_cast<std::int32_t>(m))}, {"weight", attention.memory[m]}});
      json["memory"] = std::move(list);
    }
    return json;
  }

  Json model_json() const {
    Json json{{"method", state_->method},
              {"version", state_->model_version},
              {"library", state_->library_version}};
    if (!state_->interactions.pairs.empty())
      json["interaction_table"] = {{"source", state_->interactions.source},
                                   {"version", state_->interactions.version}};
    // What a reader must know of the training data; the whole record is in the model's info.
    for (const char* key : {"data", "samples", "metrics"}) {
      if (state_->training.contains(key)) json["training"][key] = state_->training.at(key);
    }
    return json;
  }

  std::shared_ptr<const MedicationState> state_;
  SessionOptions options_;
  int threads_;
  std::shared_ptr<const FrozenScorer> scorer_;  // the state's, or that over augmented copies
  std::shared_ptr<const augment::Augmenter> augmenter_;
  HistoryReader reader_;
  std::size_t classes_;
  FrozenWorkspace workspace_;
  std::vector<float> probabilities_;
  std::vector<std::int32_t> order_;
  codes::MedicalCode code_;
};

}  // namespace

Json session_schema() { return SessionOptions::table().schema(); }

static Json evaluation_schema() {
  Json schema = eval::MultilabelOptions::table().schema();
  schema["properties"]["augment"] = augment::AugmenterOptions::table().schema();
  return schema;
}

Json medication_documents() {
  const auto entry = [](const char* name, Json schema) {
    return Json{{"name", name}, {"family", "document"}, {"schema", std::move(schema)}};
  };
  return Json::array({entry("request", request_schema()), entry("session", session_schema()),
                      entry("model.evaluate", evaluation_schema())});
}

std::unique_ptr<Session> make_session(std::shared_ptr<const MedicationState> state,
                                      std::string_view options_json, int threads) {
  const Json json =
      options_json.empty() ? Json::object() : parse_json(options_json, "session options");
  return std::make_unique<MedicationSession>(std::move(state), SessionOptions::table().parse(json),
                                             threads);
}

}  // namespace theriac::clinical
