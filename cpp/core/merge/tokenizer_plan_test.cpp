#include "cpp/core/merge/tokenizer_plan.h"

#include <gmock/gmock.h>

#include <map>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/toy_for_test.h"

namespace theriac::merge {
namespace {

using tensorfile::DType;
using tensorfile::ModelFiles;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing_support::failure_of;
using testing_support::ScratchFolder;

Vocabulary vocabulary(const std::vector<std::string>& tokens,
                      const std::vector<std::string>& special = {}) {
  Vocabulary out;
  for (const auto& token : tokens) {
    const auto id = static_cast<std::int64_t>(out.ids.size());
    out.ids.emplace(token, id);
  }
  out.model_tokens = tokens.size();
  for (const auto& token : special) {
    AddedToken added;
    added.content = token;
    added.id = static_cast<std::int64_t>(out.ids.size());
    added.special = true;
    added.normalized = false;
    out.ids.emplace(token, added.id);
    out.added.push_back(added);
  }
  out.editable = true;
  return out;
}

// Models "base", "a" and "b".
class TokenizerPlanTest : public testing::Test {
 protected:
  void add(const std::string& name, Vocabulary vocabulary, std::int64_t rows = -1,
           bool merged = true) {
    if (rows < 0) rows = vocabulary.rows();
    vocabularies_.push_back(std::make_unique<Vocabulary>(std::move(vocabulary)));
    inputs_.push_back({name, vocabularies_.back().get(), rows, merged});
  }
  TokenizerPlan plan(const std::string& tokenizer, bool with_base = true) {
    const RecipeFile file = parse_recipe(
        "merge_method: linear\nmodels:\n  - model: base\n  - model: a\n  - model: b\n"
        "parameters: {weight: 1}\n" +
            tokenizer,
        "r.yml");
    const auto find = [this](const ModelReference& model) {
      for (std::size_t i = 0; i < inputs_.size(); ++i) {
        if (inputs_[i].name == model.text()) return i;
      }
      throw Error(Code::kInternal, "unknown");
    };
    return plan_tokenizer(file.recipes[0], inputs_,
                          with_base ? std::optional<std::size_t>(0) : std::nullopt, find);
  }
  // The default of a row, as "model:row" each.
  static std::vector<std::string> defaults(const TokenizerPlan& plan, std::size_t row) {
    std::vector<std::string> out;
    for (std::uint32_t i = plan.first_origin[row]; i < plan.first_origin[row + 1]; ++i) {
      out.push_back(std::to_string(plan.origins[i].model) + ":" +
                    std::to_string(plan.origins[i].row));
    }
    return out;
  }

