#include "cpp/core/merge/adapted_model.h"

#include <gmock/gmock.h>

#include <cmath>

#include "cpp/core/base/test_support.h"
#include "cpp/core/merge/adapter_for_test.h"

namespace theriac::merge {
namespace {

using tensorfile::Adapter;
using tensorfile::DType;
using tensorfile::ModelFiles;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing_support::detail;
using testing_support::failure_of;
using testing_support::ScratchFolder;
using toy::Spec;

const std::string kUp = "model.layers.0.mlp.up_proj";
const std::string kPeft = "base_model.model.";

class AdaptedModelTest : public testing::Test {
 protected:
  AdaptedModel apply(const std::vector<Spec>& model, const std::vector<Spec>& adapter,
                     const std::string& config, const std::string& model_config = "{}",
                     std::optional<DType> dtype = std::nullopt) {
    toy::write_model(scratch_ / "model", model, 1, model_config);
    toy::write_adapter(scratch_ / "adapter", adapter, 2, config);
    model_ = std::make_shared<const ModelFiles>(ModelFiles::open(scratch_ / "model"));
    adapter_ = std::make_shared<const Adapter>(Adapter::open(scratch_ / "adapter"));
    return apply_adapter(model_, adapter_, dtype);
  }
  static std::vector<float> floats(const ModelFiles& model, const std::string& name) {
    const auto& record = model.at(name);
    std::size_t count = 1;
    for (const std::uint64_t size : record.shape) count *= static_cast<std::size_t>(size);
    std::vector<float> out(count);
    std::vector<char> raw(8 * count);
    model.read_floats(record, 0, count, out.data(), raw.data());
    return out;
  }
  std::vector<float> w(const std::string& name) const { return floats(*model_, name); }
  std::vector<float> l(const std::string& name) const {
    return floats(adapter_->files(), kPeft + name);
  }
  // W + s * B A for W [rows, columns], in double.
  std::vector<double> sum(const std::string& module, std::size_t rows, std::size_t columns,
                          std::size_t rank, double s) const {
    const auto weight = w(module + ".weight"), a = l(module + ".lora_A.weight"),
               b = l(module + ".lora_B.weight");
    std::vector<double> out(weight.begin(), weight.end());
    for (std::size_t i = 0; i < rows; ++i) {
      for (std::size_t j = 0; j < columns; ++j) {
        for (std::size_t k = 0; k < rank; ++k) {
          out[i * columns + j] += s * double{b[i * rank + k]} * a[k * columns + j];
        }
      }
    }
    return out;
  }
  static void expect_near(const std::vector<float>& got, const std::vector<double>& wanted) {
    ASSERT_EQ(got.size(), wanted.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], wanted[i], 1e-5 * std::max(1.0, std::abs(wanted[i]))) << i;
    }
  }

  ScratchFolder scratch_;
  std::shared_ptr<const ModelFiles> model_;
  std::shared_ptr<const Adapter> adapter_;
};

TEST_F(AdaptedModelTest, AddsTheScaledProduct) {
  std::vector<Spec> lora;
  toy::add_module(lora, kUp, 11, 6, 3, DType::kBF16);
  const auto out =
      apply(toy::decoder_specs(), lora, R"({"peft_type": "LORA", "r": 3, "lora_alpha": 6})");
  expect_near(floats(out.files, kUp + ".weight"), sum(kUp, 11, 6, 3, 2));
  EXPECT_EQ(out.files.at(kUp + ".weight").dtype, DType::kBF16);
  EXPECT_THAT(out.files.warnings(), IsEmpty());
  EXPECT_THAT(out.config_edits, IsEmpty());
  // What the adapter does not name stays where it is.
  EXPECT_EQ(out.files.at("lm_head.weight").computed, 0U);
  EXPECT_EQ(floats(out.files, "lm_head.weight"), w("lm_head.weight"));
}

