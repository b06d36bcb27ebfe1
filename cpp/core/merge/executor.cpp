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
#include "cpp/core/tensorfile/convert.h"
#include "cpp/core/tensorfile/layout.h"

namespace theriac::merge {
namespace {

using tensorfile::DType;
using tensorfile::ModelFiles;
using tensorfile::TensorRecord;
using tensorfile::internal::shown;

constexpr std::size_t kAlignment = 64;
// Of work without passes: floats of a few models stay in the cache, which doubles the speed.
constexpr std::uint64_t kPlainBlock = std::uint64_t{1} << 17;
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

  Work make(const PlannedTensor& planned) const {
    Work work;
    work.planned = &planned;
    work.elements = product(planned.shape);
    find_sources(work);
    choose_kind(work);
    if (work.kind == WorkKind::kMerge) ask_kernel(work);
    cut(work);
    check_memory(work);
    return work;
  }

 private:
  void find_sources(Work& work) const {
    for (const PlannedSource& source : work.planned->sources) {
      const TensorRecord& record = execution_.models.at(source.model)->at(source.tensor);
      work.sources.push_back(&record);
      if (!source.crop && record.shape != work.planned->shape) {
        throw Error(Code::kUnsupported, "tensor " + shown(work.planned->name) +
                                            ": rows that a tokenizer arranges are not supported "
                                            "yet")
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
    const bool alone = planned.sources.size() == 1 && !planned.sources[0].crop;
    const bool plain = execution_.plan->method->name == "passthrough" && alone &&
                       !planned.sources[0].parameters.has("scale");
    if (planned.action == PlannedAction::kMerge && !plain) {
      work.kind = WorkKind::kMerge;
    } else {
      work.base = -1;
      work.kind = first.dtype == work.dtype ? WorkKind::kCopy : WorkKind::kConvert;
    }
  }

  void ask_kernel(Work& work) const;

  // Whole rows or elements a block, as many as fit; at least one.
  void cut(Work& work) const {
    if (work.kind == WorkKind::kCopy) {
      const std::uint64_t bytes = work.sources[0]->bytes;
      work.block = kCopyBlockBytes;
      work.blocks = (bytes + work.block - 1) / work.block;
      work.unit_memory = std::min(bytes, work.block);
      return;
    }
    const std::uint64_t wanted = std::max<std::uint64_t>(1, execution_.options.block_elements);
    switch (work.granularity) {
      case Granularity::kElements:
        work.block = work.passes == 0 ? std::min(wanted, kPlainBlock) : wanted;
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
    work.blocks = (work.elements + work.block - 1) / work.block;
    const std::uint64_t count = std::min(work.block, work.elements);
    std::uint64_t raw = bytes_each(work.dtype);
    for (const TensorRecord* source : work.sources) raw = std::max(raw, bytes_each(source->dtype));
    const std::uint64_t floats = work.sources.size() + 1;
    work.unit_memory = floats * aligned(4 * count) + aligned(raw * count) + kAlignment;
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

TensorContext context_of(const Execution& execution, const Work& work) {
  const PlannedTensor& planned = *work.planned;
  TensorContext out;
  out.name = planned.name;
  out.shape = planned.shape;
  out.has_base = work.base >= 0;
  out.dtype = work.arithmetic;
  out.accumulate = execution.options.accumulate;
  out.parameters = &planned.parameters;
  for (std::size_t i = 0; i < planned.sources.size(); ++i) {
    if (static_cast<int>(i) == work.base) {
      out.base_parameters = &planned.sources[i].parameters;
    } else {
      out.model_parameters.push_back(&planned.sources[i].parameters);
      out.model_keys.push_back(i);
    }
  }
  out.t = planned.t;
  out.seed = execution.options.seed;
  return out;
}

void Preparation::ask_kernel(Work& work) const {
  if (kernel_ == nullptr) {
    throw Error(Code::kUnsupported,
                "the merge method '" + execution_.plan->method->name + "' is not implemented yet")
        .at("merge_method", execution_.plan->method->name);
  }
  work.kernel = kernel_;
  const TensorContext context = context_of(execution_, work);
  const auto merge = kernel_->make(context);  // refuses bad parameters before any work is done
  work.granularity = merge->granularity();
  work.passes = merge->passes();
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

std::uint64_t count_non_finite(const float* values, std::size_t count) {
  std::uint64_t sum = 0;
  constexpr std::size_t kTile = std::size_t{1} << 16;  // a 32-bit sum vectorises better
  for (std::size_t first = 0; first < count; first += kTile) {
    const std::size_t last = std::min(count, first + kTile);
    std::uint32_t part = 0;
    for (std::size_t i = first; i < last; ++i) {
      part += (std::bit_cast<std::uint32_t>(values[i]) & 0x7f800000U) == 0x7f800000U ? 1U : 0U;
    }
    sum += part;
  }
  return sum;
}

// Reads sources as float32.
class Loader {
 public:
  Loader(const Execution& execution, const Work& work) : execution_(execution), work_(work) {}

  // `raw`: room for the block in the widest element type.
  void load(std::size_t source, std::uint64_t first, std::size_t count, float* into,
            char* raw) const {
    const PlannedSource& planned = work_.planned->sources[source];
    const TensorRecord& record = *work_.sources[source];
    const bool inner = planned.crop && !std::equal(record.shape.begin() + 1, record.shape.end(),
                                                   work_.planned->shape.begin() + 1);
    if (inner) {
      load_rows(source, first, count, into, raw);
    } else {
      load_run(source, first, count, into, raw);
    }
    const bool native =
        work_.kind == WorkKind::kMerge && execution_.options.accumulate == Accumulate::kNative;
    if (!native || record.dtype == work_.arithmetic) return;
    tensorfile::from_float(work_.arithmetic, into, count, raw);
    tensorfile::to_float(work_.arithmetic, raw, count, into);
  }

 private:
  void load_run(std::size_t source, std::uint64_t first, std::size_t count, float* into,
                char* raw) const {
    const ModelFiles& model = *execution_.models[work_.planned->sources[source].model];
    const TensorRecord& record = *work_.sources[source];
    const std::uint64_t each = bytes_each(record.dtype);
    char* const bytes = record.dtype == DType::kF32 ? reinterpret_cast<char*>(into) : raw;
    model.read(record, first * each, {bytes, static_cast<std::size_t>(count * each)});
    if (record.dtype != DType::kF32) tensorfile::to_float(record.dtype, raw, count, into);
  }

  // A source with longer rows: one run a row.
  void load_rows(std::size_t source, std::uint64_t first, std::size_t count, float* into,
                 char* raw) const {
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
};

// A tensor in the making. Members are guarded by the pool's mutex, but for `merge`, `context` and
// slots of the vectors, each of which has one writer.
struct Active {
  std::size_t tensor = 0;
  const Work* work = nullptr;
  TensorContext context;
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

// Rounds to the output's type and counts, a tile at a time while it is in the cache. Returns the
// bytes to write.
std::string_view narrow(const Work& work, const float* values, const float* base, std::size_t count,
                        char* raw, TensorOutcome& counts) {
  constexpr std::size_t kTile = 2048;
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
    std::uint32_t changed = 0, lost = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const std::uint32_t moved = values[first + i] != base[first + i] ? 1 : 0;
      changed += moved;
      lost += result[i] == base[first + i] ? moved : 0;
    }
    counts.changed += changed;
    counts.lost += lost;
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

  bool need(std::uint64_t bytes) {
    // Much more than needed, or somebody waits: let it go first. Nobody waits with memory in hand.
    if (held_ < bytes || held_ / 4 > bytes || gate_.somebody_waits()) {
      give_back();
      if (!gate_.acquire(bytes)) return false;
      held_ = bytes;
    }
    buffer_.reserve(bytes);
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

// ---- the pool ----------------------------------------------------------------------------------

class Pool {
 public:
  Pool(const Execution& execution, OutputFiles& output, const std::vector<char>& done)
      : execution_(execution),
        output_(output),
        copies_(execution),
        gate_(execution.options.memory_limit) {
    for (std::size_t i = 0; i < execution.works.size(); ++i) {
      if (i < done.size() && done[i] != 0) continue;
      order_.push_back(i);
      const Work& work = execution.works[i];
      total_ += work.blocks * static_cast<std::uint64_t>(work.passes + 1);
    }
    sort_by_offset();
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

  void sort_by_offset();
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

// Along the files: disks and read-ahead like it.
void Pool::sort_by_offset() {
  const auto place = [this](std::size_t tensor) {
    const Work& work = execution_.works[tensor];
    const std::size_t source = work.base < 0 ? 0 : static_cast<std::size_t>(work.base);
    const TensorRecord& record = *work.sources[source];
    return std::tuple(work.planned->sources[source].model, record.file, record.offset, tensor);
  };
  std::sort(order_.begin(), order_.end(),
            [&place](std::size_t a, std::size_t b) { return place(a) < place(b); });
}

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
      if (!memory.need(unit.active->work->unit_memory)) return;
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
    active.context = context_of(execution_, work);
    active.merge = work.kernel->make(active.context);
    if (work.passes > 0) active.partials.resize(static_cast<std::size_t>(work.blocks));
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
  const std::uint64_t first = unit.block * work.block;
  const auto count = static_cast<std::size_t>(std::min(work.block, work.elements - first));
  const std::uint64_t stride = aligned(4 * std::min(work.block, work.elements));
  const auto floats = [&](std::size_t i) {
    return reinterpret_cast<float*>(memory.at(i * stride));
  };
  char* const raw = memory.at((work.sources.size() + 1) * stride);
  const bool applies = unit.stage == work.passes;
  const Loader loader(execution_, work);
  TensorOutcome counts;
  std::vector<const float*> models;
  const float* base = nullptr;
  std::uint64_t read = 0, written = 0;
  for (std::size_t i = 0; i < work.sources.size(); ++i) {
    loader.load(i, first, count, floats(i), raw);
    read += count * bytes_each(work.sources[i]->dtype);
    if (applies) counts.non_finite_in += count_non_finite(floats(i), count);
    if (static_cast<int>(i) == work.base) {
      base = floats(i);
    } else {
      models.push_back(floats(i));
    }
  }
  const Block block{first, count, base, models};
  if (!applies) {
    active.partials[unit.block] = active.merge->observe(unit.stage, block);
  } else {
    float* const out = work.kind == WorkKind::kMerge ? floats(work.sources.size()) : floats(0);
    if (work.kind == WorkKind::kMerge) active.merge->apply(block, out);
    const std::string_view bytes = narrow(work, out, base, count, raw, counts);
    output_.write(active.tensor, first * bytes_each(work.dtype), bytes);
    active.hashes[unit.block] = hash64(bytes);
    written = bytes.size();
  }
  const std::lock_guard lock(mutex_);
  active.outcome.changed += counts.changed;
  active.outcome.lost += counts.lost;
  active.outcome.non_finite_in += counts.non_finite_in;
  active.outcome.non_finite_out += counts.non_finite_out;
  totals_.bytes_read += read;
  totals_.bytes_written += written;
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
    sum += once * static_cast<std::uint64_t>(work.passes + 1);
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
  return options.memory_limit == 0 ? sum : std::min(sum, options.memory_limit);
}

Execution prepare(const MergePlan& plan, std::vector<const ModelFiles*> models,
                  const KernelResolver& kernels, const ExecuteOptions& options,
                  std::string_view dtype, std::string_view out_dtype) {
  Execution out;
  out.plan = &plan;
  out.models = std::move(models);
  out.options = options;
  const Preparation preparation(out, kernels, dtype, out_dtype);
  out.works.reserve(plan.tensors.size());
  for (const PlannedTensor& planned : plan.tensors) out.works.push_back(preparation.make(planned));
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
  return Pool(execution, output, done).run(finished, job);
}

std::string checksum_of(const Execution& execution, std::size_t tensor, const OutputFiles& output) {
  const Work& work = execution.works.at(tensor);
  const std::uint64_t all = output.layout().tensors.at(tensor).bytes;
  const std::uint64_t block =
      work.kind == WorkKind::kCopy ? work.block : work.block * bytes_each(work.dtype);
  std::vector<std::uint64_t> hashes;
  std::string bytes;
  for (std::uint64_t first = 0; first < all; first += block) {
    bytes.resize(static_cast<std::size_t>(std::min(block, all - first)));
    output.read(tensor, first, std::span<char>(bytes));
    hashes.push_back(hash64(bytes));
  }
  return fold(hashes);
}

}  // namespace theriac::merge
