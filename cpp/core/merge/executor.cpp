#include "cpp/core/merge/executor.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <limits>
#include <list>
#include <map>
#include <mutex>
#include <new>
#include <numeric>
#include <thread>
#include <utility>

#include "cpp/core/base/hash.h"
#include "cpp/core/base/runtime.h"
#include "cpp/core/merge/rounding_outcome.h"
#include "cpp/core/tensorfile/convert.h"
#include "cpp/core/tensorfile/layout.h"

namespace theriac::merge {
namespace {

using tensorfile::DType;
using tensorfile::ModelFiles;
using tensorfile::TensorRecord;
using tensorfile::internal::shown;

constexpr std::size_t kAlignment = 64;
// Values that are looked at twice while they are in the first-level cache.
constexpr std::size_t kTile = 2048;
// Of a tensor's merge, between its passes. Nothing under a memory limit.
constexpr std::uint64_t kKeepable = std::uint64_t{32} << 20;
constexpr std::uint64_t kCopyBlockBytes = std::uint64_t{8} << 20;

std::uint64_t product(const std::vector<std::uint64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::uint64_t{1}, std::multiplies<>());
}
std::uint64_t row_length_of(const std::vector<std::uint64_t>& shape) {
  return shape.empty() ? 1 : shape.back();
}
std::uint64_t aligned(std::uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}
std::uint64_t bytes_each(DType dtype) {
  return static_cast<std::uint64_t>(tensorfile::dtype_bits(dtype)) / 8;
}

// Whether a source has longer rows than the output.
bool has_longer_rows(const Work& work, std::size_t source) {
  const auto& wide = work.sources[source]->shape;
  const auto& shape = work.planned->shape;
  return work.planned->sources[source].crop &&
         !std::equal(wide.begin() + 1, wide.end(), shape.begin() + 1);
}

// Where things lie in a thread's buffer while it works on one block of a tensor. A block that is seen
// whole is read, a source after the other, and converted at once; of one that is seen piece by piece
// the sources are kept as they were read, and so is the output until it is written.
struct Buffers {
  explicit Buffers(const Work& work) : sources(work.sources.size()) {
    const std::uint64_t count = std::min(work.block, work.elements);
    const std::uint64_t piece = std::min(work.piece, count);
    std::uint64_t widest = std::max(bytes_each(work.dtype), bytes_each(work.arithmetic));
    if (work.cast) widest = std::max(widest, bytes_each(*work.cast));
    for (const TensorRecord* source : work.sources) {
      widest = std::max(widest, bytes_each(source->dtype));
    }
    stride = aligned(4 * piece);
    raw = (sources + 1) * stride;
    end = raw + aligned(widest * piece);
    if (piece == count) return;
    for (const TensorRecord* source : work.sources) {
      stored.push_back(end);
      end += aligned(bytes_each(source->dtype) * count);
    }
    out = end;
    end += aligned(bytes_each(work.dtype) * count);
  }

  bool divided() const { return out != 0; }
  std::uint64_t bytes() const { return end + kAlignment; }

  std::size_t sources;
  std::uint64_t stride = 0;  // from the floats of one source to the next; then room for one more
  std::uint64_t raw = 0;     // a piece in the widest element type
  std::vector<std::uint64_t> stored;  // one a source
  std::uint64_t out = 0;
  std::uint64_t end = 0;
};

// ---- preparing ---------------------------------------------------------------------------------

std::optional<DType> dtype_of_recipe(std::string_view name) {
  if (name.empty()) return std::nullopt;
  if (name == "bfloat16") return DType::kBF16;
  if (name == "float16") return DType::kF16;
  if (name == "float32") return DType::kF32;
  throw Error(Code::kUnsupported, "the element type '" + std::string(name) +
                                      "' cannot hold merged weights; use float32, bfloat16 or "
                                      "float16")
      .at("dtype", std::string(name));
}

class Preparation {
 public:
  Preparation(Execution& execution, const KernelResolver& kernels, std::string_view dtype,
              std::string_view out_dtype)
      : execution_(execution),
        dtype_(dtype_of_recipe(dtype)),
        out_dtype_(dtype_of_recipe(out_dtype)),
        kernel_(kernels(execution.plan->method->name)) {
    if (!out_dtype_) out_dtype_ = dtype_;
  }

  void make_works() {
    execution_.works.reserve(execution_.plan->tensors.size());
    for (const PlannedTensor& planned : execution_.plan->tensors) {
      Work& work = execution_.works.emplace_back();
      work.planned = &planned;
      work.elements = product(planned.shape);
      find_sources(work);
      choose_kind(work);
      if (work.kind == WorkKind::kMerge) require_kernel(work);
    }
    number_tasks();
    ask_kernels();
    for (Work& work : execution_.works) {
      cut(work);
      check_memory(work);
    }
  }

 private:
  void find_sources(Work& work) const {
    for (const PlannedSource& source : work.planned->sources) {
      const TensorRecord& record = execution_.models.at(source.model)->at(source.tensor);
      work.sources.push_back(&record);
      if (!source.crop && record.shape != work.planned->shape) {
        throw Error(Code::kInternal, "tensor " + shown(work.planned->name) +
                                         ": its source has another shape than the plan says")
            .at("tensor", work.planned->name);
      }
    }
  }

  void choose_kind(Work& work) const {
    const PlannedTensor& planned = *work.planned;
    // To a donor's method the base is a model as any other, where it is listed.
    if (execution_.plan->method->base_role != BaseRole::kDonor) work.base = planned.base;
    const TensorRecord& first =
        *work.sources[planned.base < 0 ? 0 : static_cast<std::size_t>(planned.base)];
    const bool number = tensorfile::is_float(first.dtype);
    work.dtype = number && out_dtype_ ? *out_dtype_ : first.dtype;
    work.arithmetic = dtype_ ? *dtype_ : first.dtype;
    // As mergekit has it, slerp casts nothing by itself: its arithmetic is float32.
    const bool casts = execution_.options.accumulate == Accumulate::kNative &&
                       (dtype_ || execution_.plan->method->name != "slerp");
    if (casts && work.arithmetic != DType::kF32) work.cast = work.arithmetic;
    const bool alone = planned.sources.size() == 1 && !planned.sources[0].crop;
    const bool plain = execution_.plan->method->name == "passthrough" && alone &&
                       !planned.sources[0].parameters.has("scale");
    if (planned.action == PlannedAction::kMerge && !plain) {
      work.kind = WorkKind::kMerge;
    } else {
      work.base = -1;
      const bool as_it_is = first.dtype == work.dtype && first.computed == 0;
      work.kind = as_it_is ? WorkKind::kCopy : WorkKind::kConvert;
    }
  }

