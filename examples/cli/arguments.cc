#include "examples/cli/arguments.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include <CLI/CLI.hpp>
#include <absl/status/statusor.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>

#include "examples/cli/help.h"
#include "examples/cli/limits.h"
#include "examples/cli/units.h"

namespace cli {
namespace {

// Options as they were spelled; sizes and durations are read after the parse, for better messages.
struct Spelled {
  std::string memory = "256M";
  std::string scratch = "1G";
  std::string boot_timeout = "60s";
  std::string timeout = "0";
  std::vector<std::string> limits = {};
};

// CLI11 knows nothing of what stands behind "--", and lists commands with their whole description.
class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* app, std::string name) const override {
    std::string usage = CLI::Formatter::make_usage(app, std::move(name));
    // A list only so that surplus words get a better message than CLI11's.
    if (app->get_name() != "rm") {
      usage = absl::StrReplaceAll(usage, {{"...", ""}});
    }
    if (app->get_name() == "run") {
      usage.insert(usage.find_last_not_of('\n') + 1, " -- COMMAND [ARGUMENT...]");
    }
    return usage;
  }
  std::string make_subcommand(const CLI::App* app) const override {
    std::string about = app->get_description();
    about.erase(std::min(about.size(), about.find('.')));
    std::replace(about.begin(), about.end(), '\n', ' ');
    return absl::StrFormat("  %-10s %s\n", app->get_name(), about);
  }
};

CLI::App* add_command(CLI::App& parent, const char* name, std::string_view about,
                      std::string_view more = "") {
  CLI::App* command = parent.add_subcommand(name, std::string(about));
  // So that --json is understood behind a command too.
  command->fallthrough();
  command->footer(more.empty() ? std::string() : "\n" + std::string(more));
  return command;
}

// One value at each mention: without this CLI11 takes "[a,b]" apart and eats what follows.
CLI::Option* once_each(CLI::Option* option) { return option->allow_extra_args(false); }

void add_dir(CLI::App* command, Arguments& out) {
  command->add_option("--dir", out.dir, "directory of templates")->type_name("DIR");
}

void add_kvm(CLI::App* command, Arguments& out) {
  command->add_option("--kvm", out.kvm_device, "the KVM device (default: /dev/kvm)")
      ->type_name("PATH");
}

void add_build(CLI::App& parent, Arguments& out, Spelled& spelled) {
  CLI::App* build = add_command(parent, "build", help::kBuild, help::kBuildMore);
  build->add_option("NAME", out.names, "name of the new template, or a directory with a slash")
      ->required()
      ->option_text(" ");
  build->add_option("--rootfs", out.rootfs, "root file system image: ext4, erofs or squashfs")
      ->type_name("IMAGE")
      ->required();
  build->add_option("--kernel", out.kernel, "a bzImage or ELF vmlinux")->type_name("IMAGE");
  build
      ->add_option("--kernel-tree", out.kernel_tree,
                   "directory with boot/vmlinuz-* and lib/modules, as `dpkg -x` leaves it")
      ->type_name("DIR");
  build->add_option("--memory", spelled.memory, "guest memory (default: 256M)")->type_name("SIZE");
  build->add_option("--vcpus", out.vcpus, "virtual processors, 1 to 8 (default: 1)")
      ->type_name("N")
      ->check(CLI::Range(1, 8));
  build
      ->add_option("--scratch", spelled.scratch,
                   "disk for what each fork writes; 0: in memory (default: 1G)")
      ->type_name("SIZE");
  once_each(build->add_option("--warmup", out.warmups,
                              "run by `sh -c` before the freeze; may be given several times"))
      ->type_name("COMMAND");
  build->add_option("--append", out.extra_command_line, "appended to the kernel's command line")
      ->type_name("TEXT");
  build->add_option("--boot-timeout", spelled.boot_timeout, "limit for the boot (default: 60s)")
      ->type_name("TIME");
  build->add_flag("--console", out.console, "show the guest's console on standard error");
  build->add_flag("-q,--quiet", out.quiet, "no progress");
  add_dir(build, out);
  add_kvm(build, out);
  build->callback([&out] { out.verb = Verb::kTemplateBuild; });
}

