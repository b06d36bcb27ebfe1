#include "cpp/engine/train/fit_loop.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "cpp/engine/train/checkpoint.h"
#include "cpp/engine/train/optimizer.h"

namespace theriac::train {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool all_finite(const torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  for (const at::Tensor& parameter : module.parameters()) {
    if (!parameter.isfinite().all().item<bool>()) return false;
  }
  return true;
}

// One run. The order of events of an epoch: batches, validation, best weights, checkpoint,
// milestone; so that whoever stops the run at a milestone, or kills it afterwards, loses nothing
// that was reported.
class Run {
 public:
  Run(Trainable& trainable, const TrainOptions& options, std::uint64_t seed,
      const Checkpointing& checkpointing, Job& job, FitRecord& record)
      : trainable_(trainable),
        module_(trainable.module()),
        options_(options),
        seed_(seed),
        checkpointing_(checkpointing),
        job_(job),
        record_(record),
        optimizer_(module_, options),
        best_(tensor::snapshot_of(module_)) {}

  void run() {
    if (checkpointing_.resume) resume();
    while (epoch_ < options_.epochs && !out_of_patience()) run_epoch();
    record_.stopped = out_of_patience() ? "patience" : "epochs";
    module_.eval();
    restore_best();
  }

  // Weights of the best epoch so far; the initial ones before the first epoch has ended.
  void restore_best() { tensor::load_state(module_, best_); }
  // After a stop the module must hold usable weights. Without a complete epoch those at hand are
  // the best there are, unless they are not numbers. Keeps the failure that stopped the run if this
  // fails too.
  void restore_after_stop() noexcept {
    try {
      module_.eval();
      if (record_.best_epoch >= 0 || !all_finite(module_)) restore_best();
    } catch (...) {
    }
  }

 private:
  std::int64_t steps_per_epoch() const {
    return (trainable_.examples() + options_.batch_size - 1) / options_.batch_size;
  }

  bool out_of_patience() const {
    return options_.patience > 0 && selects_ &&
           epoch_ - 1 - record_.best_epoch >= options_.patience;
  }

  std::vector<std::int64_t> shuffled_examples() const {
    std::vector<std::int64_t> order(static_cast<std::size_t>(trainable_.examples()));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    Random(seed_, "fit.shuffle", static_cast<std::uint64_t>(epoch_)).shuffle(order);
    return order;
  }

  void run_epoch() {
    const auto start = std::chrono::steady_clock::now();
    EpochRecord epoch;
    epoch.epoch = epoch_;
    epoch.loss = train_epoch();
    if (!all_finite(module_)) fail("a weight is not a finite number after the epoch");
    const std::optional<Validation> validation = validate();
    if (validation) epoch.selection = validation->selection;
    epoch.seconds = seconds_since(start);
    finish_epoch(epoch, validation);
  }

  // Mean loss over the examples.
  double train_epoch() {
    module_.train();
    const std::vector<std::int64_t> order = shuffled_examples();
    double sum = 0;
    for (std::size_t begin = 0; begin < order.size();) {
      const std::size_t size =
          std::min(order.size() - begin, static_cast<std::size_t>(options_.batch_size));
      sum += train_batch({order.data() + begin, size}) * static_cast<double>(size);
      begin += size;
      job_.progress("fit", static_cast<std::uint64_t>(step_),
                    static_cast<std::uint64_t>(options_.epochs * steps_per_epoch()));
    }
    return sum / static_cast<double>(order.size());
  }

  double train_batch(std::span<const std::int64_t> batch) {
    const Step step{seed_, epoch_, step_};
    optimizer_.zero_grad();
    const at::Tensor loss = trainable_.loss(batch, step);
    const double value = loss.item<double>();
    if (!std::isfinite(value)) fail("the loss is " + std::to_string(value));
    loss.backward();
    optimizer_.step();
    ++step_;
    return value;
  }

  bool is_validated(std::int64_t epoch) const {
    return epoch >= options_.validate_from &&
           (epoch - options_.validate_from) % options_.validate_every == 0;
  }

  std::optional<Validation> validate() {
    if (!is_validated(epoch_)) return std::nullopt;
    module_.eval();
    const c10::InferenceMode inference;
    return trainable_.validate();
  }

  void finish_epoch(const EpochRecord& epoch, const std::optional<Validation>& validation) {
    // Until something has been validated the last epoch is the best; a first value then takes over.
    if (validation ? improves(validation->selection) : !selects_) keep_best(validation);
    if (validation) record_.selection_name = validation->name;
    selects_ = selects_ || validation.has_value();
    record_.epochs.push_back(epoch);
    ++epoch_;
    if (!checkpointing_.directory.empty()) write_checkpoint(checkpointing_.directory, checkpoint());
    job_.milestone("epoch", static_cast<std::uint64_t>(epoch_),
                   static_cast<std::uint64_t>(options_.epochs), metrics(epoch, validation));
  }

  // False for NaN: a validation without a value selects nothing.
  bool improves(double selection) const {
    return best_is_validated_ ? selection > best_selection_ + options_.min_delta
                              : !std::isnan(selection);
  }

  void keep_best(const std::optional<Validation>& validation) {
    record_.best_epoch = epoch_;
    if (validation) best_selection_ = validation->selection;
    best_is_validated_ = validation.has_value();
    best_ = tensor::snapshot_of(module_);
  }

