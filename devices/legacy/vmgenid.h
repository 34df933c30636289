// VmGenId: the VM generation id ("Virtual Machine Generation ID", Microsoft): 16 bytes in guest
// memory that change when the machine is a copy, and the interrupt line that says so.
//
// Thread rule: from the thread that controls the machine, while no vCPU runs.
// Invariant: the line is raised only after the new id is in memory. There is no state to save: the
// id is in the memory image, and every fork gets a new one.
#ifndef RAMET_DEVICES_LEGACY_VMGENID_H_
#define RAMET_DEVICES_LEGACY_VMGENID_H_

#include <array>
#include <cstddef>

#include "vmm/base/status.h"
#include "vmm/bus/device.h"
#include "vmm/memory/guest_memory.h"

namespace ramet {

using GenerationId = std::array<std::byte, 16>;

// A random id from the host.
StatusOr<GenerationId> new_generation_id();

class VmGenId {
 public:
  // `address` is where the ACPI tables say the id is; `event_line` is the generic event device's.
  // Both objects outlive this one.
  VmGenId(const GuestMemory* memory, GuestAddr address, IrqLine* event_line)
      : memory_(memory), address_(address), event_line_(event_line) {}

  // For the first boot: the guest reads it when its driver starts, so no event.
  Status write(const GenerationId& id) const;
  // For a copy: writes the id, then raises the event.
  Status change(const GenerationId& id) const;

 private:
  const GuestMemory* const memory_;
  const GuestAddr address_;
  IrqLine* const event_line_;
};

}  // namespace ramet

#endif  // RAMET_DEVICES_LEGACY_VMGENID_H_
