#include "cpp/core/data/policy.h"

#include <gmock/gmock.h>

#include "cpp/core/base/error.h"

namespace theriac::data {
namespace {

TEST(Policy, DefaultsAreTheDocumentedOnes) {
  const CohortPolicy policy = CohortPolicy::table().parse(Json::object());
  const Json effective = CohortPolicy::table().effective_json(policy);
  EXPECT_EQ(effective.at("med_map"), "all");
  EXPECT_EQ(effective.at("min_visits"), 2);
  EXPECT_EQ(effective.at("require_all_three"), true);
  EXPECT_EQ(effective.at("maps").at("ndc_rxcui"), "");
  EXPECT_EQ(effective.at("lists").at("icd9proc"), "");
}

TEST(Policy, NestedSettingsReachTheirGroups) {
  const Json settings = json_from_settings({"maps.ndc_rxcui=a.csv", "lists.icd10cm=b.txt",
                                            "unknown_code=nearest_ancestor", "top_k_dx=2000"});
  const CohortPolicy policy = CohortPolicy::table().parse(settings);
  EXPECT_EQ(policy.maps.ndc_rxcui, "a.csv");
  EXPECT_EQ(policy.lists.icd10cm, "b.txt");
  EXPECT_EQ(policy.unknown_code, "nearest_ancestor");
  EXPECT_EQ(policy.top_k_dx, 2000);
}

TEST(Policy, RefusesWhatItDoesNotKnow) {
  for (const Json& bad :
       {Json{{"med_maps", "all"}}, Json{{"med_map", "both"}}, Json{{"min_visits", 0}},
        Json{{"min_visits", "2"}}, Json{{"top_k_dx", -1}}, Json{{"lists", {{"icd11", "x"}}}}}) {
    try {
      CohortPolicy::table().parse(bad);
      FAIL() << bad.dump();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kInvalidArgument) << bad.dump();
    }
  }
}

}  // namespace
}  // namespace theriac::data
