// theriac.hpp: C++17 over theriac.h, header only. Move-only handles that release themselves,
// exceptions instead of status codes, std::string and std::string_view instead of pointer and
// length.
//
//     theriac::Context context;
//     theriac::Model model = theriac::Model::load(context, "model");
//     theriac::Session session(model);
//     std::string answer = session.recommend(request_json);
//
// Thread safety is theriac.h's: const member functions may run at the same time, a Session belongs
// to one thread.
#ifndef THERIAC_THERIAC_HPP_
#define THERIAC_THERIAC_HPP_

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "theriac/theriac.h"

namespace theriac {

// A failed call. `details` is the JSON object of theriac_error_details.
class Exception : public std::runtime_error {
 public:
  Exception(theriac_status status, const std::string& message, std::string details)
      : std::runtime_error(message), status_(status), details_(std::move(details)) {}
  theriac_status status() const noexcept { return status_; }
  const std::string& details() const noexcept { return details_; }

 private:
  theriac_status status_;
  std::string details_;
};

// Return false to cancel. `metrics_json` is "{}" or a JSON object. May throw: the exception comes
// out of the call.
using Progress = std::function<bool(std::string_view phase, std::uint64_t done, std::uint64_t total,
                                    std::string_view metrics_json)>;

namespace internal {

inline void check(theriac_status status, theriac_error* error) {
  if (status == THERIAC_OK) return;
  const std::string message = theriac_error_message(error), details = theriac_error_details(error);
  theriac_error_release(error);
  throw Exception(status, message, details);
}

// Turns `call(&error)` into an exception on failure.
template <class Call>
void invoke(Call&& call) {
  theriac_error* error = nullptr;
  const theriac_status status = call(&error);
  check(status, error);
}

template <class Call>
std::string text_from(Call&& call) {
  theriac_bytes* bytes = nullptr;
  invoke([&](theriac_error** error) { return call(&bytes, error); });
  std::string value(theriac_bytes_data(bytes), theriac_bytes_size(bytes));
  theriac_bytes_release(bytes);
  return value;
}

template <auto kRelease>
struct Releaser {
  template <class T>
  void operator()(T* handle) const noexcept {
    kRelease(handle);
  }
};
template <class T, auto kRelease>
using Owned = std::unique_ptr<T, Releaser<kRelease>>;

}  // namespace internal

// A latched request to stop, shared by threads.
class CancelToken {
 public:
  CancelToken() {
    theriac_cancel* raw = nullptr;
    internal::invoke([&](theriac_error** error) { return theriac_cancel_create(&raw, error); });
    handle_.reset(raw);
  }
  void request() noexcept { theriac_cancel_request(handle_.get()); }
  bool requested() const noexcept { return theriac_cancel_requested(handle_.get()) != 0; }
  theriac_cancel* get() const noexcept { return handle_.get(); }

 private:
  internal::Owned<theriac_cancel, theriac_cancel_release> handle_;
};

// The score of a model folder, which is removed afterwards; NaN for a model that has none. May throw: the
// exception comes out of the call.
using Evaluate = std::function<double(const std::string& model)>;

namespace internal {

// The callbacks struct for one call; carries an exception of the host's function back to the
// caller.
class Callbacks {
 public:
  Callbacks(const Progress& progress, const CancelToken* cancel) : progress_(progress) {
    raw_.struct_size = sizeof(raw_);
    raw_.progress = progress_ ? &Callbacks::call : nullptr;
    raw_.user = this;
    raw_.cancel = cancel == nullptr ? nullptr : cancel->get();
  }
  const theriac_callbacks* get() const noexcept { return &raw_; }
  // Rethrows what the host's function threw, in preference to the library's error.
  template <class Call>
  void run(Call&& call) {
    try {
      invoke(std::forward<Call>(call));
    } catch (const Exception&) {
      if (thrown_) std::rethrow_exception(thrown_);
      throw;
    }
  }

