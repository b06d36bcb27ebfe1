#include "cpp/core/merge/adapter_extraction.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "cpp/core/base/file.h"
#include "cpp/core/base/random.h"
#include "cpp/core/merge/matrices.h"
#include "cpp/core/tensorfile/convert.h"
#include "cpp/core/tensorfile/layout.h"

namespace theriac::merge {
namespace {

using tensorfile::DType;
using tensorfile::TensorRecord;
using tensorfile::internal::shown;
using Stored = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr std::uint64_t kOversampling = 10;
constexpr int kPowerIterations = 2;
constexpr std::string_view kPrefix = "base_model.model.";

// "x" of "x.weight", and "weight".
std::pair<std::string, std::string> split_name(const std::string& name) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string::npos) return {"", name};
  return {name.substr(0, dot), name.substr(dot + 1)};
}
std::string last_part(const std::string& module) { return module.substr(module.rfind('.') + 1); }

// A table of vectors, whose delta PEFT stores transposed. Output heads are linear modules.
bool is_embedding(const PlannedTensor& tensor) {
  if (!tensor.is_embed) return false;
  const std::string module = last_part(split_name(tensor.name).first);
  for (const std::string_view part : {"embed_tokens", "wte", "wpe", "shared", "embed_in"}) {
    if (module == part) return true;
  }
  return module.find("embedding") != std::string::npos;
}

// The first triplets of a: exact, or of a random range where far fewer than all are wanted.
struct Decomposition {
  Svd svd;
  bool randomised = false;
};

Decomposition decompose(const Matrix& a, std::uint64_t rank, std::uint64_t seed,
                        const std::string& name) {
  const auto smaller = static_cast<std::uint64_t>(std::min(a.rows(), a.cols()));
  const std::uint64_t wanted = rank + kOversampling;
  if (4 * wanted >= smaller) return {svd_of(a), false};
  Random random(seed, "extract_lora " + name);
  Matrix probe(a.cols(), static_cast<Eigen::Index>(wanted));
  for (Eigen::Index i = 0; i < probe.size(); ++i) probe.data()[i] = random.normal();
  Matrix range = orthonormal(a * probe);
  for (int i = 0; i < kPowerIterations; ++i) {
    range = orthonormal(a * orthonormal(a.transpose() * range));
  }
  Svd small = svd_of(range.transpose() * a);
  return {{range * small.u, std::move(small.v), std::move(small.s)}, true};
}

class Extraction {
 public:
  Extraction(const MergePlan& plan, const std::vector<const tensorfile::ModelFiles*>& models,
             const ExtractionOptions& options)
      : plan_(plan), models_(models), options_(options) {
    for (const PlannedTensor& tensor : plan.tensors) {
      const auto [module, parameter] = split_name(tensor.name);
      if (tensor.shape.size() >= 2 && parameter == "weight") matrices_[module] = &tensor;
    }
  }

  Json run(const std::filesystem::path& folder, Job& job) {
    for (std::size_t i = 0; i < plan_.tensors.size(); ++i) {
      job.progress("extract", i, plan_.tensors.size());
      const PlannedTensor& tensor = plan_.tensors[i];
      if (tensor.action == PlannedAction::kMerge && tensor.base >= 0 &&
          tensor.sources.size() == 2) {
        add(tensor);
      } else {
        skipped_.push_back(tensor.name);
      }
    }
    for (const auto& [tensor, difference] : biases_) add_bias(*tensor, difference);
    for (const PlannedTensor& tensor : plan_.tensors) {
      if (whole_.contains(split_name(tensor.name).first)) save_whole(tensor);
    }
    if (tensors_.empty()) {
      throw Error(Code::kDataError,
                  "the model does not differ from its base in any tensor that an "
                  "adapter can hold");
    }
    write(folder);
    job.milestone("extract", plan_.tensors.size(), plan_.tensors.size());
    return Json{{"modules", std::move(modules_)},
                {"saved", std::move(saved_)},
                {"skipped", std::move(skipped_)},
                {"energy", all_ == 0 ? Json() : Json(kept_ / all_)}};
  }

