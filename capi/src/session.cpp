// Sessions: one thread's scoring state over a shared model.
#include <algorithm>
#include <array>
#include <numeric>

#include "capi/src/handles.h"
#include "capi/src/stream_guard.h"
#include "cpp/core/base/options.h"
#include "cpp/core/data/arrow.h"
#include "cpp/core/data/arrow_batch.h"
#include "cpp/core/data/sequences_io.h"

namespace theriac::capi {
namespace {

struct BatchOptions {
  std::int64_t k = 0;
  static const OptionTable<BatchOptions>& table() {
    static const auto* const t = new OptionTable<BatchOptions>(
        OptionTable<BatchOptions>("batch", "Scoring a table of visits or interactions")
            .integer(
                "k", &BatchOptions::k, {0, 100000},
                "classes listed a visit, 0: all; items listed a user, 0: as the session does"));
    return *t;
  }
};

// Every visit as it came: nothing is filtered, so that each gets its answer.
data::CohortPolicy keep_everything() {
  data::CohortPolicy policy;
  policy.min_visits = 1;
  policy.require_all_three = false;
  return policy;
}

using data::ColumnType;
constexpr data::TableColumn kAnswerColumns[] = {{"patient", ColumnType::kText},
                                                {"visit", ColumnType::kText},
                                                {"class", ColumnType::kText},
                                                {"probability", ColumnType::kFloat},
                                                {"recommended", ColumnType::kFlag}};

// One row a visit and class, most probable first.
class AnswerRows final : public data::BatchSource {
 public:
  AnswerRows(std::shared_ptr<const data::Cohort> cohort, std::vector<std::string> classes,
             std::vector<float> probabilities, double threshold, std::size_t k)
      : cohort_(std::move(cohort)),
        classes_(std::move(classes)),
        probabilities_(std::move(probabilities)),
        threshold_(threshold),
        order_(classes_.size()) {
    listed_ = k == 0 ? classes_.size() : std::min(k, classes_.size());
  }
  std::span<const data::TableColumn> columns() const override { return kAnswerColumns; }
  data::ArrowBatch next() override {
    data::ArrowBatch batch = data::make_batch_of(columns());
    while (visit_ < cohort_->visits() && batch.rows < data::kBatchRows &&
           batch.columns[0].bytes.size() < data::kBatchTextBytes)
      append_visit(batch);
    return batch;
  }

