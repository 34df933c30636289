// HostFacts: what this host offers, as found by trying.
//
// Thread rule: free functions.
#ifndef RAMET_LIB_CORE_HOST_FACTS_H_
#define RAMET_LIB_CORE_HOST_FACTS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/core/pressure.h"
#include "vmm/base/status.h"
#include "vmm/jail/cgroup.h"
#include "vmm/jail/enclosure.h"
#include "vmm/jail/jail.h"

namespace ramet {

struct CapabilityFact {
  std::string name;
  bool present = false;
  bool required = false;
  std::string needed_for;
};

struct HostFacts {
  std::string kernel_release;
  std::string cpu_model;
  Status kvm;  // why KVM cannot be used; OK when it can
  bool hardware_kvm = false;
  bool tsc_runs = false;                     // KVM_GET_TSC_KHZ is not 0
  std::vector<CapabilityFact> capabilities;  // empty without a device
  uint64_t open_files_limit = 0;
  uint64_t memory_bytes = 0;
  uint64_t available_memory_bytes = 0;
  uint32_t cores = 0;
  PressureFigures pressure;
  // Whether private memory can be counted, and by a scan of the kernel's.
  Status pagemap;
  bool pagemap_scan = false;
  // What the jail of a new engine says; its error where not even that can be had.
  StatusOr<jail::JailReport> confinement = absl::UnknownError("not tried");
  std::array<jail::Policy, jail::kThreadKinds.size()> policies;  // by ThreadKind
  // What a helper process stands behind here; its error where none can be had.
  StatusOr<jail::Enclosure> enclosure = absl::UnknownError("not tried");
  // Of the control groups of helper processes; nothing where none was asked for.
  std::optional<StatusOr<jail::ControllersGiven>> controllers;
};

// `helper_cgroup`: EngineConfig's.
HostFacts inspect_host(const std::string& kvm_device, const std::string& helper_cgroup = "");

}  // namespace ramet

#endif  // RAMET_LIB_CORE_HOST_FACTS_H_
