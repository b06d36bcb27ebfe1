// Layout after PKWARE's APPNOTE, sections 4.3 and 4.5.3.
#include "cpp/core/tensorfile/zip.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "cpp/core/tensorfile/layout.h"

namespace theriac::tensorfile {
namespace {

using internal::load_little;
using internal::shown;

constexpr std::uint32_t kLocalMark = 0x04034b50, kCentralMark = 0x02014b50, kEndMark = 0x06054b50;
constexpr std::uint32_t kEnd64Mark = 0x06064b50, kLocatorMark = 0x07064b50;
constexpr std::uint64_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22;
constexpr std::uint64_t kEnd64Bytes = 56, kLocatorBytes = 20;
constexpr std::uint16_t kFull16 = 0xFFFF;  // the number is too large; ZIP64 has it
constexpr std::uint32_t kFull32 = 0xFFFFFFFF;

class ZipReader {
 public:
  ZipReader(const Bytes& file, const ZipLimits& limits) : file_(file), limits_(limits) {}
  std::vector<ZipEntry> read();

 private:
  struct End {
    std::uint64_t at = 0;  // the directory may reach up to here
    std::uint64_t entries = 0, directory = 0, directory_bytes = 0;
  };
  Error error(Code code, const std::string& what, std::uint64_t offset) const {
    return Error(code, "'" + file_.name() + "': ZIP archive: " + what + " (at offset " +
                           std::to_string(offset) + ")")
        .at("file", file_.name())
        .at("offset", offset);
  }
  Error damaged(const std::string& what, std::uint64_t offset) const {
    return error(Code::kDataError, what, offset);
  }
  std::uint64_t find_end() const;
  End read_end() const;
  std::optional<End> read_end64(std::uint64_t end_at) const;
  void check_end(const End& end) const;
  std::size_t read_central(std::string_view left, std::uint64_t at, const End& end,
                           ZipEntry& entry) const;
  void read_wide_sizes(std::string_view extra, std::uint64_t at, std::uint64_t& stored,
                       ZipEntry& entry) const;
  void locate(const End& end, ZipEntry& entry) const;
  void check_ranges(std::vector<ZipEntry>& entries) const;

