#include "cpp/core/merge/inspect.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <optional>
#include <span>
#include <thread>
#include <tuple>
#include <utility>

#include "cpp/core/base/runtime.h"
#include "cpp/core/merge/architecture.h"
#include "cpp/core/merge/inspect_spectra.h"
#include "cpp/core/tensorfile/convert.h"
#include "cpp/core/tensorfile/model_files.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
using tensorfile::ModelFiles;
using tensorfile::TensorRecord;

constexpr std::size_t kChunk = 4096;        // elements: those of a few models stay in the cache
constexpr std::size_t kLanes = 16;          // partial sums, in a fixed order
constexpr std::size_t kMostSkipped = 1000;  // listed by name
constexpr std::int64_t kLargestAspect = 8;  // of matrices, in units of the limit

// ---- what is counted ---------------------------------------------------------------------------

// Sums over elements, so that tensors add up to layers and layers to the whole.
struct Statistics {
  explicit Statistics(std::size_t models = 0)
      : gram(models * models),
        opposed(models * models),
        kept_both(models * models),
        changed(models),
        kept(models),
        sar(models),
        sar_matrices(models) {}

  std::uint64_t elements = 0, non_finite = 0;
  double base_squares = 0;
  std::vector<double> gram;            // <tau_i, tau_j>
  std::uint64_t conflicts = 0;         // elements where two models' signs oppose
  std::vector<std::uint64_t> opposed;  // of each pair
  std::vector<std::uint64_t> kept_both;
  std::vector<std::uint64_t> changed;  // elements that are not zero
  std::vector<std::uint64_t> kept;     // after trimming
  std::uint64_t kept_any = 0, kept_twice = 0, kept_conflicts = 0;
  std::size_t matrices = 0, rank = 0;  // rank: of the last matrix
  double sti = 0;
  std::vector<double> sar;
  std::vector<std::size_t> sar_matrices;

  void add(const Statistics& other) {
    const auto sum = [](auto& into, const auto& from) {
      for (std::size_t i = 0; i < into.size(); ++i) into[i] += from[i];
    };
    elements += other.elements;
    non_finite += other.non_finite;
    base_squares += other.base_squares;
    conflicts += other.conflicts;
    kept_any += other.kept_any;
    kept_twice += other.kept_twice;
    kept_conflicts += other.kept_conflicts;
    matrices += other.matrices;
    sti += other.sti;
    sum(gram, other.gram);
    sum(opposed, other.opposed);
    sum(kept_both, other.kept_both);
    sum(changed, other.changed);
    sum(kept, other.kept);
    sum(sar, other.sar);
    sum(sar_matrices, other.sar_matrices);
  }
};

// One tensor that all models have.
struct Subject {
  std::string name;
  const TensorRecord* base = nullptr;
  std::vector<const TensorRecord*> models;
  std::uint64_t elements = 0;
  std::size_t layer = 0;  // position in Inspection::layers
  bool matrix = false;    // of ordinary size
};

struct Layer {
  std::string name;
  std::string stack;
  std::int64_t index = -1;  // -1: outside the layers
};

struct Skipped {
  std::string tensor, reason;
};

// All that workers share; not changed while they run.
struct Inspection {
  ModelFiles base;
  std::vector<ModelFiles> models;
  std::vector<Layer> layers;
  std::vector<Subject> subjects;
  std::vector<Skipped> skipped;
  std::size_t large_matrices = 0;
};

// ---- arithmetic on blocks ----------------------------------------------------------------------

double dot(const float* a, const float* b, std::size_t count) {
  std::array<double, kLanes> sums{};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      sums[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
    }
  }
  for (std::size_t lane = 0; i < count; ++i, ++lane) {
    sums[lane] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  }
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

std::uint32_t magnitude_key(float value) {
  return std::bit_cast<std::uint32_t>(value) & 0x7fffffffU;
}

// Finds the largest elements of one task vector, seen twice from first to last element. Keys are the
// bits of |value|, whose order is that of the values.
class Trim {
 public:
  explicit Trim(std::uint64_t rank) : rank_(rank), counts_(kUpper) {}

