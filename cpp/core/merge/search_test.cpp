#include "cpp/core/merge/search.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/toy_for_test.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
using tensorfile::DType;
using tensorfile::ModelFiles;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing_support::detail;
using testing_support::failure_of;
using testing_support::ScratchFolder;

// Models of one number; merging them by task arithmetic gives base + sum of weights times differences.
class Searches : public testing::Test {
 protected:
  Searches() {
    write("base", {0, 0});
    write("x", {1, 0});
    write("y", {0, 1});
    options_.leaves = {"models[*].parameters.weight=0:1"};
    options_.trial.merge.working_folder = scratch_.path();
    options_.trial.seed = 3;
    options_.evaluations = 150;
    options_.tolerance = 1e-2;  // every evaluation is a merge, on disk
  }
  void write(const std::string& name, const std::vector<float>& values) {
    fs::create_directories(scratch_ / name);
    tensorfile::write_file(
        scratch_ / name / "model.safetensors",
        {{"w",
          DType::kF32,
          {values.size()},
          {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)}}});
  }
  static std::vector<float> read(const fs::path& model) {
    return toy::floats(ModelFiles::open(model), "w");
  }
  // Best at weights (.25, .625).
  Evaluator peak() {
    return [this](const fs::path& model) {
      ++calls_;
      EXPECT_TRUE(model.is_absolute());
      const auto w = read(model);
      return -std::pow(w[0] - 0.25, 2) - std::pow(w[1] - 0.625, 2);
    };
  }
  Json search(const Evaluator& evaluate) {
    Job job;
    return search_coefficients(kRecipe, "r.yml", scratch_ / "out", options_, evaluate, job);
  }
  Json soup(const std::vector<std::string>& models, const Evaluator& evaluate) {
    SoupOptions options;
    options.trial = options_.trial;
    options.models = models;
    Job job;
    return greedy_soup(scratch_ / "out", options, evaluate, job);
  }
  // What stands beside the models and the output.
  std::vector<std::string> leftovers() {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(scratch_.path())) {
      const std::string name = entry.path().filename().string();
      if (name.front() == '.') out.push_back(name);
    }
    return out;
  }

  static constexpr const char* kRecipe =
      "merge_method: task_arithmetic\nbase_model: base\nmodels:\n"
      "  - {model: x, parameters: {weight: 0.9}}  # a comment\n"
      "  - {model: y, parameters: {weight: 0.9}}\n";
  ScratchFolder scratch_;
  CoefficientOptions options_;
  int calls_ = 0;
};

TEST_F(Searches, FindTheBestCoefficients) {
  const Json report = search(peak());
  EXPECT_GT(report["best"]["score"].get<double>(), -1e-3);
  EXPECT_NEAR(report["best"]["values"]["models[0].parameters.weight"].get<double>(), 0.25, 0.03);
  EXPECT_NEAR(report["best"]["values"]["models[1].parameters.weight"].get<double>(), 0.625, 0.03);
  // The output is the best candidate's merge, with its recipe, comments kept.
  const auto merged = read(scratch_ / "out");
  EXPECT_FLOAT_EQ(merged[0], report["best"]["values"]["models[0].parameters.weight"].get<float>());
  EXPECT_EQ(read_file(scratch_ / "out" / "mergekit_config.yml"),
            report["recipe"].get<std::string>());
  EXPECT_THAT(report["recipe"].get<std::string>(), HasSubstr("# a comment"));
  EXPECT_EQ(report["evaluations"].size(), static_cast<std::size_t>(calls_));
  // The first is the recipe as it was written.
  EXPECT_EQ(report["evaluations"][0]["values"]["models[0].parameters.weight"], 0.9);
  EXPECT_THAT(leftovers(), IsEmpty());
}

TEST_F(Searches, MinimizeWhenAsked) {
  options_.trial.minimize = true;
  const auto up = peak();
  const Json report = search([&](const fs::path& model) { return -up(model); });
  EXPECT_LT(report["best"]["score"].get<double>(), 1e-3);
}

TEST_F(Searches, AreDecidedByTheSeed) {
  options_.evaluations = 10;
  options_.trial.overwrite = true;
  const auto history = [this](std::uint64_t seed) {
    options_.trial.seed = seed;
    return search(peak())["evaluations"];
  };
  const Json first = history(5);
  EXPECT_EQ(history(5), first);
  EXPECT_NE(history(6), first);
}

