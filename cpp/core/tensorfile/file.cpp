#include <algorithm>

#include "cpp/core/base/options.h"
#include "cpp/core/tensorfile/layout.h"
#include "cpp/core/tensorfile/safetensors.h"

namespace theriac::tensorfile {
namespace {

Header parse_of(const std::filesystem::path& path, std::string_view bytes, const Limits& limits) {
  try {
    return Header::parse(bytes, bytes.size(), limits);
  } catch (const Error& error) {
    Failure failure = error.failure();
    failure.message = "'" + path.string() + "': " + failure.message;
    failure.details.emplace_back("file", path.string());
    throw Error(std::move(failure));
  }
}

}  // namespace

File::File(const std::filesystem::path& path, const Limits& limits)
    : path_(path), map_(path), header_(parse_of(path, map_.bytes(), limits)) {
  for (std::size_t i = 0; i < header_.tensors.size(); ++i)
    index_.emplace(header_.tensors[i].name, i);
}

const TensorInfo* File::find(std::string_view name) const noexcept {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.tensors[found->second];
}

const TensorInfo& File::at(std::string_view name) const {
  if (const TensorInfo* found = find(name)) return *found;
  constexpr std::size_t kCompared = 10'000;  // bounds the time an error takes
  std::vector<std::string> names;
  for (std::size_t i = 0; i < std::min(kCompared, header_.tensors.size()); ++i) {
    names.push_back(header_.tensors[i].name);
  }
  const std::string nearest = nearest_name(name, names);
  throw Error(Code::kNotFound,
              "'" + path_.string() + "' has no tensor " + internal::shown(name) +
                  (nearest.empty() ? "" : "; the nearest is " + internal::shown(nearest)))
      .at("file", path_.string())
      .at("tensor", std::string(name));
}

std::string_view File::bytes(const TensorInfo& tensor) const noexcept {
  const std::string_view all = map_.bytes();
  return {all.data() + header_.buffer_offset + tensor.begin,
          static_cast<std::size_t>(tensor.end - tensor.begin)};
}

}  // namespace theriac::tensorfile
