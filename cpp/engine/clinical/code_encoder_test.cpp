#include "cpp/engine/clinical/code_encoder.h"

#include <gtest/gtest.h>
#include <set>

#include <cmath>
#include <functional>
#include <numeric>

#include "cpp/engine/clinical/position_encoding.h"

namespace theriac::clinical {
namespace {

using codes::Hierarchy;
using codes::MedicalCode;
using codes::System;
using How = CodeReading::How;

constexpr std::int64_t kDim = 6;

// Vectors that tell nodes apart: row i of an ICD-9 tree.
RelationTables make_tables(std::vector<std::string> listed = {"4280", "4281", "42831", "25000",
                                                              "25001", "E8121"}) {
  auto table = std::make_shared<RelationTable>();
  table->system = System::kIcd9cm;
  table->tree = Hierarchy::closure(System::kIcd9cm, listed);
  table->vectors = at::empty({static_cast<std::int64_t>(table->tree.size()), kDim});
  tensor::fill_normal(table->vectors, 0, 1, 11, "test");
  return {table};
}

// 42832 is not in the tree (its category is); E119 and 99 are of systems without a table.
data::Vocabulary make_vocabulary() {
  return data::Vocabulary({{System::kIcd9cm, "4280"},
                           {System::kIcd9cm, "25001"},
                           {System::kIcd9cm, "42832"},
                           {System::kIcd9cm, "E8121"},
                           {System::kIcd10cm, "E119"},
                           {System::kCpt, "99213"}});
}

EncoderOptions parts(bool relation, bool position, bool id) {
  EncoderOptions options;
  options.dim = kDim;
  options.use_relation = relation;
  options.use_position = position;
  options.use_id = id;
  return options;
}

at::Tensor ids_of(std::vector<std::int64_t> ids) { return at::tensor(ids, at::kLong); }

at::Tensor vector_of(const RelationTables& tables, const std::string& node) {
  return tables[0]->vectors[static_cast<std::int64_t>(tables[0]->tree.find(node).value())];
}

// What add_code adds, starting from zero.
std::pair<CodeReading, at::Tensor> added(const CodeEncoder& encoder, const MedicalCode& code) {
  at::Tensor sum = at::zeros({encoder.dim()});
  const CodeReading reading =
      encoder.add_code(code, {sum.data_ptr<float>(), static_cast<std::size_t>(encoder.dim())});
  return {reading, sum};
}

TEST(CodeEncoder, RelationIsTheNodeOrItsNearestAncestor) {
  const RelationTables tables = make_tables();
  CodeEncoder encoder(parts(true, false, false), make_vocabulary(), tables, 1, "diagnoses");
  EXPECT_TRUE(encoder.parameters().empty());
  const at::Tensor vectors = encoder.encode(ids_of({0, 2, 4, 5}));
  EXPECT_TRUE(at::equal(vectors[0], vector_of(tables, "4280")));
  EXPECT_TRUE(at::equal(vectors[1], vector_of(tables, "4283")));
  EXPECT_TRUE(at::equal(vectors[2], at::zeros({kDim})));  // no tree of its system
  EXPECT_TRUE(at::equal(vectors[3], at::zeros({kDim})));
  EncoderOptions strict = parts(true, false, false);
  strict.unknown = "zero";
  CodeEncoder zero(strict, make_vocabulary(), tables, 1, "diagnoses");
  EXPECT_TRUE(at::equal(zero.encode(ids_of({2}))[0], at::zeros({kDim})));
}

TEST(CodeEncoder, PositionIsReluOfTheFormula) {
  CodeEncoder encoder(parts(false, true, false), make_vocabulary(), {}, 1, "diagnoses");
  const auto parameters = encoder.named_parameters();
  const at::Tensor weight = parameters["position.weight"], bias = parameters["position.bias"];
  ASSERT_EQ(weight.size(0), kDim);
  const at::Tensor vectors = encoder.encode(ids_of({0, 0, 3}));
  EXPECT_TRUE((vectors >= 0).all().item<bool>());
  EXPECT_TRUE(at::equal(vectors[0], vectors[1]));
  EXPECT_FALSE(at::equal(vectors[0], vectors[2]));
  const PositionEncoding characters(7, SlotLayout::kAligned, make_vocabulary().codes());
  std::vector<std::int32_t> features(8);
  characters.features({System::kIcd9cm, "E8121"}, features);
  at::Tensor expected = bias.detach().clone();
  for (const std::int32_t feature : features) expected += weight.detach().select(1, feature);
  EXPECT_TRUE(at::allclose(vectors[2], expected.relu(), 1e-5, 1e-6));
  // With zero weights only the bias is left.
  {
    const torch::NoGradGuard no_grad;
    weight.zero_();
  }
  EXPECT_TRUE(at::allclose(encoder.encode(ids_of({0}))[0], bias.relu()));
}

TEST(CodeEncoder, PartsAddUp) {
  const RelationTables tables = make_tables();
  const data::Vocabulary vocabulary = make_vocabulary();
  const at::Tensor ids = ids_of({5, 0, 3, 2});
  const auto encode = [&](bool relation, bool position, bool id) {
    CodeEncoder encoder(parts(relation, position, id), vocabulary, tables, 1, "diagnoses");
    return encoder.encode(ids).detach();
  };
  const at::Tensor sum =
      encode(true, false, false) + encode(false, true, false) + encode(false, false, true);
  EXPECT_TRUE(at::allclose(encode(true, true, true), sum, 1e-6, 1e-6));
}

TEST(CodeEncoder, GradientsReachPositionAndIdAndNeverTheRelation) {
  const RelationTables tables = make_tables();
  const at::Tensor before = tables[0]->vectors.clone();
  CodeEncoder encoder(parts(true, true, true), make_vocabulary(), tables, 1, "diagnoses");
  std::vector<std::string> names;
  for (const auto& item : encoder.named_parameters()) names.push_back(item.key());
  EXPECT_EQ(names, (std::vector<std::string>{"position.weight", "position.bias", "id.weight"}));
  EXPECT_TRUE(encoder.buffers().empty());
  encoder.pool(ids_of({0, 1, 1, 2}), ids_of({0, 2, 4})).sum().backward();
  for (const auto& item : encoder.named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_GT(item.value().grad().abs().sum().item<float>(), 0) << item.key();
  }
  const at::Tensor id_gradient = encoder.named_parameters()["id.weight"].grad();
  EXPECT_TRUE(
      at::equal(id_gradient.select(1, 0), at::tensor({1.0F, 2.0F, 1.0F, 0.0F, 0.0F, 0.0F})));
  EXPECT_FALSE(tables[0]->vectors.requires_grad());
  EXPECT_TRUE(at::equal(tables[0]->vectors, before));
}

TEST(CodeEncoder, HasThePublishedNumberOfParameters) {
  std::set<MedicalCode> distinct;
  for (int i = 0; i < 1000; ++i) {
    const std::string digits = std::to_string(1000 + i).substr(1);
    for (const std::string& text : {digits, digits + digits.substr(1), "V" + digits.substr(1),
                                    "E" + digits + digits.substr(2)}) {
      distinct.insert({System::kIcd9cm, text});
    }
  }
  const std::vector<MedicalCode> codes(distinct.begin(), distinct.end());
  EncoderOptions options = parts(false, true, false);
  options.dim = 128;
  CodeEncoder encoder(options, data::Vocabulary(codes), {}, 0, "diagnoses");
  std::int64_t count = 0;
  for (const at::Tensor& p : encoder.parameters()) count += p.numel();
  EXPECT_EQ(count, 7424);
}

TEST(CodeEncoder, PoolIsTheSumOfEachSetAndExactlyZeroForAnEmptyOne) {
  CodeEncoder encoder(parts(true, true, true), make_vocabulary(), make_tables(), 1, "diagnoses");
  // Fewer ids than codes, and more.
  for (const auto& [ids, offsets] :
       {std::pair{std::vector<std::int64_t>{3, 0, 3}, std::vector<std::int64_t>{0, 0, 2, 3, 3}},
        std::pair{std::vector<std::int64_t>{3, 0, 3, 1, 2, 4, 5, 0, 1},
                  std::vector<std::int64_t>{0, 0, 2, 9, 9}}}) {
    const at::Tensor pooled = encoder.pool(ids_of(ids), ids_of(offsets));
    ASSERT_EQ(pooled.sizes(), (at::IntArrayRef{4, kDim}));
    const at::Tensor each = encoder.encode(ids_of(ids));
    for (std::size_t set = 0; set + 1 < offsets.size(); ++set) {
      const at::Tensor expected = each.slice(0, offsets[set], offsets[set + 1]).sum(0);
      EXPECT_TRUE(at::allclose(pooled[static_cast<std::int64_t>(set)], expected, 1e-5, 1e-6))
          << set;
    }
    EXPECT_TRUE(at::equal(pooled[0], at::zeros({kDim})));
    EXPECT_TRUE(at::equal(pooled[3], at::zeros({kDim})));
  }
  const at::Tensor nothing = encoder.pool(ids_of({}), ids_of({0, 0, 0}));
  EXPECT_TRUE(at::equal(nothing, at::zeros({2, kDim})));
}

TEST(CodeEncoder, OrderAndCompanyOfASetDoNotMatter) {
  CodeEncoder encoder(parts(true, true, false), make_vocabulary(), make_tables(), 1, "diagnoses");
  const at::Tensor alone = encoder.pool(ids_of({0, 3, 1}), ids_of({0, 3}))[0];
  const at::Tensor permuted = encoder.pool(ids_of({1, 0, 3}), ids_of({0, 3}))[0];
  const at::Tensor among = encoder.pool(ids_of({5, 2, 4, 1, 0, 3, 3}), ids_of({0, 3, 6, 7}))[1];
  EXPECT_TRUE(at::allclose(alone, permuted, 0, 1e-5));
  EXPECT_TRUE(at::allclose(alone, among, 0, 1e-5));
}

TEST(CodeEncoder, FrozenTableIsTheEncodingAndAddCodeItsRow) {
  const data::Vocabulary vocabulary = make_vocabulary();
  CodeEncoder encoder(parts(true, true, true), vocabulary, make_tables(), 1, "diagnoses");
  const at::Tensor table = encoder.frozen_table();
  std::vector<std::int64_t> all(static_cast<std::size_t>(vocabulary.size()));
  std::iota(all.begin(), all.end(), 0);
  EXPECT_TRUE(at::allclose(table, encoder.encode(ids_of(all)), 1e-5, 1e-6));
  EXPECT_FALSE(table.requires_grad());
  for (std::int32_t id = 0; id < vocabulary.size(); ++id) {
    const auto [reading, sum] = added(encoder, vocabulary.code(id));
    EXPECT_EQ(reading.how, How::kKnown);
    EXPECT_TRUE(at::equal(sum, table[id])) << id;
  }
  EXPECT_EQ(added(encoder, vocabulary.code(2)).first.relation_node, "4283");
  EXPECT_EQ(added(encoder, vocabulary.code(4)).first.relation_node, "");
}

TEST(CodeEncoder, AddCodeAddsToWhatIsThere) {
  CodeEncoder encoder(parts(true, true, false), make_vocabulary(), make_tables(), 1, "diagnoses");
  std::vector<float> sum(kDim, 0.0F);
  encoder.add_code({System::kIcd9cm, "4280"}, sum);
  encoder.add_code({System::kIcd9cm, "25001"}, sum);
  const at::Tensor pooled = encoder.pool(ids_of({0, 1}), ids_of({0, 2}))[0];
  EXPECT_TRUE(at::allclose(at::tensor(sum), pooled, 1e-5, 1e-6));
}

TEST(CodeEncoder, UnseenCodesAreReadByTheTreeAndTheirCharacters) {
  const RelationTables tables = make_tables();
  CodeEncoder both(parts(true, true, false), make_vocabulary(), tables, 1, "diagnoses");
  CodeEncoder relation(parts(true, false, false), make_vocabulary(), tables, 1, "diagnoses");
  CodeEncoder position(parts(false, true, false), make_vocabulary(), tables, 1, "diagnoses");

  // In the tree, not in the vocabulary.
  const MedicalCode unseen{System::kIcd9cm, "4281"};
  EXPECT_EQ(added(both, unseen).first.how, How::kUnseen);
  EXPECT_EQ(added(both, unseen).first.relation_node, "4281");
  EXPECT_TRUE(at::equal(added(relation, unseen).second, vector_of(tables, "4281")));

  // In neither: its ancestor's relation, its own characters.
  const MedicalCode retired{System::kIcd9cm, "25003"};
  const auto [reading, sum] = added(both, retired);
  EXPECT_EQ(reading.how, How::kSubstituted);
  EXPECT_EQ(reading.relation_node, "2500");
  EXPECT_TRUE(at::equal(added(relation, retired).second, vector_of(tables, "2500")));
  EXPECT_TRUE(at::allclose(sum, vector_of(tables, "2500") + added(position, retired).second));
  EXPECT_FALSE(at::equal(added(position, retired).second,
                         added(position, {System::kIcd9cm, "25001"}).second));

  // Characters alone carry a code whose system the vocabulary knows, without a tree.
  EXPECT_EQ(added(both, {System::kIcd10cm, "E110"}).first.how, How::kUnseen);
  EXPECT_EQ(added(both, {System::kIcd10cm, "E110"}).first.relation_node, "");
  EXPECT_EQ(added(relation, {System::kIcd10cm, "E110"}).first.how, How::kUnusable);
}

TEST(CodeEncoder, CodesThatSayNothingAreUnusableAndAddNothing) {
  const RelationTables tables = make_tables();
  CodeEncoder both(parts(true, true, true), make_vocabulary(), tables, 1, "diagnoses");
  CodeEncoder id_only(parts(false, false, true), make_vocabulary(), tables, 1, "diagnoses");
  const std::vector<std::pair<const CodeEncoder*, MedicalCode>> cases = {
      {&both, {System::kSnomed, "73211009"}},  // no tree, and characters that mean something else
      {&both, {System::kIcd9cm, "NOCODE!"}},   // not of the system's form
      {&both, {System::kIcd9cm, ""}},
      {&id_only, {System::kIcd9cm, "4281"}},  // an id table knows its vocabulary only
  };
  for (const auto& [encoder, code] : cases) {
    const auto [reading, sum] = added(*encoder, code);
    EXPECT_EQ(reading.how, How::kUnusable) << code.text;
    EXPECT_TRUE(at::equal(sum, at::zeros({kDim}))) << code.text;
  }
  EXPECT_EQ(added(id_only, {System::kIcd9cm, "4280"}).first.how, How::kKnown);
}

TEST(CodeEncoder, RefusesNoPartsAndTablesOfAnotherWidth) {
  for (const auto& make : std::vector<std::function<void()>>{
           [] {
             CodeEncoder(parts(false, false, false), make_vocabulary(), make_tables(), 1, "d");
           },
           [] {
             EncoderOptions options = parts(true, true, false);
             options.dim = kDim + 1;
             CodeEncoder(options, make_vocabulary(), make_tables(), 1, "d");
           }}) {
    try {
      make();
      ADD_FAILURE() << "was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kInvalidArgument);
    }
  }
  EXPECT_THROW(EncoderOptions::table().parse(Json{{"layout", "x"}}), Error);
}

TEST(CodeEncoder, TwoEncodersShareOneTableAndSeedsDecideTheRest) {
  const RelationTables tables = make_tables();
  const auto make = [&](std::uint64_t seed, const std::string& name) {
    return CodeEncoder(parts(true, true, true), make_vocabulary(), tables, seed, name)
        .frozen_table();
  };
  EXPECT_TRUE(at::equal(make(1, "diagnoses"), make(1, "diagnoses")));
  EXPECT_FALSE(at::equal(make(1, "diagnoses"), make(2, "diagnoses")));
  EXPECT_FALSE(at::equal(make(1, "diagnoses"), make(1, "procedures")));
}

TEST(CodeEncoder, AnEmptyVocabularyStillReadsCodes) {
  const RelationTables tables = make_tables();
  CodeEncoder encoder(parts(true, true, false), data::Vocabulary(), tables, 1, "diagnoses");
  EXPECT_EQ(encoder.frozen_table().sizes(), (at::IntArrayRef{0, kDim}));
  EXPECT_TRUE(
      at::equal(added(encoder, {System::kIcd9cm, "4280"}).second, vector_of(tables, "4280")));
}

TEST(CodeEncoder, StateRoundTripsAndWorksInInferenceMode) {
  const RelationTables tables = make_tables();
  CodeEncoder first(parts(true, true, true), make_vocabulary(), tables, 1, "diagnoses");
  CodeEncoder second(parts(true, true, true), make_vocabulary(), tables, 2, "diagnoses");
  tensor::load_state(second, tensor::state_of(first));
  const c10::InferenceMode guard;
  EXPECT_TRUE(at::equal(first.frozen_table(), second.frozen_table()));
  EXPECT_TRUE(at::equal(first.pool(ids_of({0, 3}), ids_of({0, 2})),
                        second.pool(ids_of({0, 3}), ids_of({0, 2}))));
}

TEST(CodeEncoder, MovesToTheGpuWithItsRelationVectors) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  CodeEncoder encoder(parts(true, true, true), make_vocabulary(), make_tables(), 1, "diagnoses");
  const at::Tensor expected = encoder.pool(ids_of({0, 3, 2}), ids_of({0, 2, 3})).detach();
  const at::Tensor table = encoder.frozen_table();
  encoder.to(at::Device(at::kCUDA));
  const at::Tensor pooled = encoder.pool(ids_of({0, 3, 2}).cuda(), ids_of({0, 2, 3}).cuda());
  EXPECT_TRUE(at::allclose(pooled.cpu(), expected, 1e-4, 1e-5));
  EXPECT_TRUE(at::equal(encoder.frozen_table(), table));
}

}  // namespace
}  // namespace theriac::clinical
