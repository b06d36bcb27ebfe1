// The model contract for item sequences: fit, save, load, import, evaluate, recommend, augment.
#include "cpp/engine/sequence/sequence_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "cpp/core/base/file.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/data/sequences_io.h"
#include "cpp/core/generate/sequences.h"
#include "cpp/engine/sequence/methods.h"
#include "cpp/engine/sequence/ranking_protocol.h"
#include "cpp/engine/sequence/sasrec.h"

namespace theriac::sequence {
namespace {

using ::testing::HasSubstr;
using testing_support::ScratchFolder;

constexpr char kSmallSasrec[] =
    R"({"hidden":16,"inner":32,"heads":2,"dropout":0.2,"attention_dropout":0.2,"max_length":20,
        "train":{"epochs":12,"batch_size":64,"learning_rate":0.003}})";
constexpr char kSmallGru[] =
    R"({"embedding":16,"hidden":24,"max_length":20,"train":{"epochs":20,"batch_size":64,"learning_rate":0.01}})";

Dataset dataset_of(data::Sequences sequences) {
  Dataset dataset;
  dataset.kind = "sequences";
  dataset.sequences = std::make_shared<const data::Sequences>(std::move(sequences));
  return dataset;
}

// Users who move along chains of items; the parts of one split.
struct Parts {
  Dataset train, valid, test;
};
const Parts& parts() {
  static const Parts made = [] {
    generate::SequenceOptions options;
    options.users = 800;
    options.items = 200;
    options.clusters = 20;
    options.popularity = 0.3;
    options.stickiness = 0.9;
    options.drift = 0;
    data::SequenceParts split = data::split_sequences(generate::generate_sequences(options), {});
    return Parts{dataset_of(std::move(split.train)), dataset_of(std::move(split.valid)),
                 dataset_of(std::move(split.test))};
  }();
  return made;
}

const MethodEntry& entry(const std::string& method) {
  static const std::vector<MethodEntry> entries = sequence_methods();
  for (const MethodEntry& e : entries) {
    if (e.name == method) return e;
  }
  throw Error(Code::kNotFound, method);
}

ContextSettings context(int threads = 1) {
  ContextSettings settings;
  settings.seed = 1;
  settings.runtime.threads = threads;
  return settings;
}

std::unique_ptr<Model> fitted(const std::string& method, const std::string& options = "{}") {
  auto model = entry(method).create(parse_json(options, "options"), context());
  Job job;
  model->fit(&parts().train, &parts().valid, "{}", job).or_throw();
  return model;
}
const Model& sasrec() {
  static const std::unique_ptr<Model> model = fitted("sasrec", kSmallSasrec);
  return *model;
}
const Model& gru4rec() {
  static const std::unique_ptr<Model> model = fitted("gru4rec", kSmallGru);
  return *model;
}

Json evaluated(const Model& model, const Dataset& data, const std::string& options = "{}") {
  Job job;
  std::string report;
  model.evaluate(data, options, job, report).or_throw();
  return parse_json(report, "report");
}
double hr10(const Json& report) { return report.at("metrics").at("hr@10").get<double>(); }

std::unique_ptr<Session> session_of(const Model& model, const std::string& options = "{}") {
  std::unique_ptr<Session> session;
  model.open_session(options, session).or_throw();
  return session;
}
Json recommended(Session& session, const std::string& request) {
  std::string answer;
  session.recommend(request, answer).or_throw();
  return parse_json(answer, "answer");
}
Failure refused(Outcome outcome) { return outcome.ok() ? Failure{} : outcome.failure(); }
std::shared_ptr<const augment::Augmenter> augmenter(const std::string& json) {
  augment::AugmenterOptions options;
  options.seed = 1;  // the context's
  augment::AugmenterOptions::table().update(options, parse_json(json, "augmenter"));
  return std::make_shared<const augment::Augmenter>(std::move(options));
}

