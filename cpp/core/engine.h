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
#include <utility>
#include <vector>

#include "cpp/core/augment/augmenter.h"
#include "cpp/core/base/error.h"
#include "cpp/core/base/job.h"
#include "cpp/core/base/runtime.h"
#include "cpp/core/data/cohort.h"
#include "cpp/core/data/sequences.h"

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
  std::string kind = "cohort";  // "cohort" | "sequences"
  std::shared_ptr<const data::Cohort> cohort;
  std::shared_ptr<const data::Sequences> sequences;
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

// A user's items as the host numbers them, oldest first.
struct ItemHistory {
  std::uint64_t count = 0;
  const std::int64_t* item = nullptr;  // [count]
  const std::uint64_t* key = nullptr;  // of the augmenter's draws; null: the history itself decides
};

// Ranked items, best first.
struct RankedItems {
  std::uint64_t capacity = 0;    // of the arrays below
  std::int64_t* item = nullptr;  // [capacity]
  float* score = nullptr;        // [capacity]
  std::uint64_t count = 0;       // filled
  std::uint64_t ignored = 0;     // items of the history that the model does not know
};

// Ranked items of many users, best first: those of user u are entries offsets[u] ... offsets[u + 1] - 1.
struct ItemLists {
  std::shared_ptr<const data::Names> names;  // of the model's items
  std::vector<std::uint64_t> offsets{0};
  std::vector<std::int64_t> item;  // position in `names`
  std::vector<float> score;
  std::vector<std::int64_t> ignored;  // [users] items of the history that the model does not know
};

// A read-only tensor of a model, alive as long as `owner`.
struct TensorView {
  std::shared_ptr<const void> owner;
  const void* data = nullptr;
  std::vector<std::int64_t> shape, strides;     // strides in elements
  std::uint8_t type_code = 2, bits = 32;        // DLPack data type
  std::int32_t device_type = 1, device_id = 0;  // DLPack device
};

// The answer of a model whose method has no such call.
inline Outcome unsupported(const char* what) {
  Failure failure;
  failure.code = Code::kUnsupported;
  failure.message = what;
  return Outcome(std::move(failure));
}

// One thread's scoring state over an immutable model. Not shared between threads.
class Session {
 public:
  virtual ~Session() = default;
  // Request and answer documents: docs/recommendation.md.
  virtual Outcome recommend(std::string_view request_json, std::string& answer_json) noexcept = 0;
  virtual Outcome explain(std::string_view request_json, std::string& answer_json) noexcept = 0;
  // Coded histories: allocates nothing after warm-up.
  virtual Outcome recommend_codes(const CodeHistory&, RankedClasses&) noexcept {
    return unsupported("this model does not read coded visits; use theriac_session_recommend");
  }
  // Scores every visit of a cohort (each visit from its own past); row r of `probabilities`
  // [visits, classes] is visit r.
  virtual Outcome recommend_dataset(const Dataset&, Job&, std::vector<float>&) noexcept {
    return unsupported("this model does not read cohorts; use theriac_session_recommend");
  }
  // Item sequences: the best items that the history does not have. Allocates nothing after warm-up
  // without an augmenter.
  virtual Outcome recommend_history(const ItemHistory&, RankedItems&) noexcept {
    return unsupported("this model does not read item histories; use theriac_session_recommend");
  }
  // The same for every user of a data set of sequences, whole sequences being histories; `capacity` items
  // a user, 0: as many as the session's options say. None for a user of whose items the model knows none.
  virtual Outcome recommend_sequences(const Dataset&, std::uint64_t, Job&, ItemLists&) noexcept {
    return unsupported("this model does not read item histories; use theriac_session_recommend");
  }
  // From now on answers are means over the augmenter's copies; null: plain again. Refused with
  // kUnsupported by models that cannot carry the operator out; the session is then as before.
  virtual Outcome set_augmenter(std::shared_ptr<const augment::Augmenter>) noexcept {
    return unsupported("this model cannot answer with augmented copies of its input");
  }
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
  // A model from weights that another program trained, a .safetensors file under the method's
  // published tensor names; `dataset` gives the vocabulary.
  virtual Outcome import_model(std::string_view method, const std::string& file,
                               const Dataset& dataset, std::string_view options_json,
                               const ContextSettings& context,
                               std::unique_ptr<Model>& model) noexcept = 0;
};

// The engine's only exported function, `extern "C"`: the process's engine, or null when `build_id`
// is not the engine's own.
inline constexpr char kEngineSymbol[] = "theriac_engine_open";
using EngineOpen = Engine* (*)(const char* build_id);

}  // namespace theriac
