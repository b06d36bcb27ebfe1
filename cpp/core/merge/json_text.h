// Edits of a JSON text that leave everything else as it was written: numbers, order, white space.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace theriac::merge {

// The text of a JSON document that is known to be valid: behaviour is undefined for any other.
class JsonText {
 public:
  explicit JsonText(std::string text) : text_(std::move(text)) {
    if (text_.starts_with("\xef\xbb\xbf")) text_.erase(0, 3);  // a byte order mark
  }
  const std::string& text() const { return text_; }

  // Replaces the value at a path; a last key that is missing is appended to its object. False where
  // the way there does not exist.
  bool set(const std::vector<std::string>& path, const std::string& value);
  // Appends to the array or object at a path of keys. `items`: one or more values, or members with
  // their keys, with commas between them. False where there is nothing to append to.
  bool append(const std::vector<std::string>& path, const std::string& items);

 private:
  struct Member {
    bool found = false, empty = true;
    std::size_t value = 0;  // where it starts
    std::size_t last = 0;   // end of the last member, or after the brace
  };
  Member find(std::size_t object, std::string_view key) const;
  std::size_t skip(std::size_t at) const;
  std::size_t value_end(std::size_t at) const;
  std::size_t string_end(std::size_t at) const;

  std::string text_;
};

}  // namespace theriac::merge
