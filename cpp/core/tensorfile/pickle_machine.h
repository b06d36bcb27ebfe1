// The stack machine behind read_pickle: runs a pickle to its end and leaves what it made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/tensorfile/bytes.h"
#include "cpp/core/tensorfile/pickle.h"

namespace theriac::tensorfile::internal {

enum class Kind : std::uint8_t {
  kNone,
  kBool,
  kInt,
  kOther,  // a float or a large integer: taken and never looked at
  kText,
  kTuple,
  kList,
  kDict,  // also OrderedDict
  kSet,
  kGlobal,
  kStorage,
  kTensor,
};

std::string_view kind_name(Kind kind) noexcept;  // "a list"

// Containers, tensors and strings live beside the stack; a value refers to them. So values are
// small, containers may hold themselves, and nothing is destroyed recursively.
struct Value {
  Kind kind = Kind::kNone;
  std::int64_t number = 0;  // the integer, or the index of what the value refers to
};

struct Global;  // one of the names that a pickle may mention

struct Storage {
  std::string_view key;
  std::optional<DType> dtype;  // none: untyped
  std::uint64_t numel = 0;     // elements, or bytes when untyped
};

struct Tensor {
  std::int64_t storage = 0;
  DType dtype = DType::kF32;
  std::uint64_t first = 0, storage_elements = 0;
  std::vector<std::uint64_t> shape, strides;
};

// One pickle's run. Not shared between threads while it runs; `bytes` outlive it.
class Machine {
 public:
  Machine(std::string_view bytes, const PickleLimits& limits) : bytes_(bytes), limits_(limits) {}

  Value run();
  const std::vector<Value>& items(Value container) const {
    return containers_[static_cast<std::size_t>(container.number)];
  }
  std::string_view text(Value value) const {
    return texts_[static_cast<std::size_t>(value.number)];
  }
  const Tensor& tensor(Value value) const {
    return tensors_[static_cast<std::size_t>(value.number)];
  }
  const Storage& storage(std::int64_t index) const {
    return storages_[static_cast<std::size_t>(index)];
  }

 private:
  Error error(Code code, const std::string& what) const {
    return Error(code, "pickle, byte " + std::to_string(opcode_at_) + ": " + what)
        .at("offset", opcode_at_);
  }
  [[noreturn]] void fail(const std::string& what) const { throw error(Code::kDataError, what); }

  std::string_view take(std::size_t count);
  template <class T>
  T take_number() {
    return load_little<T>(take(sizeof(T)).data());
  }
  std::string_view take_line();

  void push(Value value);
  void push_int(std::int64_t number) { push({Kind::kInt, number}); }
  void push_container(Kind kind, std::vector<Value> items);
  void push_long(std::uint64_t length);
  void push_text(std::uint64_t length);
  Value pop();
  Value pop(Kind kind, std::string_view what);
  std::vector<Value> pop_to_mark();
  std::vector<Value> pop_many(std::size_t count);
  Value& top_container(Kind kind, std::string_view what);

  bool step(unsigned char code);
  bool step_constant(unsigned char code);
  bool step_container(unsigned char code);
  void start();
  void put(std::uint64_t slot);
  void get(std::uint64_t slot);
  void global();
  void reduce();
  void build();
  void persistent();
  void add_items(std::vector<Value> added, Kind kind);

  Value call_rebuild(const Global& global, const std::vector<Value>& arguments);
  Value call_set(const std::vector<Value>& arguments);
  static const Global& global_of(Value value);
  std::uint64_t size_of(Value value, std::string_view what) const;
  std::vector<std::uint64_t> sizes_of(Value value, std::string_view what) const;
  void check_view(const Tensor& tensor) const;

  std::string_view bytes_;
  const PickleLimits& limits_;
  std::size_t at_ = 0, opcode_at_ = 0;
  std::size_t puts_ = 0;  // into the memo
  std::vector<Value> stack_, memo_;
  std::vector<std::size_t> marks_;  // heights of the stack
  std::vector<std::vector<Value>> containers_;
  std::vector<std::string_view> texts_;
  std::vector<Storage> storages_;
  std::vector<Tensor> tensors_;
};

}  // namespace theriac::tensorfile::internal