TEST_F(AdaptedModelTest, RoundsOnceWhenReadAsBytes) {
  std::vector<Spec> lora;
  toy::add_module(lora, kUp, 11, 6, 3);
  const auto out = apply(toy::decoder_specs(), lora, R"({"r": 3, "lora_alpha": 6})");
  const auto& record = out.files.at(kUp + ".weight");
  const auto exact = floats(out.files, record.name);
  std::vector<char> wanted(2 * exact.size());
  tensorfile::from_float(DType::kBF16, exact.data(), exact.size(), wanted.data());
  const std::string bytes = out.files.read(record);
  EXPECT_EQ(bytes, std::string(wanted.begin(), wanted.end()));
  for (std::size_t first = 0; first < bytes.size(); first += 5) {  // also inside elements
    std::string part(std::min<std::size_t>(7, bytes.size() - first), '\0');
    out.files.read(record, first, std::span<char>(part));
    EXPECT_EQ(part, bytes.substr(first, part.size())) << first;
  }
}

TEST_F(AdaptedModelTest, DoesNotDependOnHowItIsRead) {
  std::vector<Spec> lora, dora;
  toy::add_module(lora, kUp, 11, 6, 3);
  dora = lora;
  dora.push_back({kPeft + kUp + ".lora_magnitude_vector", DType::kF32, {11}});
  for (const bool with_magnitude : {false, true}) {
    const auto out = apply(toy::decoder_specs(), with_magnitude ? dora : lora,
                           with_magnitude ? R"({"r": 3, "use_dora": true})" : R"({"r": 3})");
    const auto whole = floats(out.files, kUp + ".weight");
    for (std::size_t first = 0; first < whole.size(); ++first) {
      for (const std::size_t count : {1U, 5U, 6U, 13U, 66U}) {
        if (first + count > whole.size()) continue;
        std::vector<float> part(count);
        char raw[1];  // not used for computed tensors
        out.files.read_floats(out.files.at(kUp + ".weight"), first, count, part.data(), raw);
        EXPECT_TRUE(std::equal(part.begin(), part.end(),
                               whole.begin() + static_cast<std::ptrdiff_t>(first)))
            << first << " " << count;
      }
    }
  }
}

TEST_F(AdaptedModelTest, ScalesAsTheConfigurationSays) {
  const std::string q = "model.layers.1.attn.q_proj";
  std::vector<Spec> lora;
  toy::add_module(lora, kUp, 11, 6, 4);
  toy::add_module(lora, q, 6, 6, 2);
  const auto out = apply(toy::decoder_specs(), lora,
                         R"({"r": 4, "lora_alpha": 8, "use_rslora": true,
                             "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3}})");
  expect_near(floats(out.files, kUp + ".weight"), sum(kUp, 11, 6, 4, 8 / 2.0));
  expect_near(floats(out.files, q + ".weight"), sum(q, 6, 6, 2, 3 / std::sqrt(2.0)));
  EXPECT_THAT(out.files.warnings(), IsEmpty());
}

TEST_F(AdaptedModelTest, TransposesWhereTheWeightIsStoredSo) {
  // GPT-2's modules store [in, out]; A is [r, in], B [out, r].
  const std::vector<Spec> model{{"h.0.attn.c_attn.weight", DType::kF32, {5, 9}}};
  std::vector<Spec> lora;
  toy::add_module(lora, "transformer.h.0.attn.c_attn", 9, 5, 2);
  const auto out = apply(model, lora, R"({"r": 2, "lora_alpha": 2, "fan_in_fan_out": true})");
  const auto weight = w("h.0.attn.c_attn.weight");
  const auto a = l("transformer.h.0.attn.c_attn.lora_A.weight");
  const auto b = l("transformer.h.0.attn.c_attn.lora_B.weight");
  std::vector<double> wanted(weight.begin(), weight.end());
  for (std::size_t in = 0; in < 5; ++in) {
    for (std::size_t o = 0; o < 9; ++o) {
      for (std::size_t k = 0; k < 2; ++k)
        wanted[in * 9 + o] += double{b[o * 2 + k]} * a[k * 5 + in];
    }
  }
  expect_near(floats(out.files, "h.0.attn.c_attn.weight"), wanted);
}

