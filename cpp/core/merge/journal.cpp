#include "cpp/core/merge/journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "cpp/core/base/file.h"
#include "cpp/core/base/file_operations.h"
#include "cpp/core/base/hash.h"

namespace theriac::merge {
namespace {

constexpr std::uint64_t kJournalLimit = std::uint64_t{1} << 30;
constexpr std::size_t kHashDigits = 16;

std::string line_of(const Json& value) {
  const std::string text = dump_json(value);
  return hash64_hex(text) + " " + text + "\n";
}

// The next whole line's value; nothing at the end, or where it is torn.
std::optional<Json> next_line(std::string_view text, std::size_t& at) {
  const std::size_t end = text.find('\n', at);
  if (end == std::string_view::npos || end - at <= kHashDigits + 1) return std::nullopt;
  const std::string_view line = text.substr(at, end - at);
  const std::string_view body = line.substr(kHashDigits + 1);
  if (line.substr(0, kHashDigits) != hash64_hex(body)) return std::nullopt;
  at = end + 1;
  return parse_json(body, "merge.journal", Code::kDataError);
}

void compare(const Json& found, const Json& wanted, const std::string& file) {
  std::string different;
  const auto note = [&different](const std::string& key) {
    different += (different.empty() ? "" : ", ") + key;
  };
  for (const auto& [key, value] : wanted.items()) {
    const auto old = found.find(key);
    if (old == found.end() || *old != value) note(key);
  }
  for (const auto& [key, value] : found.items()) {
    if (wanted.find(key) == wanted.end()) note(key);
  }
  if (different.empty()) return;
  throw Error(Code::kIncompatible,
              "'" + file + "' belongs to another merge and cannot be resumed; different: " +
                  different + "; start without resuming to discard it")
      .at("file", file)
      .at("different", different);
}

JournalEntry entry_of(const Json& json) {
  JournalEntry out;
  out.tensor = json.at("tensor").get<std::size_t>();
  out.name = json.at("name").get<std::string>();
  out.checksum = json.at("xxh3").get<std::string>();
  out.changed = json.at("changed").get<std::uint64_t>();
  out.lost = json.at("lost").get<std::uint64_t>();
  out.non_finite_in = json.at("non_finite_in").get<std::uint64_t>();
  out.non_finite_out = json.at("non_finite_out").get<std::uint64_t>();
  return out;
}

}  // namespace

Journal::Journal(const std::filesystem::path& file) : file_(file) {
  descriptor_ = open_retrying(file, O_RDWR | O_CREAT);
  if (descriptor_ < 0) throw io_error("create", file, errno);
  int result = 0;
  do {
    result = ::flock(descriptor_, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result == 0 || errno != EWOULDBLOCK) return;  // some network file systems have no locks
  ::close(std::exchange(descriptor_, -1));
  throw Error(Code::kBusy, "another process merges into the same place ('" + file.string() +
                               "' is locked); wait for it or choose another output")
      .at("file", file.string());
}

Journal::~Journal() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Journal::Journal(Journal&& other) noexcept
    : file_(std::move(other.file_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      resumed_(other.resumed_),
      pending_(std::move(other.pending_)),
      entries_(std::move(other.entries_)) {}

Journal Journal::create(const std::filesystem::path& file, const Json& identity) {
  Journal out(file);
  out.start_over(identity);
  return out;
}

Journal Journal::resume(const std::filesystem::path& file, const Json& identity) {
  Journal out(file);
  out.read(identity);
  return out;
}

void Journal::start_over(const Json& identity) {
  entries_.clear();
  resumed_ = false;
  if (::ftruncate(descriptor_, 0) != 0) throw io_error("empty", file_, errno);
  pending_ = line_of(identity);
  write();
}

void Journal::read(const Json& identity) {
  const std::string text = read_file(file_, kJournalLimit);
  std::size_t at = 0;
  const auto found = next_line(text, at);
  if (!found || !found->is_object()) return start_over(identity);
  compare(*found, identity, file_.string());
  resumed_ = true;
  try {
    while (const auto line = next_line(text, at)) entries_.push_back(entry_of(*line));
  } catch (const nlohmann::json::exception&) {
    throw Error(Code::kDataError, "'" + file_.string() + "' is damaged; start without resuming")
        .at("file", file_.string());
  }
  if (at < text.size() && ::ftruncate(descriptor_, static_cast<off_t>(at)) != 0) {
    throw io_error("shorten", file_, errno);
  }
}

void Journal::add(const JournalEntry& entry) {
  pending_ += line_of(Json{{"tensor", entry.tensor},
                           {"name", entry.name},
                           {"xxh3", entry.checksum},
                           {"changed", entry.changed},
                           {"lost", entry.lost},
                           {"non_finite_in", entry.non_finite_in},
                           {"non_finite_out", entry.non_finite_out}});
}

void Journal::write() {
  if (pending_.empty()) return;
  const off_t end = ::lseek(descriptor_, 0, SEEK_END);
  if (end < 0) throw io_error("write", file_, errno);
  for (std::size_t used = 0; used < pending_.size();) {
    const ssize_t wrote = ::pwrite(descriptor_, pending_.data() + used, pending_.size() - used,
                                   end + static_cast<off_t>(used));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) throw io_error("write", file_, errno);
    used += static_cast<std::size_t>(wrote);
  }
  pending_.clear();
}

}  // namespace theriac::merge
