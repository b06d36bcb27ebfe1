// One patient (3 visits, 40 codes) at batch 1: through the C ABI, and through the seam directly.
// Prints the distribution of single calls (median, 99th percentile) beside Google Benchmark's
// means.
//
//     recommend_bench MODEL [Google Benchmark's flags]
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cpp/core/load_engine.h"
#include "theriac/theriac.h"

namespace {

using Clock = std::chrono::steady_clock;

// 3 visits with 12, 13 and 15 codes: diagnoses, procedures and, before the last visit, medications.
struct Patient {
  std::vector<std::int32_t> visit, field, system;
  std::vector<std::string> texts;
  std::vector<const char*> code;

  Patient() {
    static const char* const diagnoses[] = {"E11.9", "I10",   "I50.22", "N18.3", "J44.9",  "I48.91",
                                            "E78.5", "K21.9", "F32.9",  "E03.9", "M17.11", "D64.9"};
    static const char* const procedures[] = {"0BH17EZ", "5A1935Z"};
    static const char* const medications[] = {"A10B", "C09A", "C07A", "C03C", "B01A"};
    const auto add = [&](std::int32_t v, std::int32_t f, std::int32_t s, const char* text) {
      visit.push_back(v);
      field.push_back(f);
      system.push_back(s);
      texts.emplace_back(text);
    };
    for (std::int32_t v = 0; v < 3; ++v) {
      for (int i = 0; i < (v == 2 ? 12 : 8); ++i)
        add(v, THERIAC_DIAGNOSIS, THERIAC_ICD10CM, diagnoses[i]);
      for (const char* text : procedures) add(v, THERIAC_PROCEDURE, THERIAC_ICD10PCS, text);
      if (v < 2) {
        for (const char* text : medications) add(v, THERIAC_MEDICATION, THERIAC_ATC, text);
      }
    }
    for (const std::string& text : texts) code.push_back(text.c_str());
  }
};

void check(theriac_status status, theriac_error* error) {
  if (status == THERIAC_OK) return;
  std::fprintf(stderr, "%s\n", theriac_error_message(error));
  std::exit(1);
}

struct Setup {
  Patient patient;
  theriac_context* context = nullptr;
  theriac_model* model = nullptr;
  theriac_session* session = nullptr;
  std::unique_ptr<theriac::Model> inner_model;
  std::unique_ptr<theriac::Session> inner;

  explicit Setup(const std::string& path) {
    theriac_error* error = nullptr;
    check(theriac_context_create("{\"threads\": 1}", 14, &context, &error), error);
    check(theriac_model_load(context, path.data(), path.size(), nullptr, 0, &model, &error), error);
    check(theriac_session_create(model, nullptr, 0, &session, &error), error);
    theriac::Engine& engine = theriac::load_engine({});
    engine.load_model(path, "{}", {}, inner_model).or_throw();
    inner_model->open_session("{}", inner).or_throw();
  }

  float through_abi() {
    const char* class_code[20];
    float probability[20];
    std::uint64_t count = 0;
    const Patient& p = patient;
    check(theriac_session_recommend_codes(session, p.code.size(), p.visit.data(), p.field.data(),
                                          p.system.data(), p.code.data(), 20, class_code,
                                          probability, &count, nullptr, nullptr),
          nullptr);
    return probability[0];
  }

  float direct() {
    const char* class_code[20];
    float probability[20];
    const Patient& p = patient;
    const theriac::CodeHistory history{p.code.size(), p.visit.data(), p.field.data(),
                                       p.system.data(), p.code.data()};
    theriac::RankedClasses ranked;
    ranked.capacity = 20;
    ranked.class_code = class_code;
    ranked.probability = probability;
    inner->recommend_codes(history, ranked).or_throw();
    return probability[0];
  }
};

// Alternates the two calls, so that drift of the machine's speed hits both alike.
void print_distribution(Setup& setup) {
  constexpr int kCalls = 20000;
  std::vector<double> abi, direct;
  for (int i = 0; i < 2000; ++i) benchmark::DoNotOptimize(setup.through_abi() + setup.direct());
  for (int i = 0; i < kCalls; ++i) {
    const auto a = Clock::now();
    benchmark::DoNotOptimize(setup.through_abi());
    const auto b = Clock::now();
    benchmark::DoNotOptimize(setup.direct());
    const auto c = Clock::now();
    abi.push_back(std::chrono::duration<double, std::micro>(b - a).count());
    direct.push_back(std::chrono::duration<double, std::micro>(c - b).count());
  }
  const auto at = [](std::vector<double>& values, double q) {
    std::sort(values.begin(), values.end());
    return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))];
  };
  std::printf(
      "one patient, %zu codes, 3 visits, %d calls: C ABI median %.2f us, p99 %.2f us; direct "
      "median %.2f us, p99 %.2f us; ABI/direct %.4f\n",
      setup.patient.code.size(), kCalls, at(abi, 0.5), at(abi, 0.99), at(direct, 0.5),
      at(direct, 0.99), at(abi, 0.5) / at(direct, 0.5));
}

int run(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: recommend_bench MODEL [flags]\n");
    return 2;
  }
  Setup setup(argv[1]);
  print_distribution(setup);
  benchmark::RegisterBenchmark("recommend_codes/c_abi", [&](benchmark::State& state) {
    for (auto _ : state) benchmark::DoNotOptimize(setup.through_abi());
  });
  benchmark::RegisterBenchmark("recommend_codes/direct", [&](benchmark::State& state) {
    for (auto _ : state) benchmark::DoNotOptimize(setup.direct());
  });
  benchmark::RegisterBenchmark("recommend/json", [&](benchmark::State& state) {
    static const std::string request =
        R"({"patient":{"visits":[{"diagnoses":[{"system":"icd10cm","code":"E11.9"},{"system":"icd10cm","code":"I10"}]},{"diagnoses":[{"system":"icd10cm","code":"I50.22"}]}]}})";
    for (auto _ : state) {
      theriac_bytes* answer = nullptr;
      check(theriac_session_recommend(setup.session, request.data(), request.size(), &answer,
                                      nullptr),
            nullptr);
      theriac_bytes_release(answer);
    }
  });
  benchmark::RegisterBenchmark("abi/version", [](benchmark::State& state) {
    for (auto _ : state) benchmark::DoNotOptimize(theriac_abi_version());
  });
  benchmark::RegisterBenchmark("abi/error", [](benchmark::State& state) {
    for (auto _ : state) {
      theriac_error* error = nullptr;
      benchmark::DoNotOptimize(theriac_init(0xffff0000U, &error));
      theriac_error_release(error);
    }
  });
  argv[1] = argv[0];
  argc -= 1;
  ++argv;
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
