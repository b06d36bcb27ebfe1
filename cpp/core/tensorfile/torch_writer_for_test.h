// Writes the files that torch.save would write, and broken ones, for tests.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace theriac::testing_support {

template <class T>
std::string little(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// Pieces of a pickle: each function gives the opcodes that leave its value on the stack.
namespace pickle {

using Sizes = std::vector<std::int64_t>;

inline std::string program(const std::string& root) { return "\x80\x02" + root + "."; }
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string text(const std::string& value) {
  return "X" + little(static_cast<std::uint32_t>(value.size())) + value;
}
inline std::string integer(std::int64_t value) {
  if (value >= 0 && value < 256) return "K" + little(static_cast<std::uint8_t>(value));
  if (value >= 0 && value < 65536) return "M" + little(static_cast<std::uint16_t>(value));
  if (value == static_cast<std::int32_t>(value))
    return "J" + little(static_cast<std::int32_t>(value));
  return "\x8a\x08" + little(value);
}
inline std::string tuple(std::initializer_list<std::string> items) {
  std::string out = "(";
  for (const auto& item : items) out += item;
  return out + "t";
}
inline std::string sizes(const Sizes& values) {
  std::string out = "(";
  for (const std::int64_t value : values) out += integer(value);
  return out + "t";
}
inline std::string call(const std::string& function, const std::string& arguments) {
  return function + arguments + "R";
}
inline std::string ordered_dict() { return call(global("collections", "OrderedDict"), ")"); }
inline std::string dict(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::string out = "}(";
  for (const auto& [key, value] : pairs) out += text(key) + value;
  return out + "u";
}
inline std::string storage(const std::string& type, const std::string& key, std::int64_t numel) {
  const std::string module = type == "UntypedStorage" ? "torch.storage" : "torch";
  return tuple({text("storage"), global(module, type), text(key), text("cpu"), integer(numel)}) +
         "Q";
}
inline std::string tensor(const std::string& stored, std::int64_t first, const Sizes& shape,
                          const Sizes& strides) {
  return call(
      global("torch._utils", "_rebuild_tensor_v2"),
      tuple({stored, integer(first), sizes(shape), sizes(strides), "\x89", ordered_dict()}));
}
inline std::string typed_tensor(const std::string& stored, const Sizes& shape, const Sizes& strides,
                                const std::string& dtype) {
  return call(global("torch._utils", "_rebuild_tensor_v3"),
              tuple({stored, integer(0), sizes(shape), sizes(strides), "\x89", ordered_dict(),
                     global("torch", dtype)}));
}
inline std::string parameter(const std::string& value) {
  return call(global("torch._utils", "_rebuild_parameter"), tuple({value, "\x88", ordered_dict()}));
}

}  // namespace pickle

// A ZIP archive; the fields may lie.
struct ZipFile {
  struct Entry {
    std::string name, bytes;
    std::uint16_t method = 0, flags = 0;
    std::string local_name = name;    // in the local header
    std::int64_t stated_size = -1;    // in the directory, if not the true one
    std::int64_t stated_header = -1;  // likewise
    std::size_t padding = 0;          // extra bytes in the local header, for alignment
  };
  std::vector<Entry> entries;
  bool zip64 = false;
  std::string comment;

  std::string bytes() const {
    std::string out;
    std::vector<std::uint64_t> headers;
    for (const Entry& entry : entries) {
      headers.push_back(out.size());
      out += "PK\x03\x04" + little<std::uint16_t>(20) + little(entry.flags) + little(entry.method) +
             std::string(8, '\0') + sizes32(entry.bytes.size()) +
             little(static_cast<std::uint16_t>(entry.local_name.size())) +
             little(static_cast<std::uint16_t>(entry.padding)) + entry.local_name +
             std::string(entry.padding, 'Z') + entry.bytes;
    }
    const std::uint64_t directory = out.size();
    for (std::size_t i = 0; i < entries.size(); ++i) out += central(entries[i], headers[i]);
    return out + end(directory, out.size() - directory, out.size());
  }

 private:
  static std::string sizes32(std::uint64_t size) {
    return little(static_cast<std::uint32_t>(size)) + little(static_cast<std::uint32_t>(size));
  }
  std::string central(const Entry& entry, std::uint64_t header) const {
    if (entry.stated_header >= 0) header = static_cast<std::uint64_t>(entry.stated_header);
    const std::uint64_t size =
        entry.stated_size < 0 ? entry.bytes.size() : static_cast<std::uint64_t>(entry.stated_size);
    std::string extra;
    if (zip64) {
      extra = little<std::uint16_t>(0x4246) + little<std::uint16_t>(1) + "x" +  // somebody else's
              little<std::uint16_t>(1) + little<std::uint16_t>(24) + little(size) + little(size) +
              little(header);
    }
    const std::uint32_t full = 0xFFFFFFFF;
    return "PK\x01\x02" + std::string(4, '\0') + little(entry.flags) + little(entry.method) +
           std::string(8, '\0') + (zip64 ? little(full) + little(full) : sizes32(size)) +
           little(static_cast<std::uint16_t>(entry.name.size())) +
           little(static_cast<std::uint16_t>(extra.size())) + std::string(10, '\0') +
           little(zip64 ? full : static_cast<std::uint32_t>(header)) + entry.name + extra;
  }
  std::string end(std::uint64_t directory, std::uint64_t size, std::uint64_t at) const {
    std::string out;
    const std::uint64_t count = entries.size();
    if (zip64) {
      out = "PK\x06\x06" + little<std::uint64_t>(44) + std::string(12, '\0') + little(count) +
            little(count) + little(size) + little(directory) + "PK\x06\x07" +
            little<std::uint32_t>(0) + little(at) + little<std::uint32_t>(1);
    }
    const std::uint32_t full = 0xFFFFFFFF;
    const auto count16 = static_cast<std::uint16_t>(zip64 ? 0xFFFF : count);
    return out + "PK\x05\x06" + std::string(4, '\0') + little(count16) + little(count16) +
           little(zip64 ? full : static_cast<std::uint32_t>(size)) +
           little(zip64 ? full : static_cast<std::uint32_t>(directory)) +
           little(static_cast<std::uint16_t>(comment.size())) + comment;
  }
};

// A file of torch.save: the pickle and its storages by key.
inline ZipFile torch_archive(const std::string& program,
                             const std::vector<std::pair<std::string, std::string>>& storages,
                             const std::string& byte_order = "little") {
  ZipFile zip;
  zip.entries.push_back({"weights/data.pkl", program});
  if (!byte_order.empty()) zip.entries.push_back({"weights/byteorder", byte_order});
  for (const auto& [key, bytes] : storages) zip.entries.push_back({"weights/data/" + key, bytes});
  zip.entries.push_back({"weights/version", "3\n"});
  return zip;
}

inline std::string torch_file(const std::string& program,
                              const std::vector<std::pair<std::string, std::string>>& storages) {
  return torch_archive(program, storages).bytes();
}

}  // namespace theriac::testing_support
