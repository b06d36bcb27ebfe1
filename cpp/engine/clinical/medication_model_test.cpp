#include "cpp/engine/clinical/medication_model.h"

#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cpp/core/base/file.h"
#include "cpp/core/data/split.h"
#include "cpp/engine/clinical/medication_test_cohorts.h"
#include "cpp/engine/clinical/methods.h"

namespace theriac::clinical {
namespace {

using testing::CohortShape;
using testing::generated_cohort;
using testing::TemporaryFolder;

Dataset dataset_of(data::Cohort cohort) {
  Dataset dataset;
  dataset.cohort = std::make_shared<const data::Cohort>(std::move(cohort));
  return dataset;
}

const MethodEntry& entry(const std::string& method) {
  static const std::vector<MethodEntry> entries = clinical_methods();
  for (const MethodEntry& e : entries) {
    if (e.name == method) return e;
  }
  throw Error(Code::kNotFound, method);
}

ContextSettings context(std::uint64_t seed = 1) {
  ContextSettings settings;
  settings.seed = seed;
  return settings;
}

std::unique_ptr<Model> create(const std::string& method, const std::string& options,
                              std::uint64_t seed = 1) {
  return entry(method).create(parse_json(options, "options"), context(seed));
}

std::unique_ptr<Model> load(const std::string& directory) {
  const train::ModelDirectory contents = train::load_model_directory(directory);
  return entry(contents.config["method"].get<std::string>())
      .load(contents, Json::object(), context());
}

Json evaluate(const Model& model, const Dataset& dataset, const std::string& options = "{}") {
  Job job;
  std::string report;
  model.evaluate(dataset, options, job, report).or_throw();
  return parse_json(report, "report");
}

Json info(const Model& model) {
  std::string json;
  model.info(json).or_throw();
  return parse_json(json, "info");
}

void fit(Model& model, const Dataset& train, const Dataset* valid = nullptr,
         const std::string& options = "{}") {
  Job job;
  model.fit(&train, valid, options, job).or_throw();
}

Code code_of(const Outcome& outcome) { return outcome.failure().code; }

template <class Call>
Code thrown_by(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return Code::kOk;
}

// Options of every method that keep a test short.
const char* quick_options(const std::string& method) {
  if (method == "gamenet") {
    return R"({"encoder": {"dim": 16}, "tree": {"epochs": 2}, "train": {"epochs": 3}, "graph_dropout": 0})";
  }
  if (method == "retain") {
    return R"({"encoder": {"dim": 16, "use_id": true, "use_relation": false}, "train": {"epochs": 3}})";
  }
  return "{}";
}

struct Split {
  explicit Split(const CohortShape& shape = {}) {
    data::SplitOptions options;
    options.valid = options.test = 0.2;
    data::SplitParts parts = data::split_cohort(generated_cohort(shape), options);
    train = dataset_of(std::move(parts.train));
    valid = dataset_of(std::move(parts.valid));
    test = dataset_of(std::move(parts.test));
  }
  Dataset train, valid, test;
};

class EveryMethod : public ::testing::TestWithParam<std::string> {};

TEST_P(EveryMethod, FitsEvaluatesSavesAndLoads) {
  const Split split;
  auto model = create(GetParam(), quick_options(GetParam()));
  fit(*model, split.train, &split.valid);
  const Json before = evaluate(*model, split.test);
  EXPECT_GT(before["metrics"]["prauc"].get<double>(), 0.1);
  EXPECT_EQ(before["config"]["threshold"], 0.3);
  EXPECT_EQ(before["config"]["aggregation"], "per_sample");
  EXPECT_TRUE(before.contains("limits"));

  const TemporaryFolder folder;
  model->save(folder / "model", false).or_throw();
  EXPECT_EQ(code_of(model->save(folder / "model", false)), Code::kAlreadyExists);
  const auto loaded = load(folder / "model");
  EXPECT_EQ(dump_json(evaluate(*loaded, split.test)), dump_json(before));
  EXPECT_EQ(info(*loaded)["model_version"], info(*model)["model_version"]);
  EXPECT_EQ(info(*loaded), info(*model));

  // What was loaded saves to the same bytes.
  loaded->save(folder / "again", false).or_throw();
  for (const char* name : {"config.json", "model.safetensors", "vocab.diagnoses.txt",
                           "vocab.procedures.txt", "vocab.classes.txt"}) {
    EXPECT_EQ(read_file(folder / (std::string("model/") + name)),
              read_file(folder / (std::string("again/") + name)))
        << name;
  }
}

TEST_P(EveryMethod, SameSeedSameModel) {
  const Split split;
  auto a = create(GetParam(), quick_options(GetParam()));
  auto b = create(GetParam(), quick_options(GetParam()));
  fit(*a, split.train, &split.valid);
  fit(*b, split.train, &split.valid);
  EXPECT_EQ(info(*a), info(*b));
}

TEST_P(EveryMethod, RefusesWorkBeforeItIsFitted) {
  const Split split;
  const auto model = create(GetParam(), "{}");
  EXPECT_EQ(info(*model)["fitted"], false);
  Job job;
  std::string text;
  std::unique_ptr<Session> session;
  TensorView view;
  const TemporaryFolder folder;
  EXPECT_EQ(code_of(model->evaluate(split.test, "{}", job, text)), Code::kInvalidState);
  EXPECT_EQ(code_of(model->save(folder / "model", false)), Code::kInvalidState);
  EXPECT_EQ(code_of(model->open_session("{}", session)), Code::kInvalidState);
  EXPECT_EQ(code_of(model->tensor("output.weight", view)), Code::kInvalidState);
}

TEST_P(EveryMethod, RefusesOtherData) {
  auto model = create(GetParam(), "{}");
  Dataset nothing;
  nothing.kind = "interactions";
  Job job;
  EXPECT_EQ(code_of(model->fit(&nothing, nullptr, "{}", job)), Code::kInvalidArgument);
  EXPECT_EQ(code_of(model->fit(nullptr, nullptr, "{}", job)), Code::kInvalidArgument);
  const Dataset empty = dataset_of(data::Cohort(data::CohortColumns{}));
  EXPECT_EQ(code_of(model->fit(&empty, nullptr, "{}", job)), Code::kDataError);
  EXPECT_EQ(info(*model)["fitted"], false);
}

TEST_P(EveryMethod, UnknownOptionsNameTheNearest) {
  try {
    create(GetParam(), R"({"treshold": 0.5})");
    FAIL() << "expected kInvalidArgument";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("threshold"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(entry(GetParam()).schema()["properties"].contains("threshold"));
}

TEST_P(EveryMethod, ReadsCohortsWithOtherVocabularies) {
  const Split split;
  auto model = create(GetParam(), quick_options(GetParam()));
  fit(*model, split.train);
  CohortShape wider;
  wider.diagnoses = 90;
  wider.procedures = 30;
  wider.classes = 16;
  wider.seed = 9;
  const Json report = evaluate(*model, dataset_of(generated_cohort(wider)));
  EXPECT_GT(report["inputs"]["diagnoses"]["outside_vocabulary"].get<int>(), 0);
  EXPECT_GT(report["counts"]["targets_outside_classes"].get<int>(), 0);
  if (GetParam() == "gamenet") {
    EXPECT_EQ(report["inputs"]["diagnoses"]["unusable"], 0);  // relation and position read any code
  } else if (GetParam() == "logistic_regression") {
    EXPECT_EQ(report["inputs"]["diagnoses"]["unusable"],
              report["inputs"]["diagnoses"]["outside_vocabulary"]);
  }
}

TEST_P(EveryMethod, TensorsAreViewsByName) {
  const Split split;
  auto model = create(GetParam(), quick_options(GetParam()));
  fit(*model, split.train);
  const Json first = info(*model)["tensors"][0];
  TensorView view;
  model->tensor(first["name"].get<std::string>(), view).or_throw();
  EXPECT_EQ(Json(view.shape), first["shape"]);
  EXPECT_NE(view.data, nullptr);
  EXPECT_EQ(code_of(model->tensor("no such tensor", view)), Code::kNotFound);
}

INSTANTIATE_TEST_SUITE_P(Methods, EveryMethod,
                         ::testing::Values("gamenet", "retain", "most_frequent", "nearest_visit",
                                           "logistic_regression"));

// -------------------------------------------------------------------------------------------------
// directories

struct Saved {
  Saved() {
    auto model = create("gamenet", quick_options("gamenet"));
    fit(*model, split.train);
    model->save(directory(), false).or_throw();
  }
  std::string directory() const { return folder / "model"; }
  Split split;
  TemporaryFolder folder;
};

TEST(MedicationModel, RefusesAnotherVocabulary) {
  const Saved saved;
  const std::string path = saved.directory() + "/vocab.diagnoses.txt";
  std::string text = read_file(path);
  const std::size_t end = text.find('\n') + 1;
  text = text.substr(end) + text.substr(0, end);  // the same codes in another order
  replace_file(path, text);
  EXPECT_EQ(thrown_by([&] { load(saved.directory()); }), Code::kIncompatible);

  // Also when the file's own hash is made to fit: the vocabulary's hash still does not.
  train::ModelDirectory contents;
  {
    replace_file(path, text.substr(text.size() - end) + text.substr(0, text.size() - end));
    contents = train::load_model_directory(saved.directory());
  }
  contents.files["vocab.diagnoses.txt"] = text;
  EXPECT_EQ(thrown_by([&] { entry("gamenet").load(contents, Json::object(), context()); }),
            Code::kIncompatible);
}

// Tables of similar codes travel with the model; one without them has no such operators.
TEST(MedicationModel, AugmentsWithSimilarCodes) {
  const Split split;
  const auto model = create("retain", quick_options("retain"));
  fit(*model, split.train);
  const auto by = [&](const Model& one, const char* similar) {
    return evaluate(one, split.test,
                    R"({"augment":{"op":"substitute","ratio":0.9,"similar":")" +
                        std::string(similar) + "\"}}")
        .at("metrics");
  };
  EXPECT_NE(by(*model, "item_cf"), evaluate(*model, split.test).at("metrics"));
  EXPECT_NE(dump_json(info(*model)["augmenters"]).find("substitute"), std::string::npos);
  const TemporaryFolder folder;
  model->save(folder / "model", false).or_throw();
  train::ModelDirectory contents = train::load_model_directory(folder / "model");
  const auto loaded = entry("retain").load(contents, Json::object(), context());
  for (const char* similar : {"item_cf", "item_cf_iuf"})
    EXPECT_EQ(by(*loaded, similar), by(*model, similar));

  contents.files["tables/item_cf.diagnoses.bin"].pop_back();
  EXPECT_EQ(thrown_by([&] { entry("retain").load(contents, Json::object(), context()); }),
            Code::kDataError);
  std::erase_if(contents.files, [](const auto& file) { return file.first.starts_with("tables/"); });
  const auto without = entry("retain").load(contents, Json::object(), context());
  EXPECT_EQ(info(*without)["augmenters"].size(), info(*model)["augmenters"].size() - 2);
  Job job;
  std::string report;
  EXPECT_EQ(code_of(without->evaluate(
                split.test, R"({"augment":{"op":"insert","similar":"item_cf"}})", job, report)),
            Code::kUnsupported);
}

TEST(MedicationModel, RefusesTensorsThatDoNotFit) {
  const Saved saved;
  train::ModelDirectory contents = train::load_model_directory(saved.directory());
  contents.tensors.pop_back();
  EXPECT_EQ(thrown_by([&] { entry("gamenet").load(contents, Json::object(), context()); }),
            Code::kDataError);
}

TEST(MedicationModel, RefusesDamagedLines) {
  const Saved saved;
  const train::ModelDirectory good = train::load_model_directory(saved.directory());
  for (const char* line : {"nosystem 4280\n", "icd9cm\n", "icd9cm \n", "\n"}) {
    train::ModelDirectory contents = good;
    contents.files["vocab.procedures.txt"] = line;
    EXPECT_EQ(thrown_by([&] { entry("gamenet").load(contents, Json::object(), context()); }),
              Code::kDataError)
        << line;
  }
}

TEST(MedicationModel, LoadOptionsAreRefused) {
  const Saved saved;
  const train::ModelDirectory contents = train::load_model_directory(saved.directory());
  EXPECT_EQ(thrown_by([&] {
              entry("gamenet").load(contents, {{"threshold", 0.5}}, context());
            }),
            Code::kInvalidArgument);
}

TEST(MedicationModel, InteractionTableTravelsWithTheModel) {
  const Split split;
  const TemporaryFolder folder;
  const data::Vocabulary& classes = split.train.cohort->vocabulary(data::Field::kMedications);
  std::ofstream(folder / "pairs.csv") << "atc3_a,atc3_b\n"
                                      << classes.code(0).text << ',' << classes.code(1).text << '\n'
                                      << classes.code(2).text << ',' << classes.code(5).text << '\n'
                                      << "V01A,V03A\n";
  const std::string options = R"({"interactions": ")" + (folder / "pairs.csv") +
                              R"(", "encoder": {"dim": 8, "use_id": true, "use_relation": false},
        "train": {"epochs": 2}, "loss": {"interactions": true, "target_rate": 0.01}})";
  auto model = create("gamenet", options);
  fit(*model, split.train);
  model->save(folder / "model", false).or_throw();
  std::filesystem::remove(folder / "pairs.csv");
  const auto loaded = load(folder / "model");
  const Json report = evaluate(*loaded, split.test);
  EXPECT_EQ(report["config"]["interactions"]["pairs_among_classes"], 2);
  EXPECT_EQ(dump_json(report), dump_json(evaluate(*model, split.test)));
  EXPECT_EQ(info(*loaded)["interactions"]["pairs"], 3);
}

