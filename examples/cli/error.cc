#include "examples/cli/error.h"

#include "examples/cli/output.h"

namespace cli {

int print_result(std::string_view text, int exit_code, int failure) {
  if (print_out(text)) {
    return exit_code;
  }
  print_err("ramet: cannot write to standard output\n");
  return failure;
}

int report(const Arguments& arguments, const ErrorText& error, int exit_code) {
  if (arguments.json) {
    print_out(json_text(error_json(error)));
  } else {
    print_err(error_lines(error));
  }
  return exit_code;
}

int report(const Arguments& arguments, const absl::Status& status, int exit_code,
           const std::string& console) {
  const sandbox::Reason reason = sandbox::reason_of(status);
  const std::string target = arguments.names.empty() ? std::string() : arguments.names[0];
  const ErrorText error = {
      .code = absl::StatusCodeToString(status.code()),
      .reason = std::string(sandbox::reason_name(reason)),
      .message = std::string(status.message()),
      .hint = hint_for(reason, status.code(), target),
      .console = console,
      .limit = sandbox::limit_of(status),
      .retry_after = sandbox::retry_after(status),
  };
  return report(arguments, error, exit_code);
}

}  // namespace cli
