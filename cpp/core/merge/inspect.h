// What fine-tuning did to several models of one base, before they are merged: how large the task
// vectors tau_i = theta_i - theta_0 are, how well they agree, and where they do not.
//
//   cosine                 <tau_i, tau_j> / (||tau_i|| ||tau_j||)
//   norm_ratio             ||tau_i|| / ||theta_0||
//   sign_conflict          share of elements where some tau_i > 0 and some tau_j < 0
//   overlap                tau_i trimmed to its largest elements by magnitude (TIES, 2306.01708):
//                          share of what any model keeps that at least two keep
//   sti                    singular task interference, the entrywise sum of
//                          |(U'U - I) S (V'V - I)|, where U, S, V hold the top singular vectors and
//                          values of all tau_i side by side (2412.00081, eq. 4)
//   sar                    subspace alignment ratio ||U_k U_k' tau_i|| / ||tau_i||, Frobenius, where
//                          U_k are the top left singular vectors of sum tau_i (2502.04959)
//
// Tensors pass through in blocks; memory is that of the threads' blocks, and of the matrices whose
// singular values are taken.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cpp/core/base/job.h"
#include "cpp/core/base/json.h"

namespace theriac::merge {

struct InspectOptions {
  std::string base;                 // folder or file
  std::vector<std::string> models;  // 1 to kMostInspected
  std::filesystem::path working_folder;
  // Share of each tau_i's elements that trimming keeps, tensor by tensor: that many exactly, lowest
  // index first among equals, zeros never. 0 leaves overlap out.
  double density = 0.2;
  // Singular vectors of each tau_i that sti and sar look at; 0: smaller side / models, at least 1,
  // the share of the rank that each task gets when they are merged by singular vectors.
  std::int64_t rank = 0;
  // Matrices whose smaller side is beyond this, or whose larger one is beyond eight times this, have
  // neither sti nor sar; 0: no matrix has.
  std::int64_t spectral_limit = 256;
  int threads = 0;  // 0: the cores this process may use
  // Of all blocks of a thread together. Larger tensors are read once a pass, up to three times.
  std::uint64_t block_bytes = std::uint64_t{32} << 20;
  std::string version;  // of the caller's product, for the report
};

inline constexpr std::size_t kMostInspected = 64;

// {"version", "base", "models", "density", "global": STATISTICS, "layers": [{"name", "stack",
// "layer", ...STATISTICS}], "tensors": [{"name", "shape", "layer", ...STATISTICS}], "skipped":
// [{"tensor", "reason"}], "notes", "seconds"}, where STATISTICS are "elements", "norms",
// "base_norm", "norm_ratio", "changed" (share of tau_i that is not zero), "cosine",
// "sign_conflict", "sign_conflicts" (of pairs), "overlap", "overlaps" (of pairs, as a share of the
// smaller of both), "sign_conflict_trimmed" (share of what any model keeps), "rank", "matrices",
// "sti", "sar". What is not defined (a cosine with a zero vector) or was not computed is null. Of
// layers and of the whole, sti and sar are means over their matrices. Compared are floating point
// tensors that all models have in the base's shape; the rest is in "skipped".
//
// The numbers do not depend on the number of threads. Throws kInvalidArgument, kNotFound, kIoError,
// kDataError, kUnsupported, kCancelled, kOutOfMemory.
Json inspect_models(const InspectOptions& options, Job& job);

}  // namespace theriac::merge
