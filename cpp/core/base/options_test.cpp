#include "cpp/core/base/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpp/core/base/test_support.h"

namespace theriac {
namespace {

using testing::HasSubstr;
using testing_support::detail;
using testing_support::failure_of;

struct EncoderOptions {
  std::int64_t dim = 128;
  double dropout = 0.5;
  static const OptionTable<EncoderOptions>& table();
};

const OptionTable<EncoderOptions>& EncoderOptions::table() {
  static const auto t =
      OptionTable<EncoderOptions>("encoder", "Code encoder")
          .integer("dim", &EncoderOptions::dim, {1, 4096}, "width of a code vector")
          .real("dropout", &EncoderOptions::dropout, {0, 1, false, true}, "share dropped");
  return t;
}

struct FitOptions {
  double learning_rate = 1e-3;
  std::int64_t epochs = 50;
  std::int64_t seed = 0;
  bool shuffle = true;
  std::string note;
  std::string how = "patient";
  std::vector<std::string> metrics{"jaccard"};
  std::vector<std::int64_t> layers{64, 32};
  EncoderOptions encoder;
  static const OptionTable<FitOptions>& table();
};

const OptionTable<FitOptions>& FitOptions::table() {
  static const auto t =
      OptionTable<FitOptions>("fit", "How a model is trained")
          .real("learning_rate", &FitOptions::learning_rate, {0, 10, true, false}, "step size")
          .integer("epochs", &FitOptions::epochs, {1, 100000}, "passes over the data")
          .integer("seed", &FitOptions::seed, {}, "seed of every draw")
          .flag("shuffle", &FitOptions::shuffle, "draw the order of patients anew in every epoch")
          .text("note", &FitOptions::note, "kept in the model")
          .choice("how", &FitOptions::how, {"patient", "time"}, "unit of the split")
          .texts("metrics", &FitOptions::metrics, "what is reported")
          .integers("layers", &FitOptions::layers, {1, 1024}, "widths")
          .group("encoder", &FitOptions::encoder, EncoderOptions::table(), "the code encoder");
  return t;
}

FitOptions parse(const std::string& text) {
  return FitOptions::table().parse(parse_json(text, "options"));
}

Failure rejected(const std::string& text, const std::string& path = "") {
  const auto failure =
      failure_of([&] { FitOptions::table().parse(parse_json(text, "options"), path); });
  if (!failure) {
    ADD_FAILURE() << "accepted: " << text;
    return {};
  }
  EXPECT_EQ(failure->code, Code::kInvalidArgument);
  return *failure;
}

void expect_rejected(const std::string& text, const std::string& option,
                     const std::string& expected, const std::string& got) {
  const Failure failure = rejected(text);
  EXPECT_EQ(detail(failure, "option"), option);
  EXPECT_EQ(detail(failure, "expected"), expected);
  EXPECT_EQ(detail(failure, "got"), got);
  EXPECT_THAT(failure.message, HasSubstr("'" + option + "'"));
}

TEST(Options, DefaultsStandUntilSaidOtherwise) {
  const FitOptions plain = FitOptions::table().parse(Json());
  EXPECT_EQ(plain.epochs, 50);
  EXPECT_EQ(plain.encoder.dim, 128);
  const FitOptions set = parse(
      R"({"learning_rate":0.1,"epochs":3,"shuffle":false,"note":"n","how":"time",
          "metrics":["a","b"],"layers":[],"encoder":{"dim":7}})");
  EXPECT_EQ(set.learning_rate, 0.1);
  EXPECT_EQ(set.epochs, 3);
  EXPECT_FALSE(set.shuffle);
  EXPECT_EQ(set.note, "n");
  EXPECT_EQ(set.how, "time");
  EXPECT_EQ(set.metrics, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(set.layers.empty());
  EXPECT_EQ(set.encoder.dim, 7);
  EXPECT_EQ(set.encoder.dropout, 0.5);
}

TEST(Options, EffectiveValuesReadBackAsThemselves) {
  const FitOptions set = parse(R"({"learning_rate":0.1,"encoder":{"dropout":0.25}})");
  const Json json = FitOptions::table().effective_json(set);
  EXPECT_EQ(json["learning_rate"], 0.1);
  EXPECT_EQ(json["encoder"]["dropout"], 0.25);
  EXPECT_EQ(json["encoder"]["dim"], 128);
  EXPECT_EQ(FitOptions::table().effective_json(FitOptions::table().parse(json)), json);
}

TEST(Options, UnknownKeysNameTheNearestOne) {
  const Failure failure = rejected(R"({"learing_rate":1})");
  EXPECT_THAT(failure.message, HasSubstr("unknown option 'learing_rate'"));
  EXPECT_THAT(failure.message, HasSubstr("did you mean 'learning_rate'?"));
  EXPECT_EQ(detail(failure, "option"), "learing_rate");
  EXPECT_EQ(detail(failure, "expected"), "learning_rate");
}

TEST(Options, NestedKeysCarryTheirWholePath) {
  const Failure failure = rejected(R"({"encoder":{"dims":1}})");
  EXPECT_EQ(detail(failure, "option"), "encoder.dims");
  EXPECT_THAT(failure.message, HasSubstr("did you mean 'encoder.dim'?"));
  EXPECT_EQ(detail(rejected(R"({"encoder":{"dim":0}})", "model.fit"), "option"),
            "model.fit.encoder.dim");
  EXPECT_THAT(rejected(R"({"encoder.dim":1})").message,
              HasSubstr("member of the object 'encoder'"));
}

TEST(Options, FarKeysListTheValidOnes) {
  EXPECT_THAT(rejected(R"({"encoder":{"zzzzzzz":1}})").message,
              HasSubstr("valid ones are 'dim', 'dropout'"));
}

TEST(Options, KeysThatStartWithXAreTheUsersOwn) {
  EXPECT_EQ(parse(R"({"x-note":{"a":1}})").epochs, 50);
}

TEST(Options, WrongTypesSayWhatIsRight) {
  expect_rejected(R"({"epochs":"3"})", "epochs", "an integer, 1 to 100000", "\"3\"");
  expect_rejected(R"({"epochs":1.5})", "epochs", "an integer, 1 to 100000", "1.5");
  expect_rejected(R"({"epochs":true})", "epochs", "an integer, 1 to 100000", "true");
  expect_rejected(R"({"learning_rate":"x"})", "learning_rate", "a number, above 0 and at most 10",
                  "\"x\"");
  expect_rejected(R"({"shuffle":1})", "shuffle", "true or false", "1");
  expect_rejected(R"({"note":1})", "note", "text", "1");
  expect_rejected(R"({"how":1})", "how", "one of 'patient', 'time'", "1");
  expect_rejected(R"({"metrics":"jaccard"})", "metrics", "a list of texts", "\"jaccard\"");
  expect_rejected(R"({"metrics":["a",2]})", "metrics[1]", "text", "2");
  expect_rejected(R"({"layers":[1,0]})", "layers[1]", "an integer, 1 to 1024", "0");
  expect_rejected(R"({"encoder":3})", "encoder", "an object with the options of encoder", "3");
  expect_rejected(R"([1])", "fit", "an object with the options of fit", "[1]");
  expect_rejected(R"({"epochs":null})", "epochs", "an integer, 1 to 100000", "null");
}

TEST(Options, RangesAreClosedUnlessOpen) {
  EXPECT_EQ(parse(R"({"epochs":1})").epochs, 1);
  EXPECT_EQ(parse(R"({"epochs":100000})").epochs, 100000);
  expect_rejected(R"({"epochs":0})", "epochs", "an integer, 1 to 100000", "0");
  expect_rejected(R"({"epochs":100001})", "epochs", "an integer, 1 to 100000", "100001");
  EXPECT_EQ(parse(R"({"learning_rate":10})").learning_rate, 10.0);
  expect_rejected(R"({"learning_rate":0})", "learning_rate", "a number, above 0 and at most 10",
                  "0");
  EXPECT_EQ(parse(R"({"encoder":{"dropout":0}})").encoder.dropout, 0.0);
  expect_rejected(R"({"encoder":{"dropout":1.0}})", "encoder.dropout",
                  "a number, at least 0 and below 1", "1.0");
}

TEST(Options, IntegersKeepSixtyFourBitsAndTakeWholeReals) {
  EXPECT_EQ(parse(R"({"seed":9223372036854775807})").seed, INT64_MAX);
  EXPECT_EQ(parse(R"({"seed":-9223372036854775808})").seed, INT64_MIN);
  expect_rejected(R"({"seed":9223372036854775808})", "seed", "an integer", "9223372036854775808");
  EXPECT_EQ(parse(R"({"seed":1e3})").seed, 1000);
  rejected(R"({"seed":1e300})");
}

TEST(Options, LongValuesAreCutInMessages) {
  EXPECT_LT(rejected("{\"epochs\":\"" + std::string(10000, 'a') + "\"}").message.size(), 300U);
}

TEST(Options, ChoicesNameTheNearest) {
  EXPECT_THAT(rejected(R"({"how":"patients"})").message, HasSubstr("did you mean 'patient'?"));
}

TEST(Options, SchemaDescribesEveryField) {
  const Json schema = FitOptions::table().schema();
  EXPECT_EQ(schema["type"], "object");
  EXPECT_EQ(schema["additionalProperties"], false);
  const Json& properties = schema["properties"];
  EXPECT_EQ(properties["epochs"],
            parse_json(R"({"type":"integer","minimum":1,"maximum":100000,"default":50,
      "description":"passes over the data"})",
                       "expected"));
  EXPECT_EQ(properties["learning_rate"],
            parse_json(R"({"type":"number","exclusiveMinimum":0.0,"maximum":10.0,
      "default":0.001,"description":"step size"})",
                       "expected"));
  EXPECT_FALSE(properties["seed"].contains("minimum"));
  EXPECT_EQ(properties["how"]["enum"], Json({"patient", "time"}));
  EXPECT_EQ(properties["metrics"]["items"]["type"], "string");
  EXPECT_EQ(properties["encoder"]["properties"]["dim"]["default"], 128);
  EXPECT_EQ(properties["encoder"]["description"], "the code encoder");
}

