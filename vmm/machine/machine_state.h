// MachineState: what a snapshot keeps of a machine without its devices and its memory, as plain
// data.
//
// Thread rule: plain values.
// Invariant: to_sections() and machine_state_from() are inverses; the latter takes hostile bytes.
#ifndef RAMET_VMM_MACHINE_MACHINE_STATE_H_
#define RAMET_VMM_MACHINE_MACHINE_STATE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/arch/x86_64/cpuid.h"
#include "vmm/arch/x86_64/ioapic.h"
#include "vmm/base/status.h"
#include "vmm/kvm/vcpu_state.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/state/sections.h"

namespace ramet {

struct MachineState {
  std::vector<MemoryRegion> regions;
  std::vector<x86::CpuidEntry> cpuid;  // the policy, before for_vcpu()
  uint32_t tsc_khz = 0;
  uint64_t clock_ns = 0;  // kvm-clock at the save
  x86::IoapicState ioapic;
  std::vector<VcpuState> vcpus;
};

std::vector<Section> to_sections(const MachineState& state);
StatusOr<MachineState> machine_state_from(std::span<const Section> sections);

}  // namespace ramet

#endif  // RAMET_VMM_MACHINE_MACHINE_STATE_H_