  void count_upper(const float* values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) ++counts_[magnitude_key(values[i]) >> 16];
  }
  void end_upper() {
    above_ = 0;
    upper_ = kUpper - 1;
    while (upper_ > 0 && above_ + counts_[upper_] < rank_) above_ += counts_[upper_--];
    counts_.assign(kLower, 0);
  }
  void count_lower(const float* values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t key = magnitude_key(values[i]);
      if (key >> 16 == upper_) ++counts_[key & 0xffffU];
    }
  }
  void end_lower() {
    std::size_t lower = kLower - 1;
    while (lower > 0 && above_ + counts_[lower] < rank_) above_ += counts_[lower--];
    smallest_ = static_cast<std::uint32_t>(upper_ << 16 | lower);
    ties_left_ = rank_ - above_;
    counts_ = {};
  }
  // Asked once for each element, in order.
  bool keeps(float value) {
    const std::uint32_t key = magnitude_key(value);
    if (key == 0 || key < smallest_) return false;
    if (key > smallest_) return true;
    if (ties_left_ == 0) return false;
    --ties_left_;
    return true;
  }

 private:
  static constexpr std::size_t kUpper = 32768, kLower = 65536;
  std::uint64_t rank_, above_ = 0, ties_left_ = 0;
  std::size_t upper_ = 0;
  std::uint32_t smallest_ = 0;
  std::vector<std::uint64_t> counts_;
};

// ---- one tensor --------------------------------------------------------------------------------

// The task vectors of one tensor, block by block; a tensor that fits into one block is read once.
class TaskVectors {
 public:
  TaskVectors(const Inspection& inspection, const Subject& subject, std::uint64_t block_bytes)
      : inspection_(inspection), subject_(subject) {
    const std::uint64_t each = sizeof(float) * (subject.models.size() + 1);
    block_ = std::clamp<std::uint64_t>(block_bytes / each, kChunk,
                                       std::max<std::uint64_t>(kChunk, subject.elements));
    taus_.resize(subject.models.size());
  }

  std::uint64_t block() const { return block_; }
  std::size_t count() const { return count_; }
  const float* base() const { return base_.data(); }
  const float* tau(std::size_t model) const { return taus_[model].data(); }
  std::uint64_t non_finite() const { return non_finite_; }  // elements, of any model

  void load(std::uint64_t first) {
    if (loaded_ == first) return;
    loaded_ = first;
    count_ = static_cast<std::size_t>(std::min(block_, subject_.elements - first));
    counting_ = first >= counted_;  // later passes see the same elements again
    counted_ = std::max(counted_, first + count_);
    read(inspection_.base, *subject_.base, first, base_);
    for (std::size_t i = 0; i < taus_.size(); ++i) {
      read(inspection_.models[i], *subject_.models[i], first, taus_[i]);
      subtract(taus_[i]);
    }
  }

 private:
  void read(const ModelFiles& model, const TensorRecord& record, std::uint64_t first,
            std::vector<float>& into) {
    const auto each = static_cast<std::uint64_t>(tensorfile::dtype_bits(record.dtype)) / 8;
    bytes_.resize(count_ * each);
    model.read(record, first * each, bytes_);
    into.resize(count_);
    tensorfile::to_float(record.dtype, bytes_.data(), count_, into.data());
  }
  // What is not finite, in base or model, counts as unchanged.
  void subtract(std::vector<float>& values) {
    for (std::size_t i = 0; i < count_; ++i) {
      const float difference = values[i] - base_[i];
      const bool finite = std::isfinite(difference);
      values[i] = finite ? difference : 0;
      non_finite_ += counting_ && !finite ? 1 : 0;
    }
  }

  const Inspection& inspection_;
  const Subject& subject_;
  std::uint64_t block_ = 0, counted_ = 0, non_finite_ = 0;
  bool counting_ = true;
  std::optional<std::uint64_t> loaded_;
  std::size_t count_ = 0;
  std::vector<char> bytes_;
  std::vector<float> base_;
  std::vector<std::vector<float>> taus_;
};

// Stops the workers; asked between chunks.
using Stop = std::atomic<bool>;
struct Stopped {};

class TensorInspection {
 public:
  TensorInspection(const Inspection& inspection, const Subject& subject,
                   const InspectOptions& options, const Stop& stop)
      : subject_(subject),
        options_(options),
        stop_(stop),
        models_(subject.models.size()),
        vectors_(inspection, subject, options.block_bytes),
        out_(models_) {}

