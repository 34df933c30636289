#include "devices/legacy/power.h"

#include <catch2/catch.hpp>

#include "devices/legacy/vmgenid.h"
#include "tests/support/virtio_driver.h"
#include "vmm/arch/x86_64/layout.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

struct Power {
  int offs = 0;
  int resets = 0;
  PowerDevice device{{[this] { ++offs; }, [this] { ++resets; }}};

  void out(uint16_t port, uint8_t value) {
    const std::byte byte{value};
    device.bus_write(port - x86::kPowerPort, {&byte, 1});
  }
};

}  // namespace

TEST_CASE("only SLP_EN with the S5 type powers off") {
  Power power;
  for (int value = 0; value < 256; ++value) {
    power.out(x86::kSleepControlPort, static_cast<uint8_t>(value));
  }
  // Bits 0, 1, 6 and 7 have no meaning: 16 values name S5 with SLP_EN.
  CHECK(power.offs == 16);
  CHECK(power.resets == 0);
  power.offs = 0;
  power.out(x86::kSleepControlPort, 0x34);
  CHECK(power.offs == 1);
}

TEST_CASE("only the reset value in the reset register resets") {
  Power power;
  for (int value = 0; value < 256; ++value) {
    power.out(x86::kResetPort, static_cast<uint8_t>(value));
    power.out(x86::kSleepStatusPort, static_cast<uint8_t>(value));
  }
  CHECK(power.resets == 1);
  CHECK(power.offs == 0);
}

TEST_CASE("power registers read zero, and wider writes do nothing") {
  Power power;
  std::array<std::byte, 4> data;
  data.fill(std::byte{0x34});
  power.device.bus_write(0, data);
  CHECK(power.offs == 0);
  power.device.bus_read(0, data);
  CHECK(data == std::array<std::byte, 4>{});
  PowerDevice without_handlers{PowerHandlers{}};
  const std::byte off{0x34};
  without_handlers.bus_write(0, {&off, 1});
}

TEST_CASE("a new generation id is in memory when its event is raised, and a first one is silent") {
  const auto memory = make_guest_memory();
  CountingIrq line;
  const GuestAddr address{x86::kVmGenIdGuidAddress};
  const VmGenId device(memory.get(), address, &line);
  const GenerationId first = must(new_generation_id());
  const GenerationId second = must(new_generation_id());
  CHECK(first != second);
  must(device.write(first));
  CHECK(line.count() == 0);
  CHECK(must(memory->read_object<GenerationId>(address)) == first);
  must(device.change(second));
  CHECK(line.count() == 1);
  CHECK(must(memory->read_object<GenerationId>(address)) == second);
}

TEST_CASE("a generation id outside RAM is refused and raises nothing") {
  const auto memory = make_guest_memory();
  CountingIrq line;
  const VmGenId device(memory.get(), GuestAddr{memory->total_bytes() - 8}, &line);
  CHECK_FALSE(device.change({}).ok());
  CHECK(line.count() == 0);
}
