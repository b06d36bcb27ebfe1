// What a merge method does to one output tensor, and how the executor drives it.
//
// The executor never holds a whole tensor unless a method asks for it. It cuts the tensor into blocks
// of a fixed size, shows every block of every pass to the method, several at a time, and at last asks
// for the output block by block:
//
//     for pass in 0 .. passes()-1:  observe(pass, block) of all blocks -> end_pass(pass, partials)
//     apply(block) of all blocks
//
// A method whose result for one tensor depends on all others has ModelStatistics besides: passes over
// every merged tensor that end before the first output is made.
//
// Results must not depend on the number of threads: a pass's partials arrive in the order of the
// blocks, and a random draw is keyed by the element's index, never by the order of calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/json.h"
#include "cpp/core/merge/settings.h"
#include "cpp/core/tensorfile/safetensors.h"

namespace theriac::merge {

// Which elements a block may hold.
enum class Granularity {
  kElements,  // any run of elements
  kRows,      // whole rows, a row being the last dimension; a tensor of one dimension is one row
  kTensor,    // the whole tensor
};

// How intermediate results are rounded. kFloat32: arithmetic in float32 (reductions in float64), one
// rounding at the end. kNative: after every operation to the type of the base tensor, as mergekit
// does.
enum class Accumulate { kFloat32, kNative };

class ModelStatistics;

// What is known of an output tensor before its values are read.
struct TensorContext {
  std::string name;                  // in the output; keys random draws
  std::vector<std::uint64_t> shape;  // of the output and of every source
  bool has_base = false;
  tensorfile::DType dtype = tensorfile::DType::kF32;  // of the arithmetic under kNative
  Accumulate accumulate = Accumulate::kFloat32;
  const Parameters* parameters = nullptr;           // global ones
  std::vector<const Parameters*> model_parameters;  // one a model, the base not among them
  const Parameters* base_parameters = nullptr;      // nullptr without a base
  std::vector<std::uint64_t> model_keys;            // key random draws: position in the recipe
  // Which model of the whole merge each is: the same number in every tensor, below `tasks`. A model
  // that stands twice in a slice counts as two.
  std::vector<std::size_t> model_tasks;
  std::size_t tasks = 0;
  double t = 0;  // position among the layers
  std::uint64_t seed = 0;
  std::string folder;  // where relative paths among the parameters start from; may be empty
  // Bytes of what its passes learn about single elements that the method may keep for the output.
  std::uint64_t keepable = 0;
  // Of methods that have them. Complete when observe and apply are called, not yet while the kernel
  // is made.
  const ModelStatistics* statistics = nullptr;
  std::size_t index = 0;  // of this tensor among those that the statistics are of

  std::uint64_t elements() const;
  std::uint64_t row_length() const;  // last dimension; 1 for a scalar
  std::size_t models() const { return model_parameters.size(); }
};

// A run of elements of every source, as float32 (converted exactly, or under kNative cast to `dtype`
// first). Pointers are valid during the call only.
struct Block {
  std::uint64_t first = 0;  // index of the first element, row-major
  std::size_t count = 0;
  const float* base = nullptr;           // nullptr without a base
  std::span<const float* const> models;  // the base not among them
};

// What one block contributes to a pass.
class Partial {
 public:
  virtual ~Partial() = default;
};

// One output tensor in the making. `observe` and `apply` may run on several threads at once;
// `end_pass` runs alone, after all blocks of its pass.
class TensorMerge {
 public:
  virtual ~TensorMerge() = default;
  virtual Granularity granularity() const { return Granularity::kElements; }
  virtual int passes() const { return 0; }
  // Whether the executor may cut the blocks of tensors further. Each piece is then a block of its own, in
  // passes and for the output: kernels that keep little of a block go over it while it is in the cache.
  virtual bool divisible() const { return false; }
  // Of results that are no weights but whole numbers below 2^24: kU8, kU16 or kU32.
  virtual std::optional<tensorfile::DType> output_dtype() const { return std::nullopt; }
  // Bytes that one call of observe or apply, or of the statistics' observe, allocates beyond the block
  // and the output: matrices of a decomposition. Counted against the memory limit.
  virtual std::uint64_t workspace() const { return 0; }
  // Bytes that are kept from a pass to the output; at most `keepable`.
  virtual std::uint64_t kept() const { return 0; }
  virtual std::unique_ptr<Partial> observe(int /*pass*/, const Block& /*block*/) const {
    return nullptr;
  }
  // `partials`: one a block, in the order of the blocks.
  virtual void end_pass(int /*pass*/, std::span<const std::unique_ptr<Partial>> /*partials*/) {}
  // Writes block.count values; under kNative they are values of `dtype`.
  virtual void apply(const Block& block, float* out) const = 0;
};

// Statistics of the whole model: sums, counts and thresholds over all merged tensors, of which each
// tensor's own share may differ. The executor makes them anew in every run, a resumed one included:
//
//     for pass in 0 .. passes()-1:  observe(pass, tensor, block) of all blocks, on several threads;
//                                   absorb each partial, alone and in a fixed order;  end_pass(pass)
//
// The order follows the input files; the blocks of one tensor come one after the other. Sums that must not depend on how a model is cut into files are
// made exactly (exact_sum.h). What is kept must be small beside the model: partials are dropped as
// soon as they have been absorbed.
class ModelStatistics {
 public:
  virtual ~ModelStatistics() = default;
  virtual int passes() const = 0;
  virtual std::unique_ptr<Partial> observe(int pass, std::size_t tensor,
                                           const Block& block) const = 0;
  virtual void absorb(int pass, std::size_t tensor, const Partial& partial) = 0;
  virtual void end_pass(int /*pass*/) {}
  // Files beside the models that the method reads: a resumed merge must find them unchanged.
  virtual std::vector<std::string> files() const { return {}; }
  // For the report: weights, thresholds. An object.
  virtual Json summary() const { return Json::object(); }
};

// One method: how its work on a tensor is made. Throws kInvalidArgument for parameters that make no
// sense together, naming method, tensor and parameter.
struct MethodKernel {
  std::string_view name;  // as in merge_methods()
  std::unique_ptr<TensorMerge> (*make)(const TensorContext& context);
  // nullptr, or returns nullptr, where the method looks at one tensor at a time. `tensors`: all that
  // are merged, in the plan's order; they outlive the statistics.
  std::unique_ptr<ModelStatistics> (*make_statistics)(std::span<const TensorContext> tensors) =
      nullptr;
};

// All kernels: one line a method in methods/registry.cpp. nullptr for a method without one (copying
// needs none).
const MethodKernel* find_kernel(std::string_view method);

}  // namespace theriac::merge