TEST_F(AdaptedModelTest, ChangesEmbeddings) {
  const std::vector<Spec> lora{
      {kPeft + "model.embed_tokens.lora_embedding_A", DType::kF32, {2, 10}},
      {kPeft + "model.embed_tokens.lora_embedding_B", DType::kF32, {6, 2}}};
  const auto out = apply(toy::decoder_specs(), lora, R"({"r": 2, "lora_alpha": 1})");
  const auto weight = w("model.embed_tokens.weight");
  const auto a = l("model.embed_tokens.lora_embedding_A");
  const auto b = l("model.embed_tokens.lora_embedding_B");
  std::vector<double> wanted(weight.begin(), weight.end());
  for (std::size_t v = 0; v < 10; ++v) {
    for (std::size_t h = 0; h < 6; ++h) {
      for (std::size_t k = 0; k < 2; ++k) wanted[v * 6 + h] += .5 * b[h * 2 + k] * a[k * 10 + v];
    }
  }
  expect_near(floats(out.files, "model.embed_tokens.weight"), wanted);
}

TEST_F(AdaptedModelTest, ChangesConvolutions) {
  const std::vector<Spec> model{{"conv.weight", DType::kF32, {4, 3, 2, 2}}};
  const std::vector<Spec> lora{{kPeft + "conv.lora_A.weight", DType::kF32, {2, 3, 2, 2}},
                               {kPeft + "conv.lora_B.weight", DType::kF32, {4, 2, 1, 1}}};
  const auto out = apply(model, lora, R"({"r": 2, "lora_alpha": 2})");
  expect_near(floats(out.files, "conv.weight"), sum("conv", 4, 12, 2, 1));
}

TEST_F(AdaptedModelTest, NormalisesRowsForDora) {
  std::vector<Spec> lora;
  toy::add_module(lora, kUp, 11, 6, 3);
  lora.push_back({kPeft + kUp + ".lora_magnitude_vector", DType::kF32, {11}});
  const auto out =
      apply(toy::decoder_specs(), lora, R"({"r": 3, "lora_alpha": 6, "use_dora": true})");
  auto wanted = sum(kUp, 11, 6, 3, 2);
  const auto magnitude = l(kUp + ".lora_magnitude_vector");
  for (std::size_t i = 0; i < 11; ++i) {
    double squares = 0;
    for (std::size_t j = 0; j < 6; ++j) squares += wanted[i * 6 + j] * wanted[i * 6 + j];
    for (std::size_t j = 0; j < 6; ++j) wanted[i * 6 + j] *= magnitude[i] / std::sqrt(squares);
  }
  expect_near(floats(out.files, kUp + ".weight"), wanted);
}

TEST_F(AdaptedModelTest, ReplacesWhatTheAdapterSavesWhole) {
  std::vector<Spec> model = toy::decoder_specs();
  model.push_back({kUp + ".bias", DType::kF16, {11}});
  std::vector<Spec> lora;
  toy::add_module(lora, kUp, 11, 6, 1);
  lora.push_back({kPeft + kUp + ".lora_B.bias", DType::kF32, {11}});
  lora.push_back({kPeft + "model.norm.weight", DType::kF32, {}});
  lora.push_back({kPeft + "model.embed_tokens.weight", DType::kF32, {12, 6}});  // resized
  const auto out = apply(model, lora, R"({"r": 1, "lora_alpha": 2, "lora_bias": true,
                                          "modules_to_save": ["norm"]})");
  EXPECT_EQ(floats(out.files, "model.norm.weight"), l("model.norm.weight"));
  EXPECT_EQ(floats(out.files, "model.embed_tokens.weight"), l("model.embed_tokens.weight"));
  EXPECT_EQ(out.files.at("model.embed_tokens.weight").shape[0], 12U);
  const auto bias = w(kUp + ".bias"), more = l(kUp + ".lora_B.bias");
  for (std::size_t i = 0; i < 11; ++i) {
    EXPECT_FLOAT_EQ(floats(out.files, kUp + ".bias")[i], bias[i] + 2 * more[i]);
  }
}

