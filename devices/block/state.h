// A block device's own saved state: what its restored twin must agree with. The disk's bytes are
// saved as layers, not here.
//
// Thread rule: plain values and pure functions.
// Invariant: decode_* return values within their bounds, and never allocate more than the input
// justifies.
#ifndef RAMET_DEVICES_BLOCK_STATE_H_
#define RAMET_DEVICES_BLOCK_STATE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "devices/block/abi.h"
#include "devices/block/block_map.h"
#include "vmm/base/status.h"

namespace ramet::block {

struct BlockState {
  uint64_t capacity_bytes = 0;
  bool read_only = false;
  std::array<std::byte, kIdBytes> id = {};

  friend bool operator==(const BlockState&, const BlockState&) = default;
};

std::vector<std::byte> encode_state(const BlockState& state);
StatusOr<BlockState> decode_state(std::span<const std::byte> bytes);

// The runs of a saved disk layer, for the manifest of a template. `blocks` is the disk's size.
std::vector<std::byte> encode_runs(std::span<const BlockRun> runs);
StatusOr<std::vector<BlockRun>> decode_runs(std::span<const std::byte> bytes, uint64_t blocks);

}  // namespace ramet::block

#endif  // RAMET_DEVICES_BLOCK_STATE_H_
