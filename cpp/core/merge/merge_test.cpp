#include "cpp/core/merge/merge.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpp/core/base/file.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/adapter_for_test.h"
#include "cpp/core/merge/journal.h"
#include "cpp/core/merge/toy_for_test.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
using tensorfile::DType;
using tensorfile::ModelFiles;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing_support::detail;
using testing_support::failure_of;
using testing_support::ScratchFolder;
using Contents = std::map<std::string, std::string>;

const std::string kConfig =
    "{\n  \"eps\": 1e-6,\n  \"torch_dtype\": \"float32\",\n  \"num_hidden_layers\": 2\n}\n";

// Three models of one kind, in different files, and recipes for them.
class MergeRun : public testing::Test {
 protected:
  MergeRun() {
    toy::write_model(scratch_ / "base", toy::decoder_specs(), 0, kConfig);
    toy::write_model(scratch_ / "a", toy::decoder_specs(), 1, kConfig, 3);
    toy::write_model(scratch_ / "b", toy::decoder_specs(), 2, kConfig);
    replace_file(scratch_ / "base" / "tokenizer.json", "{\"t\": 1}");
    options_.working_folder = scratch_.path();
    options_.kernels = toy::find;
    options_.execute.block_elements = 16;
    options_.execute.threads = 2;
  }
  ~MergeRun() override { toy::hook() = nullptr; }

  static std::string linear(const std::string& more = "") {
    return "merge_method: linear\nmodels:\n"
           "  - model: base\n    parameters: {weight: 0.5}\n"
           "  - model: a\n    parameters: {weight: 0.25}\n"
           "  - model: b\n    parameters: {weight: 0.25}\n" +
           more;
  }
  static std::string with_base(const std::string& method, const std::string& more = "") {
    return "merge_method: " + method +
           "\nbase_model: base\nmodels:\n  - model: a\n  - model: b\nparameters: {weight: 1" +
           (method == "task_arithmetic" ? "}\n" : ", density: 1}\n") + more;
  }
  Json merge(const std::string& recipe, const std::string& name = "out") {
    Job job;
    return merge_recipe(recipe, "r.yml", scratch_ / name, options_, job).json;
  }
  Contents merged(const std::string& recipe, const std::string& name) {
    merge(recipe, name);
    return toy::contents(scratch_ / name);
  }
  std::optional<Failure> failure(const std::string& recipe, const std::string& name = "out") {
    return failure_of([&] { merge(recipe, name); });
  }
  ModelFiles open(const std::string& name) { return ModelFiles::open(scratch_ / name); }

  ScratchFolder scratch_;
  MergeOptions options_;
};

// Cards carry the output's name.
Contents without_card(Contents files) {
  files.erase("README.md");
  return files;
}

TEST_F(MergeRun, WritesAWholeModel) {
  const Json report = merge(linear());
  const ModelFiles base = open("base"), a = open("a"), b = open("b"), out = open("out");
  EXPECT_THAT(out.warnings(), IsEmpty());
  ASSERT_EQ(out.tensors().size(), base.tensors().size());
  for (const auto& record : base.tensors()) {
    const auto& made = out.at(record.name);
    EXPECT_EQ(made.dtype, record.dtype);
    EXPECT_EQ(made.shape, record.shape);
    if (record.dtype == DType::kI64) {
      EXPECT_EQ(out.read(made), base.read(record));
      continue;
    }
    const auto x = toy::floats(base, record.name), y = toy::floats(a, record.name),
               z = toy::floats(b, record.name), got = toy::floats(out, record.name);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto mean = static_cast<float>(0.5 * x[i] + 0.25 * y[i] + 0.25 * z[i]);
      char bytes[4];
      float rounded = 0;
      tensorfile::from_float(record.dtype, &mean, 1, bytes);
      tensorfile::to_float(record.dtype, bytes, 1, &rounded);
      EXPECT_EQ(got[i], rounded) << record.name << i;
    }
  }
  const Contents files = toy::contents(scratch_ / "out");
  EXPECT_EQ(files.size(), 5U);
  EXPECT_EQ(files.at("config.json"), kConfig);
  EXPECT_EQ(files.at("tokenizer.json"), "{\"t\": 1}");
  EXPECT_EQ(files.at("mergekit_config.yml"), linear());
  EXPECT_THAT(files.at("README.md"), HasSubstr("# out\n"));
  EXPECT_THAT(files.at("README.md"), HasSubstr("```yaml\n" + linear() + "```"));
  EXPECT_FALSE(fs::exists(scratch_ / ".out.merging"));
  EXPECT_EQ(report.at("tensors").size(), base.tensors().size());
  std::uint64_t bytes = 0;
  for (const auto& record : out.tensors()) bytes += record.bytes;
  EXPECT_EQ(report.at("bytes_written"), bytes);
  EXPECT_TRUE(report.at("seconds").contains("merge"));
}