  // Of pieces only those are known that lie in the files as they are.
  static bool divides_sources(const Work& work) {
    for (std::size_t i = 0; i < work.sources.size(); ++i) {
      if (work.sources[i]->computed != 0 || has_longer_rows(work, i)) return false;
    }
    return true;
  }

  void require_kernel(Work& work) const;
  void number_tasks() const;
  void ask_kernels() const;

  // Whole rows or elements a block, as many as fit; at least one.
  void cut(Work& work) const {
    if (work.kind == WorkKind::kCopy) {
      const std::uint64_t bytes = work.sources[0]->bytes;
      work.block = kCopyBlockBytes;
      work.blocks = (bytes + work.block - 1) / work.block;
      work.unit_memory = work.buffer = std::min(bytes, work.block);
      return;
    }
    const std::uint64_t wanted = std::max<std::uint64_t>(1, execution_.options.block_elements);
    switch (work.granularity) {
      case Granularity::kElements:
        work.block = wanted;
        break;
      case Granularity::kRows: {
        const std::uint64_t row = std::max<std::uint64_t>(1, row_length_of(work.planned->shape));
        work.block = std::max<std::uint64_t>(1, wanted / row) * row;
        break;
      }
      case Granularity::kTensor:
        work.block = std::max<std::uint64_t>(1, work.elements);
        break;
    }
    const std::uint64_t wanted_piece =
        std::max<std::uint64_t>(1, execution_.options.piece_elements);
    work.piece = work.divides ? std::min(wanted_piece, work.block) : work.block;
    work.block = work.block / work.piece * work.piece;  // where pieces end, so do blocks
    work.blocks = (work.elements + work.block - 1) / work.block;
    work.buffer = Buffers(work).bytes();
    std::uint64_t beside = 0;  // one source is read after the other
    for (std::size_t i = 0; i < work.sources.size(); ++i) {
      const ModelFiles& model = *execution_.models[work.planned->sources[i].model];
      beside =
          std::max(beside, model.memory(*work.sources[i], std::min(work.block, work.elements)));
    }
    work.unit_memory += work.buffer + beside;
  }

  void check_memory(const Work& work) const {
    const std::uint64_t limit = execution_.options.memory_limit;
    if (limit == 0 || work.unit_memory <= limit) return;
    const std::string whole =
        work.granularity == Granularity::kTensor ? ", which the method needs whole" : "";
    throw Error(Code::kOutOfMemory, "tensor " + shown(work.planned->name) + whole + ": " +
                                        std::to_string(work.sources.size()) + " sources need " +
                                        std::to_string(work.unit_memory) +
                                        " bytes of buffers; the memory limit is " +
                                        std::to_string(limit))
        .at("tensor", work.planned->name)
        .at("needed", work.unit_memory)
        .at("memory_limit", limit);
  }

  Execution& execution_;
  std::optional<DType> dtype_, out_dtype_;
  const MethodKernel* kernel_;
};

// Calls body(source, task) for each model, the base not among them.
template <class Body>
void for_each_model(const Work& work, const Body& body) {
  const std::vector<PlannedSource>& sources = work.planned->sources;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (static_cast<int>(i) == work.base) continue;
    std::size_t before = 0;
    for (std::size_t j = 0; j < i; ++j) {
      if (static_cast<int>(j) != work.base && sources[j].model == sources[i].model) ++before;
    }
    body(i, std::pair(sources[i].model, before));
  }
}

TensorContext context_of(const Execution& execution, const Work& work) {
  const PlannedTensor& planned = *work.planned;
  TensorContext out;
  out.name = planned.name;
  out.shape = planned.shape;
  out.has_base = work.base >= 0;
  out.dtype = work.arithmetic;
  out.accumulate = execution.options.accumulate;
  out.parameters = &planned.parameters;
  if (work.base >= 0) {
    out.base_parameters = &planned.sources[static_cast<std::size_t>(work.base)].parameters;
  }
  const auto& tasks = execution.tasks;
  for_each_model(work, [&](std::size_t source, const auto& task) {
    out.model_parameters.push_back(&planned.sources[source].parameters);
    out.model_keys.push_back(source);
    const auto found = std::lower_bound(tasks.begin(), tasks.end(), task);
    out.model_tasks.push_back(static_cast<std::size_t>(found - tasks.begin()));
  });
  out.tasks = tasks.size();
  out.t = planned.t;
  out.seed = execution.options.seed;
  out.folder = execution.options.folder;
  out.keepable = execution.options.memory_limit == 0 ? kKeepable : 0;
  return out;
}

// The contexts of all tensors that are merged, and the statistics over them, if the method has any.
class WholeModel {
 public:
  explicit WholeModel(const Execution& execution) : positions_(execution.works.size()) {
    const MethodKernel* kernel = nullptr;
    for (std::size_t i = 0; i < execution.works.size(); ++i) {
      if (execution.works[i].kind != WorkKind::kMerge) continue;
      kernel = execution.works[i].kernel;
      positions_[i] = contexts_.size();
      contexts_.push_back(context_of(execution, execution.works[i]));
      contexts_.back().index = positions_[i];
    }
    if (kernel == nullptr || kernel->make_statistics == nullptr) return;
    statistics_ = kernel->make_statistics(contexts_);
    for (TensorContext& context : contexts_) context.statistics = statistics_.get();
  }

  ModelStatistics* statistics() const noexcept { return statistics_.get(); }
  int passes() const { return statistics_ ? statistics_->passes() : 0; }
  const TensorContext& context(std::size_t work) const { return contexts_[positions_[work]]; }

