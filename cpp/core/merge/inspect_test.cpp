#include "cpp/core/merge/inspect.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpp/core/base/random.h"
#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/inspect_page.h"
#include "cpp/core/merge/inspect_spectra.h"
#include "cpp/core/merge/toy_for_test.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
using tensorfile::DType;
using testing::Each;
using testing::HasSubstr;
using testing::Not;
using testing_support::failure_of;
using testing_support::ScratchFolder;
using Values = std::vector<double>;

struct Tensor {
  std::string name;
  std::vector<std::uint64_t> shape;
  Values values;
  DType dtype = DType::kF32;
};

void write(const fs::path& folder, const std::vector<Tensor>& tensors) {
  fs::create_directories(folder);
  std::vector<std::string> bytes;
  for (const Tensor& tensor : tensors) {
    std::string& out = bytes.emplace_back();
    const auto each = static_cast<std::size_t>(tensorfile::dtype_bits(tensor.dtype)) / 8;
    out.resize(tensor.values.size() * each);
    if (!tensorfile::is_float(tensor.dtype)) continue;
    tensorfile::from_double(tensor.dtype, tensor.values.data(), tensor.values.size(), out.data());
  }
  std::vector<tensorfile::TensorToWrite> parts;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    parts.push_back({tensors[i].name, tensors[i].dtype, tensors[i].shape, bytes[i]});
  }
  tensorfile::write_file(folder / "model.safetensors", parts);
}

class Inspection : public testing::Test {
 protected:
  Json inspect(const std::vector<std::string>& models = {"one", "two", "three"}) {
    options_.base = "base";
    options_.models = models;
    options_.working_folder = scratch_.path();
    Job job;
    Json report = inspect_models(options_, job);
    report.erase("seconds");
    return report;
  }
  // The running example of the specification: a base of ones and three task vectors.
  void write_example(DType dtype = DType::kF32) {
    const Values taus[] = {
        {.9, -.2, 0, .5, -.6, .1}, {-.4, .3, 0, .5, .2, -.8}, {.1, -.7, 0, -.5, .3, .4}};
    const char* names[] = {"one", "two", "three"};
    write(scratch_ / "base", {{"model.layers.0.w.weight", {2, 3}, Values(6, 1), dtype}});
    for (std::size_t i = 0; i < 3; ++i) {
      Values theta = taus[i];
      for (double& v : theta) v += 1;
      write(scratch_ / names[i], {{"model.layers.0.w.weight", {2, 3}, theta, dtype}});
    }
  }
  // Two matrices of the specification as task vectors of a base of zeros.
  void write_matrices() {
    write(scratch_ / "base", {{"w.weight", {3, 3}, Values(9, 0)}});
    write(scratch_ / "one", {{"w.weight", {3, 3}, {1, 2, 0, 0, 1, 1, 1, 0, 1}}});
    write(scratch_ / "two", {{"w.weight", {3, 3}, {0, 1, 1, 2, 0, 1, 1, 1, 0}}});
  }
  ScratchFolder scratch_;
  InspectOptions options_;
};

double cosine(const Json& report, std::size_t i, std::size_t j) {
  return report["global"]["cosine"][i][j].get<double>();
}

TEST_F(Inspection, MeasuresTheExampleOfTheSpecification) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    write_example(dtype);
    options_.density = 0.5;
    const Json report = inspect();
    EXPECT_NEAR(cosine(report, 0, 1), -.280933, 1e-6);
    EXPECT_NEAR(cosine(report, 0, 2), -.131966, 1e-6);
    EXPECT_NEAR(cosine(report, 1, 2), -.699637, 1e-6);
    EXPECT_EQ(cosine(report, 1, 1), 1);
    EXPECT_EQ(cosine(report, 2, 0), cosine(report, 0, 2));
    const Json& all = report["global"];
    EXPECT_NEAR(all["norm_ratio"][0].get<double>(), .494975, 1e-6);
    EXPECT_NEAR(all["norm_ratio"][1].get<double>(), .443471, 1e-6);
    EXPECT_NEAR(all["norm_ratio"][2].get<double>(), .408248, 1e-6);
    EXPECT_NEAR(all["base_norm"].get<double>(), std::sqrt(6), 1e-6);
    EXPECT_DOUBLE_EQ(all["sign_conflict"].get<double>(), 5.0 / 6);
    EXPECT_DOUBLE_EQ(all["changed"][0].get<double>(), 5.0 / 6);
    // Trimmed: (.9,0,0,.5,-.6,0), (-.4,0,0,.5,0,-.8), (0,-.7,0,-.5,0,.4).
    EXPECT_DOUBLE_EQ(all["overlap"].get<double>(), 3.0 / 5);
    EXPECT_DOUBLE_EQ(all["sign_conflict_trimmed"].get<double>(), 3.0 / 5);
    EXPECT_DOUBLE_EQ(all["overlaps"][0][1].get<double>(), 2.0 / 3);
    EXPECT_DOUBLE_EQ(all["overlaps"][0][2].get<double>(), 1.0 / 3);
    EXPECT_DOUBLE_EQ(all["overlaps"][1][2].get<double>(), 2.0 / 3);
    EXPECT_DOUBLE_EQ(all["sign_conflicts"][0][1].get<double>(), 4.0 / 6);
  }
}

