#include "cpp/core/tensorfile/adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cpp/core/base/file.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/tensorfile/pattern.h"
#include "cpp/core/tensorfile/torch_writer_for_test.h"

namespace theriac::tensorfile {
namespace {

namespace pickle = testing_support::pickle;
using internal::SuffixPatterns;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing_support::detail;
using testing_support::failure_of;
using testing_support::ScratchFolder;

using Shape = std::vector<std::uint64_t>;

void expect_failure(const std::optional<Failure>& failure, const std::string& reason,
                    Code code = Code::kDataError) {
  ASSERT_TRUE(failure) << "accepted; expected: " << reason;
  EXPECT_EQ(failure->code, code) << failure->message;
  EXPECT_THAT(failure->message, HasSubstr(reason));
}

AdapterConfig config_of(const std::string& text) { return AdapterConfig::parse(text, "config"); }

TensorRecord record(const std::string& name, const Shape& shape) {
  TensorRecord out;
  out.name = name;
  out.shape = shape;
  return out;
}

// Tensors of rank-2 linear modules by name, in a [4, 3] model.
std::vector<TensorRecord> linear(const std::vector<std::string>& modules, std::uint64_t rank = 2) {
  std::vector<TensorRecord> out;
  for (const std::string& module : modules) {
    out.push_back(record("base_model.model." + module + ".lora_A.weight", {rank, 3}));
    out.push_back(record("base_model.model." + module + ".lora_B.weight", {4, rank}));
  }
  return out;
}

void expect_tensor_rejected(const std::string& config, std::vector<TensorRecord> tensors,
                            const std::string& reason) {
  const auto failure = failure_of([&] { map_adapter(config_of(config), tensors); });
  expect_failure(failure, reason);
  if (failure) {
    EXPECT_NE(detail(*failure, "tensor"), "(none)");
  }
}

TEST(AdapterConfig, Defaults) {
  const AdapterConfig config = config_of("{}");
  EXPECT_EQ(config.rank, 8U);
  EXPECT_EQ(config.alpha, 8.0);
  EXPECT_FALSE(config.use_rslora || config.use_dora || config.fan_in_fan_out || config.lora_bias);
  EXPECT_EQ(config.bias, "none");
  EXPECT_TRUE(config.target_modules.empty() && config.modules_to_save.empty());
}

TEST(AdapterConfig, EveryKey) {
  const AdapterConfig config = config_of(R"({
      "peft_type": "LORA", "r": 16, "lora_alpha": 32.5, "use_rslora": true, "use_dora": true,
      "fan_in_fan_out": true, "lora_bias": true, "bias": "lora_only",
      "target_modules": ["q_proj", "v_proj"], "modules_to_save": ["score"],
      "rank_pattern": {"b": 4, "a": 2}, "alpha_pattern": {"x": 1.5},
      "layers_to_transform": [0, 3], "layers_pattern": "layers",
      "base_model_name_or_path": "some/base", "task_type": null, "inference_mode": true,
      "layer_replication": null, "megatron_config": null, "init_lora_weights": true})");
  EXPECT_EQ(config.rank, 16U);
  EXPECT_EQ(config.alpha, 32.5);
  EXPECT_TRUE(config.use_rslora && config.use_dora && config.fan_in_fan_out && config.lora_bias);
  EXPECT_EQ(config.bias, "lora_only");
  EXPECT_THAT(config.target_modules, ElementsAre("q_proj", "v_proj"));
  EXPECT_FALSE(config.target_is_pattern);
  EXPECT_THAT(config.modules_to_save, ElementsAre("score"));
  EXPECT_THAT(config.rank_pattern, ElementsAre(Pair("b", 4), Pair("a", 2)));
  EXPECT_THAT(config.alpha_pattern, ElementsAre(Pair("x", 1.5)));
  EXPECT_THAT(config.layers_to_transform, ElementsAre(0, 3));
  EXPECT_THAT(config.layers_pattern, ElementsAre("layers"));
  EXPECT_EQ(config.base_model, "some/base");
  EXPECT_THAT(config.warnings, IsEmpty());

