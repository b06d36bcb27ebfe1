// What one method adds to the common medication model (medication_model.h): its parameters, how
// they are learned and how they become a scorer. A recommender is built for one set of vocabularies
// and fitted or loaded once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/core/base/json.h"
#include "cpp/core/codes/interactions.h"
#include "cpp/core/data/policy.h"
#include "cpp/core/metrics/multilabel.h"
#include "cpp/engine/clinical/backbone.h"
#include "cpp/engine/clinical/tree_pretraining.h"
#include "cpp/engine/eval/visit_scorer.h"
#include "cpp/engine/train/fit_loop.h"

namespace theriac::clinical {

// Options that every method of this family has.
struct MedicationOptions {
  double threshold = 0.3;        // recommended: probability >= threshold
  std::int64_t max_visits = 10;  // the latest visits of a patient that are read
  std::string interactions;      // CSV file of interacting classes; empty: none
  std::string vocabulary =
      "training";  // training | dataset: codes that occur in training, or all it knows
  std::vector<std::string> classes;  // ATC level-3 classes to recommend; empty: the data set's
};

// ... and that every learned backbone has.
struct BackboneOptions : MedicationOptions {
  EncoderOptions encoder;
  TreeOptions tree;  // how relation vectors are trained; dim is the encoder's
  data::ListOptions
      lists;  // official code lists as trees; without one, the codes and their rule-made ancestors
  std::string table_cache;  // folder of relation tables made before; empty: none
  train::TrainOptions train;
};

// Data to learn from; `valid` may be null.
struct FitData {
  const Vocabularies* vocabularies = nullptr;
  const MappedCohort* train = nullptr;
  const MappedCohort* valid = nullptr;
  std::vector<Sample> samples;                            // of train
  const codes::InteractionTable* interactions = nullptr;  // null: none
};

struct FitSettings {
  train::Checkpointing checkpointing;
  std::uint64_t seed = 0;
  int threads = 1;
};

// Fixed before parameters exist. `setup.vocabularies` must outlive the recommender.
struct Surroundings {
  BackboneSetup setup;
  at::Device device = at::kCPU;
};

class Recommender {
 public:
  virtual ~Recommender() = default;
  virtual const MedicationOptions& options() const = 0;
  virtual Json effective_options() const = 0;
  // Null for methods without code vectors.
  virtual const BackboneOptions* backbone_options() const { return nullptr; }
  // Whether the co-occurrence graph may use validation patients too.
  virtual bool graph_from_all() const { return false; }

  // Parameters at their start values.
  virtual void build(const Surroundings& surroundings) = 0;
  // Learns in place and returns what to record. When cancelled it keeps the best weights so far and
  // rethrows; `usable` tells whether there is something to keep.
  virtual Json fit(const FitData& data, const FitSettings& settings, Job& job, bool& usable) = 0;
  virtual tensor::NamedTensors state() const = 0;
  virtual std::int64_t parameters() const = 0;  // learned numbers
  virtual void load(const tensor::NamedTensors& state) = 0;

  // On the CPU, whatever the device.
  virtual std::shared_ptr<const FrozenScorer> freeze() const = 0;
  virtual std::shared_ptr<const CodeEncoder> encoder(data::Field) const { return nullptr; }
  // Scores on the device in batches; null where the frozen scorer is the way.
  virtual std::unique_ptr<eval::VisitScorer> device_scorer(const ReadCohort&) const {
    return nullptr;
  }
};

// A method as data: listed in methods.cpp.
struct MedicationMethod {
  std::string name, family, doc, paper;
  Json (*schema)() = nullptr;
  // From options as given; throws kInvalidArgument on unknown keys.
  std::unique_ptr<Recommender> (*make)(const Json& options) = nullptr;
};
const std::vector<MedicationMethod>& medication_method_table();

// Scores by a frozen scorer: exact, on the CPU, the same for any number of threads.
class FrozenCohortScorer : public eval::VisitScorer {
 public:
  FrozenCohortScorer(const ReadCohort& cohort, const FrozenScorer& scorer, std::int64_t max_visits)
      : cohort_(cohort), scorer_(scorer), max_visits_(max_visits) {}
  std::int64_t classes() const override { return scorer_.classes(); }
  void score(std::int64_t first, std::int64_t last, std::span<float> probabilities) const override;

 private:
  const ReadCohort& cohort_;
  const FrozenScorer& scorer_;
  std::int64_t max_visits_;
};

// Copies the tensor of that name into values, whose size must be its number of elements; kDataError
// otherwise.
void take_tensor(const tensor::NamedTensors& state, const std::string& name,
                 std::vector<float>& values);

// Codes outside the vocabularies read by the encoders, which may be null.
ReadCohort read_cohort(const MappedCohort& mapped, const CodeEncoder* diagnoses,
                       const CodeEncoder* procedures);

}  // namespace theriac::clinical