struct Ranked {
  std::vector<std::int64_t> items;
  std::vector<float> scores;
  std::uint64_t ignored = 0;
};
Ranked history_ranked(Session& session, const std::vector<std::int64_t>& items, std::size_t k,
                      const std::uint64_t* key = nullptr) {
  Ranked out;
  out.items.resize(k);
  out.scores.resize(k);
  RankedItems ranked;
  ranked.capacity = k;
  ranked.item = out.items.data();
  ranked.score = out.scores.data();
  session.recommend_history({items.size(), items.data(), key}, ranked).or_throw();
  out.items.resize(ranked.count);
  out.scores.resize(ranked.count);
  out.ignored = ranked.ignored;
  return out;
}

TEST(SequenceModel, LearnsMoreThanWhatIsPopular) {
  const double popular = hr10(evaluated(*fitted("popularity"), parts().test));
  const double transformer = hr10(evaluated(sasrec(), parts().test));
  const double recurrent = hr10(evaluated(gru4rec(), parts().test));
  EXPECT_GT(transformer, popular + 0.2);
  EXPECT_GT(recurrent, popular + 0.1);
}

// Users {1, 2}, {1, 2, 3}, {3, 4}: similarities by counts are 2 / 2 of 1 and 2, 1 / 2 of 1 and 3.
TEST(SequenceModel, NeighboursAreOfTheSameUsers) {
  data::SequenceColumns columns;
  columns.users = data::Names(std::vector<std::int64_t>{1, 2, 3});
  columns.items = data::Names(std::vector<std::int64_t>{1, 2, 3, 4});
  columns.offsets = {0, 2, 5, 7};
  columns.ids = {1, 2, 1, 2, 3, 3, 4};
  const Dataset data = dataset_of(data::Sequences(std::move(columns)));
  auto model = entry("item_knn").create(Json{{"weighting", "item_cf"}, {"decay", 0.5}}, context());
  Job job;
  model->fit(&data, nullptr, "{}", job).or_throw();
  auto session = session_of(*model);
  const Ranked one = history_ranked(*session, {1}, 4);
  EXPECT_EQ(one.items, (std::vector<std::int64_t>{2, 3, 4}));
  EXPECT_NEAR(one.scores[0], 1, 1e-6);
  EXPECT_NEAR(one.scores[1], 0.5, 1e-6);
  EXPECT_EQ(one.scores[2], 0);
  // The latest item counts whole, the one before it half: 4 by 3 alone, 2 by 1 and by 3.
  const Ranked two = history_ranked(*session, {1, 3}, 4);
  EXPECT_EQ(two.items, (std::vector<std::int64_t>{2, 4}));
  EXPECT_NEAR(two.scores[0], 0.5 * 1 + 0.5, 1e-6);
  EXPECT_NEAR(two.scores[1], 1 / std::sqrt(2.0), 1e-6);
}

TEST(SequenceModel, ComesBackFromItsDirectory) {
  for (const Model* model : {&sasrec(), &gru4rec()}) {
    const ScratchFolder scratch;
    const std::string path = (scratch / "model").string();
    model->save(path, false).or_throw();
    const train::ModelDirectory contents = train::load_model_directory(path);
    const auto loaded = entry(contents.config.at("method").get<std::string>())
                            .load(contents, Json::object(), context());
    EXPECT_EQ(evaluated(*model, parts().test), evaluated(*loaded, parts().test));
    std::string info, again;
    model->info(info).or_throw();
    loaded->info(again).or_throw();
    EXPECT_EQ(info, again);
    auto one = session_of(*model), other = session_of(*loaded);
    EXPECT_EQ(history_ranked(*one, {3, 9, 1}, 10).scores,
              history_ranked(*other, {3, 9, 1}, 10).scores);
  }
}

TEST(SequenceModel, TheSameFitTwice) {
  const auto again = fitted("sasrec", kSmallSasrec);
  std::string info, other;
  sasrec().info(info).or_throw();
  again->info(other).or_throw();
  EXPECT_EQ(info, other);
}

