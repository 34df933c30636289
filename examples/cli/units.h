// Sizes and durations as people write them: "256M", "1G", "30s", "500ms".
//
// Thread rule: pure functions.
// Invariant: what cannot be understood is an error that says what was given and what would be
// right; nothing is rounded or guessed.
#ifndef RAMET_EXAMPLES_CLI_UNITS_H_
#define RAMET_EXAMPLES_CLI_UNITS_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include <absl/status/statusor.h>

namespace cli {

// Bytes: a whole number with an optional suffix K, M, G or T (powers of 1024; "KiB" and "KB" mean
// the same as "K").
absl::StatusOr<uint64_t> parse_size(std::string_view text);

// A number with ms, s, m or h ("1.5s", "1m30s"); a bare number is seconds, as in timeout(1). 0 is
// allowed; at most a year.
absl::StatusOr<std::chrono::milliseconds> parse_duration(std::string_view text);

// "256 MiB", "1.5 GiB", "17 bytes": three significant digits.
std::string format_size(uint64_t bytes);

// "834 us", "12.3 ms", "4.56 s".
std::string format_duration(std::chrono::nanoseconds duration);

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_UNITS_H_
