#include "lib/core/host_facts.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include <array>
#include <string_view>
#include <thread>

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>

#include "lib/core/engine.h"
#include "lib/instance/reasons.h"
#include "vmm/base/clock.h"
#include "vmm/base/syscall.h"
#include "vmm/kvm/capabilities.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/machine/policy_facts.h"
#include "vmm/memory/pagemap.h"

namespace ramet {
namespace {

constexpr size_t kMaxProcFile = 1 << 20;
constexpr uint64_t kHelperNs = 10'000'000'000;

// A file of /proc as far as the limit goes; empty where there is none.
std::string read_proc(const std::string& path) {
  const auto fd = sys::open(path, O_RDONLY);
  std::string text;
  std::array<std::byte, 4096> buffer;
  while (fd.ok() && text.size() < kMaxProcFile) {
    const sys::Result got = sys::read(fd->get(), buffer);
    if (!got.ok() || got.value == 0) {
      break;
    }
    for (size_t i = 0; i < static_cast<size_t>(got.value); ++i) {
      text.push_back(static_cast<char>(buffer[i]));
    }
  }
  return text;
}

// What follows "name:" (or "name\t:") on the first line that begins with it.
std::string value_of(const std::string& text, std::string_view name) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 1));
    if (parts.size() == 2 &&
        absl::StripAsciiWhitespace(parts[0]) == absl::string_view(name.data(), name.size())) {
      return std::string(absl::StripAsciiWhitespace(parts[1]));
    }
  }
  return "";
}

uint64_t kilobytes(const std::string& meminfo, std::string_view name) {
  const std::string text = value_of(meminfo, name);
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ' ');
  uint64_t number = 0;
  return absl::SimpleAtoi(parts[0], &number) ? number * 1024 : 0;
}

std::vector<CapabilityFact> capabilities_of(int fd) {
  std::vector<CapabilityFact> facts;
  for (const CapabilityRow& row : capability_table()) {
    facts.push_back({.name = std::string(row.name),
                     .present = check_extension(fd, row.number) != 0,
                     .required = row.required,
                     .needed_for = std::string(row.needed_for)});
  }
  return facts;
}

// Makes a machine of one vCPU and no memory, which tells more than any flag.
Status try_machine(std::shared_ptr<const Kvm> kvm) {
  RAMET_ASSIGN_OR_RETURN(const auto vm, Vm::create(std::move(kvm)));
  RAMET_ASSIGN_OR_RETURN(const auto vcpu, Vcpu::create(*vm, 0));
  return vcpu->tsc_khz().status();
}

StatusOr<jail::Enclosure> try_helper(const std::string& kvm_device) {
  RAMET_ASSIGN_OR_RETURN(const auto engine,
                         Engine::create({.kvm_device = kvm_device, .ready_helpers = 0}));
  return engine->enclosure(monotonic_ns() + kHelperNs);
}

StatusOr<jail::ControllersGiven> try_cgroup(const std::string& path) {
  RAMET_ASSIGN_OR_RETURN(const auto cgroups, jail::Cgroups::open(path));
  RAMET_RETURN_IF_ERROR(cgroups->make(1).status());
  return cgroups->given();
}

void inspect_confinement(HostFacts* facts) {
  const auto jail = jail::Jail::create({.facts = machine_policy_facts()});
  if (!jail.ok()) {
    facts->confinement = jail.status();
    return;
  }
  facts->confinement = (*jail)->report();
  for (const jail::ThreadKind kind : jail::kThreadKinds) {
    facts->policies[static_cast<size_t>(kind)] = (*jail)->policy(kind);
  }
}

// Counts the private memory of a page that was never touched.
void inspect_pagemap(HostFacts* facts) {
  const auto pagemap = Pagemap::open();
  const auto file = create_memfd("ramet-doctor", kPageSize);
  facts->pagemap = pagemap.ok() ? file.status() : pagemap.status();
  if (!facts->pagemap.ok()) {
    return;
  }
  const MemoryRegion region = {.start = {0}, .size = kPageSize};
  const auto memory = GuestMemory::create(file->get(), std::span(&region, 1), MapMode::kPrivate);
  facts->pagemap = memory.ok() ? (*pagemap)->private_bytes(**memory).status() : memory.status();
  facts->pagemap_scan = (*pagemap)->can_scan();
}

}  // namespace

HostFacts inspect_host(const std::string& kvm_device, const std::string& helper_cgroup) {
  HostFacts facts;
  utsname names = {};
  if (::uname(&names) == 0) {
    facts.kernel_release = names.release;
  }
  facts.cpu_model = value_of(read_proc("/proc/cpuinfo"), "model name");
  const std::string meminfo = read_proc("/proc/meminfo");
  facts.memory_bytes = kilobytes(meminfo, "MemTotal");
  facts.available_memory_bytes = kilobytes(meminfo, "MemAvailable");
  facts.cores = std::thread::hardware_concurrency();
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    facts.open_files_limit = limit.rlim_cur;
  }
  if (const auto device = sys::open(kvm_device, O_RDWR); device.ok()) {
    facts.capabilities = capabilities_of(device->get());
  }
  const auto kvm = Kvm::open(kvm_device);
  facts.kvm = kvm.status();
  if (kvm.ok()) {
    facts.hardware_kvm = (*kvm)->kind() == KvmKind::kHardware;
    facts.kvm = try_machine(*kvm);
    facts.tsc_runs = facts.kvm.ok();
  }
  inspect_confinement(&facts);
  facts.enclosure = try_helper(kvm_device);
  if (!helper_cgroup.empty()) {
    facts.controllers = try_cgroup(helper_cgroup);
  }
  inspect_pagemap(&facts);
  facts.pressure = HostPressure().read();
  return facts;
}

}  // namespace ramet