  static std::string metrics(const EpochRecord& epoch,
                             const std::optional<Validation>& validation) {
    Json json{{"epoch", epoch.epoch}, {"loss", epoch.loss}, {"seconds", epoch.seconds}};
    if (validation) {
      json["selection"] = validation->selection;
      json["selection_name"] = validation->name;
      merge_json(json, parse_json(validation->metrics_json, "validation metrics", Code::kInternal));
    }
    return dump_json(json);
  }

  // Identity alone, for comparison; `checkpoint` adds the state.
  Checkpoint identity() const {
    Checkpoint checkpoint;
    checkpoint.identity = checkpointing_.identity;
    checkpoint.optimizer = options_.optimizer;
    checkpoint.seed = seed_;
    return checkpoint;
  }

  Checkpoint checkpoint() const {
    Checkpoint checkpoint = identity();
    checkpoint.epoch = epoch_;
    checkpoint.step = step_;
    checkpoint.record = record_;
    checkpoint.best_selection = best_selection_;
    checkpoint.module = tensor::state_of(module_);
    checkpoint.best = best_;
    checkpoint.optimizer_state = optimizer_.state();
    return checkpoint;
  }

  void resume() {
    std::optional<Checkpoint> found = read_checkpoint(checkpointing_.directory, identity());
    if (!found) return;
    tensor::load_state(module_, found->best);  // checks that the best weights fit
    best_ = tensor::snapshot_of(module_);
    tensor::load_state(module_, found->module);
    optimizer_.load_state(found->optimizer_state);
    record_ = std::move(found->record);
    best_selection_ = found->best_selection;
    selects_ = std::any_of(record_.epochs.begin(), record_.epochs.end(),
                           [](const EpochRecord& epoch) { return epoch.selection.has_value(); });
    best_is_validated_ =
        record_.best_epoch >= 0 &&
        record_.epochs.at(static_cast<std::size_t>(record_.best_epoch)).selection.has_value();
    epoch_ = found->epoch;
    step_ = found->step;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Code::kNumericError, "epoch " + std::to_string(epoch_) + ", step " +
                                         std::to_string(step_) + ": " + what +
                                         "; try a smaller learning_rate or clip_norm")
        .at("epoch", epoch_)
        .at("step", step_);
  }

  Trainable& trainable_;
  torch::nn::Module& module_;
  const TrainOptions& options_;
  const std::uint64_t seed_;
  const Checkpointing& checkpointing_;
  Job& job_;
  FitRecord& record_;
  NamedOptimizer optimizer_;
  tensor::NamedTensors best_;
  double best_selection_ = 0;  // of the best epoch, if that was validated
  bool best_is_validated_ = false;
  bool selects_ = false;  // an epoch was validated
  std::int64_t epoch_ = 0, step_ = 0;
};

void check(const Trainable& trainable, const TrainOptions& options,
           const Checkpointing& checkpointing) {
  if (trainable.examples() < 1) throw Error(Code::kDataError, "the training data has no examples");
  if (options.epochs < 0 || options.batch_size < 1) {
    throw Error(Code::kInvalidArgument, "training needs epochs >= 0 and batch_size >= 1");
  }
  if (!checkpointing.directory.empty()) {
    check_checkpoint_directory(checkpointing.directory);
  } else if (checkpointing.resume) {
    throw Error(Code::kInvalidArgument, "resume needs a checkpoint directory")
        .at("option", "resume");
  }
}

}  // namespace

const OptionTable<TrainOptions>& TrainOptions::table() {
  static const auto table =
      OptionTable<TrainOptions>("train", "How a model is trained")
          .integer("epochs", &TrainOptions::epochs, {0, 1'000'000}, "passes over the training data")
          .integer("batch_size", &TrainOptions::batch_size, {1, 1'000'000}, "examples a step")
          .choice("optimizer", &TrainOptions::optimizer, {"adam", "adamw", "sgd", "rmsprop"},
                  "update rule; sgd is plain, without momentum")
          .real("learning_rate", &TrainOptions::learning_rate, {0, 1e3, true}, "step size")
          .real("weight_decay", &TrainOptions::weight_decay, {0, 1e3},
                "L2 penalty; decoupled for adamw")
          .real("clip_norm", &TrainOptions::clip_norm, {0, 1e9},
                "largest global norm of the gradient; 0 does not clip")
          .integer("patience", &TrainOptions::patience, {0, 1'000'000},
                   "epochs without improvement before stopping; 0 never stops")
          .real("min_delta", &TrainOptions::min_delta, {0, 1e9},
                "gain of the validation metric that counts as improvement")
          .integer("validate_from", &TrainOptions::validate_from, {0, 1'000'000},
                   "first epoch, from 0, that is validated; patience counts from there")
          .integer("validate_every", &TrainOptions::validate_every, {1, 1'000'000},
                   "epochs from one validation to the next");
  return table;
}

at::Generator Step::generator(std::string_view purpose) const {
  return tensor::make_generator(seed, "step." + std::string(purpose),
                                static_cast<std::uint64_t>(number));
}

FitRecord fit(Trainable& trainable, const TrainOptions& options, std::uint64_t seed,
              const Checkpointing& checkpointing, Job& job, FitRecord* progress) {
  check(trainable, options, checkpointing);
  const c10::InferenceMode no_inference(false);  // whatever mode the caller's thread is in
  const torch::AutoGradMode with_grad(true);
  FitRecord own;
  FitRecord& record = progress ? *progress : own;
  record = {};
  Run run(trainable, options, seed, checkpointing, job, record);
  try {
    run.run();
  } catch (...) {
    if (tensor::current_failure().code == Code::kCancelled) record.stopped = "cancelled";
    run.restore_after_stop();
    throw;
  }
  return record;
}

}  // namespace theriac::train
