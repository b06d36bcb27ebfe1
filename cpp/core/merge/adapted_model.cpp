#include "cpp/core/merge/adapted_model.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <numeric>
#include <utility>

#include "cpp/core/base/options.h"
#include "cpp/core/tensorfile/convert.h"
#include "cpp/core/tensorfile/layout.h"
#include "cpp/core/tensorfile/low_rank.h"

namespace theriac::merge {
namespace {

using tensorfile::Adapter;
using tensorfile::AdapterModule;
using tensorfile::ComputedTensor;
using tensorfile::ModelFiles;
using tensorfile::TensorRecord;
using tensorfile::internal::shown;

std::uint64_t product(const std::vector<std::uint64_t>& shape, std::size_t from = 0) {
  return std::accumulate(shape.begin() + static_cast<std::ptrdiff_t>(from), shape.end(),
                         std::uint64_t{1}, std::multiplies<>());
}
std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string out;
  for (const std::uint64_t size : shape) out += (out.empty() ? "" : ", ") + std::to_string(size);
  return "[" + out + "]";
}
std::uint64_t raw_bytes(const TensorRecord& record, std::uint64_t count) {
  return count * static_cast<std::uint64_t>(tensorfile::dtype_bits(record.dtype)) / 8;
}

std::vector<float> floats(const ModelFiles& files, const TensorRecord& record, std::uint64_t first,
                          std::size_t count) {
  std::vector<float> out(count);
  std::vector<char> raw(static_cast<std::size_t>(raw_bytes(record, count)));
  files.read_floats(record, first, count, out.data(), raw.data());
  return out;
}

// The value at a path that exists ("text_config.tie_word_embeddings").
const Json& value_at(const Json& config, const std::string& path) {
  const std::size_t dot = path.find('.');
  const Json& value = config.at(path.substr(0, dot));
  return dot == std::string::npos ? value : value_at(value, path.substr(dot + 1));
}
void set_value(Json& config, const std::string& path, Json value) {
  const std::size_t dot = path.find('.');
  if (dot != std::string::npos) {
    return set_value(config.at(path.substr(0, dot)), path.substr(dot + 1), std::move(value));
  }
  config[path] = std::move(value);
}

// The factor [rank, columns] of the module that was asked for last: every block of a weight needs all
// of it.
class LastFactor {
 public:
  using Values = std::shared_ptr<const std::vector<float>>;
  template <class Make>
  Values get(const TensorRecord* of, Make make) {
    {
      const std::lock_guard lock(mutex_);
      if (of_ == of) return values_;
    }
    Values fresh = std::make_shared<const std::vector<float>>(make());
    const std::lock_guard lock(mutex_);
    of_ = of;
    values_ = fresh;
    return fresh;
  }

 private:
  std::mutex mutex_;
  const TensorRecord* of_ = nullptr;
  Values values_;
};

// What the weights of one adapted model share.
struct Shared {
  std::shared_ptr<const ModelFiles> model;
  std::shared_ptr<const Adapter> adapter;
  LastFactor factor;
};

// A weight seen as a matrix [rows, columns], with left [rows, rank] and right [rank, columns].
class AdaptedWeight final : public ComputedTensor {
 public:
  AdaptedWeight(std::shared_ptr<Shared> shared, TensorRecord weight, const AdapterModule& module,
                bool transposed)
      : shared_(std::move(shared)),
        weight_(std::move(weight)),
        module_(module),
        transposed_(transposed),
        rows_(weight_.shape[0]),
        columns_(product(weight_.shape, 1)) {}

  void read(std::uint64_t first, std::size_t count, float* into) const override {
    if (count == 0) return;
    if (module_.magnitude == nullptr) return sum(first, count, into);
    const std::uint64_t row = first / columns_;
    const std::uint64_t rows = (first + count - 1) / columns_ - row + 1;
    std::vector<float> whole(static_cast<std::size_t>(rows * columns_));
    sum(row * columns_, whole.size(), whole.data());
    normalise(row, static_cast<std::size_t>(rows), whole.data());
    std::copy_n(whole.data() + (first - row * columns_), count, into);
  }

  std::uint64_t memory(std::uint64_t count) const override {
    const std::uint64_t rows = columns_ == 0 ? 0 : count / columns_ + 2;
    const std::uint64_t rank = module_.rank;
    const std::uint64_t factors = 4 * rank * (rows + columns_) +
                                  raw_bytes(*module_.a, rank * (columns_ + rows)) +
                                  raw_bytes(*module_.b, rank * (columns_ + rows));
    const std::uint64_t whole = module_.magnitude == nullptr ? count : rows * columns_;
    return factors + raw_bytes(weight_, whole) + (module_.magnitude == nullptr ? 0 : 4 * whole);
  }

