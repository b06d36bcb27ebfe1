// Definitions of medication_test_cohorts.h, and tests of them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <numeric>

#include "cpp/core/base/input.h"
#include "cpp/core/base/json.h"
#include "cpp/core/base/random.h"
#include "cpp/core/data/split.h"
#include "cpp/engine/clinical/medication_test_cohorts.h"

namespace theriac::clinical::testing {
namespace {

using codes::MedicalCode;
using codes::System;

std::string digits(std::int64_t n, std::size_t width) {
  std::string text = std::to_string(n);
  return std::string(width - std::min(width, text.size()), '0') + text;
}

MedicalCode diagnosis(std::int64_t i) { return {System::kIcd9cm, digits(4000 + i * 3, 4)}; }
MedicalCode procedure(std::int64_t i) { return {System::kIcd9proc, digits(3500 + i * 7, 4)}; }
MedicalCode medication(std::int64_t i) { return {System::kAtc, "C" + digits(i, 2) + "A"}; }

std::vector<MedicalCode> codes_of(const Json& pairs, bool procedures) {
  std::vector<MedicalCode> codes;
  for (const Json& pair : pairs) {
    const bool nine = pair[0] == "9";
    const System system = procedures ? (nine ? System::kIcd9proc : System::kIcd10pcs)
                                     : (nine ? System::kIcd9cm : System::kIcd10cm);
    codes.push_back({system, pair[1].get<std::string>()});
  }
  return codes;
}

std::string read_all(const std::filesystem::path& path) {
  const auto source = open_source(path);
  std::string text;
  std::vector<char> block(1 << 16);
  for (std::size_t n = source->read(block); n > 0; n = source->read(block))
    text.append(block.data(), n);
  return text;
}

}  // namespace

data::Cohort generated_cohort(const CohortShape& shape) {
  data::CohortBuilder builder;
  for (std::int64_t p = 0; p < shape.patients; ++p) {
    Random draw(shape.seed, "test cohort", static_cast<std::uint64_t>(p));
    const auto below = [&](std::int64_t n) {
      return static_cast<std::int64_t>(draw.below(static_cast<std::uint64_t>(n)));
    };
    builder.begin_patient("p" + std::to_string(p));
    std::vector<MedicalCode> kept;  // medications that go on
    for (std::int64_t v = 0, visits = 1 + below(shape.max_visits); v < visits; ++v) {
      std::vector<MedicalCode> dx, px, meds = kept;
      for (std::int64_t i = 0, n = 1 + below(6); i < n; ++i) {
        const std::int64_t code = below(shape.diagnoses);
        dx.push_back(diagnosis(code));
        meds.push_back(medication(code / 4 % shape.classes));
      }
      for (std::int64_t i = 0, n = 1 + below(3); i < n; ++i)
        px.push_back(procedure(below(shape.procedures)));
      kept.clear();
      for (const MedicalCode& m : meds) {
        if (draw.chance(0.5)) kept.push_back(m);
      }
      builder.add_visit("v" + std::to_string(v), 4'000'000'000 + v * 86'400, dx, px, meds);
    }
  }
  return std::move(builder).finish();
}

data::Cohort first_patients(const data::Cohort& cohort, std::int64_t patients) {
  std::vector<std::int64_t> positions(static_cast<std::size_t>(patients));
  std::iota(positions.begin(), positions.end(), std::int64_t{0});
  return data::select_patients(cohort, positions);
}

std::optional<std::filesystem::path> data_folder() {
  const char* named = std::getenv("THERIAC_DATA_DIR");
  const std::filesystem::path path =
      named != nullptr ? std::filesystem::path(named)
                       : std::filesystem::path(THERIAC_SOURCE_DIR) / ".." / "shared" / "data";
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return std::nullopt;
  return path;
}

data::Cohort fixture_cohort(const std::filesystem::path& data, const std::string& name) {
  const std::string text = read_all(data / "clinical" / "fixtures" / (name + ".jsonl.gz"));
  data::CohortBuilder builder;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const Json patient = parse_json(std::string_view(text).substr(begin, end - begin), name);
    begin = end + 1;
    builder.begin_patient(patient["patient"].get<std::string>());
    for (const Json& visit : patient["visits"]) {
      std::vector<MedicalCode> meds;
      for (const Json& m : visit["atc3"]) meds.push_back({System::kAtc, m.get<std::string>()});
      builder.add_visit(visit["id"].get<std::string>(),
                        data::parse_time(visit["admit"].get<std::string>()),
                        codes_of(visit["dx"], false), codes_of(visit["px"], true), meds);
    }
  }
  return std::move(builder).finish();
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern =
      (std::filesystem::temp_directory_path() / "theriac_medication_XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw Error(Code::kIoError, "no temporary folder");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

TEST(TestCohorts, AreTheSameForTheSameSeed) {
  EXPECT_EQ(generated_cohort({}).fingerprint(), generated_cohort({}).fingerprint());
  CohortShape other;
  other.seed = 8;
  EXPECT_NE(generated_cohort({}).fingerprint(), generated_cohort(other).fingerprint());
}

TEST(TestCohorts, FixturesHaveTheSizesOfTheSpec) {
  const auto data = data_folder();
  if (!data) GTEST_SKIP() << "no data folder with the demos' golden visits";
  const data::Cohort cohort = fixture_cohort(*data, "mimic-iii-demo.single");
  EXPECT_EQ(cohort.patients(), 11);
  EXPECT_EQ(cohort.visits(), 36);
  EXPECT_EQ(cohort.vocabulary(data::Field::kDiagnoses).size(), 227);
  EXPECT_EQ(cohort.vocabulary(data::Field::kProcedures).size(), 57);
  EXPECT_EQ(cohort.vocabulary(data::Field::kMedications).size(), 86);
}

}  // namespace theriac::clinical::testing
