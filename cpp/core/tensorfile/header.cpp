// The header of a safetensors file, read as a stream of JSON events: no tree is built, so that
// memory stays close to the header's own size, and nothing recurses.
#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "cpp/core/base/json.h"
#include "cpp/core/base/utf8.h"
#include "cpp/core/tensorfile/layout.h"
#include "cpp/core/tensorfile/safetensors.h"

namespace theriac::tensorfile {
namespace {

using internal::shown;

constexpr std::size_t kMostKeys = 64;  // of an entry; keeps the search for duplicates short
constexpr std::string_view kEntryKeys = "dtype, shape and data_offsets";

Error data_error(const std::string& what) {
  return Error(Code::kDataError, "safetensors header: " + what);
}

[[noreturn]] void fail_tensor(std::string_view name, const std::string& what) {
  throw data_error("tensor " + shown(name) + ": " + what)
      .at("tensor", std::string(name.substr(0, 4096)));
}

// Turns events into tensors and metadata. Depth 1 is the header object, 2 one entry, 3 a list in an
// entry.
class HeaderHandler : public nlohmann::json_sax<Json> {
 public:
  HeaderHandler(const Limits& limits, Header* header) : limits_(limits), header_(*header) {}

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("true or false"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return unexpected("a number that is no 64-bit unsigned integer");
  }
  bool binary(binary_t&) override { return unexpected("binary"); }
  bool number_unsigned(number_unsigned_t value) override;
  bool string(string_t& value) override;
  bool start_object(std::size_t) override;
  bool start_array(std::size_t) override;
  bool end_object() override;
  bool end_array() override;
  bool key(string_t& name) override;
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    throw data_error("malformed JSON at byte " + std::to_string(position)).at("offset", position);
  }

 private:
  enum class Where { kTop, kEntries, kTensor, kMetadata, kSkipped };
  enum class Field { kNone, kDType, kShape, kOffsets, kUnknown };

  bool unexpected(const std::string& got);
  void open_tensor();
  void deepen();
  void finish_tensor();
  void entry_key(string_t& name);
  [[noreturn]] void wrong_field(const std::string& got) const;

