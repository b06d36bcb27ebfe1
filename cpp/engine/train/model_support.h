// What models of every family do alike around a fit.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "cpp/core/base/hash.h"
#include "cpp/core/base/json.h"
#include "cpp/core/base/options.h"
#include "cpp/core/engine.h"
#include "cpp/engine/tensor/tensor.h"
#include "cpp/engine/train/model_directory.h"

namespace theriac::train {

// Options of Model::fit.
struct FitOptions {
  std::string checkpoint;
  bool resume = false;
  static const OptionTable<FitOptions>& table();
};

// A document as it came over the seam; empty text is {}.
Json parse_options(std::string_view text);

// Wall-clock times are left out of a fit's record: the same fit gives the same model directory.
void drop_times(Json& fit);

// A read-only view of one of `state`, as float32 on the CPU. Throws kNotFound naming the nearest name.
TensorView view_of(const tensor::NamedTensors& state, std::string_view name);

// Names and bytes of the tensors, in order.
void add_tensors(const tensor::NamedTensors& state, Fingerprint& print);

// The seam's side of a model that learns from data: options read, failures turned into outcomes, tensors and
// directories shown. A family's model says what happens in between, and may throw.
class LearnedModel : public Model {
 public:
  Outcome fit(const Dataset* train, const Dataset* valid, std::string_view options_json,
              Job& job) noexcept final;
  Outcome save(const std::string& directory, bool overwrite) const noexcept final;
  Outcome evaluate(const Dataset& dataset, std::string_view options_json, Job& job,
                   std::string& report_json) const noexcept final;
  Outcome info(std::string& json) const noexcept final;
  Outcome tensor(std::string_view name, TensorView& view) const noexcept final;
  Outcome open_session(std::string_view options_json,
                       std::unique_ptr<Session>& session) const noexcept final;

 protected:
  explicit LearnedModel(const ContextSettings& context) : context_(context) {}

  virtual void fit_to(const Dataset* train, const Dataset* valid, const FitOptions& options,
                      Job& job) = 0;
  virtual Json report(const Dataset& dataset, const Json& options, Job& job) const = 0;
  virtual Json description() const = 0;  // also of a model that is not fitted yet
  virtual ModelDirectory contents() const = 0;
  virtual tensor::NamedTensors state() const = 0;
  virtual std::unique_ptr<Session> session(std::string_view options_json) const = 0;

  const ContextSettings context_;
};

}  // namespace theriac::train