// -------------------------------------------------------------------------------------------------
// fitting

TEST(MedicationModel, SelectsOnValidation) {
  const Split split;
  auto model = create("gamenet",
                      R"({"encoder": {"dim": 16, "use_relation": false}, "train": {"epochs": 6}})");
  fit(*model, split.train, &split.valid);
  const Json training = info(*model)["training"];
  const Json& epochs = training["fit"]["epochs"];
  ASSERT_EQ(epochs.size(), 6U);
  double best = 0;
  for (const Json& epoch : epochs) best = std::max(best, epoch["selection"].get<double>());
  EXPECT_EQ(training["fit"]["selection_name"], "prauc");
  // The weights kept are those of the best epoch: they measure the same again.
  EXPECT_EQ(training["metrics"]["values"]["prauc"].get<double>(), best);
  EXPECT_EQ(evaluate(*model, split.valid)["metrics"]["prauc"].get<double>(), best);
}

TEST(MedicationModel, LearnsMoreThanFrequencies) {
  CohortShape shape;
  shape.patients = 150;
  const Split split(shape);
  auto frequent = create("most_frequent", "{}");
  fit(*frequent, split.train);
  auto logistic = create("logistic_regression", "{}");
  fit(*logistic, split.train);
  auto gamenet =
      create("gamenet", R"({"encoder": {"dim": 32, "use_id": true, "use_relation": false},
                                       "train": {"epochs": 25, "learning_rate": 0.005}})");
  fit(*gamenet, split.train, &split.valid);
  const auto prauc = [&](const Model& m) {
    return evaluate(m, split.test)["metrics"]["prauc"].get<double>();
  };
  EXPECT_GT(prauc(*logistic), prauc(*frequent) + 0.1);
  EXPECT_GT(prauc(*gamenet), prauc(*frequent) + 0.1);
}

