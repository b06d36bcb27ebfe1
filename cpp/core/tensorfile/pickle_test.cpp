#include "cpp/core/tensorfile/pickle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

#include "cpp/core/base/test_support.h"
#include "cpp/core/tensorfile/torch_writer_for_test.h"

namespace theriac::tensorfile {
namespace {

using namespace testing_support::pickle;  // NOLINT: the test reads as a pickle
using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::detail;
using testing_support::failure_of;
using testing_support::little;

using Shape = std::vector<std::uint64_t>;

std::string small_tensor() { return tensor(storage("FloatStorage", "0", 6), 0, {2, 3}, {3, 1}); }

PickledTensors read(const std::string& root, const PickleLimits& limits = {}) {
  return read_pickle(program(root), limits);
}

void expect_rejected(const std::string& bytes, const std::string& reason,
                     Code code = Code::kDataError, const PickleLimits& limits = {}) {
  const auto failure = failure_of([&] { read_pickle(bytes, limits); });
  ASSERT_TRUE(failure) << "accepted; expected: " << reason;
  EXPECT_EQ(failure->code, code) << failure->message;
  EXPECT_THAT(failure->message, HasSubstr(reason));
}
void expect_root_rejected(const std::string& root, const std::string& reason,
                          const PickleLimits& limits = {}) {
  expect_rejected(program(root), reason, Code::kDataError, limits);
}
void expect_tensor_rejected(const std::string& value, const std::string& reason) {
  expect_root_rejected(dict({{"w", value}}), reason);
}

TEST(Pickle, ReadsNamedTensors) {
  const PickledTensors found =
      read(dict({{"layer.weight", small_tensor()},
                 {"layer.t", tensor(storage("HalfStorage", "7", 10), 4, {3, 2}, {1, 3})},
                 {"scalar", tensor(storage("BFloat16Storage", "x", 1), 0, {}, {})},
                 {"empty", tensor(storage("LongStorage", "5", 0), 0, {0, 3}, {3, 1})}}));
  ASSERT_EQ(found.tensors.size(), 4U);
  EXPECT_TRUE(found.ignored.empty());
  EXPECT_EQ(found.tensors[0].name, "layer.weight");
  EXPECT_EQ(found.tensors[0].dtype, DType::kF32);
  EXPECT_EQ(found.tensors[0].shape, (Shape{2, 3}));
  EXPECT_EQ(found.tensors[0].strides, (Shape{3, 1}));
  EXPECT_EQ(found.tensors[0].storage, "0");
  EXPECT_EQ(found.tensors[0].storage_elements, 6U);
  EXPECT_EQ(found.tensors[1].dtype, DType::kF16);
  EXPECT_EQ(found.tensors[1].first, 4U);
  EXPECT_EQ(found.tensors[1].strides, (Shape{1, 3}));
  EXPECT_EQ(found.tensors[1].storage, "7");
  EXPECT_EQ(found.tensors[2].dtype, DType::kBF16);
  EXPECT_TRUE(found.tensors[2].shape.empty());
  EXPECT_EQ(found.tensors[3].shape, (Shape{0, 3}));
}

TEST(Pickle, KnowsEveryStorage) {
  const std::pair<std::string, DType> types[] = {
      {"FloatStorage", DType::kF32},       {"DoubleStorage", DType::kF64},
      {"HalfStorage", DType::kF16},        {"BFloat16Storage", DType::kBF16},
      {"LongStorage", DType::kI64},        {"IntStorage", DType::kI32},
      {"ShortStorage", DType::kI16},       {"CharStorage", DType::kI8},
      {"ByteStorage", DType::kU8},         {"BoolStorage", DType::kBool},
      {"ComplexFloatStorage", DType::kC64}};
  for (const auto& [name, dtype] : types) {
    const auto found = read(dict({{"w", tensor(storage(name, "0", 2), 0, {2}, {1})}}));
    EXPECT_EQ(found.tensors.at(0).dtype, dtype) << name;
  }
}

TEST(Pickle, UntypedStoragesCountBytes) {
  const std::tuple<std::string, DType, std::uint64_t> types[] = {
      {"float8_e4m3fn", DType::kF8E4M3, 8},
      {"float8_e5m2", DType::kF8E5M2, 8},
      {"uint16", DType::kU16, 4},
      {"float32", DType::kF32, 2},
      {"bfloat16", DType::kBF16, 4},
      {"int64", DType::kI64, 1},
      {"bool", DType::kBool, 8}};
  for (const auto& [name, dtype, elements] : types) {
    const auto found =
        read(dict({{"w", typed_tensor(storage("UntypedStorage", "0", 8), {1}, {1}, name)}}));
    EXPECT_EQ(found.tensors.at(0).dtype, dtype) << name;
    EXPECT_EQ(found.tensors.at(0).storage_elements, elements) << name;
  }
  expect_tensor_rejected(typed_tensor(storage("UntypedStorage", "0", 7), {2}, {1}, "float32"),
                         "beyond its storage of 1 elements");
  expect_tensor_rejected(tensor(storage("UntypedStorage", "0", 8), 0, {2}, {1}),
                         "needs an element type");
}

TEST(Pickle, TakesWhatCheckpointsHold) {
  const std::string metadata = "}" + text("_metadata") + ordered_dict() + "s";
  const std::string state = ordered_dict() + "(" + text("w") + parameter(small_tensor()) + "u" +
                            metadata + "b";  // state_dict() sets an attribute
  const std::string set = call(global("__builtin__", "set"), tuple({"](K\x01K\x02"
                                                                    "e"}));
  const std::string size = call(global("torch", "Size"), tuple({sizes({1, 2})}));
  for (const std::string key : {"state_dict", "model"}) {
    const auto found = read(dict({{"epoch", integer(3)},
                                  {"lr", "G" + std::string(8, '\x3f')},
                                  {"none", "N"},
                                  {"flag", "\x88"},
                                  {"set", set},
                                  {"size", size},
                                  {"type", global("torch", "float16")},
                                  {"seed", "\x8a\x09" + std::string(9, '\x01')},
                                  {"list", "]" + integer(1) + "a"},
                                  {"pair", "K\x01K\x02\x86"},
                                  {key, state},
                                  {"step", small_tensor()}}));
    ASSERT_EQ(found.tensors.size(), 1U) << key;
    EXPECT_EQ(found.tensors[0].name, "w");
  }
  const auto found = read(dict({{"epoch", integer(3)}, {"w", small_tensor()}}));
  EXPECT_EQ(found.tensors.size(), 1U);
  EXPECT_THAT(found.ignored, ElementsAre("epoch"));
  EXPECT_TRUE(read("}").tensors.empty());
}

// Only one level down, and only where tensors are.
TEST(Pickle, LooksOneLevelDown) {
  const std::string inner = dict({{"w", small_tensor()}});
  expect_root_rejected(dict({{"state_dict", dict({{"model", inner}})}}), "holds no tensor");
  expect_root_rejected(dict({{"weights", inner}}), "holds no tensor");
  const auto found = read(dict({{"model", dict({{"depth", integer(2)}})}, {"x", small_tensor()}}));
  ASSERT_EQ(found.tensors.size(), 1U);
  EXPECT_EQ(found.tensors[0].name, "x");
  expect_root_rejected("]", "it holds a list; expected a dictionary");
  expect_root_rejected(small_tensor(), "it holds a tensor; expected a dictionary");
}

TEST(Pickle, MemoIsShared) {
  // The storage's id is put into slot 0 and used twice.
  const std::string first = storage("FloatStorage", "0", 6);
  const std::string id = first.substr(0, first.size() - 1);
  const auto found =
      read("}(" + text("a") + tensor(id + "q" + std::string(1, '\0') + "Q", 0, {6}, {1}) +
           text("b") + tensor("h" + std::string(1, '\0') + "Q", 2, {2}, {2}) + "u");
  ASSERT_EQ(found.tensors.size(), 2U);
  EXPECT_EQ(found.tensors[1].storage, "0");
  EXPECT_EQ(found.tensors[1].strides, Shape{2});
}

// A dictionary that holds itself.
TEST(Pickle, Cycles) {
  const auto found = read(std::string("}q\0", 3) + "(" + text("me") + std::string("h\0", 2) +
                          text("w") + small_tensor() + "u");
  EXPECT_EQ(found.tensors.size(), 1U);
}

TEST(Pickle, NothingIsCalled) {
  const std::pair<std::string, std::string> names[] = {{"os", "system"},
                                                       {"posix", "system"},
                                                       {"builtins", "eval"},
                                                       {"__builtin__", "exec"},
                                                       {"builtins", "getattr"},
                                                       {"subprocess", "Popen"},
                                                       {"torch", "load"},
                                                       {"torch.hub", "load"},
                                                       {"collections", "Counter"},
                                                       {"", "OrderedDict"},
                                                       {"torch._utils", "_rebuild_tensor"},
                                                       {"torch", "floatStorage"},
                                                       {"numpy.core.multiarray", "scalar"}};
  for (const auto& [module, name] : names) {
    const std::string root =
        dict({{"w", small_tensor()},
              {"x", call(global(module, name), tuple({text("touch /tmp/owned")}))}});
    const auto failure = failure_of([&] { read(root); });
    ASSERT_TRUE(failure) << module << "." << name;
    EXPECT_EQ(failure->code, Code::kDataError);
    EXPECT_THAT(failure->message, HasSubstr("'" + module + "." + name + "' is refused"));
    EXPECT_EQ(detail(*failure, "global"), module + "." + name);
    const std::string offset = detail(*failure, "offset");
    EXPECT_EQ(program(root)[static_cast<std::size_t>(std::stoi(offset))], 'c');
  }
}

TEST(Pickle, RefusesCallsOfWhatIsNoFunction) {
  expect_tensor_rejected(call(global("torch", "FloatStorage"), ")"), "torch.save never does that");
  expect_tensor_rejected(call(global("torch", "float16"), ")"), "torch.save never does that");
  expect_tensor_rejected(call(text("os.system"), ")"), "what is called is a string");
  expect_tensor_rejected(call(global("collections", "OrderedDict"), "]"),
                         "argument list is a list");
  expect_tensor_rejected(call(global("collections", "OrderedDict"), tuple({integer(1)})),
                         "called with arguments");
  expect_tensor_rejected(call(global("builtins", "set"), tuple({text("ab")})), "than one list");
  expect_tensor_rejected(call(global("torch", "Size"), tuple({integer(1)})), "than one tuple");
  expect_tensor_rejected(parameter(integer(1)), "_rebuild_parameter needs a tensor");
  expect_tensor_rejected(integer(1) + "}b", "attributes are set on is an integer");
}

TEST(Pickle, RefusesOtherOpcodes) {
  const std::pair<std::string, std::string> codes[] = {{"(ios\nsystem\n", "INST"},
                                                       {"o", "OBJ"},
                                                       {"\x81", "NEWOBJ"},
                                                       {"\x92", "NEWOBJ_EX"},
                                                       {"\x93", "STACK_GLOBAL"},
                                                       {"\x82\x01", "EXT1"},
                                                       {"Pid\n", "PERSID"},
                                                       {"0", "POP"},
                                                       {"2", "DUP"},
                                                       {"I1\n", "INT"},
                                                       {"L1L\n", "LONG"},
                                                       {"S'a'\n", "STRING"},
                                                       {"\xff", "0xff"},
                                                       {std::string(1, '\0'), "0x00"}};
  for (const auto& [code, name] : codes) {
    expect_root_rejected("}" + text("w") + code, "the opcode " + name + " is not one");
  }
}

TEST(Pickle, OtherProtocols) {
  expect_rejected("", "does not begin with a protocol number");
  expect_rejected("}.", "does not begin with a protocol number");
  expect_rejected("\x80", "cut short");
  expect_rejected("\x80\x04}.", "protocol 4; only protocol 2", Code::kUnsupported);
  expect_rejected(std::string("\x80\0}.", 4), "protocol 0", Code::kUnsupported);
  expect_rejected("\x80\x02}.}", "bytes follow its end");
}

TEST(Pickle, EveryTruncationIsRejected) {
  const std::string good = program(dict({{"w", small_tensor()}, {"n", integer(1'000'000)}}));
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_TRUE(failure_of([&] { read_pickle(good.substr(0, size)); })) << size;
  }
}

TEST(Pickle, DamagedBytes) {
  const std::string good = program(dict({{"w", small_tensor()}, {"n", integer(1'000'000)}}));
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string damaged = good;
      damaged[at] = static_cast<char>(value);
      const auto failure = failure_of([&] {
        for (const PickledTensor& found : read_pickle(damaged).tensors) {
          ASSERT_EQ(found.shape.size(), found.strides.size());
        }
      });
      if (failure) {
        EXPECT_NE(failure->code, Code::kInternal);
      }
    }
  }
}