 private:
  std::vector<std::size_t> positions_;
  std::vector<TensorContext> contexts_;
  std::unique_ptr<ModelStatistics> statistics_;
};

void Preparation::require_kernel(Work& work) const {
  if (kernel_ == nullptr) {
    throw Error(Code::kUnsupported,
                "the merge method '" + execution_.plan->method->name + "' is not implemented yet")
        .at("merge_method", execution_.plan->method->name);
  }
  work.kernel = kernel_;
}

void Preparation::number_tasks() const {
  auto& tasks = execution_.tasks;
  for (const Work& work : execution_.works) {
    if (work.kind != WorkKind::kMerge) continue;
    for_each_model(work, [&](std::size_t, const auto& task) {
      const auto place = std::lower_bound(tasks.begin(), tasks.end(), task);
      if (place == tasks.end() || *place != task) tasks.insert(place, task);
    });
  }
}

// Kernels refuse bad parameters before any work is done.
void Preparation::ask_kernels() const {
  const WholeModel whole(execution_);
  if (whole.statistics() != nullptr) execution_.files = whole.statistics()->files();
  for (std::size_t i = 0; i < execution_.works.size(); ++i) {
    Work& work = execution_.works[i];
    if (work.kind != WorkKind::kMerge) continue;
    const auto merge = work.kernel->make(whole.context(i));
    work.granularity = merge->granularity();
    work.passes = merge->passes();
    work.divides = work.granularity == Granularity::kElements && merge->divisible() &&
                   whole.passes() == 0 && divides_sources(work);
    work.unit_memory = merge->workspace();
    work.kept = merge->kept();
    work.dtype = merge->output_dtype().value_or(work.dtype);
    work.statistics_passes = whole.passes();
  }
}

// ---- one block ---------------------------------------------------------------------------------

// Memory of one thread, kept from block to block.
class Buffer {
 public:
  void reserve(std::uint64_t bytes) {
    if (bytes <= size_) return;
    drop();
    memory_.reset(static_cast<char*>(
        ::operator new(static_cast<std::size_t>(bytes), std::align_val_t{kAlignment})));
    size_ = bytes;
  }
  void drop() {
    memory_.reset();
    size_ = 0;
  }
  char* at(std::uint64_t offset) { return memory_.get() + offset; }

 private:
  struct Free {
    void operator()(char* memory) const { ::operator delete(memory, std::align_val_t{kAlignment}); }
  };
  std::unique_ptr<char, Free> memory_;
  std::uint64_t size_ = 0;
};

// Reads sources as float32.
class Loader {
 public:
  Loader(const Execution& execution, const Work& work, bool counts)
      : execution_(execution), work_(work), counts_(counts) {}

  // `raw`: room for the block in the widest element type.
  void load(std::size_t source, std::uint64_t first, std::size_t count, float* into, char* raw) {
    if (has_longer_rows(work_, source)) {
      load_rows(source, first, count, into, raw);
    } else {
      load_run(source, first, count, into, raw);
    }
    finish(source, count, into, raw);
  }
  // The same of `count` values in memory. Returns where they are: `into`, or `stored` itself.
  const float* widen(std::size_t source, const char* stored, std::size_t count, float* into,
                     char* raw) {
    const TensorRecord& record = *work_.sources[source];
    if (record.dtype == DType::kF32 && !rounds(record)) {
      const auto* values = reinterpret_cast<const float*>(stored);
      if (counts_) non_finite_ += count_non_finite(values, count);
      return values;
    }
    convert(record, stored, count, into);
    finish(source, count, into, raw);
    return into;
  }
  std::uint64_t non_finite() const noexcept { return non_finite_; }

 private:
  bool rounds(const TensorRecord& record) const {
    const bool native =
        work_.kind == WorkKind::kMerge && execution_.options.accumulate == Accumulate::kNative;
    return native && (record.computed != 0 || (work_.cast && record.dtype != *work_.cast));
  }
  void finish(std::size_t source, std::size_t count, float* into, char* raw) {
    const TensorRecord& record = *work_.sources[source];
    if (!rounds(record)) return;
    if (record.computed != 0) round(record.dtype, count, into, raw);  // as if it had been stored
    if (work_.cast && record.dtype != *work_.cast) round(*work_.cast, count, into, raw);
    if (counts_) non_finite_ += count_non_finite(into, count);
  }
  void convert(const TensorRecord& record, const char* stored, std::size_t count, float* into) {
    const std::uint64_t each = bytes_each(record.dtype);
    const bool counts = counts_ && !rounds(record);
    for (std::size_t at = 0; at < count; at += kTile) {
      const std::size_t size = std::min(kTile, count - at);
      tensorfile::to_float(record.dtype, stored + at * each, size, into + at);
      if (counts) non_finite_ += count_non_finite(into + at, size);
    }
  }
  static void round(DType dtype, std::size_t count, float* values, char* raw) {
    tensorfile::from_float(dtype, values, count, raw);
    tensorfile::to_float(dtype, raw, count, values);
  }

  void load_run(std::size_t source, std::uint64_t first, std::size_t count, float* into,
                char* raw) {
    const ModelFiles& model = *execution_.models[work_.planned->sources[source].model];
    const TensorRecord& record = *work_.sources[source];
    if (record.computed != 0 || record.dtype == DType::kF32) {
      model.read_floats(record, first, count, into, raw);
      if (counts_ && !rounds(record)) non_finite_ += count_non_finite(into, count);
      return;
    }
    const std::uint64_t each = bytes_each(record.dtype);
    model.read(record, first * each, {raw, static_cast<std::size_t>(count * each)});
    convert(record, raw, count, into);
  }

  // A source with longer rows: one run a row.
  void load_rows(std::size_t source, std::uint64_t first, std::size_t count, float* into,
                 char* raw) {
    const auto& shape = work_.planned->shape;
    const auto& wide = work_.sources[source]->shape;
    const std::uint64_t row = shape.back();
    while (count > 0) {
      const std::uint64_t column = first % row;
      std::uint64_t at = 0, scale = wide.back(), rest = first / row;
      for (std::size_t d = shape.size() - 1; d-- > 0; scale *= wide[d]) {
        at += rest % shape[d] * scale;
        rest /= shape[d];
      }
      const auto run = static_cast<std::size_t>(std::min<std::uint64_t>(count, row - column));
      load_run(source, at + column, run, into, raw);
      first += run;
      into += run;
      count -= run;
    }
  }