 private:
  static std::int32_t call(const char* phase, std::uint64_t done, std::uint64_t total,
                           const char* metrics, void* user) {
    auto* self = static_cast<Callbacks*>(user);
    try {
      return self->progress_(phase, done, total, metrics) ? 0 : 1;
    } catch (...) {
      self->thrown_ = std::current_exception();
      return -7;
    }
  }
  const Progress& progress_;
  theriac_callbacks raw_{};
  std::exception_ptr thrown_;
};

// The evaluator struct for one call, in the same way.
class Evaluator {
 public:
  explicit Evaluator(const Evaluate& evaluate) : evaluate_(evaluate) {
    raw_.struct_size = sizeof(raw_);
    raw_.evaluate = &Evaluator::call;
    raw_.user = this;
  }
  const theriac_evaluator* get() const noexcept { return &raw_; }
  template <class Call>
  void run(Callbacks& callbacks, Call&& call) {
    try {
      callbacks.run(std::forward<Call>(call));
    } catch (const Exception&) {
      if (thrown_) std::rethrow_exception(thrown_);
      throw;
    }
  }

 private:
  static std::int32_t call(const char* model, double* score, void* user) {
    auto* self = static_cast<Evaluator*>(user);
    try {
      *score = self->evaluate_(model);
      return 0;
    } catch (...) {
      self->thrown_ = std::current_exception();
      return -7;
    }
  }
  const Evaluate& evaluate_;
  theriac_evaluator raw_{};
  std::exception_ptr thrown_;
};

// Text out of a long call.
inline std::string taken(theriac_bytes* bytes) {
  const Owned<theriac_bytes, theriac_bytes_release> owned(bytes);
  return {theriac_bytes_data(bytes), theriac_bytes_size(bytes)};
}

}  // namespace internal

// Library-wide facts.
inline std::string build_info() { return internal::text_from(theriac_build_info); }
inline std::string schema(std::string_view kind = {}) {
  return internal::text_from([&](theriac_bytes** out, theriac_error** error) {
    return theriac_schema(kind.data(), kind.size(), out, error);
  });
}

class Context {
 public:
  explicit Context(std::string_view options_json = {}) {
    theriac_context* raw = nullptr;
    internal::invoke([&](theriac_error** error) {
      return theriac_context_create(options_json.data(), options_json.size(), &raw, error);
    });
    handle_.reset(raw);
  }
  std::string info() const {
    return internal::text_from([&](theriac_bytes** out, theriac_error** error) {
      return theriac_context_info(get(), out, error);
    });
  }
  std::string codes_query(std::string_view request_json) const {
    return internal::text_from([&](theriac_bytes** out, theriac_error** error) {
      return theriac_codes_query(get(), request_json.data(), request_json.size(), out, error);
    });
  }
  // Writes synthetic data in real file layouts.
  void generate(std::string_view options_json, const Progress& progress = {},
                const CancelToken* cancel = nullptr) const {
    internal::Callbacks callbacks(progress, cancel);
    callbacks.run([&](theriac_error** error) {
      return theriac_dataset_generate(get(), options_json.data(), options_json.size(),
                                      callbacks.get(), error);
    });
  }
  // Merges models as a recipe says; returns the report.
  std::string merge(std::string_view recipe, std::string_view options_json,
                    const Progress& progress = {}, const CancelToken* cancel = nullptr) const {
    internal::Callbacks callbacks(progress, cancel);
    theriac_bytes* bytes = nullptr;
    callbacks.run([&](theriac_error** error) {
      return theriac_merge_recipe(get(), recipe.data(), recipe.size(), options_json.data(),
                                  options_json.size(), callbacks.get(), &bytes, error);
    });
    return internal::taken(bytes);
  }
  // What fine-tuning did to several models of one base; returns the report.
  std::string inspect(std::string_view options_json, const Progress& progress = {},
                      const CancelToken* cancel = nullptr) const {
    internal::Callbacks callbacks(progress, cancel);
    theriac_bytes* bytes = nullptr;
    callbacks.run([&](theriac_error** error) {
      return theriac_merge_inspect(get(), options_json.data(), options_json.size(), callbacks.get(),
                                   &bytes, error);
    });
    return internal::taken(bytes);
  }
  // Varies numbers of a recipe and merges the best candidate; returns the report.
  std::string search(std::string_view recipe, std::string_view options_json,
                     const Evaluate& evaluate, const Progress& progress = {},
                     const CancelToken* cancel = nullptr) const {
    internal::Callbacks callbacks(progress, cancel);
    internal::Evaluator evaluator(evaluate);
    theriac_bytes* bytes = nullptr;
    evaluator.run(callbacks, [&](theriac_error** error) {
      return theriac_merge_search(get(), recipe.data(), recipe.size(), options_json.data(),
                                  options_json.size(), evaluator.get(), callbacks.get(), &bytes,
                                  error);
    });
    return internal::taken(bytes);
  }
  // Averages the models that do not make the score worse; returns the report.
  std::string soup(std::string_view options_json, const Evaluate& evaluate,
                   const Progress& progress = {}, const CancelToken* cancel = nullptr) const {
    internal::Callbacks callbacks(progress, cancel);
    internal::Evaluator evaluator(evaluate);
    theriac_bytes* bytes = nullptr;
    evaluator.run(callbacks, [&](theriac_error** error) {
      return theriac_merge_soup(get(), options_json.data(), options_json.size(), evaluator.get(),
                                callbacks.get(), &bytes, error);
    });
    return internal::taken(bytes);
  }
  theriac_context* get() const noexcept { return handle_.get(); }