TEST_F(MergeRun, BytesDoNotDependOnThreadsOrMemory) {
  for (const char* method : {"task_arithmetic", "ties", "breadcrumbs"}) {
    options_.execute.threads = 1;
    options_.execute.memory_limit = 0;
    const Contents one = without_card(merged(with_base(method), std::string(method) + "1"));
    for (const int threads : {2, 8}) {
      options_.execute.threads = threads;
      options_.execute.memory_limit = threads == 8 ? 3000 : 0;  // of which some need it all
      EXPECT_EQ(without_card(merged(with_base(method), method + std::to_string(threads))), one);
    }
  }
}

TEST_F(MergeRun, ShardsHoldTheSameTensors) {
  merge(linear(), "one");
  options_.shard_bytes = 200;
  const Json report = merge(linear(), "many");
  ASSERT_GT(report.at("shards").size(), 3U);
  const ModelFiles one = open("one"), many = open("many");
  EXPECT_THAT(many.warnings(), IsEmpty());
  ASSERT_EQ(one.tensors().size(), many.tensors().size());
  std::uint64_t bytes = 0;
  for (const auto& record : one.tensors()) {
    EXPECT_EQ(many.read(many.at(record.name)), one.read(record)) << record.name;
    bytes += record.bytes;
  }
  const Json index =
      parse_json(read_file(scratch_ / "many" / "model.safetensors.index.json"), "index");
  EXPECT_EQ(index.at("metadata").at("total_size"), bytes);
  EXPECT_FALSE(fs::exists(scratch_ / "many" / "model.safetensors"));
}

TEST_F(MergeRun, ElementTypeOfTheOutput) {
  merge(linear("dtype: float32\nout_dtype: bfloat16\n"));
  const ModelFiles out = open("out");
  EXPECT_EQ(out.at("model.layers.0.norm.weight").dtype, DType::kBF16);
  EXPECT_EQ(out.at("model.layers.0.position_ids").dtype, DType::kI64);
  std::string wanted = kConfig;
  wanted.replace(wanted.find("float32"), 7, "bfloat16");
  EXPECT_EQ(read_file(scratch_ / "out" / "config.json"), wanted);
  EXPECT_EQ(failure(linear("out_dtype: int64\n"), "no").value().code, Code::kUnsupported);
}

TEST_F(MergeRun, PassthroughCopiesAndRenumbers) {
  const std::string recipe =
      "merge_method: passthrough\nslices:\n  - sources: [{model: a, layer_range: [0, 2]}]\n"
      "  - sources: [{model: base, layer_range: [1, 2]}]\n";
  const Json report = merge(recipe);
  const ModelFiles base = open("base"), out = open("out");
  const std::string up = ".mlp.up_proj.weight";
  EXPECT_EQ(out.read(out.at("model.layers.2" + up)), base.read(base.at("model.layers.1" + up)));
  EXPECT_EQ(out.config().at("num_hidden_layers"), 3);
  for (const Json& tensor : report.at("tensors")) EXPECT_EQ(tensor.at("action"), "copy");
  merge(recipe + "out_dtype: float16\n", "half");
  const ModelFiles half = open("half");
  EXPECT_EQ(half.at("model.layers.2" + up).dtype, DType::kF16);
  EXPECT_EQ(toy::floats(half, "lm_head.weight")[7], toy::floats(base, "lm_head.weight")[7]);
}

TEST_F(MergeRun, TiedHeadsAreWrittenOnce) {
  auto specs = toy::decoder_specs();
  specs.pop_back();
  for (const char* name : {"t1", "t2"}) {
    toy::write_model(scratch_ / name, specs, name[1], R"({"tie_word_embeddings": true})");
  }
  merge("merge_method: linear\nmodels:\n  - model: t1\n  - model: t2\nparameters: {weight: 0.5}\n");
  EXPECT_EQ(open("out").find("lm_head.weight"), nullptr);
}

