// Whole runs of what a recipe can ask for beside the merging itself: several documents, tokenizers,
// chat templates, other file formats, verification.
#include <gmock/gmock.h>

#include "cpp/core/base/file.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/adapter_for_test.h"
#include "cpp/core/merge/merge.h"
#include "cpp/core/tensorfile/torch_writer_for_test.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
namespace pickle = testing_support::pickle;
using tensorfile::DType;
using tensorfile::ModelFiles;
using testing::Contains;
using testing::HasSubstr;
using testing_support::failure_of;
using testing_support::ScratchFolder;

const std::string kConfig =
    "{\n  \"vocab_size\": 10,\n  \"num_hidden_layers\": 2,\n  \"layer_types\": [\"x\", \"y\"]\n}\n";
const std::string kEmbedding = "model.embed_tokens.weight";

std::string tokenizer(const std::vector<std::string>& tokens, const std::string& special = "") {
  Json vocab = Json::object();
  for (std::size_t i = 0; i < tokens.size(); ++i) vocab[tokens[i]] = i;
  Json out{{"version", "1.0"},
           {"added_tokens", Json::array()},
           {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}}};
  if (!special.empty()) {
    out["added_tokens"].push_back({{"id", tokens.size()}, {"content", special}, {"special", true}});
  }
  return dump_json(out);
}

class Recipes : public testing::Test {
 protected:
  Recipes() {
    for (const char* name : {"a", "b", "c"}) {
      toy::write_model(scratch_ / name, toy::decoder_specs(), static_cast<std::uint64_t>(*name),
                       kConfig);
    }
    options_.working_folder = scratch_.path();
    options_.kernels = toy::find;
    options_.execute.block_elements = 16;
    options_.execute.threads = 2;
  }
  ~Recipes() override { toy::hook() = nullptr; }

  Json merge(const std::string& recipe, const std::string& name = "out") {
    Job job;
    return merge_recipe(recipe, "r.yml", scratch_ / name, options_, job).json;
  }
  Json plan(const std::string& recipe) {
    Job job;
    return plan_recipe(recipe, "r.yml", options_, job).json;
  }
  std::optional<Failure> failure(const std::string& recipe, const std::string& name = "out") {
    return failure_of([&] { merge(recipe, name); });
  }
  ModelFiles open(const std::string& name) { return ModelFiles::open(scratch_ / name); }
  std::vector<float> floats(const std::string& model, const std::string& tensor) {
    return toy::floats(open(model), tensor);
  }
  std::string file(const std::string& name) { return read_file(scratch_ / name); }
  void write(const std::string& name, const std::string& text) {
    replace_file(scratch_ / name, text);
  }
  static std::vector<std::string> texts(const Json& list) { return list; }
  static std::string mean(const std::string& x, const std::string& y,
                          const std::string& more = "") {
    return "merge_method: linear\nmodels:\n  - {model: " + x + ", parameters: {weight: 0.5}}\n" +
           "  - {model: " + y + ", parameters: {weight: 0.5}}\n" + more;
  }

  ScratchFolder scratch_;
  MergeOptions options_;
};

// ---- several documents

TEST_F(Recipes, DocumentsReferToEachOther) {
  const std::string recipe = mean("pair", "c") + "---\n" + mean("a", "b", "name: pair\n");
  const Json planned = plan(recipe);
  EXPECT_EQ(planned.at("tensors").size(), open("a").tensors().size());
  EXPECT_TRUE(planned.at("documents").contains("pair"));
  const Json report = merge(recipe);
  EXPECT_EQ(report.at("documents").at("pair").at("tensors").size(), open("a").tensors().size());
  merge(mean("a", "b"), "pair");
  merge(mean("pair", "c"), "wanted");
  const ModelFiles out = open("out"), wanted = open("wanted");
  for (const auto& record : wanted.tensors()) {
    EXPECT_EQ(out.read(out.at(record.name)), wanted.read(record)) << record.name;
  }
  EXPECT_EQ(file("out/mergekit_config.yml"), mean("pair", "c"));
  EXPECT_FALSE(fs::exists(scratch_ / ".out.parts"));
  EXPECT_FALSE(fs::exists(scratch_ / ".out.merging"));
}