 private:
  internal::Owned<theriac_context, theriac_context_release> handle_;
};

// Models added one by one and merged at the end.
class Merger {
 public:
  Merger(const Context& context, std::string_view method, std::string_view options_json = {}) {
    theriac_merger* raw = nullptr;
    internal::invoke([&](theriac_error** error) {
      return theriac_merger_create(context.get(), method.data(), method.size(), options_json.data(),
                                   options_json.size(), &raw, error);
    });
    handle_.reset(raw);
  }
  static Merger load(const Context& context, std::string_view path) {
    Merger merger;
    theriac_merger* raw = nullptr;
    internal::invoke([&](theriac_error** error) {
      return theriac_merger_load(context.get(), path.data(), path.size(), &raw, error);
    });
    merger.handle_.reset(raw);
    return merger;
  }
  void add(std::string_view path, std::string_view parameters_json = {}) {
    internal::invoke([&](theriac_error** error) {
      return theriac_merger_add(get(), path.data(), path.size(), parameters_json.data(),
                                parameters_json.size(), error);
    });
  }
  std::string info() const {
    return internal::text_from([&](theriac_bytes** out, theriac_error** error) {
      return theriac_merger_info(get(), out, error);
    });
  }
  // Writes a model folder; returns the report.
  std::string finish(std::string_view path, std::string_view options_json = {},
                     const Progress& progress = {}, const CancelToken* cancel = nullptr) const {
    internal::Callbacks callbacks(progress, cancel);
    theriac_bytes* bytes = nullptr;
    callbacks.run([&](theriac_error** error) {
      return theriac_merger_finish(get(), path.data(), path.size(), options_json.data(),
                                   options_json.size(), callbacks.get(), &bytes, error);
    });
    return internal::taken(bytes);
  }
  void save(std::string_view path, bool overwrite = false) const {
    internal::invoke([&](theriac_error** error) {
      return theriac_merger_save(get(), path.data(), path.size(), overwrite ? 1 : 0, error);
    });
  }
  theriac_merger* get() const noexcept { return handle_.get(); }