  const Bytes& file_;
  const ZipLimits& limits_;
};

// The end record is the last thing in the file but for a comment whose length it states.
std::uint64_t ZipReader::find_end() const {
  constexpr std::uint64_t kMostComment = 0xFFFF;
  const std::uint64_t size = file_.size();
  if (size < kEndBytes) throw damaged("the file is too short to be one", 0);
  const std::uint64_t tail_bytes = std::min(size, kEndBytes + kMostComment);
  const std::string tail = file_.read(size - tail_bytes, static_cast<std::size_t>(tail_bytes));
  for (std::size_t at = tail.size() - kEndBytes + 1; at-- > 0;) {
    if (load_little<std::uint32_t>(tail.data() + at) != kEndMark) continue;
    const auto comment = load_little<std::uint16_t>(tail.data() + at + 20);
    if (at + kEndBytes + comment == tail.size()) return size - tail_bytes + at;
  }
  throw damaged("its directory is missing; the file is cut short or is no ZIP archive", size);
}

std::optional<ZipReader::End> ZipReader::read_end64(std::uint64_t end_at) const {
  if (end_at < kLocatorBytes) return std::nullopt;
  const std::uint64_t locator_at = end_at - kLocatorBytes;
  const std::string locator = file_.read(locator_at, kLocatorBytes);
  if (load_little<std::uint32_t>(locator.data()) != kLocatorMark) return std::nullopt;
  End end;
  end.at = load_little<std::uint64_t>(locator.data() + 8);
  if (end.at > locator_at || locator_at - end.at < kEnd64Bytes) {
    throw damaged("the ZIP64 end record lies outside the file", locator_at);
  }
  const std::string record = file_.read(end.at, kEnd64Bytes);
  if (load_little<std::uint32_t>(record.data()) != kEnd64Mark) {
    throw damaged("the ZIP64 end record is missing", end.at);
  }
  if (load_little<std::uint32_t>(record.data() + 16) != 0 ||
      load_little<std::uint32_t>(record.data() + 20) != 0) {
    throw error(Code::kUnsupported, "archives in parts are not read", end.at);
  }
  end.entries = load_little<std::uint64_t>(record.data() + 32);
  end.directory_bytes = load_little<std::uint64_t>(record.data() + 40);
  end.directory = load_little<std::uint64_t>(record.data() + 48);
  return end;
}

ZipReader::End ZipReader::read_end() const {
  const std::uint64_t at = find_end();
  const std::string record = file_.read(at, kEndBytes);
  // Part numbers: 0, or all ones where ZIP64 has them.
  if (load_little<std::uint16_t>(record.data() + 4) % kFull16 != 0 ||
      load_little<std::uint16_t>(record.data() + 6) % kFull16 != 0) {
    throw error(Code::kUnsupported, "archives in parts are not read", at);
  }
  End end{.at = at,
          .entries = load_little<std::uint16_t>(record.data() + 10),
          .directory = load_little<std::uint32_t>(record.data() + 16),
          .directory_bytes = load_little<std::uint32_t>(record.data() + 12)};
  if (const auto wide = read_end64(at)) {
    // Where both records state a number, they must agree: readers differ in which one they believe.
    const auto agree = [](std::uint64_t narrow, std::uint64_t full, std::uint64_t number) {
      return narrow == full || narrow == number;
    };
    if (!agree(end.entries, kFull16, wide->entries) ||
        !agree(end.directory, kFull32, wide->directory) ||
        !agree(end.directory_bytes, kFull32, wide->directory_bytes)) {
      throw damaged("its two end records disagree", at);
    }
    end = *wide;
  }
  return end;
}

void ZipReader::check_end(const End& end) const {
  if (end.directory > end.at || end.directory_bytes > end.at - end.directory) {
    throw damaged("its directory lies outside the file: " + std::to_string(end.directory_bytes) +
                      " bytes at offset " + std::to_string(end.directory),
                  end.at);
  }
  if (end.directory_bytes > limits_.directory_bytes) {
    throw damaged("its directory has " + std::to_string(end.directory_bytes) + " bytes; at most " +
                      std::to_string(limits_.directory_bytes) + " are accepted",
                  end.directory);
  }
  if (end.entries > limits_.entries) {
    throw damaged("it has " + std::to_string(end.entries) + " entries; at most " +
                      std::to_string(limits_.entries) + " are accepted",
                  end.at);
  }
}

// Numbers that did not fit 32 bits follow in the ZIP64 extra field, in this order.
void ZipReader::read_wide_sizes(std::string_view extra, std::uint64_t at, std::uint64_t& stored,
                                ZipEntry& entry) const {
  constexpr std::uint16_t kZip64Field = 1;
  if (entry.size != kFull32 && stored != kFull32 && entry.header != kFull32) return;
  while (extra.size() >= 4) {
    const auto id = load_little<std::uint16_t>(extra.data());
    const std::size_t length = load_little<std::uint16_t>(extra.data() + 2);
    if (length > extra.size() - 4) break;
    std::string_view field = extra.substr(4, length);
    extra.remove_prefix(4 + length);
    if (id != kZip64Field) continue;
    for (std::uint64_t* number : {&entry.size, &stored, &entry.header}) {
      if (*number != kFull32) continue;
      if (field.size() < 8) throw damaged("a ZIP64 field is too short", at);
      *number = load_little<std::uint64_t>(field.data());
      field.remove_prefix(8);
    }
    return;
  }
  throw damaged("an entry lacks its ZIP64 sizes", at);
}

// One record of the directory; returns its length.
std::size_t ZipReader::read_central(std::string_view left, std::uint64_t at, const End& end,
                                    ZipEntry& entry) const {
  if (left.size() < kCentralBytes || load_little<std::uint32_t>(left.data()) != kCentralMark) {
    throw damaged("its directory is damaged", at);
  }
  const auto flags = load_little<std::uint16_t>(left.data() + 8);
  const auto method = load_little<std::uint16_t>(left.data() + 10);
  std::uint64_t stored = load_little<std::uint32_t>(left.data() + 20);
  entry.size = load_little<std::uint32_t>(left.data() + 24);
  const std::size_t name = load_little<std::uint16_t>(left.data() + 28);
  const std::size_t extra = load_little<std::uint16_t>(left.data() + 30);
  const std::size_t comment = load_little<std::uint16_t>(left.data() + 32);
  entry.header = load_little<std::uint32_t>(left.data() + 42);
  const std::size_t length = kCentralBytes + name + extra + comment;
  if (length > left.size()) throw damaged("its directory is cut short", at);
  entry.name = left.substr(kCentralBytes, name);
  read_wide_sizes(left.substr(kCentralBytes + name, extra), at, stored, entry);
  if (entry.name.empty() || entry.name.find('\0') != std::string::npos) {
    throw damaged("an entry's name is empty or holds a NUL", at);
  }
  constexpr std::uint16_t kEncrypted = 1;
  if ((flags & kEncrypted) != 0) {
    throw error(Code::kUnsupported, "entry " + shown(entry.name) + " is encrypted", at);
  }
  if (method != 0) {
    throw error(Code::kUnsupported,
                "entry " + shown(entry.name) + " is compressed (method " + std::to_string(method) +
                    (method == 8 ? ", Deflate" : "") +
                    "); only stored entries are read, as torch.save writes them",
                at);
  }
  if (stored != entry.size) {
    throw damaged("entry " + shown(entry.name) + " is stored but has two sizes, " +
                      std::to_string(stored) + " and " + std::to_string(entry.size),
                  at);
  }
  if (entry.header > end.directory || end.directory - entry.header < kLocalBytes) {
    throw damaged("entry " + shown(entry.name) + " lies outside the file", at);
  }
  return length;
}

// The bytes begin after the local header, whose name and extra field have lengths of their own.
void ZipReader::locate(const End& end, ZipEntry& entry) const {
  const std::string local = file_.read(entry.header, static_cast<std::size_t>(kLocalBytes));
  if (load_little<std::uint32_t>(local.data()) != kLocalMark) {
    throw damaged("entry " + shown(entry.name) + " has no local header", entry.header);
  }
  const std::uint64_t name = load_little<std::uint16_t>(local.data() + 26);
  const std::uint64_t extra = load_little<std::uint16_t>(local.data() + 28);
  entry.offset = entry.header + kLocalBytes + name + extra;
  if (entry.offset > end.directory || entry.size > end.directory - entry.offset) {
    throw damaged("entry " + shown(entry.name) + " of " + std::to_string(entry.size) +
                      " bytes reaches into the directory",
                  entry.header);
  }
  if (name != entry.name.size() ||
      file_.read(entry.header + kLocalBytes, static_cast<std::size_t>(name)) != entry.name) {
    throw damaged("entry " + shown(entry.name) + " has another name in its local header",
                  entry.header);
  }
}

// Entries that share bytes are how small archives claim to be large.
void ZipReader::check_ranges(std::vector<ZipEntry>& entries) const {
  std::sort(entries.begin(), entries.end(),
            [](const ZipEntry& a, const ZipEntry& b) { return a.header < b.header; });
  for (std::size_t i = 1; i < entries.size(); ++i) {
    const ZipEntry& before = entries[i - 1];
    if (entries[i].header < before.offset + before.size) {
      throw damaged("entries " + shown(before.name) + " and " + shown(entries[i].name) + " overlap",
                    entries[i].header);
    }
  }
  std::vector<std::string_view> names;
  names.reserve(entries.size());
  for (const ZipEntry& entry : entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) throw damaged("entry " + shown(*twice) + " appears twice", 0);
}

std::vector<ZipEntry> ZipReader::read() {
  const End end = read_end();
  check_end(end);
  const std::string directory =
      file_.read(end.directory, static_cast<std::size_t>(end.directory_bytes));
  std::string_view left = directory;
  std::vector<ZipEntry> entries;
  while (!left.empty()) {
    const std::uint64_t at = end.directory + (directory.size() - left.size());
    if (entries.size() == end.entries) throw damaged("its directory has more than stated", at);
    left.remove_prefix(read_central(left, at, end, entries.emplace_back()));
  }
  if (entries.size() != end.entries) {
    throw damaged("its directory has " + std::to_string(entries.size()) + " entries; " +
                      std::to_string(end.entries) + " are stated",
                  end.directory);
  }
  for (ZipEntry& entry : entries) locate(end, entry);
  check_ranges(entries);
  return entries;
}

}  // namespace

std::vector<ZipEntry> read_zip_directory(const Bytes& file, const ZipLimits& limits) {
  return ZipReader(file, limits).read();
}

}  // namespace theriac::tensorfile
