// What each exit of a vCPU leads to.
#include "vmm/machine/exit_handler.h"

#include <array>

#include <catch2/catch.hpp>

using namespace ramet;

namespace {

struct Device : BusDevice {
  void bus_read(uint64_t offset, std::span<std::byte> data) override {
    reads.emplace_back(offset, data.size());
    for (std::byte& byte : data) {
      byte = static_cast<std::byte>(reads.size());
    }
  }
  void bus_write(uint64_t offset, std::span<const std::byte> data) override {
    writes.emplace_back(offset, data.size());
  }
  std::vector<std::pair<uint64_t, size_t>> reads;
  std::vector<std::pair<uint64_t, size_t>> writes;
};

}  // namespace

TEST_CASE("string port I/O is one access of the device per element, always at the same port") {
  ExitHandler handler;
  Device device;
  REQUIRE(handler.pio().insert(0x3f8, 8, &device).ok());
  std::array<std::byte, 8> data{};
  const VcpuExit in{.kind = ExitKind::kPio, .address = 0x3fa, .size = 2, .data = data};
  CHECK(!handler.handle(in).has_value());
  CHECK(device.reads == std::vector<std::pair<uint64_t, size_t>>(4, {2, 2}));
  CHECK(data[7] == std::byte{4});
  const VcpuExit out{
      .kind = ExitKind::kPio, .is_write = true, .address = 0x3f8, .size = 1, .data = data};
  CHECK(!handler.handle(out).has_value());
  CHECK(device.writes.size() == 8);
}

TEST_CASE(
    "a size of 0 or one that does not divide the data touches nothing beyond whole elements") {
  ExitHandler handler;
  Device device;
  REQUIRE(handler.pio().insert(0, 16, &device).ok());
  std::array<std::byte, 7> data{};
  CHECK(!handler.handle({.kind = ExitKind::kPio, .size = 0, .data = data}).has_value());
  CHECK(device.reads.empty());
  CHECK(!handler.handle({.kind = ExitKind::kPio, .size = 4, .data = data}).has_value());
  CHECK(device.reads.size() == 1);
}

TEST_CASE("memory-mapped and port accesses go to their own buses") {
  ExitHandler handler;
  Device port;
  Device memory;
  REQUIRE(handler.pio().insert(0x1000, 8, &port).ok());
  REQUIRE(handler.mmio().insert(0x1000, 8, &memory).ok());
  std::array<std::byte, 8> data{};
  CHECK(!handler.handle({.kind = ExitKind::kMmio, .address = 0x1000, .size = 8, .data = data})
             .has_value());
  CHECK(!handler
             .handle({.kind = ExitKind::kMmio,
                      .is_write = true,
                      .address = 0x1000,
                      .size = 8,
                      .data = data})
             .has_value());
  CHECK(memory.reads.size() == 1);
  CHECK(memory.writes.size() == 1);
  CHECK(port.reads.empty());
  CHECK(!handler.handle({.kind = ExitKind::kMmio, .address = 0x2000, .size = 8, .data = data})
             .has_value());
  CHECK(data[0] == std::byte{0xff});
}

TEST_CASE("an exit that the guest cannot go on from ends the machine with its reason") {
  const ExitHandler handler;
  const auto reason = [&](ExitKind kind) {
    return handler.handle({.kind = kind, .detail = "why"});
  };
  CHECK(!reason(ExitKind::kInterrupted).has_value());
  CHECK(reason(ExitKind::kShutdown)->reason == EndReason::kTripleFault);
  CHECK(reason(ExitKind::kSystemReset)->reason == EndReason::kReset);
  CHECK(reason(ExitKind::kSystemPowerOff)->reason == EndReason::kPowerOff);
  CHECK(reason(ExitKind::kHalt)->reason == EndReason::kGuestFault);
  CHECK(reason(ExitKind::kInternalError)->reason == EndReason::kGuestFault);
  CHECK(reason(ExitKind::kInternalError)->detail == "why");
  CHECK(reason(ExitKind::kOther)->detail == "why");
}
