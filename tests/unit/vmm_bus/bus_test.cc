// The bus: which device answers where, and what an undriven bus gives.
#include "vmm/bus/bus.h"

#include <array>
#include <limits>

#include <catch2/catch.hpp>

using ramet::Bus;

namespace {

struct Device : ramet::BusDevice {
  void bus_read(uint64_t offset, std::span<std::byte> data) override {
    last_offset = offset;
    for (std::byte& byte : data) {
      byte = answer;
    }
  }
  void bus_write(uint64_t offset, std::span<const std::byte> data) override {
    last_offset = offset;
    written.assign(data.begin(), data.end());
  }
  uint64_t last_offset = ~uint64_t{0};
  std::byte answer{0x42};
  std::vector<std::byte> written;
};

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

}  // namespace

TEST_CASE(
    "an access goes to the device whose range holds all of it, with the offset in the range") {
  Bus bus;
  Device low;
  Device high;
  REQUIRE(bus.insert(0x2000, 0x10, &high).ok());
  REQUIRE(bus.insert(0x1000, 0x1000, &low).ok());  // ends where the other begins
  std::array<std::byte, 4> data{};
  CHECK(bus.read(0x1ffc, data));
  CHECK(low.last_offset == 0xffc);
  CHECK(data[3] == std::byte{0x42});
  CHECK(bus.read(0x2000, data));
  CHECK(high.last_offset == 0);
  data[0] = std::byte{7};
  CHECK(bus.write(0x200c, data));
  CHECK(high.last_offset == 0xc);
  CHECK(high.written.size() == 4);
  CHECK(high.written[0] == std::byte{7});
}

TEST_CASE("an access that no device holds entirely reads as ones and writes to nobody") {
  Bus bus;
  Device device;
  REQUIRE(bus.insert(0x1000, 0x10, &device).ok());
  for (const uint64_t address :
       {uint64_t{0}, uint64_t{0xfff}, uint64_t{0x100d}, uint64_t{0x1010}, kMax, kMax - 1}) {
    std::array<std::byte, 4> data{};
    CHECK(!bus.read(address, data));
    CHECK(data == std::array{std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff}});
    CHECK(!bus.write(address, data));
  }
  CHECK(device.last_offset == ~uint64_t{0});
  CHECK(!Bus().write(0, {}));
}

TEST_CASE("ranges that overlap, are empty or wrap are refused, and the bus stays as it was") {
  Bus bus;
  Device device;
  Device other;
  REQUIRE(bus.insert(0x1000, 0x100, &device).ok());
  for (const auto& [start, size] : {std::pair<uint64_t, uint64_t>{0x1000, 0x100},
                                    {0xfff, 2},
                                    {0x10ff, 1},
                                    {0x1050, 1},
                                    {0, 0x2000},
                                    {0, kMax}}) {
    CHECK(bus.insert(start, size, &other).code() == absl::StatusCode::kAlreadyExists);
  }
  CHECK(bus.insert(0x5000, 0, &other).code() == absl::StatusCode::kInvalidArgument);
  CHECK(bus.insert(kMax, 2, &other).code() == absl::StatusCode::kInvalidArgument);
  CHECK(bus.insert(0x1100, 1, &other).ok());
  CHECK(bus.insert(0xfff, 1, &other).ok());
  std::array<std::byte, 1> data{};
  CHECK(bus.read(0x1050, data));
  CHECK(device.last_offset == 0x50);
}

TEST_CASE("many devices in any order are each found") {
  Bus bus;
  std::array<Device, 64> devices;
  for (uint64_t i = 0; i < devices.size(); ++i) {
    const uint64_t slot = i * 37 % devices.size();
    devices[slot].answer = static_cast<std::byte>(slot);
    REQUIRE(bus.insert(slot * 0x20, 0x10, &devices[slot]).ok());
  }
  for (uint64_t slot = 0; slot < devices.size(); ++slot) {
    std::array<std::byte, 1> data{};
    CHECK(bus.read(slot * 0x20 + 0xf, data));
    CHECK(data[0] == static_cast<std::byte>(slot));
    CHECK(!bus.read(slot * 0x20 + 0x10, data));
  }
}
