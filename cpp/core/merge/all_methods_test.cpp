// Every method, from a recipe and files to a model: the same bytes for any number of threads, any
// memory limit, and after any stop.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <set>

#include "cpp/core/base/file.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/merge.h"
#include "cpp/core/merge/toy_for_test.h"

namespace theriac::merge {
namespace {

using tensorfile::DType;
using tensorfile::ModelFiles;
using testing_support::failure_of;
using testing_support::ScratchFolder;

struct MethodCase {
  std::string method;
  std::string global;      // parameters, as YAML
  std::string own;         // of each model
  std::size_t models = 2;  // beside the base
};

const std::vector<MethodCase>& cases() {
  static const std::vector<MethodCase> all{
      {"linear", "", "weight: 0.5"},
      {"task_arithmetic", "lambda: 0.5", "weight: 1"},
      {"expo", "alpha: 0.2", "", 1},
      {"slerp", "t: 0.3", "", 1},
      {"nuslerp", "", "weight: 0.5"},
      {"multislerp", "", "weight: 0.5"},
      {"karcher", "", ""},
      {"passthrough", "", "scale: 2", 1},
      {"ties", "preset: mergekit", "weight: 1, density: 0.5"},
      {"ties", "preset: peft", "weight: 1, density: 0.5"},
      {"ties", "preset: paper", "weight: 1, density: 0.5"},
      {"ties", "preset: paper, keep: exact", "weight: 1, density: 0.5"},
      {"ties", "preset: fusionbench, lambda: 0.3", "weight: 1, density: 0.2"},
      {"dare_linear", "", "weight: 1, density: 0.5"},
      {"dare_ties", "", "weight: 1, density: 0.5"},
      {"breadcrumbs", "", "weight: 1, density: 0.5, gamma: 0.1"},
      {"breadcrumbs_ties", "", "weight: 1, density: 0.5, gamma: 0.1"},
      {"della", "", "weight: 1, density: 0.5"},
      {"della_linear", "", "weight: 1, density: 0.5"},
      {"sce", "select_topk: 0.5", ""},
      {"nearswap", "t: 0.01", "", 1},
      {"arcee_fusion", "", "", 1},
      {"ram", "", ""},
      {"ramplus_tl", "", ""},
      {"model_stock", "", ""},
      {"magmax", "", ""},
      {"metagpt", "", ""},
      {"lines", "beta: 0.5", ""},
      {"lines", "alpha: 0.1, beta: 0.5", ""},
      {"emr", "", ""},
      {"emr", "task: 2", ""},
      {"emr", "output: masks", ""},
      {"tall_masks", "output: masks", ""},
      {"tall_masks", "task: 1", ""},
      {"consensus", "", ""},
      {"pcb", "", ""},
      {"tsv_m", "", ""},
      {"iso_c", "", ""},
      {"iso_cts", "", ""},
      {"star", "", ""},
      {"knots", "", ""},
      {"knots", "scope: tensor", ""},
      {"wudi", "iterations: 20", ""},
      {"wudi", "solver: exact", ""},
      {"fisher", "", "statistics: NAME.statistics.safetensors"},
      {"regmean", "", "statistics: NAME.statistics.safetensors"},
  };
  return all;
}

class AllMethods : public testing::Test {
 protected:
  AllMethods() {
    std::uint64_t seed = 0;
    for (const char* name : {"base", "a", "b"}) {
      toy::write_model(scratch_ / name, toy::decoder_specs(), seed, "{\"num_hidden_layers\": 2}",
                       seed == 1 ? 3 : 1);
      write_statistics(name, seed++);
    }
    options_.working_folder = scratch_.path();
    options_.execute.block_elements = 16;
    options_.execute.piece_elements = 8;
  }

