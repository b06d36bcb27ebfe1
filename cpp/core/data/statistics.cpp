#include "cpp/core/data/statistics.h"

#include <algorithm>
#include <map>
#include <unordered_set>

namespace theriac::data {
namespace {

double ratio(std::int64_t sum, std::int64_t count) {
  return count == 0 ? 0.0 : static_cast<double>(sum) / static_cast<double>(count);
}

Json per_visit(const Cohort& cohort, Field field) {
  std::int64_t sum = 0, most = 0;
  const auto offsets = cohort.offsets(field);
  for (std::size_t v = 0; v + 1 < offsets.size(); ++v) {
    sum += offsets[v + 1] - offsets[v];
    most = std::max(most, offsets[v + 1] - offsets[v]);
  }
  return {{"mean", ratio(sum, cohort.visits())}, {"max", most}};
}

Json published_style(const Cohort& cohort, Field field) {
  std::int64_t sum = 0, most = 0;
  const auto offsets = cohort.offsets(field);
  const auto ids = cohort.ids(field);
  for (std::int64_t p = 0; p < cohort.patients(); ++p) {
    const auto first = offsets[static_cast<std::size_t>(cohort.first_visit(p))];
    const auto last = offsets[static_cast<std::size_t>(cohort.last_visit(p))];
    const std::unordered_set<std::int32_t> distinct(ids.begin() + first, ids.begin() + last);
    sum += static_cast<std::int64_t>(distinct.size());
    most = std::max(most, static_cast<std::int64_t>(distinct.size()));
  }
  return {{"distinct_per_patient_over_visits", ratio(sum, cohort.visits())},
          {"max_per_patient", most}};
}

Json systems(const Vocabulary& vocabulary) {
  std::map<std::string_view, std::int64_t> counts;
  for (const codes::MedicalCode& code : vocabulary.codes())
    ++counts[codes::system_name(code.system)];
  Json json = Json::object();
  for (const auto& [name, count] : counts) json[std::string(name)] = count;
  return json;
}

}  // namespace

Json describe(const Cohort& cohort) {
  Json json{{"kind", "cohort"}, {"patients", cohort.patients()}, {"visits", cohort.visits()}};
  std::int64_t most_visits = 0;
  for (std::int64_t p = 0; p < cohort.patients(); ++p)
    most_visits = std::max(most_visits, cohort.last_visit(p) - cohort.first_visit(p));
  json["visits_per_patient"] = {{"mean", ratio(cohort.visits(), cohort.patients())},
                                {"max", most_visits}};
  for (int i = 0; i < kFieldCount; ++i) {
    const auto field = static_cast<Field>(i);
    const std::string name(field_name(field));
    json["vocabulary"][name] = cohort.vocabulary(field).size();
    json["systems"][name] = systems(cohort.vocabulary(field));
    json["per_visit"][name] = per_visit(cohort, field);
    json["published_style"][name] = published_style(cohort, field);
  }
  json["accounting"] = cohort.accounting();
  json["provenance"] = cohort.provenance();
  json["fingerprint"] = cohort.fingerprint();
  return json;
}

}  // namespace theriac::data