TEST_F(Inspection, MeasuresTheMatricesOfTheSpecification) {
  write_matrices();
  options_.rank = 1;
  Json report = inspect({"one", "two"});
  EXPECT_NEAR(cosine(report, 0, 1), .444444, 1e-6);
  EXPECT_NEAR(report["global"]["sti"].get<double>(), 2.910503, 1e-6);
  EXPECT_NEAR(report["global"]["sar"][0].get<double>(), .811856, 1e-6);
  EXPECT_NEAR(report["global"]["sar"][1].get<double>(), .790209, 1e-6);
  options_.rank = 2;
  report = inspect({"one", "two"});
  EXPECT_NEAR(report["global"]["sar"][0].get<double>(), .937094, 1e-6);
  EXPECT_NEAR(report["global"]["sar"][1].get<double>(), .934452, 1e-6);
  EXPECT_EQ(report["tensors"][0]["rank"], 2);
  options_.rank = 3;
  report = inspect({"one", "two"});
  EXPECT_NEAR(report["global"]["sti"].get<double>(), 15.377449, 1e-6);
  options_.rank = 0;  // 3 / 2
  EXPECT_EQ(inspect({"one", "two"})["tensors"][0]["rank"], 1);
}

Values random_matrix(Random& random, std::size_t size) {
  Values out(size);
  for (double& v : out) v = random.normal();
  return out;
}

TEST(SpectralAgreement, DoesNotChangeUnderRotationsOfRows) {
  Random random(1, "spectra");
  for (int round = 0; round < 20; ++round) {
    const std::size_t m = 2 + random.below(6), n = 1 + random.below(7);
    std::vector<Values> taus{random_matrix(random, m * n), random_matrix(random, m * n)};
    const SpectralAgreement before = spectral_agreement(taus, m, n, 1);
    const double angle = random.uniform(0, 6), c = std::cos(angle), s = std::sin(angle);
    for (Values& tau : taus) {
      for (std::size_t j = 0; j < n; ++j) {
        const double a = tau[j], b = tau[n + j];
        tau[j] = c * a - s * b;
        tau[n + j] = s * a + c * b;
      }
    }
    const SpectralAgreement after = spectral_agreement(taus, m, n, 1);
    EXPECT_NEAR(after.interference, before.interference, 1e-9 * (1 + before.interference));
    for (std::size_t i = 0; i < 2; ++i) EXPECT_NEAR(after.alignment[i], before.alignment[i], 1e-9);
  }
}

TEST(SpectralAgreement, KnowsTasksThatDoNotMeetAndTasksThatAreOne) {
  // Different rows and columns: nothing in common.
  const std::vector<Values> apart{{1, 0, 0, 0}, {0, 0, 0, 1}};
  const SpectralAgreement none = spectral_agreement(apart, 2, 2, 1);
  EXPECT_NEAR(none.interference, 0, 1e-12);
  const std::vector<Values> same{{1, 2, 3, 4}, {1, 2, 3, 4}};
  EXPECT_NEAR(spectral_agreement(same, 2, 2, 2).alignment[0], 1, 1e-12);
  // U'U - I = V'V - I = [[0, 1], [1, 0]]: both values remain.
  EXPECT_NEAR(spectral_agreement(same, 1, 4, 1).interference, 2 * std::sqrt(30), 1e-12);
  const std::vector<Values> zero{{0, 0}, {1, 0}};
  const SpectralAgreement half = spectral_agreement(zero, 1, 2, 0);
  EXPECT_TRUE(std::isnan(half.alignment[0]));
  EXPECT_EQ(half.rank, 1U);
  EXPECT_EQ(spectral_agreement(zero, 1, 2, 99).rank, 1U);
}

