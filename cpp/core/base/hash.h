// Content fingerprints (XXH3, 128 bits, hexadecimal) and SHA-256 where a format asks for it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace theriac {

std::uint64_t hash64(std::string_view bytes, std::uint64_t seed = 0) noexcept;  // XXH3-64
std::string hash64_hex(std::string_view bytes);  // the same without a seed, 16 lower-case digits

// Incremental XXH3-128. Each `add` is length-prefixed, so that ("ab","c") differs from ("a","bc").
class Fingerprint {
 public:
  Fingerprint();
  ~Fingerprint();
  Fingerprint(Fingerprint&&) noexcept;
  Fingerprint& operator=(Fingerprint&&) noexcept;
  Fingerprint& add(std::string_view bytes);
  Fingerprint& add(std::int64_t value);
  template <class T>
  Fingerprint& add_values(std::span<const T> values) {
    return add(std::string_view(reinterpret_cast<const char*>(values.data()), values.size_bytes()));
  }
  std::string hex() const;  // 32 lower-case digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace theriac