TEST(Pickle, RefusesBrokenStacks) {
  expect_root_rejected("", "values left on the stack");
  expect_root_rejected("}}", "values left on the stack");
  expect_root_rejected("(}", "values left on the stack");
  expect_root_rejected("t", "finds no mark");
  expect_root_rejected("}u", "finds no mark");
  expect_root_rejected("}s", "finds no value");
  expect_root_rejected("a", "finds no value");
  expect_root_rejected("}(" + text("a") + "u", "a key lacks its value");
  expect_root_rejected("](" + text("a") + "Nu", "pairs are set in is a list");
  expect_root_rejected("}Na", "values are appended to is a dictionary");
  // The value below the mark belongs to the outer container.
  expect_root_rejected("}(R", "finds no value");
  expect_root_rejected("}(\x85t", "finds no value");
}

TEST(Pickle, RefusesMemoBombs) {
  expect_root_rejected("}r" + little<std::uint32_t>(0xFFFFFFFF), "far beyond the 0 in use");
  expect_root_rejected("}r" + little<std::uint32_t>(2000), "far beyond the 0 in use");
  expect_root_rejected("}q\x05h\x04", "memo slot 4 is empty");
  expect_root_rejected("h\x01", "memo slot 1 is empty");
  // Slots that leap ahead one after the other, each within reach of the last.
  expect_root_rejected("}r" + little<std::uint32_t>(1000) + "r" + little<std::uint32_t>(2000),
                       "memo slot 2000 is far beyond the 1 in use");
  expect_root_rejected("j" + little<std::uint32_t>(0xFFFFFFFF), "memo slot 4294967295 is empty");
  expect_root_rejected("q\x01", "finds no value");
}

