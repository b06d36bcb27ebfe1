// Just enough of the FlatBuffers encoding to write Arrow's message headers: tables, vectors,
// strings.
//
// Everything is laid out forwards: a table's vtable, the table, then what it refers to, so that
// every reference points ahead as the encoding demands. Positions are offsets from the buffer's
// start, and alignment is relative to it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace theriac::data {

class FlatBuffer {
 public:
  // A member of a table: its slot in the schema's order, its bytes (1, 2, 4 or 8; a reference has
  // 4), its value (0 for a reference, which `refer` fills in).
  struct Member {
    int slot;
    std::size_t size;
    std::int64_t value;
  };
  static Member reference(int slot) { return {slot, 4, 0}; }

  FlatBuffer() { put<std::uint32_t>(0); }  // the root reference

  // Writes a table; returns the position of each member, in the order given, after the table's own.
  std::vector<std::size_t> table(std::initializer_list<Member> members) {
    int slots = 0;
    for (const Member& member : members) slots = std::max(slots, member.slot + 1);
    align(2);
    const std::size_t vtable = bytes_.size();
    bytes_.append(4 + 2 * static_cast<std::size_t>(slots), '\0');
    align(8);
    const std::size_t start = bytes_.size();
    put<std::int32_t>(static_cast<std::int32_t>(start - vtable));
    std::vector<std::size_t> positions{start};
    for (const Member& member : members) {
      align(member.size);
      set<std::uint16_t>(vtable + 4 + 2 * static_cast<std::size_t>(member.slot),
                         static_cast<std::uint16_t>(bytes_.size() - start));
      positions.push_back(bytes_.size());
      put_sized(member.value, member.size);
    }
    set<std::uint16_t>(vtable, static_cast<std::uint16_t>(4 + 2 * slots));
    set<std::uint16_t>(vtable + 2, static_cast<std::uint16_t>(bytes_.size() - start));
    return positions;
  }

  // Starts a vector whose elements need `alignment`; elements follow by `put`.
  std::size_t vector(std::size_t count, std::size_t alignment) {
    align(4);
    while ((bytes_.size() + 4) % alignment != 0) put<std::uint32_t>(0);
    const std::size_t start = bytes_.size();
    put(static_cast<std::uint32_t>(count));
    return start;
  }

  std::size_t string(std::string_view text) {
    const std::size_t start = vector(text.size(), 4);
    bytes_.append(text);
    bytes_ += '\0';
    return start;
  }

  template <class T>
  std::size_t put(T value) {
    const std::size_t start = bytes_.size();
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return start;
  }

  // Makes the reference at `from` point to `target`.
  void refer(std::size_t from, std::size_t target) {
    set<std::uint32_t>(from, static_cast<std::uint32_t>(target - from));
  }

  const std::string& bytes() const noexcept { return bytes_; }
  void align(std::size_t to) { bytes_.append((to - bytes_.size() % to) % to, '\0'); }

 private:
  template <class T>
  void set(std::size_t position, T value) {
    std::memcpy(bytes_.data() + position, &value, sizeof value);
  }
  void put_sized(std::int64_t value, std::size_t size) {
    bytes_.append(reinterpret_cast<const char*>(&value), size);  // little-endian: the low bytes
  }

  std::string bytes_;
};

}  // namespace theriac::data