  Statistics run() {
    out_.elements = subject_.elements;
    if (options_.density > 0) {
      const auto share =
          static_cast<std::uint64_t>(options_.density * static_cast<double>(subject_.elements));
      const std::uint64_t rank = std::clamp<std::uint64_t>(share, 1, subject_.elements);
      for (std::size_t i = 0; i < models_; ++i) trims_.emplace_back(rank);
    }
    each_chunk([this](const Chunk& chunk) { sums(chunk); });
    if (!trims_.empty()) trim();
    if (subject_.matrix) spectra();
    out_.non_finite = vectors_.non_finite();
    return std::move(out_);
  }

 private:
  struct Chunk {
    const float* base = nullptr;
    std::vector<const float*> taus;
    std::size_t count = 0;
  };

  template <class Work>
  void each_chunk(const Work& work) {
    Chunk chunk;
    chunk.taus.resize(models_);
    for (std::uint64_t first = 0; first < subject_.elements; first += vectors_.block()) {
      vectors_.load(first);
      for (std::size_t at = 0; at < vectors_.count(); at += kChunk) {
        if (stop_.load(std::memory_order_relaxed)) throw Stopped{};
        chunk.count = std::min(kChunk, vectors_.count() - at);
        chunk.base = vectors_.base() + at;
        for (std::size_t i = 0; i < models_; ++i) chunk.taus[i] = vectors_.tau(i) + at;
        work(chunk);
      }
    }
  }

  std::size_t pair(std::size_t i, std::size_t j) const { return i * models_ + j; }

  void sums(const Chunk& chunk) {
    base_squares(chunk);
    std::array<std::uint8_t, kChunk> up{}, down{};
    for (std::size_t i = 0; i < models_; ++i) {
      const float* a = chunk.taus[i];
      for (std::size_t e = 0; e < chunk.count; ++e) {
        up[e] |= static_cast<std::uint8_t>(a[e] > 0);
        down[e] |= static_cast<std::uint8_t>(a[e] < 0);
      }
      for (std::size_t j = i; j < models_; ++j) {
        out_.gram[pair(i, j)] += dot(a, chunk.taus[j], chunk.count);
        if (i != j) out_.opposed[pair(i, j)] += opposed(a, chunk.taus[j], chunk.count);
      }
      out_.changed[i] += static_cast<std::uint64_t>(
          std::count_if(a, a + chunk.count, [](float value) { return value != 0; }));
      if (!trims_.empty()) trims_[i].count_upper(a, chunk.count);
    }
    for (std::size_t e = 0; e < chunk.count; ++e) out_.conflicts += up[e] & down[e];
  }

  void base_squares(const Chunk& chunk) {
    double squares = dot(chunk.base, chunk.base, chunk.count);
    if (!std::isfinite(squares)) {
      squares = 0;
      for (std::size_t e = 0; e < chunk.count; ++e) {
        const auto value = static_cast<double>(chunk.base[e]);
        if (std::isfinite(value)) squares += value * value;
      }
    }
    out_.base_squares += squares;
  }

  static std::uint64_t opposed(const float* a, const float* b, std::size_t count) {
    std::uint32_t out = 0;
    for (std::size_t e = 0; e < count; ++e) {
      out += static_cast<std::uint32_t>((a[e] > 0) & (b[e] < 0)) +
             static_cast<std::uint32_t>((a[e] < 0) & (b[e] > 0));
    }
    return out;
  }

  void trim() {
    for (Trim& trim : trims_) trim.end_upper();
    each_chunk([this](const Chunk& chunk) {
      for (std::size_t i = 0; i < models_; ++i) trims_[i].count_lower(chunk.taus[i], chunk.count);
    });
    for (Trim& trim : trims_) trim.end_lower();
    each_chunk([this](const Chunk& chunk) {
      for (std::size_t e = 0; e < chunk.count; ++e) compare_kept(chunk, e);
    });
  }