// ---- adapters

TEST_F(MergeRun, AdaptersAreAppliedAsTheModelsAreRead) {
  const std::string up = "model.layers.1.mlp.up_proj";
  std::vector<toy::Spec> lora;
  toy::add_module(lora, up, 11, 6, 2);
  toy::write_adapter(scratch_ / "x", lora, 5, R"({"r": 2, "lora_alpha": 4})");
  toy::write_adapter(scratch_ / "y", lora, 6, R"({"r": 2, "lora_alpha": 4})");
  const std::string recipe =
      "merge_method: linear\nmodels:\n"
      "  - {model: base+x, parameters: {weight: 0.75}}\n"
      "  - {model: {model: base, lora: y}, parameters: {weight: 0.25}}\nout_dtype: float32\n";
  const Json report = merge(recipe);
  EXPECT_EQ(report.at("warnings").size(), 0U);
  const ModelFiles base = open("base"), out = open("out");
  const auto x = tensorfile::Adapter::open(scratch_ / "x"),
             y = tensorfile::Adapter::open(scratch_ / "y");
  const std::string a = "base_model.model." + up + ".lora_A.weight",
                    b = "base_model.model." + up + ".lora_B.weight";
  const auto w = toy::floats(base, up + ".weight"), got = toy::floats(out, up + ".weight");
  for (std::size_t i = 0; i < 11; ++i) {
    for (std::size_t j = 0; j < 6; ++j) {
      double wanted = w[i * 6 + j];
      for (const auto& [adapter, weight] : {std::pair(&x, 0.75), std::pair(&y, 0.25)}) {
        const auto la = toy::floats(adapter->files(), a), lb = toy::floats(adapter->files(), b);
        for (std::size_t k = 0; k < 2; ++k) wanted += 2 * weight * lb[i * 2 + k] * la[k * 6 + j];
      }
      EXPECT_NEAR(got[i * 6 + j], wanted, 1e-5);
    }
  }
  // What no adapter changes is the base's.
  EXPECT_EQ(toy::floats(out, "lm_head.weight"), toy::floats(base, "lm_head.weight"));
}

TEST_F(MergeRun, AnAdaptedModelAloneIsTheModelWithItsAdapterMerged) {
  const std::string up = "model.layers.1.mlp.up_proj";
  std::vector<toy::Spec> lora;
  toy::add_module(lora, up, 11, 6, 2);
  toy::write_adapter(scratch_ / "x", lora, 5, R"({"r": 2})");
  const Json report = merge("merge_method: passthrough\nmodels: [{model: base+x}]\n");
  const ModelFiles base = open("base"), out = open("out");
  EXPECT_EQ(out.at(up + ".weight").dtype, DType::kBF16);
  EXPECT_NE(out.read(out.at(up + ".weight")), base.read(base.at(up + ".weight")));
  for (const Json& tensor : report.at("tensors")) {
    EXPECT_EQ(tensor.at("action"), tensor.at("name") == up + ".weight" ? "convert" : "copy");
  }
}

// The base is bfloat16, the adapter's change is not: it must not be rounded before it is taken apart.
TEST_F(MergeRun, AnAdapterIsFoundAgain) {
  const std::string up = "model.layers.1.mlp.up_proj", prefix = "base_model.model." + up;
  std::vector<toy::Spec> lora;
  toy::add_module(lora, up, 11, 6, 2);
  toy::write_adapter(scratch_ / "x", lora, 5, R"({"r": 2, "lora_alpha": 2})");
  merge(
      "merge_method: extract_lora\nbase_model: base\nmodels: [{model: base+x}]\n"
      "parameters: {max_rank: 2}\n");
  const auto given = tensorfile::Adapter::open(scratch_ / "x"),
             found = tensorfile::Adapter::open(scratch_ / "out");
  const auto product = [&](const tensorfile::Adapter& adapter, std::size_t i, std::size_t j) {
    const auto a = toy::floats(adapter.files(), prefix + ".lora_A.weight");
    const auto b = toy::floats(adapter.files(), prefix + ".lora_B.weight");
    double sum = 0;
    for (std::size_t k = 0; k < 2; ++k) sum += double{b[i * 2 + k]} * a[k * 6 + j];
    return sum;
  };
  for (std::size_t i = 0; i < 11; ++i) {
    for (std::size_t j = 0; j < 6; ++j)
      EXPECT_NEAR(product(found, i, j), product(given, i, j), 1e-5);
  }
}

