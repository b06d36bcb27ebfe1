// Carries a merge plan out: reads blocks of the models, runs the method on them, writes blocks of
// the output, on several threads and in bounded memory.
//
// The bytes written do not depend on the number of threads, on the memory limit or on how often the
// work was stopped and resumed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/core/merge/method.h"
#include "cpp/core/merge/output_model.h"
#include "cpp/core/merge/plan.h"
#include "cpp/core/tensorfile/model_files.h"

namespace theriac::merge {

// find_kernel, or a test's own.
using KernelResolver = std::function<const MethodKernel*(std::string_view method)>;

struct ExecuteOptions {
  int threads = 0;                 // 0: the cores this process may use
  std::uint64_t memory_limit = 0;  // of all buffers together, in bytes; 0: none
  // A block, at most: without passes blocks may be smaller. It is read and written at once; methods that
  // allow it see it piece by piece, while the piece is in the cache. With other values of the two sums
  // may round differently.
  std::uint64_t block_elements = std::uint64_t{1} << 17;
  std::uint64_t piece_elements = std::uint64_t{1} << 13;
  Accumulate accumulate = Accumulate::kFloat32;
  std::uint64_t seed = 0;
  bool allow_non_finite = false;  // NaN or infinity made of finite inputs is no error
  std::string folder;             // where relative paths among the parameters start from
};

// How one output tensor is made.
enum class WorkKind {
  kMerge,    // by the method
  kConvert,  // of one source, into another element type
  kCopy,     // of one source's bytes
};

struct Work {
  const PlannedTensor* planned = nullptr;
  WorkKind kind = WorkKind::kMerge;
  const MethodKernel* kernel = nullptr;                    // kMerge
  std::vector<const tensorfile::TensorRecord*> sources;    // one a source
  int base = -1;                                           // position in `sources`
  tensorfile::DType dtype = tensorfile::DType::kF32;       // of the output
  tensorfile::DType arithmetic = tensorfile::DType::kF32;  // under kNative
  std::optional<tensorfile::DType> cast;                   // of the sources before arithmetic
  Granularity granularity = Granularity::kElements;
  int passes = 0;
  int statistics_passes = 0;  // over the whole model, before all others
  std::uint64_t elements = 0;
  bool divides = false;           // blocks may be seen piece by piece
  std::uint64_t block = 0;        // elements of a block; bytes where kCopy
  std::uint64_t blocks = 0;       // 0 for a tensor without elements
  std::uint64_t piece = 0;        // elements that the method sees at once
  std::uint64_t buffer = 0;       // bytes of buffers while one block is worked on
  std::uint64_t unit_memory = 0;  // the same with what the method allocates
  std::uint64_t kept = 0;         // bytes that the method keeps between passes
};

// Refers to plan and models, which outlive it.
struct Execution {
  const MergePlan* plan = nullptr;
  std::vector<const tensorfile::ModelFiles*> models;
  ExecuteOptions options;
  std::vector<Work> works;  // one a planned tensor, in the plan's order
  // What a method calls a model, for any tensor: model, and how often it stood before it among the
  // sources of one tensor; ascending.
  std::vector<std::pair<std::size_t, std::size_t>> tasks;
  std::vector<std::string> files;  // that the method reads beside the models

  std::uint64_t bytes_in() const noexcept;  // read altogether, all passes
  std::uint64_t peak_memory() const noexcept;
  int threads() const noexcept;
};

// Decides how each tensor is made; reads no tensor data. `dtype`, `out_dtype`: the recipe's, may be
// empty. The element type of an output is out_dtype, else dtype, else that of the base, else that
// of the first source; tensors that are no floating point numbers keep theirs.
//
// Throws kUnsupported for a method without kernel and for int64, kInvalidArgument for parameters
// that a kernel refuses, kOutOfMemory where one block is more than the memory limit.
Execution prepare(const MergePlan& plan, std::vector<const tensorfile::ModelFiles*> models,
                  const KernelResolver& kernels, const ExecuteOptions& options,
                  std::string_view dtype = "", std::string_view out_dtype = "");

// The output's tensors in the plan's order, for lay_out.
std::vector<OutputTensor> output_tensors(const Execution& execution);

// What is known of a tensor that is done.
struct TensorOutcome {
  std::string checksum;       // of its bytes
  std::uint64_t changed = 0;  // elements whose result, before rounding, is not the base's
  std::uint64_t lost = 0;     // of these, elements that rounding made the base's again
  std::uint64_t non_finite_in = 0, non_finite_out = 0;
};

struct ExecuteTotals {
  std::uint64_t bytes_read = 0, bytes_written = 0;
  std::uint64_t kernel_copies = 0;  // bytes copied without passing through this process
  Json statistics;                  // of the whole model; null for methods without
};

// Makes the tensors that `done` does not mark (empty: all of them). `finished` is called on the
// calling thread, in the order in which tensors end; so is the job's listener. Throws the first
// error of any thread, kCancelled included, after all threads have stopped; tensors that ended
// before have been handed to `finished`.
ExecuteTotals execute(const Execution& execution, OutputFiles& output,
                      const std::vector<char>& done,
                      const std::function<void(std::size_t, const TensorOutcome&)>& finished,
                      Job& job);

// The checksum of a tensor of `bytes` bytes, read as `read(first byte, into)` reads it.
std::string checksum_of(const Execution& execution, std::size_t tensor, std::uint64_t bytes,
                        const std::function<void(std::uint64_t, std::span<char>)>& read);
// The checksum of a tensor as it is in the output now.
std::string checksum_of(const Execution& execution, std::size_t tensor, const OutputFiles& output);

}  // namespace theriac::merge
