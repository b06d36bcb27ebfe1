// A training run on disk: a directory with checkpoint.json and checkpoint.safetensors, replaced
// whole at the end of each epoch, so that a kill at any moment leaves the last complete one.
#pragma once

#include <optional>
#include <string>

#include "cpp/engine/train/fit_loop.h"

namespace theriac::train {

struct Checkpoint {
  std::string identity;   // of data, options and versions, from the caller
  std::string optimizer;  // kind
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;  // the next one to run
  std::int64_t step = 0;   // the next one to run
  FitRecord record;
  double best_selection = 0;  // meaningful when record.best_epoch >= 0
  tensor::NamedTensors module, best, optimizer_state;
};

// Throws kAlreadyExists when `directory` is there and is something else than a checkpoint: it would
// be replaced.
void check_checkpoint_directory(const std::string& directory);

void write_checkpoint(const std::string& directory, const Checkpoint& checkpoint);

// Nothing when there is none. Throws kDataError on a damaged one, and kIncompatible naming both
// sides when it belongs to another run than `expected` (identity, optimizer, seed).
std::optional<Checkpoint> read_checkpoint(const std::string& directory, const Checkpoint& expected);

}  // namespace theriac::train