TEST_F(MergeRun, AnotherAdapterIsAnotherMerge) {
  std::vector<toy::Spec> lora;
  toy::add_module(lora, "lm_head", 10, 6, 2);
  toy::write_adapter(scratch_ / "x", lora, 5, R"({"r": 2})");
  const std::string recipe =
      "merge_method: linear\nmodels: [{model: base+x, parameters: {weight: 1}}]\n";
  toy::hook() = [](const TensorContext&) { throw Error(Code::kCancelled, "stopped"); };
  EXPECT_EQ(failure(recipe).value().code, Code::kCancelled);
  toy::hook() = nullptr;
  replace_file(scratch_ / "x" / "adapter_config.json", R"({"r": 2, "lora_alpha": 1})");
  options_.resume = true;
  EXPECT_EQ(failure(recipe).value_or(Failure{}).code, Code::kIncompatible);
}

// Arithmetic in a wider type than any file's has room for its rounding.
TEST_F(MergeRun, NativeArithmeticInAWiderType) {
  options_.execute.accumulate = Accumulate::kNative;
  merge(linear("dtype: float32\nout_dtype: bfloat16\n"));
  EXPECT_EQ(open("out").at("lm_head.weight").dtype, DType::kBF16);
}

// ---- stopping and resuming

TEST_F(MergeRun, StoppedAnywhereItGoesOn) {
  const std::string recipe = with_base("task_arithmetic");
  options_.shard_bytes = 300;
  const Contents whole = without_card(merged(recipe, "whole"));
  for (const bool verify : {true, false}) {
    options_.verify_on_resume = verify;
    int resumed = 0;
    for (int at = 1;; at += 3) {
      const std::string name = "stopped" + std::to_string(at) + (verify ? "v" : "");
      std::atomic<int> calls = 0;
      toy::hook() = [&](const TensorContext&) {
        if (++calls == at) throw Error(Code::kCancelled, "stopped");
      };
      options_.resume = false;
      const auto stopped = failure(recipe, name);
      toy::hook() = nullptr;
      if (!stopped) break;
      EXPECT_EQ(stopped->code, Code::kCancelled);
      EXPECT_THAT(stopped->message, HasSubstr("'resume' goes on"));
      EXPECT_EQ(detail(*stopped, "staging"), (scratch_ / ("." + name + ".merging")).string());
      EXPECT_FALSE(fs::exists(scratch_ / name));
      options_.resume = true;
      const Json report = merge(recipe, name);
      resumed = std::max(resumed, report.at("tensors_resumed").get<int>());
      EXPECT_EQ(without_card(toy::contents(scratch_ / name)), whole) << at;
      EXPECT_THAT(report.at("warnings"), IsEmpty());
    }
    EXPECT_GT(resumed, 5);
  }
}