  // Squares for fisher, Gram matrices for regmean.
  void write_statistics(const std::string& name, std::uint64_t seed) {
    std::vector<tensorfile::TensorToWrite> tensors;
    std::vector<std::string> bytes;
    bytes.reserve(100);
    for (toy::Spec spec : toy::decoder_specs()) {
      if (!tensorfile::is_float(spec.dtype)) continue;
      spec.dtype = DType::kF32;
      bytes.push_back(toy::values(spec, seed + 10));
      for (std::size_t i = 0; i < bytes.back().size() / 4; ++i) {
        float value = 0;
        std::memcpy(&value, bytes.back().data() + 4 * i, 4);
        value *= value;
        std::memcpy(bytes.back().data() + 4 * i, &value, 4);
      }
      tensors.push_back({spec.name + ".fisher", DType::kF32, spec.shape, bytes.back()});
      if (!spec.name.ends_with("proj.weight")) continue;
      const std::uint64_t n = spec.shape[1];
      std::string gram(n * n * 4, '\0');
      for (std::size_t i = 0; i < n * n; ++i) {
        const float value = i % (n + 1) == 0 ? 1 + static_cast<float>(i + seed) : 0.5F;
        std::memcpy(gram.data() + 4 * i, &value, 4);
      }
      bytes.push_back(std::move(gram));
      tensors.push_back(
          {spec.name.substr(0, spec.name.size() - 7) + ".gram", DType::kF32, {n, n}, bytes.back()});
    }
    tensorfile::write_file(scratch_ / (name + ".statistics.safetensors"), tensors);
  }

  std::string recipe(const MethodCase& c) const {
    const bool base = find_method(c.method)->base_role != BaseRole::kDonor;
    std::string out = "merge_method: " + c.method + "\n";
    if (base) out += "base_model: base\n";
    out += "models:\n";
    std::vector<std::string> names{"a", "b"};
    names.resize(c.models);
    // The base is one of what these merge.
    if (find_method(c.method)->base_role == BaseRole::kMember) names.emplace_back("base");
    for (const std::string& name : names) {
      std::string own = c.own;
      if (const std::size_t at = own.find("NAME"); at != std::string::npos)
        own.replace(at, 4, name);
      out += "  - {model: " + name + ", parameters: {" + own + "}}\n";
    }
    return out + "parameters: {" + c.global + "}\n";
  }
  std::map<std::string, std::string> merged(const MethodCase& c, const std::string& name) {
    Job job;
    merge_recipe(recipe(c), "r.yml", scratch_ / name, options_, job);
    auto files = toy::contents(scratch_ / name);
    files.erase("README.md");
    return files;
  }

