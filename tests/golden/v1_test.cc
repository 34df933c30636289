// Format version 1: the files of tests/golden/v1 are read by every later version of the library,
// and while the format is still 1 they are written again byte for byte.
//
// The files hold made-up state; RAMET_WRITE_GOLDEN=DIRECTORY makes this program write them there.
// They are written once for each format version and never again: a change that makes this test fail
// needs a new format or section version, and a folder of its own beside v1.
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include <catch2/catch.hpp>

#include "devices/block/state.h"
#include "devices/vsock/state.h"
#include "lib/instance/instance_state.h"
#include "lib/store/manifest.h"
#include "lib/store/memory_file.h"
#include "lib/store/scratch_file.h"
#include "tests/support/place.h"
#include "vmm/state/codec.h"

using namespace ramet;

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

VcpuState vcpu(uint8_t number) {
  VcpuState state;
  state.registers.general.rax = 0x1122334455667788 + number;
  state.registers.general.rip = 0xffffffff81000000 + number;
  state.registers.general.rflags = 2;
  state.registers.special.cr0 = 0x80050033;
  state.registers.special.cr3 = 0x2000;
  state.registers.special.cr4 = 0x6f0;
  state.registers.special.efer = 0xd01;
  state.registers.special.cs.selector = 0x10;
  state.xcrs.nr_xcrs = 1;
  state.xcrs.xcrs[0].value = 7;
  state.xsave.resize(4096);
  for (size_t i = 0; i < state.xsave.size(); i += 64) {
    state.xsave[i] = static_cast<std::byte>(i / 64 + number);
  }
  // MSR_LSTAR, MSR_KERNEL_GS_BASE, IA32_PAT
  state.msrs = {{0xc0000082, 0xffffffff81800000}, {0xc0000102, 0x1000U + number}, {0x277, 0x407}};
  for (size_t i = 0; i < sizeof state.lapic.regs; i += 16) {
    state.lapic.regs[i] = static_cast<char>(i / 16);
  }
  state.events.exception.nr = 14;
  state.debugregs.dr7 = 0x400;
  state.mp_state.mp_state = number == 0 ? 0 : 3;  // runnable; halted
  state.tsc = 987'654'321'000 + number;
  state.tsc_deadline = number == 0 ? 987'700'000'000 : 0;
  return state;
}