TEST_F(MergeRun, KilledAnywhereItGoesOn) {
  const std::string recipe = with_base("ties");
  const Contents whole = without_card(merged(recipe, "whole"));
  options_.journal_interval = std::chrono::milliseconds(0);
  options_.resume = true;
  bool resumed = false, ended = false;
  for (int at = 1; !ended; at += 5) {
    const std::string name = "killed" + std::to_string(at);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      std::atomic<int> calls = 0;
      toy::hook() = [&](const TensorContext&) {
        if (++calls == at) ::_exit(9);
        ::usleep(2000);  // time for the journal
      };
      const bool failed = failure(recipe, name).has_value();
      ::_exit(failed ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ended = WEXITSTATUS(status) == 0;
    ASSERT_TRUE(ended || WEXITSTATUS(status) == 9);
    if (!ended) {
      EXPECT_FALSE(fs::exists(scratch_ / name));
      const Json report = merge(recipe, name);
      resumed = resumed || report.at("tensors_resumed") > 0;
    }
    EXPECT_EQ(without_card(toy::contents(scratch_ / name)), whole) << at;
  }
  EXPECT_TRUE(resumed);
}

TEST_F(MergeRun, ListenersStopIt) {
  Job job([](std::string_view phase, std::uint64_t, std::uint64_t,
             std::string_view) { return phase == "merge" ? Verdict::kCancel : Verdict::kContinue; },
          nullptr, std::chrono::milliseconds(0));
  const auto stopped =
      failure_of([&] { merge_recipe(linear(), "r.yml", scratch_ / "out", options_, job); });
  EXPECT_EQ(stopped.value().code, Code::kCancelled);
  EXPECT_TRUE(fs::exists(scratch_ / ".out.merging" / "merge.journal"));
  EXPECT_FALSE(fs::exists(scratch_ / "out"));
  merge(linear());  // without resume: from the start
  EXPECT_FALSE(fs::exists(scratch_ / ".out.merging"));
}

// ---- statistics of the whole model

const std::string kSpreading =
    "merge_method: magmax\nbase_model: base\nmodels:\n  - model: a\n  - model: b\n";

TEST_F(MergeRun, StatisticsComeBeforeAllOutputs) {
  options_.execute.threads = 1;
  options_.execute.memory_limit = 0;
  std::vector<std::string> phases;
  Job job(
      [&](std::string_view phase, std::uint64_t done, std::uint64_t total, std::string_view) {
        EXPECT_LE(done, total) << phase;
        if (phases.empty() || phases.back() != phase) phases.emplace_back(phase);
        return Verdict::kContinue;
      },
      nullptr, std::chrono::milliseconds(0));
  const Json one = merge_recipe(kSpreading, "r.yml", scratch_ / "one", options_, job).json;
  EXPECT_THAT(phases, testing::IsSupersetOf({"statistics", "merge"}));
  EXPECT_LT(std::find(phases.begin(), phases.end(), "statistics"),
            std::find(phases.begin(), phases.end(), "merge"));
  double squares = 0, sum = 0, count = 0;
  const ModelFiles base = open("base"), a = open("a"), b = open("b"), out = open("one");
  for (const bool second : {false, true}) {
    const double mean = second ? sum / count : 0;
    for (const auto& record : base.tensors()) {
      if (record.dtype == DType::kI64) continue;
      const auto x = toy::floats(base, record.name), y = toy::floats(a, record.name),
                 z = toy::floats(b, record.name);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double d = static_cast<double>(y[i]) - x[i], e = static_cast<double>(z[i]) - x[i];
        (second ? squares : sum) += second ? std::pow(d - mean, 2) + std::pow(e - mean, 2) : d + e;
        count += second ? 0 : 2;
      }
    }
  }
  const double spread = std::sqrt(squares / count);
  EXPECT_NEAR(one.at("statistics").at("spread").get<double>(), spread, 1e-12);
  const float norm = toy::floats(base, "model.norm.weight")[0];
  EXPECT_NEAR(toy::floats(out, "model.norm.weight")[0], norm + 3 * spread, 1e-6);  // tasks 1, 2
  // Two passes over the whole model, and the one that makes the output.
  const Json plan = plan_recipe(kSpreading, "r.yml", options_, job).json;
  EXPECT_EQ(plan.at("bytes_in"), one.at("bytes_read"));
  for (const Json& tensor : plan.at("tensors")) {
    EXPECT_EQ(tensor.at("statistics_passes"), tensor.at("action") == "merge" ? 2 : 0);
  }
  for (const int threads : {2, 8}) {
    options_.execute.threads = threads;
    options_.execute.memory_limit = threads == 8 ? 500 : 0;
    const Json many = merge(kSpreading, "many" + std::to_string(threads));
    EXPECT_EQ(without_card(toy::contents(scratch_ / ("many" + std::to_string(threads)))),
              without_card(toy::contents(scratch_ / "one")));
    EXPECT_EQ(many.at("statistics"), one.at("statistics"));
  }
}

