// The corners of LibTorch that the rest of the engine should not have to know: errors, randomness,
// devices, inference mode, tensor files.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "cpp/core/base/error.h"
#include "cpp/core/base/random.h"
#include "cpp/core/engine.h"
#include "cpp/engine/tensor/torch_headers.h"

namespace theriac::tensor {

namespace internal {
Outcome guarded(void (*call)(void*), void* body) noexcept;
}  // namespace internal

// Runs `body` and turns whatever it throws into an Outcome: theriac::Error, the c10 family (table
// in guard.cpp), std::bad_alloc, std::exception, anything else. Allocates nothing when `body`
// succeeds.
template <class Body>
Outcome guarded(Body&& body) noexcept {
  using Callable = std::remove_reference_t<Body>;
  return internal::guarded([](void* callable) { (*static_cast<Callable*>(callable))(); },
                           const_cast<void*>(static_cast<const void*>(&body)));
}

// The failure that the exception being handled stands for; only inside a catch block.
Failure current_failure() noexcept;

// A generator of the job's own; the process-wide default generator is never used. It lives on the
// CPU also when the tensors do not, so that every device sees the same draws; `dropout` moves them.
at::Generator make_generator(std::uint64_t seed, std::string_view purpose,
                             std::uint64_t position = 0);

// Fills with U(low, high) or N(mean, std) from Philox(seed, purpose), element by element in
// row-major order: the same on every device, thread count and LibTorch version. Outside autograd.
void fill_uniform(at::Tensor tensor, double low, double high, std::uint64_t seed,
                  std::string_view purpose);
void fill_normal(at::Tensor tensor, double mean, double std, std::uint64_t seed,
                 std::string_view purpose);

// Inverted dropout with the generator given, p to the nearest multiple of 1/65536; identity when p
// is 0 or the generator is absent or undefined. Mask and scale are the same on every device.
at::Tensor dropout(const at::Tensor& x, double p, const std::optional<at::Generator>& generator);

// "cpu" | "cuda" | "cuda:N" -> device; kUnsupported when it is not there, naming what is missing.
// The first CUDA request of a process loads LibTorch's CUDA libraries.
at::Device parse_device(std::string_view name);
// Names of the devices usable without loading anything more: "cpu", and "cuda:N" once CUDA is
// loaded.
std::vector<std::string> loaded_devices();

// Sets LibTorch's intra-op threads to the budget, once a process; later differing budgets are
// logged.
void apply_thread_budget(const Runtime& runtime);

// Holds LibTorch's process-wide switches for the length of a job. Reproducible: deterministic
// algorithms (also on the CPU, where a parallel index_put_ otherwise adds in any order), no cuDNN
// benchmark, no TF32. Fast: the switches as they are. Jobs of one kind may overlap; a job of the
// other kind is refused with kBusy meanwhile. The last one out restores what the first one found.
class DeterminismScope {
 public:
  explicit DeterminismScope(bool reproducible);
  ~DeterminismScope();
  DeterminismScope(const DeterminismScope&) = delete;
  DeterminismScope& operator=(const DeterminismScope&) = delete;
};

// Remembers where LibTorch's warnings go; without it they are dropped. Every `guarded` call routes
// those of its thread, and only during the call, so that a host's own use of the same LibTorch is
// left alone.
void route_warnings(const Runtime& runtime);

// Parameters, then buffers, by dotted name in registration order.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;
// Detached aliases of the module's memory: they change as it trains.
NamedTensors state_of(const torch::nn::Module& module);
// Copies, on the module's device.
NamedTensors snapshot_of(const torch::nn::Module& module);
// Copies values into the module; every name must be present with the same shape (kDataError names
// it). The module is unchanged on failure. Tensors of `state` that the module lacks are ignored.
void load_state(torch::nn::Module& module, const NamedTensors& state);

// safetensors files of contiguous CPU copies.
void write_tensors(const std::string& path, const NamedTensors& tensors,
                   const std::map<std::string, std::string>& metadata = {});
NamedTensors read_tensors(const std::string& path,
                          std::map<std::string, std::string>* metadata = nullptr);

}  // namespace theriac::tensor