TEST_F(Searches, StayInsideTheBounds) {
  options_.sigma = 3;
  options_.tolerance = 3e-2;
  options_.leaves = {"models[0].parameters.weight=0.8:1", "models[1].parameters.weight=-2:4"};
  const Json report = search(peak());
  for (const Json& evaluation : report["evaluations"]) {
    const double a = evaluation["values"]["models[0].parameters.weight"].get<double>();
    const double b = evaluation["values"]["models[1].parameters.weight"].get<double>();
    EXPECT_TRUE(a >= 0.8 && a <= 1 && b >= -2 && b <= 4) << a << " " << b;
  }
  EXPECT_NEAR(report["best"]["values"]["models[0].parameters.weight"].get<double>(), 0.8, 0.05);
}

TEST_F(Searches, StopWhenConverged) {
  options_.evaluations = 5000;
  const Json report = search(peak());
  EXPECT_EQ(report["stopped"], "converged");
  EXPECT_LT(report["evaluations"].size(), 400U);
}

TEST_F(Searches, GoOnAfterAStopWithoutRepeatingAnEvaluation) {
  options_.evaluations = 40;
  const Json whole = search(peak());
  fs::remove_all(scratch_ / "out");
  calls_ = 0;
  const auto up = peak();
  const auto failure = failure_of([&] {
    search([&](const fs::path& model) {
      if (calls_ == 17) throw Error(Code::kCancelled, "enough");
      return up(model);
    });
  });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kCancelled);
  EXPECT_THAT(failure->message, HasSubstr("best recipe so far"));
  EXPECT_FALSE(fs::exists(scratch_ / "out"));
  EXPECT_THAT(read_file(detail(*failure, "best")), HasSubstr("merge_method: task_arithmetic"));
  EXPECT_FALSE(fs::exists(scratch_ / ".out.search" / "candidate"));
  options_.trial.resume = true;
  const Json resumed = search(up);
  EXPECT_EQ(calls_, 40);
  EXPECT_EQ(resumed["evaluations_resumed"], 17);
  EXPECT_EQ(resumed["evaluations"], whole["evaluations"]);
  EXPECT_EQ(resumed["recipe"], whole["recipe"]);
  EXPECT_THAT(leftovers(), IsEmpty());
}

TEST_F(Searches, RefuseToResumeAnotherSearch) {
  const auto stop = [](const fs::path&) -> double { throw Error(Code::kCancelled, "stop"); };
  options_.trial.resume = true;
  const auto code = [&] {
    const auto failure = failure_of([&] { search(stop); });
    return failure ? failure->code : Code::kOk;
  };
  EXPECT_EQ(code(), Code::kCancelled);
  EXPECT_EQ(code(), Code::kCancelled);
  options_.sigma = 0.1;
  EXPECT_EQ(code(), Code::kIncompatible);
  options_.sigma = 0.3;
  write("y", {0, 2, 3});
  EXPECT_EQ(code(), Code::kIncompatible);
  options_.trial.resume = false;
  write("y", {0, 1});
  EXPECT_EQ(code(), Code::kCancelled);
  replace_file(scratch_ / ".out.search" / "search.json", "{\"identity\": 3");
  options_.trial.resume = true;
  EXPECT_EQ(code(), Code::kDataError);
}

TEST_F(Searches, AreAloneAtTheirOutput) {
  const auto failure = failure_of([&] {
    search([&](const fs::path&) -> double {
      CoefficientOptions same = options_;
      Job job;
      search_coefficients(kRecipe, "r.yml", scratch_ / "out", same, peak(), job);
      return 0;
    });
  });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kBusy);
}

