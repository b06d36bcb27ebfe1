// The JSON texts of single resources in a FHIR file, one after the other, in bounded memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/core/base/error.h"
#include "cpp/core/base/input.h"

namespace theriac::readers {

struct FhirLimits {
  std::size_t resource_bytes =
      std::size_t{16} << 20;  // of one resource, and of what a Bundle holds beside its entries
  std::size_t depth = 256;    // of nested objects and arrays
};

// One JSON text and where it stands. `text` is followed by readable padding for simdjson.
struct JsonText {
  std::string_view text;
  std::uint64_t line = 0;   // 1-based, of its first byte
  std::int64_t entry = -1;  // position in the Bundle's `entry`, or -1 for a text of its own
};

// Error(kDataError) "FILE, line N[, at PATH]: what", with file, line and json_path in the details.
// `path` is the FHIR path inside the text ("Encounter.period.start"), or empty.
Error fhir_error(const std::string& file, const JsonText& text, const std::string& path,
                 const std::string& what);

// Not synchronised. A text is valid until the next call of next().
class JsonTexts {
 public:
  virtual ~JsonTexts() = default;
  virtual bool next(JsonText& out) = 0;
};

// One text a line; blank lines, CRLF and a byte order mark are skipped.
std::unique_ptr<JsonTexts> json_lines(std::unique_ptr<ByteSource> source, FhirLimits limits);
// Texts of any layout, one or several in a file. The objects of a top-level `entry` list are handed
// out one by one (`entry` >= 0), then what remains of the Bundle, with that list empty: so that a
// Bundle of any size needs the memory of one resource. The caller checks each text with a full
// parse; nothing of the file escapes that.
std::unique_ptr<JsonTexts> json_documents(std::unique_ptr<ByteSource> source, FhirLimits limits);

}  // namespace theriac::readers
