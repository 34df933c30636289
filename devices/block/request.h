// Request: one virtio-blk request (virtio 1.2, 5.2.6), parsed from a chain and carried out against
// a backend.
//
// Thread rule: a Request belongs to one thread at a time; the functions are free.
// Invariant: a request that parsed lies inside the disk and within the limits, so a backend sees
// only ranges that exist. A request that did not, but has a byte for its status, is answered.
#ifndef RAMET_DEVICES_BLOCK_REQUEST_H_
#define RAMET_DEVICES_BLOCK_REQUEST_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "devices/block/abi.h"
#include "devices/block/backend.h"
#include "devices/block/metrics.h"
#include "devices/virtio/chain.h"
#include "vmm/base/status.h"

namespace ramet::block {

// 126 and the header and the status make 128, the size of the queue.
inline constexpr uint32_t kMaxSegments = 126;
inline constexpr uint32_t kMaxSegmentBytes = 64 << 10;
inline constexpr uint32_t kMaxRangeSegments = 16;
inline constexpr uint32_t kMaxRangeSectors = (64 << 20) / kSectorBytes;

// What a request is checked against.
struct DiskView {
  uint64_t size_bytes = 0;
  bool read_only = false;
};

struct ByteRange {
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

struct Request {
  uint32_t type = 0;
  // Not kOk: the answer stands already, and nothing is carried out.
  RequestStatus verdict = RequestStatus::kOk;
  ByteRange range;                // of kTypeIn and kTypeOut
  std::vector<ByteRange> ranges;  // of kTypeDiscard and kTypeWriteZeroes
  virtio::Reader from_driver;     // the data of kTypeOut
  virtio::Writer to_driver;       // where the data of kTypeIn and kTypeGetId goes
  virtio::Writer status;          // the last writable byte
  uint16_t head = 0;
};

// InvalidArgument when the chain has no byte to write a status to: then it cannot be answered at
// all.
StatusOr<Request> parse_request(const virtio::Chain& chain, const DiskView& disk);

// Carries the request out, writes its status byte and counts it. Returns the number of bytes
// written to the chain, for the used ring; an error only when guest memory refused the status byte.
struct ExecuteContext {
  Backend* backend = nullptr;
  const std::array<std::byte, kIdBytes>* id = nullptr;
  BlockMetrics* metrics = nullptr;
};
StatusOr<uint32_t> execute_request(Request* request, const ExecuteContext& context);

}  // namespace ramet::block

#endif  // RAMET_DEVICES_BLOCK_REQUEST_H_