TEST_F(Recipes, IntermediateModelsCanBeKept) {
  options_.intermediate_folder = scratch_ / "kept";
  merge(mean("pair", "c") + "---\n" + mean("a", "b", "name: pair\n"));
  EXPECT_TRUE(fs::exists(scratch_ / "kept/pair/model.safetensors"));
  EXPECT_TRUE(fs::exists(scratch_ / "kept/pair/config.json"));
  // Where all documents have names, they are the output.
  options_.intermediate_folder.clear();
  merge(mean("a", "b", "name: x\n") + "---\n" + mean("x", "c", "name: y\n"), "all");
  EXPECT_EQ(floats("all/x", "lm_head.weight").size(), 60U);
  EXPECT_EQ(floats("all/y", "lm_head.weight").size(), 60U);
  EXPECT_FALSE(fs::exists(scratch_ / ".all.parts"));
}

TEST_F(Recipes, NamesOfDocumentsStayInTheirFolder) {
  for (const char* name : {"../x", "a/b", ".hidden", "/x"}) {
    const auto failed =
        failure(mean("a", "b", std::string("name: ") + name + "\n") + "---\n" + mean("a", "c"));
    EXPECT_THAT(failed.value().message, HasSubstr("cannot be the name of a folder")) << name;
  }
}

TEST_F(Recipes, DocumentsLeaveNothingWhereNothingWasDone) {
  options_.request = "r";
  EXPECT_TRUE(failure(mean("pair", "c") + "---\n" + mean("a", "missing", "name: pair\n")));
  EXPECT_FALSE(fs::exists(scratch_ / ".out.parts"));
  // And an output that is there already is not touched.
  merge(mean("a", "b"));
  options_.resume = true;
  const std::string before = file("out/model.safetensors");
  EXPECT_EQ(failure(mean("pair", "c") + "---\n" + mean("a", "b", "name: pair\n")).value().code,
            Code::kAlreadyExists);
  EXPECT_EQ(file("out/model.safetensors"), before);
}

TEST_F(Recipes, StoppedDocumentsGoOn) {
  const std::string recipe = mean("pair", "c") + "---\n" + mean("a", "b", "name: pair\n");
  merge(recipe, "whole");
  options_.request = "what was asked";
  for (int at = 1; at < 200; at += 7) {
    const std::string name = "out" + std::to_string(at);
    std::atomic<int> calls = 0;
    toy::hook() = [&](const TensorContext&) {
      if (++calls == at) throw Error(Code::kIoError, "stopped");
    };
    options_.resume = false;
    const bool stopped = failure(recipe, name).has_value();
    toy::hook() = nullptr;
    if (!stopped) break;
    EXPECT_FALSE(fs::exists(scratch_ / name));
    EXPECT_EQ(stored_request(scratch_ / name), "what was asked");
    options_.resume = true;
    const Json report = merge(recipe, name);
    EXPECT_EQ(file(name + "/model.safetensors"), file("whole/model.safetensors")) << at;
    EXPECT_FALSE(fs::exists(scratch_ / ("." + name + ".parts")));
    EXPECT_FALSE(stored_request(scratch_ / name));
    if (at > 30) {
      EXPECT_TRUE(report.at("documents").at("pair").contains("taken_over"));
    }
  }
}

TEST_F(Recipes, AFinishedDocumentOfOtherInputsIsMadeAgain) {
  const std::string recipe = mean("pair", "c") + "---\n" + mean("a", "b", "name: pair\n");
  std::atomic<int> calls = 0;
  int all = 0;  // the last of them is in the second document
  toy::hook() = [&](const TensorContext& context) {
    if (context.name == "lm_head.weight" && ++calls == all) throw Error(Code::kIoError, "stopped");
  };
  merge(recipe, "counted");
  all = calls;
  calls = 0;
  EXPECT_TRUE(failure(recipe));
  toy::hook() = nullptr;
  toy::write_model(scratch_ / "a", toy::decoder_specs(), 99, kConfig);
  options_.resume = true;
  const auto resumed = failure(recipe);  // the second had begun with the first's old result
  EXPECT_EQ(resumed.value_or(Failure{}).code, Code::kIncompatible);
  options_.resume = false;
  const Json report = merge(recipe);
  EXPECT_FALSE(report.at("documents").at("pair").contains("taken_over"));
}

