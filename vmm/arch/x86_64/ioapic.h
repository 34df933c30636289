// Ioapic: the I/O APIC that the guest programs; turns an edge on a pin into an MSI (Intel 82093AA).
//
// Thread rule: everything from any thread; one mutex inside, never held while calling out.
// Invariant: edge-triggered pins only matter: a level-triggered entry is delivered as an edge, and
// no EOI is awaited, because no line of this machine is level-triggered (docs/design.md section 4).
#ifndef RAMET_VMM_ARCH_X86_64_IOAPIC_H_
#define RAMET_VMM_ARCH_X86_64_IOAPIC_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/arch/x86_64/msi.h"
#include "vmm/base/status.h"
#include "vmm/bus/device.h"

namespace ramet::x86 {

// Plain data for a snapshot.
struct IoapicState {
  uint32_t id = 0;
  uint32_t selected = 0;  // IOREGSEL
  std::array<uint64_t, kIoApicPins> redirection = {};
  uint32_t pending = 0;  // pins with an edge that was masked, a bit each

  friend bool operator==(const IoapicState&, const IoapicState&) = default;
};

std::vector<std::byte> encode_ioapic_state(const IoapicState& state);
StatusOr<IoapicState> decode_ioapic_state(std::span<const std::byte> bytes);
inline constexpr uint16_t kIoapicStateVersion = 1;

class Ioapic : public BusDevice {
 public:
  explicit Ioapic(MsiSink* sink);
  Ioapic(MsiSink* sink, const IoapicState& state) : sink_(sink), state_(state) {}

  void bus_read(uint64_t offset, std::span<std::byte> data) override;
  void bus_write(uint64_t offset, std::span<const std::byte> data) override;

  // An edge on pin `gsi` (< kIoApicPins; others are ignored).
  void pulse(uint32_t gsi);

  IoapicState save() const;

 private:
  uint32_t read_register(uint32_t index) const;
  // Returns the message to send when writing unmasked a pending edge.
  std::optional<MsiMessage> write_register(uint32_t index, uint32_t value);

  MsiSink* const sink_;
  mutable std::mutex mutex_;
  IoapicState state_;
};

}  // namespace ramet::x86

#endif  // RAMET_VMM_ARCH_X86_64_IOAPIC_H_