  const Execution& execution_;
  const Work& work_;
  const bool counts_;
  std::uint64_t non_finite_ = 0;
};

// A tensor in the making. Members are guarded by the pool's mutex, but for `merge` and slots of the
// vectors, each of which has one writer.
struct Active {
  std::size_t tensor = 0;
  const Work* work = nullptr;
  std::unique_ptr<TensorMerge> merge;
  int stage = 0;                     // a pass, or passes() for applying
  std::uint64_t next = 0, open = 0;  // block to hand out; blocks not done
  std::vector<std::unique_ptr<Partial>> partials;
  std::vector<std::uint64_t> hashes;
  TensorOutcome outcome;
};

std::string fold(const std::vector<std::uint64_t>& hashes) {
  Fingerprint all;
  for (const std::uint64_t hash : hashes) all.add(static_cast<std::int64_t>(hash));
  return all.hex();
}

// Whole numbers, little-endian.
std::string_view narrow_to_integers(DType dtype, const float* values, std::size_t count,
                                    char* raw) {
  const std::uint64_t each = bytes_each(dtype);
  for (std::size_t i = 0; i < count; ++i) {
    const auto number = static_cast<std::uint32_t>(values[i]);
    std::memcpy(raw + i * each, &number, each);
  }
  return {raw, static_cast<std::size_t>(count * each)};
}

// Rounds to the output's type and counts, a tile at a time while it is in the cache. Returns the
// bytes to write: in `raw`, or `values` themselves.
std::string_view narrow(const Work& work, const float* values, const float* base, std::size_t count,
                        char* raw, TensorOutcome& counts) {
  if (!tensorfile::is_float(work.dtype)) return narrow_to_integers(work.dtype, values, count, raw);
  float rounded[kTile];
  const std::uint64_t each = bytes_each(work.dtype);
  const bool rounds = work.dtype != DType::kF32;
  for (std::size_t first = 0; first < count; first += kTile) {
    const std::size_t size = std::min(kTile, count - first);
    const float* result = values + first;
    if (rounds) {
      tensorfile::from_float(work.dtype, values + first, size, raw + first * each);
      tensorfile::to_float(work.dtype, raw + first * each, size, rounded);
      result = rounded;
    }
    counts.non_finite_out += count_non_finite(result, size);
    if (base == nullptr) continue;
    const RoundingOutcome outcome = compare_with_base(values + first, result, base + first, size);
    counts.changed += outcome.changed;
    counts.lost += outcome.lost;
  }
  if (!rounds) return {reinterpret_cast<const char*>(values), count * sizeof(float)};
  return {raw, static_cast<std::size_t>(count * each)};
}

// ---- memory ------------------------------------------------------------------------------------

// Lets threads have buffers, first come first served, as long as the limit holds.
class MemoryGate {
 public:
  explicit MemoryGate(std::uint64_t limit) : limit_(limit) {}

  // False when `stop` was called meanwhile.
  bool acquire(std::uint64_t bytes) {
    std::unique_lock lock(mutex_);
    const std::uint64_t ticket = last_ticket_++;
    changed_.wait(lock, [&] {
      return stopped_ || (ticket == turn_ && (limit_ == 0 || used_ + bytes <= limit_));
    });
    if (stopped_) return false;
    ++turn_;
    used_ += bytes;
    changed_.notify_all();
    return true;
  }
  void release(std::uint64_t bytes) {
    if (bytes == 0) return;
    const std::lock_guard lock(mutex_);
    used_ -= bytes;
    changed_.notify_all();
  }
  bool somebody_waits() {
    const std::lock_guard lock(mutex_);
    return turn_ != last_ticket_;
  }
  void stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
  }

 private:
  const std::uint64_t limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t used_ = 0, last_ticket_ = 0, turn_ = 0;
  bool stopped_ = false;
};

// A thread's buffer with the leave to have it.
class Allowance {
 public:
  explicit Allowance(MemoryGate& gate) : gate_(gate) {}
  ~Allowance() { give_back(); }
  Allowance(const Allowance&) = delete;
  Allowance& operator=(const Allowance&) = delete;

  // Leave for a unit of work, and its buffers.
  bool need(const Work& work) {
    const std::uint64_t bytes = work.unit_memory;
    // Much more than needed, or somebody waits: let it go first. Nobody waits with memory in hand.
    if (held_ < bytes || held_ / 4 > bytes || gate_.somebody_waits()) {
      give_back();
      if (!gate_.acquire(bytes)) return false;
      held_ = bytes;
    }
    buffer_.reserve(work.buffer);
    return true;
  }
  void give_back() {
    buffer_.drop();
    gate_.release(std::exchange(held_, 0));
  }
  char* at(std::uint64_t offset) { return buffer_.at(offset); }

 private:
  MemoryGate& gate_;
  Buffer buffer_;
  std::uint64_t held_ = 0;
};

// ---- files that are copied from ----------------------------------------------------------------

// Descriptors for copies inside the kernel; the models keep theirs to themselves. -1 where a file
// cannot be opened again.
class CopySources {
 public:
  explicit CopySources(const Execution& execution) {
    for (const Work& work : execution.works) {
      if (work.kind != WorkKind::kCopy) continue;
      const std::string& name = name_of(execution, work);
      if (!files_.contains(name)) files_[name] = ::open(name.c_str(), O_RDONLY | O_CLOEXEC);
    }
  }
  ~CopySources() {
    for (const auto& [name, fd] : files_) {
      if (fd >= 0) ::close(fd);
    }
  }
  CopySources(const CopySources&) = delete;
  CopySources& operator=(const CopySources&) = delete;
  int find(const Execution& execution, const Work& work) const {
    return files_.at(name_of(execution, work));
  }

