#include "vmm/arch/x86_64/ioapic.h"

#include <algorithm>

#include "vmm/state/codec.h"

namespace ramet::x86 {
namespace {

// 82093AA, section 3.1: the two memory-mapped registers and what IOREGSEL selects.
constexpr uint64_t kRegisterSelect = 0x00;
constexpr uint64_t kWindow = 0x10;
constexpr uint32_t kIndexId = 0x00;
constexpr uint32_t kIndexVersion = 0x01;
constexpr uint32_t kIndexArbitration = 0x02;
constexpr uint32_t kIndexRedirection = 0x10;
// Version 0x11 has no EOI register, so a guest does not look for one.
constexpr uint32_t kVersion = 0x11 | ((kIoApicPins - 1) << 16);

// Redirection entry, section 3.2.4.
constexpr uint64_t kMasked = uint64_t{1} << 16;
constexpr uint64_t kReadOnly = (uint64_t{1} << 12) | (uint64_t{1} << 14);  // delivery status, IRR
constexpr uint64_t kWritable = (uint64_t{0xff} << 56) | 0x1ffff;

// Intel SDM 3A, 11.11.1 and 11.11.2.
MsiMessage to_msi(uint64_t entry) {
  const uint64_t destination = entry >> 56;
  const bool logical = (entry & (uint64_t{1} << 11)) != 0;
  const auto delivery = static_cast<uint32_t>(entry >> 8) & 7;
  const auto vector = static_cast<uint32_t>(entry & 0xff);
  return {.address = 0xfee00000 | (destination << 12) | (logical ? uint64_t{1} << 2 : 0),
          .data = vector | (delivery << 8)};
}

}  // namespace

Ioapic::Ioapic(MsiSink* sink) : sink_(sink) { state_.redirection.fill(kMasked); }

void Ioapic::bus_read(uint64_t offset, std::span<std::byte> data) {
  std::fill(data.begin(), data.end(), std::byte{0});
  uint32_t value = 0;
  {
    const std::lock_guard lock(mutex_);
    if (offset == kRegisterSelect) {
      value = state_.selected;
    } else if (offset == kWindow) {
      value = read_register(state_.selected);
    }
  }
  for (size_t i = 0; i < std::min<size_t>(data.size(), sizeof value); ++i) {
    data[i] = static_cast<std::byte>(value >> (8 * i));
  }
}

void Ioapic::bus_write(uint64_t offset, std::span<const std::byte> data) {
  if (data.size() != sizeof(uint32_t)) {
    return;  // section 3.1: the registers take 32-bit accesses only
  }
  uint32_t value = 0;
  for (size_t i = 0; i < sizeof value; ++i) {
    value |= std::to_integer<uint32_t>(data[i]) << (8 * i);
  }
  std::optional<MsiMessage> message;
  {
    const std::lock_guard lock(mutex_);
    if (offset == kRegisterSelect) {
      state_.selected = value & 0xff;
    } else if (offset == kWindow) {
      message = write_register(state_.selected, value);
    }
  }
  if (message) {
    sink_->signal_msi(*message);
  }
}

uint32_t Ioapic::read_register(uint32_t index) const {
  if (index == kIndexId || index == kIndexArbitration) {
    return state_.id;
  }
  if (index == kIndexVersion) {
    return kVersion;
  }
  const uint32_t pin = (index - kIndexRedirection) / 2;
  if (index < kIndexRedirection || pin >= kIoApicPins) {
    return 0;
  }
  const uint64_t entry = state_.redirection[pin];
  return static_cast<uint32_t>(index % 2 == 0 ? entry : entry >> 32);
}

std::optional<MsiMessage> Ioapic::write_register(uint32_t index, uint32_t value) {
  if (index == kIndexId) {
    state_.id = value & 0x0f000000;
    return std::nullopt;
  }
  const uint32_t pin = (index - kIndexRedirection) / 2;
  if (index < kIndexRedirection || pin >= kIoApicPins) {
    return std::nullopt;
  }
  uint64_t& entry = state_.redirection[pin];
  const uint64_t merged = index % 2 == 0 ? (entry & 0xffffffff00000000) | value
                                         : (entry & 0xffffffff) | (uint64_t{value} << 32);
  entry = merged & kWritable & ~kReadOnly;
  const uint32_t pin_bit = uint32_t{1} << pin;
  if ((entry & kMasked) != 0 || (state_.pending & pin_bit) == 0) {
    return std::nullopt;
  }
  state_.pending &= ~pin_bit;
  return to_msi(entry);
}

void Ioapic::pulse(uint32_t gsi) {
  if (gsi >= kIoApicPins) {
    return;
  }
  MsiMessage message;
  {
    const std::lock_guard lock(mutex_);
    const uint64_t entry = state_.redirection[gsi];
    if ((entry & kMasked) != 0) {
      state_.pending |= uint32_t{1} << gsi;
      return;
    }
    message = to_msi(entry);
  }
  sink_->signal_msi(message);
}

IoapicState Ioapic::save() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

std::vector<std::byte> encode_ioapic_state(const IoapicState& state) {
  Encoder out;
  out.number(state.id);
  out.number(state.selected);
  for (const uint64_t entry : state.redirection) {
    out.number(entry);
  }
  out.number(state.pending);
  return out.take();
}

StatusOr<IoapicState> decode_ioapic_state(std::span<const std::byte> bytes) {
  Decoder in(bytes, "ioapic");
  IoapicState state;
  state.id = in.number<uint32_t>() & 0x0f000000;
  state.selected = in.bounded<uint32_t>(0, 0xff, "IOREGSEL");
  for (uint64_t& entry : state.redirection) {
    entry = in.number<uint64_t>() & kWritable & ~kReadOnly;
  }
  state.pending = in.bounded<uint32_t>(0, (uint32_t{1} << kIoApicPins) - 1, "pending pins");
  RAMET_RETURN_IF_ERROR(in.finish());
  return state;
}

}  // namespace ramet::x86