// ---- requests

TEST_F(Recipes, TheRequestOfAStoppedMergeIsKept) {
  options_.request = "{\"recipe\": 1}";
  toy::hook() = [](const TensorContext&) { throw Error(Code::kIoError, "stopped"); };
  EXPECT_TRUE(failure(mean("a", "b")));
  toy::hook() = nullptr;
  EXPECT_EQ(stored_request(scratch_ / "out"), options_.request);
  options_.resume = true;
  merge(mean("a", "b"));
  EXPECT_FALSE(stored_request(scratch_ / "out"));
  EXPECT_FALSE(fs::exists(scratch_ / "out/merge.request"));
}

// ---- verification

TEST_F(Recipes, FinishedFilesAreReadAgain) {
  options_.verify = true;
  options_.shard_bytes = 300;
  const Json report = merge(mean("a", "b", "out_dtype: float16\n"));
  EXPECT_EQ(report.at("verified"), true);
  EXPECT_TRUE(report.at("seconds").contains("verify"));
}

// ---- architectures

TEST_F(Recipes, OtherArchitecturesAreAskedAbout) {
  write("a/config.json", R"({"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2})");
  write("b/config.json", R"({"architectures": ["MistralForCausalLM"], "num_hidden_layers": 2})");
  const auto failed = failure(mean("a", "b"));
  EXPECT_EQ(failed.value().code, Code::kInvalidArgument);
  EXPECT_THAT(failed->message, HasSubstr("'a' is LlamaForCausalLM, 'b' is MistralForCausalLM"));
  options_.allow_crimes = true;
  EXPECT_FALSE(failure(mean("a", "b")));
  options_.allow_crimes = false;
  const std::string as = "{model: b, override_architecture: LlamaForCausalLM}";
  EXPECT_FALSE(failure(mean("a", as), "as"));
}

// ---- formats

TEST_F(Recipes, TorchFilesAreMergedAsAnyOther) {
  // A state dictionary with a transposed (strided) matrix in float32.
  const std::vector<float> numbers{1, 2, 3, 4, 5, 6};
  std::string bytes(24, '\0');
  tensorfile::from_float(DType::kF32, numbers.data(), 6, bytes.data());
  const std::string stored = pickle::storage("FloatStorage", "0", 6);
  const std::string root = pickle::dict({{"w", pickle::tensor(stored, 0, {2, 3}, {1, 2})},
                                         {"norm.weight", pickle::tensor(stored, 4, {2}, {1})}});
  for (const char* name : {"p", "q"}) {
    fs::create_directories(scratch_ / name);
    write(std::string(name) + "/pytorch_model.bin",
          testing_support::torch_file(pickle::program(root), {{"0", bytes}}));
  }
  write("alone.pt", testing_support::torch_file(pickle::program(root), {{"0", bytes}}));
  merge(mean("p", "q"));
  EXPECT_THAT(floats("out", "w"), testing::ElementsAre(1, 3, 5, 2, 4, 6));
  merge("merge_method: passthrough\nmodels: [{model: alone.pt}]\n", "copied");
  EXPECT_THAT(floats("copied", "w"), testing::ElementsAre(1, 3, 5, 2, 4, 6));
  EXPECT_THAT(floats("copied", "norm.weight"), testing::ElementsAre(5, 6));
}

