// Opcodes and their meaning are those of Python's pickletools.
#include "cpp/core/tensorfile/pickle_machine.h"

#include <array>
#include <cstring>
#include <utility>

#include "cpp/core/tensorfile/layout.h"

namespace theriac::tensorfile::internal {

enum class Call : std::uint8_t {
  kOrderedDict,
  kSet,
  kSize,
  kTensorV2,
  kTensorV3,
  kParameter,
  kTypedStorage,
  kUntypedStorage,
  kDType,
};

struct Global {
  std::string_view module, name;
  Call call;
  DType dtype = DType::kU8;
};

namespace {

constexpr Global kGlobals[] = {
    {"collections", "OrderedDict", Call::kOrderedDict},
    {"__builtin__", "set", Call::kSet},
    {"builtins", "set", Call::kSet},
    {"torch", "Size", Call::kSize},
    {"torch._utils", "_rebuild_tensor_v2", Call::kTensorV2},
    {"torch._utils", "_rebuild_tensor_v3", Call::kTensorV3},
    {"torch._utils", "_rebuild_parameter", Call::kParameter},
    {"torch", "FloatStorage", Call::kTypedStorage, DType::kF32},
    {"torch", "DoubleStorage", Call::kTypedStorage, DType::kF64},
    {"torch", "HalfStorage", Call::kTypedStorage, DType::kF16},
    {"torch", "BFloat16Storage", Call::kTypedStorage, DType::kBF16},
    {"torch", "LongStorage", Call::kTypedStorage, DType::kI64},
    {"torch", "IntStorage", Call::kTypedStorage, DType::kI32},
    {"torch", "ShortStorage", Call::kTypedStorage, DType::kI16},
    {"torch", "CharStorage", Call::kTypedStorage, DType::kI8},
    {"torch", "ByteStorage", Call::kTypedStorage, DType::kU8},
    {"torch", "BoolStorage", Call::kTypedStorage, DType::kBool},
    {"torch", "ComplexFloatStorage", Call::kTypedStorage, DType::kC64},
    {"torch.storage", "UntypedStorage", Call::kUntypedStorage},
    {"torch", "UntypedStorage", Call::kUntypedStorage},
    {"torch", "float32", Call::kDType, DType::kF32},
    {"torch", "float64", Call::kDType, DType::kF64},
    {"torch", "float16", Call::kDType, DType::kF16},
    {"torch", "bfloat16", Call::kDType, DType::kBF16},
    {"torch", "float8_e4m3fn", Call::kDType, DType::kF8E4M3},
    {"torch", "float8_e5m2", Call::kDType, DType::kF8E5M2},
    {"torch", "float8_e4m3fnuz", Call::kDType, DType::kF8E4M3Fnuz},
    {"torch", "float8_e5m2fnuz", Call::kDType, DType::kF8E5M2Fnuz},
    {"torch", "float8_e8m0fnu", Call::kDType, DType::kF8E8M0},
    {"torch", "int64", Call::kDType, DType::kI64},
    {"torch", "int32", Call::kDType, DType::kI32},
    {"torch", "int16", Call::kDType, DType::kI16},
    {"torch", "int8", Call::kDType, DType::kI8},
    {"torch", "uint64", Call::kDType, DType::kU64},
    {"torch", "uint32", Call::kDType, DType::kU32},
    {"torch", "uint16", Call::kDType, DType::kU16},
    {"torch", "uint8", Call::kDType, DType::kU8},
    {"torch", "bool", Call::kDType, DType::kBool},
    {"torch", "complex64", Call::kDType, DType::kC64},
};

// Opcodes by their letters in pickletools.
namespace op {
constexpr unsigned char kProto = 0x80, kStop = '.', kMark = '(', kGlobal = 'c', kReduce = 'R',
                        kBuild = 'b', kPersistent = 'Q', kPut = 'q', kLongPut = 'r', kGet = 'h',
                        kLongGet = 'j', kText = 'X', kInt = 'J', kInt1 = 'K', kInt2 = 'M',
                        kLong1 = 0x8A, kLong4 = 0x8B, kFloat = 'G', kNone = 'N', kTrue = 0x88,
                        kFalse = 0x89, kEmptyTuple = ')', kTuple = 't', kTuple1 = 0x85,
                        kTuple2 = 0x86, kTuple3 = 0x87, kEmptyList = ']', kAppend = 'a',
                        kAppends = 'e', kEmptyDict = '}', kSetItem = 's', kSetItems = 'u';
}  // namespace op

// Names for the message that refuses an opcode: the ones that build or call objects, and newer
// ones.
std::string opcode_name(unsigned char code) {
  constexpr std::pair<unsigned char, std::string_view> kNames[] = {
      {'i', "INST"},
      {'o', "OBJ"},
      {0x81, "NEWOBJ"},
      {0x92, "NEWOBJ_EX"},
      {0x93, "STACK_GLOBAL"},
      {0x82, "EXT1"},
      {0x83, "EXT2"},
      {0x84, "EXT4"},
      {'P', "PERSID"},
      {0x95, "FRAME"},
      {'0', "POP"},
      {'1', "POP_MARK"},
      {'2', "DUP"},
      {0x94, "MEMOIZE"},
      {'I', "INT"},
      {'L', "LONG"},
      {'S', "STRING"},
      {'V', "UNICODE"},
      {'F', "FLOAT"},
      {'d', "DICT"},
      {'l', "LIST"},
      {'p', "PUT"},
      {'g', "GET"},
      {'B', "BINBYTES"},
      {'C', "SHORT_BINBYTES"},
      {'T', "BINSTRING"},
      {'U', "SHORT_BINSTRING"},
  };
  for (const auto& [letter, name] : kNames) {
    if (letter == code) return std::string(name);
  }
  constexpr std::string_view kDigits = "0123456789abcdef";
  return {'0', 'x', kDigits[code >> 4], kDigits[code & 15]};
}

}  // namespace

std::string_view kind_name(Kind kind) noexcept {
  constexpr std::array<std::string_view, 12> kNames{
      "None",   "a boolean",    "an integer", "a number", "a string",  "a tuple",
      "a list", "a dictionary", "a set",      "a global", "a storage", "a tensor"};
  return kNames[static_cast<std::size_t>(kind)];
}

const Global& Machine::global_of(Value value) {
  return kGlobals[static_cast<std::size_t>(value.number)];
}

std::string_view Machine::take(std::size_t count) {
  if (count > bytes_.size() - at_) fail("it is cut short");
  const std::string_view taken = bytes_.substr(at_, count);
  at_ += count;
  return taken;
}

std::string_view Machine::take_line() {
  const std::size_t end = bytes_.find('\n', at_);
  if (end == std::string_view::npos) fail("it is cut short");
  const std::string_view line = bytes_.substr(at_, end - at_);
  at_ = end + 1;
  return line;
}

void Machine::push(Value value) {
  if (stack_.size() == limits_.stack) {
    fail("more than " + std::to_string(limits_.stack) + " values on the stack");
  }
  stack_.push_back(value);
}

void Machine::push_container(Kind kind, std::vector<Value> items) {
  items.shrink_to_fit();
  containers_.push_back(std::move(items));
  push({kind, static_cast<std::int64_t>(containers_.size() - 1)});
}

// Values below the last mark belong to an open container.
Value Machine::pop() {
  const std::size_t floor = marks_.empty() ? 0 : marks_.back();
  if (stack_.size() <= floor) fail("an opcode finds no value on the stack");
  const Value value = stack_.back();
  stack_.pop_back();
  return value;
}

Value Machine::pop(Kind kind, std::string_view what) {
  const Value value = pop();
  if (value.kind != kind) {
    fail(std::string(what) + " is " + std::string(kind_name(value.kind)) + "; expected " +
         std::string(kind_name(kind)));
  }
  return value;
}

std::vector<Value> Machine::pop_to_mark() {
  if (marks_.empty()) fail("an opcode finds no mark on the stack");
  const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<Value> values(first, stack_.end());
  stack_.erase(first, stack_.end());
  marks_.pop_back();
  return values;
}

std::vector<Value> Machine::pop_many(std::size_t count) {
  std::vector<Value> values(count);
  for (std::size_t i = count; i-- > 0;) values[i] = pop();
  return values;
}

Value& Machine::top_container(Kind kind, std::string_view what) {
  const Value value = pop(kind, what);
  stack_.push_back(value);
  return stack_.back();
}

void Machine::start() {
  const auto protocol = bytes_.empty() ? 0 : static_cast<unsigned char>(bytes_[0]);
  if (protocol != op::kProto) fail("it does not begin with a protocol number; expected 80 02");
  at_ = 1;
  const auto version = take_number<std::uint8_t>();
  if (version == 2) return;
  throw error(Code::kUnsupported, "protocol " + std::to_string(version) +
                                      "; only protocol 2, torch.save's default, is read");
}

Value Machine::run() {
  if (bytes_.size() > limits_.bytes) {
    fail("it has " + std::to_string(bytes_.size()) + " bytes; at most " +
         std::to_string(limits_.bytes) + " are accepted");
  }
  start();
  for (std::size_t steps = 0;; ++steps) {
    opcode_at_ = at_;
    if (steps == limits_.opcodes) {
      fail("more than " + std::to_string(limits_.opcodes) + " opcodes");
    }
    const auto code = static_cast<unsigned char>(take(1)[0]);
    if (code == op::kStop) break;
    if (step(code) || step_constant(code) || step_container(code)) continue;
    fail("the opcode " + opcode_name(code) + " is not one that torch.save writes for tensors");
  }
  if (stack_.size() != 1 || !marks_.empty()) fail("it ends with values left on the stack");
  if (at_ != bytes_.size()) fail("bytes follow its end");
  return stack_.back();
}

bool Machine::step(unsigned char code) {
  switch (code) {
    case op::kMark:
      if (marks_.size() == limits_.depth) {
        fail("nested deeper than " + std::to_string(limits_.depth) + " levels");
      }
      marks_.push_back(stack_.size());
      return true;
    case op::kPut:
      put(take_number<std::uint8_t>());
      return true;
    case op::kLongPut:
      put(take_number<std::uint32_t>());
      return true;
    case op::kGet:
      get(take_number<std::uint8_t>());
      return true;
    case op::kLongGet:
      get(take_number<std::uint32_t>());
      return true;
    case op::kGlobal:
      global();
      return true;
    case op::kReduce:
      reduce();
      return true;
    case op::kBuild:
      build();
      return true;
    case op::kPersistent:
      persistent();
      return true;
    default:
      return false;
  }
}

bool Machine::step_constant(unsigned char code) {
  switch (code) {
    case op::kNone:
      push({Kind::kNone, 0});
      return true;
    case op::kTrue:
    case op::kFalse:
      push({Kind::kBool, code == op::kTrue ? 1 : 0});
      return true;
    case op::kInt:
      push_int(take_number<std::int32_t>());
      return true;
    case op::kInt1:
      push_int(take_number<std::uint8_t>());
      return true;
    case op::kInt2:
      push_int(take_number<std::uint16_t>());
      return true;
    case op::kLong1:
      push_long(take_number<std::uint8_t>());
      return true;
    case op::kLong4:
      push_long(take_number<std::uint32_t>());
      return true;
    case op::kFloat:
      take(sizeof(double));
      push({Kind::kOther, 0});
      return true;
    case op::kText:
      push_text(take_number<std::uint32_t>());
      return true;
    default:
      return false;
  }
}

bool Machine::step_container(unsigned char code) {
  switch (code) {
    case op::kEmptyTuple:
      push_container(Kind::kTuple, {});
      return true;
    case op::kTuple1:
    case op::kTuple2:
    case op::kTuple3:
      push_container(Kind::kTuple, pop_many(std::size_t{1} + (code - op::kTuple1)));
      return true;
    case op::kTuple:
      push_container(Kind::kTuple, pop_to_mark());
      return true;
    case op::kEmptyList:
      push_container(Kind::kList, {});
      return true;
    case op::kAppend:
      add_items(pop_many(1), Kind::kList);
      return true;
    case op::kAppends:
      add_items(pop_to_mark(), Kind::kList);
      return true;
    case op::kEmptyDict:
      push_container(Kind::kDict, {});
      return true;
    case op::kSetItem:
      add_items(pop_many(2), Kind::kDict);
      return true;
    case op::kSetItems:
      add_items(pop_to_mark(), Kind::kDict);
      return true;
    default:
      return false;
  }
}

// Two's complement, as many bytes as the number needs. Seeds may be long; sizes may not.
void Machine::push_long(std::uint64_t length) {
  constexpr std::uint64_t kMostBytes = 1024;
  if (length > kMostBytes) {
    fail("an integer of " + std::to_string(length) + " bytes; at most " +
         std::to_string(kMostBytes) + " are accepted");
  }
  const std::string_view digits = take(static_cast<std::size_t>(length));
  if (length > sizeof(std::int64_t)) return push({Kind::kOther, 0});
  const bool negative = !digits.empty() && (digits.back() & 0x80) != 0;
  std::uint64_t bits = negative ? ~std::uint64_t{0} : 0;
  std::memcpy(&bits, digits.data(), digits.size());
  push_int(static_cast<std::int64_t>(bits));
}

void Machine::push_text(std::uint64_t length) {
  texts_.push_back(take(static_cast<std::size_t>(length)));
  push({Kind::kText, static_cast<std::int64_t>(texts_.size() - 1)});
}

void Machine::put(std::uint64_t slot) {
  const Value value = pop();
  stack_.push_back(value);
  // Picklers number the slots one after the other; a far one would only cost memory. Counted by
  // what was put, not by how far the memo reaches, or each step could be a jump.
  constexpr std::size_t kSlack = 1024;
  if (slot > puts_ + kSlack) {
    fail("memo slot " + std::to_string(slot) + " is far beyond the " + std::to_string(puts_) +
         " in use");
  }
  ++puts_;
  constexpr Value kUnset{Kind::kNone, -1};
  if (slot >= memo_.size()) memo_.resize(static_cast<std::size_t>(slot) + 1, kUnset);
  memo_[static_cast<std::size_t>(slot)] = value;
}

void Machine::get(std::uint64_t slot) {
  if (slot >= memo_.size() ||
      (memo_[slot].kind == Kind::kNone && memo_[static_cast<std::size_t>(slot)].number < 0)) {
    fail("memo slot " + std::to_string(slot) + " is empty");
  }
  push(memo_[static_cast<std::size_t>(slot)]);
}

void Machine::global() {
  const std::string_view module = take_line();
  const std::string_view name = take_line();
  for (std::size_t i = 0; i < std::size(kGlobals); ++i) {
    if (kGlobals[i].module == module && kGlobals[i].name == name) {
      return push({Kind::kGlobal, static_cast<std::int64_t>(i)});
    }
  }
  const std::string full =
      std::string(module.substr(0, 256)) + "." + std::string(name.substr(0, 256));
  throw error(Code::kDataError,
              "the global " + shown(full) +
                  " is refused; only tensors in dictionaries are read, and nothing is ever called. "
                  "Save the state_dict alone, best as safetensors")
      .at("global", full);
}

void Machine::add_items(std::vector<Value> added, Kind kind) {
  const Value container = top_container(
      kind, kind == Kind::kDict ? "what pairs are set in" : "what values are appended to");
  if (kind == Kind::kDict && added.size() % 2 != 0) fail("a key lacks its value");
  auto& items = containers_[static_cast<std::size_t>(container.number)];
  items.insert(items.end(), added.begin(), added.end());
}

void Machine::reduce() {
  const std::vector<Value> arguments = items(pop(Kind::kTuple, "a call's argument list"));
  const Global& called = global_of(pop(Kind::kGlobal, "what is called"));
  switch (called.call) {
    case Call::kOrderedDict:
      if (!arguments.empty()) fail("OrderedDict is called with arguments; expected none");
      return push_container(Kind::kDict, {});
    case Call::kSet:
      return push(call_set(arguments));
    case Call::kSize:
      if (arguments.size() != 1 || arguments[0].kind != Kind::kTuple) {
        fail("torch.Size is called with other arguments than one tuple");
      }
      return push(arguments[0]);
    case Call::kParameter:
      if (arguments.size() != 3 || arguments[0].kind != Kind::kTensor) {
        fail("_rebuild_parameter needs a tensor, requires_grad and hooks");
      }
      return push(arguments[0]);
    case Call::kTensorV2:
    case Call::kTensorV3:
      return push(call_rebuild(called, arguments));
    case Call::kTypedStorage:
    case Call::kUntypedStorage:
    case Call::kDType:
      break;
  }
  fail("the global '" + std::string(called.module) + "." + std::string(called.name) +
       "' is called; torch.save never does that");
}

Value Machine::call_set(const std::vector<Value>& arguments) {
  if (arguments.size() != 1 || arguments[0].kind != Kind::kList) {
    fail("set is called with other arguments than one list");
  }
  return {Kind::kSet, arguments[0].number};
}

// state_dict() hangs its versions on the OrderedDict as an attribute; they mean nothing here.
void Machine::build() {
  pop();
  top_container(Kind::kDict, "what attributes are set on");
}

// ('storage', type, key, location, number of elements)
void Machine::persistent() {
  const std::vector<Value> id = items(pop(Kind::kTuple, "a persistent id"));
  const bool shape = id.size() == 5 && id[0].kind == Kind::kText && text(id[0]) == "storage" &&
                     id[1].kind == Kind::kGlobal && id[2].kind == Kind::kText &&
                     id[3].kind == Kind::kText && id[4].kind == Kind::kInt;
  if (!shape) fail("a persistent id is not ('storage', type, key, location, number of elements)");
  const Global& type = global_of(id[1]);
  Storage storage{
      .key = text(id[2]), .dtype = std::nullopt, .numel = size_of(id[4], "a storage's size")};
  if (type.call == Call::kTypedStorage) {
    storage.dtype = type.dtype;
  } else if (type.call != Call::kUntypedStorage) {
    fail("a storage's type is '" + std::string(type.module) + "." + std::string(type.name) + "'");
  }
  storages_.push_back(storage);
  push({Kind::kStorage, static_cast<std::int64_t>(storages_.size() - 1)});
}

std::uint64_t Machine::size_of(Value value, std::string_view what) const {
  if (value.kind != Kind::kInt) {
    fail(std::string(what) + " is " + std::string(kind_name(value.kind)) + "; expected an integer");
  }
  if (value.number < 0 || static_cast<std::uint64_t>(value.number) > kGreatestDimension) {
    fail(std::string(what) + " is " + std::to_string(value.number) + "; expected 0 to 2^53");
  }
  return static_cast<std::uint64_t>(value.number);
}

std::vector<std::uint64_t> Machine::sizes_of(Value value, std::string_view what) const {
  if (value.kind != Kind::kTuple) {
    fail(std::string(what) + " is " + std::string(kind_name(value.kind)) + "; expected a tuple");
  }
  const std::vector<Value>& values = items(value);
  if (values.size() > limits_.rank) {
    fail(std::string(what) + " has " + std::to_string(values.size()) + " dimensions; at most " +
         std::to_string(limits_.rank) + " are accepted");
  }
  std::vector<std::uint64_t> sizes;
  sizes.reserve(values.size());
  for (const Value size : values) sizes.push_back(size_of(size, what));
  return sizes;
}

// (storage, first element, shape, strides, requires_grad, hooks[, dtype][, metadata])
Value Machine::call_rebuild(const Global& global, const std::vector<Value>& arguments) {
  const bool typed = global.call == Call::kTensorV3;
  const std::size_t least = typed ? 7 : 6;
  if (arguments.size() < least || arguments.size() > least + 1) {
    fail(std::string(global.name) + " has " + std::to_string(arguments.size()) +
         " arguments; expected " + std::to_string(least) + " or " + std::to_string(least + 1));
  }
  if (arguments[0].kind != Kind::kStorage) fail("a tensor has no storage");
  if (tensors_.size() == limits_.tensors) {
    fail("more than " + std::to_string(limits_.tensors) + " tensors");
  }
  Tensor tensor;
  tensor.storage = arguments[0].number;
  const Storage& from = storage(tensor.storage);
  if (typed) {
    const bool is_type =
        arguments[6].kind == Kind::kGlobal && global_of(arguments[6]).call == Call::kDType;
    if (!is_type) fail("a tensor's element type is no torch.dtype");
    tensor.dtype = global_of(arguments[6]).dtype;
    const auto width = static_cast<std::uint64_t>(dtype_bits(tensor.dtype) / 8);
    const auto stored = from.dtype ? static_cast<std::uint64_t>(dtype_bits(*from.dtype) / 8) : 1;
    tensor.storage_elements = from.numel * stored / width;  // numel is at most 2^53
  } else {
    if (!from.dtype) fail("a tensor over an untyped storage needs an element type");
    tensor.dtype = *from.dtype;
    tensor.storage_elements = from.numel;
  }
  tensor.first = size_of(arguments[1], "a tensor's offset");
  tensor.shape = sizes_of(arguments[2], "a tensor's shape");
  tensor.strides = sizes_of(arguments[3], "a tensor's strides");
  check_view(tensor);
  tensors_.push_back(std::move(tensor));
  return {Kind::kTensor, static_cast<std::int64_t>(tensors_.size() - 1)};
}

void Machine::check_view(const Tensor& tensor) const {
  if (tensor.shape.size() != tensor.strides.size()) {
    fail("a tensor of " + std::to_string(tensor.shape.size()) + " dimensions has " +
         std::to_string(tensor.strides.size()) + " strides");
  }
  const auto bytes = byte_size(tensor.dtype, tensor.shape);
  if (!bytes) fail("a tensor's shape overflows");
  const auto outside = [&] {
    fail("a tensor reaches beyond its storage of " + std::to_string(tensor.storage_elements) +
         " elements");
  };
  if (tensor.first > tensor.storage_elements) outside();
  if (*bytes == 0) return;
  std::uint64_t last = tensor.first;
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    std::uint64_t step = 0;
    if (__builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &step) ||
        __builtin_add_overflow(last, step, &last)) {
      outside();
    }
  }
  if (last >= tensor.storage_elements) outside();
  // A view may repeat its elements (stride 0), but not blow a few bytes up into a huge tensor.
  constexpr std::uint64_t kHarmless = std::uint64_t{64} << 20;
  const auto width = static_cast<std::uint64_t>(dtype_bits(tensor.dtype) / 8);
  if (*bytes > kHarmless && *bytes / width > tensor.storage_elements) {
    fail("a tensor's strides repeat " + std::to_string(tensor.storage_elements) +
         " stored elements into " + std::to_string(*bytes) + " bytes");
  }
}

}  // namespace theriac::tensorfile::internal