 private:
  struct Kept {
    std::string name;
    DType dtype;
    std::vector<std::uint64_t> shape;
    std::string bytes;
  };

  void add(const PlannedTensor& tensor);
  void add_matrix(const PlannedTensor& tensor, const std::string& module, Matrix difference);
  void keep(const std::string& name, std::vector<std::uint64_t> shape, const Matrix& values);
  void keep_factors(const std::string& module, const std::vector<std::uint64_t>& shape,
                    const Matrix& a, const Matrix& b);
  void add_bias(const PlannedTensor& tensor, const Matrix& difference);
  void save_whole(const PlannedTensor& tensor);
  std::vector<float> read(const PlannedTensor& tensor, bool base) const;
  void check_memory(const PlannedTensor& tensor, std::uint64_t rows, std::uint64_t columns) const;
  void write(const std::filesystem::path& folder) const;

  const MergePlan& plan_;
  const std::vector<const tensorfile::ModelFiles*>& models_;
  const ExtractionOptions& options_;
  std::map<std::string, const PlannedTensor*> matrices_;  // of modules that have one
  std::vector<Kept> tensors_;
  std::vector<std::pair<const PlannedTensor*, Matrix>> biases_;
  std::set<std::string> whole_;  // modules that are saved with all they have
  std::map<std::string, std::uint64_t> ranks_;
  std::set<std::string> targets_, to_save_;
  bool has_bias_ = false;
  double kept_ = 0, all_ = 0;  // energies
  Json modules_ = Json::array(), saved_ = Json::array(), skipped_ = Json::array();
};

std::vector<float> Extraction::read(const PlannedTensor& tensor, bool base) const {
  const auto position = static_cast<std::size_t>(base ? tensor.base : 1 - tensor.base);
  const PlannedSource& source = tensor.sources[position];
  const tensorfile::ModelFiles& model = *models_[source.model];
  const TensorRecord& record = model.at(source.tensor);
  if (source.crop || record.shape != tensor.shape) {
    throw Error(Code::kUnsupported, "tensor " + shown(tensor.name) +
                                        ": model and base differ in shape, which no adapter "
                                        "can express")
        .at("tensor", tensor.name);
  }
  // Not rounded to the record's type: a model with an adapter on it differs by less.
  std::vector<char> raw(static_cast<std::size_t>(record.bytes));
  std::vector<float> out(raw.size() * 8 /
                         static_cast<std::size_t>(tensorfile::dtype_bits(record.dtype)));
  model.read_floats(record, 0, out.size(), out.data(), raw.data());
  return out;
}

void Extraction::check_memory(const PlannedTensor& tensor, std::uint64_t rows,
                              std::uint64_t columns) const {
  const std::uint64_t wanted = std::min({rows, columns, 4 * (options_.max_rank + kOversampling)});
  const std::uint64_t needed = rows * columns * (3 * sizeof(float) + 3 * sizeof(double)) +
                               4 * sizeof(double) * wanted * (rows + columns);
  if (options_.memory_limit == 0 || needed <= options_.memory_limit) return;
  throw Error(Code::kOutOfMemory, "tensor " + shown(tensor.name) + ": its decomposition needs " +
                                      std::to_string(needed) + " bytes; the memory limit is " +
                                      std::to_string(options_.memory_limit))
      .at("tensor", tensor.name)
      .at("needed", needed)
      .at("memory_limit", options_.memory_limit);
}

