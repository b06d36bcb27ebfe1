// A tokenizer's tokens and their numbers, read from the files that lie beside a model.
//
// tokenizer.json (BPE, WordPiece, Unigram and WordLevel models) is preferred; else vocab.json with
// added_tokens.json, vocab.txt, or the pieces of a SentencePiece tokenizer.model. Only the vocabulary
// is read: how text is cut is the tokenizer's own affair.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cpp/core/base/json.h"

namespace theriac::merge {

// A token beside the model's own, as tokenizer.json has it.
struct AddedToken {
  std::string content;
  std::int64_t id = 0;
  bool single_word = false, lstrip = false, rstrip = false, normalized = true, special = false;
  // The same but for the number.
  bool same_as(const AddedToken& other) const noexcept;
  Json json() const;  // with all keys, as tokenizer.json has it
};

struct Vocabulary {
  std::unordered_map<std::string, std::int64_t> ids;  // added tokens included
  std::vector<AddedToken> added;                      // in the order of the file
  std::size_t model_tokens = 0;                       // without the added ones
  std::vector<std::string> files;                     // names in the folder that it was read from
  // Whether tokens can be appended: there is a tokenizer.json.
  bool editable = false;

  std::int64_t find(const std::string& token) const noexcept;  // -1 where it is not
  std::int64_t rows() const noexcept;                          // greatest number + 1
  // The number that a token appended next gets, as the tokenizers library counts.
  std::int64_t next_id() const noexcept;
  std::vector<std::pair<std::int64_t, const std::string*>> by_id() const;  // ascending
};

struct VocabularyLimits {
  std::size_t bytes = std::size_t{256} << 20;
  std::size_t tokens = 8'000'000;
  std::int64_t greatest_id = 100'000'000;
};

// Throw kDataError naming `what`, and the token or position, for anything that is no such file.
Vocabulary parse_tokenizer_json(std::string_view text, std::string_view what,
                                const VocabularyLimits& limits = {});
Vocabulary parse_sentencepiece(std::string_view bytes, std::string_view what,
                               const VocabularyLimits& limits = {});

// Of a model's folder. Throws kNotFound where none of the files is there, kIoError, kDataError.
Vocabulary read_vocabulary(const std::filesystem::path& folder,
                           const VocabularyLimits& limits = {});

}  // namespace theriac::merge
