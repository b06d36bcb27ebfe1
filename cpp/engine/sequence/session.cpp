#include "cpp/engine/sequence/session.h"

#include <algorithm>

#include "cpp/engine/sequence/ranking_protocol.h"
#include "cpp/engine/sequence/sequence_model.h"

namespace theriac::sequence {
namespace {

constexpr std::uint64_t kLongestHistory = 10'000'000;
constexpr std::size_t kMostListed = std::size_t{1} << 28U;  // rows of a batch's answer, in memory

struct SessionOptions {
  std::int64_t k = 10;
  bool exclude_seen = true;
  static const OptionTable<SessionOptions>& table() {
    static const auto* const t = new OptionTable<SessionOptions>(
        OptionTable<SessionOptions>("session", "Scoring one user at a time")
            .integer("k", &SessionOptions::k, {1, 100'000},
                     "items an answer lists when the request does not say")
            .flag("exclude_seen", &SessionOptions::exclude_seen,
                  "items of the history are not recommended"));
    return *t;
  }
};

Json request_schema() {
  const Json id{{"type", Json::array({"integer", "string"})}};
  return {
      {"title", "request.sequence"},
      {"type", "object"},
      {"required", {"history"}},
      {"additionalProperties", false},
      {"properties",
       {{"history",
         {{"type", "array"},
          {"items", id},
          {"minItems", 1},
          {"description", "the user's items as the training data names them, oldest first"}}},
        {"k", {{"type", "integer"}, {"minimum", 1}, {"maximum", 100'000}, {"default", 10}}},
        {"key",
         {{"type", "integer"},
          {"minimum", 0},
          {"description", "of the augmenter's draws; without it the history decides them alone"}}},
        {"exclude_seen", {{"type", "boolean"}, {"default", true}}}}}};
}

struct Request {
  std::vector<std::int32_t> history;  // ids the model knows
  std::vector<Json> ignored;          // as given
  std::optional<std::uint64_t> key;
  std::size_t k = 0;
  bool exclude_seen = true;
};

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(Code::kInvalidArgument, "request, " + path + ": " + what).at("json_path", path);
}

[[noreturn]] void refuse_history(std::size_t given) {
  if (given == 0) refuse("/history", "is empty; a recommendation needs at least one item");
  throw Error(Code::kInvalidArgument, "request, /history: the model knows none of its " +
                                          std::to_string(given) +
                                          " items; expected items of the training data")
      .at("json_path", "/history");
}

class SequenceSession final : public Session {
 public:
  SequenceSession(std::shared_ptr<const SequenceState> state, const SessionOptions& options,
                  std::shared_ptr<const augment::Augmenter> augmenter, int threads)
      : state_(std::move(state)),
        options_(options),
        threads_(threads),
        augmenter_(std::move(augmenter)),
        scratch_(state_->scorer->scratch()) {}

  Outcome recommend(std::string_view request_json, std::string& answer_json) noexcept override {
    return tensor::guarded([&] { answer_json = dump_json(answer(read(request_json))); });
  }

  Outcome explain(std::string_view, std::string&) noexcept override {
    return unsupported(
        "models of item sequences explain nothing yet; use theriac_session_recommend");
  }

  Outcome recommend_history(const ItemHistory& history, RankedItems& ranked) noexcept override {
    return tensor::guarded([&] { rank_items(history, ranked); });
  }

  Outcome recommend_sequences(const Dataset& dataset, std::uint64_t capacity, Job& job,
                              ItemLists& lists) noexcept override {
    return tensor::guarded([&] { rank_users(dataset, capacity, job, lists); });
  }

  Outcome set_augmenter(std::shared_ptr<const augment::Augmenter> augmenter) noexcept override {
    return tensor::guarded([&] { augmenter_ = state_->prepared(std::move(augmenter)); });
  }

 private:
  Request read(std::string_view text) const {
    const Json json = parse_json(text, "request");
    if (!json.is_object()) refuse("", "expected an object");
    Request request;
    request.k = static_cast<std::size_t>(options_.k);
    request.exclude_seen = options_.exclude_seen;
    if (!json.contains("history")) refuse("/history", "is missing");
    for (const auto& [name, value] : json.items()) {
      if (name == "history") {
        read_history(value, request);
      } else if (name == "k") {
        request.k = static_cast<std::size_t>(internal::as_int(value, "k", {1, 100'000}));
      } else if (name == "key") {
        request.key = static_cast<std::uint64_t>(internal::as_int(value, "key", {0, INT64_MAX}));
      } else if (name == "exclude_seen") {
        request.exclude_seen = internal::as_flag(value, "exclude_seen");
      } else {
        const std::string nearest = nearest_name(name, {"history", "k", "key", "exclude_seen"});
        refuse("/" + name, "is not a member of a request" +
                               (nearest.empty() ? "" : "; did you mean '" + nearest + "'?"));
      }
    }
    return request;
  }

  void read_history(const Json& json, Request& request) const {
    if (!json.is_array()) refuse("/history", "expected an array of items");
    for (std::size_t i = 0; i < json.size(); ++i) {
      const Json& item = json[i];
      std::int64_t position = -1;
      if (item.is_number_integer()) {
        position = state_->items.numeric() ? state_->items.find(item.get<std::int64_t>())
                                           : state_->items.find(dump_json(item));
      } else if (item.is_string()) {
        position = state_->items.find(std::string_view(item.get_ref<const std::string&>()));
      } else {
        refuse("/history/" + std::to_string(i), "expected an integer or text");
      }
      if (position >= 0) {
        request.history.push_back(static_cast<std::int32_t>(position) + 1);
      } else {
        request.ignored.push_back(item);
      }
    }
    if (request.history.empty()) refuse_history(json.size());
  }

  const RowReader& score(std::span<const std::int32_t> history, std::optional<std::uint64_t> key,
                         bool exclude_seen, std::size_t best) {
    excluded_items(history, state_->scorer->rows(), exclude_seen, false, excluded_);
    NextItemQuery query;
    query.history = history;
    query.key = key;
    query.excluded = excluded_;
    query.best = std::min(best, static_cast<std::size_t>(state_->items.size()));
    state_->scorer->score({&query, 1}, augmenter_.get(), *scratch_, {&reader_, 1});
    return reader_;
  }

  Json item_name(std::int32_t id) const {
    const std::int64_t position = id - 1;
    return state_->items.numeric() ? Json(state_->items.number(position))
                                   : Json(state_->items.text(position));
  }

  Json answer(const Request& request) {
    const BestItems& best =
        score(request.history, request.key, request.exclude_seen, request.k).best();
    Json items = Json::array();
    for (std::size_t i = 0; i < best.ids().size(); ++i)
      items.push_back({{"id", item_name(best.ids()[i])}, {"score", best.scores()[i]}});
    Json json{{"items", std::move(items)},
              {"inputs", {{"used", request.history.size()}, {"ignored", request.ignored}}},
              {"model",
               {{"method", state_->method},
                {"version", state_->model_version},
                {"library", state_->library_version}}},
              {"limits", state_->limits}};
    if (augmenter_)
      json["augment"] = augment::AugmenterOptions::table().effective_json(augmenter_->options());
    return json;
  }

  void rank_items(const ItemHistory& history, RankedItems& ranked) {
    if (!state_->items.numeric()) {
      throw Error(Code::kUnsupported,
                  "this model's items are named by text; use theriac_session_recommend");
    }
    if (history.count > kLongestHistory) {
      throw Error(Code::kInvalidArgument, "count is " + std::to_string(history.count) +
                                              "; at most " + std::to_string(kLongestHistory) +
                                              " items a history")
          .at("argument", "count");
    }
    ids_.clear();
    for (std::uint64_t i = 0; i < history.count; ++i) {
      const std::int64_t position = state_->items.find(history.item[i]);
      if (position >= 0) ids_.push_back(static_cast<std::int32_t>(position) + 1);
    }
    ranked.ignored = history.count - ids_.size();
    if (ids_.empty()) refuse_history(static_cast<std::size_t>(history.count));
    const std::optional<std::uint64_t> key =
        history.key == nullptr ? std::nullopt : std::optional<std::uint64_t>(*history.key);
    const BestItems& best = score(ids_, key, options_.exclude_seen,
                                  static_cast<std::size_t>(std::min<std::uint64_t>(
                                      ranked.capacity, static_cast<std::uint64_t>(INT32_MAX))))
                                .best();
    ranked.count = best.ids().size();
    for (std::size_t i = 0; i < best.ids().size(); ++i) {
      ranked.item[i] = state_->items.number(best.ids()[i] - 1);
      ranked.score[i] = best.scores()[i];
    }
  }

  void rank_users(const Dataset& dataset, std::uint64_t capacity, Job& job,
                  ItemLists& lists) const {
    if (!dataset.sequences) {
      throw Error(
          Code::kInvalidArgument,
          "models of item sequences score data sets of kind sequences, not " + dataset.kind);
    }
    const MappedSequences users(*dataset.sequences, state_->items, Answers::kNone);
    const std::size_t best =
        std::min(static_cast<std::size_t>(state_->items.size()),
                 static_cast<std::size_t>(capacity == 0 ? static_cast<std::uint64_t>(options_.k)
                                                        : capacity));
    if (best != 0 && static_cast<std::size_t>(users.users()) > kMostListed / best) {
      throw Error(Code::kInvalidArgument,
                  "k, " + std::to_string(best) + " items for each of " +
                      std::to_string(users.users()) + " users, is more than " +
                      std::to_string(kMostListed) + " rows; ask for fewer or split the table")
          .at("option", "k");
    }
    struct List {
      std::vector<std::int32_t> ids;
      std::vector<float> scores;
    };
    std::vector<List> of_users(static_cast<std::size_t>(users.users()));
    score_users(
        users.users(), *state_->scorer, augmenter_.get(), threads_, job, "recommend",
        [&](std::int64_t user, UserQuery& room) {
          room.query = NextItemQuery{};
          room.query.history = users.history(user);
          room.query.best = best;
          excluded_items(room.query.history, state_->scorer->rows(), options_.exclude_seen, false,
                         room.excluded);
          room.query.excluded = room.excluded;
          return !room.query.history.empty();
        },
        [&](std::int64_t user, const RowReader& reader) {
          List& list = of_users[static_cast<std::size_t>(user)];
          list.ids.assign(reader.best().ids().begin(), reader.best().ids().end());
          list.scores.assign(reader.best().scores().begin(), reader.best().scores().end());
        });
    lists = ItemLists{};
    lists.names = std::shared_ptr<const data::Names>(state_, &state_->items);
    for (std::int64_t user = 0; user < users.users(); ++user) {
      const List& list = of_users[static_cast<std::size_t>(user)];
      for (const std::int32_t id : list.ids) lists.item.push_back(id - 1);
      lists.score.insert(lists.score.end(), list.scores.begin(), list.scores.end());
      lists.offsets.push_back(lists.item.size());
      lists.ignored.push_back(static_cast<std::int64_t>(dataset.sequences->of(user).size()) -
                              static_cast<std::int64_t>(users.history(user).size()));
    }
  }

  std::shared_ptr<const SequenceState> state_;
  SessionOptions options_;
  int threads_;
  std::shared_ptr<const augment::Augmenter> augmenter_;
  std::unique_ptr<ScorerScratch> scratch_;
  RowReader reader_;
  std::vector<std::int32_t> ids_, excluded_;
};

}  // namespace

Json sequence_documents() {
  const auto entry = [](const char* name, Json schema) {
    return Json{{"name", name}, {"family", "document"}, {"schema", std::move(schema)}};
  };
  return Json::array({entry("request.sequence", request_schema()),
                      entry("session.sequence", SessionOptions::table().schema()),
                      entry("model.evaluate.sequence", evaluation_schema())});
}

std::unique_ptr<Session> make_session(std::shared_ptr<const SequenceState> state,
                                      std::string_view options_json, int threads) {
  Json json = options_json.empty() ? Json::object() : parse_json(options_json, "session options");
  std::shared_ptr<const augment::Augmenter> augmenter;
  if (json.is_object() && json.contains("augment")) {
    augmenter = state->augmenter_of(json["augment"]);
    json.erase("augment");
  }
  const SessionOptions options = SessionOptions::table().parse(json);
  augmenter = state->prepared(std::move(augmenter));
  return std::make_unique<SequenceSession>(std::move(state), options, std::move(augmenter),
                                           threads);
}

}  // namespace theriac::sequence