void Extraction::add(const PlannedTensor& tensor) {
  const auto [module, parameter] = split_name(tensor.name);
  const std::uint64_t elements = std::accumulate(tensor.shape.begin(), tensor.shape.end(),
                                                 std::uint64_t{1}, std::multiplies<>());
  if (elements == 0) return static_cast<void>(skipped_.push_back(tensor.name));
  const bool matrix = tensor.shape.size() >= 2 && parameter == "weight" && !module.empty();
  const auto rows = static_cast<Eigen::Index>(tensor.shape.empty() ? 1 : tensor.shape[0]);
  const auto columns = static_cast<Eigen::Index>(elements) / rows;
  if (matrix) check_memory(tensor, tensor.shape[0], elements / tensor.shape[0]);
  const std::vector<float> base = read(tensor, true), model = read(tensor, false);
  if (base == model) return static_cast<void>(skipped_.push_back(tensor.name));
  const Matrix difference = Eigen::Map<const Stored>(model.data(), rows, columns).cast<double>() -
                            Eigen::Map<const Stored>(base.data(), rows, columns).cast<double>();
  if (!difference.allFinite()) {
    throw Error(Code::kNumericError, "tensor " + shown(tensor.name) +
                                         " has NaN or infinite differences, which no "
                                         "decomposition takes")
        .at("tensor", tensor.name);
  }
  const bool embedding = is_embedding(tensor);
  if (matrix && !(embedding && !options_.embed_lora)) {
    add_matrix(tensor, module, difference);
  } else if (parameter == "bias" && matrices_.contains(module)) {
    biases_.emplace_back(&tensor, difference);
  } else if (!module.empty() && (embedding || !options_.skip_undecomposable)) {
    whole_.insert(module);
  } else {
    skipped_.push_back(tensor.name);
  }
}

void Extraction::add_matrix(const PlannedTensor& tensor, const std::string& module,
                            Matrix difference) {
  const bool embedding = is_embedding(tensor);
  if (embedding) difference = difference.transpose().eval();  // [h, V]
  const double energy = difference.squaredNorm();
  const auto [svd, randomised] =
      decompose(difference, options_.max_rank, options_.seed, tensor.name);
  Eigen::Index rank = 0;
  double kept = 0;
  while (rank < svd.s.size() && static_cast<std::uint64_t>(rank) < options_.max_rank &&
         svd.s[rank] > options_.sv_epsilon) {
    kept += svd.s[rank] * svd.s[rank];
    ++rank;
  }
  if (rank == 0) return static_cast<void>(skipped_.push_back(tensor.name));
  const Vector s = svd.s.head(rank), root = s.cwiseSqrt();
  const Matrix right = svd.v.leftCols(rank).transpose(), left = svd.u.leftCols(rank);
  const Matrix a = (options_.distribute_scale ? root : s).asDiagonal() * right;
  const Matrix b = options_.distribute_scale ? Matrix(left * root.asDiagonal()) : left;
  const auto r = static_cast<std::uint64_t>(rank);
  if (embedding) {
    keep(module + ".lora_embedding_A", {r, tensor.shape[0]}, a);
    keep(module + ".lora_embedding_B", {tensor.shape[1], r}, b);
  } else {
    keep_factors(module, tensor.shape, a, b);
  }
  ranks_[module] = r;
  targets_.insert(last_part(module));
  kept_ += kept;
  all_ += energy;
  modules_.push_back(Json{{"module", module},
                          {"shape", tensor.shape},
                          {"rank", r},
                          {"energy", kept / energy},
                          {"relative_error", std::sqrt(std::max(0.0, 1 - kept / energy))},
                          {"randomised", randomised}});
}

// Of a linear module or a convolution.
void Extraction::keep_factors(const std::string& module, const std::vector<std::uint64_t>& shape,
                              const Matrix& a, const Matrix& b) {
  std::vector<std::uint64_t> of_a = shape, of_b(shape.size(), 1);
  of_a[0] = of_b[1] = static_cast<std::uint64_t>(a.rows());
  of_b[0] = shape[0];
  keep(module + ".lora_A.weight", of_a, a);
  keep(module + ".lora_B.weight", of_b, b);
}

