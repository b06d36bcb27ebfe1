// What models of every family do alike around a fit.
#pragma once

#include <string>
#include <string_view>

#include "cpp/core/base/hash.h"
#include "cpp/core/base/json.h"
#include "cpp/core/base/options.h"
#include "cpp/core/engine.h"
#include "cpp/engine/tensor/tensor.h"

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

}  // namespace theriac::train