TEST(Options, HelpHasALineForEachOption) {
  const std::string help = FitOptions::table().help();
  EXPECT_THAT(help,
              HasSubstr("  epochs  integer, 1 to 100000, default 50: passes over the data\n"));
  EXPECT_THAT(
      help, HasSubstr("  encoder.dim  integer, 1 to 4096, default 128: width of a code vector\n"));
  EXPECT_THAT(
      help,
      HasSubstr("  learning_rate  number, above 0 and at most 10, default 0.001: step size\n"));
  EXPECT_THAT(help, HasSubstr("  how  patient|time, default \"patient\": unit of the split\n"));
  EXPECT_THAT(help, HasSubstr("  layers  list of integers, default [64,32]: widths\n"));
}

TEST(NearestName, FindsSlipsAndNothingElse) {
  const std::vector<std::string> names{"learning_rate", "epochs", "dim", "k"};
  EXPECT_EQ(nearest_name("learning_rat", names), "learning_rate");
  EXPECT_EQ(nearest_name("Learning_Rate", names), "learning_rate");
  EXPECT_EQ(nearest_name("epohcs", names), "epochs");
  EXPECT_EQ(nearest_name("dmi", names), "dim");
  EXPECT_EQ(nearest_name("ab", {"ba"}), "ba");  // a swap is one slip, not two
  EXPECT_EQ(nearest_name("weight", names), "");
  EXPECT_EQ(nearest_name("z", names), "");
  EXPECT_EQ(nearest_name("", names), "");
  EXPECT_EQ(nearest_name(std::string(100000, 'a'), names), "");
  EXPECT_EQ(nearest_name("a", {}), "");
}

