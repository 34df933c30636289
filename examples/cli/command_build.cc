#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <absl/strings/str_format.h>

#include <ramet/template.h>

#include "examples/cli/commands.h"
#include "examples/cli/console.h"
#include "examples/cli/engine.h"
#include "examples/cli/error.h"
#include "examples/cli/exit_code.h"
#include "examples/cli/json.h"
#include "examples/cli/names.h"
#include "examples/cli/output.h"
#include "examples/cli/progress.h"
#include "examples/cli/staging.h"
#include "examples/cli/table.h"
#include "examples/cli/units.h"

namespace cli {
namespace {

constexpr size_t kConsoleLines = 20;

std::string absolute(const std::string& path) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::absolute(path, error);
  return path.empty() || error ? path : whole.string();
}

Progress::Style progress_style(const Arguments& arguments) {
  if (arguments.quiet) {
    return Progress::Style::kNone;
  }
  // A bar and the guest's console would overwrite each other.
  const bool able =
      is_terminal(STDERR_FILENO) && environment_variable("TERM").value_or("dumb") != "dumb";
  return able && !arguments.console ? Progress::Style::kBar : Progress::Style::kLines;
}

sandbox::TemplateOptions template_options(const Arguments& arguments) {
  sandbox::TemplateOptions options;
  options.kernel = {.image = absolute(arguments.kernel), .tree = absolute(arguments.kernel_tree)};
  // Absolute, because the template remembers it.
  options.rootfs = absolute(arguments.rootfs);
  for (const std::string& warmup : arguments.warmups) {
    options.more_warmups.push_back({"/bin/sh", "-c", warmup});
  }
  options.memory_bytes = arguments.memory_bytes;
  options.vcpus = arguments.vcpus;
  options.scratch_bytes = arguments.scratch_bytes;
  options.extra_command_line = arguments.extra_command_line;
  options.boot_timeout = arguments.boot_timeout;
  return options;
}

struct Built {
  sandbox::TemplateInfo info;
  std::vector<Progress::Step> steps;
};

// Builds, and saves into the staging directory. A signal meanwhile removes that and ends the
// process: Template::build cannot be stopped from outside, but this process is ours alone.
absl::StatusOr<Built> build(const Context& context, Staging& staging, ConsoleTap& console) {
  const auto engine = make_engine(context.arguments);
  if (!engine.ok()) {
    return engine.status();
  }
  Progress progress(progress_style(context.arguments));
  const Interrupts::Scope scope(context.interrupts, [&](int) {
    progress.clear();
    staging.discard();
    print_err("ramet: interrupted; nothing was left behind\n");
    return AfterSignal::kExitNow;
  });
  uint32_t total = 0;
  sandbox::TemplateOptions options = template_options(context.arguments);
  options.engine = *engine;
  options.console = [&console](std::string_view text) { console.take(text); };
  options.progress = [&](const sandbox::BuildProgress& at) {
    // Writing it down is one step more than the library knows of.
    total = at.total + 1;
    if (at.done < at.total) {
      progress.step({.step = at.step, .done = at.done, .total = total});
    }
  };
  const auto built = sandbox::Template::build(std::move(options));
  if (!built.ok()) {
    return built.status();
  }
  progress.step({.step = "write", .done = total - 1, .total = total});
  if (absl::Status status = built->save(staging.path().string()); !status.ok()) {
    return status;
  }
  if (absl::Status status = staging.commit(); !status.ok()) {
    return status;
  }
  return Built{.info = built->info(), .steps = progress.finish()};
}

int print_built(const Arguments& arguments, const TemplateRef& where, const Built& built) {
  std::chrono::nanoseconds took{};
  Json steps = Json::array();
  for (const Progress::Step& step : built.steps) {
    took += step.took;
    steps.push_back({{"step", step.name}, {"took_ns", step.took.count()}});
  }
  const std::string name = where.directory.filename();
  if (arguments.json) {
    return print_result(
        json_text({{"template", template_json(name, where.directory.string(), built.info)},
                   {"took_ns", took.count()},
                   {"steps", steps}}),
        kExitOk, kExitFailure);
  }
  return print_result(printable(absl::StrFormat(
                          "template %s: Linux %s, %d vCPU%s, %s of memory (%s stored), "
                          "built in %s",
                          where.name, built.info.kernel_release, built.info.vcpus,
                          built.info.vcpus == 1 ? "" : "s", format_size(built.info.memory_bytes),
                          format_size(built.info.stored_memory_bytes), format_duration(took))) +
                          "\n",
                      kExitOk, kExitFailure);
}

}  // namespace

int command_template_build(const Context& context) {
  const Arguments& arguments = context.arguments;
  const auto where = resolve_template(arguments.names[0], arguments.dir, environment_variable);
  if (!where.ok()) {
    return report(arguments, where.status(), kExitFailure);
  }
  // First, so that a name that is taken costs no boot.
  const auto staging = Staging::create(where->directory);
  if (!staging.ok()) {
    return report(arguments, staging.status(), kExitFailure);
  }
  ConsoleTap console(arguments.console);
  const auto built = build(context, **staging, console);
  if (!built.ok()) {
    const bool shown = arguments.console;
    return report(arguments, built.status(), kExitFailure,
                  shown ? std::string() : console.tail(kConsoleLines));
  }
  return print_built(arguments, *where, *built);
}

}  // namespace cli