// What a straightforward computation over whole tensors gives.
struct Expected {
  double conflict = 0, overlap = 0, trimmed = 0;
};
Expected expected(const std::vector<std::vector<float>>& taus, double density) {
  const std::size_t n = taus[0].size();
  const auto rank =
      std::clamp<std::size_t>(static_cast<std::size_t>(density * static_cast<double>(n)), 1, n);
  std::vector<std::vector<bool>> kept;
  for (const auto& tau : taus) {
    std::vector<std::size_t> order(n);
    for (std::size_t i = 0; i < n; ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&tau](std::size_t a, std::size_t b) {
      return std::abs(tau[a]) > std::abs(tau[b]);
    });
    auto& mask = kept.emplace_back(n);
    for (std::size_t i = 0; i < rank; ++i) mask[order[i]] = tau[order[i]] != 0;
  }
  Expected out;
  double any = 0;
  for (std::size_t e = 0; e < n; ++e) {
    int up = 0, down = 0, kept_up = 0, kept_down = 0;
    for (std::size_t i = 0; i < taus.size(); ++i) {
      up += taus[i][e] > 0;
      down += taus[i][e] < 0;
      kept_up += kept[i][e] && taus[i][e] > 0;
      kept_down += kept[i][e] && taus[i][e] < 0;
    }
    out.conflict += up > 0 && down > 0;
    any += kept_up + kept_down > 0;
    out.overlap += kept_up + kept_down > 1;
    out.trimmed += kept_up > 0 && kept_down > 0;
  }
  out.conflict /= static_cast<double>(n);
  out.overlap /= any;
  out.trimmed /= any;
  return out;
}

// Random shapes and types, values with many ties and zeros, blocks smaller than the tensor.
TEST_F(Inspection, AgreesWithTheDefinitionWhateverTheBlocks) {
  Random random(2, "inspect");
  const DType types[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kF64};
  for (int round = 0; round < 12; ++round) {
    const std::size_t models = 2 + random.below(3);
    const std::uint64_t rows = 1 + random.below(90), columns = 1 + random.below(200);
    const DType dtype = types[random.below(4)];
    Values base(rows * columns);
    for (double& v : base) v = static_cast<double>(random.below(8));
    write(scratch_ / "base", {{"w", {rows, columns}, base, dtype}});
    std::vector<std::vector<float>> taus;
    std::vector<std::string> names;
    for (std::size_t i = 0; i < models; ++i) {
      Values theta = base;
      auto& tau = taus.emplace_back();
      for (double& v : theta) {
        const double change = static_cast<double>(random.below(9)) - 4;
        v += change;
        tau.push_back(static_cast<float>(change));
      }
      names.push_back("m" + std::to_string(i));
      write(scratch_ / names.back(), {{"w", {rows, columns}, theta, dtype}});
    }
    options_.density = random.uniform(0.05, 1);
    options_.spectral_limit = 0;
    const Expected want = expected(taus, options_.density);
    Json first;
    for (const std::uint64_t block : {std::uint64_t{1}, std::uint64_t{1} << 25}) {
      options_.block_bytes = block;
      const Json report = inspect(names);
      const Json& all = report["global"];
      EXPECT_DOUBLE_EQ(all["sign_conflict"].get<double>(), want.conflict);
      EXPECT_DOUBLE_EQ(all["overlap"].get<double>(), want.overlap);
      EXPECT_DOUBLE_EQ(all["sign_conflict_trimmed"].get<double>(), want.trimmed);
      if (first.is_null()) first = report;
      EXPECT_EQ(report, first);
    }
  }
}

TEST_F(Inspection, DoesNotDependOnThreads) {
  for (const char* name : {"base", "one", "two", "three"}) {
    toy::write_model(scratch_ / name, toy::decoder_specs(6), hash64(name));
  }
  options_.threads = 1;
  const Json one = inspect();
  options_.threads = 7;
  EXPECT_EQ(inspect(), one);
  EXPECT_EQ(dump_json(one).find("nan"), std::string::npos);
}