TEST(SequenceModel, KeepsTheTablesOfSimilarItems) {
  const ScratchFolder scratch;
  const std::string path = (scratch / "model").string();
  sasrec().save(path, false).or_throw();
  const train::ModelDirectory contents = train::load_model_directory(path);
  const auto loaded = entry("sasrec").load(contents, Json::object(), context());
  for (const char* similar : {"item_cf", "item_cf_iuf", "dot", "cosine", "hybrid"}) {
    const std::string options =
        R"({"augment":{"op":"substitute","ratio":0.4,"similar":")" + std::string(similar) + "\"}}";
    EXPECT_EQ(evaluated(sasrec(), parts().test, options),
              evaluated(*loaded, parts().test, options));
  }
  // Another table, another answer.
  const auto by = [&](const char* similar) {
    return evaluated(sasrec(), parts().test,
                     std::string(R"({"augment":{"op":"substitute","similar":")") + similar + "\"}}")
        .at("metrics");
  };
  EXPECT_NE(by("item_cf"), by("cosine"));
}

// One user at a time, a thousand at once, on one thread or eight: the same ids and the same bits.
void expect_nobody_else_matters(const Model& model, const std::string& augment) {
  const data::Sequences& test = *parts().test.sequences;
  auto alone = session_of(model);
  if (!augment.empty()) alone->set_augmenter(augmenter(augment)).or_throw();
  const std::string options = augment.empty() ? "{}" : R"({"augment":)" + augment + "}";
  const double whole = hr10(evaluated(model, parts().test, options));
  std::int64_t hits = 0;
  for (std::int64_t user = 0; user < test.users(); ++user) {
    const auto all = test.of(user);
    std::vector<std::int64_t> history;
    for (const std::int32_t id : all.first(all.size() - 1))
      history.push_back(test.item_names().number(id - 1));
    const Ranked ranked = history_ranked(*alone, history, 10);
    const std::int64_t answer = test.item_names().number(all.back() - 1);
    hits += std::count(ranked.items.begin(), ranked.items.end(), answer);
    if (user % 100 == 0) {
      EXPECT_EQ(ranked.scores, history_ranked(*alone, history, 10).scores);
      for (const std::int64_t item : history)
        EXPECT_EQ(std::count(ranked.items.begin(), ranked.items.end(), item), 0);
    }
  }
  EXPECT_DOUBLE_EQ(static_cast<double>(hits) / static_cast<double>(test.users()), whole) << augment;
}

TEST(SequenceModel, NobodyElseMatters) {
  for (const char* augment : {"", R"({"op":"tmask_r"})", R"({"op":"tmask_b","mask_as":"block"})"}) {
    expect_nobody_else_matters(sasrec(), augment);
    expect_nobody_else_matters(gru4rec(), augment);
  }
  expect_nobody_else_matters(sasrec(), R"({"op":"tnoise","input_copies":3,"output_copies":2})");
}

// A data set's lists are those of each user alone, whoever else is in it, on one thread and on eight.
void expect_lists_of_each_alone(const Model& model, const std::string& augment) {
  const ScratchFolder scratch;
  const std::string path = (scratch / "model").string();
  model.save(path, false).or_throw();
  const train::ModelDirectory contents = train::load_model_directory(path);
  const auto threaded = entry(contents.config.at("method").get<std::string>())
                            .load(contents, Json::object(), context(8));
  const auto alone = session_of(model), on_eight = session_of(*threaded);
  if (!augment.empty()) {
    alone->set_augmenter(augmenter(augment)).or_throw();
    on_eight->set_augmenter(augmenter(augment)).or_throw();
  }
  const data::Sequences& test = *parts().test.sequences;
  Job job;
  ItemLists all;
  on_eight->recommend_sequences(parts().test, 7, job, all).or_throw();
  ASSERT_EQ(all.offsets.size(), static_cast<std::size_t>(test.users()) + 1);
  for (std::int64_t user = 0; user < test.users(); ++user) {
    std::vector<std::int64_t> history;
    for (const std::int32_t id : test.of(user)) history.push_back(test.item_names().number(id - 1));
    const Ranked one = history_ranked(*alone, history, 7);
    const std::uint64_t first = all.offsets[static_cast<std::size_t>(user)];
    ASSERT_EQ(all.offsets[static_cast<std::size_t>(user) + 1] - first, one.items.size());
    for (std::size_t i = 0; i < one.items.size(); ++i) {
      EXPECT_EQ(all.names->number(all.item[first + i]), one.items[i]) << user;
      EXPECT_EQ(all.score[first + i], one.scores[i]) << user;
    }
  }
}

