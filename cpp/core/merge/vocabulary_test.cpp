#include "cpp/core/merge/vocabulary.h"

#include <gmock/gmock.h>

#include "cpp/core/base/file.h"
#include "cpp/core/base/test_support.h"

namespace theriac::merge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::UnorderedElementsAre;
using testing_support::failure_of;
using testing_support::ScratchFolder;

const std::string kBpe = R"({"version": "1.0",
  "added_tokens": [
    {"id": 3, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": true,
     "normalized": false, "special": true},
    {"id": 1, "content": "b", "special": false}],
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})";

TEST(VocabularyReading, TokensOfTheModelAndAddedOnes) {
  const Vocabulary v = parse_tokenizer_json(kBpe, "t");
  EXPECT_THAT(v.ids,
              UnorderedElementsAre(Pair("a", 0), Pair("b", 1), Pair("ab", 2), Pair("<s>", 3)));
  ASSERT_EQ(v.added.size(), 2U);
  EXPECT_TRUE(v.added[0].special && v.added[0].rstrip && !v.added[0].normalized);
  EXPECT_TRUE(v.added[1].normalized);  // as the tokenizers library takes it where it is not said
  EXPECT_EQ(v.rows(), 4);
  EXPECT_EQ(v.next_id(), 4);
  EXPECT_EQ(v.find("<s>"), 3);
  EXPECT_EQ(v.find("c"), -1);
  EXPECT_TRUE(v.editable);
  EXPECT_EQ(*v.by_id().back().second, "<s>");
}

TEST(VocabularyReading, UnigramIsNumberedByPosition) {
  const Vocabulary v = parse_tokenizer_json(
      R"({"model": {"type": "Unigram", "vocab": [["<unk>", 0], ["x", -1.5]]}})", "t");
  EXPECT_EQ(v.find("x"), 1);
  EXPECT_EQ(v.next_id(), 2);
}

TEST(VocabularyReading, RefusesWhatIsNone) {
  const std::pair<const char*, const char*> cases[] = {
      {"[]", "no tokenizer.json"},
      {"{}", "no tokenizer.json"},
      {R"({"model": {}})", "no tokenizer.json"},
      {R"({"model": {"vocab": 3}})", "no object"},
      {R"({"model": {"vocab": {"a": 1.5}}})", "no integer"},
      {R"({"model": {"vocab": {"a": -1}}})", "expected 0 to"},
      {R"({"model": {"vocab": {"a": 18446744073709551615}}})", "too large"},
      {R"({"model": {"vocab": {"a": 100000001}}})", "too large"},
      {R"({"model": {"vocab": [["a"], 3]}})", "entry 1"},
      {R"({"model": {"vocab": {}}, "added_tokens": {}})", "no list"},
      {R"({"model": {"vocab": {}}, "added_tokens": [{"id": 1}]})", "'id' and 'content'"},
      {R"({"model": {"vocab": {}}, "added_tokens": [{"id": 1, "content": "x", "special": 1}]})",
       "no flag"},
      {R"({"model": )", "line 1"},
  };
  for (const auto& [text, reason] : cases) {
    const auto failure = failure_of([&] { parse_tokenizer_json(text, "t"); });
    ASSERT_TRUE(failure) << text;
    EXPECT_EQ(failure->code, Code::kDataError);
    EXPECT_THAT(failure->message, HasSubstr(reason)) << text;
  }
  VocabularyLimits small;
  small.tokens = 2;
  EXPECT_THAT(failure_of([&] { parse_tokenizer_json(kBpe, "t", small); }).value().message,
              HasSubstr("more than 2"));
}

std::string piece(const std::string& text) {
  // SentencePiece { piece = 1: text, score = 2: float, type = 3: varint }
  const std::string body = "\x0a" + std::string(1, static_cast<char>(text.size())) + text +
                           std::string("\x15\0\0\x80\x3f", 5) + "\x18\x01";
  return "\x0a" + std::string(1, static_cast<char>(body.size())) + body;
}

TEST(VocabularyReading, PiecesOfSentencePiece) {
  const std::string trainer("\x12\x02\x08\x01", 4);  // another field, passed over
  const Vocabulary v = parse_sentencepiece(piece("<unk>") + piece("\xe2\x96\x81x") + trainer, "m");
  EXPECT_EQ(v.find("<unk>"), 0);
  EXPECT_EQ(v.find("\xe2\x96\x81x"), 1);
  EXPECT_FALSE(v.editable);
  for (const std::string& bad : {std::string(), std::string("\x0a\x7f"), std::string("\x0b"),
                                 std::string(11, '\xff'), piece("x").substr(0, 5)}) {
    EXPECT_EQ(failure_of([&] { parse_sentencepiece(bad, "m"); }).value_or(Failure{}).code,
              Code::kDataError);
  }
}

TEST(VocabularyReading, FilesOfOlderTokenizers) {
  const ScratchFolder scratch;
  EXPECT_EQ(failure_of([&] { read_vocabulary(scratch.path()); }).value().code, Code::kNotFound);
  replace_file(scratch / "tokenizer.model", piece("p"));
  EXPECT_EQ(read_vocabulary(scratch.path()).find("p"), 0);
  replace_file(scratch / "vocab.txt", "[PAD]\r\nword\n");
  const Vocabulary words = read_vocabulary(scratch.path());
  EXPECT_EQ(words.find("[PAD]"), 0);
  EXPECT_EQ(words.rows(), 2);
  replace_file(scratch / "vocab.json", R"({"a": 0, "b": 1})");
  replace_file(scratch / "added_tokens.json", R"({"<x>": 2})");
  const Vocabulary pairs = read_vocabulary(scratch.path());
  EXPECT_EQ(pairs.find("<x>"), 2);
  EXPECT_EQ(pairs.next_id(), 3);
  EXPECT_THAT(pairs.files, ElementsAre("added_tokens.json", "vocab.json"));
  replace_file(scratch / "tokenizer.json", kBpe);
  EXPECT_THAT(read_vocabulary(scratch.path()).files, ElementsAre("tokenizer.json"));
}

}  // namespace
}  // namespace theriac::merge