TEST(MedicationModel, CancelledFitKeepsTheBestSoFar) {
  const Split split;
  auto model =
      create("retain", R"({"encoder": {"dim": 8, "use_id": true, "use_relation": false}})");
  Job job(
      [](std::string_view phase, std::uint64_t done, std::uint64_t, std::string_view) {
        return phase == "epoch" && done == 2 ? Verdict::kCancel : Verdict::kContinue;
      },
      nullptr, std::chrono::milliseconds(0));
  EXPECT_EQ(code_of(model->fit(&split.train, &split.valid, "{}", job)), Code::kCancelled);
  EXPECT_EQ(info(*model)["fitted"], true);
  EXPECT_GT(evaluate(*model, split.test)["metrics"]["prauc"].get<double>(), 0.0);
}

TEST(MedicationModel, CancelledBeforeTheFirstEpochKeepsNothing) {
  const Split split;
  auto model =
      create("retain", R"({"encoder": {"dim": 8, "use_id": true, "use_relation": false}})");
  auto cancel = std::make_shared<CancelToken>();
  cancel->request();
  Job job(nullptr, cancel);
  EXPECT_EQ(code_of(model->fit(&split.train, nullptr, "{}", job)), Code::kCancelled);
  EXPECT_EQ(info(*model)["fitted"], false);
}

