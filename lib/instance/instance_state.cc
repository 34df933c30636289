#include "lib/instance/instance_state.h"

#include <algorithm>

#include <absl/strings/str_format.h>

namespace ramet {
namespace {

constexpr uint16_t kSerialVersion = 1;

std::string slot_section(uint32_t slot) { return absl::StrFormat("virtio%d", slot); }

}  // namespace

std::vector<Section> to_sections(const InstanceState& state) {
  std::vector<Section> sections = to_sections(state.machine);
  sections.push_back(
      {.name = "serial", .version = kSerialVersion, .bytes = encode_state(state.serial)});
  for (uint32_t slot = 0; slot < state.slots.size(); ++slot) {
    if (state.slots[slot]) {
      sections.push_back({.name = slot_section(slot),
                          .version = virtio::kTransportStateVersion,
                          .bytes = virtio::encode_transport_state(*state.slots[slot])});
    }
  }
  return sections;
}

StatusOr<InstanceState> instance_state_from(std::span<const Section> sections) {
  InstanceState state;
  RAMET_ASSIGN_OR_RETURN(state.machine, machine_state_from(sections));
  RAMET_ASSIGN_OR_RETURN(const Section* serial, find_section(sections, "serial", kSerialVersion));
  RAMET_ASSIGN_OR_RETURN(state.serial, decode_serial_state(serial->bytes));
  for (uint32_t slot = 0; slot < state.slots.size(); ++slot) {
    const auto section = find_section(sections, slot_section(slot), virtio::kTransportStateVersion);
    if (absl::IsNotFound(section.status())) {
      continue;
    }
    RAMET_RETURN_IF_ERROR(section.status());
    auto transport = virtio::decode_transport_state((*section)->bytes);
    RAMET_RETURN_IF_ERROR(annotate(transport.status(), slot_section(slot)));
    state.slots[slot] = std::move(*transport);
  }
  return state;
}

bool is_instance_section(const std::string& name) {
  if (name == "machine" || name == "cpuid" || name == "ioapic" || name == "serial") {
    return true;
  }
  for (uint32_t i = 0; i < std::max(x86::kMaxVcpus, x86::kVirtioMmioSlots); ++i) {
    if ((i < x86::kMaxVcpus && name == absl::StrFormat("vcpu%d", i)) ||
        (i < x86::kVirtioMmioSlots && name == slot_section(i))) {
      return true;
    }
  }
  return false;
}

}  // namespace ramet