TEST_F(AdaptedModelTest, UntiesAHeadThatItChanges) {
  auto specs = toy::decoder_specs();
  specs.pop_back();  // the head is the embedding
  std::vector<Spec> lora;
  toy::add_module(lora, "lm_head", 10, 6, 1);
  const auto out = apply(specs, lora, R"({"r": 1})", R"({"tie_word_embeddings": true, "b": 1})");
  const auto embedding = w("model.embed_tokens.weight");
  const auto a = l("lm_head.lora_A.weight"), b = l("lm_head.lora_B.weight");
  const auto head = floats(out.files, "lm_head.weight");
  for (std::size_t i = 0; i < 60; ++i) {
    EXPECT_NEAR(head[i], embedding[i] + 8 * b[i / 6] * a[i % 6], 1e-5);
  }
  EXPECT_EQ(floats(out.files, "model.embed_tokens.weight"), embedding);
  EXPECT_EQ(out.files.config().at("tie_word_embeddings"), false);
  ASSERT_EQ(out.config_edits.size(), 1U);
  EXPECT_EQ(out.config_edits[0].key, "tie_word_embeddings");
  EXPECT_THAT(out.files.warnings(), Contains(HasSubstr("changes the output head")));
}

TEST_F(AdaptedModelTest, AnEmbeddingThatItChangesStaysTied) {
  auto specs = toy::decoder_specs();
  specs.pop_back();
  const std::vector<Spec> lora{
      {kPeft + "model.embed_tokens.lora_embedding_A", DType::kF32, {2, 10}},
      {kPeft + "model.embed_tokens.lora_embedding_B", DType::kF32, {6, 2}}};
  const auto out = apply(specs, lora, R"({"r": 2})", R"({"tie_word_embeddings": true})");
  EXPECT_EQ(out.files.find("lm_head.weight"), nullptr);
  EXPECT_THAT(out.config_edits, IsEmpty());
}

TEST_F(AdaptedModelTest, CountsAsTheTypeThatIsAskedFor) {
  std::vector<Spec> lora;
  toy::add_module(lora, kUp, 11, 6, 3);
  const auto out = apply(toy::decoder_specs(), lora, R"({"r": 3})", "{}", DType::kF32);
  EXPECT_EQ(out.files.at(kUp + ".weight").dtype, DType::kF32);
  EXPECT_EQ(out.files.at(kUp + ".weight").bytes, 4U * 66);
  EXPECT_EQ(out.files.at("lm_head.weight").dtype, DType::kBF16);
}

TEST_F(AdaptedModelTest, SaysWhatDoesNotFit) {
  const auto failure = [this](const std::string& module, std::uint64_t out, std::uint64_t in,
                              const std::string& config) {
    std::vector<Spec> lora;
    toy::add_module(lora, module, out, in, 2);
    if (config.find("dora") != std::string::npos) {
      lora.push_back({kPeft + module + ".lora_magnitude_vector", DType::kF32, {out}});
    }
    return failure_of([&] { apply(toy::decoder_specs(), lora, config); }).value();
  };
  const Failure unknown = failure("model.layers.0.mlp.up_prj", 11, 6, R"({"r": 2})");
  EXPECT_EQ(unknown.code, Code::kDataError);
  EXPECT_THAT(unknown.message, HasSubstr("nearest is 'model.layers.0.mlp.up_proj.weight'"));
  EXPECT_EQ(detail(unknown, "tensor"), "base_model.model.model.layers.0.mlp.up_prj.lora_A.weight");
  EXPECT_THAT(failure(kUp, 6, 11, R"({"r": 2})").message,
              HasSubstr("A [2, 11] and B [6, 2] do not fit"));
  EXPECT_THAT(failure(kUp, 11, 6, R"({"r": 2, "fan_in_fan_out": true})").message,
              HasSubstr("whose transpose they change"));
  EXPECT_EQ(failure(kUp, 6, 11, R"({"r": 2, "fan_in_fan_out": true, "use_dora": true})").code,
            Code::kUnsupported);
  EXPECT_THAT(failure("model.layers.0.position_ids", 5, 1, R"({"r": 2})").message,
              HasSubstr("has no tensor"));
}

}  // namespace
}  // namespace theriac::merge