 private:
  // W + s * left * right.
  void sum(std::uint64_t first, std::size_t count, float* into) const {
    std::vector<char> raw(static_cast<std::size_t>(raw_bytes(weight_, count)));
    shared_->model->read_floats(weight_, first, count, into, raw.data());
    const std::uint64_t row = first / columns_;
    const std::uint64_t last_row = (first + count - 1) / columns_;
    const std::vector<float> left = left_rows(row, static_cast<std::size_t>(last_row - row + 1));
    const LastFactor::Values right = shared_->factor.get(module_.a, [this] { return right_all(); });
    const auto rank = static_cast<std::size_t>(module_.rank);
    const auto columns = static_cast<std::size_t>(columns_);
    const auto scale = static_cast<float>(module_.scale);
    const float* at = left.data();
    while (count > 0) {
      const auto column = static_cast<std::size_t>(first % columns_);
      // Part of a row, or as many whole rows as there are.
      const bool whole = column == 0 && count >= columns;
      const std::size_t rows = whole ? count / columns : 1;
      const std::size_t width = whole ? columns : std::min(count, columns - column);
      tensorfile::add_product(at, right->data() + column, rank, columns, scale, rows, width, into,
                              columns);
      at += (whole || column + width == columns) ? rows * rank : 0;
      first += rows * width;
      into += rows * width;
      count -= rows * width;
    }
  }

  std::vector<float> left_rows(std::uint64_t row, std::size_t rows) const {
    const ModelFiles& files = shared_->adapter->files();
    const std::uint64_t rank = module_.rank;
    if (!transposed_) {
      return floats(files, *module_.b, row * rank, rows * static_cast<std::size_t>(rank));
    }
    std::vector<float> out(rows * static_cast<std::size_t>(rank));
    for (std::uint64_t k = 0; k < rank; ++k) {
      const std::vector<float> column = floats(files, *module_.a, k * rows_ + row, rows);
      for (std::size_t i = 0; i < rows; ++i) out[i * rank + k] = column[i];
    }
    return out;
  }

  std::vector<float> right_all() const {
    const ModelFiles& files = shared_->adapter->files();
    const auto size = static_cast<std::size_t>(module_.rank * columns_);
    if (!transposed_) return floats(files, *module_.a, 0, size);
    const std::vector<float> b = floats(files, *module_.b, 0, size);  // [columns, rank]
    std::vector<float> out(size);
    for (std::uint64_t j = 0; j < columns_; ++j) {
      for (std::uint64_t k = 0; k < module_.rank; ++k) {
        out[k * columns_ + j] = b[j * module_.rank + k];
      }
    }
    return out;
  }

  void normalise(std::uint64_t row, std::size_t rows, float* values) const {
    const std::vector<float> magnitude =
        floats(shared_->adapter->files(), *module_.magnitude, row, rows);
    for (std::size_t i = 0; i < rows; ++i, values += columns_) {
      double squares = 0;
      for (std::uint64_t j = 0; j < columns_; ++j) squares += double{values[j]} * values[j];
      if (squares == 0) continue;  // a row of zeros has no direction to scale
      const auto factor = static_cast<float>(magnitude[i] / std::sqrt(squares));
      for (std::uint64_t j = 0; j < columns_; ++j) values[j] *= factor;
    }
  }

  const std::shared_ptr<Shared> shared_;
  const TensorRecord weight_;
  const AdapterModule& module_;  // of the adapter that `shared_` holds
  const bool transposed_;
  const std::uint64_t rows_, columns_;
};

class AdaptedBias final : public ComputedTensor {
 public:
  AdaptedBias(std::shared_ptr<Shared> shared, TensorRecord bias, const AdapterModule& module)
      : shared_(std::move(shared)), bias_(std::move(bias)), module_(module) {}

  void read(std::uint64_t first, std::size_t count, float* into) const override {
    std::vector<char> raw(static_cast<std::size_t>(raw_bytes(bias_, count)));
    shared_->model->read_floats(bias_, first, count, into, raw.data());
    const auto more = floats(shared_->adapter->files(), *module_.b_bias, first, count);
    const auto scale = static_cast<float>(module_.scale);
    for (std::size_t i = 0; i < count; ++i) into[i] += scale * more[i];
  }
  std::uint64_t memory(std::uint64_t count) const override {
    return raw_bytes(bias_, count) + 4 * count + raw_bytes(*module_.b_bias, count);
  }

