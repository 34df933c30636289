// GuestBuilder: one hand-made guest: what its memory holds at the start and what each of its
// processors runs; and the driver's side of virtio, as instructions.
//
// Thread rule: one thread.
// Invariant: the memory is laid out as below, on the first 4 GiB mapped to themselves. A guest that
// does what it is named for counts its rounds at kRounds: the test waits for them.
#ifndef RAMET_TESTS_GUESTS_BUILDER_H_
#define RAMET_TESTS_GUESTS_BUILDER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "devices/virtio/abi.h"
#include "lib/instance/instance_state.h"
#include "tests/guests/assembler.h"
#include "vmm/machine/machine.h"

namespace ramet::testing {

inline constexpr uint64_t kHostileMemoryBytes = 8 << 20;
inline constexpr uint32_t kHostileVcpus = 2;  // at most
inline constexpr uint64_t kHostileCode = 0x10'0000;
inline constexpr uint64_t kHostileCodeRoom = 0x4'0000;  // of each processor
inline constexpr uint64_t kHostileHandlers = 0x18'0000;
inline constexpr uint64_t kRounds = 0x1e'0000;  // u64; kRounds + 8 is the second processor's
inline constexpr uint64_t kFreeMemory = 0x30'0000;
inline constexpr uint64_t kReceiveBuffers = 0x40'0000;  // of 4 KiB each
inline constexpr uint64_t kPackets = 0x50'0000;         // of 4 KiB each, to the end

// One virtqueue of the guest's: of the device in `slot`, with `size` entries.
struct Ring {
  uint32_t slot = 0;
  uint32_t queue = 0;
  uint16_t size = 128;

  uint64_t base() const { return 0x20'0000 + (slot * 4 + queue) * 0x4000; }
  uint64_t desc() const { return base(); }
  uint64_t avail() const { return base() + 0x1000; }
  uint64_t used() const { return base() + 0x2000; }
  uint64_t avail_index() const { return avail() + virtio::kRingIndex; }
  uint64_t used_index() const { return used() + virtio::kRingIndex; }
};

// The address of a device's register.
constexpr uint64_t device_register(uint32_t slot, uint64_t offset) {
  return x86::virtio_mmio_address(slot) + offset;
}

class GuestBuilder {
 public:
  Assembler& cpu(uint32_t index = 0) { return cpus_.at(index); }

  void put(uint64_t address, std::span<const std::byte> bytes);
  template <typename T>
  void put_object(uint64_t address, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    put(address, std::as_bytes(std::span<const T, 1>(&value, 1)));
  }
  // Any exception is a triple fault.
  void no_interrupt_table() { has_table_ = false; }
  // One more round of processor `index`.
  void round(uint32_t index = 0) { cpu(index).add64(kRounds + 8 * uint64_t{index}, 1); }
  // The processor has nothing more to do.
  void stop(uint32_t index = 0);

  // --- rings, as they lie in memory at the start ---
  void descriptor(const Ring& ring, uint16_t index, const virtio::Descriptor& descriptor);
  // Entry `place` of the available ring names the chain that begins at `head`.
  void available(const Ring& ring, uint16_t place, uint16_t head);
  // All of it: entry i names head i % heads.
  void all_available(const Ring& ring, uint16_t heads);

  // --- the driver, as instructions ---
  // Resets the device and negotiates `features`, up to FEATURES_OK.
  void negotiate(uint32_t slot,
                 uint64_t features = virtio::kFeatureVersion1 | virtio::kFeatureIndirectDesc);
  void set_up(const Ring& ring);
  // The same, with the parts elsewhere.
  struct Place {
    uint32_t size = 0;
    uint64_t desc = 0;
    uint64_t avail = 0;
    uint64_t used = 0;
  };
  void set_up_at(uint32_t slot, uint32_t queue, const Place& place);
  void driver_ok(uint32_t slot);
  // All three for one device; its rings' indices begin at 0 again.
  void bring_up(std::initializer_list<Ring> rings);
  // Makes `chains` more available and tells the device.
  void submit(const Ring& ring, uint16_t chains = 1);
  // Until the device has given back all that was submitted.
  void wait_used(const Ring& ring) { cpu().wait_equal16(ring.used_index(), ring.avail_index()); }
  // Until the device says that it needs a reset.
  void wait_needs_reset(uint32_t slot);

  // Puts everything in place and points the machine's processors at it.
  Status place(Machine* machine) const;

 private:
  struct Patch {
    uint64_t address = 0;
    std::vector<std::byte> bytes;
  };
  Status start_processor(Machine* machine, uint32_t index) const;

  std::array<Assembler, kHostileVcpus> cpus_;
  std::vector<Patch> patches_;
  bool has_table_ = true;
};

}  // namespace ramet::testing

#endif  // RAMET_TESTS_GUESTS_BUILDER_H_
