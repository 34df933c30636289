// The numbers of the virtio block device (virtio 1.2, 5.2).
//
// Thread rule: constants and plain structs.
// Invariant: each struct has the layout of its section, asserted.
#ifndef RAMET_DEVICES_BLOCK_ABI_H_
#define RAMET_DEVICES_BLOCK_ABI_H_

#include <cstddef>
#include <cstdint>

namespace ramet::block {

inline constexpr uint64_t kSectorBytes = 512;  // 5.2.4: whatever blk_size says

// 5.2.3: feature bits, as masks.
inline constexpr uint64_t kFeatureSizeMax = 1 << 1;
inline constexpr uint64_t kFeatureSegMax = 1 << 2;
inline constexpr uint64_t kFeatureReadOnly = 1 << 5;
inline constexpr uint64_t kFeatureBlkSize = 1 << 6;
inline constexpr uint64_t kFeatureFlush = 1 << 9;
inline constexpr uint64_t kFeatureTopology = 1 << 10;
inline constexpr uint64_t kFeatureDiscard = 1 << 13;
inline constexpr uint64_t kFeatureWriteZeroes = 1 << 14;

// 5.2.6: request types and statuses.
inline constexpr uint32_t kTypeIn = 0;
inline constexpr uint32_t kTypeOut = 1;
inline constexpr uint32_t kTypeFlush = 4;
inline constexpr uint32_t kTypeGetId = 8;
inline constexpr uint32_t kTypeDiscard = 11;
inline constexpr uint32_t kTypeWriteZeroes = 13;
enum class RequestStatus : uint8_t { kOk = 0, kIoError = 1, kUnsupported = 2 };
inline constexpr size_t kIdBytes = 20;

struct RequestHeader {
  uint32_t type = 0;
  uint32_t reserved = 0;
  uint64_t sector = 0;
};
static_assert(sizeof(RequestHeader) == 16);

// 5.2.6: one range of a discard or write-zeroes request.
struct RangeSegment {
  uint64_t sector = 0;
  uint32_t sectors = 0;
  uint32_t flags = 0;
};
static_assert(sizeof(RangeSegment) == 16);
inline constexpr uint32_t kRangeUnmap = 1;

// 5.2.4: configuration space, as far as the features above make it valid.
struct Config {
  uint64_t capacity = 0;  // sectors
  uint32_t size_max = 0;
  uint32_t seg_max = 0;
  uint16_t cylinders = 0;
  uint8_t heads = 0;
  uint8_t sectors = 0;
  uint32_t blk_size = 0;
  uint8_t physical_block_exp = 0;
  uint8_t alignment_offset = 0;
  uint16_t min_io_size = 0;
  uint32_t opt_io_size = 0;
  uint8_t writeback = 0;
  uint8_t unused0 = 0;
  uint16_t num_queues = 0;
  uint32_t max_discard_sectors = 0;
  uint32_t max_discard_seg = 0;
  uint32_t discard_sector_alignment = 0;
  uint32_t max_write_zeroes_sectors = 0;
  uint32_t max_write_zeroes_seg = 0;
  uint8_t write_zeroes_may_unmap = 0;
  uint8_t unused1[3] = {};
  uint32_t unused2 = 0;  // max_secure_erase_sectors; fills the struct to a multiple of 8
};
static_assert(sizeof(Config) == 64 && offsetof(Config, max_discard_sectors) == 36);

}  // namespace ramet::block

#endif  // RAMET_DEVICES_BLOCK_ABI_H_