 private:
  static const std::string& name_of(const Execution& execution, const Work& work) {
    return execution.models[work.planned->sources[0].model]->file_name(*work.sources[0]);
  }
  std::map<std::string, int> files_;
};

// ---- blocks in memory -------------------------------------------------------------------------

// One block of every source, in a thread's buffer, and its pieces as float32.
class LoadedBlock {
 public:
  // `counts`: the values that are NaN or infinite.
  LoadedBlock(const Execution& execution, const Work& work, std::uint64_t block, Allowance& memory,
              bool counts = false)
      : work_(work),
        memory_(memory),
        buffers_(work),
        loader_(execution, work, counts),
        first_(block * work.block),
        count_(static_cast<std::size_t>(std::min(work.block, work.elements - first_))),
        places_(work.sources.size()) {
    for (std::size_t i = 0; i < places_.size(); ++i) {
      const TensorRecord& record = *work.sources[i];
      const std::uint64_t each = bytes_each(record.dtype);
      bytes_read_ += count_ * each;
      if (buffers_.divided()) {
        const ModelFiles& model = *execution.models[work.planned->sources[i].model];
        model.read(record, first_ * each,
                   {memory.at(buffers_.stored[i]), static_cast<std::size_t>(count_ * each)});
      } else {
        loader_.load(i, first_, count_, floats(i), raw());
        places_[i] = floats(i);
      }
    }
  }
  LoadedBlock(const LoadedBlock&) = delete;
  LoadedBlock& operator=(const LoadedBlock&) = delete;

  std::size_t pieces() const {
    return buffers_.divided() ? static_cast<std::size_t>((count_ + work_.piece - 1) / work_.piece)
                              : 1;
  }
  // In ascending order: what was loaded is gone with the next. Valid until then.
  Block piece(std::size_t number) {
    const auto at = number * static_cast<std::size_t>(work_.piece);
    const std::size_t count = std::min(count_ - at, static_cast<std::size_t>(work_.piece));
    for (std::size_t i = 0; buffers_.divided() && i < places_.size(); ++i) {
      const char* stored =
          memory_.at(buffers_.stored[i] + at * bytes_each(work_.sources[i]->dtype));
      places_[i] = loader_.widen(i, stored, count, floats(i), raw());
    }
    models_.clear();
    const float* base = nullptr;
    for (std::size_t i = 0; i < places_.size(); ++i) {
      if (static_cast<int>(i) == work_.base) {
        base = places_[i];
      } else {
        models_.push_back(places_[i]);
      }
    }
    return {first_ + at, count, base, models_};
  }

  std::uint64_t first() const noexcept { return first_; }
  std::size_t count() const noexcept { return count_; }
  std::uint64_t bytes_read() const noexcept { return bytes_read_; }
  // Of the pieces until now.
  std::uint64_t non_finite() const noexcept { return loader_.non_finite(); }
  float* room() { return floats(buffers_.sources); }  // for one piece
  char* raw() { return memory_.at(buffers_.raw); }
  // What becomes of the piece from the block's element `first` on.
  char* out(std::size_t first) {
    return buffers_.divided() ? memory_.at(buffers_.out + first * bytes_each(work_.dtype)) : raw();
  }

 private:
  float* floats(std::size_t source) {
    return reinterpret_cast<float*>(memory_.at(source * buffers_.stride));
  }

  const Work& work_;
  Allowance& memory_;
  const Buffers buffers_;
  Loader loader_;
  const std::uint64_t first_;
  const std::size_t count_;
  std::uint64_t bytes_read_ = 0;
  std::vector<const float*> places_;  // of the sources' floats
  std::vector<const float*> models_;
};

// Tensors along the files: disks and read-ahead like it.
void sort_by_offset(const Execution& execution, std::vector<std::size_t>& tensors) {
  const auto place = [&execution](std::size_t tensor) {
    const Work& work = execution.works[tensor];
    const std::size_t source = work.base < 0 ? 0 : static_cast<std::size_t>(work.base);
    const TensorRecord& record = *work.sources[source];
    return std::tuple(work.planned->sources[source].model, record.file, record.offset, tensor);
  };
  std::sort(tensors.begin(), tensors.end(),
            [&place](std::size_t a, std::size_t b) { return place(a) < place(b); });
}

// ---- statistics of the whole model ---------------------------------------------------------------

// Runs the passes of ModelStatistics. Blocks are handed out in one order and absorbed in it; a block
// that ends early waits for its predecessors.
class Survey {
 public:
  Survey(const Execution& execution, const WholeModel& whole)
      : execution_(execution),
        whole_(whole),
        threads_(static_cast<std::size_t>(execution.threads())),
        gate_(execution.options.memory_limit) {
    for (std::size_t i = 0; i < execution.works.size(); ++i) {
      if (execution.works[i].kind == WorkKind::kMerge) order_.push_back(i);
    }
    sort_by_offset(execution, order_);
    for (const std::size_t tensor : order_) blocks_ += execution.works[tensor].blocks;
  }

  // Returns the bytes read.
  std::uint64_t run(Job& job) {
    for (pass_ = 0; pass_ < whole_.passes(); ++pass_) {
      run_pass(job);
      whole_.statistics()->end_pass(pass_);
    }
    return bytes_read_;
  }

 private:
  struct Unit {
    std::size_t tensor = 0;
    std::uint64_t block = 0, ticket = 0;
  };

  void run_pass(Job& job);
  void attend(Job& job);
  void work();
  bool take(Allowance& memory, Unit& unit);
  void hand_in(const Unit& unit, std::unique_ptr<Partial> partial, std::uint64_t bytes);
  void stop(std::exception_ptr error);

  const Execution& execution_;
  const WholeModel& whole_;
  const std::size_t threads_;
  MemoryGate gate_;
  std::vector<std::size_t> order_;
  std::uint64_t blocks_ = 0;  // of one pass
  int pass_ = 0;

  std::mutex mutex_;
  std::condition_variable absorbed_changed_, news_;
  std::size_t tensor_ = 0;   // of `order_`, whose blocks are handed out
  std::uint64_t block_ = 0;  // of it, to hand out next
  std::uint64_t taken_ = 0, absorbed_ = 0, bytes_read_ = 0;
  std::map<std::uint64_t, std::pair<std::size_t, std::unique_ptr<Partial>>> waiting_;
  std::exception_ptr error_;
  bool stopped_ = false;
};