TEST_F(MergeRun, StoppedAmongStatisticsItGoesOn) {
  options_.execute.threads = 3;
  const Contents whole = without_card(merged(kSpreading, "whole"));
  bool resumed = false;
  for (int at = 1;; at += 4) {
    const std::string name = "stopped" + std::to_string(at);
    std::atomic<int> calls = 0;
    toy::hook() = [&](const TensorContext&) {
      if (++calls == at) throw Error(Code::kCancelled, "stopped");
    };
    options_.resume = false;
    const auto stopped = failure(kSpreading, name);
    toy::hook() = nullptr;
    if (!stopped) break;
    EXPECT_EQ(stopped->code, Code::kCancelled);
    options_.resume = true;
    resumed = merge(kSpreading, name).at("tensors_resumed") > 0 || resumed;
    EXPECT_EQ(without_card(toy::contents(scratch_ / name)), whole) << at;
  }
  EXPECT_TRUE(resumed);
}

TEST_F(MergeRun, TasksAreTheSameInEveryTensor) {
  auto specs = toy::decoder_specs();
  specs.erase(specs.begin());  // c lacks the embedding: b is alone there, and still the second
  toy::write_model(scratch_ / "c", specs, 1, kConfig);
  std::map<std::string, std::vector<std::size_t>> tasks;
  options_.execute.threads = 1;
  toy::hook() = [&](const TensorContext& context) {
    EXPECT_EQ(context.tasks, 2U);
    tasks[context.name] = context.model_tasks;
  };
  merge("merge_method: magmax\nbase_model: base\nmodels:\n  - model: c\n  - model: b\n");
  EXPECT_THAT(tasks.at("model.embed_tokens.weight"), ElementsAre(1));
  EXPECT_THAT(tasks.at("lm_head.weight"), ElementsAre(0, 1));
}

// Leaves an unfinished output in which all but the last tensors are done.
class StoppedMerge : public MergeRun {
 protected:
  StoppedMerge() {
    options_.execute.threads = 1;
    std::atomic<int> calls = 0;
    toy::hook() = [&](const TensorContext&) {
      if (++calls == 25) throw Error(Code::kCancelled, "stopped");
    };
    EXPECT_EQ(failure(with_base("task_arithmetic")).value().code, Code::kCancelled);
    toy::hook() = nullptr;
    options_.resume = true;
  }
};

TEST_F(StoppedMerge, DamagedTensorsAreMadeAgain) {
  const fs::path part = scratch_ / ".out.merging" / "model" / "model.safetensors.part";
  std::string bytes = read_file(part);
  for (std::size_t i = bytes.size() - 200; i < bytes.size(); ++i) bytes[i] ^= 1;
  replace_file(part, bytes);
  const Json report = merge(with_base("task_arithmetic"));
  EXPECT_THAT(report.at("warnings").dump(), HasSubstr("did not match their checksums"));
  options_.resume = false;
  EXPECT_EQ(without_card(toy::contents(scratch_ / "out")),
            without_card(merged(with_base("task_arithmetic"), "again")));
}

// As a kill leaves it in the instant after the model got its name, or changed places with an old one.
TEST_F(StoppedMerge, WithoutItsModelItStartsOver) {
  fs::rename(scratch_ / ".out.merging" / "model", scratch_ / ".out.merging" / "exchanged");
  const Json report = merge(with_base("task_arithmetic"));
  EXPECT_EQ(report.at("tensors_resumed"), 0);
  EXPECT_FALSE(fs::exists(scratch_ / ".out.merging"));
  options_.resume = false;
  EXPECT_EQ(without_card(toy::contents(scratch_ / "out")),
            without_card(merged(with_base("task_arithmetic"), "again")));
}

TEST_F(StoppedMerge, WhatStandsUnderItsNameIsWhole) {
  merge(with_base("task_arithmetic"));
  const Contents whole = toy::contents(scratch_ / "out");
  EXPECT_EQ(whole.count("merge.journal"), 0);
  fs::create_directory(scratch_ / ".out.merging");  // left by a kill, with its journal
  Journal::create(scratch_ / ".out.merging" / "merge.journal", Json::object());
  EXPECT_EQ(failure(with_base("task_arithmetic")).value().code, Code::kAlreadyExists);
  EXPECT_EQ(toy::contents(scratch_ / "out"), whole);
  options_.overwrite = true;
  options_.resume = false;
  merge(with_base("task_arithmetic"));
  EXPECT_EQ(without_card(toy::contents(scratch_ / "out")), without_card(whole));
  EXPECT_FALSE(fs::exists(scratch_ / ".out.merging"));
}

