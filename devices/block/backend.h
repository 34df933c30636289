// Backend: where a disk's bytes are. Transfers go straight between files and guest memory.
//
// Thread rule: every method from any thread, several at once.
// Invariant: a caller passes ranges inside size_bytes() only; a transfer is whole or an error.
// After a failed write the range holds old or new bytes, in units the backend chooses.
// ResourceExhausted means that there is no room for a write; every code becomes VIRTIO_BLK_S_IOERR.
#ifndef RAMET_DEVICES_BLOCK_BACKEND_H_
#define RAMET_DEVICES_BLOCK_BACKEND_H_

#include <cstdint>

#include "devices/virtio/chain.h"
#include "vmm/base/status.h"

namespace ramet::block {

class Backend {
 public:
  virtual ~Backend() = default;

  // A multiple of kSectorBytes; constant.
  virtual uint64_t size_bytes() const = 0;
  virtual bool read_only() const = 0;

  // Moves `bytes` bytes between the disk at `offset` and the stream, which holds at least so many.
  virtual Status read(uint64_t offset, uint64_t bytes, virtio::Writer* into) = 0;
  virtual Status write(uint64_t offset, uint64_t bytes, virtio::Reader* from) = 0;
  // The range reads as zeros afterwards.
  virtual Status write_zeroes(uint64_t offset, uint64_t bytes) = 0;
  // The driver needs the range no more: it may keep its bytes, lose them, or go back to what they
  // were before an overlay, and should take no room.
  virtual Status discard(uint64_t offset, uint64_t bytes) = 0;
  // Returns when every completed write would survive what the backend promises to survive.
  virtual Status flush() = 0;
};

// One whole transfer between [offset, offset + bytes) of a file and the stream, looping over short
// ones. DataLoss when the file ends before.
Status transfer_from_file(int fd, uint64_t offset, uint64_t bytes, virtio::Writer* into);
Status transfer_to_file(int fd, uint64_t offset, uint64_t bytes, virtio::Reader* from);

}  // namespace ramet::block

#endif  // RAMET_DEVICES_BLOCK_BACKEND_H_
