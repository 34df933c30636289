// The commands of `ramet`: each takes the parsed command line, prints, and returns the exit code.
//
// Thread rule: on the main thread.
// Invariant: nothing is left running or half-written when one returns.
#ifndef RAMET_EXAMPLES_CLI_COMMANDS_H_
#define RAMET_EXAMPLES_CLI_COMMANDS_H_

#include <memory>

#include "examples/cli/arguments.h"
#include "examples/cli/interrupt.h"

namespace cli {

struct Context {
  Arguments arguments;
  std::shared_ptr<Interrupts> interrupts;
  bool has_stdin = false;  // descriptor 0 was open when we began
};

int command_run(const Context& context);
int command_template_build(const Context& context);
int command_template_list(const Context& context);
int command_template_remove(const Context& context);
int command_doctor(const Context& context);
int command_version(const Context& context);

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_COMMANDS_H_