  void compare_kept(const Chunk& chunk, std::size_t e) {
    std::uint64_t kept = 0;  // a bit a model
    bool up = false, down = false;
    for (std::size_t i = 0; i < models_; ++i) {
      const float value = chunk.taus[i][e];
      if (!trims_[i].keeps(value)) continue;
      kept |= std::uint64_t{1} << i;
      up |= value > 0;
      down |= value < 0;
    }
    if (kept == 0) return;
    ++out_.kept_any;
    out_.kept_conflicts += up && down ? 1 : 0;
    const bool alone = std::has_single_bit(kept);
    out_.kept_twice += alone ? 0 : 1;
    for (std::size_t i = 0; i < models_; ++i) {
      if ((kept >> i & 1) == 0) continue;
      ++out_.kept[i];
      if (alone) return;
      for (std::size_t j = i + 1; j < models_; ++j) out_.kept_both[pair(i, j)] += kept >> j & 1;
    }
  }

  void spectra() {
    std::vector<std::vector<double>> matrices(models_);
    each_chunk([this, &matrices](const Chunk& chunk) {
      for (std::size_t i = 0; i < models_; ++i) {
        matrices[i].insert(matrices[i].end(), chunk.taus[i], chunk.taus[i] + chunk.count);
      }
    });
    const auto& shape = subject_.base->shape;
    const SpectralAgreement found = spectral_agreement(matrices, static_cast<std::size_t>(shape[0]),
                                                       static_cast<std::size_t>(shape[1]),
                                                       static_cast<std::size_t>(options_.rank));
    out_.matrices = 1;
    out_.rank = found.rank;
    out_.sti = found.interference;
    for (std::size_t i = 0; i < models_; ++i) {
      if (std::isnan(found.alignment[i])) continue;
      out_.sar[i] = found.alignment[i];
      out_.sar_matrices[i] = 1;
    }
  }

  const Subject& subject_;
  const InspectOptions& options_;
  const Stop& stop_;
  std::size_t models_;
  TaskVectors vectors_;
  std::vector<Trim> trims_;
  Statistics out_;
};

// ---- all tensors -------------------------------------------------------------------------------

ModelFiles open_at(const fs::path& folder, const std::string& name, const char* role) {
  if (name.empty()) {
    throw Error(Code::kInvalidArgument,
                std::string("option '") + role + "' is missing: a model's folder or file")
        .at("option", role);
  }
  const fs::path path = folder / name;
  std::error_code ignored;
  if (fs::exists(path, ignored)) return ModelFiles::open(path);
  throw Error(Code::kNotFound, "there is no model at '" + path.string() +
                                   "'; models are local folders or files, nothing is downloaded")
      .at("model", name)
      .at("file", path.string());
}

// Why a tensor of the base is not compared, or nothing.
std::string obstacle(const Inspection& inspection, const InspectOptions& options,
                     const TensorRecord& base) {
  if (!tensorfile::is_float(base.dtype)) return "holds no floating point numbers";
  for (std::size_t i = 0; i < inspection.models.size(); ++i) {
    const TensorRecord* other = inspection.models[i].find(base.name);
    if (other == nullptr) return "missing in '" + options.models[i] + "'";
    if (other->shape != base.shape) return "of another shape in '" + options.models[i] + "'";
    if (!tensorfile::is_float(other->dtype)) {
      return "holds no floating point numbers in '" + options.models[i] + "'";
    }
  }
  return "";
}

Layer layer_of(const std::string& tensor) {
  if (const auto found = parse_layer_name(tensor)) {
    return {std::string(found->stack) + "." + std::to_string(found->layer),
            std::string(found->stack), found->layer};
  }
  const auto dot_at = tensor.rfind('.');
  return {dot_at == std::string::npos || dot_at == 0 ? tensor : tensor.substr(0, dot_at), "", -1};
}

// As a model is read: what comes before the layers, the layers by number, what comes after.
auto reading_order(const Layer& layer) {
  const int place = layer.index >= 0 ? 1 : is_after_layers(layer.name + ".weight") ? 2 : 0;
  return std::tuple(place, layer.stack, layer.index, layer.name);
}

bool ordinary_matrix(const TensorRecord& tensor, std::int64_t limit) {
  if (tensor.shape.size() != 2) return false;
  const auto [least, most] = std::minmax(tensor.shape[0], tensor.shape[1]);
  const auto bound = static_cast<std::uint64_t>(limit);
  return least > 0 && least <= bound && most <= bound * kLargestAspect;
}

