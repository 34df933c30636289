#include <algorithm>

#include <absl/strings/str_format.h>

#include <ramet/host.h>

#include "lib/core/host_facts.h"

namespace sandbox {
namespace {

// A fork holds its VM and a vCPU at least; below this many descriptors a hundred forks do not fit.
constexpr uint64_t kComfortableOpenFiles = 1024;
constexpr uint64_t kMiB = uint64_t{1} << 20;

void report_kvm(const ramet::HostFacts& facts, HostReport* report) {
  if (!facts.kvm.ok()) {
    report->findings.push_back({Finding::Level::kProblem,
                                "KVM cannot be used: " + std::string(facts.kvm.message()),
                                "templates can be inspected here, but not built or forked"});
    return;
  }
  if (!facts.hardware_kvm) {
    report->findings.push_back(
        {Finding::Level::kProblem,
         "KVM is there without hardware virtualization (the CPU shows neither VMX nor SVM)",
         "ordinary Linux guests do not run on it: use a host with VMX or SVM, turn nested "
         "virtualization on, or run Ramet inside a machine that has it"});
    return;
  }
  report->findings.push_back({Finding::Level::kOk, "KVM with hardware virtualization", ""});
}

void report_limits(const ramet::HostFacts& facts, HostReport* report) {
  const bool few = facts.open_files_limit < kComfortableOpenFiles;
  report->findings.push_back(
      {few ? Finding::Level::kWarning : Finding::Level::kOk,
       absl::StrFormat("%d open files allowed; a fork takes up to 3", facts.open_files_limit),
       few ? "raise the limit (ulimit -n) for more forks at once" : ""});
  report->findings.push_back(
      {Finding::Level::kOk,
       absl::StrFormat("%d MiB of memory, %d MiB of it available", facts.memory_bytes / kMiB,
                       facts.available_memory_bytes / kMiB),
       ""});
}

}  // namespace

bool HostReport::usable() const {
  return kvm == KvmKind::kHardware &&
         std::none_of(findings.begin(), findings.end(), [](const Finding& finding) {
           return finding.level == Finding::Level::kProblem;
         });
}

HostReport inspect_host(const std::string& kvm_device) {
  const ramet::HostFacts facts = ramet::inspect_host(kvm_device);
  HostReport report;
  report.ramet_version = RAMET_VERSION;
  report.kernel_release = facts.kernel_release;
  report.cpu_model = facts.cpu_model;
  report.open_files_limit = facts.open_files_limit;
  report.memory_bytes = facts.memory_bytes;
  report.available_memory_bytes = facts.available_memory_bytes;
  report.cores = facts.cores;
  if (facts.kvm.ok()) {
    report.kvm = facts.hardware_kvm ? KvmKind::kHardware : KvmKind::kSoftware;
  }
  for (const ramet::CapabilityFact& fact : facts.capabilities) {
    report.capabilities.push_back({.name = fact.name,
                                   .present = fact.present,
                                   .required = fact.required,
                                   .needed_for = fact.needed_for});
  }
  report_kvm(facts, &report);
  report_limits(facts, &report);
  return report;
}

}  // namespace sandbox