TEST(Pickle, RefusesLongBombs) {
  expect_root_rejected("\x8b" + little<std::uint32_t>(0x7FFFFFFF),
                       "an integer of 2147483647 bytes");
  expect_root_rejected("\x8b" + little<std::uint32_t>(1025) + std::string(1025, '\1'),
                       "at most 1024 are accepted");
  expect_root_rejected("\x8a\xff", "cut short");
  expect_root_rejected("X" + little<std::uint32_t>(0xFFFFFFFF) + "abc", "cut short");
  expect_root_rejected("cos", "cut short");
  // Integers of no and of few bytes, and negative ones.
  expect_tensor_rejected(tensor(storage("FloatStorage", "0", 6), 0, {2}, {}), "has 0 strides");
  const std::string minus_two = "\x8a\x01\xfe";
  expect_tensor_rejected(call(global("torch._utils", "_rebuild_tensor_v2"),
                              tuple({storage("FloatStorage", "0", 6), minus_two, sizes({1}),
                                     sizes({1}), "\x89", ordered_dict()})),
                         "a tensor's offset is -2");
  const std::string zero = std::string("\x8a\0", 2);
  EXPECT_EQ(read(dict({{"w", call(global("torch._utils", "_rebuild_tensor_v2"),
                                  tuple({storage("FloatStorage", "0", 6), zero, sizes({1}),
                                         sizes({1}), "\x89", ordered_dict()}))}}))
                .tensors.at(0)
                .first,
            0U);
}

