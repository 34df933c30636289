#include "vmm/machine/machine_state.h"

#include <absl/strings/str_format.h>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/state/codec.h"

namespace ramet {
namespace {

constexpr uint16_t kMachineVersion = 1;
constexpr uint16_t kCpuidVersion = 1;
constexpr size_t kMaxRegions = 4;

std::string vcpu_section(size_t index) { return absl::StrFormat("vcpu%d", index); }

std::vector<std::byte> encode_machine(const MachineState& state) {
  Encoder out;
  out.number(static_cast<uint32_t>(state.regions.size()));
  for (const MemoryRegion& region : state.regions) {
    out.number(region.start.value);
    out.number(region.size);
    out.number(region.file_offset);
  }
  out.number(static_cast<uint32_t>(state.vcpus.size()));
  out.number(state.tsc_khz);
  out.number(state.clock_ns);
  return out.take();
}

Status decode_machine(std::span<const std::byte> bytes, MachineState* state, uint32_t* vcpus) {
  Decoder in(bytes, "machine");
  const auto regions = in.bounded<uint32_t>(1, kMaxRegions, "number of memory regions");
  for (uint32_t i = 0; i < regions && in.ok(); ++i) {
    MemoryRegion region;
    region.start.value = in.bounded<uint64_t>(0, x86::kMaxMemoryBytes, "region start");
    region.size = in.bounded<uint64_t>(kPageSize, x86::kMaxMemoryBytes, "region size");
    region.file_offset = in.bounded<uint64_t>(0, x86::kMaxMemoryBytes, "region file offset");
    state->regions.push_back(region);
  }
  *vcpus = in.bounded<uint32_t>(1, x86::kMaxVcpus, "number of vCPUs");
  state->tsc_khz = in.bounded<uint32_t>(1, UINT32_MAX, "TSC rate");
  state->clock_ns = in.number<uint64_t>();
  return in.finish();
}

std::vector<std::byte> encode_cpuid(std::span<const x86::CpuidEntry> entries) {
  Encoder out;
  out.number(static_cast<uint32_t>(entries.size()));
  for (const x86::CpuidEntry& entry : entries) {
    out.number(entry.function);
    out.number(entry.index);
    out.number(static_cast<uint8_t>(entry.indexed));
    for (const uint32_t value : {entry.eax, entry.ebx, entry.ecx, entry.edx}) {
      out.number(value);
    }
  }
  return out.take();
}

StatusOr<std::vector<x86::CpuidEntry>> decode_cpuid(std::span<const std::byte> bytes) {
  Decoder in(bytes, "cpuid");
  const auto count = in.bounded<uint32_t>(0, x86::kMaxCpuidEntries, "number of CPUID entries");
  std::vector<x86::CpuidEntry> entries;
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    x86::CpuidEntry entry;
    entry.function = in.number<uint32_t>();
    entry.index = in.number<uint32_t>();
    entry.indexed = in.boolean("indexed");
    for (uint32_t* value : {&entry.eax, &entry.ebx, &entry.ecx, &entry.edx}) {
      *value = in.number<uint32_t>();
    }
    entries.push_back(entry);
  }
  RAMET_RETURN_IF_ERROR(in.finish());
  return entries;
}

}  // namespace

std::vector<Section> to_sections(const MachineState& state) {
  std::vector<Section> sections;
  sections.push_back(
      {.name = "machine", .version = kMachineVersion, .bytes = encode_machine(state)});
  sections.push_back(
      {.name = "cpuid", .version = kCpuidVersion, .bytes = encode_cpuid(state.cpuid)});
  sections.push_back({.name = "ioapic",
                      .version = x86::kIoapicStateVersion,
                      .bytes = x86::encode_ioapic_state(state.ioapic)});
  for (size_t i = 0; i < state.vcpus.size(); ++i) {
    sections.push_back({.name = vcpu_section(i),
                        .version = kVcpuStateVersion,
                        .bytes = encode_vcpu_state(state.vcpus[i])});
  }
  return sections;
}

StatusOr<MachineState> machine_state_from(std::span<const Section> sections) {
  MachineState state;
  uint32_t vcpus = 0;
  RAMET_ASSIGN_OR_RETURN(const Section* machine,
                         find_section(sections, "machine", kMachineVersion));
  RAMET_RETURN_IF_ERROR(decode_machine(machine->bytes, &state, &vcpus));
  RAMET_ASSIGN_OR_RETURN(const Section* cpuid, find_section(sections, "cpuid", kCpuidVersion));
  RAMET_ASSIGN_OR_RETURN(state.cpuid, decode_cpuid(cpuid->bytes));
  RAMET_ASSIGN_OR_RETURN(const Section* ioapic,
                         find_section(sections, "ioapic", x86::kIoapicStateVersion));
  RAMET_ASSIGN_OR_RETURN(state.ioapic, x86::decode_ioapic_state(ioapic->bytes));
  for (uint32_t i = 0; i < vcpus; ++i) {
    RAMET_ASSIGN_OR_RETURN(const Section* vcpu,
                           find_section(sections, vcpu_section(i), kVcpuStateVersion));
    RAMET_ASSIGN_OR_RETURN(VcpuState decoded, decode_vcpu_state(vcpu->bytes));
    state.vcpus.push_back(std::move(decoded));
  }
  return state;
}

}  // namespace ramet
