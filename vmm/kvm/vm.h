// Vm owns one KVM virtual machine: its split interrupt controller and its memory slots.
//
// Thread rule: create() and set_memory() from one thread; signal_msi() from any; the rest while no
// vCPU runs. Invariant: calls come in the order that costs least (docs/design.md section 4): the
// interrupt controller, then the memory slots, then the vCPUs; nothing registers on an io_bus.
#ifndef RAMET_VMM_KVM_VM_H_
#define RAMET_VMM_KVM_VM_H_

#include <cstdint>
#include <memory>

#include "vmm/arch/x86_64/msi.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"
#include "vmm/kvm/kvm.h"
#include "vmm/memory/guest_memory.h"

namespace ramet {

class Vm {
 public:
  // KVM_CREATE_VM and KVM_CAP_SPLIT_IRQCHIP with 24 IOAPIC pins.
  static StatusOr<std::unique_ptr<Vm>> create(std::shared_ptr<const Kvm> kvm);

  int fd() const { return fd_.get(); }
  const Kvm& kvm() const { return *kvm_; }

  // One memory slot per region. `memory` must outlive the Vm.
  Status set_memory(const GuestMemory& memory);

  // KVM_SIGNAL_MSI. That no LAPIC takes it (EPERM) is the guest's own doing and no error: the
  // message is lost, as on hardware. Any other failure means that an interrupt was lost which the
  // guest will wait for.
  Status signal_msi(const x86::MsiMessage& message);

  // The kvm-clock in nanoseconds. A restored clock goes on from the saved value; the wall clock is
  // the agent's work, for a clock that leapt by the age of its template would fire every timer of
  // the guest.
  StatusOr<uint64_t> clock_ns() const;
  Status set_clock_ns(uint64_t ns);

 private:
  Vm(std::shared_ptr<const Kvm> kvm, UniqueFd fd) : kvm_(std::move(kvm)), fd_(std::move(fd)) {}

  const std::shared_ptr<const Kvm> kvm_;
  const UniqueFd fd_;
};

}  // namespace ramet

#endif  // RAMET_VMM_KVM_VM_H_
