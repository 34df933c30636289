// --limit NAME=VALUE[:ACTION] as a value, and limits that were reached as text.
//
// Thread rule: pure functions.
// Invariant: what cannot be understood is an error that names what would be right.
#ifndef RAMET_EXAMPLES_CLI_LIMITS_H_
#define RAMET_EXAMPLES_CLI_LIMITS_H_

#include <string>
#include <string_view>

#include <absl/status/status.h>

#include <ramet/options.h>
#include <ramet/outcome.h>

namespace cli {

// Sets the limit that `text` names: "wall=30s", "memory=64M", "exits=1000:end".
absl::Status set_limit(std::string_view text, sandbox::Limits* limits);

// "private_memory"; for JSON, as the library names it.
std::string_view limit_key(sandbox::Limit limit);
// "private memory: 64 MiB allowed, 71.2 MiB used".
std::string limit_text(const sandbox::LimitHit& hit);

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_LIMITS_H_