 private:
  Merger() = default;
  internal::Owned<theriac_merger, theriac_merger_release> handle_;
};

// Copies of a history, with weights that sum to 1.
struct Copies {
  std::vector<std::vector<std::int32_t>> histories;
  std::vector<double> weights;
};

// Immutable; any number of threads may call it.
class Augmenter {
 public:
  // `similar`: [items, similar_width], or empty.
  explicit Augmenter(const Context& context, std::string_view options_json = {},
                     std::int32_t items = 0, const std::vector<std::int32_t>& similar = {}) {
    theriac_augmenter* raw = nullptr;
    if (items > 0 && similar.size() % static_cast<std::size_t>(items) != 0)
      throw std::invalid_argument("similar: not the same number of entries for each item");
    const std::size_t width =
        items > 0 ? similar.size() / static_cast<std::size_t>(items) : similar.size();
    internal::invoke([&](theriac_error** error) {
      return theriac_augmenter_create(context.get(), options_json.data(), options_json.size(),
                                      items, similar.data(), width, &raw, error);
    });
    handle_.reset(raw);
  }
  Copies apply(const std::vector<std::int32_t>& history) const { return apply(history, nullptr); }
  Copies apply(const std::vector<std::int32_t>& history, std::uint64_t key) const {
    return apply(history, &key);
  }
  std::string info() const {
    return internal::text_from([&](theriac_bytes** out, theriac_error** error) {
      return theriac_augmenter_info(get(), out, error);
    });
  }
  theriac_augmenter* get() const noexcept { return handle_.get(); }

 private:
  Copies apply(const std::vector<std::int32_t>& history, const std::uint64_t* key) const {
    std::uint64_t copies = 0, ids = 0;
    theriac_error* ignored = nullptr;  // the first call asks for the sizes
    const theriac_status asked =
        theriac_augmenter_apply(get(), history.data(), history.size(), key, 0, nullptr, nullptr, 0,
                                nullptr, &copies, &ids, &ignored);
    theriac_error_release(ignored);
    std::vector<std::uint64_t> offsets(static_cast<std::size_t>(copies) + 1);
    std::vector<std::int32_t> all(static_cast<std::size_t>(ids) + 1);
    Copies out;
    out.weights.resize(static_cast<std::size_t>(copies));
    static_cast<void>(asked);
    internal::invoke([&](theriac_error** error) {
      return theriac_augmenter_apply(get(), history.data(), history.size(), key, copies,
                                     offsets.data(), out.weights.data(), ids, all.data(), &copies,
                                     &ids, error);
    });
    for (std::size_t c = 0; c < out.weights.size(); ++c) {
      out.histories.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(offsets[c]),
                                 all.begin() + static_cast<std::ptrdiff_t>(offsets[c + 1]));
    }
    return out;
  }

  internal::Owned<theriac_augmenter, theriac_augmenter_release> handle_;
};

class Dataset {
 public:
  struct Parts;
  static Dataset open(const Context& context, std::string_view options_json,
                      const Progress& progress = {}, const CancelToken* cancel = nullptr) {
    Dataset dataset;
    theriac_dataset* raw = nullptr;
    internal::Callbacks callbacks(progress, cancel);
    callbacks.run([&](theriac_error** error) {
      return theriac_dataset_open(context.get(), options_json.data(), options_json.size(),
                                  callbacks.get(), &raw, error);
    });
    dataset.handle_.reset(raw);
    return dataset;
  }
  // Consumes the stream.
  static Dataset from_arrow(const Context& context, ArrowArrayStream* stream,
                            std::string_view options_json = {}) {
    Dataset dataset;
    theriac_dataset* raw = nullptr;
    internal::invoke([&](theriac_error** error) {
      return theriac_dataset_from_arrow(context.get(), stream, options_json.data(),
                                        options_json.size(), &raw, error);
    });
    dataset.handle_.reset(raw);
    return dataset;
  }
  Parts split(std::string_view options_json = {}) const;
  std::string info() const {
    return internal::text_from([&](theriac_bytes** out, theriac_error** error) {
      return theriac_dataset_info(get(), out, error);
    });
  }
  void table(std::string_view name, ArrowArrayStream* stream) const {
    internal::invoke([&](theriac_error** error) {
      return theriac_dataset_table(get(), name.data(), name.size(), stream, error);
    });
  }
  std::string export_text(std::string_view options_json) const {
    return internal::text_from([&](theriac_bytes** out, theriac_error** error) {
      return theriac_dataset_export(get(), options_json.data(), options_json.size(), out, error);
    });
  }
  void save(std::string_view path, bool overwrite = false) const {
    internal::invoke([&](theriac_error** error) {
      return theriac_dataset_save(get(), path.data(), path.size(), overwrite ? 1 : 0, error);
    });
  }
  theriac_dataset* get() const noexcept { return handle_.get(); }

