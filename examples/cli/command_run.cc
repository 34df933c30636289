#include <unistd.h>

#include <chrono>
#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include <ramet/sandbox.h>

#include "examples/cli/clocks.h"
#include "examples/cli/commands.h"
#include "examples/cli/console.h"
#include "examples/cli/engine.h"
#include "examples/cli/error.h"
#include "examples/cli/exit_code.h"
#include "examples/cli/guest_environment.h"
#include "examples/cli/json.h"
#include "examples/cli/limits.h"
#include "examples/cli/names.h"
#include "examples/cli/output.h"
#include "examples/cli/table.h"

namespace cli {
namespace {

constexpr std::chrono::seconds kTeardownPatience{10};
constexpr size_t kConsoleLines = 20;

sandbox::ExecOptions exec_options(const Context& context, bool& output_lost) {
  const Arguments& arguments = context.arguments;
  sandbox::ExecOptions options;
  if (!arguments.env.empty()) {
    options.env =
        guest_environment(sandbox::default_environment(), arguments.env, environment_variable);
  }
  if (!arguments.cwd.empty()) {
    options.cwd = arguments.cwd;
  }
  options.user = arguments.user;
  options.timeout = arguments.timeout;
  if (context.has_stdin && (arguments.interactive || !is_terminal(STDIN_FILENO))) {
    options.stdin_fd = STDIN_FILENO;
  }
  if (!arguments.json) {
    options.on_stdout = [&output_lost](std::string_view text) {
      output_lost |= !write_all(STDOUT_FILENO, text);
    };
    options.on_stderr = [](std::string_view text) { write_all(STDERR_FILENO, text); };
  }
  return options;
}

void print_clocks(const sandbox::ForkClocks& clocks) {
  Table table({"clock", "time"}, {Align::kLeft, Align::kRight});
  for (const Clock& clock : clock_list(clocks)) {
    table.add({std::string(clock.label), format_clock(clock.value)});
  }
  print_err(table.text());
}

// Prints what the arguments ask for about a command that ended, and ends the sandbox. False when
// nobody could be told.
bool print_ended(const Arguments& arguments, sandbox::Sandbox& box,
                 const sandbox::ExecResult& result) {
  if (!arguments.json && !arguments.clocks) {
    return true;
  }
  const std::string hostname = box.hostname();
  const auto memory = box.metrics().memory;  // while it has any
  box.kill();
  // The fifth clock is n/a when the teardown takes longer than anyone wants to wait.
  static_cast<void>(box.wait_gone(kTeardownPatience));
  sandbox::Metrics metrics = box.metrics();
  metrics.memory = memory;
  if (arguments.clocks) {
    print_clocks(metrics.clocks);
  }
  return !arguments.json || print_out(json_text(run_json(result, metrics, hostname)));
}

int run_in(const Context& context, sandbox::Sandbox& box, const ConsoleTap& console) {
  const Arguments& arguments = context.arguments;
  bool output_lost = false;
  absl::StatusOr<sandbox::ExecResult> result;
  {
    const Interrupts::Scope scope(context.interrupts, [&box](int) {
      box.kill();
      return AfterSignal::kLetFinish;
    });
    result = box.exec(arguments.command, exec_options(context, output_lost));
  }
  if (const int signal = context.interrupts->received(); signal != 0) {
    const absl::Status interrupted = absl::CancelledError("interrupted; the fork was killed");
    return report(arguments, interrupted, exit_code_of_signal(signal));
  }
  if (!result.ok()) {
    // What a limit ended is an outcome: the guest's last words have nothing to do with it.
    const bool limited = sandbox::limit_of(result.status()).has_value();
    return limited ? report(arguments, result.status(), kExitTimeout)
                   : report(arguments, result.status(), kExitRunError, console.tail(kConsoleLines));
  }
  if (result->limit_hit && !arguments.json) {
    print_err("ramet: the command was killed at a --limit: " + limit_text(*result->limit_hit) +
              "\n");
  }
  if (result->timed_out && !arguments.json) {
    print_err("ramet: the command was killed at its --timeout\n");
  }
  if (!print_ended(arguments, box, *result) || output_lost) {
    print_err("ramet: cannot write to standard output\n");
    return kExitRunError;
  }
  return exit_code_of(*result);
}

}  // namespace

int command_run(const Context& context) {
  const Arguments& arguments = context.arguments;
  const auto fail = [&](const absl::Status& status) {
    return report(arguments, status, kExitRunError);
  };
  const auto where = resolve_template(arguments.names[0], arguments.dir, environment_variable);
  if (!where.ok()) {
    return fail(where.status());
  }
  if (absl::Status status = check_exists(*where); !status.ok()) {
    return fail(status);
  }
  const auto engine = make_engine(arguments);
  if (!engine.ok()) {
    return fail(engine.status());
  }
  const auto from =
      sandbox::Template::load(where->directory.string(), {.rootfs = {}, .engine = *engine});
  if (!from.ok()) {
    return fail(from.status());
  }
  // Outlives the sandbox, whose threads write into it until they are gone.
  ConsoleTap console(arguments.console);
  sandbox::ForkOptions options;
  options.limits = arguments.limits;
  options.hostname = arguments.hostname;
  options.console = [&console](std::string_view text) { console.take(text); };
  if (arguments.isolate) {
    options.isolation = sandbox::Isolation::kProcess;
  }
  auto box = sandbox::fork(*from, options);
  if (!box.ok()) {
    const bool limited = sandbox::limit_of(box.status()).has_value();
    return report(arguments, box.status(), limited ? kExitTimeout : kExitRunError,
                  console.tail(kConsoleLines));
  }
  const int code = run_in(context, *box, console);
  box->kill();
  static_cast<void>(box->wait_gone(kTeardownPatience));
  return code;
}

}  // namespace cli
