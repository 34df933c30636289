#include "vmm/kvm/vm.h"

#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/syscall.h"
#include "vmm/kvm/kvm_abi.h"

namespace ramet {
namespace {

Status enable(int fd, uint32_t capability, uint64_t argument, const char* what) {
  kvm_enable_cap request = {};
  request.cap = capability;
  request.args[0] = argument;
  return sys::ioctl(fd, KVM_ENABLE_CAP, static_cast<void*>(&request)).status(what);
}

Status set_intel_addresses(int fd) {
  uint64_t identity_map = x86::kKvmIdentityMapAddress;
  RAMET_RETURN_IF_ERROR(sys::ioctl(fd, KVM_SET_IDENTITY_MAP_ADDR, static_cast<void*>(&identity_map))
                            .status("KVM_SET_IDENTITY_MAP_ADDR"));
  return sys::ioctl(fd, KVM_SET_TSS_ADDR, x86::kKvmTssAddress).status("KVM_SET_TSS_ADDR");
}

}  // namespace

StatusOr<std::unique_ptr<Vm>> Vm::create(std::shared_ptr<const Kvm> kvm) {
  // EINTR here means that a signal came while the kernel waited for a lock; the call is safe to
  // repeat.
  sys::Result result;
  do {
    result = sys::ioctl(kvm->fd(), KVM_CREATE_VM);
  } while (result.error == EINTR);
  RAMET_RETURN_IF_ERROR(result.status("KVM_CREATE_VM"));
  const bool intel = kvm->is_intel();
  std::unique_ptr<Vm> vm(new Vm(std::move(kvm), UniqueFd(static_cast<int>(result.value))));
  RAMET_RETURN_IF_ERROR(
      enable(vm->fd(), KVM_CAP_SPLIT_IRQCHIP, x86::kIoApicPins, "KVM_CAP_SPLIT_IRQCHIP"));
  if (intel) {
    RAMET_RETURN_IF_ERROR(set_intel_addresses(vm->fd()));
  }
  // Polling for work on HLT would make an idle sandbox cost CPU. Best effort: older kernels lack
  // it.
  enable(vm->fd(), KVM_CAP_HALT_POLL, 0, "KVM_CAP_HALT_POLL").IgnoreError();
  return vm;
}

Status Vm::set_memory(const GuestMemory& memory) {
  for (size_t i = 0; i < memory.regions().size(); ++i) {
    const MemoryRegion& region = memory.regions()[i];
    kvm_userspace_memory_region slot = {};
    slot.slot = static_cast<uint32_t>(i);
    slot.guest_phys_addr = region.start.value;
    slot.memory_size = region.size;
    slot.userspace_addr = memory.host_address(i);
    RAMET_RETURN_IF_ERROR(sys::ioctl(fd(), KVM_SET_USER_MEMORY_REGION, static_cast<void*>(&slot))
                              .status("KVM_SET_USER_MEMORY_REGION of %d bytes at %#x", region.size,
                                      region.start.value));
  }
  return Status();
}

Status Vm::signal_msi(const x86::MsiMessage& message) {
  kvm_msi msi = {};
  msi.address_lo = static_cast<uint32_t>(message.address);
  msi.address_hi = static_cast<uint32_t>(message.address >> 32);
  msi.data = message.data;
  const sys::Result sent = sys::ioctl(fd(), KVM_SIGNAL_MSI, static_cast<void*>(&msi));
  return sent.error == EPERM ? Status() : sent.status("KVM_SIGNAL_MSI");
}

StatusOr<uint64_t> Vm::clock_ns() const {
  kvm_clock_data clock = {};
  RAMET_RETURN_IF_ERROR(
      sys::ioctl(fd(), KVM_GET_CLOCK, static_cast<void*>(&clock)).status("KVM_GET_CLOCK"));
  return clock.clock;
}

Status Vm::set_clock_ns(uint64_t ns) {
  kvm_clock_data clock = {};
  clock.clock = ns;
  return sys::ioctl(fd(), KVM_SET_CLOCK, static_cast<void*>(&clock)).status("KVM_SET_CLOCK");
}

}  // namespace ramet