TEST_F(Inspection, GroupsTensorsByLayerInReadingOrder) {
  for (const char* name : {"base", "one", "two"}) {
    toy::write_model(scratch_ / name, toy::decoder_specs(11), hash64(name));
  }
  const Json report = inspect({"one", "two"});
  std::vector<std::string> names;
  for (const Json& layer : report["layers"]) names.push_back(layer["name"]);
  EXPECT_EQ(names.front(), "model");  // model.nothing, without elements
  EXPECT_EQ(names[1], "model.embed_tokens");
  EXPECT_EQ(names[2], "model.layers.0");
  EXPECT_EQ(names[4], "model.layers.2");
  EXPECT_EQ(names[12], "model.layers.10");
  EXPECT_EQ(names.back(), "model.norm");
  double squares = 0;
  for (const Json& layer : report["layers"])
    squares += std::pow(layer["norms"][0].get<double>(), 2);
  EXPECT_NEAR(std::sqrt(squares), report["global"]["norms"][0].get<double>(), 1e-9);
  // position_ids are integers.
  EXPECT_EQ(report["skipped"].size(), 11U);
  EXPECT_THAT(report["skipped"][0]["reason"].get<std::string>(), HasSubstr("floating"));
}

TEST_F(Inspection, SaysWhatItLeavesOut) {
  write(scratch_ / "base",
        {{"a", {2}, {1, 2}}, {"b", {2}, {1, 2}}, {"c", {3, 40}, Values(120, 1)}});
  write(scratch_ / "one",
        {{"a", {2}, {1, 3}}, {"b", {1}, {1}}, {"c", {3, 40}, Values(120, 2)}, {"d", {1}, {1}}});
  write(scratch_ / "two", {{"a", {2}, {1, 2}}, {"c", {3, 40}, Values(120, 1)}});
  options_.spectral_limit = 4;  // 40 > 8 * 4
  const Json report = inspect({"one", "two"});
  ASSERT_EQ(report["skipped"].size(), 1U);
  EXPECT_EQ(report["skipped"][0]["tensor"], "b");
  const std::string notes = dump_json(report["notes"]);
  EXPECT_THAT(notes, HasSubstr("1 of 1 matrices are beyond spectral_limit"));
  EXPECT_THAT(notes, HasSubstr("1 tensors of 'one' are not in the base"));
  EXPECT_THAT(notes, HasSubstr("'two' is equal to the base"));
  EXPECT_TRUE(report["global"]["sti"].is_null());
  EXPECT_TRUE(report["global"]["cosine"][0][1].is_null());  // a zero vector has no direction
  EXPECT_EQ(report["global"]["sign_conflict"], 0.0);
}

TEST_F(Inspection, CountsWhatIsNotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  // Several blocks, which later passes read again.
  Values base(9000, 1), theta(9000, 1);
  base[4000] = inf;
  theta[0] = 2;
  theta[8999] = std::nan("");
  write(scratch_ / "base", {{"w", {9000}, base}});
  write(scratch_ / "one", {{"w", {9000}, theta}});
  options_.block_bytes = 1;
  const Json report = inspect({"one"});
  EXPECT_DOUBLE_EQ(report["global"]["norms"][0].get<double>(), 1);
  EXPECT_THAT(dump_json(report["notes"]), HasSubstr("\"2 differences are NaN or infinite"));
  EXPECT_NEAR(report["global"]["base_norm"].get<double>(), std::sqrt(8999), 1e-6);
}

TEST_F(Inspection, WorksOnScalarsAndTensorsOfManyDimensions) {
  write(scratch_ / "base",
        {{"s", {}, {1}}, {"e", {0, 3}, {}}, {"c", {2, 1, 2, 2}, Values(8, 1)}, {"x", {1, 1}, {1}}});
  write(scratch_ / "one",
        {{"s", {}, {2}}, {"e", {0, 3}, {}}, {"c", {2, 1, 2, 2}, Values(8, 3)}, {"x", {1, 1}, {2}}});
  const Json report = inspect({"one"});
  EXPECT_EQ(report["global"]["elements"], 10);
  EXPECT_EQ(report["global"]["matrices"], 1);
  EXPECT_DOUBLE_EQ(report["global"]["sti"].get<double>(), 0);
  EXPECT_DOUBLE_EQ(report["global"]["sar"][0].get<double>(), 1);
}

