// Small models on disk and small kernels, for tests of what runs kernels.
#pragma once

#include <atomic>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cpp/core/base/file.h"
#include "cpp/core/base/hash.h"
#include "cpp/core/merge/executor.h"
#include "cpp/core/tensorfile/convert.h"

namespace theriac::merge::toy {

using tensorfile::DType;

// ---- kernels -----------------------------------------------------------------------------------

// Called at the start of each apply: tests throw, kill or cut files here.
inline std::function<void(const TensorContext&)>& hook() {
  static std::function<void(const TensorContext&)> function;
  return function;
}

// Sum of weight times tensor, the base after the others.
class WeightedSum final : public TensorMerge {
 public:
  explicit WeightedSum(const TensorContext& context) : context_(context) {
    for (const Parameters* p : context.model_parameters) weights_.push_back(p->number("weight"));
    if (context.has_base) base_ = context.base_parameters->number("weight");
  }
  void apply(const Block& block, float* out) const override {
    if (hook()) hook()(context_);
    for (std::size_t i = 0; i < block.count; ++i) {
      double sum = 0;
      for (std::size_t m = 0; m < weights_.size(); ++m) sum += weights_[m] * block.models[m][i];
      if (block.base != nullptr) sum += base_ * block.base[i];
      out[i] = static_cast<float>(sum);
    }
  }

 private:
  const TensorContext& context_;
  std::vector<double> weights_;
  double base_ = 0;
};

struct Norm final : Partial {
  double squares = 0;
  std::uint64_t first = 0;
};

// Base plus the sum of differences over one plus their norm, which takes a pass.
template <Granularity kGranularity>
class Damped final : public TensorMerge {
 public:
  explicit Damped(const TensorContext& context) : context_(context) {}
  Granularity granularity() const override { return kGranularity; }
  int passes() const override { return 1; }
  std::unique_ptr<Partial> observe(int /*pass*/, const Block& block) const override {
    const bool whole =
        kGranularity == Granularity::kElements ||
        (block.first % context_.row_length() == 0 && block.count % context_.row_length() == 0);
    if (!whole) throw Error(Code::kInternal, "a row was cut");
    if (kGranularity == Granularity::kTensor && block.count != context_.elements()) {
      throw Error(Code::kInternal, "a tensor was cut");
    }
    auto out = std::make_unique<Norm>();
    out->first = block.first;
    for (std::size_t i = 0; i < block.count; ++i) out->squares += std::pow(difference(block, i), 2);
    return out;
  }
  void end_pass(int /*pass*/, std::span<const std::unique_ptr<Partial>> partials) override {
    std::uint64_t last = 0;
    for (const auto& partial : partials) {
      const auto& norm = static_cast<const Norm&>(*partial);
      if (norm.first < last) throw Error(Code::kInternal, "blocks out of order");
      last = norm.first;
      squares_ += norm.squares;
    }
  }
  void apply(const Block& block, float* out) const override {
    if (hook()) hook()(context_);
    for (std::size_t i = 0; i < block.count; ++i) {
      out[i] = static_cast<float>(block.base[i] + difference(block, i) / (1 + std::sqrt(squares_)));
    }
  }

 private:
  static double difference(const Block& block, std::size_t i) {
    double sum = 0;
    for (const float* model : block.models) sum += static_cast<double>(model[i]) - block.base[i];
    return sum;
  }
  const TensorContext& context_;
  double squares_ = 0;
};

// Of the whole model: the sum of all differences, then of their squares from its mean. In float64, so
// that another order gives other bits.
class Spread final : public ModelStatistics {
 public:
  explicit Spread(std::span<const TensorContext> tensors)
      : tensors_(tensors), last_(tensors.size()) {}
  int passes() const override { return 2; }
  std::unique_ptr<Partial> observe(int pass, std::size_t tensor,
                                   const Block& block) const override {
    if (hook() && pass == 1) hook()(tensors_[tensor]);
    auto out = std::make_unique<Norm>();
    out->first = block.first;
    for (std::size_t i = 0; i < block.count; ++i) {
      for (const float* model : block.models) {
        const double d = static_cast<double>(model[i]) - block.base[i];
        out->squares += pass == 0 ? d : std::pow(d - sum_ / count_, 2);
      }
    }
    return out;
  }
  void absorb(int pass, std::size_t tensor, const Partial& partial) override {
    const auto& norm = static_cast<const Norm&>(partial);
    if (norm.first < last_[tensor]) throw Error(Code::kInternal, "blocks out of order");
    last_[tensor] = norm.first;
    (pass == 0 ? sum_ : squares_) += norm.squares;
    if (pass == 0) ++blocks_;
  }
  void end_pass(int pass) override {
    last_.assign(last_.size(), 0);
    if (pass == 0) {
      for (const TensorContext& tensor : tensors_) {
        count_ += static_cast<double>(tensor.elements() * tensor.models());
      }
    }
  }
  Json summary() const override { return Json{{"spread", spread()}, {"blocks", blocks_}}; }
  double spread() const { return std::sqrt(squares_ / count_); }

