// Kvm owns /dev/kvm and knows what this host's KVM can do.
//
// Thread rule: immutable after open(); share freely.
// Invariant: every required row of capability_table() is there.
#ifndef RAMET_VMM_KVM_KVM_H_
#define RAMET_VMM_KVM_KVM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vmm/arch/x86_64/cpuid.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet {

// What stands behind /dev/kvm. Hardware: the CPU offers VMX or SVM to this kernel. Software: it
// does not, and yet the device answers; ordinary Linux guests may not run there.
enum class KvmKind : uint8_t { kHardware, kSoftware };

// KVM_CHECK_EXTENSION of KVM_CAP_`number` on a KVM descriptor: 0 = not there.
int check_extension(int fd, uint32_t number);

class Kvm {
 public:
  static constexpr const char* kDefaultPath = "/dev/kvm";

  // NotFound without the device, PermissionDenied without access, Unimplemented where a required
  // capability is missing (all of them are named) or the API version is not 12.
  static StatusOr<std::shared_ptr<const Kvm>> open(const std::string& path = kDefaultPath);

  // The same with a descriptor of the device that another process opened; `name` for messages.
  static StatusOr<std::shared_ptr<const Kvm>> adopt(UniqueFd fd, const std::string& name);

  int fd() const { return fd_.get(); }
  KvmKind kind() const { return kind_; }
  bool is_intel() const { return is_intel_; }
  // KVM_CHECK_EXTENSION of KVM_CAP_`number`: 0 = not there.
  int capability(uint32_t number) const;
  // KVM_CAP_TSC_DEADLINE_TIMER.
  bool has_tsc_deadline() const { return has_tsc_deadline_; }
  // Asked once: it is asked for at every fork.
  bool has_pre_fault() const { return has_pre_fault_; }
  // KVM_CAP_SYNC_REGS, of the general registers.
  bool has_sync_regs() const { return has_sync_regs_; }
  // Bytes of the kvm_run mapping (KVM_GET_VCPU_MMAP_SIZE).
  uint64_t vcpu_mmap_bytes() const { return vcpu_mmap_bytes_; }
  // Bytes of KVM_GET_XSAVE2.
  uint32_t xsave_bytes() const { return xsave_bytes_; }
  // KVM_GET_SUPPORTED_CPUID.
  const std::vector<x86::CpuidEntry>& supported_cpuid() const { return supported_cpuid_; }
  // The MSRs that a snapshot asks for: KVM_GET_MSR_INDEX_LIST and KVM's own range.
  const std::vector<uint32_t>& msr_indices() const { return msr_indices_; }

 private:
  Kvm(UniqueFd fd) : fd_(std::move(fd)) {}
  Status check_capabilities() const;
  Status read_limits();
  Status read_cpuid();
  Status read_msr_indices();

  const UniqueFd fd_;
  KvmKind kind_ = KvmKind::kHardware;
  bool is_intel_ = false;
  bool has_tsc_deadline_ = false;
  bool has_pre_fault_ = false;
  bool has_sync_regs_ = false;
  uint64_t vcpu_mmap_bytes_ = 0;
  uint32_t xsave_bytes_ = 0;
  std::vector<x86::CpuidEntry> supported_cpuid_;
  std::vector<uint32_t> msr_indices_;
};

}  // namespace ramet

#endif  // RAMET_VMM_KVM_KVM_H_
