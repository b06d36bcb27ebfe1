// The one training loop: epochs, batches, validation, early stopping, best weights, checkpoint and
// resume, progress, cancel, NaN guard. Every method that learns by gradient steps is a Trainable.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/core/base/json.h"
#include "cpp/core/base/options.h"
#include "cpp/engine/tensor/tensor.h"

namespace theriac::train {

struct TrainOptions {
  std::int64_t epochs = 25;
  std::int64_t batch_size = 32;
  std::string optimizer = "adam";  // adam | adamw | sgd | rmsprop
  double learning_rate = 1e-3;
  double weight_decay = 0;
  double clip_norm = 0;       // 0: no clipping
  std::int64_t patience = 0;  // epochs without improvement before stopping; 0 never stops
  double min_delta = 0;       // what counts as improvement of the selection metric
  std::int64_t validate_from =
      0;  // the first epoch, 0-based, that is validated; none before it is kept
  std::int64_t validate_every = 1;  // epochs from one validation to the next
  static const OptionTable<TrainOptions>& table();
};

// One optimiser step's view of randomness and position. Every draw of step s is keyed by (seed, s),
// so a resumed run repeats an uninterrupted one bit for bit.
struct Step {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;   // 0-based
  std::int64_t number = 0;  // global step, 0-based
  // A generator for one purpose of this step.
  at::Generator generator(std::string_view purpose) const;
};

struct Validation {
  double selection = 0;             // higher is better
  std::string name;                 // e.g. "prauc"
  std::string metrics_json = "{}";  // what to report beside it
};

class Trainable {
 public:
  virtual ~Trainable() = default;
  virtual torch::nn::Module& module() = 0;
  virtual std::int64_t examples() const = 0;  // training examples
  virtual at::Tensor loss(std::span<const std::int64_t> batch,
                          const Step& step) = 0;                         // scalar, train mode
  virtual std::optional<Validation> validate() { return std::nullopt; }  // inference mode
};

struct Checkpointing {
  std::string directory;  // empty: no checkpoints
  bool resume = false;    // continue from the directory's checkpoint if there is one
  std::string identity;  // fingerprint of data, options and versions; another one refuses to resume
};

struct EpochRecord {
  std::int64_t epoch = 0;
  double loss = 0, seconds = 0;
  std::optional<double> selection;
};
struct FitRecord {
  std::vector<EpochRecord> epochs;
  std::int64_t best_epoch = -1;
  std::string selection_name, stopped;  // stopped: "epochs" | "patience" | "cancelled"
};

// Trains in place; at the end (also when cancelled, then rethrows kCancelled) the module holds the
// best weights by validation, or the last ones without validation, and is in evaluation mode.
// Batches are a Philox shuffle of the examples keyed by (seed, epoch). Throws kNumericError naming
// epoch and step on a non-finite loss, with the best weights restored (the initial ones when no
// epoch ended). A checkpoint is written at the end of every epoch; resuming from it after a kill
// gives the weights of an uninterrupted run bit for bit. `progress`, if given, holds the record so
// far also when this throws.
FitRecord fit(Trainable& trainable, const TrainOptions& options, std::uint64_t seed,
              const Checkpointing& checkpointing, Job& job, FitRecord* progress = nullptr);

// The record as it goes into a model's config.json.
Json record_json(const FitRecord& record);

}  // namespace theriac::train