TEST_F(StoppedMerge, AnotherRecipeIsRefused) {
  const auto other = failure(with_base("task_arithmetic", "dtype: float32\n"));
  ASSERT_TRUE(other);
  EXPECT_EQ(other->code, Code::kIncompatible);
  EXPECT_EQ(detail(*other, "different"), "recipe, layout");
  options_.execute.seed = 7;
  EXPECT_EQ(detail(failure(with_base("task_arithmetic")).value(), "different"), "seed");
  options_.execute.seed = 0;
  options_.execute.piece_elements = 5;  // sums may round differently
  EXPECT_EQ(detail(failure(with_base("task_arithmetic")).value(), "different"), "piece_elements");
}

TEST_F(StoppedMerge, ChangedInputsAreRefused) {
  toy::write_model(scratch_ / "b", toy::decoder_specs(), 3, kConfig);
  const auto other = failure(with_base("task_arithmetic"));
  ASSERT_TRUE(other);
  EXPECT_EQ(other->code, Code::kIncompatible);
  EXPECT_EQ(detail(*other, "different"), "input " + (scratch_ / "b/model.safetensors").string());
}

TEST_F(StoppedMerge, OneAtATime) {
  const Journal other =
      Journal::create(scratch_ / ".out.merging" / "merge.journal", Json::object());
  EXPECT_EQ(failure(with_base("task_arithmetic")).value().code, Code::kBusy);
}

// ---- what goes wrong

TEST_F(MergeRun, AnInputCutShortMeanwhile) {
  toy::hook() = [&](const TensorContext&) {
    fs::resize_file(scratch_ / "b" / "model.safetensors", 900);
  };
  options_.execute.threads = 1;
  const auto cut = failure(linear());
  ASSERT_TRUE(cut);
  EXPECT_EQ(cut->code, Code::kDataError);
  EXPECT_EQ(detail(*cut, "file"), (scratch_ / "b" / "model.safetensors").string());
  EXPECT_FALSE(fs::exists(scratch_ / "out"));
}

TEST_F(MergeRun, ExistingTargets) {
  merge(linear());
  const Contents before = toy::contents(scratch_ / "out");
  EXPECT_EQ(failure(linear("out_dtype: float32\n")).value().code, Code::kAlreadyExists);
  EXPECT_EQ(toy::contents(scratch_ / "out"), before);
  options_.overwrite = true;
  merge(linear("out_dtype: float32\n"));
  EXPECT_EQ(open("out").at("lm_head.weight").dtype, DType::kF32);
  EXPECT_FALSE(fs::exists(scratch_ / ".out.merging"));
}

TEST_F(MergeRun, FoldersThatCannotBeWritten) {
  EXPECT_EQ(failure(linear(), "base/config.json/out").value().code, Code::kIoError);
  EXPECT_EQ(failure(linear(), "nowhere/out").value().code, Code::kIoError);
  Job job;
  const auto kernel = failure_of([&] { merge_recipe(linear(), "r", "/proc/out", options_, job); });
  EXPECT_EQ(kernel.value().code, Code::kIoError);
  if (::geteuid() == 0) return;  // permissions do not hold for root
  fs::create_directory(scratch_ / "locked");
  fs::permissions(scratch_ / "locked", fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_EQ(failure(linear(), "locked/out").value().code, Code::kIoError);
}

TEST_F(MergeRun, MemoryThatIsTooLittle) {
  options_.execute.memory_limit = 1000;
  merge(with_base("task_arithmetic"), "blocks");
  const auto whole = failure(with_base("breadcrumbs"));
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->code, Code::kOutOfMemory);
  EXPECT_EQ(detail(*whole, "memory_limit"), "1000");
  EXPECT_FALSE(fs::exists(scratch_ / ".out.merging"));
}

TEST_F(MergeRun, ResultsThatAreNotFinite) {
  const std::vector<toy::Spec> specs{{"w", DType::kF32, {40}}, {"v", DType::kF32, {4}}};
  toy::write_model(scratch_ / "m", specs, 1, "");
  const std::string recipe =
      "merge_method: linear\nmodels:\n  - model: m\n    parameters:\n      weight: [{filter: w, "
      "value: 1000000}, {value: 1}]\nout_dtype: float16\n";
  const auto infinite = failure(recipe);
  ASSERT_TRUE(infinite);
  EXPECT_EQ(infinite->code, Code::kNumericError);
  EXPECT_EQ(detail(*infinite, "tensor"), "w");
  options_.execute.allow_non_finite = true;
  options_.resume = true;  // the option changes no bytes
  const Json report = merge(recipe);
  EXPECT_THAT(report.at("warnings").dump(), HasSubstr("NaN or infinite"));
}