void Survey::run_pass(Job& job) {
  tensor_ = 0;
  block_ = taken_ = absorbed_ = 0;
  std::vector<std::thread> threads;
  std::exception_ptr failed;
  try {
    for (std::size_t i = 0; i < threads_; ++i) threads.emplace_back([this] { work(); });
    attend(job);
  } catch (...) {
    failed = std::current_exception();
  }
  if (failed) stop(nullptr);
  for (std::thread& thread : threads) thread.join();
  if (failed) std::rethrow_exception(failed);
}

void Survey::attend(Job& job) {
  constexpr std::chrono::milliseconds kPatience(20);
  const auto passes = static_cast<std::uint64_t>(whole_.passes());
  const std::uint64_t before = blocks_ * static_cast<std::uint64_t>(pass_);
  for (std::uint64_t done = 0;;) {
    job.progress("statistics", before + done, blocks_ * passes);
    std::unique_lock lock(mutex_);
    news_.wait_for(lock, kPatience, [this] { return stopped_ || absorbed_ == blocks_; });
    if (error_) std::rethrow_exception(error_);
    done = absorbed_;
    if (done < blocks_) continue;
    lock.unlock();
    return job.milestone("statistics", before + done, blocks_ * passes);
  }
}

void Survey::work() {
  try {
    Allowance memory(gate_);
    Unit unit;
    while (take(memory, unit)) {
      const Work& work = execution_.works[unit.tensor];
      if (!memory.need(work)) return;
      LoadedBlock loaded(execution_, work, unit.block, memory);
      const std::size_t index = whole_.context(unit.tensor).index;
      hand_in(unit, whole_.statistics()->observe(pass_, index, loaded.piece(0)),
              loaded.bytes_read());
    }
  } catch (...) {
    stop(std::current_exception());
  }
}

// False when there is nothing left to do.
bool Survey::take(Allowance& memory, Unit& unit) {
  const std::uint64_t window = 4 * threads_;  // bounds what waits
  std::unique_lock lock(mutex_);
  if (taken_ - absorbed_ >= window) {
    lock.unlock();
    memory.give_back();  // the block that all wait for may need it
    lock.lock();
    absorbed_changed_.wait(lock, [&] { return stopped_ || taken_ - absorbed_ < window; });
  }
  while (tensor_ < order_.size() && block_ == execution_.works[order_[tensor_]].blocks) {
    ++tensor_;
    block_ = 0;
  }
  if (stopped_ || tensor_ == order_.size()) return false;
  unit = {order_[tensor_], block_++, taken_++};
  return true;
}

void Survey::hand_in(const Unit& unit, std::unique_ptr<Partial> partial, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  bytes_read_ += bytes;
  waiting_.emplace(unit.ticket, std::pair(unit.tensor, std::move(partial)));
  while (!waiting_.empty() && waiting_.begin()->first == absorbed_) {
    const auto& [tensor, ready] = waiting_.begin()->second;
    if (ready) whole_.statistics()->absorb(pass_, whole_.context(tensor).index, *ready);
    waiting_.erase(waiting_.begin());
    ++absorbed_;
  }
  absorbed_changed_.notify_all();
  if (absorbed_ == blocks_) news_.notify_all();
}

void Survey::stop(std::exception_ptr error) {
  {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(error);
    stopped_ = true;
  }
  gate_.stop();
  absorbed_changed_.notify_all();
  news_.notify_all();
}

// ---- the pool ----------------------------------------------------------------------------------

class Pool {
 public:
  Pool(const Execution& execution, const WholeModel& whole, OutputFiles& output,
       const std::vector<char>& done)
      : execution_(execution),
        whole_(whole),
        output_(output),
        copies_(execution),
        gate_(execution.options.memory_limit) {
    for (std::size_t i = 0; i < execution.works.size(); ++i) {
      if (i < done.size() && done[i] != 0) continue;
      order_.push_back(i);
      const Work& work = execution.works[i];
      total_ += work.blocks * static_cast<std::uint64_t>(work.passes + 1);
    }
    sort_by_offset(execution, order_);
  }

  ExecuteTotals run(const std::function<void(std::size_t, const TensorOutcome&)>& finished,
                    Job& job) {
    std::vector<std::thread> threads;
    std::exception_ptr failed;
    try {
      for (int i = 0; i < execution_.threads(); ++i) threads.emplace_back([this] { work(); });
      attend(finished, job);
    } catch (...) {
      failed = std::current_exception();
    }
    if (failed) stop(nullptr);
    for (std::thread& thread : threads) thread.join();
    if (!failed) return totals_;
    try {
      hand_over(finished);  // what ended meanwhile is done, too
    } catch (...) {         // the first failure is the one to tell
    }
    std::rethrow_exception(failed);
  }

 private:
  struct Unit {
    Active* active = nullptr;
    int stage = 0;
    std::uint64_t block = 0;
  };

  void attend(const std::function<void(std::size_t, const TensorOutcome&)>& finished, Job& job);
  void hand_over(const std::function<void(std::size_t, const TensorOutcome&)>& finished);

  // ---- threads
  void work();
  void stop(std::exception_ptr error);
  bool take(std::unique_lock<std::mutex>& lock, Allowance& memory, Unit& unit);
  bool start_next();
  void end_unit(const Unit& unit);
  void end_tensor(Active& active);
  void process(const Unit& unit, Allowance& memory);
  void copy(const Unit& unit, Allowance& memory);
  void compute(const Unit& unit, Allowance& memory);
  void check_finite(const Active& active) const;

  const Execution& execution_;
  const WholeModel& whole_;
  OutputFiles& output_;
  const CopySources copies_;
  MemoryGate gate_;
  std::vector<std::size_t> order_;
  std::uint64_t total_ = 0;

