// Randomness with the job's own seed. LibTorch's default generator is process-wide, so concurrent
// jobs that draw from it disturb each other; nothing here touches it.
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>

#include "cpp/engine/tensor/tensor.h"

namespace theriac::tensor {
namespace {

template <class Draw>
void fill(at::Tensor tensor, Draw draw) {
  const torch::NoGradGuard no_grad;
  at::Tensor drawn = at::empty(tensor.sizes(), at::kDouble);  // CPU, shape of `tensor`
  double* values = drawn.data_ptr<double>();
  for (std::int64_t i = 0; i < drawn.numel(); ++i) values[i] = draw();
  tensor.copy_(drawn);
}

// Where an element is kept, 1 / (share kept), else 0. The generator is drawn from once, for the key
// of a counter-based one that gives eight elements a block: a tenth of the time of one Mersenne
// Twister draw an element. Probabilities are multiples of 1/65536; the scale is that of the share
// really kept.
at::Tensor keep_mask(at::IntArrayRef shape, double keep, at::Generator generator) {
  constexpr double kUnit = 65536;
  const auto threshold = static_cast<std::uint32_t>(
      std::clamp<double>(static_cast<double>(std::lround(keep * kUnit)), 1, kUnit));
  const auto scale = static_cast<float>(kUnit / threshold);
  std::uint64_t key = 0;
  {
    const std::lock_guard lock(generator.mutex());
    key = at::check_generator<at::CPUGeneratorImpl>(generator)->random64();
  }
  const std::array<std::uint32_t, 2> key_words = {static_cast<std::uint32_t>(key),
                                                  static_cast<std::uint32_t>(key >> 32)};
  at::Tensor mask = at::empty(shape, at::kFloat);
  float* values = mask.mutable_data_ptr<float>();
  const std::int64_t count = mask.numel();
  constexpr std::int64_t kBlock = 8;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const auto block = static_cast<std::uint64_t>(begin / kBlock);
    const auto words = philox4x32(
        {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), 0, 0},
        key_words);
    const std::int64_t end = std::min(count, begin + kBlock);
    for (std::int64_t i = begin; i < end; ++i) {
      const auto place = static_cast<std::size_t>(i - begin);
      const std::uint32_t draw = (words[place / 2] >> (16 * (place % 2))) & 0xffffU;
      values[i] = draw < threshold ? scale : 0.0F;
    }
  }
  return mask;
}

}  // namespace

at::Generator make_generator(std::uint64_t seed, std::string_view purpose, std::uint64_t position) {
  return at::make_generator<at::CPUGeneratorImpl>(Random(seed, purpose, position).bits64());
}

void fill_uniform(at::Tensor tensor, double low, double high, std::uint64_t seed,
                  std::string_view purpose) {
  Random random(seed, purpose);
  fill(std::move(tensor), [&] { return random.uniform(low, high); });
}

void fill_normal(at::Tensor tensor, double mean, double std, std::uint64_t seed,
                 std::string_view purpose) {
  Random random(seed, purpose);
  fill(std::move(tensor), [&] { return mean + std * random.normal(); });
}

at::Tensor dropout(const at::Tensor& x, double p, const std::optional<at::Generator>& generator) {
  if (!(p >= 0 && p <= 1)) {
    throw Error(Code::kInvalidArgument,
                "dropout probability is " + std::to_string(p) + "; expected 0 to 1");
  }
  if (p == 0 || !generator || !generator->defined()) return x;
  if (p == 1) return at::zeros_like(x) * x;  // keeps x in the graph, with a zero gradient
  return x * keep_mask(x.sizes(), 1 - p, *generator).to(x.options());
}

}  // namespace theriac::tensor