 private:
  internal::Owned<theriac_dataset, theriac_dataset_release> handle_;
};

struct Dataset::Parts {
  Dataset train, valid, test;
};

inline Dataset::Parts Dataset::split(std::string_view options_json) const {
  theriac_dataset *train = nullptr, *valid = nullptr, *test = nullptr;
  internal::invoke([&](theriac_error** error) {
    return theriac_dataset_split(get(), options_json.data(), options_json.size(), &train, &valid,
                                 &test, error);
  });
  Parts parts;
  parts.train.handle_.reset(train);
  parts.valid.handle_.reset(valid);
  parts.test.handle_.reset(test);
  return parts;
}

class Model {
 public:
  static Model create(const Context& context, std::string_view method,
                      std::string_view options_json = {}) {
    Model model;
    theriac_model* raw = nullptr;
    internal::invoke([&](theriac_error** error) {
      return theriac_model_create(context.get(), method.data(), method.size(), options_json.data(),
                                  options_json.size(), &raw, error);
    });
    model.handle_.reset(raw);
    return model;
  }
  static Model load(const Context& context, std::string_view path,
                    std::string_view options_json = {}) {
    Model model;
    theriac_model* raw = nullptr;
    internal::invoke([&](theriac_error** error) {
      return theriac_model_load(context.get(), path.data(), path.size(), options_json.data(),
                                options_json.size(), &raw, error);
    });
    model.handle_.reset(raw);
    return model;
  }
  // From weights that another program trained; `dataset` gives the vocabulary.
  static Model import_weights(const Context& context, std::string_view method,
                              std::string_view path, const Dataset& dataset,
                              std::string_view options_json = {}) {
    Model model;
    theriac_model* raw = nullptr;
    internal::invoke([&](theriac_error** error) {
      return theriac_model_import(context.get(), method.data(), method.size(), path.data(),
                                  path.size(), dataset.get(), options_json.data(),
                                  options_json.size(), &raw, error);
    });
    model.handle_.reset(raw);
    return model;
  }
  // `train` and `valid` may be null where the method allows it.
  void fit(const Dataset* train, const Dataset* valid = nullptr, std::string_view options_json = {},
           const Progress& progress = {}, const CancelToken* cancel = nullptr) {
    internal::Callbacks callbacks(progress, cancel);
    callbacks.run([&](theriac_error** error) {
      return theriac_model_fit(get(), train == nullptr ? nullptr : train->get(),
                               valid == nullptr ? nullptr : valid->get(), options_json.data(),
                               options_json.size(), callbacks.get(), error);
    });
  }
  void save(std::string_view path, bool overwrite = false) const {
    internal::invoke([&](theriac_error** error) {
      return theriac_model_save(get(), path.data(), path.size(), overwrite ? 1 : 0, error);
    });
  }
  // The report as JSON.
  std::string evaluate(const Dataset& dataset, std::string_view options_json = {},
                       const Progress& progress = {}, const CancelToken* cancel = nullptr) const {
    theriac_result* raw = nullptr;
    internal::Callbacks callbacks(progress, cancel);
    callbacks.run([&](theriac_error** error) {
      return theriac_model_evaluate(get(), dataset.get(), options_json.data(), options_json.size(),
                                    callbacks.get(), &raw, error);
    });
    const internal::Owned<theriac_result, theriac_result_release> result(raw);
    return theriac_result_json(result.get());
  }
  std::string info() const {
    return internal::text_from([&](theriac_bytes** out, theriac_error** error) {
      return theriac_model_info(get(), out, error);
    });
  }
  // The caller owns the tensor and calls its deleter.
  DLManagedTensorVersioned* tensor(std::string_view name) const {
    DLManagedTensorVersioned* out = nullptr;
    internal::invoke([&](theriac_error** error) {
      return theriac_model_tensor(get(), name.data(), name.size(), &out, error);
    });
    return out;
  }
  theriac_model* get() const noexcept { return handle_.get(); }

