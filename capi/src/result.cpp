// Results: an evaluation's report and its metrics as a table.
#include <cmath>

#include "capi/src/handles.h"
#include "cpp/core/data/arrow_batch.h"

namespace theriac::capi {
namespace {

using data::ColumnType;
constexpr data::TableColumn kMetricColumns[] = {{"metric", ColumnType::kText},
                                                {"value", ColumnType::kReal},
                                                {"std", ColumnType::kReal},
                                                {"low", ColumnType::kReal},
                                                {"high", ColumnType::kReal}};

// One row a metric; std, low and high are null without bootstrap rounds.
class MetricRows final : public data::BatchSource {
 public:
  explicit MetricRows(const std::string& report) : report_(Json::parse(report)) {}
  std::span<const data::TableColumn> columns() const override { return kMetricColumns; }
  data::ArrowBatch next() override {
    data::ArrowBatch batch = data::make_batch_of(columns());
    if (done_) return batch;
    done_ = true;
    const Json bootstrap = report_.value("bootstrap", Json::object());
    for (const auto& [name, value] : report_.at("metrics").items()) {
      const Json spread =
          bootstrap.is_object() ? bootstrap.value(name, Json::object()) : Json::object();
      const auto real = [](const Json& object, const char* key) {
        return object.is_object() && object.contains(key) && object.at(key).is_number()
                   ? object.at(key).get<double>()
                   : std::nan("");
      };
      batch.columns[0].append({name, 0, 0});
      batch.columns[1].append({{}, 0, value.is_number() ? value.get<double>() : std::nan("")});
      batch.columns[2].append({{}, 0, real(spread, "std")});
      batch.columns[3].append({{}, 0, real(spread, "low")});
      batch.columns[4].append({{}, 0, real(spread, "high")});
      ++batch.rows;
    }
    return batch;
  }

 private:
  Json report_;
  bool done_ = false;
};

}  // namespace
}  // namespace theriac::capi

using namespace theriac;        // NOLINT(google-build-using-namespace): this file is the C boundary
using namespace theriac::capi;  // NOLINT(google-build-using-namespace)

const char* theriac_result_json(const theriac_result* result) noexcept {
  return result == nullptr ? "" : result->json.c_str();
}

theriac_status theriac_result_table(const theriac_result* result, struct ArrowArrayStream* stream,
                                    theriac_error** error) noexcept {
  return guard("theriac_result_table", error, [&] {
    ArrowArrayStream& target = need_out(stream, "stream");
    target = ArrowArrayStream{};
    data::export_batches(std::make_unique<MetricRows>(need(result, "result").json), &target);
  });
}

void theriac_result_release(theriac_result* result) noexcept { release(result); }
