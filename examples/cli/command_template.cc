#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include <absl/strings/str_format.h>
#include <absl/time/time.h>

#include <ramet/template.h>

#include "examples/cli/commands.h"
#include "examples/cli/error.h"
#include "examples/cli/exit_code.h"
#include "examples/cli/json.h"
#include "examples/cli/names.h"
#include "examples/cli/output.h"
#include "examples/cli/staging.h"
#include "examples/cli/table.h"
#include "examples/cli/units.h"

namespace cli {
namespace {

namespace fs = std::filesystem;

struct Listed {
  std::string name;
  fs::path path;
  absl::StatusOr<sandbox::TemplateInfo> info;
};

// Every entry whose name could be a template's, in order. No directory: no templates.
absl::StatusOr<std::vector<Listed>> list(const fs::path& directory) {
  std::vector<Listed> found;
  std::error_code error;
  fs::directory_iterator at(directory, error);
  if (error == std::errc::no_such_file_or_directory) {
    return found;
  }
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    const std::string name = at->path().filename();
    std::error_code ignored;
    if (check_template_name(name).ok() && at->is_directory(ignored)) {
      found.push_back({name, at->path(), sandbox::inspect_template(at->path().string())});
    }
  }
  if (error) {
    return absl::ErrnoToStatus(error.value(), "read directory " + directory.string());
  }
  std::sort(found.begin(), found.end(),
            [](const Listed& a, const Listed& b) { return a.name < b.name; });
  return found;
}

std::string when(uint64_t unix_seconds) {
  // A template's manifest is untrusted: any number may stand there.
  constexpr uint64_t kYear9999 = 253'402'300'799;
  return absl::FormatTime(
      "%Y-%m-%d %H:%M",
      absl::FromUnixSeconds(static_cast<int64_t>(std::min(unix_seconds, kYear9999))),
      absl::LocalTimeZone());
}

std::string table_of(const std::vector<Listed>& templates) {
  Table table(
      {"NAME", "KERNEL", "VCPUS", "MEMORY", "STORED", "SCRATCH", "CREATED", "ROOTFS"},
      {Align::kLeft, Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kRight});
  for (const Listed& one : templates) {
    if (one.info.ok()) {
      const sandbox::TemplateInfo& info = *one.info;
      table.add({one.name, info.kernel_release, std::to_string(info.vcpus),
                 format_size(info.memory_bytes), format_size(info.stored_memory_bytes),
                 info.scratch_bytes == 0 ? "none" : format_size(info.scratch_bytes),
                 when(info.created_unix_seconds), info.rootfs});
    } else {
      table.add({one.name, "damaged"});
    }
  }
  std::string out = table.text();
  for (const Listed& one : templates) {
    if (!one.info.ok()) {
      out +=
          printable(absl::StrFormat("%s: %s", one.name, std::string(one.info.status().message()))) +
          "\n";
    }
  }
  return out;
}

Json json_of(const fs::path& directory, const std::vector<Listed>& templates) {
  Json list = Json::array();
  for (const Listed& one : templates) {
    if (one.info.ok()) {
      list.push_back(template_json(one.name, one.path.string(), *one.info));
    } else {
      list.push_back({{"name", one.name},
                      {"path", one.path.string()},
                      {"damaged", std::string(one.info.status().message())}});
    }
  }
  return {{"directory", directory.string()}, {"templates", list}};
}

absl::Status remove(const TemplateRef& where) {
  if (absl::Status status = check_exists(where); !status.ok()) {
    return status;
  }
  // A name lies among templates, so a damaged one goes too; a path may be anything.
  if (const auto info = sandbox::inspect_template(where.directory.string());
      where.by_path && !info.ok()) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "%s is not removed, for it is no sound template (%s); if it is to go, remove it by hand",
        where.directory.string(), std::string(info.status().message())));
  }
  return remove_directory(where.directory);
}

}  // namespace

int command_template_list(const Context& context) {
  const Arguments& arguments = context.arguments;
  const auto directory = templates_directory(arguments.dir, environment_variable);
  if (!directory.ok()) {
    return report(arguments, directory.status(), kExitFailure);
  }
  const auto templates = list(*directory);
  if (!templates.ok()) {
    return report(arguments, templates.status(), kExitFailure);
  }
  if (arguments.json) {
    return print_result(json_text(json_of(*directory, *templates)), kExitOk, kExitFailure);
  }
  if (templates->empty()) {
    print_err("no templates in " + printable(directory->string()) +
              "; `ramet template build --help` tells how to make one\n");
    return kExitOk;
  }
  return print_result(table_of(*templates), kExitOk, kExitFailure);
}

int command_template_remove(const Context& context) {
  const Arguments& arguments = context.arguments;
  Json removed = Json::array();
  for (const std::string& name : arguments.names) {
    const auto where = resolve_template(name, arguments.dir, environment_variable);
    const absl::Status status = where.ok() ? remove(*where) : where.status();
    if (!status.ok()) {
      return report(arguments, status, kExitFailure);
    }
    removed.push_back(name);
  }
  return arguments.json ? print_result(json_text({{"removed", removed}}), kExitOk, kExitFailure)
                        : kExitOk;
}

}  // namespace cli
