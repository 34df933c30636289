// The five clocks of a fork as table rows and as JSON members.
//
// Thread rule: pure functions.
// Invariant: the order and the names are those of sandbox::ForkClocks; a clock that did not happen
// is "n/a" (null in JSON), never 0.
#ifndef RAMET_EXAMPLES_CLI_CLOCKS_H_
#define RAMET_EXAMPLES_CLI_CLOCKS_H_

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include <ramet/outcome.h>

namespace cli {

struct Clock {
  std::string_view label;  // "first agent reply"
  std::string_view key;    // "first_agent_reply_ns"
  std::optional<std::chrono::nanoseconds> value;
};

std::array<Clock, 5> clock_list(const sandbox::ForkClocks& clocks);

// "12.3 ms" or "n/a".
std::string format_clock(const std::optional<std::chrono::nanoseconds>& value);

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_CLOCKS_H_
