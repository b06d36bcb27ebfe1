#include "cpp/core/tensorfile/torch_file.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "cpp/core/tensorfile/layout.h"

namespace theriac::tensorfile {
namespace {

using internal::shown;

constexpr std::string_view kPickleName = "/data.pkl";

class TorchReader {
 public:
  TorchReader(const Bytes& file, const PickleLimits& limits) : file_(file), limits_(limits) {}
  TorchTensors read();

 private:
  Error error(Code code, const std::string& what) const {
    return Error(code, "'" + file_.name() + "': " + what).at("file", file_.name());
  }
  void refuse_old_formats() const;
  void read_directory();
  const ZipEntry* find(const std::string& name) const;
  PickledTensors read_pickle_entry() const;
  void check_byte_order() const;
  TensorRecord locate(PickledTensor tensor) const;

  const Bytes& file_;
  const PickleLimits& limits_;
  std::string top_;  // the folder in the archive that holds everything, with its slash
  std::map<std::string, ZipEntry, std::less<>> entries_;
};

void TorchReader::refuse_old_formats() const {
  // The pickled magic number that old files begin with: PROTO 2, LONG1 of 10 bytes.
  constexpr std::string_view kMagic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 14);
  constexpr std::string_view kTarMark = "ustar";
  constexpr std::uint64_t kTarMarkAt = 257;
  const auto starts = [&](std::uint64_t at, std::string_view text) {
    return file_.size() >= at + text.size() && file_.read(at, text.size()) == text;
  };
  if (starts(0, kMagic) || starts(kTarMarkAt, kTarMark)) {
    throw error(Code::kUnsupported,
                "a file of PyTorch before 1.6, which is not read; load it in Python and save it "
                "again, best as safetensors");
  }
  if (!starts(0, "PK")) {
    throw error(Code::kDataError, "not a file of torch.save: it is no ZIP archive").at("offset", 0);
  }
}

void TorchReader::read_directory() {
  bool script = false;
  std::size_t pickles = 0;
  for (ZipEntry& entry : read_zip_directory(file_)) {
    const std::size_t slash = entry.name.find('/');
    if (slash != std::string::npos) {
      const std::string_view rest = std::string_view(entry.name).substr(slash);
      script = script || rest == "/constants.pkl" || rest.starts_with("/code/");
      if (rest == kPickleName) {
        ++pickles;
        top_ = entry.name.substr(0, slash + 1);
      }
    }
    std::string name = entry.name;
    entries_.emplace(std::move(name), std::move(entry));
  }
  if (script) {
    throw error(Code::kUnsupported,
                "a TorchScript archive, which is a program; save its state_dict instead");
  }
  if (pickles != 1) {
    throw error(Code::kDataError, "not a file of torch.save: the archive has " +
                                      std::to_string(pickles) +
                                      " entries named <top>/data.pkl; expected one");
  }
}

const ZipEntry* TorchReader::find(const std::string& name) const {
  const auto found = entries_.find(top_ + name);
  return found == entries_.end() ? nullptr : &found->second;
}

void TorchReader::check_byte_order() const {
  const ZipEntry* const entry = find("byteorder");
  if (entry == nullptr) return;  // older files have none and are little-endian
  constexpr std::uint64_t kMost = 16;
  const std::string order =
      file_.read(entry->offset, static_cast<std::size_t>(std::min(entry->size, kMost)));
  if (order == "little") return;
  throw error(order == "big" ? Code::kUnsupported : Code::kDataError,
              "its byte order is " + shown(order) + "; only 'little' is read");
}

PickledTensors TorchReader::read_pickle_entry() const {
  const ZipEntry& entry = *find("data.pkl");
  if (entry.size > limits_.bytes) {
    throw error(Code::kDataError, "data.pkl has " + std::to_string(entry.size) +
                                      " bytes; at most " + std::to_string(limits_.bytes) +
                                      " are accepted");
  }
  const std::string pickle = file_.read(entry.offset, static_cast<std::size_t>(entry.size));
  try {
    return read_pickle(pickle, limits_);
  } catch (const Error& failed) {
    Failure failure = failed.failure();
    failure.message = "'" + file_.name() + "', entry '" + top_ + "data.pkl': " + failure.message;
    failure.details.emplace_back("file", file_.name());
    throw Error(std::move(failure));
  }
}

// Strides of a dense tensor, but for dimensions of one element, whose stride never counts.
bool is_dense(const PickledTensor& tensor) {
  std::uint64_t expected = 1;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

TensorRecord TorchReader::locate(PickledTensor tensor) const {
  const auto fail = [&](const std::string& what) {
    throw error(Code::kDataError, "tensor " + shown(tensor.name) + ": " + what)
        .at("tensor", tensor.name);
  };
  const ZipEntry* const entry = find("data/" + tensor.storage);
  if (entry == nullptr) fail("the archive has no storage " + shown(tensor.storage));
  const auto width = static_cast<std::uint64_t>(dtype_bits(tensor.dtype) / 8);
  std::uint64_t needed = 0;
  if (__builtin_mul_overflow(tensor.storage_elements, width, &needed) || needed > entry->size) {
    fail("storage " + shown(tensor.storage) + " has " + std::to_string(entry->size) +
         " bytes; expected " + std::to_string(tensor.storage_elements) + " elements of " +
         std::to_string(width) + " bytes");
  }
  TensorRecord record;
  record.bytes = internal::byte_size(tensor.dtype, tensor.shape).value();  // checked by the pickle
  record.offset = entry->offset + tensor.first * width;
  if (record.bytes > 0 && !is_dense(tensor)) record.strides = std::move(tensor.strides);
  record.name = std::move(tensor.name);
  record.dtype = tensor.dtype;
  record.shape = std::move(tensor.shape);
  return record;
}

TorchTensors TorchReader::read() {
  refuse_old_formats();
  read_directory();
  check_byte_order();
  PickledTensors pickled = read_pickle_entry();
  TorchTensors out;
  out.ignored = std::move(pickled.ignored);
  out.tensors.reserve(pickled.tensors.size());
  for (PickledTensor& tensor : pickled.tensors) out.tensors.push_back(locate(std::move(tensor)));
  return out;
}

}  // namespace

TorchTensors read_torch_file(const Bytes& file, const PickleLimits& limits) {
  return TorchReader(file, limits).read();
}

}  // namespace theriac::tensorfile