void add_template(CLI::App& app, Arguments& out, Spelled& spelled) {
  CLI::App* group = add_command(app, "template", help::kTemplate);
  group->require_subcommand(1);
  add_build(*group, out, spelled);

  CLI::App* list = add_command(*group, "ls", help::kList);
  add_dir(list, out);
  list->callback([&out] { out.verb = Verb::kTemplateList; });

  CLI::App* remove = add_command(*group, "rm", help::kRemove, help::kRemoveMore);
  remove->add_option("NAME", out.names, "templates to remove")->required()->type_name("");
  add_dir(remove, out);
  remove->callback([&out] { out.verb = Verb::kTemplateRemove; });
}

void add_run(CLI::App& app, Arguments& out, Spelled& spelled) {
  CLI::App* run = add_command(app, "run", help::kRun, help::kRunMore);
  run->add_option("TEMPLATE", out.names, "name of a template, or a directory with a slash")
      ->required()
      ->option_text(" ");
  once_each(run->add_option("-e,--env", out.env,
                            "a variable for the command; without =VALUE, ours is passed on"))
      ->type_name("NAME[=VALUE]");
  run->add_option("--cwd", out.cwd, "working directory in the guest (default: /)")
      ->type_name("DIR");
  run->add_option("--user", out.user, "user of the guest: a name, UID or UID:GID (default: root)")
      ->type_name("USER");
  run->add_option("--timeout", spelled.timeout, "then kill the command (default: no limit)")
      ->type_name("TIME");
  once_each(run->add_option("--limit", spelled.limits,
                            "what the run may use, see below; may be given several times"))
      ->type_name("NAME=VALUE");
  run->add_flag("--isolate", out.isolate,
                "run the machine in a process of its own, without files, network or privileges");
  run->add_option("--cgroup", out.cgroup,
                  "with --isolate: a control group to make the process's own in, such as "
                  "/sys/fs/cgroup/ramet")
      ->type_name("DIR");
  run->add_option("--hostname", out.hostname, "host name of the fork (default: a new one)")
      ->type_name("NAME");
  run->add_flag("-i,--interactive", out.interactive, "pass on standard input from a terminal too");
  run->add_flag("--clocks", out.clocks, "print the five clocks of the fork on standard error");
  run->add_flag("--console", out.console, "show the guest's console on standard error");
  add_dir(run, out);
  add_kvm(run, out);
  run->callback([&out] { out.verb = Verb::kRun; });
}

void define(CLI::App& app, Arguments& out, Spelled& spelled) {
  app.name("ramet");
  app.formatter(std::make_shared<HelpFormatter>());
  app.require_subcommand(1);
  app.footer("\n" + std::string(help::kProgramMore));
  app.set_help_flag("-h,--help", "this help");
  app.add_flag("--json", out.json, "print one JSON document; errors too");
  app.add_flag_callback(
      "--version", [] { throw CLI::CallForVersion("", 0); }, "the version");
  add_run(app, out, spelled);
  add_template(app, out, spelled);
  CLI::App* doctor = add_command(app, "doctor", help::kDoctor);
  add_kvm(doctor, out);
  doctor->add_flag("--seccomp", out.seccomp,
                   "print what the filter of each kind of thread allows, and the counts");
  doctor
      ->add_option("--cgroup", out.cgroup,
                   "also say what \"run --isolate --cgroup\" would get of this control group")
      ->type_name("DIR");
  doctor->callback([&out] { out.verb = Verb::kDoctor; });
  add_command(app, "version", help::kVersion)->callback([&out] { out.verb = Verb::kVersion; });
}

