#include "examples/cli/doctor_text.h"

#include <absl/strings/str_format.h>

#include "examples/cli/json.h"
#include "examples/cli/table.h"
#include "examples/cli/units.h"

namespace cli {
namespace {

std::string what_follows(sandbox::KvmKind kind) {
  switch (kind) {
    case sandbox::KvmKind::kHardware:
      return "hardware virtualisation: Linux guests run";
    case sandbox::KvmKind::kSoftware:
      return "software, without virtualisation in the processor: only hand-made guests run, Linux "
             "guests do not";
    case sandbox::KvmKind::kNone:
      break;
  }
  return "none, or no access to it: no guest runs";
}

std::string facts(const sandbox::HostReport& report) {
  Table table({"", ""});
  table.add({"KVM", what_follows(report.kvm)});
  table.add({"Ramet", report.ramet_version});
  table.add({"Linux", report.kernel_release});
  table.add({"processor", absl::StrFormat("%s, %d cores", report.cpu_model, report.cores)});
  table.add({"memory", absl::StrFormat("%s, %s available", format_size(report.memory_bytes),
                                       format_size(report.available_memory_bytes))});
  table.add({"open files", absl::StrFormat("%d allowed", report.open_files_limit)});
  return table.text();
}

std::string capabilities(const sandbox::HostReport& report) {
  Table table({"CAPABILITY", "PRESENT", "NEEDED FOR"});
  for (const sandbox::Capability& capability : report.capabilities) {
    std::string present = capability.present ? "yes" : "no";
    if (!capability.present && capability.required) {
      present = "MISSING";
    }
    table.add({capability.name, present,
               capability.needed_for + (capability.required ? "" : " (optional)")});
  }
  return report.capabilities.empty() ? "" : "\n" + table.text();
}

std::string findings(const sandbox::HostReport& report) {
  std::string out;
  for (const sandbox::Finding& finding : report.findings) {
    out += absl::StrFormat("%-8s %s\n", std::string(finding_level_name(finding.level)),
                           printable(finding.what));
    if (!finding.advice.empty()) {
      out += "         -> " + printable(finding.advice) + "\n";
    }
  }
  return out.empty() ? "" : "\n" + out;
}

}  // namespace

std::string doctor_text(const sandbox::HostReport& report, bool usable) {
  return facts(report) + capabilities(report) + findings(report) +
         (usable ? "\nusable: templates can be built and forked here\n"
                 : "\nNOT usable: templates can be neither built nor forked here\n");
}

std::string seccomp_text(const sandbox::HostReport& report) {
  std::string out;
  for (const sandbox::ThreadPolicy& policy : report.thread_policies) {
    Table table({"CALL", "ONLY", "NEEDED BY"});
    for (const sandbox::AllowedCall& call : policy.calls) {
      table.add({call.syscall, call.condition, call.needed_by});
    }
    out += absl::StrFormat("%s threads: %d system calls\n", policy.kind, policy.distinct_calls) +
           table.text() + "\n";
  }
  return out.empty() ? "no filters can be made on this host\n"
                     : out + "Everything else is refused. Your own threads are never filtered.\n";
}

}  // namespace cli