TEST_F(Inspection, RefusesBadInput) {
  write_example();
  const auto code = [this](const std::function<void()>& change,
                           const std::vector<std::string>& models) {
    const InspectOptions before = options_;
    change();
    const auto failure = failure_of([&] { inspect(models); });
    options_ = before;
    return failure ? failure->code : Code::kOk;
  };
  EXPECT_EQ(code([] {}, {}), Code::kInvalidArgument);
  EXPECT_EQ(code([] {}, std::vector<std::string>(65, "one")), Code::kInvalidArgument);
  EXPECT_EQ(code([] {}, std::vector<std::string>(64, "one")), Code::kOk);
  EXPECT_EQ(code([] {}, {"nowhere"}), Code::kNotFound);
  EXPECT_EQ(code([] {}, {""}), Code::kInvalidArgument);
  EXPECT_EQ(code([this] { options_.density = -1; }, {"one"}), Code::kInvalidArgument);
  write(scratch_ / "other", {{"v", {1}, {1}}});
  EXPECT_EQ(code([] {}, {"other"}), Code::kDataError);
}

TEST_F(Inspection, StopsWhenAsked) {
  for (const char* name : {"base", "one"}) {
    toy::write_model(scratch_ / name, {{"w", DType::kF32, {1000, 1000}}}, hash64(name));
  }
  options_.base = "base";
  options_.models = {"one"};
  options_.working_folder = scratch_.path();
  options_.block_bytes = 1;
  Job job([](std::string_view phase,
             auto...) { return phase == "inspect" ? Verdict::kCancel : Verdict::kContinue; },
          nullptr);
  const auto failure = failure_of([&] { inspect_models(options_, job); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kCancelled);
}

// ---- the page ----------------------------------------------------------------------------------

TEST_F(Inspection, MakesAPageOfItsOwn) {
  for (const char* name : {"base", "one", "two", "three"}) {
    toy::write_model(scratch_ / name, toy::decoder_specs(4), hash64(name));
  }
  const std::string page = inspect_page(inspect());
  EXPECT_THAT(page, HasSubstr("<!doctype html>"));
  EXPECT_THAT(page, HasSubstr("</html>"));
  for (const char* outside :
       {"http://", "https://", "src=", "href=", "@import", "url(", "<script"}) {
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  }
  EXPECT_THAT(page, HasSubstr("prefers-color-scheme:dark"));
  EXPECT_THAT(page, HasSubstr("model.layers.3"));
  // Every element that is opened is closed.
  for (const std::string tag :
       {"svg", "figure", "table", "details", "g", "text", "title", "div", "h2", "h3", "ul"}) {
    const auto count = [&page](const std::string& part) {
      std::size_t out = 0;
      for (std::size_t at = page.find(part); at != std::string::npos; at = page.find(part, at + 1))
        ++out;
      return out;
    };
    EXPECT_EQ(count("<" + tag + " ") + count("<" + tag + ">"), count("</" + tag + ">")) << tag;
  }
}

TEST_F(Inspection, EscapesNamesOnThePage) {
  const std::string evil = "x<script>alert(1)</script>&\"'.weight";
  write(scratch_ / "base", {{evil, {2}, {1, 2}}, {"u", {1}, {1}}});
  write(scratch_ / "<b>&one", {{evil, {2}, {2, 2}}, {"u", {2}, {1, 1}}});
  const std::string page = inspect_page(inspect({"<b>&one"}));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("<b>&one")));
  EXPECT_THAT(page, HasSubstr("&lt;b&gt;&amp;one"));
}

TEST_F(Inspection, ShowsAnyNumberOfModelsAndLayers) {
  for (const std::size_t models : {1, 2, 9, 30}) {
    for (const int layers : {1, 40, 1200}) {
      if (models > 2 && layers > 40) continue;
      std::vector<toy::Spec> specs;
      for (int i = 0; i < layers; ++i) {
        specs.push_back({"h." + std::to_string(i) + ".w", DType::kF32, {2}});
      }
      toy::write_model(scratch_ / "base", specs, 1);
      std::vector<std::string> names;
      for (std::size_t i = 0; i < models; ++i) {
        names.push_back("m" + std::to_string(i));
        toy::write_model(scratch_ / names.back(), specs, i + 2);
      }
      const std::string page = inspect_page(inspect(names));
      EXPECT_THAT(page, HasSubstr("</html>"));
      EXPECT_THAT(page, Not(HasSubstr("nan")));
      EXPECT_THAT(page, Not(HasSubstr("inf\"")));
    }
  }
}

}  // namespace
}  // namespace theriac::merge
