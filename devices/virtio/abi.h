// The numbers of virtio 1.2 that Ramet uses: register offsets, status bits, feature bits and ring
// layouts, each with its section.
//
// Thread rule: constants.
// Invariant: a number stands here because the specification says so, never because we chose it; our
// own limits stand with the code that keeps them.
#ifndef RAMET_DEVICES_VIRTIO_ABI_H_
#define RAMET_DEVICES_VIRTIO_ABI_H_

#include <cstdint>

namespace ramet::virtio {

// 5: device types.
enum class DeviceType : uint32_t {
  kNone = 0,  // 4.2.3.1: an MMIO slot with no device; the driver must ignore it
  kNet = 1,
  kBlock = 2,
  kConsole = 3,
  kEntropy = 4,
  kBalloon = 5,
  kVsock = 19,
};

// 4.2.2: MMIO register layout, version 2.
namespace reg {
inline constexpr uint64_t kMagicValue = 0x000;
inline constexpr uint64_t kVersion = 0x004;
inline constexpr uint64_t kDeviceId = 0x008;
inline constexpr uint64_t kVendorId = 0x00c;
inline constexpr uint64_t kDeviceFeatures = 0x010;
inline constexpr uint64_t kDeviceFeaturesSel = 0x014;
inline constexpr uint64_t kDriverFeatures = 0x020;
inline constexpr uint64_t kDriverFeaturesSel = 0x024;
inline constexpr uint64_t kQueueSel = 0x030;
inline constexpr uint64_t kQueueNumMax = 0x034;
inline constexpr uint64_t kQueueNum = 0x038;
inline constexpr uint64_t kQueueReady = 0x044;
inline constexpr uint64_t kQueueNotify = 0x050;
inline constexpr uint64_t kInterruptStatus = 0x060;
inline constexpr uint64_t kInterruptAck = 0x064;
inline constexpr uint64_t kStatus = 0x070;
inline constexpr uint64_t kQueueDescLow = 0x080;
inline constexpr uint64_t kQueueDescHigh = 0x084;
inline constexpr uint64_t kQueueDriverLow = 0x090;
inline constexpr uint64_t kQueueDriverHigh = 0x094;
inline constexpr uint64_t kQueueDeviceLow = 0x0a0;
inline constexpr uint64_t kQueueDeviceHigh = 0x0a4;
inline constexpr uint64_t kShmSel = 0x0ac;
inline constexpr uint64_t kShmLenLow = 0x0b0;
inline constexpr uint64_t kShmLenHigh = 0x0b4;
inline constexpr uint64_t kShmBaseLow = 0x0b8;
inline constexpr uint64_t kShmBaseHigh = 0x0bc;
inline constexpr uint64_t kQueueReset = 0x0c0;
inline constexpr uint64_t kConfigGeneration = 0x0fc;
inline constexpr uint64_t kConfig = 0x100;
}  // namespace reg

inline constexpr uint32_t kMmioMagic = 0x74726976;  // "virt", 4.2.2
inline constexpr uint32_t kMmioVersion = 2;         // 4.2.2: 1 is the legacy interface

// 2.1: device status field.
inline constexpr uint32_t kStatusAcknowledge = 1;
inline constexpr uint32_t kStatusDriver = 2;
inline constexpr uint32_t kStatusDriverOk = 4;
inline constexpr uint32_t kStatusFeaturesOk = 8;
inline constexpr uint32_t kStatusNeedsReset = 64;
inline constexpr uint32_t kStatusFailed = 128;

// 4.2.2: bits of InterruptStatus and InterruptACK.
inline constexpr uint32_t kInterruptUsedRing = 1;
inline constexpr uint32_t kInterruptConfig = 2;

// 6: reserved feature bits, as masks.
inline constexpr uint64_t kFeatureIndirectDesc = uint64_t{1} << 28;
inline constexpr uint64_t kFeatureEventIdx = uint64_t{1} << 29;
inline constexpr uint64_t kFeatureVersion1 = uint64_t{1} << 32;

// 2.7.5: the virtqueue descriptor table.
struct Descriptor {
  uint64_t address = 0;
  uint32_t length = 0;
  uint16_t flags = 0;
  uint16_t next = 0;
};
static_assert(sizeof(Descriptor) == 16);
inline constexpr uint16_t kDescNext = 1;
inline constexpr uint16_t kDescWrite = 2;
inline constexpr uint16_t kDescIndirect = 4;

// 2.7.6 and 2.7.8: the available and the used ring. Offsets from the start of each.
inline constexpr uint64_t kRingFlags = 0;
inline constexpr uint64_t kRingIndex = 2;
inline constexpr uint64_t kRingEntries = 4;
inline constexpr uint16_t kAvailNoInterrupt = 1;  // 2.7.7
inline constexpr uint16_t kUsedNoNotify = 1;      // 2.7.10
struct UsedElement {
  uint32_t id = 0;
  uint32_t length = 0;
};
static_assert(sizeof(UsedElement) == 8);

// 2.7: alignment and size of the three parts of a split virtqueue of `size` entries.
inline constexpr uint64_t kDescAlignment = 16;
inline constexpr uint64_t kAvailAlignment = 2;
inline constexpr uint64_t kUsedAlignment = 4;
constexpr uint64_t desc_bytes(uint16_t size) { return uint64_t{16} * size; }
constexpr uint64_t avail_bytes(uint16_t size) { return 6 + uint64_t{2} * size; }
constexpr uint64_t used_bytes(uint16_t size) { return 6 + uint64_t{8} * size; }

}  // namespace ramet::virtio

#endif  // RAMET_DEVICES_VIRTIO_ABI_H_