  std::mutex mutex_;
  std::condition_variable work_changed_, news_;
  std::size_t started_ = 0, ended_ = 0;  // tensors of `order_`
  std::list<Active> active_;
  std::uint64_t done_ = 0;
  std::vector<std::pair<std::size_t, TensorOutcome>> finished_;
  ExecuteTotals totals_;
  std::exception_ptr error_;
  bool stopped_ = false;
};

// Tells listeners and looks for errors, on the calling thread.
void Pool::attend(const std::function<void(std::size_t, const TensorOutcome&)>& finished,
                  Job& job) {
  constexpr std::chrono::milliseconds kPatience(20);
  for (std::uint64_t done = 0;;) {
    job.progress("merge", done, total_);
    bool all = false;
    {
      std::unique_lock lock(mutex_);
      const auto news = [this] {
        return stopped_ || !finished_.empty() || ended_ == order_.size();
      };
      news_.wait_for(lock, kPatience, news);
      if (error_) std::rethrow_exception(error_);
      done = done_;
      all = ended_ == order_.size();
    }
    hand_over(finished);
    if (all) return job.milestone("merge", total_, total_);
  }
}

void Pool::hand_over(const std::function<void(std::size_t, const TensorOutcome&)>& finished) {
  std::vector<std::pair<std::size_t, TensorOutcome>> ended;
  {
    const std::lock_guard lock(mutex_);
    ended.swap(finished_);
  }
  for (const auto& [tensor, outcome] : ended) finished(tensor, outcome);
}

void Pool::work() {
  try {
    Allowance memory(gate_);
    Unit unit;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        if (!take(lock, memory, unit)) return;
      }
      if (!memory.need(*unit.active->work)) return;
      process(unit, memory);
      end_unit(unit);
    }
  } catch (...) {
    stop(std::current_exception());
  }
}

void Pool::stop(std::exception_ptr error) {
  {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(error);
    stopped_ = true;
  }
  gate_.stop();
  work_changed_.notify_all();
  news_.notify_all();
}

// The next block of the earliest tensor that has one; false when there is nothing left to do.
bool Pool::take(std::unique_lock<std::mutex>& lock, Allowance& memory, Unit& unit) {
  for (;;) {
    if (stopped_) return false;
    for (Active& active : active_) {
      if (active.next == active.work->blocks) continue;
      unit = {&active, active.stage, active.next++};
      return true;
    }
    if (start_next()) continue;
    if (active_.empty()) return false;
    // The blocks that others work on may open a further pass. Memory must not wait with us.
    lock.unlock();
    memory.give_back();
    lock.lock();
    const auto something = [this] {
      return stopped_ || active_.empty() ||
             std::any_of(active_.begin(), active_.end(),
                         [](const Active& a) { return a.next != a.work->blocks; });
    };
    work_changed_.wait(lock, something);
  }
}

bool Pool::start_next() {
  if (started_ == order_.size()) return false;
  const std::size_t tensor = order_[started_++];
  const Work& work = execution_.works[tensor];
  std::list<Active> fresh(1);  // nobody sees it before it is whole: a kernel may refuse
  Active& active = fresh.back();
  active.tensor = tensor;
  active.work = &work;
  active.hashes.resize(static_cast<std::size_t>(work.blocks));
  active.open = work.blocks;
  if (work.kind == WorkKind::kMerge && work.blocks > 0) {
    active.merge = work.kernel->make(whole_.context(tensor));
    const std::uint64_t pieces = (work.elements + work.piece - 1) / work.piece;
    if (work.passes > 0) active.partials.resize(static_cast<std::size_t>(pieces));
  }
  active_.splice(active_.end(), fresh);
  if (work.blocks == 0) end_tensor(active);
  return true;
}

// With the mutex held.
void Pool::end_tensor(Active& active) {
  active.outcome.checksum = fold(active.hashes);
  finished_.emplace_back(active.tensor, active.outcome);
  ++ended_;
  active_.remove_if([&active](const Active& other) { return &other == &active; });
  work_changed_.notify_all();
  news_.notify_all();
}

void Pool::end_unit(const Unit& unit) {
  Active& active = *unit.active;
  {
    const std::lock_guard lock(mutex_);
    ++done_;
    if (--active.open > 0) return;
    if (unit.stage == active.work->passes) {
      check_finite(active);
      return end_tensor(active);
    }
  }
  active.merge->end_pass(unit.stage, active.partials);  // alone: no block is handed out now
  for (auto& partial : active.partials) partial.reset();
  const std::lock_guard lock(mutex_);
  ++active.stage;
  active.open = active.work->blocks;
  active.next = 0;
  work_changed_.notify_all();
}

void Pool::check_finite(const Active& active) const {
  const TensorOutcome& counts = active.outcome;
  if (counts.non_finite_out == 0 || counts.non_finite_in > 0) return;
  if (execution_.options.allow_non_finite) return;
  throw Error(Code::kNumericError,
              "tensor " + shown(active.work->planned->name) + ": " +
                  std::to_string(counts.non_finite_out) +
                  " elements of the result are NaN or infinite as " +
                  std::string(tensorfile::dtype_name(active.work->dtype)) +
                  ", though all inputs are finite; check its parameters, or choose an out_dtype "
                  "with a wider range")
      .at("tensor", active.work->planned->name)
      .at("elements", counts.non_finite_out);
}

void Pool::process(const Unit& unit, Allowance& memory) {
  if (unit.active->work->kind == WorkKind::kCopy) {
    copy(unit, memory);
  } else {
    compute(unit, memory);
  }
}

void Pool::copy(const Unit& unit, Allowance& memory) {
  Active& active = *unit.active;
  const Work& work = *active.work;
  const TensorRecord& record = *work.sources[0];
  const std::uint64_t first = unit.block * work.block;
  const auto size = static_cast<std::size_t>(std::min(work.block, record.bytes - first));
  const std::span<char> bytes(memory.at(0), size);
  const int input = copies_.find(execution_, work);
  const bool copied = record.contiguous() && input >= 0 &&
                      output_.copy(active.tensor, first, size, input, record.offset + first);
  if (copied) {
    output_.read(active.tensor, first, bytes);  // the checksum is that of what was written
  } else {
    execution_.models[work.planned->sources[0].model]->read(record, first, bytes);
    output_.write(active.tensor, first, {bytes.data(), size});
  }
  active.hashes[unit.block] = hash64({bytes.data(), size});
  const std::lock_guard lock(mutex_);
  totals_.bytes_read += size;
  totals_.bytes_written += size;
  if (copied) totals_.kernel_copies += size;
}