TEST(Pickle, RefusesViewsBeyondTheStorage) {
  const std::string six = storage("FloatStorage", "0", 6);
  const std::string beyond = "beyond its storage of 6 elements";
  EXPECT_EQ(read(dict({{"w", tensor(six, 1, {5}, {1})}})).tensors.size(), 1U);
  expect_tensor_rejected(tensor(six, 2, {5}, {1}), beyond);
  expect_tensor_rejected(tensor(six, 0, {7}, {1}), beyond);
  expect_tensor_rejected(tensor(six, 0, {2, 3}, {4, 1}), beyond);
  expect_tensor_rejected(tensor(six, 6, {}, {}), beyond);
  expect_tensor_rejected(tensor(six, 7, {0}, {1}), beyond);
  EXPECT_EQ(read(dict({{"w", tensor(six, 6, {0}, {1})}})).tensors.size(), 1U);
  expect_tensor_rejected(tensor(six, 0, {2}, {std::int64_t{1} << 53}), beyond);
  expect_tensor_rejected(tensor(six, 0, {2, 2}, {-1, 1}), "strides is -1");
  expect_tensor_rejected(tensor(six, 0, {-2}, {1}), "shape is -2");
  expect_tensor_rejected(tensor(six, -1, {2}, {1}), "offset is -1");
  const std::int64_t large = std::int64_t{1} << 40;
  expect_tensor_rejected(tensor(six, 0, {large, large}, {0, 0}), "shape overflows");
  expect_tensor_rejected(tensor(six, 0, {(std::int64_t{1} << 53) + 1}, {0}), "expected 0 to 2^53");
  expect_tensor_rejected(tensor(storage("FloatStorage", "0", -1), 0, {1}, {1}), "size is -1");
}