  const AdapterConfig pattern =
      config_of(R"({"target_modules": ".*q_proj", "layers_to_transform": 5})");
  EXPECT_TRUE(pattern.target_is_pattern);
  EXPECT_THAT(pattern.target_modules, ElementsAre(".*q_proj"));
  EXPECT_THAT(pattern.layers_to_transform, ElementsAre(5));
}

TEST(AdapterConfig, RefusesWrongValues) {
  const std::pair<std::string, std::string> wrong[] = {
      {R"({"r": 0})", "'r' is 0"},
      {R"({"r": -2})", "'r' is -2"},
      {R"({"r": 2.5})", "'r' is 2.5"},
      {R"({"r": 99999999})", "'r' is 99999999"},
      {R"({"lora_alpha": "8"})", "'lora_alpha' is \"8\""},
      {R"({"use_dora": 1})", "'use_dora' is no boolean"},
      {R"({"bias": "some"})", "'bias' is 'some'; expected none, all or lora_only"},
      {R"({"bias": 3})", "'bias' is no string"},
      {R"({"target_modules": [1]})", "'target_modules' is no list of strings"},
      {R"({"modules_to_save": {}})", "'modules_to_save' is no list of strings"},
      {R"({"rank_pattern": []})", "'rank_pattern' is no object"},
      {R"({"rank_pattern": {"a": 0}})", "'rank_pattern.a' is 0"},
      {R"({"alpha_pattern": {"a": null}})", "'alpha_pattern.a' is null"},
      {R"({"layers_to_transform": [-1]})", "'layers_to_transform' is no list of layer numbers"},
      {"[]", "expected a JSON object"},
      {"{", "config"},
      {R"({"r": 1, "r": 2})", "appears twice"}};
  for (const auto& [text, reason] : wrong) {
    expect_failure(failure_of([&] { config_of(text); }), reason);
  }
  for (const std::string text :
       {R"({"peft_type": "IA3"})", R"({"peft_type": 1})", R"({"layer_replication": [[0, 4]]})",
        R"({"target_parameters": ["experts.down_proj"]})"}) {
    expect_failure(failure_of([&] { config_of(text); }), "", Code::kUnsupported);
  }
  EXPECT_EQ(config_of(R"({"init_lora_weights": "pissa_niter_4"})").warnings.size(), 1U);
}

TEST(Adapter, MapsLinearModules) {
  const auto tensors = linear({"model.layers.0.q_proj", "model.layers.1.q_proj"});
  const AdapterMap map = map_adapter(config_of(R"({"r": 2, "lora_alpha": 4})"), tensors);
  ASSERT_EQ(map.modules.size(), 2U);
  const AdapterModule& module = map.modules.at("model.layers.1.q_proj");
  EXPECT_EQ(module.a, &tensors[2]);
  EXPECT_EQ(module.b, &tensors[3]);
  EXPECT_FALSE(module.embedding);
  EXPECT_EQ(module.magnitude, nullptr);
  EXPECT_EQ(module.rank, 2U);
  EXPECT_EQ(module.alpha, 4.0);
  EXPECT_EQ(module.scale, 2.0);
  EXPECT_THAT(map.warnings, IsEmpty());
  EXPECT_TRUE(map.replaced.empty());
}

TEST(Adapter, RankStabilisedScale) {
  const AdapterMap map =
      map_adapter(config_of(R"({"r": 2, "lora_alpha": 4, "use_rslora": true})"), linear({"m"}));
  EXPECT_NEAR(map.modules.at("m").scale, 2.828427, 1e-6);
}

TEST(Adapter, MapsEveryPart) {
  const std::string p = "base_model.model.";
  const std::vector<TensorRecord> tensors{record(p + "conv.lora_A.weight", {2, 3, 5, 5}),
                                          record(p + "conv.lora_B.weight", {4, 2, 1, 1}),
                                          record(p + "conv.lora_B.bias", {4}),
                                          record(p + "conv.lora_magnitude_vector", {1, 4, 1, 1}),
                                          record(p + "wte.lora_embedding_A", {2, 100}),
                                          record(p + "wte.lora_embedding_B", {7, 2}),
                                          record(p + "wte.lora_magnitude_vector.weight", {7})};
  const AdapterMap map =
      map_adapter(config_of(R"({"r": 2, "use_dora": true, "lora_bias": true})"), tensors);
  const AdapterModule& conv = map.modules.at("conv");
  EXPECT_EQ(conv.b_bias, &tensors[2]);
  EXPECT_EQ(conv.magnitude, &tensors[3]);
  EXPECT_EQ(conv.scale, 4.0);
  const AdapterModule& wte = map.modules.at("wte");
  EXPECT_TRUE(wte.embedding);
  EXPECT_EQ(wte.a, &tensors[4]);
  EXPECT_EQ(wte.b, &tensors[5]);
  EXPECT_EQ(wte.magnitude, &tensors[6]);
}

TEST(Adapter, PatternsChooseRankAndAlpha) {
  std::vector<TensorRecord> tensors = linear({"a.up_proj", "b.up_proj", "b.xup_proj"}, 2);
  for (TensorRecord& tensor : linear({"b.down_proj"}, 16)) tensors.push_back(tensor);
  const AdapterMap map =
      map_adapter(config_of(R"({"r": 2, "lora_alpha": 2, "rank_pattern": {"down_proj": 16},
                    "alpha_pattern": {"b.up_proj": 6, "up_proj": 8, "d.*n_proj": 32}})"),
                  tensors);
  EXPECT_EQ(map.modules.at("a.up_proj").scale, 4.0);
  EXPECT_EQ(map.modules.at("b.up_proj").scale, 3.0);   // the first pattern that fits
  EXPECT_EQ(map.modules.at("b.xup_proj").scale, 1.0);  // whole components only
  EXPECT_EQ(map.modules.at("b.down_proj").scale, 2.0);
  EXPECT_EQ(map.modules.at("b.down_proj").rank, 16U);
  EXPECT_THAT(map.warnings, IsEmpty());
}

