#include <algorithm>

#include <absl/strings/str_format.h>

#include <ramet/host.h>

#include "lib/core/host_facts.h"

namespace sandbox {
namespace {

// A fork holds its VM, a vCPU and that thread's listener at least; below this many descriptors a
// hundred forks do not fit.
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
       absl::StrFormat("%d open files allowed; a fork takes a descriptor, and two for each vCPU",
                       facts.open_files_limit),
       few ? "raise the limit (ulimit -n) for more forks at once" : ""});
  report->findings.push_back(
      {Finding::Level::kOk,
       absl::StrFormat("%d MiB of memory, %d MiB of it available", facts.memory_bytes / kMiB,
                       facts.available_memory_bytes / kMiB),
       ""});
}

void report_pressure(const ramet::HostFacts& facts, HostReport* report) {
  const ramet::PressureFigures& found = facts.pressure;
  const auto shortage = ramet::shortage_of(found, {});
  if (shortage) {
    report->findings.push_back({Finding::Level::kWarning, "forks wait: " + shortage->what,
                                "end something else on this host"});
  } else if (found.some && found.full) {
    report->findings.push_back(
        {Finding::Level::kOk,
         absl::StrFormat("memory pressure: in %d.%02d %% of the last 10 s some task waited for "
                         "memory, in %d.%02d %% all did",
                         *found.some / 100, *found.some % 100, *found.full / 100,
                         *found.full % 100),
         ""});
  } else {
    report->findings.push_back(
        {Finding::Level::kWarning,
         "this kernel does not tell its memory pressure (PSI): forks are held back by available "
         "memory alone",
         "boot it with psi=1"});
  }
}

void report_pagemap(const ramet::HostFacts& facts, HostReport* report) {
  if (!facts.pagemap.ok()) {
    report->findings.push_back(
        {Finding::Level::kWarning,
         "private memory cannot be limited: " + std::string(facts.pagemap.message()), ""});
    return;
  }
  report->findings.push_back(
      {Finding::Level::kOk,
       facts.pagemap_scan ? "private memory is counted by PAGEMAP_SCAN"
                          : "private memory is counted page by page, for want of PAGEMAP_SCAN "
                            "(Linux 6.7)",
       ""});
}

void report_confinement(const ramet::HostFacts& facts, HostReport* report) {
  const auto& confinement = facts.confinement;
  if (!confinement.ok()) {
    report->findings.push_back(
        {Finding::Level::kProblem,
         "threads cannot be made behind filters: " + std::string(confinement.status().message()),
         "an engine with Confinement::kOff can be made all the same"});
  } else if (confinement->mode == ramet::jail::Mode::kOff) {
    report->findings.push_back({Finding::Level::kWarning,
                                "threads run without seccomp filters: " + confinement->why,
                                "run code of others only where it does not matter"});
  } else if (!confinement->counted) {
    report->findings.push_back(
        {Finding::Level::kWarning,
         "seccomp filters refuse calls, but nobody is told of them: " + confinement->why,
         "start the program outside of the other filter to have sandboxes poisoned"});
  } else {
    report->findings.push_back(
        {Finding::Level::kOk, "every thread that works for a guest has a seccomp filter", ""});
  }
  for (const ramet::jail::ThreadKind kind : ramet::jail::kThreadKinds) {
    const ramet::jail::Policy& policy = facts.policies[static_cast<size_t>(kind)];
    if (policy.empty()) {
      continue;
    }
    ThreadPolicy shown = {
        .kind = std::string(ramet::jail::name_of(kind)),
        .distinct_calls = static_cast<uint32_t>(ramet::jail::distinct_calls(policy)),
        .calls = {}};
    for (const ramet::jail::PolicyRow& row : policy) {
      shown.calls.push_back(
          {std::string(row.syscall), std::string(row.what), std::string(row.needed_by)});
    }
    report->thread_policies.push_back(std::move(shown));
  }
}

void report_enclosure(const ramet::HostFacts& facts, HostReport* report) {
  const auto& enclosure = facts.enclosure;
  if (!facts.kvm.ok()) {
    return;  // said already
  }
  if (!enclosure.ok()) {
    report->findings.push_back(
        {Finding::Level::kWarning,
         "sandboxes cannot run in processes of their own: " +
             std::string(enclosure.status().message()),
         "run them in this process (Isolation::kInProcess), or lift what the message names"});
  } else if (!enclosure->complete()) {
    report->findings.push_back(
        {Finding::Level::kWarning,
         "a sandbox in a process of its own lacks: " + enclosure->missing(),
         "with require_confinement such a fork fails; without, it has the rest"});
  } else {
    report->findings.push_back({Finding::Level::kOk,
                                "a sandbox in a process of its own has no file, network, other "
                                "process or privilege within reach",
                                ""});
  }
}

void report_cgroup(const ramet::HostFacts& facts, HostReport* report) {
  if (!facts.controllers) {
    return;
  }
  const auto& controllers = *facts.controllers;
  if (!controllers.ok()) {
    report->findings.push_back(
        {Finding::Level::kProblem,
         "no control groups for helper processes: " + std::string(controllers.status().message()),
         "name a directory of cgroup2 that this user may write to and no process lives in"});
  } else if (!controllers->missing().empty()) {
    report->findings.push_back(
        {Finding::Level::kWarning,
         "control groups of helper processes lack: " + controllers->missing(),
         "give the directory these controllers: cgroup.subtree_control of the one above it"});
  } else {
    report->findings.push_back({Finding::Level::kOk,
                                "a control group bounds the memory, processor time, transfers and "
                                "threads of each helper process",
                                ""});
  }
}

}  // namespace

bool HostReport::usable() const {
  return kvm == KvmKind::kHardware &&
         std::none_of(findings.begin(), findings.end(), [](const Finding& finding) {
           return finding.level == Finding::Level::kProblem;
         });
}

HostReport inspect_host(const std::string& kvm_device, const std::string& helper_cgroup) {
  const ramet::HostFacts facts = ramet::inspect_host(kvm_device, helper_cgroup);
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
  report_pressure(facts, &report);
  report_pagemap(facts, &report);
  report_confinement(facts, &report);
  report_enclosure(facts, &report);
  report_cgroup(facts, &report);
  return report;
}

}  // namespace sandbox