 private:
  void append_visit(data::ArrowBatch& batch) {
    while (cohort_->last_visit(patient_) <= visit_) ++patient_;
    const std::string_view patient = cohort_->patient_id(patient_),
                           visit = cohort_->visit(visit_).id;
    const float* row = probabilities_.data() + static_cast<std::size_t>(visit_) * classes_.size();
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::partial_sort(
        order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(listed_), order_.end(),
        [row](std::size_t a, std::size_t b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
    for (std::size_t i = 0; i < listed_; ++i) {
      const double probability = static_cast<double>(row[order_[i]]);
      batch.columns[0].append({patient, 0, 0});
      batch.columns[1].append({visit, 0, 0});
      batch.columns[2].append({classes_[order_[i]], 0, 0});
      batch.columns[3].append({{}, 0, probability});
      batch.columns[4].append({{}, probability >= threshold_ ? 1 : 0, 0});
      ++batch.rows;
    }
    ++visit_;
  }

  std::shared_ptr<const data::Cohort> cohort_;
  std::vector<std::string> classes_;
  std::vector<float> probabilities_;  // [visits, classes]
  double threshold_;
  std::vector<std::size_t> order_;
  std::size_t listed_ = 0;
  std::int64_t visit_ = 0, patient_ = 0;
};

using ItemColumns = std::array<data::TableColumn, 5>;

ItemColumns item_columns(const data::Names& users, const data::Names& items) {
  const auto type = [](const data::Names& names) {
    return names.numeric() ? ColumnType::kInt64 : ColumnType::kText;
  };
  return {{{"user", type(users)},
           {"rank", ColumnType::kInt32},
           {"item", type(items)},
           {"score", ColumnType::kFloat},
           {"ignored", ColumnType::kInt32}}};
}

// One row a user and item, best first.
class ItemRows final : public data::BatchSource {
 public:
  ItemRows(std::shared_ptr<const data::Sequences> users, ItemLists lists)
      : users_(std::move(users)),
        lists_(std::move(lists)),
        columns_(item_columns(users_->user_names(), *lists_.names)) {}
  std::span<const data::TableColumn> columns() const override { return columns_; }
  data::ArrowBatch next() override {
    data::ArrowBatch batch = data::make_batch_of(columns());
    while (user_ < users_->users() && batch.rows < data::kBatchRows &&
           batch.columns[0].bytes.size() < data::kBatchTextBytes &&
           batch.columns[2].bytes.size() < data::kBatchTextBytes)
      append_user(batch);
    return batch;
  }

 private:
  static void append_name(data::ArrowBuffers& column, const data::Names& names,
                          std::int64_t position) {
    if (names.numeric()) {
      column.append({{}, names.number(position), 0});
    } else {
      column.append({names.text(position), 0, 0});
    }
  }

  void append_user(data::ArrowBatch& batch) {
    const auto user = static_cast<std::size_t>(user_);
    const std::uint64_t first = lists_.offsets[user];
    for (std::uint64_t i = first; i < lists_.offsets[user + 1]; ++i) {
      append_name(batch.columns[0], users_->user_names(), user_);
      batch.columns[1].append({{}, static_cast<std::int64_t>(i - first) + 1, 0});
      append_name(batch.columns[2], *lists_.names, lists_.item[i]);
      batch.columns[3].append({{}, 0, static_cast<double>(lists_.score[i])});
      batch.columns[4].append({{}, lists_.ignored[user], 0});
      ++batch.rows;
    }
    ++user_;
  }

  std::shared_ptr<const data::Sequences> users_;
  ItemLists lists_;
  ItemColumns columns_;
  std::int64_t user_ = 0;
};

void recommend_to_visits(theriac_session& self, const Json& facts, std::size_t k, Job& job,
                         ArrowArrayStream& in, ArrowArrayStream& out) {
  Dataset dataset;
  dataset.cohort = std::make_shared<const data::Cohort>(
      data::import_cohort_stream(&in, keep_everything(), &job));
  std::vector<float> probabilities;
  self.session->recommend_dataset(dataset, job, probabilities).or_throw();
  data::export_batches(std::make_unique<AnswerRows>(
                           dataset.cohort, facts.at("classes").get<std::vector<std::string>>(),
                           std::move(probabilities), facts.at("threshold").get<double>(), k),
                       &out);
}

void recommend_to_users(theriac_session& self, std::size_t k, Job& job, ArrowArrayStream& in,
                        ArrowArrayStream& out) {
  Dataset dataset;
  dataset.kind = "sequences";
  dataset.sequences = std::make_shared<const data::Sequences>(
      data::import_sequences_stream(&in, data::SequencePolicy{}, &job));
  ItemLists lists;
  self.session->recommend_sequences(dataset, k, job, lists).or_throw();
  data::export_batches(std::make_unique<ItemRows>(dataset.sequences, std::move(lists)), &out);
}

}  // namespace
}  // namespace theriac::capi

using namespace theriac;        // NOLINT(google-build-using-namespace): this file is the C boundary
using namespace theriac::capi;  // NOLINT(google-build-using-namespace)

theriac_status theriac_session_create(const theriac_model* model, const char* options_json,
                                      size_t options_length, theriac_session** out,
                                      theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_session_create", error, [&] {
    const theriac_model& home = need(model, "model");
    theriac_session*& target = need_out(out, "out");
    const std::string document = dump_json(options(options_json, options_length, "options_json"));
    auto session = std::make_unique<theriac_session>();
    session->shared = home.shared;
    const Shared entered(home.shared->gate, "model");
    home.shared->model->open_session(document, session->session).or_throw();
    target = session.release();
  });
}

theriac_status theriac_session_set_augmenter(theriac_session* session,
                                             const theriac_augmenter* augmenter,
                                             theriac_error** error) noexcept {
  return guard("theriac_session_set_augmenter", error, [&] {
    theriac_session& self = need(session, "session");
    std::shared_ptr<const augment::Augmenter> chosen;
    if (augmenter != nullptr) chosen = need(augmenter, "augmenter").shared;
    const Exclusive entered(self.gate, "session");
    self.session->set_augmenter(std::move(chosen)).or_throw();
  });
}

theriac_status theriac_session_recommend(theriac_session* session, const char* request_json,
                                         size_t request_length, theriac_bytes** out,
                                         theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_session_recommend", error, [&] {
    theriac_session& self = need(session, "session");
    theriac_bytes*& target = need_out(out, "out");
    const std::string_view request = text(request_json, request_length, "request_json");
    std::string answer;
    const Exclusive entered(self.gate, "session");
    self.session->recommend(request, answer).or_throw();
    target = make_bytes(std::move(answer));
  });
}

