// What a block device counts.
//
// Thread rule: count and read from any thread.
// Invariant: counters only grow while the device lives, across resets too.
#ifndef RAMET_DEVICES_BLOCK_METRICS_H_
#define RAMET_DEVICES_BLOCK_METRICS_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "devices/virtio/device.h"

namespace ramet::block {

struct BlockMetrics {
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> writes{0};
  std::atomic<uint64_t> flushes{0};
  std::atomic<uint64_t> other{0};  // ids, discards, zeroings
  std::atomic<uint64_t> read_bytes{0};
  std::atomic<uint64_t> written_bytes{0};
  std::atomic<uint64_t> refused{0};       // out of range, malformed, a write to a read-only disk
  std::atomic<uint64_t> unsupported{0};   // answered with VIRTIO_BLK_S_UNSUPP
  std::atomic<uint64_t> io_errors{0};     // the host could not
  std::atomic<uint64_t> out_of_space{0};  // the overlay's limit, or the host's disk
  std::atomic<uint64_t> broken_rings{0};  // the device went to Failed

  std::vector<virtio::Metric> list() const {
    return {{"reads", reads},
            {"writes", writes},
            {"flushes", flushes},
            {"other", other},
            {"read_bytes", read_bytes},
            {"written_bytes", written_bytes},
            {"refused", refused},
            {"unsupported", unsupported},
            {"io_errors", io_errors},
            {"out_of_space", out_of_space},
            {"broken_rings", broken_rings}};
  }
};

}  // namespace ramet::block

#endif  // RAMET_DEVICES_BLOCK_METRICS_H_