TEST(MedicationModel, ResumesToTheSameWeights) {
  const Split split;
  const TemporaryFolder folder;
  const char* options =
      R"({"encoder": {"dim": 8, "use_id": true, "use_relation": false}, "train": {"epochs": 4}})";
  auto whole = create("gamenet", options);
  fit(*whole, split.train, &split.valid);

  const std::string checkpoint =
      R"({"checkpoint": ")" + (folder / "checkpoint") + R"(", "resume": true})";
  auto broken = create("gamenet", options);
  Job job(
      [](std::string_view phase, std::uint64_t done, std::uint64_t, std::string_view) {
        return phase == "epoch" && done == 2 ? Verdict::kCancel : Verdict::kContinue;
      },
      nullptr);
  EXPECT_EQ(code_of(broken->fit(&split.train, &split.valid, checkpoint, job)), Code::kCancelled);
  auto resumed = create("gamenet", options);
  fit(*resumed, split.train, &split.valid, checkpoint);
  EXPECT_EQ(info(*resumed), info(*whole));

  auto other = create("gamenet", options, /*seed=*/2);
  Job other_job;
  EXPECT_EQ(code_of(other->fit(&split.train, &split.valid, checkpoint, other_job)),
            Code::kIncompatible);
}

TEST(MedicationModel, VocabularyIsWhatOccursInTraining) {
  const Split split;
  auto model = create("most_frequent", "{}");
  fit(*model, split.train);
  auto whole = create("most_frequent", R"({"vocabulary": "dataset"})");
  fit(*whole, split.train);
  const auto size = [](const Model& m, const char* field) {
    return info(m)["vocabularies"][field]["size"].get<std::int64_t>();
  };
  EXPECT_LT(size(*model, "diagnoses"), size(*whole, "diagnoses"));
  EXPECT_EQ(size(*model, "classes"),
            size(*whole, "classes"));  // a class of no training visit keeps its place
}

