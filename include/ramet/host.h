// What this host offers to Ramet: the facts behind `ramet doctor`.
//
// Thread rule: free functions, call from anywhere.
#ifndef RAMET_HOST_H_
#define RAMET_HOST_H_

#include <cstdint>
#include <string>
#include <vector>

#include <ramet/export.h>

namespace sandbox {

enum class KvmKind : uint8_t {
  kNone,      // no device, or no access
  kSoftware,  // a KVM without hardware virtualization: hand-made guests run, ordinary Linux kernels
              // do not
  kHardware,
};

struct Capability {
  std::string name;  // "SPLIT_IRQCHIP"
  bool present = false;
  bool required = false;
  std::string needed_for;
};

struct Finding {
  enum class Level : uint8_t { kOk, kWarning, kProblem };
  Level level = Level::kOk;
  std::string what;    // what was found, with the figure
  std::string advice;  // what to do about it; empty where there is nothing to do
};

// One system call that threads of a kind may make.
struct AllowedCall {
  std::string syscall;    // "futex"
  std::string condition;  // "FUTEX_WAIT", the request of an ioctl; empty: any arguments
  std::string needed_by;
};

// What the seccomp filter of one kind of Ramet's threads allows; everything else is refused.
struct ThreadPolicy {
  std::string kind;             // "vcpu", "worker", "reaper", "stdin", "limits"
  uint32_t distinct_calls = 0;  // system calls, each counted once whatever its conditions
  std::vector<AllowedCall> calls;
};

struct RAMET_EXPORT HostReport {
  std::string ramet_version;
  std::string kernel_release;
  std::string cpu_model;
  KvmKind kvm = KvmKind::kNone;
  std::vector<Capability> capabilities;
  std::vector<Finding> findings;
  std::vector<ThreadPolicy> thread_policies;  // empty where filters cannot be made
  uint64_t open_files_limit = 0;
  uint64_t memory_bytes = 0;
  uint64_t available_memory_bytes = 0;
  uint32_t cores = 0;

  // True when templates can be built and forked here.
  bool usable() const;
};

// `helper_cgroup` as EngineOptions::helper_cgroup: what of it helper processes would get. A finding
// tells; where it is empty none does.
RAMET_EXPORT HostReport inspect_host(const std::string& kvm_device = "/dev/kvm",
                                     const std::string& helper_cgroup = "");

}  // namespace sandbox

#endif  // RAMET_HOST_H_