void match_tensors(Inspection& inspection, const InspectOptions& options) {
  std::map<std::string, Layer> layers;
  for (const TensorRecord& tensor : inspection.base.tensors()) {
    const std::string why = obstacle(inspection, options, tensor);
    if (!why.empty()) {
      inspection.skipped.push_back({tensor.name, why});
      continue;
    }
    Subject subject;
    subject.name = tensor.name;
    subject.base = &tensor;
    for (const ModelFiles& model : inspection.models) {
      subject.models.push_back(&model.at(tensor.name));
    }
    subject.elements = std::accumulate(tensor.shape.begin(), tensor.shape.end(), std::uint64_t{1},
                                       std::multiplies<>());
    subject.matrix = ordinary_matrix(tensor, options.spectral_limit);
    if (tensor.shape.size() == 2 && subject.elements > 0 && !subject.matrix) {
      ++inspection.large_matrices;
    }
    Layer layer = layer_of(tensor.name);
    layers.emplace(layer.name, layer);
    inspection.subjects.push_back(std::move(subject));
  }
  for (const auto& [name, layer] : layers) inspection.layers.push_back(layer);
  std::sort(inspection.layers.begin(), inspection.layers.end(),
            [](const Layer& a, const Layer& b) { return reading_order(a) < reading_order(b); });
  std::map<std::string, std::size_t> position;
  for (std::size_t i = 0; i < inspection.layers.size(); ++i) {
    position[inspection.layers[i].name] = i;
  }
  for (Subject& subject : inspection.subjects) {
    subject.layer = position.at(layer_of(subject.name).name);
  }
}

// Runs the subjects on some threads, the largest first; the calling thread tells the job.
class Workers {
 public:
  Workers(const Inspection& inspection, const InspectOptions& options)
      : inspection_(inspection), options_(options), results_(inspection.subjects.size()) {
    order_.resize(results_.size());
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::stable_sort(order_.begin(), order_.end(), [&inspection](std::size_t a, std::size_t b) {
      return inspection.subjects[a].elements > inspection.subjects[b].elements;
    });
    for (const Subject& subject : inspection.subjects) total_ += subject.elements;
  }

  std::vector<Statistics> run(Job& job) {
    const int asked = options_.threads > 0 ? options_.threads : available_cores();
    const auto threads = std::clamp<std::size_t>(static_cast<std::size_t>(asked), 1,
                                                 std::max<std::size_t>(1, results_.size()));
    std::vector<std::thread> pool;
    try {
      for (std::size_t i = 0; i < threads; ++i) {
        running_.fetch_add(1);
        pool.emplace_back([this] { work(); });
      }
      watch(job);
    } catch (...) {
      if (pool.size() < threads) running_.fetch_sub(1);  // the one that could not be started
      fail(std::current_exception());
    }
    for (std::thread& thread : pool) thread.join();
    if (failure_) std::rethrow_exception(failure_);
    job.milestone("inspect", total_, total_);
    return std::move(results_);
  }

 private:
  void work() {
    try {
      for (std::size_t i = next_.fetch_add(1); i < order_.size() && !stop_.load();
           i = next_.fetch_add(1)) {
        const Subject& subject = inspection_.subjects[order_[i]];
        results_[order_[i]] = subject.elements == 0
                                  ? Statistics(subject.models.size())
                                  : TensorInspection(inspection_, subject, options_, stop_).run();
        done_.fetch_add(subject.elements);
      }
    } catch (const Stopped&) {  // somebody else has a reason
    } catch (...) {
      fail(std::current_exception());
    }
    const std::lock_guard lock(mutex_);
    running_.fetch_sub(1);
    changed_.notify_all();
  }
  void fail(std::exception_ptr why) {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::move(why);
    stop_.store(true);
  }
  void watch(Job& job) {
    std::unique_lock lock(mutex_);
    while (running_.load() > 0) {
      changed_.wait_for(lock, std::chrono::milliseconds(20));
      lock.unlock();
      job.progress("inspect", done_.load(), total_);
      lock.lock();
    }
  }

  const Inspection& inspection_;
  const InspectOptions& options_;
  std::vector<Statistics> results_;
  std::vector<std::size_t> order_;
  std::uint64_t total_ = 0;
  std::atomic<std::size_t> next_{0}, running_{0};
  std::atomic<std::uint64_t> done_{0};
  Stop stop_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::exception_ptr failure_;
};