TEST_F(Recipes, StackedLayersBringTheirEntriesOfLists) {
  merge(
      "merge_method: passthrough\nslices:\n"
      "  - sources: [{model: a, layer_range: [1, 2]}]\n"
      "  - sources: [{model: b, layer_range: [0, 2]}]\n");
  const Json config = open("out").config();
  EXPECT_EQ(config.at("num_hidden_layers"), 3);
  EXPECT_EQ(dump_json(config.at("layer_types")), R"(["y","x","y"])");
  EXPECT_EQ(config.at("vocab_size"), 10);
}

// ---- tokenizers

TEST_F(Recipes, UnionOfTokenizersArrangesEmbeddings) {
  const std::vector<std::string> ten{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
  std::vector<std::string> other = ten;
  std::swap(other[0], other[9]);
  other[5] = "new";
  write("a/tokenizer.json", tokenizer(ten));
  write("b/tokenizer.json", tokenizer(other));
  write("a/tokenizer_config.json", R"({"added_tokens_decoder": {}})");
  const Json report = merge(mean("a", "b",
                                 "tokenizer: {source: union, pad_to_multiple_of: 4}\n"
                                 "out_dtype: float32\n"));
  const auto a = floats("a", kEmbedding), b = floats("b", kEmbedding),
             out = floats("out", kEmbedding);
  ASSERT_EQ(out.size(), 12U * 6);
  for (std::size_t j = 0; j < 6; ++j) {
    EXPECT_FLOAT_EQ(out[j], (a[j] + b[9 * 6 + j]) / 2);      // "0"
    EXPECT_FLOAT_EQ(out[6 + j], (a[6 + j] + b[6 + j]) / 2);  // "1"
    EXPECT_FLOAT_EQ(out[30 + j], a[30 + j]);                 // "5": only in a
    EXPECT_FLOAT_EQ(out[60 + j], b[30 + j]);                 // "new": only in b
    float mean = 0;
    for (std::size_t i = 0; i < 11; ++i) mean += out[i * 6 + j] / 11;
    EXPECT_NEAR(out[66 + j], mean, 1e-6);
  }
  EXPECT_EQ(floats("out", "lm_head.weight").size(), 72U);
  EXPECT_EQ(open("out").config().at("vocab_size"), 12);
  const Json json = parse_json(file("out/tokenizer.json"), "t");
  EXPECT_EQ(json.at("added_tokens")[0].at("content"), "new");
  EXPECT_EQ(json.at("added_tokens")[0].at("id"), 10);
  EXPECT_THAT(file("out/tokenizer_config.json"), HasSubstr("\"10\": {\"content\":\"new\""));
  EXPECT_THAT(texts(report.at("notes")), Contains(HasSubstr("ordinary tokens of other models")));
}

TEST_F(Recipes, ATokenizerOfAnotherModelRenumbersSpecialTokens) {
  write("a/tokenizer.json", tokenizer({"x", "y"}, "</s>"));
  write("a/config.json", R"({"vocab_size": 10, "eos_token_id": 2, "bos_token_id": 0})");
  write("a/generation_config.json", R"({"eos_token_id": [2, 0], "top_p": 0.90})");
  write("b/tokenizer.json", tokenizer({"z", "x", "y", "w"}, "</s>"));
  write("b/generation_config.json", "{}");
  merge("base_model: a\n" + mean("a", "b", "tokenizer_source: b\n"));
  const Json config = open("out").config();
  EXPECT_EQ(config.at("eos_token_id"), 4);
  EXPECT_EQ(config.at("bos_token_id"), 1);
  EXPECT_EQ(config.at("vocab_size"), 5);
  EXPECT_EQ(file("out/generation_config.json"), R"({"eos_token_id": [4,1], "top_p": 0.90})");
  EXPECT_EQ(file("out/tokenizer.json"), file("b/tokenizer.json"));
}

TEST_F(Recipes, TokenizersWorkOverAdapters) {
  write("a/tokenizer.json", tokenizer({"x", "y"}));
  write("b/tokenizer.json", tokenizer({"y", "x"}));
  std::vector<toy::Spec> lora;
  toy::add_module(lora, "lm_head", 10, 6, 2);
  toy::write_adapter(scratch_ / "l", lora, 2, R"({"r": 2})");
  merge("merge_method: passthrough\nmodels: [{model: a+l}]\nout_dtype: float32\n", "adapted");
  merge(mean("a+l", "b", "tokenizer_source: base\nout_dtype: float32\n"));
  const auto a = floats("adapted", "lm_head.weight"), b = floats("b", "lm_head.weight");
  const auto out = floats("out", "lm_head.weight");
  ASSERT_EQ(out.size(), 12U);
  for (std::size_t j = 0; j < 6; ++j) EXPECT_NEAR(out[j], (a[j] + b[6 + j]) / 2, 1e-6);
}

TEST_F(Recipes, ATokenizerThatChangedIsAnotherMerge) {
  write("a/tokenizer.json", tokenizer({"x", "y"}));
  write("b/tokenizer.json", tokenizer({"y", "x"}));
  toy::hook() = [](const TensorContext&) { throw Error(Code::kIoError, "stopped"); };
  const std::string recipe = mean("a", "b", "tokenizer_source: base\n");
  EXPECT_TRUE(failure(recipe));
  toy::hook() = nullptr;
  write("b/tokenizer.json", tokenizer({"x", "y"}));
  options_.resume = true;
  EXPECT_EQ(failure(recipe).value_or(Failure{}).code, Code::kIncompatible);
}

TEST_F(Recipes, AModelWithoutATokenizerIsNamed) {
  write("b/tokenizer.json", tokenizer({"x", "y"}));
  const auto failed = failure(mean("a", "b", "tokenizer_source: base\n"));
  EXPECT_EQ(failed.value().code, Code::kNotFound);
  EXPECT_THAT(failed->message, HasSubstr("has no tokenizer"));
  // It is taken to have that of the first model.
  const Json report = merge(mean("b", "a", "tokenizer_source: base\nout_dtype: float32\n"));
  EXPECT_THAT(texts(report.at("warnings")), Contains(HasSubstr("the tokenizer of 'b' is taken")));
  const auto a = floats("a", kEmbedding), b = floats("b", kEmbedding);
  EXPECT_FLOAT_EQ(floats("out", kEmbedding)[7], (a[7] + b[7]) / 2);
}

TEST_F(Recipes, TheTokenizerCanBeLeftOut) {
  write("a/tokenizer.json", tokenizer({"x"}));
  write("a/generation_config.json", "{}");
  options_.copy_tokenizer = false;
  merge(mean("a", "b"));
  EXPECT_FALSE(fs::exists(scratch_ / "out/tokenizer.json"));
  EXPECT_TRUE(fs::exists(scratch_ / "out/generation_config.json"));
}

// ---- chat templates

TEST_F(Recipes, ChatTemplates) {
  for (const char* name : {"a", "b", "c"}) {
    write(std::string(name) + "/tokenizer.json", tokenizer({"x"}));
    write(std::string(name) + "/tokenizer_config.json",
          std::string(R"({"chat_template": ")") + (*name == 'a' ? "first" : "often") + "\"}");
  }
  const std::string three =
      "merge_method: linear\nmodels: [{model: a}, {model: b}, {model: c}]\n"
      "parameters: {weight: 1}\nchat_template: ";
  const auto chat = [this](const std::string& out) {
    return parse_json(file(out + "/tokenizer_config.json"), "t").at("chat_template");
  };
  merge(three + "auto\n", "auto");
  EXPECT_EQ(chat("auto"), "often");
  merge(three + "chatml\n", "chatml");
  EXPECT_THAT(chat("chatml").get<std::string>(), HasSubstr("<|im_start|>"));
  merge(three + "\"{% for m in messages %}{{ m }}{% endfor %}\"\n", "own");
  EXPECT_EQ(chat("own"), "{% for m in messages %}{{ m }}{% endfor %}");
  options_.copy_tokenizer = false;
  EXPECT_THAT(texts(merge(three + "chatml\n", "none").at("warnings")),
              Contains(HasSubstr("chat_template is not saved")));
}

}  // namespace
}  // namespace theriac::merge