  std::vector<std::unique_ptr<Vocabulary>> vocabularies_;
  std::vector<TokenizerInput> inputs_;
};

TEST_F(TokenizerPlanTest, UnionAppendsTheOthersTokensInOrder) {
  add("base", vocabulary({"x", "y"}, {"<s>"}));
  add("a", vocabulary({"y", "new", "x"}, {"<a>"}));
  add("b", vocabulary({"b", "new"}, {"<s>", "<a>"}));
  const TokenizerPlan p = plan("tokenizer_source: union\n");
  EXPECT_EQ(p.source, 0U);
  ASSERT_EQ(p.appended.size(), 3U);
  EXPECT_EQ(p.appended[0].content, "new");
  EXPECT_EQ(p.appended[0].id, 3);
  EXPECT_FALSE(p.appended[0].special);
  EXPECT_TRUE(p.appended[0].normalized);
  EXPECT_EQ(p.appended[1].content, "b");
  EXPECT_EQ(p.appended[2].content, "<a>");  // added tokens last
  EXPECT_TRUE(p.appended[2].special);
  EXPECT_EQ(p.rows, 6);
  EXPECT_THAT(p.own[0], ElementsAre(0, 1, 2, -1, -1, -1));
  EXPECT_THAT(p.own[1], ElementsAre(2, 0, -1, 1, -1, 3));
  EXPECT_THAT(p.own[2], ElementsAre(-1, -1, 2, 1, 0, 3));
  EXPECT_THAT(defaults(p, 0), ElementsAre("0:0"));         // the base has it
  EXPECT_THAT(defaults(p, 3), ElementsAre("1:1", "2:1"));  // several, not the base
  EXPECT_THAT(defaults(p, 4), ElementsAre("2:0"));         // only one
}

TEST_F(TokenizerPlanTest, BaseAndAModelAsSource) {
  add("base", vocabulary({"x", "y"}));
  add("a", vocabulary({"y", "z", "w"}));
  add("b", vocabulary({"x"}));
  const TokenizerPlan base = plan("tokenizer_source: base\n");
  EXPECT_THAT(base.appended, IsEmpty());
  EXPECT_EQ(base.rows, 2);
  EXPECT_THAT(base.own[1], ElementsAre(-1, 0));
  const TokenizerPlan model = plan("tokenizer_source: a\n");
  EXPECT_EQ(model.source, 1U);
  EXPECT_EQ(model.rows, 3);
  EXPECT_THAT(model.own[0], ElementsAre(1, -1, -1));
}

TEST_F(TokenizerPlanTest, TokensThatAreAskedFor) {
  add("base", vocabulary({"x", "y"}));
  add("a", vocabulary({"x", "y", "z"}));
  add("b", vocabulary({"x", "y"}));
  const TokenizerPlan p = plan(
      "tokenizer:\n  source: base\n  pad_to_multiple_of: 4\n  tokens:\n"
      "    x: {source: a, force: true}\n"
      "    y: {source: {kind: zero}}\n"
      "    n: {source: {kind: model_token, model: a, token: z}}\n"
      "    m: {source: {kind: model_token, model: b, token_id: 1}}\n"
      "    o: {}\n");
  ASSERT_EQ(p.appended.size(), 3U);  // n, m, o
  EXPECT_EQ(p.tokens, 5);
  EXPECT_EQ(p.rows, 8);
  EXPECT_THAT(p.own[0], ElementsAre(-1, 1, -1, -1, -1));
  EXPECT_THAT(defaults(p, 0), ElementsAre("1:0"));
  EXPECT_THAT(defaults(p, 1), IsEmpty());  // every model has it: no default is needed
  EXPECT_THAT(defaults(p, 2), ElementsAre("1:2"));
  EXPECT_THAT(defaults(p, 3), ElementsAre("2:1"));
  EXPECT_THAT(defaults(p, 4), IsEmpty());
  EXPECT_THAT(p.notes, Contains(HasSubstr("no model has an embedding for 1 tokens, such as 'o'")));
}

TEST_F(TokenizerPlanTest, NumbersBeyondTheEmbeddingHaveNoRow) {
  add("base", vocabulary({"x", "y", "z"}), 2);  // the embedding was cut
  add("a", vocabulary({"q", "z"}), 1);
  add("b", vocabulary({"x"}));
  const TokenizerPlan p = plan("tokenizer_source: union\n");
  EXPECT_EQ(p.rows, 4);
  EXPECT_THAT(p.own[0], ElementsAre(0, 1, -1, -1));
  EXPECT_THAT(p.own[1], ElementsAre(-1, -1, -1, 0));
  EXPECT_THAT(defaults(p, 2), IsEmpty());
}

TEST_F(TokenizerPlanTest, WithoutABaseSeveralRowsAreAveraged) {
  add("base", vocabulary({"x"}));
  add("a", vocabulary({"x"}));
  add("b", vocabulary({"y"}));
  EXPECT_THAT(defaults(plan("tokenizer_source: union\n", false), 0), ElementsAre("0:0", "1:0"));
  EXPECT_THAT(defaults(plan("tokenizer_source: union\n", true), 0), ElementsAre("0:0"));
}

TEST_F(TokenizerPlanTest, SaysWhatCannotBe) {
  add("base", vocabulary({"x"}));
  add("a", vocabulary({"y"}));
  add("b", vocabulary({"x"}));
  const auto missing = failure_of([&] {
    plan(
        "tokenizer: {source: base, tokens: {n: {source: {kind: model_token, model: a, token: "
        "x}}}}\n");
  });
  EXPECT_EQ(missing.value().code, Code::kInvalidArgument);
  EXPECT_THAT(missing->message, HasSubstr("none for the token 'x'"));
  EXPECT_THAT(failure_of([&] {
                plan(
                    "tokenizer: {source: base, tokens: {n: {source: {kind: model_token, model: "
                    "a, token_id: 1}}}}\n");
              })
                  .value()
                  .message,
              HasSubstr("the number 1 (its embedding has 1 rows)"));
  vocabularies_[0]->editable = false;
  EXPECT_EQ(failure_of([&] { plan("tokenizer_source: union\n"); }).value().code,
            Code::kUnsupported);
  EXPECT_FALSE(failure_of([&] { plan("tokenizer_source: base\n"); }));
}

// ---- rows

TEST(ArrangedEmbeddings, RowsAreOwnOrDefaultOrTheMean) {
  const ScratchFolder scratch;
  const std::string name = "model.embed_tokens.weight";
  toy::write_model(scratch / "a",
                   {{name, DType::kF32, {4, 3}},
                    {"lm_head.bias", DType::kF32, {4}},
                    {"model.norm.weight", DType::kF32, {3}}},
                   1);
  toy::write_model(scratch / "b", {{name, DType::kF16, {2, 3}}}, 2);
  std::vector<std::shared_ptr<const ModelFiles>> models;
  for (const char* model : {"a", "b"}) {
    models.push_back(std::make_shared<const ModelFiles>(ModelFiles::open(scratch / model)));
  }
  EXPECT_EQ(embedding_rows(*models[0]), 4);
  TokenizerPlan plan;
  plan.tokens = 5;
  plan.rows = 7;
  plan.own = {{1, 2, -1, -1, -1}, {-1, 0, 1, -1, -1}};
  plan.origins = {{0, 1}, {1, 1}, {0, 3}, {1, 0}};
  plan.first_origin = {0, 1, 1, 2, 4, 4};  // row 3: mean of a[3] and b[0]; row 4: zeros
  plan.own[1].clear();                     // "b" is a source of tokens only
  EXPECT_TRUE(failure_of([&] { arrange_embeddings(models, plan); }));  // no such head in "b"
  toy::write_model(scratch / "a",
                   {{name, DType::kF32, {4, 3}}, {"model.norm.weight", DType::kF32, {3}}}, 1);
  models[0] = std::make_shared<const ModelFiles>(ModelFiles::open(scratch / "a"));
  const auto out = arrange_embeddings(models, plan);
  const auto a = toy::floats(*models[0], name), b = toy::floats(*models[1], name);
  EXPECT_EQ(out[1].at(name).shape[0], 2U);
  EXPECT_EQ(out[0].at("model.norm.weight").computed, 0U);
  ASSERT_THAT(out[0].at(name).shape, ElementsAre(7, 3));
  EXPECT_EQ(out[0].at(name).bytes, 4U * 21);
  const auto got = toy::floats(out[0], name);
  for (std::size_t j = 0; j < 3; ++j) {
    const float rows[] = {a[3 + j], a[6 + j], b[3 + j], (a[9 + j] + b[j]) / 2, 0};
    float mean = 0;
    for (std::size_t i = 0; i < 5; ++i) {
      EXPECT_FLOAT_EQ(got[3 * i + j], rows[i]) << i << " " << j;
      mean += rows[i] / 5;
    }
    EXPECT_NEAR(got[15 + j], mean, 1e-6);
    EXPECT_EQ(got[18 + j], got[15 + j]);
  }
  for (std::size_t first = 0; first < 21; ++first) {
    for (std::size_t count = 1; first + count <= 21; ++count) {
      std::vector<float> part(count);
      out[0].read_floats(out[0].at(name), first, count, part.data(), nullptr);
      EXPECT_TRUE(
          std::equal(part.begin(), part.end(), got.begin() + static_cast<std::ptrdiff_t>(first)));
    }
  }
}

TEST(ArrangedEmbeddings, RefuseOtherWidths) {
  const ScratchFolder scratch;
  toy::write_model(scratch / "a", {{"wte.weight", DType::kF32, {2, 3}}}, 1);
  toy::write_model(scratch / "b", {{"wte.weight", DType::kF32, {2, 4}}}, 2);
  std::vector<std::shared_ptr<const ModelFiles>> models;
  for (const char* model : {"a", "b"}) {
    models.push_back(std::make_shared<const ModelFiles>(ModelFiles::open(scratch / model)));
  }
  TokenizerPlan plan;
  plan.tokens = plan.rows = 1;
  plan.own = {{0}, {0}};
  plan.first_origin = {0, 0};
  EXPECT_EQ(failure_of([&] { arrange_embeddings(models, plan); }).value().code, Code::kDataError);
}

TEST(TokenizerFiles, TokensAreAppendedToTheText) {
  AddedToken token;
  token.content = "<\"n\">";
  token.id = 7;
  token.special = true;
  const std::string before = R"({"added_tokens": [{"id": 3, "content": "<s>"}], "x": 1e-6})";
  const std::string after = with_tokens(before, {token});
  EXPECT_THAT(after, HasSubstr("\"x\": 1e-6"));
  const Json json = parse_json(after, "t");
  EXPECT_EQ(json.at("added_tokens").size(), 2U);
  EXPECT_EQ(json.at("added_tokens")[1], token.json());
  EXPECT_EQ(with_tokens(before, {}), before);
  EXPECT_EQ(parse_json(with_tokens("{}", {token}), "t").at("added_tokens").size(), 1U);
  const Json config =
      parse_json(config_with_tokens(R"({"added_tokens_decoder": {}, "b": 2})", {token}), "t");
  EXPECT_EQ(config.at("added_tokens_decoder").at("7").at("content"), "<\"n\">");
  EXPECT_EQ(config_with_tokens("{\"b\": 2}", {token}), "{\"b\": 2}");
  EXPECT_EQ(parse_json(list_with_tokens("{\"q\": 1}", {token}), "t").at("<\"n\">"), 7);
}

}  // namespace
}  // namespace theriac::merge
