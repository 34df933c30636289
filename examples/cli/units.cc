#include "examples/cli/units.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_format.h>
#include <absl/time/time.h>

namespace cli {
namespace {

constexpr std::chrono::hours kLongestDuration{24 * 365};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// How far to shift for a suffix; -1: no such suffix.
int suffix_shift(std::string_view suffix) {
  std::string lower(suffix);
  absl::AsciiStrToLower(&lower);
  if (lower.empty() || lower == "b") {
    return 0;
  }
  const std::string_view rest = std::string_view(lower).substr(1);
  if (!rest.empty() && rest != "b" && rest != "ib") {
    return -1;
  }
  constexpr std::string_view kLetters = "kmgt";
  const size_t at = kLetters.find(lower[0]);
  return at == std::string_view::npos ? -1 : static_cast<int>(at + 1) * 10;
}

absl::Status bad_size(std::string_view text, std::string_view why) {
  return absl::InvalidArgumentError(absl::StrFormat(
      "\"%s\" is no size: %s; write a whole number with K, M, G or T, as in 256M or 1G",
      std::string(text), std::string(why)));
}

absl::Status bad_duration(std::string_view text, std::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrFormat("\"%s\" is no duration: %s; write a number with ms, s, m or h, as in 500ms, "
                      "30s or 1.5m (a bare number is seconds)",
                      std::string(text), std::string(why)));
}

// Three significant digits, without a fraction that is all zeros: 1, 1.5, 12.3, 256.
std::string three_digits(double value) {
  std::string text = absl::StrFormat("%.*f", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value);
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') {
      text.pop_back();
    }
  }
  return text;
}

}  // namespace

absl::StatusOr<uint64_t> parse_size(std::string_view text) {
  if (text.empty()) {
    return bad_size(text, "it is empty");
  }
  const auto digits_end = std::find_if_not(text.begin(), text.end(), is_digit);
  const std::string digits(text.begin(), digits_end);
  const std::string suffix(digits_end, text.end());
  if (digits.empty()) {
    return bad_size(text, "it does not begin with a digit");
  }
  if (suffix[0] == '.' || suffix[0] == ',') {
    return bad_size(text, "it has a fraction");
  }
  const int shift = suffix_shift(suffix);
  if (shift < 0) {
    return bad_size(text, absl::StrFormat("\"%s\" is no suffix", suffix));
  }
  uint64_t number = 0;
  if (!absl::SimpleAtoi(digits, &number) ||
      number > std::numeric_limits<uint64_t>::max() >> shift) {
    return bad_size(text, "it does not fit in 64 bits");
  }
  return number << shift;
}

absl::StatusOr<std::chrono::milliseconds> parse_duration(std::string_view text) {
  std::string spelled(text);
  if (!spelled.empty() && (is_digit(spelled.back()) || spelled.back() == '.')) {
    spelled += 's';
  }
  if (spelled.empty() || !is_digit(spelled[0])) {
    return bad_duration(text, spelled.empty() ? "it is empty" : "it does not begin with a digit");
  }
  absl::Duration parsed;
  if (!absl::ParseDuration(spelled, &parsed)) {
    return bad_duration(text, "it has another form");
  }
  if (parsed > absl::FromChrono(kLongestDuration)) {
    return bad_duration(text, "it is longer than a year");
  }
  if (parsed > absl::ZeroDuration() && parsed < absl::Milliseconds(1)) {
    return bad_duration(text, "it is shorter than a millisecond");
  }
  return absl::ToChronoMilliseconds(parsed);
}

std::string format_size(uint64_t bytes) {
  constexpr std::array<std::string_view, 4> kUnits = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) {
    return absl::StrFormat("%d byte%s", bytes, bytes == 1 ? "" : "s");
  }
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1023.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return three_digits(value) + " " + std::string(kUnits[unit]);
}

std::string format_duration(std::chrono::nanoseconds duration) {
  const auto ns = static_cast<double>(duration.count());
  if (ns < 999'500) {
    return three_digits(ns / 1e3) + " us";
  }
  if (ns < 999'500'000) {
    return three_digits(ns / 1e6) + " ms";
  }
  return three_digits(ns / 1e9) + " s";
}

}  // namespace cli