// ---- the report --------------------------------------------------------------------------------

Json ratio(double part, double all) { return all > 0 ? Json(part / all) : Json(); }
Json ratio(std::uint64_t part, std::uint64_t all) {
  return ratio(static_cast<double>(part), static_cast<double>(all));
}

// A symmetric matrix of which the upper half is kept.
template <class Entry>
Json symmetric(std::size_t n, const Entry& entry) {
  Json out = Json::array();
  for (std::size_t i = 0; i < n; ++i) {
    Json row = Json::array();
    for (std::size_t j = 0; j < n; ++j) row.push_back(entry(std::min(i, j), std::max(i, j)));
    out.push_back(std::move(row));
  }
  return out;
}

void add_magnitudes(Json& out, const Statistics& s, std::size_t n) {
  Json norms = Json::array(), ratios = Json::array(), changed = Json::array();
  for (std::size_t i = 0; i < n; ++i) {
    const double norm = std::sqrt(s.gram[i * n + i]);
    norms.push_back(norm);
    ratios.push_back(ratio(norm, std::sqrt(s.base_squares)));
    changed.push_back(ratio(s.changed[i], s.elements));
  }
  out["elements"] = s.elements;
  out["base_norm"] = std::sqrt(s.base_squares);
  out["norms"] = std::move(norms);
  out["norm_ratio"] = std::move(ratios);
  out["changed"] = std::move(changed);
}

void add_agreement(Json& out, const Statistics& s, std::size_t n) {
  out["cosine"] = symmetric(n, [&](std::size_t i, std::size_t j) -> Json {
    const double norms = std::sqrt(s.gram[i * n + i]) * std::sqrt(s.gram[j * n + j]);
    if (!(norms > 0)) return {};
    return i == j ? 1.0 : std::clamp(s.gram[i * n + j] / norms, -1.0, 1.0);
  });
  out["sign_conflict"] = ratio(s.conflicts, s.elements);
  out["sign_conflicts"] = symmetric(n, [&](std::size_t i, std::size_t j) -> Json {
    return ratio(i == j ? 0 : s.opposed[i * n + j], s.elements);
  });
}

void add_overlap(Json& out, const Statistics& s, std::size_t n, bool trimmed) {
  out["overlap"] = trimmed ? ratio(s.kept_twice, s.kept_any) : Json();
  out["sign_conflict_trimmed"] = trimmed ? ratio(s.kept_conflicts, s.kept_any) : Json();
  if (!trimmed) {
    out["overlaps"] = Json();
    return;
  }
  out["overlaps"] = symmetric(n, [&](std::size_t i, std::size_t j) -> Json {
    return ratio(i == j ? s.kept[i] : s.kept_both[i * n + j], std::min(s.kept[i], s.kept[j]));
  });
}

void add_spectra(Json& out, const Statistics& s, std::size_t n) {
  out["matrices"] = s.matrices;
  out["sti"] = s.matrices == 0 ? Json() : Json(s.sti / static_cast<double>(s.matrices));
  Json sar = Json::array();
  for (std::size_t i = 0; i < n; ++i) {
    sar.push_back(ratio(s.sar[i], static_cast<double>(s.sar_matrices[i])));
  }
  out["sar"] = s.matrices == 0 ? Json() : std::move(sar);
}

Json statistics_json(Json head, const Statistics& s, std::size_t models, bool trimmed) {
  add_magnitudes(head, s, models);
  add_agreement(head, s, models);
  add_overlap(head, s, models, trimmed);
  add_spectra(head, s, models);
  return head;
}