theriac_status theriac_session_explain(theriac_session* session, const char* request_json,
                                       size_t request_length, theriac_bytes** out,
                                       theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_session_explain", error, [&] {
    theriac_session& self = need(session, "session");
    theriac_bytes*& target = need_out(out, "out");
    const std::string_view request = text(request_json, request_length, "request_json");
    std::string answer;
    const Exclusive entered(self.gate, "session");
    self.session->explain(request, answer).or_throw();
    target = make_bytes(std::move(answer));
  });
}

theriac_status theriac_session_recommend_codes(theriac_session* session, uint64_t entries,
                                               const int32_t* visit, const int32_t* field,
                                               const int32_t* system, const char* const* code,
                                               uint64_t capacity, const char** class_code,
                                               float* probability, uint64_t* count,
                                               uint64_t* ignored, theriac_error** error) noexcept {
  if (count != nullptr) *count = 0;
  if (ignored != nullptr) *ignored = 0;
  return guard("theriac_session_recommend_codes", error, [&] {
    theriac_session& self = need(session, "session");
    need_out(count, "count");
    if (entries != 0) {
      need_out(visit, "visit");
      need_out(field, "field");
      need_out(system, "system");
      need_out(code, "code");
    }
    if (capacity != 0) {
      need_out(class_code, "class_code");
      need_out(probability, "probability");
    }
    const CodeHistory history{entries, visit, field, system, code};
    RankedClasses ranked;
    ranked.capacity = capacity;
    ranked.class_code = class_code;
    ranked.probability = probability;
    const Exclusive entered(self.gate, "session");
    self.session->recommend_codes(history, ranked).or_throw();
    *count = ranked.count;
    if (ignored != nullptr) *ignored = ranked.ignored;
  });
}

theriac_status theriac_session_recommend_history(theriac_session* session, const int64_t* item,
                                                 uint64_t count, const uint64_t* key,
                                                 uint64_t capacity, int64_t* ranked_item,
                                                 float* score, uint64_t* ranked, uint64_t* ignored,
                                                 theriac_error** error) noexcept {
  if (ranked != nullptr) *ranked = 0;
  if (ignored != nullptr) *ignored = 0;
  return guard("theriac_session_recommend_history", error, [&] {
    theriac_session& self = need(session, "session");
    need_out(ranked, "ranked");
    if (count != 0) need_out(item, "item");
    if (capacity != 0) {
      need_out(ranked_item, "ranked_item");
      need_out(score, "score");
    }
    RankedItems found;
    found.capacity = capacity;
    found.item = ranked_item;
    found.score = score;
    const Exclusive entered(self.gate, "session");
    self.session->recommend_history(ItemHistory{count, item, key}, found).or_throw();
    *ranked = found.count;
    if (ignored != nullptr) *ignored = found.ignored;
  });
}

theriac_status theriac_session_recommend_arrow(theriac_session* session,
                                               struct ArrowArrayStream* stream,
                                               const char* options_json, size_t options_length,
                                               const theriac_callbacks* callbacks,
                                               struct ArrowArrayStream* out,
                                               theriac_error** error) noexcept {
  return guard("theriac_session_recommend_arrow", error, [&] {
    const StreamGuard owned(
        need_out(stream, "stream"));  // released also when an argument is refused
    ArrowArrayStream& target = need_out(out, "out");
    if (stream == out)
      throw Error(Code::kInvalidArgument, "stream and out must be different structs")
          .at("argument", "out");
    target = ArrowArrayStream{};
    theriac_session& self = need(session, "session");
    const BatchOptions chosen =
        BatchOptions::table().parse(options(options_json, options_length, "options_json"));
    Job job = make_job(callbacks);
    const Exclusive entered(self.gate, "session");
    std::string text_of_model;
    self.shared->model->info(text_of_model).or_throw();
    const Json facts = Json::parse(text_of_model);
    const auto k = static_cast<std::size_t>(chosen.k);
    if (facts.contains("classes")) {
      recommend_to_visits(self, facts, k, job, *stream, target);
    } else {
      recommend_to_users(self, k, job, *stream, target);
    }
  });
}

void theriac_session_release(theriac_session* session) noexcept { release(session); }
