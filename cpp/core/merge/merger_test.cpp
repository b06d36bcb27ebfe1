#include "cpp/core/merge/merger.h"

#include <gmock/gmock.h>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/toy_for_test.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
using tensorfile::ModelFiles;
using testing::HasSubstr;
using testing_support::failure_of;
using testing_support::ScratchFolder;

class Mergers : public testing::Test {
 protected:
  Mergers() {
    for (const char* name : {"base", "a", "b"}) {
      toy::write_model(scratch_ / name, toy::decoder_specs(), hash64(name));
    }
  }
  std::string at(const std::string& name) const { return (scratch_ / name).string(); }
  Merger ties() const {
    MergerOptions options;
    options.base_model = at("base");
    options.parameters = Json{{"lambda", 0.7}, {"normalize", false}};
    Merger merger("ties", options);
    merger.add(at("a"), Json{{"weight", 0.5}, {"density", {0.25, 0.75}}});
    merger.add(at("b"),
               Json::parse(R"({"weight": [{"filter": "mlp", "value": 0.1}, {"value": 1}]})"));
    return merger;
  }
  static constexpr const char* kTensor = "model.layers.0.mlp.up_proj.weight";
  ScratchFolder scratch_;
};

TEST_F(Mergers, GiveWhatTheRecipeGives) {
  const Merger merger = ties();
  Job job;
  MergeOptions options;
  merger.finish(scratch_ / "one", options, job);
  merge_recipe(
      "merge_method: ties\nbase_model: base\nmodels:\n"
      "  - {model: a, parameters: {weight: 0.5, density: [0.25, 0.75]}}\n"
      "  - {model: b, parameters: {weight: [{filter: mlp, value: 0.1}, {value: 1}]}}\n"
      "parameters: {lambda: 0.7, normalize: false}\n",
      "r.yml", scratch_ / "two",
      [this] {
        MergeOptions relative;
        relative.working_folder = scratch_.path();
        return relative;
      }(),
      job);
  EXPECT_EQ(read_file(scratch_ / "one" / "model.safetensors"),
            read_file(scratch_ / "two" / "model.safetensors"));
}

TEST_F(Mergers, CanGoOnAfterFinishing) {
  Merger merger("linear", {});
  Job job;
  merger.add(at("a"), Json{{"weight", 1}});
  merger.finish(scratch_ / "one", {}, job);
  merger.add(at("b"), Json{{"weight", 1}});
  merger.finish(scratch_ / "two", {}, job);
  const auto a = toy::floats(ModelFiles::open(at("a")), kTensor);
  const auto b = toy::floats(ModelFiles::open(at("b")), kTensor);
  const auto two = toy::floats(ModelFiles::open(at("two")), kTensor);
  EXPECT_EQ(toy::floats(ModelFiles::open(at("one")), kTensor), a);
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(two[i], (a[i] + b[i]) / 2, 4e-3);
}

TEST_F(Mergers, SurviveSavingAndLoading) {
  const Merger merger = ties();
  const Merger again = Merger::parse(merger.serialised(), "m.json");
  EXPECT_EQ(again.info(), merger.info());
  EXPECT_EQ(again.serialised(), merger.serialised());
  Job job;
  merger.finish(scratch_ / "one", {}, job);
  again.finish(scratch_ / "two", {}, job);
  EXPECT_EQ(read_file(scratch_ / "one" / "model.safetensors"),
            read_file(scratch_ / "two" / "model.safetensors"));
}

TEST_F(Mergers, TellWhetherTheyAreComplete) {
  MergerOptions options;
  options.base_model = at("base");
  Merger merger("slerp", options);
  EXPECT_EQ(merger.info()["complete"], false);
  Merger linear("linear", {});
  EXPECT_EQ(linear.info()["complete"], false);
  linear.add(at("a"), Json{{"weight", 1}});
  EXPECT_EQ(linear.info()["complete"], true);
  EXPECT_EQ(linear.info()["models"][0]["path"], at("a"));
  EXPECT_EQ(linear.info()["models"][0]["tensors"], toy::decoder_specs().size());
}

