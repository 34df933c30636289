// ExitHandler: what the machine does with each exit of a vCPU.
//
// Thread rule: handle() on any vCPU thread, several at once.
// Invariant: no exit blocks, loops without a bound, or ends the process.
#ifndef RAMET_VMM_MACHINE_EXIT_HANDLER_H_
#define RAMET_VMM_MACHINE_EXIT_HANDLER_H_

#include <optional>

#include "vmm/bus/bus.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/machine/machine_end.h"

namespace ramet {

class ExitHandler {
 public:
  // Does what the exit asks for; an end when the machine cannot or shall not go on.
  std::optional<MachineEnd> handle(const VcpuExit& exit) const;

  Bus& mmio() { return mmio_; }
  Bus& pio() { return pio_; }
  void forget_devices() {
    mmio_.clear();
    pio_.clear();
  }

 private:
  void handle_pio(const VcpuExit& exit) const;
  void handle_mmio(const VcpuExit& exit) const;

  Bus mmio_;
  Bus pio_;
};

}  // namespace ramet

#endif  // RAMET_VMM_MACHINE_EXIT_HANDLER_H_
