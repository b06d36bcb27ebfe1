#include "cpp/core/data/stored_header.h"

#include <algorithm>
#include <array>

#include "cpp/core/base/file.h"

namespace theriac::data {
namespace {

constexpr std::uint64_t kHeaderLimit = std::uint64_t{64} << 20;
constexpr std::array<const char*, 2> kKinds = {"cohort", "sequences"};

}  // namespace

StoredHeader::StoredHeader(const std::filesystem::path& directory)
    : file_((directory / kHeaderFile).string()),
      json_(parse_json(read_file(file_, kHeaderLimit), file_, Code::kDataError,
                       {.bytes = kHeaderLimit})) {
  if (!json_.is_object()) fail("", "the document is not an object");
  read_kind();
  check_version();
}

void StoredHeader::fail(const std::string& key, const std::string& what) const {
  throw Error(Code::kDataError, "'" + file_ + "': " + (key.empty() ? "" : "'" + key + "' ") + what)
      .at("file", file_)
      .at("json_path", key);
}

const Json& StoredHeader::member(const char* key) const {
  const auto found = json_.find(key);
  if (found == json_.end()) fail(key, "is missing");
  return *found;
}

Json StoredHeader::object(const char* key) const {
  const Json& value = member(key);
  if (!value.is_object()) fail(key, "is not an object");
  return value;
}

void StoredHeader::check_fingerprint(const std::string& actual) const {
  const Json& stated = member("fingerprint");
  if (!stated.is_string() || stated.get_ref<const std::string&>() != actual) {
    fail("fingerprint", "does not match the content");
  }
}

void StoredHeader::read_kind() {
  const Json& kind = member("kind");
  const auto known = std::find(kKinds.begin(), kKinds.end(), kind);
  if (known == kKinds.end()) fail("kind", "is neither \"cohort\" nor \"sequences\"");
  kind_ = *known;
}

void StoredHeader::need_kind(std::string_view kind) const {
  if (kind_ == kind) return;
  fail("kind", "is \"" + kind_ + "\"; expected \"" + std::string(kind) + "\"");
}

void StoredHeader::check_version() const {
  const Json& version = member("format_version");
  if (!version.is_number_integer()) fail("format_version", "is not an integer");
  if (version == kFormatVersion) return;
  throw Error(Code::kIncompatible, "'" + file_ + "' has format version " + dump_json(version) +
                                       "; this build reads version " +
                                       std::to_string(kFormatVersion))
      .at("file", file_);
}

}  // namespace theriac::data