 private:
  const std::shared_ptr<Shared> shared_;
  const TensorRecord bias_;
  const AdapterModule& module_;
};

class Application {
 public:
  Application(std::shared_ptr<const ModelFiles> model, std::shared_ptr<const Adapter> adapter,
              std::optional<tensorfile::DType> dtype)
      : model_(std::move(model)), adapter_(std::move(adapter)), dtype_(dtype), out_{*model_, {}} {}

  AdaptedModel make() {
    const auto& map = adapter_->map();
    for (const auto& [name, record] : map.replaced) replace(name, *record);
    auto shared = std::make_shared<Shared>();
    shared->model = std::make_shared<const ModelFiles>(out_.files);  // with what was replaced
    shared->adapter = adapter_;
    for (const auto& [name, module] : map.modules) adapt(shared, name, module);
    for (const auto& warning : adapter_->config().warnings) out_.files.add_warning(warning);
    for (const auto& warning : map.warnings) out_.files.add_warning(warning);
    for (const auto& warning : adapter_->files().warnings()) out_.files.add_warning(warning);
    if (head_changed_) untie();
    return std::move(out_);
  }

 private:
  Error misfit(const TensorRecord& tensor, const std::string& problem) const {
    return Error(Code::kDataError, "adapter '" + adapter_->files().folder().string() +
                                       "', tensor " + shown(tensor.name) + ": " + problem)
        .at("file", adapter_->files().folder().string())
        .at("tensor", tensor.name);
  }

  // A checkpoint may leave out what PEFT sees in front ("transformer.h.0" is "h.0" in files of the
  // bare network), or have more in front.
  static const TensorRecord* find(const ModelFiles& files, std::string_view name) {
    if (const TensorRecord* exact = files.find(name)) return exact;
    std::string_view rest = name;
    for (std::size_t dot = rest.find('.'); dot != std::string_view::npos; dot = rest.find('.')) {
      rest.remove_prefix(dot + 1);
      if (rest.find('.') == std::string_view::npos) break;  // "weight" alone says nothing
      if (const TensorRecord* found = files.find(rest)) return found;
    }
    const std::string ending = "." + std::string(name);
    const TensorRecord* longer = nullptr;
    for (const TensorRecord& record : files.tensors()) {
      if (!record.name.ends_with(ending)) continue;
      if (longer != nullptr) return nullptr;
      longer = &record;
    }
    return longer;
  }

  bool tied() const {
    const Json& config = out_.files.config();
    const auto key = tied_key(config);
    return key && value_at(config, *key) == true;
  }

  // The weight of a module. An output head that is not in the files is the embedding.
  const TensorRecord* weight_of(const ModelFiles& files, const std::string& name) const {
    if (const TensorRecord* found = find(files, name)) return found;
    if (!is_output_head_name(name) || !tied()) return nullptr;
    const TensorRecord* embedding = nullptr;
    for (const TensorRecord& record : files.tensors()) {
      if (!is_embedding_name(record.name) || is_output_head_name(record.name)) continue;
      if (embedding != nullptr) return nullptr;
      embedding = &record;
    }
    return embedding;
  }

  void note_head(const std::string& name) {
    if (is_output_head_name(name) && tied()) head_changed_ = true;
  }

  void replace(const std::string& name, const TensorRecord& record) {
    const TensorRecord* old = find(out_.files, name);
    const std::string target = old == nullptr ? name : old->name;
    note_head(target);
    out_.files.set_stored(target, adapter_->files(), record);
  }

  void adapt(const std::shared_ptr<Shared>& shared, const std::string& name,
             const AdapterModule& module) {
    const std::string wanted = name + ".weight";
    const TensorRecord* found = weight_of(*shared->model, wanted);
    if (found == nullptr) {
      throw misfit(*module.a, "the model has no tensor " + shown(wanted) + nearest(wanted));
    }
    TensorRecord weight = *found;
    if (!tensorfile::is_float(weight.dtype)) {
      throw misfit(*module.a, "the model's " + shown(weight.name) + " is of type " +
                                  std::string(tensorfile::dtype_name(weight.dtype)) +
                                  ", to which nothing can be added; adapters on quantised "
                                  "weights need the unquantised model");
    }
    const bool transposed =
        module.embedding || (adapter_->config().fan_in_fan_out && weight.shape.size() == 2);
    check_shapes(weight, module, transposed);
    TensorRecord out = weight;
    if (dtype_) set_dtype(out);
    if (is_output_head_name(wanted) && !is_output_head_name(weight.name)) out.name = wanted;
    note_head(out.name);
    out_.files.set_computed(std::move(out),
                            std::make_shared<AdaptedWeight>(shared, weight, module, transposed));
    if (module.b_bias != nullptr) adapt_bias(shared, name, module);
  }

