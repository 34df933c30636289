#include "vmm/kvm/kvm.h"

#include <cpuid.h>
#include <fcntl.h>

#include <algorithm>
#include <string>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"
#include "vmm/kvm/capabilities.h"
#include "vmm/kvm/kvm_abi.h"

namespace ramet {
namespace {

constexpr int kApiVersion = 12;  // KVM_GET_API_VERSION, api.rst 4.1: fixed since Linux 2.6.22
constexpr size_t kMaxCpuidEntries = 256;  // KVM_MAX_CPUID_ENTRIES of the kernel
constexpr size_t kMaxMsrs = 4096;
// MSR_KVM_WALL_CLOCK_NEW and the rest of KVM's range (Documentation/virt/kvm/x86/msr.rst). Not all
// are in KVM_GET_MSR_INDEX_LIST of every kernel, and a clone without them loses its clock.
constexpr uint32_t kKvmMsrFirst = 0x4b564d00;
constexpr uint32_t kKvmMsrLast = 0x4b564d07;

struct HostCpu {
  bool intel = false;
  bool virtualization = false;
};

HostCpu host_cpu() {
  HostCpu cpu;
  uint32_t eax = 0;
  uint32_t ebx = 0;
  uint32_t ecx = 0;
  uint32_t edx = 0;
  if (__get_cpuid(0, &eax, &ebx, &ecx, &edx) != 0) {
    cpu.intel = ebx == signature_INTEL_ebx;
  }
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0) {
    cpu.virtualization = (ecx & (1u << 5)) != 0;  // VMX, Intel SDM 3A table 3-10
  }
  if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) != 0) {
    cpu.virtualization |= (ecx & (1u << 2)) != 0;  // SVM, AMD APM 3 appendix E
  }
  return cpu;
}

Status explain_open(const Status& status, const std::string& path) {
  if (absl::IsNotFound(status)) {
    return absl::NotFoundError(absl::StrFormat(
        "%s is not there: load the kvm_intel or kvm_amd module, or turn on (nested) virtualization "
        "for this machine",
        path));
  }
  if (absl::IsPermissionDenied(status)) {
    return absl::PermissionDeniedError(absl::StrFormat(
        "no access to %s: add this user to its group (usually kvm) or change its mode", path));
  }
  return annotate(status, "open KVM");
}

}  // namespace

StatusOr<std::shared_ptr<const Kvm>> Kvm::open(const std::string& path) {
  auto fd = sys::open(path, O_RDWR);
  if (!fd.ok()) {
    return explain_open(fd.status(), path);
  }
  return adopt(std::move(*fd), path);
}

StatusOr<std::shared_ptr<const Kvm>> Kvm::adopt(UniqueFd fd, const std::string& name) {
  std::shared_ptr<Kvm> kvm(new Kvm(std::move(fd)));
  const sys::Result version = sys::ioctl(kvm->fd(), KVM_GET_API_VERSION);
  if (!version.ok() || version.value != kApiVersion) {
    return absl::UnimplementedError(
        absl::StrFormat("%s is not a KVM of API version %d (it answered %d, errno %d)", name,
                        kApiVersion, version.value, version.error));
  }
  const HostCpu cpu = host_cpu();
  kvm->is_intel_ = cpu.intel;
  kvm->kind_ = cpu.virtualization ? KvmKind::kHardware : KvmKind::kSoftware;
  RAMET_RETURN_IF_ERROR(kvm->check_capabilities());
  RAMET_RETURN_IF_ERROR(kvm->read_limits());
  RAMET_RETURN_IF_ERROR(kvm->read_cpuid());
  RAMET_RETURN_IF_ERROR(kvm->read_msr_indices());
  return std::shared_ptr<const Kvm>(std::move(kvm));
}

int check_extension(int fd, uint32_t number) {
  const sys::Result result = sys::ioctl(fd, KVM_CHECK_EXTENSION, uint64_t{number});
  return result.ok() ? static_cast<int>(result.value) : 0;
}

int Kvm::capability(uint32_t number) const { return check_extension(fd(), number); }

