#include "cpp/engine/train/fit_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <limits>

#include "cpp/core/base/file.h"
#include "cpp/engine/nn/linear.h"

extern char** environ;

namespace theriac::train {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

fs::path scratch(const std::string& name) {
  const fs::path path = fs::path(testing::TempDir()) / ("theriac_fit_" + name);
  fs::remove_all(path);
  return path;
}

// |w - 3|^2 per example, w a single weight that starts at 0: what every optimiser must solve.
class Quadratic : public Trainable {
 public:
  Quadratic() { weight_ = module_.register_parameter("w", at::zeros({1})); }
  torch::nn::Module& module() override { return module_; }
  std::int64_t examples() const override { return 8; }
  at::Tensor loss(std::span<const std::int64_t> batch, const Step& step) override {
    EXPECT_TRUE(module_.is_training());
    if (on_loss) on_loss(step);
    batches.emplace_back(batch.begin(), batch.end());
    return (weight_ - 3).square().sum() * (step.number == poisoned ? std::nan("") : 1.0);
  }
  std::optional<Validation> validate() override {
    EXPECT_FALSE(module_.is_training());
    EXPECT_TRUE(c10::InferenceMode::is_enabled());
    validated.push_back(weight());
    if (selections.empty()) return std::nullopt;
    return Validation{selections[std::min(validated.size(), selections.size()) - 1], "score",
                      R"({"extra": 1})"};
  }
  double weight() const { return weight_.item<double>(); }

  std::function<void(const Step&)> on_loss;
  std::int64_t poisoned = -1;      // step with a NaN loss
  std::vector<double> selections;  // by epoch; none: no validation
  std::vector<double> validated;   // weight at the end of each epoch
  std::vector<std::vector<std::int64_t>> batches;

 private:
  torch::nn::Module module_;
  at::Tensor weight_;
};

// A regression on 24 points by a network with dropout, validated on its own loss: everything a
// resume must bring back (weights, moments, shuffles, dropout masks, best epoch) matters.
class Network : public Trainable {
 public:
  Network() {
    hidden_ = module_.register_module("hidden", nn::Linear(3, 8, 5, "hidden").ptr());
    output_ = module_.register_module("output", nn::Linear(8, 1, 5, "output").ptr());
    x_ = at::empty({24, 3});
    tensor::fill_normal(x_, 0, 1, 5, "x");
    y_ = x_.sin().sum(1, true);
  }
  torch::nn::Module& module() override { return module_; }
  std::int64_t examples() const override { return x_.size(0); }
  at::Tensor loss(std::span<const std::int64_t> batch, const Step& step) override {
    if (on_loss) on_loss(step);
    const at::Tensor rows = at::tensor(std::vector<std::int64_t>(batch.begin(), batch.end()));
    return error(x_.index_select(0, rows), y_.index_select(0, rows), step.generator("dropout"));
  }
  std::optional<Validation> validate() override {
    return Validation{-error(x_, y_, std::nullopt).item<double>(), "negative_error"};
  }

  std::function<void(const Step&)> on_loss;

 private:
  at::Tensor error(const at::Tensor& x, const at::Tensor& y,
                   const std::optional<at::Generator>& generator) {
    const at::Tensor h = tensor::dropout(at::tanh(hidden_->forward(x)), 0.3, generator);
    return (output_->forward(h) - y).square().mean();
  }

  torch::nn::Module module_;
  std::shared_ptr<nn::LinearImpl> hidden_, output_;
  at::Tensor x_, y_;
};

bool same(const tensor::NamedTensors& a, const tensor::NamedTensors& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].first != b[i].first || !a[i].second.equal(b[i].second)) return false;
  }
  return true;
}

TrainOptions short_run(std::int64_t epochs = 5) {
  TrainOptions options;
  options.epochs = epochs;
  options.batch_size = 7;
  options.learning_rate = 0.05;
  return options;
}

Failure failure_of(const std::function<void()>& body) { return tensor::guarded(body).failure(); }

TEST(FitLoop, EveryOptimiserFindsTheMinimum) {
  for (const char* optimizer : {"adam", "adamw", "sgd", "rmsprop"}) {
    Quadratic quadratic;
    TrainOptions options = short_run(200);
    options.optimizer = optimizer;
    Job job;
    const FitRecord record = fit(quadratic, options, 1, {}, job);
    EXPECT_NEAR(quadratic.weight(), 3, 0.05) << optimizer;
    EXPECT_LT(record.epochs.back().loss, record.epochs.front().loss);
    EXPECT_EQ(record.stopped, "epochs");
    EXPECT_EQ(record.best_epoch, 199);  // no validation: the last
    EXPECT_FALSE(quadratic.module().is_training());
  }
}