Json notes_of(const Inspection& inspection, const InspectOptions& options, const Statistics& all) {
  Json out = Json::array();
  const auto say = [&out](std::string text) { out.push_back(std::move(text)); };
  if (inspection.large_matrices > 0) {
    say(std::to_string(inspection.large_matrices) + " of " +
        std::to_string(inspection.large_matrices + all.matrices) +
        " matrices are beyond spectral_limit (" + std::to_string(options.spectral_limit) +
        " on the smaller side, eight times that on the larger) and have no part in sti and sar");
  }
  if (!inspection.skipped.empty()) {
    say(std::to_string(inspection.skipped.size()) +
        " tensors of the base are not compared; 'skipped' says why");
  }
  for (std::size_t i = 0; i < inspection.models.size(); ++i) {
    std::size_t alone = 0;
    for (const TensorRecord& tensor : inspection.models[i].tensors()) {
      alone += inspection.base.find(tensor.name) == nullptr ? 1 : 0;
    }
    if (alone > 0) {
      say(std::to_string(alone) + " tensors of '" + options.models[i] +
          "' are not in the base and not compared");
    }
    if (all.changed[i] == 0) say("'" + options.models[i] + "' is equal to the base");
  }
  if (all.non_finite > 0) {
    say(std::to_string(all.non_finite) +
        " differences are NaN or infinite and counted as unchanged");
  }
  return out;
}

Json skipped_json(const Inspection& inspection) {
  Json out = Json::array();
  for (const Skipped& skipped : inspection.skipped) {
    if (out.size() == kMostSkipped) break;
    out.push_back(Json{{"tensor", skipped.tensor}, {"reason", skipped.reason}});
  }
  return out;
}

Json report_of(const Inspection& inspection, const InspectOptions& options,
               const std::vector<Statistics>& results) {
  const std::size_t n = options.models.size();
  const bool trimmed = options.density > 0;
  std::vector<Statistics> layers(inspection.layers.size(), Statistics(n));
  Statistics all(n);
  Json tensors = Json::array();
  for (std::size_t i = 0; i < results.size(); ++i) {
    const Subject& subject = inspection.subjects[i];
    layers[subject.layer].add(results[i]);
    all.add(results[i]);
    Json tensor = statistics_json(Json{{"name", subject.name},
                                       {"shape", subject.base->shape},
                                       {"layer", inspection.layers[subject.layer].name}},
                                  results[i], n, trimmed);
    tensor["rank"] = results[i].matrices == 0 ? Json() : Json(results[i].rank);
    tensors.push_back(std::move(tensor));
  }
  Json out{{"version", options.version}, {"base", options.base},
           {"models", options.models},   {"density", options.density},
           {"rank", options.rank},       {"spectral_limit", options.spectral_limit}};
  out["global"] = statistics_json(Json::object(), all, n, trimmed);
  Json by_layer = Json::array();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Layer& layer = inspection.layers[i];
    by_layer.push_back(
        statistics_json(Json{{"name", layer.name},
                             {"stack", layer.index < 0 ? Json() : Json(layer.stack)},
                             {"layer", layer.index < 0 ? Json() : Json(layer.index)}},
                        layers[i], n, trimmed));
  }
  out["layers"] = std::move(by_layer);
  out["tensors"] = std::move(tensors);
  out["skipped"] = skipped_json(inspection);
  out["notes"] = notes_of(inspection, options, all);
  return out;
}

void check(const InspectOptions& options) {
  if (options.models.empty() || options.models.size() > kMostInspected) {
    throw Error(Code::kInvalidArgument,
                "option 'models' has " + std::to_string(options.models.size()) +
                    " entries; expected 1 to " + std::to_string(kMostInspected) + " models")
        .at("option", "models");
  }
  if (!(options.density >= 0 && options.density <= 1)) {
    throw Error(Code::kInvalidArgument,
                "option 'density' is " + std::to_string(options.density) + "; expected 0 to 1")
        .at("option", "density");
  }
}

}  // namespace

Json inspect_models(const InspectOptions& options, Job& job) {
  check(options);
  const auto begin = std::chrono::steady_clock::now();
  Inspection inspection{open_at(options.working_folder, options.base, "base"), {}, {}, {}, {}, 0};
  for (const std::string& model : options.models) {
    job.progress("open", inspection.models.size(), options.models.size());
    inspection.models.push_back(open_at(options.working_folder, model, "models"));
  }
  match_tensors(inspection, options);
  if (inspection.subjects.empty()) {
    throw Error(Code::kDataError, "the models have no tensor of the same name and shape as '" +
                                      options.base + "': they are not fine-tuned from it")
        .at("model", options.base);
  }
  Json report = report_of(inspection, options, Workers(inspection, options).run(job));
  report["seconds"] =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return report;
}

}  // namespace theriac::merge
