#include "cpp/core/data/arrow_table_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "cpp/core/base/error.h"
#include "cpp/core/base/options.h"
#include "cpp/core/base/utf8.h"

namespace theriac::data {
namespace {

constexpr std::int64_t kRowsBetweenReports = 8'192;

// The producer's own words, cut to a sensible length and made printable.
std::string producer_text(ArrowArrayStream& stream, int status) {
  constexpr std::size_t kLongest = 1'000;
  const char* text = stream.get_last_error == nullptr ? nullptr : stream.get_last_error(&stream);
  if (text == nullptr || *text == '\0') return "error number " + std::to_string(status);
  const std::string words(text, ::strnlen(text, kLongest));
  const std::size_t bad = find_invalid_utf8(words);
  return bad == std::string::npos ? words : words.substr(0, bad);
}

std::vector<std::string> child_names(const ArrowSchema& schema) {
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < schema.n_children; ++i) {
    const ArrowSchema* child = schema.children[i];
    names.emplace_back(child == nullptr || child->name == nullptr ? "" : child->name);
  }
  return names;
}

std::int64_t position_of(const std::vector<std::string>& names, const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return -1;
  if (std::find(found + 1, names.end(), name) != names.end()) {
    throw Error(Code::kDataError, "the Arrow table has two columns '" + name + "'")
        .at("column", name);
  }
  return found - names.begin();
}

[[noreturn]] void missing_column(const std::string& name, const std::vector<std::string>& names) {
  const std::string near = nearest_name(name, names);
  throw Error(Code::kDataError, "the Arrow table has no column '" + name + "'" +
                                    (near.empty() ? "" : "; nearest: '" + near + "'"))
      .at("column", name);
}

void check_table(const ArrowSchema& schema) {
  constexpr std::int64_t kMostColumns = 4'096;
  const std::string_view format = schema.format == nullptr ? "" : schema.format;
  if (format != "+s" || schema.n_children < 0 || schema.n_children > kMostColumns ||
      (schema.n_children > 0 && schema.children == nullptr)) {
    throw Error(Code::kDataError,
                "the Arrow stream is not a table (a struct of up to 4096 columns)");
  }
}

ArrowArrayStream* usable(ArrowArrayStream* in) {
  if (in == nullptr || in->release == nullptr) {
    throw Error(Code::kInvalidArgument, "the Arrow stream is null or was released before");
  }
  return in;
}

}  // namespace

ArrowTableReader::ArrowTableReader(ArrowArrayStream* in) : stream_(usable(in)) {
  if (stream_.value.get_schema == nullptr || stream_.value.get_next == nullptr) {
    throw Error(Code::kInvalidArgument, "the Arrow stream lacks its callbacks");
  }
}

void ArrowTableReader::check(int status, const std::string& what) {
  if (status == 0) return;
  if (status == ENOMEM) throw Error(Code::kOutOfMemory, "the Arrow producer ran out of memory");
  throw Error(Code::kDataError, "the Arrow producer failed to give its " + what + ": " +
                                    producer_text(stream_.value, status))
      .at("errno", status);
}

void ArrowTableReader::read_schema(ArrowSchema& out) {
  const int status = stream_.value.get_schema(&stream_.value, &out);
  if (status != 0) out.release = nullptr;  // what a failing call left there is not ours
  check(status, "schema");
  if (out.release == nullptr) {
    throw Error(Code::kDataError, "the Arrow producer gave a released schema");
  }
}

void ArrowTableReader::open(std::vector<ExpectedColumn> columns) {
  expected_ = std::move(columns);
  OwnedArrow<ArrowSchema> schema;
  read_schema(schema.value);
  check_table(schema.value);
  schema_children_ = schema.value.n_children;
  const std::vector<std::string> names = child_names(schema.value);
  for (const ExpectedColumn& expected : expected_) {
    const std::int64_t position = position_of(names, expected.name);
    children_.push_back(position);
    auto& slot = columns_.emplace_back();
    if (position >= 0) slot.emplace(*schema.value.children[position], expected.name, expected.role);
    if (position < 0 && expected.required) missing_column(expected.name, names);
  }
}

bool ArrowTableReader::next_batch() {
  if (batch_) rows_before_ += rows();
  ArrowArray& out = batch_.emplace().value;
  const int status = stream_.value.get_next(&stream_.value, &out);
  if (status != 0) out.release = nullptr;
  check(status, "batch " + std::to_string(batches_++));
  if (out.release == nullptr) {
    batch_.reset();
    return false;
  }
  bind();
  return true;
}

void ArrowTableReader::bind() {
  const ArrowArray& batch = batch_->value;
  if (batch.n_children != schema_children_ || batch.length < 0 || batch.offset < 0 ||
      (batch.n_children > 0 && batch.children == nullptr)) {
    throw Error(Code::kDataError, "an Arrow batch does not have the columns of its schema");
  }
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    if (!columns_[i]) continue;
    const ArrowArray* child = batch.children[children_[i]];
    if (child == nullptr) {
      throw Error(Code::kDataError, "an Arrow batch lacks the column '" + expected_[i].name + "'")
          .at("column", expected_[i].name);
    }
    columns_[i]->bind(*child, batch.offset, batch.length, rows_before_);
  }
}

bool ArrowTableReader::is_null(std::int64_t row) const {
  const ArrowArray& batch = batch_->value;
  if (batch.null_count == 0 || batch.n_buffers != 1 || batch.buffers == nullptr) return false;
  const auto* valid = static_cast<const unsigned char*>(batch.buffers[0]);
  const std::int64_t bit = batch.offset + row;
  return valid != nullptr && (valid[bit / 8] >> (bit % 8) & 1) == 0;
}

void ArrowTableReader::report(Job* job, std::int64_t row) const {
  if (job == nullptr || row % kRowsBetweenReports != 0) return;
  job->progress("read arrow", static_cast<std::uint64_t>(rows_before_ + row), 0);
}

}  // namespace theriac::data