TEST(Adapter, TheTensorsRankCounts) {
  const AdapterMap map = map_adapter(config_of(R"({"r": 8, "lora_alpha": 8})"), linear({"m"}));
  EXPECT_EQ(map.modules.at("m").rank, 2U);
  EXPECT_EQ(map.modules.at("m").scale, 4.0);
  ASSERT_EQ(map.warnings.size(), 1U);
  EXPECT_THAT(map.warnings[0], HasSubstr("has the rank 2; the configuration says 8"));
}

TEST(Adapter, ReplacedTensors) {
  const std::string p = "base_model.model.";
  auto tensors = linear({"m"});
  const std::size_t first = tensors.size();
  for (const std::string name : {"score.weight", "score.dense.bias", "model.embed_tokens.weight",
                                 "lm_head.base_layer.weight", "m.base_layer.bias"}) {
    tensors.push_back(record(p + name, {4}));
  }
  const AdapterMap map = map_adapter(
      config_of(R"({"r": 2, "modules_to_save": ["score"], "bias": "lora_only"})"), tensors);
  EXPECT_EQ(map.modules.size(), 1U);
  ASSERT_EQ(map.replaced.size(), 5U);
  EXPECT_EQ(map.replaced.at("score.weight"), &tensors[first]);
  EXPECT_EQ(map.replaced.at("score.dense.bias"), &tensors[first + 1]);
  EXPECT_EQ(map.replaced.at("model.embed_tokens.weight"), &tensors[first + 2]);
  EXPECT_EQ(map.replaced.at("lm_head.weight"), &tensors[first + 3]);
  EXPECT_EQ(map.replaced.at("m.bias"), &tensors[first + 4]);

  const std::string neither = "is neither a LoRA tensor nor in a module that 'modules_to_save'";
  expect_tensor_rejected("{}", {record(p + "score.weight", {4})}, neither);
  expect_tensor_rejected("{}", {record(p + "m.bias", {4})}, neither);
  expect_tensor_rejected(R"({"modules_to_save": ["score", ""]})",
                         {record(p + "rescore.weight", {4})}, neither);
  expect_tensor_rejected(R"({"bias": "all"})",
                         {record(p + "m.bias", {4}), record(p + "m.base_layer.bias", {4})},
                         "replaces a tensor that another one replaces too");
}