Status Kvm::check_capabilities() const {
  std::string missing;
  for (const CapabilityRow& row : capability_table()) {
    if (row.required && capability(row.number) == 0) {
      missing += absl::StrFormat("%sKVM_CAP_%s (%s)", missing.empty() ? "" : ", ",
                                 std::string(row.name), std::string(row.needed_for));
    }
  }
  return missing.empty() ? Status()
                         : absl::UnimplementedError("this host's KVM lacks " + missing +
                                                    "; Linux 5.17 or newer has them on x86_64");
}

Status Kvm::read_limits() {
  const sys::Result size = sys::ioctl(fd(), KVM_GET_VCPU_MMAP_SIZE);
  RAMET_RETURN_IF_ERROR(size.status("KVM_GET_VCPU_MMAP_SIZE"));
  if (static_cast<uint64_t>(size.value) < sizeof(kvm_run)) {
    return absl::InternalError(absl::StrFormat("KVM_GET_VCPU_MMAP_SIZE is %d, kvm_run needs %d",
                                               size.value, sizeof(kvm_run)));
  }
  vcpu_mmap_bytes_ = static_cast<uint64_t>(size.value);
  // KVM writes this many bytes whatever we believe, so a failed question is no size.
  const int xsave = capability(KVM_CAP_XSAVE2);
  if (xsave < static_cast<int>(sizeof(kvm_xsave))) {
    return absl::InternalError(absl::StrFormat("KVM_CAP_XSAVE2 is %d bytes, at least %d expected",
                                               xsave, sizeof(kvm_xsave)));
  }
  xsave_bytes_ = static_cast<uint32_t>(xsave);
  has_pre_fault_ = capability(KVM_CAP_PRE_FAULT_MEMORY) != 0;
  has_sync_regs_ = (static_cast<uint64_t>(capability(KVM_CAP_SYNC_REGS)) & KVM_SYNC_X86_REGS) != 0;
  return Status();
}

Status Kvm::read_cpuid() {
  std::vector<uint64_t> buffer(
      (sizeof(kvm_cpuid2) + kMaxCpuidEntries * sizeof(kvm_cpuid_entry2)) / sizeof(uint64_t) + 1);
  auto* list = reinterpret_cast<kvm_cpuid2*>(buffer.data());
  list->nent = kMaxCpuidEntries;
  RAMET_RETURN_IF_ERROR(sys::ioctl(fd(), KVM_GET_SUPPORTED_CPUID, static_cast<void*>(list))
                            .status("KVM_GET_SUPPORTED_CPUID"));
  const size_t count = std::min<size_t>(list->nent, kMaxCpuidEntries);
  for (size_t i = 0; i < count; ++i) {
    const kvm_cpuid_entry2& entry = list->entries[i];
    supported_cpuid_.push_back({.function = entry.function,
                                .index = entry.index,
                                .indexed = (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0,
                                .eax = entry.eax,
                                .ebx = entry.ebx,
                                .ecx = entry.ecx,
                                .edx = entry.edx});
  }
  return Status();
}

Status Kvm::read_msr_indices() {
  std::vector<uint32_t> buffer(1 + kMaxMsrs);
  buffer[0] = kMaxMsrs;
  RAMET_RETURN_IF_ERROR(sys::ioctl(fd(), KVM_GET_MSR_INDEX_LIST, static_cast<void*>(buffer.data()))
                            .status("KVM_GET_MSR_INDEX_LIST"));
  const size_t count = std::min<size_t>(buffer[0], kMaxMsrs);
  msr_indices_.assign(buffer.begin() + 1, buffer.begin() + 1 + static_cast<std::ptrdiff_t>(count));
  for (uint32_t msr = kKvmMsrFirst; msr <= kKvmMsrLast; ++msr) {
    msr_indices_.push_back(msr);
  }
  std::sort(msr_indices_.begin(), msr_indices_.end());
  msr_indices_.erase(std::unique(msr_indices_.begin(), msr_indices_.end()), msr_indices_.end());
  return Status();
}

}  // namespace ramet