TEST(FitLoop, OneStepOfPlainDescent) {
  Quadratic quadratic;
  TrainOptions options = short_run(1);
  options.optimizer = "sgd";
  options.batch_size = 8;
  options.learning_rate = 0.25;
  Job job;
  const FitRecord record = fit(quadratic, options, 1, {}, job);
  EXPECT_DOUBLE_EQ(quadratic.weight(), 1.5);  // 0 - 0.25 * 2 * (0 - 3)
  EXPECT_DOUBLE_EQ(record.epochs[0].loss, 9);
}

TEST(FitLoop, ClipsTheGlobalNorm) {
  Quadratic quadratic;
  TrainOptions options = short_run(1);
  options.optimizer = "sgd";
  options.batch_size = 8;
  options.learning_rate = 0.25;
  options.clip_norm = 2;
  Job job;
  fit(quadratic, options, 1, {}, job);
  EXPECT_NEAR(quadratic.weight(), 0.5, 1e-6);  // gradient -6 clipped to -2
}

TEST(FitLoop, BatchesAreAKeyedShuffle) {
  const auto batches = [](std::uint64_t seed) {
    Quadratic quadratic;
    Job job;
    fit(quadratic, short_run(2), seed, {}, job);
    return quadratic.batches;
  };
  const auto first = batches(1);
  ASSERT_EQ(first.size(), 4U);  // 7 + 1, twice
  EXPECT_EQ(first[0].size(), 7U);
  EXPECT_EQ(first[1].size(), 1U);
  std::vector<std::int64_t> all(first[0]);
  all.insert(all.end(), first[1].begin(), first[1].end());
  EXPECT_THAT(all, testing::UnorderedElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_NE(first[0], first[2]);
  EXPECT_EQ(first, batches(1));
  EXPECT_NE(first, batches(2));
}

TEST(FitLoop, KeepsTheBestWeightsByValidation) {
  Quadratic quadratic;
  quadratic.selections = {0.1, 0.9, 0.3, 0.9};
  Job job;
  const FitRecord record = fit(quadratic, short_run(4), 1, {}, job);
  EXPECT_EQ(record.best_epoch, 1);  // the first of equals
  EXPECT_EQ(quadratic.weight(), quadratic.validated[1]);
  EXPECT_EQ(record.selection_name, "score");
  EXPECT_EQ(record.epochs[2].selection, 0.3);
}

TEST(FitLoop, StopsWithoutImprovement) {
  Quadratic quadratic;
  quadratic.selections = {0.5, 0.55, 0.59, 0.7, 0.1, 0.1, 0.1};
  TrainOptions options = short_run(50);
  options.patience = 3;
  options.min_delta = 0.1;  // 0.55 and 0.59 do not count, 0.7 does
  Job job;
  const FitRecord record = fit(quadratic, options, 1, {}, job);
  EXPECT_EQ(record.stopped, "patience");
  EXPECT_EQ(record.best_epoch, 3);
  EXPECT_EQ(record.epochs.size(), 7U);
}

TEST(FitLoop, AValidationWithoutAValueSelectsNothing) {
  Quadratic quadratic;
  quadratic.selections = {std::nan(""), 0.5, std::nan("")};
  Job job;
  EXPECT_EQ(fit(quadratic, short_run(3), 1, {}, job).best_epoch, 1);
}

TEST(FitLoop, ValidatesFromAnEpochOnAndEverySoOften) {
  Quadratic quadratic;
  quadratic.selections = {-5, -7, -6, -7, -8, -9};  // of epochs 3, 5, 7, ...
  TrainOptions options = short_run(20);
  options.validate_from = 3;
  options.validate_every = 2;
  options.patience = 6;
  Job job;
  const FitRecord record = fit(quadratic, options, 1, {}, job);
  std::vector<std::int64_t> validated;
  for (const EpochRecord& epoch : record.epochs) {
    if (epoch.selection) validated.push_back(epoch.epoch);
  }
  EXPECT_EQ(validated, (std::vector<std::int64_t>{3, 5, 7, 9}));
  EXPECT_EQ(record.best_epoch, 3);  // its value is below 0, and no epoch before it counts any more
  EXPECT_EQ(record.stopped, "patience");
  EXPECT_EQ(quadratic.weight(), quadratic.validated[0]);
}

TEST(FitLoop, WithoutAValidationSoFarTheLastEpochIsKept) {
  Quadratic quadratic;
  quadratic.selections = {0.5};
  TrainOptions options = short_run(4);
  options.validate_from = 100;
  Job job;
  EXPECT_EQ(fit(quadratic, options, 1, {}, job).best_epoch, 3);
}

TEST(FitLoop, NoNumberStopsTheRunAndRestoresTheBest) {
  Quadratic quadratic;
  quadratic.selections = {0.9, 0.1, 0.1};
  quadratic.poisoned = 5;  // epoch 2 with two steps an epoch
  Job job;
  const Failure failure = failure_of([&] { fit(quadratic, short_run(9), 1, {}, job); });
  EXPECT_EQ(failure.code, Code::kNumericError);
  EXPECT_THAT(failure.message, HasSubstr("epoch 2, step 5"));
  EXPECT_EQ(quadratic.weight(), quadratic.validated[0]);
}

TEST(FitLoop, NoNumberInTheFirstEpochRestoresTheStart) {
  Quadratic quadratic;
  Job job;
  TrainOptions options = short_run();
  options.optimizer = "sgd";
  options.learning_rate = std::numeric_limits<double>::infinity();
  const Failure failure = failure_of([&] { fit(quadratic, options, 1, {}, job); });
  EXPECT_EQ(failure.code, Code::kNumericError);
  EXPECT_EQ(quadratic.weight(), 0);
}

TEST(FitLoop, CancelKeepsTheBestSoFar) {
  Quadratic quadratic;
  quadratic.selections = {0.1, 0.9, 0.2, 0.3};
  const auto token = std::make_shared<CancelToken>();
  quadratic.on_loss = [&](const Step& step) {
    if (step.epoch == 3) token->request();
  };
  Job job(nullptr, token);
  FitRecord record;
  const Failure failure = failure_of([&] { fit(quadratic, short_run(9), 1, {}, job, &record); });
  EXPECT_EQ(failure.code, Code::kCancelled);
  EXPECT_EQ(record.stopped, "cancelled");
  EXPECT_EQ(record.best_epoch, 1);
  EXPECT_EQ(record.epochs.size(), 3U);
  EXPECT_EQ(quadratic.weight(), quadratic.validated[1]);
  EXPECT_FALSE(quadratic.module().is_training());
}

TEST(FitLoop, ReportsEpochsWithTheirMetrics) {
  Quadratic quadratic;
  quadratic.selections = {0.25};
  std::vector<Json> reports;
  Job job(
      [&](std::string_view phase, std::uint64_t done, std::uint64_t total,
          std::string_view metrics) {
        if (phase == "epoch") {
          EXPECT_EQ(done, reports.size() + 1);
          EXPECT_EQ(total, 3U);
          reports.push_back(parse_json(metrics, "metrics"));
        }
        return Verdict::kContinue;
      },
      nullptr, std::chrono::milliseconds(0));
  fit(quadratic, short_run(3), 1, {}, job);
  ASSERT_EQ(reports.size(), 3U);
  EXPECT_EQ(reports[0]["selection"], 0.25);
  EXPECT_EQ(reports[0]["selection_name"], "score");
  EXPECT_EQ(reports[0]["extra"], 1);
  EXPECT_GT(reports[0]["loss"], 0);
}

TEST(FitLoop, AFailedCallbackIsNotACancel) {
  Quadratic quadratic;
  Job job([](auto...) { return Verdict::kCallbackFailed; }, nullptr, std::chrono::milliseconds(0));
  FitRecord record;
  const Failure failure = failure_of([&] { fit(quadratic, short_run(3), 1, {}, job, &record); });
  EXPECT_EQ(failure.code, Code::kCallbackFailed);
  EXPECT_EQ(record.stopped, "");
}

TEST(FitLoop, WorksFromAThreadInInferenceMode) {
  Network network;
  const c10::InferenceMode inference;
  Job job;
  EXPECT_EQ(fit(network, short_run(1), 1, {}, job).epochs.size(), 1U);
}

TEST(FitLoop, RefusesWhatCannotBeTrained) {
  Quadratic quadratic;
  Job job;
  TrainOptions options;
  options.optimizer = "lbfgs";
  EXPECT_EQ(failure_of([&] { fit(quadratic, options, 1, {}, job); }).code, Code::kInvalidArgument);
  EXPECT_EQ(failure_of([&] {
              fit(quadratic, {}, 1, {"", true, ""}, job);
            }).code,
            Code::kInvalidArgument);
  EXPECT_EQ(failure_of([] {
              TrainOptions::table().parse(Json{{"batch_size", 0}});
            }).code,
            Code::kInvalidArgument);
  EXPECT_EQ(TrainOptions::table().parse(Json{{"epochs", 3}}).epochs, 3);
}

// Runs to the end of `first` epochs, then again, resumed, to the end of all.
TEST(Resume, ContinuesBitForBit) {
  for (const char* optimizer : {"adam", "adamw", "sgd", "rmsprop"}) {
    TrainOptions options = short_run(6);
    options.optimizer = optimizer;
    options.weight_decay = 0.01;
    Job job;
    Network whole;
    const FitRecord expected = fit(whole, options, 3, {}, job);
    const fs::path directory = scratch("resume");
    for (const std::int64_t epochs : {1, 3, 6}) {
      Network part;
      options.epochs = epochs;
      const FitRecord record = fit(part, options, 3, {directory.string(), true, "id"}, job);
      EXPECT_EQ(record.epochs.size(), static_cast<std::size_t>(epochs));
      if (epochs < 6) continue;
      EXPECT_TRUE(same(tensor::state_of(whole.module()), tensor::state_of(part.module())))
          << optimizer;
      EXPECT_EQ(record.best_epoch, expected.best_epoch);
      for (std::size_t i = 0; i < 6; ++i) {
        EXPECT_EQ(record.epochs[i].loss, expected.epochs[i].loss);
        EXPECT_EQ(record.epochs[i].selection, expected.epochs[i].selection);
      }
    }
  }
}

TEST(Resume, AFinishedRunOnlyRestoresItsBest) {
  const std::string directory = scratch("finished").string();
  Job job;
  Network first, second;
  fit(first, short_run(4), 3, {directory, false, "id"}, job);
  second.on_loss = [](const Step&) { FAIL() << "nothing is left to train"; };
  fit(second, short_run(4), 3, {directory, true, "id"}, job);
  EXPECT_TRUE(same(tensor::state_of(first.module()), tensor::state_of(second.module())));
}

TEST(Resume, RefusesAnotherRunNamingBoth) {
  const std::string directory = scratch("identity").string();
  Job job;
  Network network;
  fit(network, short_run(1), 3, {directory, false, "data-a"}, job);
  const auto failure = [&](const TrainOptions& options, std::uint64_t seed, const char* identity) {
    return failure_of([&] { fit(network, options, seed, {directory, true, identity}, job); });
  };
  const Failure other = failure(short_run(2), 3, "data-b");
  EXPECT_EQ(other.code, Code::kIncompatible);
  EXPECT_THAT(other.message, testing::AllOf(HasSubstr("data-a"), HasSubstr("data-b")));
  EXPECT_EQ(failure(short_run(2), 4, "data-a").code, Code::kIncompatible);
  TrainOptions sgd = short_run(2);
  sgd.optimizer = "sgd";
  EXPECT_EQ(failure(sgd, 3, "data-a").code, Code::kIncompatible);
  EXPECT_EQ(failure(short_run(2), 3, "data-a").code, Code::kOk);
}

TEST(Resume, WithoutACheckpointStartsAnew) {
  Job job;
  Network network;
  EXPECT_EQ(
      fit(network, short_run(1), 3, {scratch("none").string(), true, "id"}, job).epochs.size(), 1U);
}

TEST(Resume, RefusesDamageAndForeignDirectories) {
  const fs::path directory = scratch("damage");
  Job job;
  Network network;
  const auto failure = [&](bool resume) {
    return failure_of([&] {
      fit(network, short_run(2), 3, {directory.string(), resume, "id"}, job);
    });
  };
  fs::create_directories(directory);
  replace_file(directory / "thesis.tex", "years of work");
  EXPECT_EQ(failure(false).code, Code::kAlreadyExists);
  EXPECT_TRUE(fs::exists(directory / "thesis.tex"));
  fs::remove(directory / "thesis.tex");
  EXPECT_EQ(failure(false).code, Code::kOk);
  const std::string state = read_file(directory / "checkpoint.json");
  for (const std::string& bad :
       {std::string("{"), std::string("{}"), state.substr(0, state.size() / 2)}) {
    replace_file(directory / "checkpoint.json", bad);
    EXPECT_EQ(failure(true).code, Code::kDataError) << bad;
  }
  replace_file(directory / "checkpoint.json", state);
  const std::string tensors = read_file(directory / "checkpoint.safetensors");
  replace_file(directory / "checkpoint.safetensors", tensors.substr(0, tensors.size() / 2));
  EXPECT_EQ(failure(true).code, Code::kDataError);
}

// The kill test. This program starts itself again as a child that trains with checkpoints and dies
// by SIGKILL, from its own hand at a step, or from its parent's at any moment, which mostly falls
// into the writing of a checkpoint. Starting anew rather than forking: LibTorch's threads do not
// survive a fork.
constexpr char kChildDirectory[] = "THERIAC_TEST_FIT_DIRECTORY";
constexpr char kChildKillStep[] = "THERIAC_TEST_FIT_KILL_STEP";
constexpr std::int64_t kChildEpochs = 30;

TEST(KillChild, DISABLED_Trains) {
  const char* directory = std::getenv(kChildDirectory);
  if (!directory) GTEST_SKIP() << "only as a child of Resume.SurvivesKills";
  const char* step = std::getenv(kChildKillStep);
  std::int64_t left = step ? std::atoll(step) : -1;
  Network network;
  network.on_loss = [&](const Step&) {
    if (left-- == 0) raise(SIGKILL);
  };
  Job job;
  fit(network, short_run(kChildEpochs), 3, {directory, true, "id"}, job);
}

pid_t start_child(const fs::path& directory, const std::string& kill_step) {
  std::vector<std::string> words;
  for (char** item = environ; *item; ++item) words.emplace_back(*item);
  words.push_back(std::string(kChildDirectory) + "=" + directory.string());
  if (!kill_step.empty()) words.push_back(std::string(kChildKillStep) + "=" + kill_step);
  std::vector<char*> environment;
  for (std::string& word : words) environment.push_back(word.data());
  environment.push_back(nullptr);
  std::string program = "/proc/self/exe", filter = "--gtest_filter=KillChild.DISABLED_Trains";
  std::string disabled = "--gtest_also_run_disabled_tests", output = "--gtest_output=";
  char* arguments[] = {program.data(), filter.data(), disabled.data(), output.data(), nullptr};
  pid_t child = -1;
  EXPECT_EQ(posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, arguments, environment.data()),
            0);
  return child;
}