TEST_F(MergeRun, InputsThatAreNotFiniteAreReported) {
  const float values[] = {1, NAN, 3};
  const std::string bytes(reinterpret_cast<const char*>(values), sizeof values);
  fs::create_directory(scratch_ / "m");
  tensorfile::write_file(scratch_ / "m" / "model.safetensors", {{"w", DType::kF32, {3}, bytes}});
  const Json report =
      merge("merge_method: linear\nmodels:\n  - model: m\n    parameters: {weight: 1}\n");
  EXPECT_EQ(report.at("tensors")[0].at("non_finite_in"), 1);
  EXPECT_EQ(report.at("tensors")[0].at("non_finite_out"), 1);
  EXPECT_THAT(report.at("warnings").dump(), HasSubstr("config.json"));
}

TEST_F(MergeRun, UpdatesThatRoundingLosesAreCounted) {
  const auto write = [&](const char* name, std::vector<float> values) {
    const std::string bytes(reinterpret_cast<const char*>(values.data()), 4 * values.size());
    fs::create_directory(scratch_ / name);
    tensorfile::write_file(scratch_ / name / "model.safetensors", {{"w", DType::kF32, {4}, bytes}});
  };
  write("x", {1, 1, 1, 1});
  write("y", {1.001F, 1.1F, 1, 1.0001F});
  const Json report = merge(
      "merge_method: linear\nbase_model: x\nmodels:\n  - model: x\n    parameters: {weight: 0}\n"
      "  - model: y\n    parameters: {weight: 1}\nout_dtype: bfloat16\n");
  EXPECT_DOUBLE_EQ(report.at("fraction_lost").get<double>(), 2.0 / 3.0);
  EXPECT_DOUBLE_EQ(report.at("tensors")[0].at("fraction_lost").get<double>(), 2.0 / 3.0);
}

TEST_F(MergeRun, WhatIsNotSupportedIsSaid) {
  const auto code = [&](const std::string& recipe) { return failure(recipe).value().code; };
  EXPECT_EQ(code("merge_method: linear\nmodels: [{model: a+b, parameters: {weight: 1}}]\n"),
            Code::kNotFound);  // "b" is no adapter
  EXPECT_EQ(code("merge_method: linear\nmodels: [{model: c, parameters: {weight: 1}}]\n"),
            Code::kNotFound);
  EXPECT_EQ(code("merge_method: passthrough\nmodels: [{model: a, parameters: {scale: 2}}]\n"),
            Code::kUnsupported);
  EXPECT_FALSE(fs::exists(scratch_ / ".out.merging"));
}

TEST_F(MergeRun, PlansWithoutWriting) {
  Job job;
  options_.shard_bytes = 300;
  const Json plan = plan_recipe(with_base("ties"), "r.yml", options_, job).json;
  options_.shard_bytes = 5'000'000'000;
  EXPECT_EQ(plan.at("merge_method"), "ties");
  EXPECT_EQ(plan.at("donor"), "base");
  EXPECT_GT(plan.at("shards").size(), 1U);
  const Json& tensor = plan.at("tensors")[0];
  EXPECT_EQ(tensor.at("name"), "model.embed_tokens.weight");
  EXPECT_EQ(tensor.at("passes"), 1);
  EXPECT_EQ(tensor.at("granularity"), "rows");
  EXPECT_EQ(tensor.at("sources").size(), 3U);
  EXPECT_EQ(tensor.at("sources")[0].at("parameters").at("density"), 1.0);
  // blocks of two rows of 6: four rows of floats in 64 bytes each, and raw bytes
  EXPECT_GT(plan.at("peak_memory"), 2 * 4 * 64);
  EXPECT_FALSE(fs::exists(scratch_ / ".out.merging"));
  EXPECT_EQ(plan.at("bytes_in"), merge(with_base("ties")).at("bytes_read"));
}

}  // namespace
}  // namespace theriac::merge
