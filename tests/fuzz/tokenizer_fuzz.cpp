// A tokenizer's files from anywhere: refused with an Error, or read, and then tokens can be appended
// and are there when the result is read again. The first byte says which file it is.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "cpp/core/merge/tokenizer_plan.h"
#include "cpp/core/merge/vocabulary.h"

namespace {

using theriac::merge::AddedToken;
using theriac::merge::Vocabulary;

void require(bool holds) {
  if (!holds) std::abort();
}

void check(const Vocabulary& vocabulary) {
  require(vocabulary.next_id() >= 0 && vocabulary.rows() >= 0);
  require(vocabulary.by_id().size() == vocabulary.ids.size());
  for (const auto& [token, id] : vocabulary.ids) require(vocabulary.find(token) == id && id >= 0);
}

void append(const std::string& text, const Vocabulary& vocabulary) {
  AddedToken token;
  token.content = "<\"appended\n>";
  token.id = vocabulary.next_id();
  const std::string longer = theriac::merge::with_tokens(text, {token});
  theriac::merge::VocabularyLimits limits;
  limits.greatest_id += 1;
  const Vocabulary again = theriac::merge::parse_tokenizer_json(longer, "appended", limits);
  check(again);
  require(again.find(token.content) == token.id);
  require(again.added.size() == vocabulary.added.size() + 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] == 'S') {
      check(theriac::merge::parse_sentencepiece(text, "tokenizer.model"));
      return 0;
    }
    const Vocabulary vocabulary = theriac::merge::parse_tokenizer_json(text, "tokenizer.json");
    check(vocabulary);
    append(text, vocabulary);
  } catch (const theriac::Error&) {
  }
  return 0;
}
