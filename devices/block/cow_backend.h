// CowBackend: a machine's own view of a shared disk. Writes go to an overlay of 4 KiB blocks that
// is made at the first write: a machine that never writes costs no descriptor, no call and no
// memory.
//
// Thread rule: as Backend; freeze() while the device is quiesced.
// Invariant: what is below is never written. A block is in the overlay's set only once all of its
// bytes are in the overlay's file.
#ifndef RAMET_DEVICES_BLOCK_COW_BACKEND_H_
#define RAMET_DEVICES_BLOCK_COW_BACKEND_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <shared_mutex>

#include "devices/block/backend.h"
#include "devices/block/block_map.h"
#include "devices/block/layer_stack.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet::block {

struct OverlayOptions {
  // Makes the overlay's file, of so many bytes, all holes. None: a memfd, whose bytes count as the
  // process's memory.
  std::function<StatusOr<UniqueFd>(uint64_t size)> make_file = {};
  // The most bytes of blocks that the overlay takes; a write beyond fails with ResourceExhausted.
  uint64_t max_bytes = uint64_t{4} << 30;
  // Told of a write beyond, with the bytes that the overlay would have had, before that write
  // fails. With the disk's lock held: it must neither block nor ask the disk anything.
  std::function<void(uint64_t wanted)> on_full = {};
};

class CowBackend final : public Backend {
 public:
  CowBackend(std::shared_ptr<const LayerStack> below, OverlayOptions options);

  uint64_t size_bytes() const override { return size_; }
  bool read_only() const override { return false; }
  Status read(uint64_t offset, uint64_t bytes, virtio::Writer* into) override;
  Status write(uint64_t offset, uint64_t bytes, virtio::Reader* from) override;
  // Where below is nothing but zeros, the overlay gives its blocks up rather than storing zeros.
  Status write_zeroes(uint64_t offset, uint64_t bytes) override;
  Status discard(uint64_t offset, uint64_t bytes) override;
  // Nothing to do: the overlay lives no longer than the process, so there is nothing to survive.
  Status flush() override { return Status(); }

  // Makes the overlay a layer of a new stack, on which this disk goes on with an empty overlay and
  // others may be made. Without an overlay it is the stack that was below before.
  StatusOr<std::shared_ptr<const LayerStack>> freeze();

  // Bytes of blocks in the overlay.
  uint64_t overlay_bytes() const;

 private:
  struct Overlay {
    UniqueFd file;
    BlockSet blocks;
  };

  // With mutex_ held exclusively:
  StatusOr<Overlay*> writable_overlay();
  Status reserve(uint64_t first_block, uint64_t last_block) const;
  Status copy_up_edges(uint64_t offset, uint64_t bytes);
  Status copy_up(uint64_t block);
  Status store_zeroes(uint64_t offset, uint64_t bytes);
  Status give_up(uint64_t first_block, uint64_t end_block);
  uint64_t end_of_whole_blocks(uint64_t end) const;
  void add_blocks(uint64_t offset, uint64_t bytes);

  const uint64_t size_;
  const OverlayOptions options_;
  mutable std::shared_mutex mutex_;  // guards what follows; reads of the disk share it
  std::shared_ptr<const LayerStack> below_;
  std::unique_ptr<Overlay> overlay_;
};

}  // namespace ramet::block

#endif  // RAMET_DEVICES_BLOCK_COW_BACKEND_H_