void invalid(Arguments& out, std::string why) {
  out.verb = Verb::kInvalid;
  out.error = std::move(why);
}

template <typename T>
void take(Arguments& out, const char* option, const absl::StatusOr<T>& parsed, T& into) {
  if (parsed.ok()) {
    into = *parsed;
  } else {
    invalid(out, absl::StrFormat("%s: %s", option, std::string(parsed.status().message())));
  }
}

void check_run(Arguments& out, const Spelled& spelled) {
  take(out, "--timeout", parse_duration(spelled.timeout), out.timeout);
  for (const std::string& limit : spelled.limits) {
    if (const absl::Status status = set_limit(limit, &out.limits); !status.ok()) {
      invalid(out, "--limit " + std::string(status.message()));
    }
  }
  for (const std::string& variable : out.env) {
    if (variable.empty() || variable[0] == '=') {
      invalid(out, absl::StrFormat("--env: \"%s\" has no name before =", variable));
    }
  }
  if (out.verb == Verb::kRun && !out.cgroup.empty() && !out.isolate) {
    invalid(out, "--cgroup is for the process that --isolate makes; give both");
  }
  if (out.command.empty() || out.names.size() > 1) {
    const std::vector<std::string> meant(out.names.begin() + 1, out.names.end());
    invalid(out, absl::StrFormat("put -- between the template and its command, as in: ramet run %s "
                                 "-- %s",
                                 out.names[0], meant.empty() ? "ls /" : absl::StrJoin(meant, " ")));
  }
}

void check(Arguments& out, const Spelled& spelled) {
  if (out.verb == Verb::kRun) {
    return check_run(out, spelled);
  }
  if (out.verb == Verb::kTemplateBuild) {
    take(out, "--memory", parse_size(spelled.memory), out.memory_bytes);
    take(out, "--scratch", parse_size(spelled.scratch), out.scratch_bytes);
    take(out, "--boot-timeout", parse_duration(spelled.boot_timeout), out.boot_timeout);
  }
  if (out.verb == Verb::kTemplateBuild && out.names.size() > 1) {
    invalid(out,
            absl::StrFormat("one NAME is built at a time; \"%s\" is one too many", out.names[1]));
  }
  if (!out.command.empty()) {
    invalid(out, "\"--\" and a command are for `ramet run` only");
  }
}

}  // namespace

Arguments parse_arguments(const std::vector<std::string>& words) {
  Arguments out;
  Spelled spelled;
  const auto split = std::find(words.begin(), words.end(), "--");
  std::vector<std::string> ours(words.begin(), split);
  if (split != words.end()) {
    out.command.assign(split + 1, words.end());
  }
  CLI::App app{std::string(help::kProgram)};
  // Before the parse: a command line that cannot be parsed gets its error as JSON all the same.
  out.json = std::find(ours.begin(), ours.end(), "--json") != ours.end();
  out.for_run = std::find(ours.begin(), ours.end(), "run") != ours.end();
  try {
    define(app, out, spelled);
    // CLI11 takes the words from the back.
    std::reverse(ours.begin(), ours.end());
    app.parse(ours);
    check(out, spelled);
  } catch (const CLI::CallForVersion&) {
    out.verb = Verb::kVersion;
  } catch (const CLI::CallForHelp&) {
    out.verb = Verb::kHelp;
    out.help = app.help();
  } catch (const CLI::RequiredError& error) {
    const std::vector<std::string> unknown = app.remaining(true);
    invalid(out, unknown.empty() ? error.what() : "there is no command \"" + unknown[0] + "\"");
    if (words.empty()) {
      out.help = app.help();
    }
  } catch (const CLI::ParseError& error) {
    invalid(out, error.what());
    if (out.for_run && out.command.empty()) {
      out.error += " (the command stands behind --, as in: ramet run TEMPLATE -- ls -l)";
    }
  }
  return out;
}

}  // namespace cli
