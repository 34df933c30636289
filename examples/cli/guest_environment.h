// The environment of a command in the guest when --env is given.
//
// Thread rule: pure functions; the host's environment is handed in.
// Invariant: a name appears once; of several mentions the last one counts.
#ifndef RAMET_EXAMPLES_CLI_GUEST_ENVIRONMENT_H_
#define RAMET_EXAMPLES_CLI_GUEST_ENVIRONMENT_H_

#include <string>
#include <vector>

#include "examples/cli/names.h"

namespace cli {

// `base`, overridden and added to by `given`: NAME=VALUE, or NAME to take the host's value (left
// out when the host has none).
std::vector<std::string> guest_environment(std::vector<std::string> base,
                                           const std::vector<std::string>& given,
                                           const Environment& host);

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_GUEST_ENVIRONMENT_H_
