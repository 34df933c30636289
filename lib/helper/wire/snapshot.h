// SnapshotResult: what a helper process says of a snapshot beside its pages: the saved state, what
// the guest wrote to its scratch disk, and which pages are its own.
//
// Thread rule: plain values and pure functions.
// Invariant: decode_snapshot() of what encode() gave is the same; it takes hostile bytes.
#ifndef RAMET_LIB_HELPER_WIRE_SNAPSHOT_H_
#define RAMET_LIB_HELPER_WIRE_SNAPSHOT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "devices/block/block_map.h"
#include "lib/instance/instance_state.h"
#include "vmm/base/status.h"
#include "vmm/memory/working_set.h"

namespace ramet::helper {

// The room for one; holes until it is written.
inline constexpr uint64_t kSnapshotRoom = uint64_t{128} << 20;

struct SnapshotResult {
  InstanceState state = {};
  // Of the scratch disk's layers that the embedder does not know yet, the oldest first.
  std::vector<std::vector<block::BlockRun>> layers = {};
  // Of the memory's file, in the order of the pages' file.
  std::vector<PageRange> pages = {};
};

// The sizes of what it is a snapshot of.
struct SnapshotBounds {
  uint64_t pages = 0;
  uint64_t blocks = 0;  // of the scratch disk; 0: there is none
};

std::vector<std::byte> encode(const SnapshotResult& result);
// DataLoss where the bytes are not what encode() makes, or reach beyond the bounds.
StatusOr<SnapshotResult> decode_snapshot(std::span<const std::byte> bytes,
                                         const SnapshotBounds& bounds);

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_WIRE_SNAPSHOT_H_
