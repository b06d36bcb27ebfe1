#include "cpp/core/merge/vocabulary.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "cpp/core/base/file.h"
#include "cpp/core/tensorfile/layout.h"

namespace theriac::merge {
namespace {

namespace fs = std::filesystem;
using tensorfile::internal::shown;

class Builder {
 public:
  Builder(std::string_view what, const VocabularyLimits& limits) : what_(what), limits_(limits) {}

  [[noreturn]] void fail(const std::string& problem) const {
    throw Error(Code::kDataError, "'" + what_ + "': " + problem).at("file", what_);
  }

  Json parse(std::string_view text) const {
    const JsonLimits json_limits{.bytes = limits_.bytes, .depth = 64};
    return parse_json(text, what_, Code::kDataError, json_limits);
  }

  void add(std::string token, std::int64_t id) {
    if (id < 0 || id > limits_.greatest_id) {
      fail("token " + shown(token) + " has the number " + std::to_string(id) + "; expected 0 to " +
           std::to_string(limits_.greatest_id));
    }
    out_.ids.insert_or_assign(std::move(token), id);
    if (out_.ids.size() > limits_.tokens) {
      fail("it has more than " + std::to_string(limits_.tokens) + " tokens");
    }
  }

  std::int64_t number(const std::string& token, const Json& value) const {
    if (!value.is_number_integer()) fail("the number of token " + shown(token) + " is no integer");
    // Beyond int64 it is unsigned, and beyond the limit anyway.
    if (value.is_number_unsigned() &&
        value.get<std::uint64_t>() > static_cast<std::uint64_t>(limits_.greatest_id)) {
      fail("the number of token " + shown(token) + " is too large");
    }
    return value.get<std::int64_t>();
  }

  // {"token": number, ...}
  void add_object(const Json& object, const std::string& path) {
    if (!object.is_object()) fail("'" + path + "' is no object of tokens and numbers");
    for (const auto& [token, id] : object.items()) add(token, number(token, id));
  }

  void end_model() { out_.model_tokens = out_.ids.size(); }
  void add_added(AddedToken token) {
    add(token.content, token.id);
    out_.added.push_back(std::move(token));
  }
  Vocabulary take(std::string file) {
    out_.files.push_back(std::move(file));
    return std::move(out_);
  }
  Vocabulary& out() { return out_; }

 private:
  std::string what_;
  const VocabularyLimits& limits_;
  Vocabulary out_;
};

// Unigram's list of [token, score], numbered by position.
void add_scored(Builder& builder, const Json& list) {
  std::int64_t id = 0;
  for (const Json& item : list) {
    if (!item.is_array() || item.empty() || !item[0].is_string()) {
      builder.fail("entry " + std::to_string(id) + " of 'model.vocab' is no [token, score]");
    }
    builder.add(item[0].get<std::string>(), id++);
  }
}

AddedToken added_token(const Builder& builder, const Json& json) {
  if (!json.is_object() || !json.contains("content") || !json.at("content").is_string() ||
      !json.contains("id")) {
    builder.fail("an entry of 'added_tokens' is no object with 'id' and 'content'");
  }
  AddedToken out;
  out.content = json.at("content").get<std::string>();
  out.id = builder.number(out.content, json.at("id"));
  const auto flag = [&](const char* key, bool& into) {
    const auto found = json.find(key);
    if (found == json.end()) return;
    if (!found->is_boolean())
      builder.fail("'" + std::string(key) + "' of an added token is no flag");
    into = found->get<bool>();
  };
  flag("single_word", out.single_word);
  flag("lstrip", out.lstrip);
  flag("rstrip", out.rstrip);
  flag("normalized", out.normalized);
  flag("special", out.special);
  return out;
}

// Protocol buffers, as far as a list of pieces needs them.
class Message {
 public:
  Message(std::string_view bytes, const Builder& builder) : bytes_(bytes), builder_(builder) {}
  bool done() const { return bytes_.empty(); }

  struct Field {
    std::uint64_t number = 0;
    bool is_bytes = false;
    std::string_view bytes;
  };
  Field next() {
    const std::uint64_t key = varint();
    Field out;
    out.number = key >> 3;
    switch (key & 7) {
      case 0:
        varint();
        break;
      case 1:
        take(8);
        break;
      case 2:
        out.is_bytes = true;
        out.bytes = take(varint());
        break;
      case 5:
        take(4);
        break;
      default:
        builder_.fail("is no SentencePiece model: a field has an unknown form");
    }
    return out;
  }

 private:
  std::uint64_t varint() {
    std::uint64_t out = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      out |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return out;
    }
    builder_.fail("is no SentencePiece model: a number is too long");
  }
  std::string_view take(std::uint64_t size) {
    if (size > bytes_.size()) builder_.fail("is no SentencePiece model: it is cut short");
    const std::string_view out = bytes_.substr(0, static_cast<std::size_t>(size));
    bytes_.remove_prefix(out.size());
    return out;
  }

