// The seam between the front library (C ABI, data, streaming work; no LibTorch) and the engine
// (everything with tensors). No LibTorch type appears here and no exception crosses: every call
// returns an Outcome.
//
// Front and engine are built together from one tree and refuse each other when their build ids
// differ, so classes of `theriac_core` may cross as they are. The engine is loaded once a process
// and never unloaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/error.h"
#include "cpp/core/base/job.h"
#include "cpp/core/base/runtime.h"
#include "cpp/core/data/cohort.h"

namespace theriac {

// What a context decides for the models made in it.
struct ContextSettings {
  std::string device = "cpu";  // cpu | cuda | cuda:N
  std::uint64_t seed = 0;
  bool reproducible = true;  // determinism: reproducible | fast
  Runtime runtime;           // log, live objects, thread budget
};

// A data set of any kind; exactly one pointer is set, as `kind` says.
struct Dataset {
  std::string kind = "cohort";
  std::shared_ptr<const data::Cohort> cohort;
};

// Coded history of one patient as plain arrays, entries in any order within a visit, visits
// non-decreasing; the highest visit number is the current visit. `field`: 0 diagnosis, 1 procedure,
// 2 medication. `system`: codes::System. `code`: NUL-terminated text, dots and case as the host has
// them.
struct CodeHistory {
  std::uint64_t entries = 0;
  const std::int32_t* visit = nullptr;
  const std::int32_t* field = nullptr;
  const std::int32_t* system = nullptr;
  const char* const* code = nullptr;
};

// Ranked classes, best first. Strings are borrowed from the model and live as long as it.
struct RankedClasses {
  std::uint64_t capacity = 0;         // of the arrays below
  const char** class_code = nullptr;  // [capacity]
  float* probability = nullptr;       // [capacity]
  std::uint64_t count = 0;            // filled
  std::uint64_t ignored = 0;          // entries the model had no use for
  std::uint64_t substituted = 0;      // entries read as an ancestor
};

// A read-only tensor of a model, alive as long as `owner`.
struct TensorView {
  std::shared_ptr<const void> owner;
  const void* data = nullptr;
  std::vector<std::int64_t> shape, strides;     // strides in elements
  std::uint8_t type_code = 2, bits = 32;        // DLPack data type
  std::int32_t device_type = 1, device_id = 0;  // DLPack device
};

// One thread's scoring state over an immutable model. Not shared between threads.
class Session {
 public:
  virtual ~Session() = default;
  // Request and answer documents: docs/recommendation.md.
  virtual Outcome recommend(std::string_view request_json, std::string& answer_json) noexcept = 0;
  virtual Outcome explain(std::string_view request_json, std::string& answer_json) noexcept = 0;
  // Allocates nothing after warm-up.
  virtual Outcome recommend_codes(const CodeHistory& history, RankedClasses& ranked) noexcept = 0;
  // Scores every visit of a data set (each visit from its own past); row r of `probabilities`
  // [visits, classes] is visit r.
  virtual Outcome recommend_dataset(const Dataset& dataset, Job& job,
                                    std::vector<float>& probabilities) noexcept = 0;
};

// A model of any method. `fit` needs exclusive use; everything const may run concurrently
// afterwards.
class Model {
 public:
  virtual ~Model() = default;
  // `train` may be empty for methods that need no data (code_tree); `valid` may be null. Options:
  // {"checkpoint": DIR, "resume": bool}. A cancelled fit keeps the best weights so far.
  virtual Outcome fit(const Dataset* train, const Dataset* valid, std::string_view options_json,
                      Job& job) noexcept = 0;
  virtual Outcome save(const std::string& directory, bool overwrite) const noexcept = 0;
  // {"metrics": {...}, "counts": {...}, "config": {...}, ...}; options per method family.
  virtual Outcome evaluate(const Dataset& dataset, std::string_view options_json, Job& job,
                           std::string& report_json) const noexcept = 0;
  virtual Outcome info(std::string& json) const noexcept = 0;
  virtual Outcome tensor(std::string_view name, TensorView& view) const noexcept = 0;
  virtual Outcome open_session(std::string_view options_json,
                               std::unique_ptr<Session>& session) const noexcept = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  // {"libtorch": version, "devices": [...], "cpu": capability, "threads": n, "blas": ...}
  virtual Outcome info(std::string& json) noexcept = 0;
  // [{"name", "family", "dataset", "doc", "paper", "schema"}]; entries of family "document" are
  // configuration documents that belong to no one method ("request", "session", "model.evaluate").
  virtual Outcome methods(std::string& json) noexcept = 0;
  virtual Outcome create_model(std::string_view method, std::string_view options_json,
                               const ContextSettings& context,
                               std::unique_ptr<Model>& model) noexcept = 0;
  virtual Outcome load_model(const std::string& directory, std::string_view options_json,
                             const ContextSettings& context,
                             std::unique_ptr<Model>& model) noexcept = 0;
};

// The engine's only exported function, `extern "C"`: the process's engine, or null when `build_id`
// is not the engine's own.
inline constexpr char kEngineSymbol[] = "theriac_engine_open";
using EngineOpen = Engine* (*)(const char* build_id);

}  // namespace theriac