TEST(SequenceModel, ListsOfADataSet) {
  for (const char* augment : {"", R"({"op":"tmask_r"})"}) {
    expect_lists_of_each_alone(sasrec(), augment);
    expect_lists_of_each_alone(gru4rec(), augment);
  }
}

TEST(SequenceModel, ListsSayWhatIsUnknown) {
  data::SequenceColumns columns;
  columns.users = data::Names(std::vector<std::int64_t>{5, 6, 7});
  columns.items = data::Names(std::vector<std::int64_t>{3, 9, 100'000, 100'001});
  columns.ids = {1, 3, 2, 3, 4};
  columns.offsets = {0, 3, 5, 5};  // known, unknown, known; only unknown; nothing
  const Dataset dataset = dataset_of(data::Sequences(std::move(columns)));
  const auto session = session_of(sasrec(), R"({"k": 4})");
  Job job;
  ItemLists lists;
  session->recommend_sequences(dataset, 0, job, lists).or_throw();
  EXPECT_EQ(lists.offsets, (std::vector<std::uint64_t>{0, 4, 4, 4}));
  EXPECT_EQ(lists.ignored, (std::vector<std::int64_t>{1, 2, 0}));
  const Ranked alone = history_ranked(*session, {3, 9}, 4);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(lists.names->number(lists.item[i]), alone.items[i]);
  // Popularity could list items for nobody at all.
  const auto popular = fitted("popularity");
  session_of(*popular, R"({"k": 4})")->recommend_sequences(dataset, 0, job, lists).or_throw();
  EXPECT_EQ(lists.offsets, (std::vector<std::uint64_t>{0, 4, 4, 4}));
  const Failure failure = refused(session->recommend_sequences(Dataset{}, 0, job, lists));
  EXPECT_EQ(failure.code, Code::kInvalidArgument);
  // More rows than an answer may have: refused before anything is scored.
  data::SequenceColumns crowd;
  std::vector<std::int64_t> names(
      (std::size_t{1} << 28U) / static_cast<std::size_t>(parts().train.sequences->items()) + 1);
  std::iota(names.begin(), names.end(), std::int64_t{0});
  crowd.users = data::Names(std::move(names));
  crowd.items = data::Names(std::vector<std::int64_t>{3});
  crowd.offsets.assign(static_cast<std::size_t>(crowd.users.size()) + 1, 0);
  const Failure many = refused(session->recommend_sequences(
      dataset_of(data::Sequences(std::move(crowd))), 100'000, job, lists));
  EXPECT_EQ(many.code, Code::kInvalidArgument);
  EXPECT_NE(many.message.find("rows"), std::string::npos) << many.message;
}

TEST(SequenceModel, OrderOfUsersPermutesResults) {
  const data::Sequences& test = *parts().test.sequences;
  data::SequenceColumns columns;
  columns.items = test.item_names();
  std::vector<std::int64_t> names;
  for (std::int64_t user = test.users(); user-- > 0;) {
    names.push_back(user);
    const auto own = test.of(user);
    columns.ids.insert(columns.ids.end(), own.begin(), own.end());
    columns.offsets.push_back(static_cast<std::int64_t>(columns.ids.size()));
  }
  columns.users = data::Names(names);
  const Dataset reversed = dataset_of(data::Sequences(std::move(columns)));
  const std::string options = R"({"augment":{"op":"tmask_r"}})";
  EXPECT_EQ(evaluated(sasrec(), parts().test, options).at("metrics"),
            evaluated(sasrec(), reversed, options).at("metrics"));
}

TEST(SequenceModel, AugmentersThatChangeNothing) {
  const Json plain = evaluated(sasrec(), parts().test);
  for (const char* same : {R"({"op":"tmask_r","ratio":0})", R"({"op":"original"})",
                           R"({"op":"tmask_r","original_weight":1})",
                           R"({"op":"tmask_b","ratio":0,"mask_as":"block"})"}) {
    const Json other =
        evaluated(sasrec(), parts().test, R"({"augment":)" + std::string(same) + "}");
    EXPECT_EQ(plain.at("metrics"), other.at("metrics")) << same;
  }
  EXPECT_NE(plain.at("metrics"),
            evaluated(sasrec(), parts().test, R"({"augment":{"op":"tmask_r"}})").at("metrics"));
}

// A user whose copies are all taken does not depend on the seed.
TEST(SequenceModel, EnumeratedCopiesNeedNoSeed) {
  auto one = session_of(sasrec()), two = session_of(sasrec());
  one->set_augmenter(augmenter(R"({"op":"tmask_r","exhaustive":10,"seed":1})")).or_throw();
  two->set_augmenter(augmenter(R"({"op":"tmask_r","exhaustive":10,"seed":2})")).or_throw();
  EXPECT_EQ(history_ranked(*one, {3, 9, 1, 7}, 10).scores,
            history_ranked(*two, {3, 9, 1, 7}, 10).scores);
  one->set_augmenter(augmenter(R"({"op":"tmask_r","seed":1})")).or_throw();
  two->set_augmenter(augmenter(R"({"op":"tmask_r","seed":2})")).or_throw();
  const std::vector<std::int64_t> longer{3, 9, 1, 7, 12, 30, 44, 2};
  EXPECT_NE(history_ranked(*one, longer, 10).scores, history_ranked(*two, longer, 10).scores);
  const std::uint64_t key = 5;
  EXPECT_EQ(history_ranked(*one, longer, 10, &key).scores,
            history_ranked(*one, longer, 10, &key).scores);
  EXPECT_NE(history_ranked(*one, longer, 10, &key).scores, history_ranked(*one, longer, 10).scores);
}

// The context's seed, 1 here, is that of augmenters which name none.
TEST(SequenceModel, SeedsOfTheContext) {
  const auto metrics = [](const char* augment) {
    return evaluated(sasrec(), parts().test, R"({"augment":)" + std::string(augment) + "}")
        .at("metrics");
  };
  EXPECT_EQ(metrics(R"({"op":"tmask_r"})"), metrics(R"({"op":"tmask_r","seed":1})"));
  EXPECT_NE(metrics(R"({"op":"tmask_r"})"), metrics(R"({"op":"tmask_r","seed":2})"));
}

std::map<std::int64_t, double> scores_of_all(Session& session,
                                             const std::vector<std::int64_t>& history) {
  const Ranked ranked = history_ranked(session, history, 1000);
  std::map<std::int64_t, double> out;
  for (std::size_t i = 0; i < ranked.items.size(); ++i) out[ranked.items[i]] = ranked.scores[i];
  return out;
}

// Section 6: the mean of user vectors scored once is the mean of the copies' scores.
TEST(SequenceModel, MeanOfVectorsIsMeanOfScores) {
  const std::vector<std::int64_t> history{3, 9, 1, 7, 12, 30};
  const augment::Augmenter ten(
      augment::AugmenterOptions::table().parse(Json{{"op", "tmask_r"}, {"seed", 1}}));
  std::vector<std::int32_t> ids(history.begin(), history.end());
  const augment::Copies copies = ten.apply(ids);
  auto plain = session_of(sasrec(), R"({"exclude_seen":false})"),
       augmented = session_of(sasrec(), R"({"exclude_seen":false,"augment":{"op":"tmask_r"}})");
  std::map<std::int64_t, double> mean;
  for (std::size_t c = 0; c < copies.size(); ++c) {
    const auto copy = copies.copy(c);
    for (const auto& [item, score] : scores_of_all(*plain, {copy.begin(), copy.end()}))
      mean[item] += copies.weights[c] * score;
  }
  const auto own = scores_of_all(*augmented, history);
  ASSERT_EQ(own.size(), mean.size());
  for (const auto& [item, score] : own) EXPECT_NEAR(score, mean[item], 1e-5) << item;
}

// A shift c changes the score of item i by exactly c times the sum of its vector.
TEST(SequenceModel, AShiftAddsTheSumOfAnItemsVector) {
  auto plain = session_of(sasrec()),
       shifted = session_of(sasrec(), R"({"augment":{"op":"original","shift":0.75}})");
  TensorView vectors;
  sasrec().tensor("item_embeddings.weight", vectors).or_throw();
  const auto before = scores_of_all(*plain, {3, 9, 1}), after = scores_of_all(*shifted, {3, 9, 1});
  const auto width = static_cast<std::size_t>(vectors.shape[1]);
  for (const auto& [item, score] : before) {
    const std::int64_t row = parts().test.sequences->item_names().find(item) + 1;
    const float* vector =
        static_cast<const float*>(vectors.data) + static_cast<std::size_t>(row) * width;
    double sum = 0;
    for (std::size_t c = 0; c < width; ++c) sum += vector[c];
    EXPECT_NEAR(after.at(item) - score, 0.75 * sum, 1e-5);
  }
}

TEST(SequenceModel, NoiseOfZeroMeanAveragesOut) {
  auto plain = session_of(sasrec());
  const auto distance = [&](const char* copies) {
    auto noisy = session_of(sasrec());
    noisy
        ->set_augmenter(
            augmenter(R"({"op":"tnoise","input_copies":0,"output_low":-0.5,"output_high":0.5,)"
                      R"("output_copies":)" +
                      std::string(copies) + "}"))
        .or_throw();
    const auto a = scores_of_all(*plain, {3, 9, 1}), b = scores_of_all(*noisy, {3, 9, 1});
    double sum = 0;
    for (const auto& [item, score] : a) sum += std::abs(score - b.at(item));
    return sum / static_cast<double>(a.size());
  };
  EXPECT_LT(distance("2000"), 0.1 * distance("2"));
}

TEST(SequenceModel, UnsupportedOperatorsSayWhatInstead) {
  auto recurrent = session_of(gru4rec());
  const Failure noise = refused(recurrent->set_augmenter(augmenter(R"({"op":"tnoise"})")));
  EXPECT_EQ(noise.code, Code::kUnsupported);
  EXPECT_THAT(noise.message, HasSubstr("tmask_r"));
  const auto popularity = fitted("popularity");
  auto counts = session_of(*popularity);
  for (const char* augment : {R"({"op":"tmask_b","mask_as":"block"})",
                              R"({"op":"original","shift":1})", R"({"op":"tnoise"})"})
    EXPECT_EQ(refused(counts->set_augmenter(augmenter(augment))).code, Code::kUnsupported)
        << augment;
  EXPECT_EQ(
      refused(counts->set_augmenter(augmenter(R"({"op":"substitute","similar":"dot"})"))).code,
      Code::kUnsupported);
  EXPECT_TRUE(counts->set_augmenter(augmenter(R"({"op":"tmask_b"})")).ok());
  auto session = session_of(sasrec());
  EXPECT_EQ(refused(session->set_augmenter(augmenter(R"({"op":"mask","mask_id":202})"))).code,
            Code::kInvalidArgument);
  EXPECT_TRUE(session->set_augmenter(augmenter(R"({"op":"mask","mask_id":201})")).ok());
  // A refused augmenter leaves the session as it was.
  session->set_augmenter(nullptr).or_throw();
  const auto before = history_ranked(*session, {3, 9, 1}, 5).scores;
  EXPECT_FALSE(session->set_augmenter(augmenter(R"({"op":"mask","mask_id":999})")).ok());
  EXPECT_EQ(history_ranked(*session, {3, 9, 1}, 5).scores, before);
}

TEST(SequenceModel, TuningPicksOnTheDataItIsGiven) {
  const Json report = evaluated(
      sasrec(), parts().valid,
      R"({"tune":[{"op":"tmask_r","ratio":0.3},{"op":"crop","ratio":0.1}],"select":"hr@10"})");
  ASSERT_EQ(report.at("grid").size(), 3U);
  EXPECT_TRUE(report.at("grid")[0].at("augment").is_null());
  double best = -1;
  Json winner;
  for (const Json& row : report.at("grid")) {
    const double value = row.at("metrics").at("hr@10").get<double>();
    if (value > best) {
      best = value;
      winner = row.at("augment");
    }
  }
  EXPECT_EQ(report.at("best").at("augment"), winner);
  EXPECT_DOUBLE_EQ(hr10(report), best);
  // Without a gain, plain prediction wins.
  const Json none = evaluated(sasrec(), parts().valid, R"({"tune":[{"op":"original"}]})");
  EXPECT_TRUE(none.at("best").at("augment").is_null());
  EXPECT_GE(evaluated(sasrec(), parts().valid, R"({"tune":true})").at("grid").size(), 10U);
  EXPECT_GE(evaluated(*fitted("popularity"), parts().valid, R"({"tune":true})").at("grid").size(),
            5U);
}

TEST(SequenceModel, EvaluationCountsWhatItCannotRank) {
  data::SequenceColumns columns;
  columns.users = data::Names(std::vector<std::int64_t>{1, 2, 3, 4, 5});
  columns.items = data::Names(std::vector<std::int64_t>{1, 2, 3, 999});
  columns.offsets = {0, 3, 5, 6, 8, 10};
  columns.ids = {1, 2, 3, 1, 4,
                 2, 4, 1, 2, 2};  // known; unknown answer; no history; unknown history; repeat
  const Json report = evaluated(sasrec(), dataset_of(data::Sequences(std::move(columns))));
  const Json& counts = report.at("counts");
  EXPECT_EQ(counts.at("answers"), 3);
  EXPECT_EQ(counts.at("unknown_answers"), 1);
  EXPECT_EQ(counts.at("without_history"), 2);
  EXPECT_EQ(counts.at("repeated_answers"), 1);
  EXPECT_EQ(counts.at("unknown_items"), 1);
}

TEST(SequenceModel, BadInput) {
  auto session = session_of(sasrec());
  std::string answer;
  const auto message = [&](const std::string& request) {
    const Failure failure = refused(session->recommend(request, answer));
    EXPECT_EQ(failure.code, Code::kInvalidArgument) << request;
    return failure.message;
  };
  EXPECT_THAT(message(R"({"history":[]})"), HasSubstr("empty"));
  EXPECT_THAT(message(R"({})"), HasSubstr("missing"));
  EXPECT_THAT(message(R"({"history":[7000,"x"]})"), HasSubstr("none of its 2 items"));
  EXPECT_THAT(message(R"({"history":[1.5]})"), HasSubstr("/history/0"));
  EXPECT_THAT(message(R"({"histroy":[1],"history":[1]})"), HasSubstr("did you mean 'history'"));
  EXPECT_THAT(message(R"({"history":[1],"k":0})"), HasSubstr("k"));
  EXPECT_THAT(message("[]"), HasSubstr("object"));
  const Json some = recommended(*session, R"({"history":[7000,3,"9"],"k":3})");
  EXPECT_EQ(some.at("inputs").at("used"), 2);
  EXPECT_EQ(some.at("inputs").at("ignored"), Json::array({7000}));
  EXPECT_EQ(some.at("items").size(), 3U);

  RankedItems ranked;
  EXPECT_EQ(refused(session->recommend_history({0, nullptr, nullptr}, ranked)).code,
            Code::kInvalidArgument);
  const std::vector<std::int64_t> longest(100'000, 5);
  EXPECT_EQ(history_ranked(*session, longest, 3).items.size(), 3U);
  EXPECT_EQ(history_ranked(*session, {3, -1, INT64_MAX}, 3).ignored, 2U);

  Job job;
  std::string report;
  Dataset cohort;
  cohort.cohort = std::make_shared<const data::Cohort>();
  EXPECT_THAT(refused(sasrec().evaluate(cohort, "{}", job, report)).message,
              HasSubstr("sequences"));
  for (const char* options :
       {R"({"cutoffs":[0]})", R"({"augment":{"op":"tmask_r","ratio":1}})",
        R"({"augment":{"op":"nope"}})", R"({"tune":[]})", R"({"tune":false})",
        R"({"tune":true,"augment":{"op":"tmask_r"}})",
        R"({"tune":[{"op":"tmask_r"}],"select":"hr@7"})", R"({"cutofs":[5]})", "[]"})
    EXPECT_EQ(refused(sasrec().evaluate(parts().test, options, job, report)).code,
              Code::kInvalidArgument)
        << options;
  const auto unfitted = entry("sasrec").create(Json::object(), context());
  EXPECT_EQ(refused(unfitted->evaluate(parts().test, "{}", job, report)).code, Code::kInvalidState);
  EXPECT_TRUE(testing_support::failure_of([] {
    entry("sasrec").create(Json{{"hidden", 10}, {"heads", 3}}, context());
  }));
}

TEST(SequenceModel, ImportsPublishedNames) {
  const ScratchFolder scratch;
  const std::string file = (scratch / "weights.safetensors").string();
  SasrecShape shape;
  shape.rows = parts().train.sequences->items() + 2;
  const Sasrec module(shape, 3);
  tensor::write_tensors(file, tensor::state_of(*module));
  const auto model = entry("sasrec").import(file, parts().train, Json::object(), context());
  EXPECT_EQ(evaluated(*model, parts().test).at("counts").at("answers"),
            parts().test.sequences->users());
  const auto failure = testing_support::failure_of([&] {
    entry("sasrec").import(file, parts().train, Json{{"hidden", 32}}, context());
  });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kDataError);
  EXPECT_THAT(failure->message, HasSubstr("item_embeddings.weight"));
  EXPECT_TRUE(testing_support::failure_of(
      [&] { entry("gru4rec").import(file, parts().train, Json::object(), context()); }));
}

// A folder whose files are not what was saved is refused by its hashes; one whose hashes fit but whose
// contents make no sense, by the reader.
TEST(SequenceModel, RefusesFoldersThatMakeNoSense) {
  const ScratchFolder scratch;
  const std::string path = (scratch / "model").string();
  sasrec().save(path, false).or_throw();
  const train::ModelDirectory good = train::load_model_directory(path);
  const auto refuses = [&](const char* file, const std::string& bytes) {
    train::ModelDirectory bad = good;
    bad.files[file] = bytes;
    const auto failure =
        testing_support::failure_of([&] { entry("sasrec").load(bad, Json::object(), context()); });
    EXPECT_TRUE(failure.has_value()) << file;
  };
  refuses("vocab.items.json", "{}");
  refuses("vocab.items.json", "[1, \"2\"]");
  refuses("vocab.items.json", "[1, 1]");
  refuses("vocab.items.json", "[]");
  refuses("vocab.items.json", "[1, 2, 3]");  // other shapes than the weights
  refuses("tables/item_cf.bin", "x");
  refuses("tables/item_cf.bin", std::string(200 * 8, '\xff'));
}

}  // namespace
}  // namespace theriac::sequence
