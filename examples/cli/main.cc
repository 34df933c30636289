// ramet: the command line over the public headers.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "examples/cli/arguments.h"
#include "examples/cli/commands.h"
#include "examples/cli/error.h"
#include "examples/cli/exit_code.h"
#include "examples/cli/output.h"

namespace {

int usage_error(const cli::Arguments& arguments) {
  const cli::ErrorText error = {
      .code = "INVALID_ARGUMENT",
      .reason = "none",
      .message = arguments.error,
      .hint = arguments.for_run ? "`ramet run --help` shows how" : "`ramet --help` shows how",
      .console = {},
  };
  if (!arguments.help.empty() && !arguments.json) {
    cli::print_err(arguments.help);
  }
  return cli::report(arguments, error, arguments.for_run ? cli::kExitRunError : cli::kExitUsage);
}

int dispatch(const cli::Context& context) {
  switch (context.arguments.verb) {
    case cli::Verb::kInvalid:
      return usage_error(context.arguments);
    case cli::Verb::kHelp:
      return cli::print_out(context.arguments.help) ? cli::kExitOk : cli::kExitFailure;
    case cli::Verb::kRun:
      return cli::command_run(context);
    case cli::Verb::kTemplateBuild:
      return cli::command_template_build(context);
    case cli::Verb::kTemplateList:
      return cli::command_template_list(context);
    case cli::Verb::kTemplateRemove:
      return cli::command_template_remove(context);
    case cli::Verb::kDoctor:
      return cli::command_doctor(context);
    case cli::Verb::kVersion:
      return cli::command_version(context);
  }
  return cli::kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  const bool has_stdin = cli::open_standard_fds();
  const std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  // What throws here is std::bad_alloc and std::system_error of threads; the library does not.
  try {
    return dispatch({.arguments = cli::parse_arguments(words),
                     .interrupts = cli::Interrupts::create(),
                     .has_stdin = has_stdin});
  } catch (const std::exception& error) {
    cli::print_err("ramet: " + std::string(error.what()) + "\n");
    return cli::kExitRunError;
  }
}