void Pool::compute(const Unit& unit, Allowance& memory) {
  Active& active = *unit.active;
  const Work& work = *active.work;
  const bool applies = unit.stage == work.passes;
  LoadedBlock loaded(execution_, work, unit.block, memory, applies);
  TensorOutcome counts;
  std::string_view bytes;
  for (std::size_t p = 0; p < loaded.pieces(); ++p) {
    const Block piece = loaded.piece(p);
    if (!applies) {
      active.partials[piece.first / work.piece] = active.merge->observe(unit.stage, piece);
      continue;
    }
    const float* values = work.kind == WorkKind::kMerge ? loaded.room() : piece.models[0];
    if (work.kind == WorkKind::kMerge) active.merge->apply(piece, loaded.room());
    char* const out = loaded.out(static_cast<std::size_t>(piece.first - loaded.first()));
    bytes = narrow(work, values, piece.base, piece.count, out, counts);
    if (loaded.pieces() > 1 && bytes.data() != out) std::copy(bytes.begin(), bytes.end(), out);
  }
  if (applies) {
    counts.non_finite_in = loaded.non_finite();
    if (loaded.pieces() > 1) bytes = {loaded.out(0), loaded.count() * bytes_each(work.dtype)};
    output_.write(active.tensor, loaded.first() * bytes_each(work.dtype), bytes);
    active.hashes[unit.block] = hash64(bytes);
  }
  const std::lock_guard lock(mutex_);
  active.outcome.changed += counts.changed;
  active.outcome.lost += counts.lost;
  active.outcome.non_finite_in += counts.non_finite_in;
  active.outcome.non_finite_out += counts.non_finite_out;
  totals_.bytes_read += loaded.bytes_read();
  totals_.bytes_written += bytes.size();
}

}  // namespace

int Execution::threads() const noexcept {
  return options.threads > 0 ? options.threads : std::max(1, available_cores());
}

std::uint64_t Execution::bytes_in() const noexcept {
  std::uint64_t sum = 0;
  for (const Work& work : works) {
    std::uint64_t once = 0;
    for (const TensorRecord* source : work.sources) {
      once +=
          work.kind == WorkKind::kCopy ? source->bytes : work.elements * bytes_each(source->dtype);
    }
    sum += once * static_cast<std::uint64_t>(work.statistics_passes + work.passes + 1);
  }
  return sum;
}

// The threads may all work on the greediest blocks at once.
std::uint64_t Execution::peak_memory() const noexcept {
  const auto most = static_cast<std::uint64_t>(threads());
  std::vector<std::pair<std::uint64_t, std::uint64_t>> units;  // bytes, how many at once
  for (const Work& work : works) units.emplace_back(work.unit_memory, std::min(most, work.blocks));
  std::sort(units.rbegin(), units.rend());
  std::uint64_t sum = 0, used = 0;
  for (const auto& [bytes, count] : units) {
    const std::uint64_t more = std::min(count, most - used);
    sum += more * bytes;
    used += more;
  }
  std::vector<std::uint64_t> kept;  // as many tensors as threads may be in work
  for (const Work& work : works) kept.push_back(work.kept);
  std::sort(kept.rbegin(), kept.rend());
  kept.resize(std::min<std::size_t>(kept.size(), most));
  sum = std::accumulate(kept.begin(), kept.end(), sum);
  return options.memory_limit == 0 ? sum : std::min(sum, options.memory_limit);
}

Execution prepare(const MergePlan& plan, std::vector<const ModelFiles*> models,
                  const KernelResolver& kernels, const ExecuteOptions& options,
                  std::string_view dtype, std::string_view out_dtype) {
  Execution out;
  out.plan = &plan;
  out.models = std::move(models);
  out.options = options;
  Preparation(out, kernels, dtype, out_dtype).make_works();
  return out;
}

std::vector<OutputTensor> output_tensors(const Execution& execution) {
  std::vector<OutputTensor> out;
  out.reserve(execution.works.size());
  for (const Work& work : execution.works) {
    OutputTensor tensor;
    tensor.name = work.planned->name;
    tensor.dtype = work.dtype;
    tensor.shape = work.planned->shape;
    out.push_back(std::move(tensor));
  }
  return out;
}

ExecuteTotals execute(const Execution& execution, OutputFiles& output,
                      const std::vector<char>& done,
                      const std::function<void(std::size_t, const TensorOutcome&)>& finished,
                      Job& job) {
  const WholeModel whole(execution);
  Pool pool(execution, whole, output, done);
  const bool surveys = whole.statistics() != nullptr;
  const std::uint64_t surveyed = surveys ? Survey(execution, whole).run(job) : 0;
  ExecuteTotals totals = pool.run(finished, job);
  totals.bytes_read += surveyed;
  if (surveys) totals.statistics = whole.statistics()->summary();
  return totals;
}

std::string checksum_of(const Execution& execution, std::size_t tensor, std::uint64_t bytes,
                        const std::function<void(std::uint64_t, std::span<char>)>& read) {
  const Work& work = execution.works.at(tensor);
  const std::uint64_t block =
      work.kind == WorkKind::kCopy ? work.block : work.block * bytes_each(work.dtype);
  std::vector<std::uint64_t> hashes;
  std::string buffer;
  for (std::uint64_t first = 0; first < bytes; first += block) {
    buffer.resize(static_cast<std::size_t>(std::min(block, bytes - first)));
    read(first, std::span<char>(buffer));
    hashes.push_back(hash64(buffer));
  }
  return fold(hashes);
}

std::string checksum_of(const Execution& execution, std::size_t tensor, const OutputFiles& output) {
  return checksum_of(
      execution, tensor, output.layout().tensors.at(tensor).bytes,
      [&](std::uint64_t first, std::span<char> into) { output.read(tensor, first, into); });
}

}  // namespace theriac::merge