 private:
  internal::Owned<theriac_model, theriac_model_release> handle_;
};

// Ranked items, best first.
struct RankedItems {
  std::vector<std::int64_t> items;
  std::vector<float> scores;
  std::uint64_t ignored = 0;  // items of the history that the model does not know
};

class Session {
 public:
  explicit Session(const Model& model, std::string_view options_json = {}) {
    theriac_session* raw = nullptr;
    internal::invoke([&](theriac_error** error) {
      return theriac_session_create(model.get(), options_json.data(), options_json.size(), &raw,
                                    error);
    });
    handle_.reset(raw);
  }
  std::string recommend(std::string_view request_json) {
    return internal::text_from([&](theriac_bytes** out, theriac_error** error) {
      return theriac_session_recommend(get(), request_json.data(), request_json.size(), out, error);
    });
  }
  std::string explain(std::string_view request_json) {
    return internal::text_from([&](theriac_bytes** out, theriac_error** error) {
      return theriac_session_explain(get(), request_json.data(), request_json.size(), out, error);
    });
  }
  // From now on means over the augmenter's copies; the session keeps it alive. Null: plain again.
  void set_augmenter(const Augmenter* augmenter) {
    internal::invoke([&](theriac_error** error) {
      return theriac_session_set_augmenter(get(), augmenter == nullptr ? nullptr : augmenter->get(),
                                           error);
    });
  }
  // The `k` best items for a user; `key` names the user to an augmenter.
  RankedItems recommend_history(const std::vector<std::int64_t>& history, std::size_t k) {
    return recommend_history(history, k, nullptr);
  }
  RankedItems recommend_history(const std::vector<std::int64_t>& history, std::size_t k,
                                std::uint64_t key) {
    return recommend_history(history, k, &key);
  }
  // Batch: consumes `stream`, fills `out`.
  void recommend_arrow(ArrowArrayStream* stream, ArrowArrayStream* out,
                       std::string_view options_json = {}) {
    internal::invoke([&](theriac_error** error) {
      return theriac_session_recommend_arrow(get(), stream, options_json.data(),
                                             options_json.size(), nullptr, out, error);
    });
  }
  theriac_session* get() const noexcept { return handle_.get(); }

 private:
  RankedItems recommend_history(const std::vector<std::int64_t>& history, std::size_t k,
                                const std::uint64_t* key) {
    RankedItems out;
    out.items.resize(k);
    out.scores.resize(k);
    std::uint64_t ranked = 0;
    internal::invoke([&](theriac_error** error) {
      return theriac_session_recommend_history(get(), history.data(), history.size(), key, k,
                                               out.items.data(), out.scores.data(), &ranked,
                                               &out.ignored, error);
    });
    out.items.resize(static_cast<std::size_t>(ranked));
    out.scores.resize(static_cast<std::size_t>(ranked));
    return out;
  }

  internal::Owned<theriac_session, theriac_session_release> handle_;
};

}  // namespace theriac

#endif  // THERIAC_THERIAC_HPP_