// A module that is adapted for its bias alone needs factors all the same: zeros.
void Extraction::add_bias(const PlannedTensor& tensor, const Matrix& difference) {
  const std::string module = split_name(tensor.name).first;
  if (!ranks_.contains(module)) {
    const std::vector<std::uint64_t>& shape = matrices_.at(module)->shape;
    const auto rows = static_cast<Eigen::Index>(shape[0]);
    const auto columns = static_cast<Eigen::Index>(
        std::accumulate(shape.begin() + 1, shape.end(), std::uint64_t{1}, std::multiplies<>()));
    keep_factors(module, shape, Matrix::Zero(1, columns), Matrix::Zero(rows, 1));
    ranks_[module] = 1;
    targets_.insert(last_part(module));
  }
  keep(module + ".lora_B.bias", tensor.shape, difference);
  has_bias_ = true;
}

void Extraction::keep(const std::string& name, std::vector<std::uint64_t> shape,
                      const Matrix& values) {
  const Stored floats = values.cast<float>();
  const auto count = static_cast<std::size_t>(floats.size());
  std::string bytes(count * static_cast<std::size_t>(tensorfile::dtype_bits(options_.dtype)) / 8,
                    '\0');
  tensorfile::from_float(options_.dtype, floats.data(), count, bytes.data());
  tensors_.push_back(
      {std::string(kPrefix) + name, options_.dtype, std::move(shape), std::move(bytes)});
}

// The model's own bytes.
void Extraction::save_whole(const PlannedTensor& tensor) {
  const PlannedSource& source = tensor.sources[static_cast<std::size_t>(1 - tensor.base)];
  const TensorRecord& record = models_[source.model]->at(source.tensor);
  tensors_.push_back({std::string(kPrefix) + tensor.name, record.dtype, tensor.shape,
                      models_[source.model]->read(record)});
  to_save_.insert(last_part(split_name(tensor.name).first));
  saved_.push_back(tensor.name);
}

void Extraction::write(const std::filesystem::path& folder) const {
  std::uint64_t greatest = 1;
  for (const auto& [module, rank] : ranks_) greatest = std::max(greatest, rank);
  Json pattern = Json::object();
  for (const auto& [module, rank] : ranks_) {
    if (rank != greatest) pattern[module] = rank;
  }
  const Json config{{"peft_type", "LORA"},
                    {"base_model_name_or_path", options_.base_name},
                    {"r", greatest},
                    {"lora_alpha", greatest},
                    {"lora_dropout", 0.0},
                    {"use_rslora", false},
                    {"use_dora", false},
                    {"fan_in_fan_out", false},
                    {"bias", "none"},
                    {"lora_bias", has_bias_},
                    {"inference_mode", true},
                    {"task_type", nullptr},
                    {"target_modules", targets_},
                    {"modules_to_save", to_save_.empty() ? Json() : Json(to_save_)},
                    {"rank_pattern", pattern},
                    {"alpha_pattern", pattern}};
  std::vector<tensorfile::TensorToWrite> tensors;
  for (const Kept& kept : tensors_) {
    tensors.push_back({kept.name, kept.dtype, kept.shape, kept.bytes});
  }
  tensorfile::write_file(folder / "adapter_model.safetensors", std::move(tensors),
                         {{"format", "pt"}});
  replace_file(folder / "adapter_config.json", config.dump(2) + "\n");
}

}  // namespace

ExtractionOptions ExtractionOptions::of(const Parameters& parameters) {
  ExtractionOptions out;
  out.max_rank = static_cast<std::uint64_t>(parameters.number("max_rank"));
  out.sv_epsilon = parameters.number("sv_epsilon");
  out.distribute_scale = parameters.flag("distribute_scale");
  out.embed_lora = parameters.flag("embed_lora");
  out.skip_undecomposable = parameters.flag("skip_undecomposable");
  return out;
}

Json extract_adapter(const MergePlan& plan,
                     const std::vector<const tensorfile::ModelFiles*>& models,
                     const std::filesystem::path& folder, const ExtractionOptions& options,
                     Job& job) {
  return Extraction(plan, models, options).run(folder, job);
}

}  // namespace theriac::merge