  ScratchFolder scratch_;
  MergeOptions options_;
};

TEST_F(AllMethods, AreAllHere) {
  std::set<std::string> here{"extract_lora"};  // makes an adapter; tested on its own
  for (const MethodCase& c : cases()) here.insert(c.method);
  for (const std::string& method : method_names()) EXPECT_TRUE(here.contains(method)) << method;
}

TEST_F(AllMethods, BytesDoNotDependOnThreadsOrMemory) {
  int number = 0;
  for (const MethodCase& c : cases()) {
    SCOPED_TRACE(c.method + " " + c.global);
    options_.execute.threads = 1;
    options_.execute.memory_limit = 0;
    const std::string name = "out" + std::to_string(number++);
    const auto one = merged(c, name);
    options_.execute.threads = 8;
    options_.execute.memory_limit = 30000;
    EXPECT_EQ(merged(c, name + "b"), one);
    Job job;
    const Json plan = plan_recipe(recipe(c), "r.yml", options_, job).json;
    EXPECT_LE(plan.at("peak_memory"), 30000);
    const ModelFiles out = ModelFiles::open(scratch_ / name);
    for (const auto& record : out.tensors()) {
      if (!tensorfile::is_float(record.dtype)) continue;
      for (const float value : toy::floats(out, record.name)) EXPECT_TRUE(std::isfinite(value));
    }
  }
}

// A piece is to a method what a block is: what is read and written at once makes no difference.
TEST_F(AllMethods, PiecesAreBlocksToAMethod) {
  int number = 0;
  for (const MethodCase& c : {MethodCase{"linear", "", "weight: 0.5"},
                              {"task_arithmetic", "lambda: 0.5", "weight: 1"},
                              {"dare_linear", "rescale: l2", "weight: 1, density: 0.5"},
                              {"dare_linear", "rescale: linf", "weight: 1, density: 0.3"},
                              {"dare_ties", "", "weight: 1, density: 0.5"},
                              {"dare_ties", "", "weight: 1, density: 0.3"}}) {
    for (const Accumulate accumulate : {Accumulate::kFloat32, Accumulate::kNative}) {
      for (const std::string dtype : {"", "dtype: bfloat16\n", "dtype: float32\n"}) {
        SCOPED_TRACE(recipe(c) + dtype);
        options_.execute.accumulate = accumulate;
        const auto bytes = [&](std::uint64_t block, std::uint64_t piece) {
          options_.execute.block_elements = block;
          options_.execute.piece_elements = piece;
          Job job;
          const auto folder = scratch_ / ("pieces" + std::to_string(number++));
          merge_recipe(recipe(c) + dtype, "r.yml", folder, options_, job);
          auto files = toy::contents(folder);
          files.erase("README.md");
          return files;
        };
        const auto wanted = bytes(8, 8);
        EXPECT_EQ(bytes(40, 8), wanted);
        EXPECT_EQ(bytes(47, 8), wanted);
        EXPECT_EQ(bytes(std::uint64_t{1} << 17, 8), wanted);
      }
    }
  }
}

// Stopped at several calls of the listener, and resumed.
TEST_F(AllMethods, StoppedTheyGoOn) {
  int number = 0;
  for (const MethodCase& c : cases()) {
    SCOPED_TRACE(c.method + " " + c.global);
    options_.execute.threads = 2;
    options_.resume = false;
    const std::string name = "out" + std::to_string(number++);
    const auto whole = merged(c, name);
    int calls = 0;
    Job job(
        [&](std::string_view phase, std::uint64_t, std::uint64_t, std::string_view) {
          const bool works = phase == "merge" || phase == "statistics";
          return works && ++calls == 3 ? Verdict::kCancel : Verdict::kContinue;
        },
        nullptr, std::chrono::milliseconds(0));
    const auto stopped = failure_of(
        [&] { merge_recipe(recipe(c), "r.yml", scratch_ / (name + "b"), options_, job); });
    options_.resume = true;
    if (stopped) {
      EXPECT_EQ(stopped->code, Code::kCancelled);
      EXPECT_EQ(merged(c, name + "b"), whole);
    }
  }
}

// The compact form: shared weights, masks and scales make the model of each task.
TEST_F(AllMethods, MasksAndScalesMakeTheTasksModels) {
  for (const std::string method : {"emr", "tall_masks"}) {
    merged({method, "", ""}, method + "0");
    merged({method, "output: masks", ""}, method + "m");
    const ModelFiles base = ModelFiles::open(scratch_ / "base"),
                     shared = ModelFiles::open(scratch_ / (method + "0")),
                     masks = ModelFiles::open(scratch_ / (method + "m"));
    std::vector<double> scales{1, 1};
    if (method == "emr") {
      const auto file = scratch_ / "emr0" / "merge_statistics.json";
      scales = parse_json(read_file(file), "scales").at("scales").get<std::vector<double>>();
    }
    for (const std::size_t task : {0, 1}) {
      const std::string name = method + "t" + std::to_string(task);
      merged({method, "task: " + std::to_string(task + 1), ""}, name);
      const ModelFiles wanted = ModelFiles::open(scratch_ / name);
      for (const auto& record : base.tensors()) {
        if (!tensorfile::is_float(record.dtype)) continue;
        EXPECT_EQ(masks.at(record.name).dtype, DType::kU8);
        EXPECT_EQ(masks.at(record.name).shape, record.shape);
        const auto x = toy::floats(base, record.name), s = toy::floats(shared, record.name),
                   w = toy::floats(wanted, record.name);
        const std::string bits = masks.read(masks.at(record.name));
        const float tolerance = record.dtype == DType::kF32 ? 1e-5F : 0.04F;
        for (std::size_t i = 0; i < x.size(); ++i) {
          const bool own = ((bits[i] >> task) & 1) != 0;
          const double made = x[i] + (own ? scales[task] * (s[i] - x[i]) : 0);
          EXPECT_NEAR(w[i], made, tolerance) << record.name;
        }
      }
    }
  }
}

// A statistics file that changed between the runs is another merge.
TEST_F(AllMethods, ResumingNeedsTheSameStatisticsFiles) {
  const MethodCase c{"fisher", "", "statistics: NAME.statistics.safetensors"};
  Job job(
      [&](std::string_view phase, std::uint64_t, std::uint64_t, std::string_view) {
        return phase == "merge" ? Verdict::kCancel : Verdict::kContinue;
      },
      nullptr, std::chrono::milliseconds(0));
  const auto run = [&](Job& with) {
    return failure_of([&] { merge_recipe(recipe(c), "r.yml", scratch_ / "out", options_, with); });
  };
  EXPECT_EQ(run(job).value().code, Code::kCancelled);
  const auto file = scratch_ / "a.statistics.safetensors";
  std::filesystem::last_write_time(
      file, std::filesystem::last_write_time(file) + std::chrono::seconds(2));
  options_.resume = true;
  Job again;
  EXPECT_EQ(run(again).value().code, Code::kIncompatible);
}

}  // namespace
}  // namespace theriac::merge
