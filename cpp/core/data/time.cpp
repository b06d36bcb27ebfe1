// Civil time without a locale or time zone: the proleptic Gregorian calendar of <chrono>.

#include <chrono>
#include <cstdio>

#include "cpp/core/base/error.h"
#include "cpp/core/data/cohort.h"

namespace theriac::data {
namespace {

// Reads a date and time from left to right. Messages name the part, never the text.
class TimeText {
 public:
  explicit TimeText(std::string_view text) : rest_(text), size_(text.size()) {}

  bool done() const { return rest_.empty(); }
  std::size_t position() const { return size_ - rest_.size(); }

  bool take(char c) {
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }

  // Exactly `digits` decimal digits with a value in [low, high].
  int number(std::size_t digits, int low, int high, const char* part) {
    if (rest_.size() < digits) fail(part);
    int value = 0;
    for (std::size_t i = 0; i < digits; ++i) {
      if (!is_digit(rest_[i])) fail(part);
      value = value * 10 + (rest_[i] - '0');
    }
    if (value < low || value > high) fail(part);
    rest_.remove_prefix(digits);
    return value;
  }

  void skip_fraction() {
    if (!take('.')) return;
    if (rest_.empty() || !is_digit(rest_.front())) fail("fraction");
    while (!rest_.empty() && is_digit(rest_.front())) rest_.remove_prefix(1);
  }

  void skip_zone() {
    if (take('Z') || (!take('+') && !take('-'))) return;
    number(2, 0, 14, "zone");
    if (done()) return;
    take(':');
    number(2, 0, 59, "zone");
  }

  [[noreturn]] void fail(const char* part) const {
    throw Error(Code::kDataError,
                std::string("a time's ") + part +
                    " is malformed or out of range; expected YYYY, YYYY-MM, YYYY-MM-DD or "
                    "YYYY-MM-DD HH:MM:SS with optional fraction and zone")
        .at("part", part)
        .at("position", position());
  }

 private:
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  std::string_view rest_;
  std::size_t size_;
};

std::chrono::sys_days read_date(TimeText& text) {
  using std::chrono::day, std::chrono::month, std::chrono::year;
  const year y{text.number(4, 1, 9999, "year")};
  if (!text.take('-')) return std::chrono::sys_days{y / 1 / 1};
  const month m{static_cast<unsigned>(text.number(2, 1, 12, "month"))};
  if (!text.take('-')) return std::chrono::sys_days{y / m / 1};
  const day d{static_cast<unsigned>(text.number(2, 1, 31, "day"))};
  const std::chrono::year_month_day date{y, m, d};
  if (!date.ok()) text.fail("day");
  return std::chrono::sys_days{date};
}

// Seconds into the day. A leap second (":60", allowed by FHIR) counts as the last second before it,
// so that times stay in their day.
std::int64_t read_clock(TimeText& text) {
  const int hour = text.number(2, 0, 23, "hour");
  if (!text.take(':')) text.fail("minute");
  const int minute = text.number(2, 0, 59, "minute");
  int second = 0;
  if (text.take(':')) {
    second = text.number(2, 0, 60, "second");
    text.skip_fraction();
  }
  text.skip_zone();
  return hour * 3600 + minute * 60 + (second == 60 ? 59 : second);
}

}  // namespace

std::int64_t parse_time(std::string_view text) {
  constexpr std::size_t kWholeDate = 10;  // "YYYY-MM-DD"; only then may a clock follow
  TimeText reader(text);
  const std::chrono::sys_days date = read_date(reader);
  std::int64_t seconds = std::int64_t{date.time_since_epoch().count()} * 86'400;
  if (reader.position() == kWholeDate && (reader.take(' ') || reader.take('T'))) {
    seconds += read_clock(reader);
  }
  if (!reader.done()) reader.fail("ending");
  return seconds;
}

std::string format_time(std::int64_t seconds) {
  if (seconds == kNoTime) return {};
  if (seconds < kFirstTime || seconds > kLastTime) {
    throw Error(Code::kInvalidArgument, "a time lies outside the years 1 to 9999");
  }
  const std::chrono::sys_seconds time{std::chrono::seconds{seconds}};
  const auto date = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day day{date};
  const std::chrono::hh_mm_ss clock{time - date};
  char text[64];
  const int size = std::snprintf(
      text, sizeof text, "%04d-%02u-%02u %02d:%02d:%02d", static_cast<int>(day.year()),
      static_cast<unsigned>(day.month()), static_cast<unsigned>(day.day()),
      static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
      static_cast<int>(clock.seconds().count()));
  return std::string(text, static_cast<std::size_t>(size));
}

}  // namespace theriac::data