TEST_F(Mergers, RefuseAModelThatChanged) {
  const auto failure_after = [this](const std::function<void()>& change) {
    Merger merger("linear", {});
    merger.add(at("a"), Json{{"weight", 1}});
    merger.add(at("b"), Json{{"weight", 1}});
    change();
    return failure_of([&] {
      Job job;
      merger.finish(scratch_ / "out", {}, job);
    });
  };
  // Other weights of the same size, at another time.
  auto failure = failure_after([this] {
    toy::write_model(scratch_ / "b", toy::decoder_specs(), 77);
    fs::last_write_time(scratch_ / "b" / "model.safetensors",
                        fs::file_time_type::clock::now() + std::chrono::seconds(5));
  });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kInvalidState);
  EXPECT_THAT(failure->message, AllOf(HasSubstr("changed"), HasSubstr(at("b"))));
  failure = failure_after([this] { fs::remove_all(scratch_ / "b"); });
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Code::kInvalidState);
  EXPECT_FALSE(fs::exists(scratch_ / "out"));
}

TEST_F(Mergers, TakePathsWithAnyCharacters) {
  for (const std::string name :
       {"a+b", "a@b", "sp ace", "quo'te\"s", "co: lon", "ünï", "#x", "{y}"}) {
    toy::write_model(scratch_ / name, toy::decoder_specs(), 5);
    Merger merger("linear", {});
    merger.add(at(name), Json{{"weight", 1}});
    Job job;
    merger.finish(scratch_ / (name + "-out"), {}, job);
    EXPECT_EQ(toy::floats(ModelFiles::open(scratch_ / (name + "-out")), kTensor),
              toy::floats(ModelFiles::open(scratch_ / name), kTensor));
  }
}

TEST_F(Mergers, RefuseBadInputAndStayAsTheyWere) {
  const auto code = [](const std::function<void()>& call) {
    const auto failure = failure_of(call);
    return failure ? failure->code : Code::kOk;
  };
  EXPECT_EQ(code([] { Merger("tie", {}); }), Code::kInvalidArgument);
  EXPECT_EQ(code([] { Merger("ties", {}); }), Code::kInvalidArgument);  // no base
  EXPECT_EQ(code([this] {
              MergerOptions options;
              options.base_model = at("nowhere");
              Merger("ties", options);
            }),
            Code::kNotFound);
  EXPECT_EQ(code([] {
              MergerOptions options;
              options.parameters = Json{{"lamda", 1}};
              Merger("linear", options);
            }),
            Code::kInvalidArgument);
  Merger merger = ties();
  const Json before = merger.info();
  EXPECT_EQ(code([&] { merger.add(at("nowhere"), Json::object()); }), Code::kNotFound);
  EXPECT_EQ(code([&] { merger.add("", Json::object()); }), Code::kNotFound);
  EXPECT_EQ(code([&] { merger.add(at("a"), Json{{"weigth", 1}}); }), Code::kInvalidArgument);
  EXPECT_EQ(code([&] { merger.add(at("a"), Json{{"density", "much"}}); }), Code::kInvalidArgument);
  EXPECT_EQ(code([&] { merger.add(at("a"), Json::array()); }), Code::kInvalidArgument);
  EXPECT_EQ(merger.info(), before);
  EXPECT_EQ(code([this] {
              Job job;
              Merger("linear", {}).finish(scratch_ / "out", {}, job);
            }),
            Code::kInvalidState);
}

TEST_F(Mergers, RefuseDamagedFiles) {
  const std::string good = ties().serialised();
  const Json json = Json::parse(good);
  const auto code = [](const std::string& text) {
    const auto failure = failure_of([&] { Merger::parse(text, "m.json"); });
    return failure ? failure->code : Code::kOk;
  };
  EXPECT_EQ(code(good), Code::kOk);
  EXPECT_EQ(code(""), Code::kDataError);
  EXPECT_EQ(code("[]"), Code::kDataError);
  EXPECT_EQ(code(good.substr(0, good.size() / 2)), Code::kDataError);
  for (const auto& [key, value] : json.items()) {
    Json without = json;
    without.erase(key);
    EXPECT_EQ(code(without.dump()), Code::kDataError) << key;
    Json other = json;
    other[key] = Json::array({1});
    EXPECT_NE(code(other.dump()), Code::kOk) << key;
  }
  Json later = json;
  later["theriac_merger"] = 2;
  EXPECT_EQ(code(later.dump()), Code::kIncompatible);
}

}  // namespace
}  // namespace theriac::merge
