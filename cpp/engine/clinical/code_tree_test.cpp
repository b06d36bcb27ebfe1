#include "cpp/engine/clinical/code_tree.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "cpp/core/base/file.h"
#include "cpp/engine/train/model_directory.h"

namespace theriac::clinical {
namespace {

using codes::System;

class CodeTreeTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("code-tree-" + std::to_string(::getpid()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    context_.seed = 5;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  Json options() const {
    return Json{{"system", "icd9proc"}, {"dim", 8}, {"epochs", 2}, {"list", path("list.csv")}};
  }
  void write_list() const {
    replace_file(path("list.csv"),
                 "code,parent,name\nICD9PROC,,root\n38,ICD9PROC,vessels\n389,38,punctures\n"
                 "3893,389,venous catheter\n3891,389,arterial catheter\n");
  }
  std::unique_ptr<Model> make(const Json& options) const {
    return code_tree_method().create(options, context_);
  }
  static Json info(const Model& model) {
    std::string json;
    model.info(json).or_throw();
    return Json::parse(json);
  }
  static std::vector<float> relation(const Model& model) {
    TensorView view;
    model.tensor("relation", view).or_throw();
    const auto* values = static_cast<const float*>(view.data);
    return {values, values + view.shape[0] * view.shape[1]};
  }

  std::filesystem::path folder_;
  ContextSettings context_;
};

data::Cohort cohort_of(std::vector<data::Vocabulary> vocabularies) {
  data::CohortColumns columns;
  for (std::size_t i = 0; i < vocabularies.size(); ++i)
    columns.vocabularies[i] = std::move(vocabularies[i]);
  return data::Cohort(std::move(columns));
}

TEST_F(CodeTreeTest, FitsOnAListAndComesBackFromItsDirectory) {
  write_list();
  const auto model = make(options());
  Job job;
  model->fit(nullptr, nullptr, "{}", job).or_throw();
  const Json before = info(*model);
  EXPECT_EQ(before["nodes"], 5);
  EXPECT_EQ(before["dim"], 8);
  EXPECT_EQ(before["losses"].size(), 2U);
  EXPECT_TRUE(before["quality"].contains("sibling_cosine"));
  model->save(path("model"), false).or_throw();
  const auto back =
      code_tree_method().load(train::load_model_directory(path("model")), Json::object(), context_);
  EXPECT_EQ(relation(*back), relation(*model));
  EXPECT_EQ(info(*back), before);
  EXPECT_EQ(model->save(path("model"), false).failure().code, Code::kAlreadyExists);
}

TEST_F(CodeTreeTest, WithoutAListTakesTheCodesOfTheCohort) {
  const Dataset dataset{
      "cohort",
      std::make_shared<data::Cohort>(cohort_of(
          {data::Vocabulary({{System::kIcd9cm, "4280"}}),
           data::Vocabulary({{System::kIcd9proc, "3893"}, {System::kIcd9proc, "not a code"}}),
           data::Vocabulary()})),
      nullptr};
  Json chosen = options();
  chosen.erase("list");
  const auto model = make(chosen);
  Job job;
  model->fit(&dataset, nullptr, "{}", job).or_throw();
  const Json made = info(*model);
  EXPECT_EQ(made["nodes"], 5);  // root, chapter, 38, 389, 3893
  EXPECT_EQ(made["training"]["data"], dataset.cohort->fingerprint());

  chosen["system"] = "icd10pcs";
  EXPECT_EQ(make(chosen)->fit(&dataset, nullptr, "{}", job).failure().code, Code::kDataError);
  EXPECT_EQ(make(chosen)->fit(nullptr, nullptr, "{}", job).failure().code, Code::kInvalidArgument);
}

TEST_F(CodeTreeTest, ReadsTheCacheOfTheSameInputs) {
  write_list();
  Json chosen = options();
  chosen["cache"] = path("cache");
  Job job;
  const auto first = make(chosen);
  first->fit(nullptr, nullptr, "{}", job).or_throw();
  const auto second = make(chosen);
  second->fit(nullptr, nullptr, "{}", job).or_throw();
  EXPECT_EQ(relation(*first), relation(*second));
  EXPECT_EQ(info(*first)["key"], info(*second)["key"]);
  EXPECT_FALSE(std::filesystem::is_empty(path("cache")));
}

TEST_F(CodeTreeTest, SaysWhatItCannotDo) {
  write_list();
  const auto model = make(options());
  Job job;
  std::string json;
  TensorView view;
  std::unique_ptr<Session> session;
  EXPECT_EQ(model->save(path("model"), false).failure().code, Code::kInvalidState);
  EXPECT_EQ(model->tensor("relation", view).failure().code, Code::kInvalidState);
  EXPECT_EQ(info(*model)["fitted"], false);
  EXPECT_EQ(model->evaluate(Dataset{}, "{}", job, json).failure().code, Code::kUnsupported);
  EXPECT_EQ(model->open_session("{}", session).failure().code, Code::kUnsupported);
  model->fit(nullptr, nullptr, "{}", job).or_throw();
  EXPECT_EQ(model->tensor("weights", view).failure().code, Code::kNotFound);
  EXPECT_THROW(make(Json{{"sytem", "icd9cm"}}), Error);
  EXPECT_THROW(make(Json{{"system", "snomed"}}), Error);
  EXPECT_TRUE(code_tree_method().schema().contains("properties"));
}

TEST_F(CodeTreeTest, RefusesAForeignDirectory) {
  train::ModelDirectory directory;
  directory.config = Json{{"method", "code_tree"}};
  EXPECT_THROW(code_tree_method().load(directory, Json::object(), context_), Error);
}

}  // namespace
}  // namespace theriac::clinical
