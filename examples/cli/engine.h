// The engine of one command.
//
// Thread rule: free function.
// Invariant: warnings of the library go to standard error, and nothing below them.
#ifndef RAMET_EXAMPLES_CLI_ENGINE_H_
#define RAMET_EXAMPLES_CLI_ENGINE_H_

#include <memory>

#include <absl/status/statusor.h>

#include <ramet/engine.h>

#include "examples/cli/arguments.h"

namespace cli {

absl::StatusOr<std::shared_ptr<sandbox::Engine>> make_engine(const Arguments& arguments);

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_ENGINE_H_