  const Limits& limits_;
  Header& header_;
  Where where_ = Where::kTop;
  Field field_ = Field::kNone;
  bool in_list_ = false;
  int depth_ = 0;
  bool has_metadata_ = false;
  std::string key_;                     // of a metadata pair, or the entry's name
  std::vector<std::string> seen_keys_;  // of the open tensor entry
  std::vector<std::vector<std::string>>
      skipped_keys_;         // of the open objects inside an unknown field
  std::size_t offsets_ = 0;  // how many of data_offsets' two numbers were read
  TensorInfo tensor_;
};

void HeaderHandler::wrong_field(const std::string& got) const {
  switch (field_) {
    case Field::kDType:
      fail_tensor(tensor_.name, "dtype is " + got + "; expected a name such as \"F32\"");
    case Field::kShape:
      fail_tensor(tensor_.name, "shape holds " + got + "; expected a list of unsigned integers");
    case Field::kOffsets:
      fail_tensor(tensor_.name, "data_offsets holds " + got + "; expected two unsigned integers");
    case Field::kNone:
    case Field::kUnknown:
      break;
  }
  fail_tensor(tensor_.name,
              "the entry is " + got + "; expected an object with " + std::string(kEntryKeys));
}

bool HeaderHandler::unexpected(const std::string& got) {
  switch (where_) {
    case Where::kTop:
      throw data_error("it is " + got + "; expected an object");
    case Where::kEntries:
      if (key_ == internal::kMetadataKey)
        throw data_error("__metadata__ is " + got + "; expected an object");
      fail_tensor(key_,
                  "the entry is " + got + "; expected an object with " + std::string(kEntryKeys));
    case Where::kMetadata:
      throw data_error("__metadata__ key " + shown(key_) + " is " + got + "; expected a string");
    case Where::kTensor:
      if (field_ != Field::kUnknown) wrong_field(got);
      break;
    case Where::kSkipped:
      break;
  }
  return true;
}

bool HeaderHandler::number_unsigned(number_unsigned_t value) {
  if (where_ != Where::kTensor || !in_list_ || field_ == Field::kUnknown)
    return unexpected("a number");
  if (field_ == Field::kShape) {
    if (tensor_.shape.size() == limits_.rank) {
      fail_tensor(tensor_.name, "more than " + std::to_string(limits_.rank) + " dimensions");
    }
    if (value > internal::kGreatestDimension) {
      fail_tensor(tensor_.name, "the dimension " + std::to_string(value) + " is beyond 2^53");
    }
    tensor_.shape.push_back(value);
  } else if (field_ == Field::kOffsets) {
    if (offsets_ == 2) fail_tensor(tensor_.name, "data_offsets has more than two numbers");
    (offsets_++ == 0 ? tensor_.begin : tensor_.end) = value;
  }
  return true;
}

bool HeaderHandler::string(string_t& value) {
  if (where_ == Where::kMetadata) {
    if (!header_.metadata.emplace(key_, std::move(value)).second) {
      throw data_error("__metadata__ key " + shown(key_) + " appears twice");
    }
    return true;
  }
  if (where_ != Where::kTensor || field_ != Field::kDType) return unexpected("a string");
  const auto dtype = dtype_from_name(value);
  if (!dtype) fail_tensor(tensor_.name, "unknown dtype " + shown(value));
  tensor_.dtype = *dtype;
  return true;
}

void HeaderHandler::deepen() {
  if (++depth_ > limits_.depth) {
    throw data_error("nested deeper than " + std::to_string(limits_.depth) + " levels");
  }
}

bool HeaderHandler::start_object(std::size_t) {
  deepen();
  if (where_ == Where::kTop) {
    where_ = Where::kEntries;
  } else if (where_ == Where::kEntries) {
    key_ == internal::kMetadataKey ? void(where_ = Where::kMetadata) : open_tensor();
  } else if (where_ == Where::kTensor && field_ == Field::kUnknown) {
    where_ = Where::kSkipped;
    skipped_keys_.emplace_back();
  } else if (where_ == Where::kSkipped) {
    skipped_keys_.emplace_back();
  } else {
    unexpected("an object");
  }
  return true;
}

void HeaderHandler::open_tensor() {
  if (header_.tensors.size() == limits_.tensors) {
    throw data_error("more than " + std::to_string(limits_.tensors) + " tensors");
  }
  where_ = Where::kTensor;
  field_ = Field::kNone;
  seen_keys_.clear();
  offsets_ = 0;
  tensor_ = TensorInfo{};
  tensor_.name = std::move(key_);
}

bool HeaderHandler::start_array(std::size_t) {
  deepen();
  const bool list =
      where_ == Where::kTensor && (field_ == Field::kShape || field_ == Field::kOffsets);
  if (list && !in_list_) {
    in_list_ = true;
  } else if (where_ == Where::kTensor && field_ == Field::kUnknown) {
    where_ = Where::kSkipped;
  } else if (where_ != Where::kSkipped) {
    unexpected("a list");
  }
  return true;
}

// Depth 2 is the entry's own; whatever an unknown field holds ends when that is reached again.
bool HeaderHandler::end_array() {
  --depth_;
  if (where_ == Where::kSkipped) {
    if (depth_ == 2) where_ = Where::kTensor;
  } else {
    in_list_ = false;
  }
  return true;
}

bool HeaderHandler::end_object() {
  --depth_;
  if (where_ == Where::kSkipped) {
    skipped_keys_.pop_back();
    if (depth_ == 2) where_ = Where::kTensor;
  } else if (where_ == Where::kTensor) {
    finish_tensor();
    where_ = Where::kEntries;
  } else if (where_ == Where::kMetadata) {
    where_ = Where::kEntries;
  }
  return true;
}

bool HeaderHandler::key(string_t& name) {
  switch (where_) {
    case Where::kTensor:
      entry_key(name);
      break;
    case Where::kMetadata:
      key_ = std::move(name);
      break;
    case Where::kSkipped: {
      auto& seen = skipped_keys_.back();
      if (std::find(seen.begin(), seen.end(), name) != seen.end()) {
        fail_tensor(tensor_.name, "the key " + shown(name) + " appears twice");
      }
      if (seen.size() == kMostKeys) fail_tensor(tensor_.name, "too many keys in an unknown field");
      seen.push_back(std::move(name));
      break;
    }
    case Where::kTop:
    case Where::kEntries:
      if (name.size() > limits_.name_bytes) {
        fail_tensor(name,
                    "the name is longer than " + std::to_string(limits_.name_bytes) + " bytes");
      }
      if (name == internal::kMetadataKey && std::exchange(has_metadata_, true)) {
        throw data_error("__metadata__ appears twice");
      }
      key_ = std::move(name);
      break;
  }
  return true;
}

// A field that the format does not know yet is skipped, as the reference reader does.
void HeaderHandler::entry_key(string_t& name) {
  if (std::find(seen_keys_.begin(), seen_keys_.end(), name) != seen_keys_.end()) {
    fail_tensor(tensor_.name, "the key " + shown(name) + " appears twice");
  }
  if (seen_keys_.size() == kMostKeys) {
    fail_tensor(tensor_.name, "more than " + std::to_string(kMostKeys) + " keys in one entry");
  }
  field_ = name == "dtype"          ? Field::kDType
           : name == "shape"        ? Field::kShape
           : name == "data_offsets" ? Field::kOffsets
                                    : Field::kUnknown;
  seen_keys_.push_back(std::move(name));
}

void HeaderHandler::finish_tensor() {
  for (const char* needed : {"dtype", "shape", "data_offsets"}) {
    if (std::find(seen_keys_.begin(), seen_keys_.end(), needed) == seen_keys_.end()) {
      fail_tensor(tensor_.name, "the entry lacks '" + std::string(needed) + "'");
    }
  }
  if (offsets_ != 2) fail_tensor(tensor_.name, "data_offsets must hold two numbers");
  header_.tensors.push_back(std::move(tensor_));
}

void reject_duplicate_names(const std::vector<TensorInfo>& tensors) {
  std::vector<const std::string*> names;
  names.reserve(tensors.size());
  for (const auto& tensor : tensors) names.push_back(&tensor.name);
  std::sort(names.begin(), names.end(), [](auto* a, auto* b) { return *a < *b; });
  const auto twice =
      std::adjacent_find(names.begin(), names.end(), [](auto* a, auto* b) { return *a == *b; });
  if (twice != names.end()) fail_tensor(**twice, "the name appears twice");
}

// Sorts the tensors by offset and checks that they tile the buffer.
void check_layout(std::vector<TensorInfo>& tensors, std::uint64_t buffer_bytes) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t covered = 0;
  for (const auto& tensor : tensors) {
    if (tensor.begin != covered || tensor.end < tensor.begin) {
      fail_tensor(tensor.name, "data_offsets [" + std::to_string(tensor.begin) + ", " +
                                   std::to_string(tensor.end) + "] must begin at " +
                                   std::to_string(covered) +
                                   ", where the tensor before it ends, and not end before that");
    }
    const auto size = internal::byte_size(tensor.dtype, tensor.shape);
    if (!size) fail_tensor(tensor.name, "the shape overflows or ends inside a byte");
    if (*size != tensor.end - tensor.begin) {
      fail_tensor(tensor.name, "shape and dtype ask for " + std::to_string(*size) +
                                   " bytes; data_offsets give " +
                                   std::to_string(tensor.end - tensor.begin));
    }
    covered = tensor.end;
  }
  if (covered != buffer_bytes) {
    throw data_error("the tensors take " + std::to_string(covered) + " bytes; the file has " +
                     std::to_string(buffer_bytes) + " after the header")
        .at("offset", covered);
  }
}