TEST(MedicationModel, ClassesCanBeNamed) {
  const Split split;
  auto model = create("most_frequent", R"({"classes": ["C01A", "c03a", "X99X"]})");
  fit(*model, split.train);
  EXPECT_EQ(info(*model)["classes"], (Json{"C01A", "C03A", "X99X"}));
  const Json report = evaluate(*model, split.test);
  EXPECT_GT(report["counts"]["targets_outside_classes"].get<int>(), 0);
}

TEST(MedicationModel, ConstUseIsConcurrent) {
  const Split split;
  auto model = create("gamenet", quick_options("gamenet"));
  fit(*model, split.train);
  const std::string expected = dump_json(evaluate(*model, split.test));
  const Json expected_info = info(*model);
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      EXPECT_EQ(dump_json(evaluate(*model, split.test)), expected);
      EXPECT_EQ(info(*model), expected_info);
    });
  }
}

// -------------------------------------------------------------------------------------------------
// options

TEST(MedicationModel, OriginalFormBringsItsDefaults) {
  const Json options =
      info(*create("gamenet", R"({"form": "original", "train": {"epochs": 3}})"))["options"];
  EXPECT_EQ(options["encoder"]["dim"], 64);
  EXPECT_EQ(options["encoder"]["use_id"], true);
  EXPECT_EQ(options["encoder"]["use_relation"], false);
  EXPECT_EQ(options["train"]["batch_size"], 1);
  EXPECT_EQ(options["train"]["epochs"], 3);
  EXPECT_EQ(options["threshold"], 0.5);
  EXPECT_EQ(options["loss"]["margin"], 0.01);
  EXPECT_EQ(info(*create("gamenet", "{}"))["options"]["encoder"]["dim"], 128);
}

TEST(MedicationModel, ContradictingOptionsAreRefused) {
  for (const char* options : {R"({"form": "original", "encoder": {"use_relation": true}})",
                              R"({"loss": {"interactions": true}})",
                              R"({"encoder": {"dim": 64}, "tree": {"dim": 32}})"}) {
    EXPECT_EQ(thrown_by([&] { create("gamenet", options); }), Code::kInvalidArgument) << options;
  }
}

