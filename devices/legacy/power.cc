#include "devices/legacy/power.h"

#include <algorithm>

#include "vmm/arch/x86_64/layout.h"

namespace ramet {
namespace {

constexpr uint64_t kSleepControl = x86::kSleepControlPort - x86::kPowerPort;
constexpr uint64_t kReset = x86::kResetPort - x86::kPowerPort;
constexpr uint8_t kSleepS5 =
    x86::kSleepEnable | static_cast<uint8_t>(x86::kSleepTypeS5 << x86::kSleepTypeShift);
constexpr uint8_t kSleepMask =
    x86::kSleepEnable | static_cast<uint8_t>(x86::kSleepTypeMask << x86::kSleepTypeShift);

}  // namespace

// Sleep control reads 0 (SLP_EN is write-only) and sleep status too: the machine never woke.
void PowerDevice::bus_read(uint64_t, std::span<std::byte> data) {
  std::fill(data.begin(), data.end(), std::byte{0});
}

void PowerDevice::bus_write(uint64_t offset, std::span<const std::byte> data) {
  if (data.size() != 1) {
    return;  // the registers are a byte wide
  }
  const auto value = std::to_integer<uint8_t>(data[0]);
  if (offset == kSleepControl && (value & kSleepMask) == kSleepS5 && handlers_.power_off) {
    handlers_.power_off();
  } else if (offset == kReset && value == x86::kResetValue && handlers_.reset) {
    handlers_.reset();
  }
}

}  // namespace ramet
