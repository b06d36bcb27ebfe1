// Next-item recommendation with published or random SASRec weights: a whole evaluation, plain and with
// ten copies of TMask-R, and one user at a time through the C ABI.
//
//     next_item_bench --weights FILE --sequences FILE [--method sasrec|gru4rec] [--threads N] [--json]
//
// Times are medians: of five evaluations, and of every call for one user. The floor is the scoring of
// every user against every item, 2 U V d flops, at the rate of LibTorch's own product of 1024 x 1024
// matrices on as many threads.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "theriac/theriac.hpp"

namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

double seconds(const std::function<void()>& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double at_share(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

double median(const std::vector<double>& values) { return at_share(values, 0.5); }

double gflops(int threads) {
  at::set_num_threads(threads);
  const at::Tensor a = at::rand({1024, 1024}), b = at::rand({1024, 1024});
  at::Tensor out = at::empty({1024, 1024});
  std::vector<double> times;
  for (int i = 0; i < 15; ++i) times.push_back(seconds([&] { at::mm_out(out, a, b); }));
  return 2.0 * 1024 * 1024 * 1024 / median(times) / 1e9;
}

const char* const kAugment = R"({"op": "tmask_r", "ratio": 0.5, "copies": 10})";

struct Latency {
  double median_us = 0, p99_us = 0;
};

Latency one_user(const theriac::Model& model,
                 const std::vector<std::vector<std::int64_t>>& histories,
                 const theriac::Context& context, bool augmented) {
  theriac::Session session(model);
  const theriac::Augmenter augmenter(context, kAugment);
  if (augmented) session.set_augmenter(&augmenter);
  std::int64_t item[10];
  float score[10];
  std::vector<double> times;
  for (int round = 0; round < 3; ++round) {
    for (const auto& history : histories) {
      theriac_status status = THERIAC_OK;
      std::uint64_t ranked = 0;
      const double t = seconds([&] {
        status =
            theriac_session_recommend_history(session.get(), history.data(), history.size(),
                                              nullptr, 10, item, score, &ranked, nullptr, nullptr);
      });
      if (status != THERIAC_OK || ranked != 10) throw std::runtime_error("a history was refused");
      if (round > 0) times.push_back(t * 1e6);
    }
  }
  return {median(times), at_share(times, 0.99)};
}

std::vector<std::vector<std::int64_t>> some_histories(const theriac::Dataset& data) {
  std::vector<std::vector<std::int64_t>> out;
  const std::string text = data.export_text(R"({"table": "sequences", "format": "jsonl"})");
  for (std::size_t at = 0; at < text.size() && out.size() < 1000;) {
    const std::size_t end = text.find('\n', at);
    auto items =
        Json::parse(text.substr(at, end - at)).at("items").get<std::vector<std::int64_t>>();
    items.pop_back();
    if (!items.empty()) out.push_back(std::move(items));
    at = end + 1;
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  std::string weights, sequences, method = "sasrec", threads = "1";
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--json") json = true;
    if (i + 1 >= argc) continue;
    if (name == "--weights") weights = argv[i + 1];
    if (name == "--sequences") sequences = argv[i + 1];
    if (name == "--method") method = argv[i + 1];
    if (name == "--threads") threads = argv[i + 1];
  }
  if (weights.empty() || sequences.empty()) {
    std::fprintf(stderr,
                 "usage: next_item_bench --weights FILE --sequences FILE [--threads N] [--json]\n");
    return 2;
  }
  try {
    const theriac::Context context("{\"threads\": " + threads + "}");
    const theriac::Dataset data =
        theriac::Dataset::open(context, Json{{"format", "sequences"}, {"path", sequences}}.dump());
    const theriac::Model model = theriac::Model::import_weights(context, method, weights, data);
    const std::string augmented = std::string("{\"augment\": ") + kAugment + "}";
    Json plain_report, augmented_report;
    std::vector<double> plain, with_copies;
    for (int i = 0; i < 5; ++i) {  // in turns
      plain.push_back(seconds([&] { plain_report = Json::parse(model.evaluate(data)); }));
      with_copies.push_back(
          seconds([&] { augmented_report = Json::parse(model.evaluate(data, augmented)); }));
    }
    const double rate = gflops(std::atoi(threads.c_str()));
    const Json info = Json::parse(data.info());
    const double work =
        2 * info.at("users").get<double>() * (info.at("items").get<double>() + 2) * 64;
    const auto histories = some_histories(data);
    const Latency alone = one_user(model, histories, context, false),
                  copies = one_user(model, histories, context, true);
    const Json report{{"threads", std::atoi(threads.c_str())},
                      {"plain_s", median(plain)},
                      {"augmented_s", median(with_copies)},
                      {"augmented/plain", median(with_copies) / median(plain)},
                      {"gflops", rate},
                      {"floor_s", work / rate / 1e9},
                      {"plain_hr@10", plain_report.at("metrics").at("hr@10")},
                      {"augmented_hr@10", augmented_report.at("metrics").at("hr@10")},
                      {"one_user_us", alone.median_us},
                      {"one_user_p99_us", alone.p99_us},
                      {"one_user_augmented_us", copies.median_us},
                      {"one_user_augmented_p99_us", copies.p99_us}};
    std::printf("%s\n", report.dump(json ? -1 : 2).c_str());
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 0;
}