int wait_for(pid_t child) {
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

// Empty in the moment when a file system without atomic exchange has none.
std::string state_or_none(const fs::path& directory) {
  std::string text;
  const Failure failure = failure_of([&] { text = read_file(directory / "checkpoint.json"); });
  EXPECT_TRUE(failure.code == Code::kOk || failure.code == Code::kNotFound) << failure.message;
  return text;
}

TEST(Resume, SurvivesKills) {
  const fs::path directory = scratch("kills") / "checkpoint";
  fs::create_directories(directory.parent_path());
  Random random(17, "kills");
  for (int i = 0; i < 5; ++i) {  // 4 steps an epoch
    const int status = wait_for(start_child(directory, std::to_string(random.below(12))));
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
  }
  for (int i = 0; i < 5; ++i) {
    const pid_t child = start_child(directory, "");
    const std::string before = state_or_none(directory);
    while (waitpid(child, nullptr, WNOHANG) == 0) {
      if (state_or_none(directory) != before) {
        usleep(static_cast<useconds_t>(random.below(3000)));
        kill(child, SIGKILL);
        wait_for(child);
        break;
      }
    }
  }
  Network killed, whole;
  Job job;
  const FitRecord record =
      fit(killed, short_run(kChildEpochs), 3, {directory.string(), true, "id"}, job);
  const FitRecord expected = fit(whole, short_run(kChildEpochs), 3, {}, job);
  EXPECT_TRUE(same(tensor::state_of(killed.module()), tensor::state_of(whole.module())));
  EXPECT_EQ(record.best_epoch, expected.best_epoch);
  ASSERT_EQ(record.epochs.size(), expected.epochs.size());
  for (std::size_t i = 0; i < expected.epochs.size(); ++i) {
    EXPECT_EQ(record.epochs[i].loss, expected.epochs[i].loss) << i;
  }
}

}  // namespace
}  // namespace theriac::train