// A few bytes may be repeated, but not into a tensor that fills the memory.
TEST(Pickle, RefusesRepetitionBombs) {
  const std::string one = storage("FloatStorage", "0", 1);
  EXPECT_EQ(read(dict({{"w", tensor(one, 0, {1000, 1000}, {0, 0})}})).tensors.size(), 1U);
  expect_tensor_rejected(tensor(one, 0, {100'000, 100'000}, {0, 0}),
                         "repeat 1 stored elements into 40000000000 bytes");
}

TEST(Pickle, RefusesBrokenTensors) {
  const std::string rebuild = global("torch._utils", "_rebuild_tensor_v2");
  const std::string six = storage("FloatStorage", "0", 6);
  expect_tensor_rejected(call(rebuild, tuple({six, integer(0)})),
                         "has 2 arguments; expected 6 or 7");
  expect_tensor_rejected(
      call(rebuild, tuple({integer(1), integer(0), sizes({1}), sizes({1}), "N", "N"})),
      "has no storage");
  expect_tensor_rejected(call(rebuild, tuple({six, "N", sizes({1}), sizes({1}), "N", "N"})),
                         "offset is None; expected an integer");
  expect_tensor_rejected(call(rebuild, tuple({six, integer(0), "]", sizes({1}), "N", "N"})),
                         "shape is a list; expected a tuple");
  expect_tensor_rejected(
      call(rebuild, tuple({six, integer(0), tuple({text("2")}), sizes({1}), "N", "N"})),
      "shape is a string; expected an integer");
  expect_tensor_rejected(call(global("torch._utils", "_rebuild_tensor_v3"),
                              tuple({six, integer(0), sizes({1}), sizes({1}), "N", "N", "N"})),
                         "no torch.dtype");
  expect_tensor_rejected(tuple({text("storage")}) + "Q", "a persistent id is not");
  expect_tensor_rejected(
      tuple({text("module"), global("torch", "FloatStorage"), text("0"), text("cpu"), integer(1)}) +
          "Q",
      "a persistent id is not");
  expect_tensor_rejected(
      tuple({text("storage"), global("torch", "float32"), text("0"), text("cpu"), integer(1)}) +
          "Q",
      "storage's type is 'torch.float32'");
  const Sizes seventeen(17, 1);
  expect_tensor_rejected(tensor(six, 0, seventeen, seventeen), "has 17 dimensions; at most 16");
}

TEST(Pickle, RefusesBadNames) {
  expect_root_rejected(dict({{"w", small_tensor()}, {"w", small_tensor()}}),
                       "the name appears twice");
  expect_root_rejected(dict({{"", small_tensor()}}), "the name is empty");
  expect_root_rejected(dict({{"\xff", small_tensor()}}), "the name is not UTF-8");
  expect_root_rejected(dict({{std::string(4097, 'a'), small_tensor()}}), "longer than 4096 bytes");
  expect_root_rejected("}" + integer(1) + small_tensor() + "s", "a tensor's key is an integer");
}

TEST(Pickle, LimitsBind) {
  const std::string two = dict({{"a", small_tensor()}, {"b", small_tensor()}});
  PickleLimits limits;
  limits.tensors = 2;
  EXPECT_EQ(read(two, limits).tensors.size(), 2U);
  limits.tensors = 1;
  expect_root_rejected(two, "more than 1 tensors", limits);
  limits = {};
  limits.opcodes = 20;
  expect_root_rejected(two, "more than 20 opcodes", limits);
  limits = {};
  limits.bytes = 20;
  expect_root_rejected(two, "at most 20 are accepted", limits);
  limits = {};
  limits.depth = 3;
  expect_root_rejected(std::string(4, '('), "nested deeper than 3 levels", limits);
  limits = {};
  limits.stack = 5;
  expect_root_rejected("(" + std::string(6, 'N') + "t", "more than 5 values on the stack", limits);
}

// Deeper than any call stack would bear.
TEST(Pickle, DeepNestingIsNotRecursive) {
  std::string root = "}" + text("w") + small_tensor() + "s" + text("x");
  root += std::string(200'000, ']') + std::string(199'999, 'a') + "s";
  EXPECT_EQ(read(root).tensors.size(), 1U);
}

}  // namespace
}  // namespace theriac::tensorfile
