// Cohorts for the tests of this folder: a small one by hand, larger ones at random.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cpp/core/base/random.h"
#include "cpp/core/data/cohort.h"

namespace theriac::data {

inline codes::MedicalCode icd9(std::string text) {
  return {codes::System::kIcd9cm, std::move(text)};
}
inline codes::MedicalCode icd10(std::string text) {
  return {codes::System::kIcd10cm, std::move(text)};
}
inline codes::MedicalCode proc9(std::string text) {
  return {codes::System::kIcd9proc, std::move(text)};
}
inline codes::MedicalCode atc(std::string text) { return {codes::System::kAtc, std::move(text)}; }

// Two patients with two and one visits; one time is unknown, one visit has no procedures.
inline Cohort small_cohort() {
  CohortBuilder builder;
  builder.begin_patient("7");
  builder.add_visit("71", parse_time("2150-08-07 21:40:00"), {icd9("4280"), icd9("25001")},
                    {proc9("3893")}, {atc("C03C"), atc("A02B")});
  builder.add_visit("72", parse_time("2151-01-02"), {icd10("I5021")}, {}, {atc("A02B")});
  builder.begin_patient("b, \"quoted\"");
  builder.add_visit("1", kNoTime, {icd9("4280")}, {{codes::System::kLocal, "X9"}}, {atc("N02B")});
  builder.set_accounting(Json{{"tables", Json::object()}});
  builder.set_provenance(Json{{"format", "test"}});
  return std::move(builder).finish();
}

inline std::vector<codes::MedicalCode> random_codes(Random& random, codes::System system,
                                                    std::uint64_t most, std::uint64_t vocabulary) {
  std::vector<codes::MedicalCode> codes(random.below(most + 1));
  for (auto& code : codes) {
    const std::string number = std::to_string(10 + random.below(vocabulary));
    code = {system, system == codes::System::kAtc ? "C" + number + "A" : "4" + number};
  }
  return codes;
}

inline Cohort random_cohort(std::uint64_t seed, int patients) {
  Random random(seed, "test cohort");
  CohortBuilder builder;
  for (int p = 0; p < patients; ++p) {
    builder.begin_patient("patient-" + std::to_string(p));
    std::int64_t time = static_cast<std::int64_t>(random.below(2'000'000'000));
    const std::uint64_t visits = random.below(5);
    for (std::uint64_t v = 0; v < visits; ++v) {
      time += static_cast<std::int64_t>(random.below(10'000'000));
      builder.add_visit(std::to_string(v), random.chance(0.1) ? kNoTime : time,
                        random_codes(random, codes::System::kIcd10cm, 8, 60),
                        random_codes(random, codes::System::kIcd9proc, 3, 20),
                        random_codes(random, codes::System::kAtc, 6, 30));
    }
  }
  return std::move(builder).finish();
}

// A folder of this test alone, removed at its end.
class TestFolder {
 public:
  TestFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "theriac-test-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace theriac::data