TEST(MedicationModel, OriginalFormFits) {
  CohortShape shape;
  shape.patients = 12;
  const Split split(shape);
  auto model =
      create("gamenet", R"({"form": "original", "encoder": {"dim": 8}, "train": {"epochs": 2}})");
  fit(*model, split.train, &split.valid);
  EXPECT_GT(evaluate(*model, split.test)["metrics"]["prauc"].get<double>(), 0.0);
}

// ------------------------------------------------------------------------------- learning by heart
// (12.8, property 8)

double jaccard_after_overfitting(const Dataset& dataset, const std::string& options) {
  auto model = create("gamenet", options);
  fit(*model, dataset);
  return evaluate(*model, dataset, R"({"threshold": 0.5})")["metrics"]["jaccard"].get<double>();
}

constexpr char kOverfit[] =
    R"({"graph_dropout": 0, "encoder": {"dim": 64, "use_id": true, "use_relation": false},
                                "train": {"epochs": 150, "batch_size": 8, "learning_rate": 0.005}})";

TEST(MedicationModel, OverfitsAFewGeneratedVisits) {
  CohortShape shape;
  shape.patients = 7;
  const Dataset dataset = dataset_of(generated_cohort(shape));
  EXPECT_GT(jaccard_after_overfitting(dataset, kOverfit), 0.95);
}

TEST(MedicationModel, OverfitsTwentyVisitsOfTheDemo) {
  const auto data = testing::data_folder();
  if (!data) GTEST_SKIP() << "no data folder with the demos' golden visits";
  const data::Cohort demo = testing::fixture_cohort(*data, "mimic-iv-demo.single");
  std::int64_t patients = 0;
  while (demo.last_visit(patients) < 20) ++patients;
  const Dataset dataset = dataset_of(testing::first_patients(demo, patients + 1));
  ASSERT_GE(dataset.cohort->visits(), 20);
  EXPECT_GT(jaccard_after_overfitting(dataset, kOverfit), 0.95);
}

// -------------------------------------------------------------------------- the Nearest column of
// section 12.6

struct NearestRow {
  const char* fixture;
  double jaccard, f1;
  int predicted;
  int truth_interacting, truth_pairs;
};

class Nearest : public ::testing::TestWithParam<NearestRow> {};

TEST_P(Nearest, GivesTheNumbersOfTheSpec) {
  const auto data = testing::data_folder();
  if (!data) GTEST_SKIP() << "no data folder with the demos' golden visits";
  const NearestRow& row = GetParam();
  const Dataset demo = dataset_of(testing::fixture_cohort(*data, row.fixture));
  const std::string pairs = (*data / "clinical" / "ddi" / "ddi_atc3_pairs.csv").string();
  auto model = create("nearest_visit", R"({"interactions": ")" + pairs + "\"}");
  fit(*model, demo);
  const Json report =
      evaluate(*model, demo, R"({"skip_first": true, "aggregation": "per_patient"})");
  EXPECT_EQ(report["counts"]["visits"], row.predicted);
  EXPECT_NEAR(report["metrics"]["jaccard"].get<double>(), row.jaccard, 5e-5);
  EXPECT_NEAR(report["metrics"]["f1"].get<double>(), row.f1, 5e-5);
  if (row.truth_pairs > 0) {
    const Json truth = evaluate(*model, demo)["ground_truth"];
    EXPECT_EQ(truth["pairs_interacting"], row.truth_interacting);
    EXPECT_EQ(truth["pairs"], row.truth_pairs);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Demos, Nearest,
    ::testing::Values(NearestRow{"mimic-iii-demo.single", 0.4648, 0.6170, 25, 628, 7945},
                      NearestRow{"mimic-iv-demo.single", 0.4604, 0.6140, 94, 1625, 24535},
                      NearestRow{"mimic-iv-demo.multi", 0.4570, 0.6097, 94, 0, 0}),
    [](const auto& instance) {
      std::string name = instance.param.fixture;
      for (char& c : name) c = c == '-' || c == '.' ? '_' : c;
      return name;
    });

}  // namespace
}  // namespace theriac::clinical