  void adapt_bias(const std::shared_ptr<Shared>& shared, const std::string& name,
                  const AdapterModule& module) {
    const TensorRecord* bias = find(*shared->model, name + ".bias");
    if (bias == nullptr) {
      throw misfit(*module.b_bias, "the model's module has no bias that it could be added to");
    }
    if (bias->shape != module.b_bias->shape || !tensorfile::is_float(bias->dtype)) {
      throw misfit(*module.b_bias, "its shape is " + shape_text(module.b_bias->shape) +
                                       ", that of the model's " + shown(bias->name) + " " +
                                       shape_text(bias->shape));
    }
    TensorRecord out = *bias;
    if (dtype_) set_dtype(out);
    out_.files.set_computed(std::move(out), std::make_shared<AdaptedBias>(shared, *bias, module));
  }

  void check_shapes(const TensorRecord& weight, const AdapterModule& module,
                    bool transposed) const {
    const auto& shape = weight.shape;
    const auto& a = module.a->shape;
    const auto& b = module.b->shape;
    const bool fits =
        shape.size() >= 2 &&
        (transposed ? shape.size() == 2 && product(a, 1) == shape[0] && b[0] == shape[1]
                    : b[0] == shape[0] && product(b, 2) == 1 && product(a, 1) == product(shape, 1));
    if (!fits) {
      throw misfit(*module.a, "A " + shape_text(a) + " and B " + shape_text(b) +
                                  " do not fit the model's " + shown(weight.name) + " " +
                                  shape_text(shape) +
                                  (transposed ? ", whose transpose they change" : ""));
    }
    if (module.magnitude == nullptr) return;
    if (transposed || shape.size() != 2) {
      throw Error(Code::kUnsupported,
                  "adapter '" + adapter_->files().folder().string() + "', tensor " +
                      shown(module.magnitude->name) +
                      ": DoRA is applied to linear modules only, without fan_in_fan_out")
          .at("tensor", module.magnitude->name);
    }
    if (product(module.magnitude->shape) != shape[0]) {
      throw misfit(*module.magnitude, "has " + std::to_string(product(module.magnitude->shape)) +
                                          " elements; the module has " + std::to_string(shape[0]) +
                                          " outputs");
    }
  }

  void set_dtype(TensorRecord& record) const {
    record.dtype = *dtype_;
    record.bytes = raw_bytes(record, product(record.shape));
  }

  std::string nearest(const std::string& name) const {
    constexpr std::size_t kCompared = 10'000;  // bounds the time an error takes
    std::vector<std::string> names;
    for (const TensorRecord& record : model_->tensors()) {
      if (names.size() < kCompared) names.push_back(record.name);
    }
    const std::string found = nearest_name(name, names);
    return found.empty() ? "; is the adapter one for this model?"
                         : "; the nearest is " + shown(found);
  }

  // An adapter that changes the head alone makes it another matrix than the embedding.
  void untie() {
    const auto key = tied_key(out_.files.config());
    if (!key) return;
    Json config = out_.files.config();
    set_value(config, *key, false);
    out_.files.set_config(std::move(config));
    out_.config_edits.push_back({*key, false});
    out_.files.add_warning("the adapter '" + adapter_->files().folder().string() +
                           "' changes the output head of a model that ties it to the embedding; "
                           "they are two tensors now (tie_word_embeddings is false)");
  }

  std::shared_ptr<const ModelFiles> model_;
  std::shared_ptr<const Adapter> adapter_;
  std::optional<tensorfile::DType> dtype_;
  AdaptedModel out_;
  bool head_changed_ = false;
};

}  // namespace

AdaptedModel apply_adapter(std::shared_ptr<const ModelFiles> model,
                           std::shared_ptr<const Adapter> adapter,
                           std::optional<tensorfile::DType> dtype) {
  return Application(std::move(model), std::move(adapter), dtype).make();
}

}  // namespace theriac::merge