TEST(Adapter, UnknownKeysAreErrors) {
  const std::string p = "base_model.model.";
  const std::pair<std::string, std::string> wrong[] = {
      {p + "m.lora_A.default.weight", "'base_model.model.<module>.lora_A.weight'"},
      {p + "m.lora_a.weight", "'base_model.model.<module>.lora_A.weight'"},
      {p + "m.lora_B.biass", "'base_model.model.<module>.lora_B.bias'"},
      {p + "m.lora_embedding_A.weight", "'base_model.model.<module>.lora_embedding_A'"},
      {p + "m.lora_magnitude", "'base_model.model.<module>.lora_magnitude_vector'"},
      {"model.m.lora_A.weight", "'base_model.model.<module>.lora_A.weight'"},
      {p + "lora_A.weight", "'base_model.model.<module>.lora_A.weight'"},
      {p + "weight", "is of unknown form"},
      {"", "is of unknown form"}};
  for (const auto& [name, nearest] : wrong) {
    const auto failure = failure_of([&] { map_adapter(config_of("{}"), {record(name, {2, 3})}); });
    expect_failure(failure, "is of unknown form");
    expect_failure(failure, nearest);
  }
}

TEST(Adapter, IncompleteModules) {
  const auto both = linear({"m"});
  const std::string p = "base_model.model.m.";
  expect_tensor_rejected("{}", {both[0]}, "module 'm', which lacks its B tensor");
  expect_tensor_rejected("{}", {both[1]}, "module 'm', which lacks its A tensor");
  expect_tensor_rejected("{}", {record(p + "lora_B.bias", {4})}, "lacks its A tensor");
  expect_tensor_rejected("{}", {both[0], record(p + "lora_B.weight", {4, 3})},
                         "has the rank 3, its A 2");
  expect_tensor_rejected("{}",
                         {record(p + "lora_A.weight", {0, 3}), record(p + "lora_B.weight", {4, 0})},
                         "at least 1");
  expect_tensor_rejected("{}", {both[0], record(p + "lora_B.weight", {4})}, "has 1 dimensions");
  expect_tensor_rejected("{}", {record(p + "lora_A.weight", {}), record(p + "lora_B.weight", {})},
                         "has 0 dimensions");
  expect_tensor_rejected("{}", {both[0], both[1], record(p + "lora_embedding_A", {2, 3})},
                         "a second set of LoRA tensors");
  expect_tensor_rejected("{}", {record(p + "lora_embedding_A", {2, 3}), both[1]},
                         "a second set of LoRA tensors");
  expect_tensor_rejected(R"({"use_dora": true})", both, "'use_dora' is true");
  expect_tensor_rejected("{}", {both[0], both[1], record(p + "lora_magnitude_vector", {4})},
                         "'use_dora' is false");
}

TEST(SuffixPatterns, MatchesEndsOfPaths) {
  const auto found = [](const std::string& pattern, const std::string& path) {
    return SuffixPatterns("k", {pattern}).find(path).has_value();
  };
  EXPECT_TRUE(found("q_proj", "q_proj"));
  EXPECT_TRUE(found("q_proj", "model.layers.0.q_proj"));
  EXPECT_FALSE(found("q_proj", "model.xq_proj"));
  EXPECT_FALSE(found("q_proj", "model.q_proj.inner"));
  EXPECT_FALSE(found("q_proj", "_proj"));
  EXPECT_TRUE(found("0.q_proj", "a.0.q_proj"));
  EXPECT_TRUE(found("0.q_proj", "a.0xq_proj"));  // a dot is any character
  EXPECT_TRUE(found("layers\\.[0-3]\\..*_proj", "m.layers.2.q_proj"));
  EXPECT_FALSE(found("layers\\.[0-3]\\..*_proj", "m.layers.4.q_proj"));
  EXPECT_TRUE(found("a|b", "m.b"));
  EXPECT_FALSE(found("a|b", "m.ab"));
  EXPECT_EQ(SuffixPatterns("k", {"x", "c(a)?t", "cat"}).find("m.cat"), 1U);
}

