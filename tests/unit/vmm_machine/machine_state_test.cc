// A machine's state as sections: back as it was, and hostile sections refused.
#include "vmm/machine/machine_state.h"

#include <algorithm>

#include <catch2/catch.hpp>

#include "vmm/state/codec.h"

using namespace ramet;

namespace {

MachineState sample(size_t vcpus) {
  MachineState state;
  state.regions = {{.start = {0}, .size = 0xc0000000, .file_offset = 0},
                   {.start = {0x100000000}, .size = 0x1000, .file_offset = 0xc0000000}};
  state.cpuid = {
      {.function = 0xb, .index = 1, .indexed = true, .eax = 1, .ebx = 2, .ecx = 3, .edx = 4},
      {.function = 1, .eax = 5}};
  state.tsc_khz = 2'500'000;
  state.clock_ns = 123'456'789;
  state.ioapic.redirection[5] = 0x10041;
  state.ioapic.pending = 0x20;
  for (size_t i = 0; i < vcpus; ++i) {
    VcpuState vcpu;
    vcpu.xsave.resize(4096);
    vcpu.registers.general.rax = i + 1;
    state.vcpus.push_back(std::move(vcpu));
  }
  return state;
}

// The sections with the bytes of one of them changed.
std::vector<Section> with(const std::string& name, std::vector<std::byte> bytes) {
  auto sections = to_sections(sample(1));
  const auto found =
      std::ranges::find_if(sections, [&](const Section& section) { return section.name == name; });
  REQUIRE(found != sections.end());
  found->bytes = std::move(bytes);
  return sections;
}

struct MachineBytes {
  uint32_t regions = 1;
  uint64_t start = 0;
  uint64_t size = 0x200000;
  uint64_t offset = 0;
  uint32_t vcpus = 1;
  uint32_t khz = 1000;

  std::vector<std::byte> encode() const {
    Encoder out;
    out.number(regions);
    for (uint32_t i = 0; i < std::min(regions, 8u); ++i) {
      out.number(start);
      out.number(size);
      out.number(offset);
    }
    out.number(vcpus);
    out.number(khz);
    out.number(uint64_t{0});
    return out.take();
  }
};

std::string refusal(const MachineBytes& bytes) {
  return std::string(machine_state_from(with("machine", bytes.encode())).status().message());
}

}  // namespace

TEST_CASE("a machine of 1 to 8 vCPUs comes back as it was") {
  for (size_t vcpus = 1; vcpus <= 8; ++vcpus) {
    const auto sections = to_sections(sample(vcpus));
    CHECK(sections.size() == 3 + vcpus);
    const auto state = machine_state_from(sections);
    REQUIRE(state.ok());
    CHECK(state->regions == sample(vcpus).regions);
    CHECK(state->cpuid == sample(vcpus).cpuid);
    CHECK(state->tsc_khz == 2'500'000);
    CHECK(state->clock_ns == 123'456'789);
    CHECK(state->ioapic == sample(vcpus).ioapic);
    REQUIRE(state->vcpus.size() == vcpus);
    CHECK(state->vcpus.back().registers.general.rax == vcpus);
    CHECK(to_sections(*state) == sections);
  }
}

TEST_CASE("a section that is missing, newer, cut or too long is an error that names it") {
  const auto sections = to_sections(sample(2));
  for (size_t i = 0; i < sections.size(); ++i) {
    auto missing = sections;
    missing.erase(missing.begin() + static_cast<std::ptrdiff_t>(i));
    CHECK(machine_state_from(missing).status().code() == absl::StatusCode::kNotFound);
    CHECK(std::string(machine_state_from(missing).status().message()).find(sections[i].name) !=
          std::string::npos);
    auto newer = sections;
    newer[i].version = 2;
    CHECK(machine_state_from(newer).status().code() == absl::StatusCode::kFailedPrecondition);
    auto changed = sections;
    changed[i].bytes.push_back(std::byte{0});
    CHECK(machine_state_from(changed).status().code() == absl::StatusCode::kDataLoss);
    for (size_t size = 0; size < sections[i].bytes.size(); size += 1 + size / 8) {
      changed[i].bytes.assign(sections[i].bytes.begin(),
                              sections[i].bytes.begin() + static_cast<std::ptrdiff_t>(size));
      CHECK(machine_state_from(changed).status().code() == absl::StatusCode::kDataLoss);
    }
  }
}

TEST_CASE("numbers of a machine outside their bounds are refused by name") {
  CHECK(refusal({}).empty());
  CHECK(refusal({.regions = 0}).find("number of memory regions is 0") != std::string::npos);
  CHECK(refusal({.regions = 5}).find("number of memory regions is 5") != std::string::npos);
  CHECK(refusal({.regions = ~0u}).find("number of memory regions") != std::string::npos);
  CHECK(refusal({.start = ~uint64_t{0}}).find("region start") != std::string::npos);
  CHECK(refusal({.size = 0}).find("region size is 0") != std::string::npos);
  CHECK(refusal({.size = ~uint64_t{0}}).find("region size") != std::string::npos);
  CHECK(refusal({.offset = ~uint64_t{0}}).find("file offset") != std::string::npos);
  CHECK(refusal({.vcpus = 0}).find("number of vCPUs is 0") != std::string::npos);
  CHECK(refusal({.vcpus = 9}).find("number of vCPUs is 9") != std::string::npos);
  CHECK(refusal({.khz = 0}).find("TSC rate is 0") != std::string::npos);
  CHECK(refusal({.vcpus = 2}).find("no section vcpu1") != std::string::npos);
}

TEST_CASE("a CPUID list that claims more entries than the limit or the bytes is refused") {
  for (const uint32_t count : {uint32_t{1}, uint32_t{256}, uint32_t{257}, ~uint32_t{0}}) {
    Encoder out;
    out.number(count);
    CHECK(machine_state_from(with("cpuid", out.take())).status().code() ==
          absl::StatusCode::kDataLoss);
  }
  Encoder flag;
  flag.number(uint32_t{1});
  flag.number(uint64_t{0});
  flag.number(uint8_t{2});
  for (int i = 0; i < 4; ++i) {
    flag.number(uint32_t{0});
  }
  CHECK(std::string(machine_state_from(with("cpuid", flag.take())).status().message())
            .find("indexed is 2") != std::string::npos);
}