virtio::TransportState slot(virtio::DeviceType type, size_t queues, std::vector<std::byte> device) {
  virtio::TransportState state;
  state.type = type;
  state.device_features = virtio::kFeatureVersion1 | virtio::kFeatureEventIdx;
  state.driver_features = virtio::kFeatureVersion1;
  state.status = 0xf;  // ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK
  state.interrupt_status = 1;
  for (size_t i = 0; i < queues; ++i) {
    virtio::QueueState queue;
    queue.layout.size = 128;
    queue.layout.desc = GuestAddr{0x100000 + i * 0x4000};
    queue.layout.avail = GuestAddr{0x101000 + i * 0x4000};
    queue.layout.used = GuestAddr{0x102000 + i * 0x4000};
    queue.ready = true;
    queue.position = static_cast<uint16_t>(65'530 + i);
    state.queues.push_back(queue);
  }
  state.device = std::move(device);
  return state;
}

InstanceState instance() {
  InstanceState state;
  state.machine.regions = {{.start = {0}, .size = 16 * kMiB, .file_offset = 0}};
  state.machine.cpuid = {
      {.function = 0, .eax = 0xd, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69},
      {.function = 0xb, .index = 1, .indexed = true, .eax = 1, .ebx = 2, .ecx = 0x201, .edx = 0}};
  state.machine.tsc_khz = 2'500'000;
  state.machine.clock_ns = 12'345'678'901;
  state.machine.ioapic.redirection[5] = 0x10041;
  state.machine.ioapic.pending = 0x20;
  state.machine.vcpus = {vcpu(0), vcpu(1)};
  state.serial.interrupt_enable = 1;
  state.serial.line_control = 3;
  state.serial.modem_control = 0xb;
  state.serial.divisor = 1;
  state.serial.received = {std::byte{'h'}, std::byte{'i'}};
  const auto disk = [](uint64_t bytes, bool read_only) {
    block::BlockState block = {.capacity_bytes = bytes, .read_only = read_only};
    block.id[0] = std::byte{'r'};
    return block::encode_state(block);
  };
  state.slots[kRootSlot] = slot(virtio::DeviceType::kBlock, 1, disk(64 * kMiB, true));
  state.slots[kScratchSlot] = slot(virtio::DeviceType::kBlock, 1, disk(kMiB, false));
  state.slots[kVsockSlot] = slot(virtio::DeviceType::kVsock, 3,
                                 vsock::encode_vsock_state({.active = true,
                                                            .reset_event = vsock::ResetEvent::kDue,
                                                            .event_buffers = 0,
                                                            .next_port = 70'000}));
  return state;
}

// As save_memory() and save_scratch() lay theirs out.
Section memory_section() {
  Encoder out;
  out.number(16 * kMiB);
  out.number(uint32_t{2});
  for (const uint64_t value : {uint64_t{0x1000}, uint64_t{0x2000}, uint64_t{0xaaaabbbbccccdddd},
                               kMiB, uint64_t{0x1000}, uint64_t{0x1111222233334444}}) {
    out.number(value);
  }
  return {.name = kMemorySection, .version = 1, .bytes = out.take()};
}

Section scratch_section() {
  Encoder out;
  out.number(kMiB);
  out.number(uint64_t{0x5555666677778888});
  out.number(uint32_t{1});
  out.number(uint64_t{3});
  out.number(uint64_t{2});
  return {.name = kScratchSection, .version = 1, .bytes = out.take()};
}

std::vector<std::byte> state_file() {
  std::vector<Section> sections = to_sections(instance());
  sections.push_back(memory_section());
  sections.push_back(scratch_section());
  return encode_sections(sections);
}

Manifest manifest() {
  const auto state = state_file();
  return {.kernel_release = "6.12.0-golden",
          .created_unix_seconds = 1'764'000'000,
          .vcpus = 2,
          .memory_bytes = 16 * kMiB,
          .stored_memory_bytes = 0x3000,
          .scratch_bytes = kMiB,
          .root = {"/images/golden.img", 64 * kMiB, 0xfedcba9876543210},
          .state_bytes = state.size(),
          .state_digest = digest(state)};
}

std::string golden(const std::string& name) {
  std::ifstream file(ramet::testing::source_dir() + "/tests/golden/v1/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

TEST_CASE("the vmstate of format 1 is decoded, field by field") {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
  if (const char* directory = std::getenv("RAMET_WRITE_GOLDEN"); directory != nullptr) {
    const std::string to = std::string(directory) + "/";
    std::ofstream(to + kStateName, std::ios::binary) << text_of(state_file());
    std::ofstream(to + kManifestName, std::ios::binary) << format_manifest(manifest());
  }
  const std::string file = golden(kStateName);
  const auto sections = parse_sections(bytes_of(file));
  REQUIRE(sections.ok());
  const auto state = instance_state_from(*sections);
  REQUIRE(state.ok());
  const InstanceState wanted = instance();
  CHECK(state->machine.regions == wanted.machine.regions);
  CHECK(state->machine.cpuid == wanted.machine.cpuid);
  CHECK(state->machine.tsc_khz == 2'500'000);
  CHECK(state->machine.clock_ns == 12'345'678'901);
  CHECK(state->machine.ioapic == wanted.machine.ioapic);
  REQUIRE(state->machine.vcpus.size() == 2);
  for (uint8_t i = 0; i < 2; ++i) {
    const VcpuState& got = state->machine.vcpus[i];
    CHECK(got.registers.general.rip == vcpu(i).registers.general.rip);
    CHECK(got.registers.special.cr3 == 0x2000);
    CHECK(got.msrs == vcpu(i).msrs);
    CHECK(got.tsc == vcpu(i).tsc);
    CHECK(encode_vcpu_state(got) == encode_vcpu_state(vcpu(i)));
  }
  CHECK(state->serial == wanted.serial);
  for (uint32_t i = 0; i < x86::kVirtioMmioSlots; ++i) {
    CHECK(state->slots[i] == wanted.slots[i]);
  }
  const auto vsock = vsock::decode_vsock_state(state->slots[kVsockSlot]->device);
  REQUIRE(vsock.ok());
  CHECK(vsock->next_port == 70'000);
  CHECK((*find_section(*sections, kMemorySection, 1))->bytes == memory_section().bytes);
  CHECK((*find_section(*sections, kScratchSection, 1))->bytes == scratch_section().bytes);
}

TEST_CASE("the vmstate of format 1 is written again byte for byte") {
  const std::string file = golden(kStateName);
  const auto sections = parse_sections(bytes_of(file));
  REQUIRE(sections.ok());
  CHECK(text_of(encode_sections(*sections)) == file);
  auto again = to_sections(*instance_state_from(*sections));
  again.push_back(memory_section());
  again.push_back(scratch_section());
  CHECK(text_of(encode_sections(again)) == file);
}

TEST_CASE("the manifest of format 1 is read, names the vmstate, and is written again") {
  const std::string text = golden(kManifestName);
  const auto got = parse_manifest(text);
  REQUIRE(got.ok());
  CHECK(*got == manifest());
  CHECK(format_manifest(*got) == text);
  const std::string file = golden(kStateName);
  CHECK(got->state_bytes == file.size());
  CHECK(got->state_digest == digest(bytes_of(file)));
}