  std::string_view bytes_;
  const Builder& builder_;
};

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

Vocabulary read_vocab_json(const fs::path& folder, const VocabularyLimits& limits) {
  Builder builder((folder / "vocab.json").string(), limits);
  builder.add_object(builder.parse(read_file(folder / "vocab.json", limits.bytes)), "");
  builder.end_model();
  const fs::path more = folder / "added_tokens.json";
  if (!is_there(more)) return builder.take("vocab.json");
  Builder added(more.string(), limits);
  const Json json = added.parse(read_file(more, limits.bytes));
  if (!json.is_object()) added.fail("expected an object of tokens and numbers");
  for (const auto& [token, id] : json.items()) {
    AddedToken entry;
    entry.content = token;
    entry.id = added.number(token, id);
    builder.add_added(std::move(entry));
  }
  builder.out().files.emplace_back("added_tokens.json");
  return builder.take("vocab.json");
}

Vocabulary read_vocab_txt(const fs::path& folder, const VocabularyLimits& limits) {
  Builder builder((folder / "vocab.txt").string(), limits);
  const std::string text = read_file(folder / "vocab.txt", limits.bytes);
  std::int64_t id = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string token = text.substr(at, end - at);
    if (!token.empty() && token.back() == '\r') token.pop_back();
    builder.add(std::move(token), id++);
    at = end + 1;
  }
  builder.end_model();
  return builder.take("vocab.txt");
}

}  // namespace

bool AddedToken::same_as(const AddedToken& other) const noexcept {
  return content == other.content && single_word == other.single_word && lstrip == other.lstrip &&
         rstrip == other.rstrip && normalized == other.normalized && special == other.special;
}

Json AddedToken::json() const {
  return Json{{"id", id},          {"content", content}, {"single_word", single_word},
              {"lstrip", lstrip},  {"rstrip", rstrip},   {"normalized", normalized},
              {"special", special}};
}

std::int64_t Vocabulary::find(const std::string& token) const noexcept {
  const auto found = ids.find(token);
  return found == ids.end() ? -1 : found->second;
}

std::int64_t Vocabulary::rows() const noexcept {
  std::int64_t greatest = -1;
  for (const auto& [token, id] : ids) greatest = std::max(greatest, id);
  return greatest + 1;
}

std::int64_t Vocabulary::next_id() const noexcept {
  std::int64_t next = static_cast<std::int64_t>(model_tokens);
  for (const AddedToken& token : added) next = std::max(next, token.id + 1);
  return next;
}

std::vector<std::pair<std::int64_t, const std::string*>> Vocabulary::by_id() const {
  std::vector<std::pair<std::int64_t, const std::string*>> out;
  out.reserve(ids.size());
  for (const auto& [token, id] : ids) out.emplace_back(id, &token);
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : *a.second < *b.second;
  });
  return out;
}

Vocabulary parse_tokenizer_json(std::string_view text, std::string_view what,
                                const VocabularyLimits& limits) {
  Builder builder(what, limits);
  const Json json = builder.parse(text);
  const auto model = json.is_object() ? json.find("model") : json.end();
  if (!json.is_object() || model == json.end() || !model->is_object() ||
      !model->contains("vocab")) {
    builder.fail("is no tokenizer.json: it has no 'model' with a 'vocab'");
  }
  const Json& vocab = model->at("vocab");
  if (vocab.is_array()) {
    add_scored(builder, vocab);
  } else {
    builder.add_object(vocab, "model.vocab");
  }
  builder.end_model();
  const auto added = json.find("added_tokens");
  if (added != json.end() && !added->is_null()) {
    if (!added->is_array()) builder.fail("'added_tokens' is no list");
    for (const Json& token : *added) builder.add_added(added_token(builder, token));
  }
  // A token without the list to append it to would have to be given one.
  builder.out().editable = true;
  return builder.take("tokenizer.json");
}

Vocabulary parse_sentencepiece(std::string_view bytes, std::string_view what,
                               const VocabularyLimits& limits) {
  Builder builder(what, limits);
  if (bytes.size() > limits.bytes) builder.fail("is larger than a tokenizer");
  constexpr std::uint64_t kPieces = 1, kPiece = 1;
  std::int64_t id = 0;
  for (Message model(bytes, builder); !model.done();) {
    const Message::Field field = model.next();
    if (field.number != kPieces || !field.is_bytes) continue;
    std::string piece;
    for (Message entry(field.bytes, builder); !entry.done();) {
      const Message::Field part = entry.next();
      if (part.number == kPiece && part.is_bytes) piece = std::string(part.bytes);
    }
    builder.add(std::move(piece), id++);
  }
  if (id == 0) builder.fail("is no SentencePiece model: it has no pieces");
  builder.end_model();
  return builder.take("tokenizer.model");
}

Vocabulary read_vocabulary(const fs::path& folder, const VocabularyLimits& limits) {
  const fs::path json = folder / "tokenizer.json";
  if (is_there(json)) {
    return parse_tokenizer_json(read_file(json, limits.bytes), json.string(), limits);
  }
  if (is_there(folder / "vocab.json")) return read_vocab_json(folder, limits);
  if (is_there(folder / "vocab.txt")) return read_vocab_txt(folder, limits);
  for (const char* name : {"tokenizer.model", "spiece.model", "sentencepiece.bpe.model"}) {
    const fs::path pieces = folder / name;
    if (!is_there(pieces)) continue;
    Vocabulary out = parse_sentencepiece(read_file(pieces, limits.bytes), pieces.string(), limits);
    out.files = {name};
    return out;
  }
  throw Error(Code::kNotFound, "'" + folder.string() +
                                   "' has no tokenizer: none of tokenizer.json, vocab.json, "
                                   "vocab.txt and tokenizer.model is there")
      .at("file", folder.string());
}

}  // namespace theriac::merge