TEST(SuffixPatterns, HostilePatterns) {
  const auto compile = [](const std::vector<std::string>& patterns) {
    return failure_of([&] { SuffixPatterns("rank_pattern", patterns); });
  };
  for (const std::string pattern : {"(", "[a", "a{3,1}", "*", "(a)\\1"}) {
    const auto failure = compile({pattern});
    expect_failure(failure, "which is no regular expression");
    EXPECT_EQ(detail(*failure, "json_path"), "rank_pattern");
  }
  expect_failure(compile({"(" + std::string(300, 'a') + ")"}), "of 302 bytes; at most 256");
  expect_failure(compile(std::vector<std::string>(257, "a+")), "more than 256 entries");
  EXPECT_FALSE(compile(std::vector<std::string>(1000, "a")));
  const std::string nested = "(?=.*(?=.*(?=.*x)))a";
  for (const std::string& pattern : {std::string("(a{1000}){1000}"), std::string("a{99}{99}"),
                                     std::string("a{1,1000}"), nested}) {
    expect_failure(compile({pattern}), "repeats or looks ahead too much");
  }
  // Found by the fuzzer: std::regex overflows, braces closed or not.
  for (const std::string pattern :
       {"a{99999999999999999999}", "a{9999999999999999999999", "(a)\\99999999999999999999"}) {
    expect_failure(compile({pattern}), "a number is longer");
  }
  EXPECT_TRUE(SuffixPatterns("k", {"a{3}(?!x)b"}).find("m.aaab"));
  EXPECT_FALSE(SuffixPatterns("k", {"a{3}(?!b)b"}).find("m.aaab"));
  // Would take exponential time by backtracking.
  EXPECT_FALSE(SuffixPatterns("k", {"(a+)+b"}).find(std::string(200, 'a')));
  EXPECT_FALSE(SuffixPatterns("k", {"(a|aa)+"}).find(std::string(4096, 'a')));  // too long
}

class AdapterFolder : public testing::Test {
 protected:
  void write_config(const std::string& text) {
    replace_file(folder_ / "adapter_config.json", text);
  }
  ScratchFolder folder_;
};

TEST_F(AdapterFolder, OpensSafetensors) {
  write_config(R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4})");
  const std::string a(24, 'a'), b(32, 'b');
  write_file(folder_ / "adapter_model.safetensors",
             {{"base_model.model.net.fc.lora_A.weight", DType::kF32, {2, 3}, a},
              {"base_model.model.net.fc.lora_B.weight", DType::kF32, {4, 2}, b}});
  Adapter opened = Adapter::open(folder_.path());
  const Adapter adapter = std::move(opened);  // pointers must survive
  EXPECT_EQ(adapter.scale("net.fc"), 2.0);
  const AdapterModule* module = adapter.find("net.fc");
  ASSERT_NE(module, nullptr);
  EXPECT_EQ(adapter.files().read(*module->a), a);
  EXPECT_EQ(adapter.files().read(*module->b), b);
  EXPECT_EQ(adapter.find("net"), nullptr);
  expect_failure(failure_of([&] { adapter.scale("net.fd"); }), "the nearest is 'net.fc'",
                 Code::kNotFound);
}

TEST_F(AdapterFolder, OpensPyTorchFiles) {
  write_config(R"({"r": 1, "lora_alpha": 3})");
  const auto tensor = [](const std::string& key, std::int64_t out, std::int64_t in) {
    return pickle::tensor(pickle::storage("FloatStorage", key, out * in), 0, {out, in}, {in, 1});
  };
  replace_file(
      folder_ / "adapter_model.bin",
      testing_support::torch_file(
          pickle::program(pickle::dict({{"base_model.model.fc.lora_A.weight", tensor("0", 1, 3)},
                                        {"base_model.model.fc.lora_B.weight", tensor("1", 2, 1)}})),
          {{"0", std::string(12, 'x')}, {"1", std::string(8, 'y')}}));
  const Adapter adapter = Adapter::open(folder_.path());
  EXPECT_EQ(adapter.scale("fc"), 3.0);
  EXPECT_EQ(adapter.files().read(*adapter.find("fc")->b), std::string(8, 'y'));
}

TEST_F(AdapterFolder, MissingFiles) {
  expect_failure(failure_of([&] { Adapter::open(folder_.path()); }), "adapter_config.json",
                 Code::kNotFound);
  write_config("{}");
  expect_failure(failure_of([&] { Adapter::open(folder_.path()); }),
                 "neither adapter_model.safetensors nor adapter_model.bin", Code::kNotFound);
}

}  // namespace
}  // namespace theriac::tensorfile