std::uint64_t header_length(std::string_view prefix) {
  std::uint64_t length = 0;  // little-endian, assembled byte by byte: no alignment is promised
  for (std::size_t i = 0; i < internal::kLengthBytes; ++i) {
    length |= static_cast<std::uint64_t>(static_cast<unsigned char>(prefix[i])) << (8 * i);
  }
  return length;
}

// The header's text, once its length has been found plausible.
std::string_view header_text(std::string_view prefix, std::uint64_t file_bytes,
                             const Limits& limits) {
  if (file_bytes < internal::kLengthBytes || prefix.size() < internal::kLengthBytes) {
    throw data_error("the file has " + std::to_string(file_bytes) +
                     " bytes; at least 8 are needed");
  }
  const std::uint64_t length = header_length(prefix);
  if (length > limits.header_bytes) {
    throw data_error("its length is " + std::to_string(length) + " bytes; at most " +
                     std::to_string(limits.header_bytes) + " are accepted");
  }
  if (length > file_bytes - internal::kLengthBytes) {
    throw data_error("its length is " + std::to_string(length) + " bytes; the file ends after " +
                     std::to_string(file_bytes - internal::kLengthBytes));
  }
  if (length > prefix.size() - internal::kLengthBytes) {
    throw Error(Code::kInvalidArgument, "the first " +
                                            std::to_string(internal::kLengthBytes + length) +
                                            " bytes of the file are needed to read its header");
  }
  const std::string_view text =
      prefix.substr(internal::kLengthBytes, static_cast<std::size_t>(length));
  if (text.empty() || text.front() != '{')
    throw data_error("it does not start with '{'").at("offset", 8);
  if (const auto bad = find_invalid_utf8(text); bad != std::string_view::npos) {
    throw data_error("invalid UTF-8 at byte " + std::to_string(bad)).at("offset", bad);
  }
  // The JSON parser takes a NUL for the end of the text.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    throw data_error("a NUL at byte " + std::to_string(nul)).at("offset", nul);
  }
  return text;
}

}  // namespace

Header Header::parse(std::string_view prefix, std::uint64_t file_bytes, const Limits& limits) {
  const std::string_view text = header_text(prefix, file_bytes, limits);
  Header header;
  header.buffer_offset = internal::kLengthBytes + text.size();
  HeaderHandler handler(limits, &header);
  Json::sax_parse(text.begin(), text.end(), &handler);
  reject_duplicate_names(header.tensors);
  check_layout(header.tensors, file_bytes - header.buffer_offset);
  return header;
}

}  // namespace theriac::tensorfile
