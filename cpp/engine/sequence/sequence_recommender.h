// What one method adds to the common model of item sequences (sequence_model.h): its parameters, how they
// are learned, and how they become a scorer. A recommender is built for one vocabulary and fitted or
// loaded once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/core/base/json.h"
#include "cpp/core/data/sequences.h"
#include "cpp/engine/sequence/next_item_scorer.h"
#include "cpp/engine/train/fit_loop.h"

namespace theriac::sequence {

struct FitData {
  const data::Sequences* train = nullptr;
  const data::Sequences* valid = nullptr;  // may be null
  const data::Names* items = nullptr;      // of the model
};

struct FitSettings {
  train::Checkpointing checkpointing;
  std::uint64_t seed = 0;
  int threads = 1;
};

class SequenceRecommender {
 public:
  virtual ~SequenceRecommender() = default;
  virtual Json effective_options() const = 0;
  // Parameters at their start values, for `items` items (ids 1 ... items).
  virtual void build(std::int64_t items, at::Device device, std::uint64_t seed) = 0;
  // Learns in place and returns what to record. When cancelled it keeps the best weights so far and
  // rethrows; `usable` tells whether there is something to keep.
  virtual Json fit(const FitData& data, const FitSettings& settings, Job& job, bool& usable) = 0;
  virtual tensor::NamedTensors state() const = 0;
  virtual std::int64_t parameters() const = 0;  // learned numbers
  // Throws kDataError on a tensor that is missing or has another shape.
  virtual void load(const tensor::NamedTensors& state) = 0;
  // On the CPU, whatever the device.
  virtual std::shared_ptr<const NextItemScorer> freeze() const = 0;
  // [items + 2, dim] on the CPU; undefined for methods without.
  virtual at::Tensor item_vectors() const { return {}; }
};

// A method as data: listed in methods.cpp.
struct SequenceMethod {
  std::string name, family, doc, paper;
  Json (*schema)() = nullptr;
  // From options as given; throws kInvalidArgument on unknown keys.
  std::unique_ptr<SequenceRecommender> (*make)(const Json& options) = nullptr;
};
const std::vector<SequenceMethod>& sequence_method_table();

}  // namespace theriac::sequence
