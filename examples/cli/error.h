// Errors of Ramet as a person or a program wants them: what happened, and what to do about it.
//
// Thread rule: free functions.
// Invariant: with --json an error is one JSON document on standard output; without, lines on
// standard error that begin with "ramet: ".
#ifndef RAMET_EXAMPLES_CLI_ERROR_H_
#define RAMET_EXAMPLES_CLI_ERROR_H_

#include <string>
#include <string_view>

#include <absl/status/status.h>

#include <ramet/reason.h>

#include "examples/cli/arguments.h"
#include "examples/cli/json.h"

namespace cli {

// What to do about an error of this kind; empty where its message says it all. `target` is the
// template that the command is about, as it was given; empty: none.
std::string hint_for(sandbox::Reason reason, absl::StatusCode code, const std::string& target);

// "ramet: MESSAGE", then the hint, then the guest's last words.
std::string error_lines(const ErrorText& error);

// Prints the result of a command. Returns `exit_code`, or `failure` when nobody could be told.
int print_result(std::string_view text, int exit_code, int failure);

// Prints the error as the arguments ask for. Returns `exit_code`.
int report(const Arguments& arguments, const ErrorText& error, int exit_code);
int report(const Arguments& arguments, const absl::Status& status, int exit_code,
           const std::string& console = "");

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_ERROR_H_