TEST_F(Searches, PassOverCandidatesWithoutAScore) {
  const auto up = peak();
  const Json report = search([&](const fs::path& model) {
    const double score = up(model);
    return read(model)[0] > 0.5 ? std::numeric_limits<double>::quiet_NaN() : score;
  });
  EXPECT_TRUE(report["evaluations"][0]["score"].is_null());
  EXPECT_GT(report["best"]["score"].get<double>(), -1e-3);
  fs::remove_all(scratch_ / "out");
  options_.evaluations = 5;
  const auto failure = failure_of([&] { search([](const fs::path&) { return std::nan(""); }); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kNumericError);
}

TEST_F(Searches, RefuseBadInput) {
  const auto code = [this](const std::function<void()>& change) {
    const CoefficientOptions before = options_;
    change();
    const auto failure = failure_of([&] { search(peak()); });
    options_ = before;
    return failure ? failure->code : Code::kOk;
  };
  EXPECT_EQ(code([this] { options_.leaves = {}; }), Code::kInvalidArgument);
  EXPECT_EQ(code([this] { options_.leaves = {"nothing=0:1"}; }), Code::kInvalidArgument);
  EXPECT_EQ(code([this] { options_.evaluations = 0; }), Code::kInvalidArgument);
  EXPECT_EQ(code([this] { options_.sigma = 0; }), Code::kInvalidArgument);
  EXPECT_EQ(code([this] { options_.population = 1; }), Code::kInvalidArgument);
  EXPECT_EQ(calls_, 0);
  EXPECT_THAT(leftovers(), IsEmpty());
  fs::create_directories(scratch_ / "out");
  replace_file(scratch_ / "out" / "mine.txt", "keep");
  EXPECT_EQ(code([] {}), Code::kAlreadyExists);
  EXPECT_EQ(calls_, 0);
}

// ---- soup --------------------------------------------------------------------------------------

TEST_F(Searches, MakeASoupOfWhatHelps) {
  // Best at 4: 3 alone is best, 6 helps (4.5), 100 does not, 1 helps again (3.33 is nearer).
  write("a", {1});
  write("b", {100});
  write("c", {3});
  write("d", {6});
  std::vector<float> seen;
  const Json report = soup({"a", "b", "c", "d"}, [&](const fs::path& model) {
    seen.push_back(read(model)[0]);
    return -std::abs(seen.back() - 4.0);
  });
  // Alone, then in descending order of those scores: c (-1), d (-2), a (-3), b (-96).
  EXPECT_THAT(seen, ElementsAre(1, 100, 3, 6, 4.5, testing::FloatNear(10.0F / 3, 1e-5F),
                                testing::FloatNear(109.0F / 3, 1e-4F)));
  EXPECT_EQ(report["best"]["models"], Json::array({2, 3}));
  EXPECT_DOUBLE_EQ(report["best"]["score"].get<double>(), -0.5);
  EXPECT_EQ(report["evaluations"][4]["added"], true);
  EXPECT_EQ(report["evaluations"][5]["added"], false);
  EXPECT_EQ(read(scratch_ / "out")[0], 4.5F);
  EXPECT_THAT(leftovers(), IsEmpty());
}

TEST_F(Searches, AddAnEqualToTheSoup) {
  write("a", {1});
  write("b", {3});
  const Json report = soup({"a", "b"}, [](const fs::path&) { return 7.0; });
  EXPECT_EQ(report["best"]["models"], Json::array({0, 1}));
  EXPECT_EQ(read(scratch_ / "out")[0], 2.0F);
}

TEST_F(Searches, LeaveModelsWithoutAScoreOutOfTheSoup) {
  write("a", {1});
  write("b", {3});
  options_.trial.minimize = true;
  const Json report = soup({"a", "b"}, [](const fs::path& model) {
    const float w = read(model)[0];
    return w == 1 ? std::nan("") : static_cast<double>(w);
  });
  EXPECT_EQ(report["best"]["models"], Json::array({1}));
  EXPECT_EQ(report["evaluations"].size(), 2U);
}

TEST_F(Searches, ResumeASoup) {
  for (const char* name : {"a", "b", "c"}) write(name, {static_cast<float>(name[0])});
  int calls = 0;
  const auto failure = failure_of([&] {
    soup({"a", "b", "c"}, [&](const fs::path&) -> double {
      if (calls == 4) throw Error(Code::kCallbackFailed, "down");
      return ++calls;
    });
  });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kCallbackFailed);
  options_.trial.resume = true;
  const Json report = soup({"a", "b", "c"}, [&](const fs::path&) -> double { return ++calls; });
  EXPECT_EQ(report["evaluations_resumed"], 4);
  EXPECT_EQ(report["evaluations"].size(), 5U);
  EXPECT_EQ(calls, 5);
}

}  // namespace
}  // namespace theriac::merge