 private:
  std::span<const TensorContext> tensors_;
  std::vector<std::uint64_t> last_;
  std::uint64_t blocks_ = 0;
  double sum_ = 0, squares_ = 0, count_ = 0;
};

// Base plus the spread of the whole model, times the task's number plus one.
class Spreading final : public TensorMerge {
 public:
  explicit Spreading(const TensorContext& context)
      : context_(context), statistics_(dynamic_cast<const Spread&>(*context.statistics)) {}
  void apply(const Block& block, float* out) const override {
    if (hook()) hook()(context_);
    std::size_t factor = 0;
    for (const std::size_t task : context_.model_tasks) factor += task + 1;
    for (std::size_t i = 0; i < block.count; ++i) {
      out[i] =
          static_cast<float>(block.base[i] + statistics_.spread() * static_cast<double>(factor));
    }
  }

 private:
  const TensorContext& context_;
  const Spread& statistics_;
};

template <class Merge>
std::unique_ptr<TensorMerge> make(const TensorContext& context) {
  return std::make_unique<Merge>(context);
}

inline std::unique_ptr<ModelStatistics> make_spread(std::span<const TensorContext> tensors) {
  return std::make_unique<Spread>(tensors);
}

// magmax: Spreading, with passes over the whole model. linear: WeightedSum. task_arithmetic: Damped, by elements. ties: by rows. breadcrumbs: by
// tensors.
inline const MethodKernel* find(std::string_view method) {
  static const MethodKernel kernels[] = {
      {"linear", make<WeightedSum>},
      {"task_arithmetic", make<Damped<Granularity::kElements>>},
      {"ties", make<Damped<Granularity::kRows>>},
      {"breadcrumbs", make<Damped<Granularity::kTensor>>},
      {"magmax", make<Spreading>, make_spread},
  };
  for (const MethodKernel& kernel : kernels) {
    if (kernel.name == method) return &kernel;
  }
  return nullptr;
}

// ---- models ------------------------------------------------------------------------------------

struct Spec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::uint64_t> shape;
};

// Pseudo-random values in (-1, 1) for the float types, small integers otherwise.
inline std::string values(const Spec& spec, std::uint64_t seed) {
  std::uint64_t count = 1;
  for (const std::uint64_t size : spec.shape) count *= size;
  const auto each = static_cast<std::size_t>(tensorfile::dtype_bits(spec.dtype)) / 8;
  std::string bytes(static_cast<std::size_t>(count) * each, '\0');
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t bits = hash64(spec.name + std::to_string(i), seed);
    const float value = static_cast<float>(bits >> 40) / static_cast<float>(1 << 23) - 1;
    if (tensorfile::is_float(spec.dtype)) {
      tensorfile::from_float(spec.dtype, &value, 1, bytes.data() + i * each);
    } else {
      bytes[i * each] = static_cast<char>(bits % 100);
    }
  }
  return bytes;
}

// `shards` files with an index, or one without. Written to `folder`, which is made.
inline void write_model(const std::filesystem::path& folder, const std::vector<Spec>& specs,
                        std::uint64_t seed, const std::string& config = "{\"a\": 1}",
                        std::size_t shards = 1) {
  std::filesystem::create_directories(folder);
  std::vector<std::string> bytes;
  for (const Spec& spec : specs) bytes.push_back(values(spec, seed));
  std::vector<std::vector<tensorfile::TensorToWrite>> files(shards);
  Json map = Json::object();
  for (std::size_t i = 0; i < specs.size(); ++i) {
    files[i % shards].push_back({specs[i].name, specs[i].dtype, specs[i].shape, bytes[i]});
    map[specs[i].name] = "part-" + std::to_string(i % shards) + ".safetensors";
  }
  for (std::size_t i = 0; i < shards; ++i) {
    const std::string name =
        shards == 1 ? "model.safetensors" : "part-" + std::to_string(i) + ".safetensors";
    tensorfile::write_file(folder / name, files[i], {{"format", "pt"}});
  }
  if (shards > 1) {
    replace_file(folder / "model.safetensors.index.json", dump_json(Json{{"weight_map", map}}));
  }
  if (!config.empty()) replace_file(folder / "config.json", config);
}

// A decoder with every kind of tensor: bf16, f16, f32, int64, empty, scalar.
inline std::vector<Spec> decoder_specs(int layers = 2) {
  std::vector<Spec> out{{"model.embed_tokens.weight", DType::kBF16, {10, 6}}};
  for (int i = 0; i < layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    out.push_back({layer + "mlp.up_proj.weight", DType::kBF16, {11, 6}});
    out.push_back({layer + "attn.q_proj.weight", DType::kF16, {6, 6}});
    out.push_back({layer + "norm.weight", DType::kF32, {6}});
    out.push_back({layer + "position_ids", DType::kI64, {5}});
  }
  out.push_back({"model.norm.weight", DType::kF32, {}});
  out.push_back({"model.nothing", DType::kF32, {0, 3}});
  out.push_back({"lm_head.weight", DType::kBF16, {10, 6}});
  return out;
}

inline std::vector<float> floats(const tensorfile::ModelFiles& model, std::string_view name) {
  const auto& record = model.at(name);
  const std::string bytes = model.read(record);
  std::size_t count = 1;
  for (const std::uint64_t size : record.shape) count *= static_cast<std::size_t>(size);
  std::vector<float> out(count);
  tensorfile::to_float(record.dtype, bytes.data(), count, out.data());
  return out;
}

// All files below a folder, by name.
inline std::map<std::string, std::string> contents(const std::filesystem::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    out[entry.path().filename().string()] = read_file(entry.path());
  }
  return out;
}

}  // namespace theriac::merge::toy