TEST(Settings, DottedKeysBecomeObjects) {
  const Json json = json_from_settings({"a.b.c=1", "a.b.d=text", "e=true", "f=[1,2]", "g=", "h=a=b",
                                        "i=\"1\"", "j=007", "k={\"l\":1}", "k.m=2"});
  EXPECT_EQ(json,
            parse_json(R"({"a":{"b":{"c":1,"d":"text"}},"e":true,"f":[1,2],"g":"","h":"a=b","i":"1",
      "j":"007","k":{"l":1,"m":2}})",
                       "expected"));
}

TEST(Settings, TheLastOneWins) { EXPECT_EQ(json_from_settings({"a=1", "a=2"}), Json({{"a", 2}})); }

TEST(Settings, MalformedOnesAndClashesAreErrors) {
  for (const std::vector<std::string>& settings :
       std::vector<std::vector<std::string>>{{"a"},
                                             {"=1"},
                                             {"a..b=1"},
                                             {".a=1"},
                                             {"a.=1"},
                                             {""},
                                             {"a=1", "a.b=2"},
                                             {"a.b=2", "a=1"}}) {
    const auto failure = failure_of([&] { json_from_settings(settings); });
    ASSERT_TRUE(failure) << settings.back();
    EXPECT_EQ(failure->code, Code::kInvalidArgument);
  }
}

TEST(Merge, MembersOfTheSecondWin) {
  Json base = parse_json(R"({"a":1,"b":{"c":1,"d":2},"e":[1,2]})", "base");
  merge_json(base, parse_json(R"({"b":{"c":5,"n":6},"e":[3],"z":null})", "over"));
  EXPECT_EQ(base, parse_json(R"({"a":1,"b":{"c":5,"d":2,"n":6},"e":[3],"z":null})", "expected"));
}

}  // namespace
}  // namespace theriac
