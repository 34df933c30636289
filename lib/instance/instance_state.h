// InstanceState: a machine and its devices as plain data, and as sections of a vmstate file.
//
// Thread rule: plain values and pure functions.
// Invariant: to_sections() and instance_state_from() are inverses; the latter takes hostile bytes.
#ifndef RAMET_LIB_INSTANCE_INSTANCE_STATE_H_
#define RAMET_LIB_INSTANCE_INSTANCE_STATE_H_

#include <array>
#include <optional>
#include <span>
#include <vector>

#include "devices/legacy/serial.h"
#include "devices/virtio/state.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/status.h"
#include "vmm/machine/machine_state.h"
#include "vmm/state/sections.h"

namespace ramet {

// Which virtio-mmio slot holds what. A slot's place is part of a template's format.
inline constexpr uint32_t kRootSlot = 0;
inline constexpr uint32_t kScratchSlot = 1;
inline constexpr uint32_t kVsockSlot = 2;

struct InstanceState {
  MachineState machine;
  SerialState serial;
  std::array<std::optional<virtio::TransportState>, x86::kVirtioMmioSlots> slots;
};

std::vector<Section> to_sections(const InstanceState& state);
StatusOr<InstanceState> instance_state_from(std::span<const Section> sections);

// Whether to_sections() may give a section this name.
bool is_instance_section(const std::string& name);

}  // namespace ramet

#endif  // RAMET_LIB_INSTANCE_INSTANCE_STATE_H_
