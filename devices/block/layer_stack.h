// LayerStack: the frozen part of a copy-on-write disk: a base image (or none: zeros) under any
// number of layers of 4 KiB blocks. Reading a block costs the same whatever the depth.
//
// Thread rule: immutable; share freely between machines.
// Invariant: block b of a layer lies at b * kBlockBytes of its file; the index names, for each
// block, the newest layer that holds it, or none: then the base has it, and past the base's end it
// is zero.
#ifndef RAMET_DEVICES_BLOCK_LAYER_STACK_H_
#define RAMET_DEVICES_BLOCK_LAYER_STACK_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "devices/block/block_map.h"
#include "devices/block/file_backend.h"
#include "devices/virtio/chain.h"
#include "vmm/base/status.h"

namespace ramet::block {

class LayerStack {
 public:
  static constexpr size_t kMaxLayers = 1024;
  static constexpr uint64_t kMaxDiskBytes = uint64_t{1} << 40;

  // A stack without layers. `base` may be null; `size` is a multiple of the sector size, and not
  // less than the base's. InvalidArgument otherwise.
  static StatusOr<std::shared_ptr<const LayerStack>> create(std::shared_ptr<const DiskFile> base,
                                                            uint64_t size);

  // This stack with one more layer on top. ResourceExhausted at kMaxLayers.
  StatusOr<std::shared_ptr<const LayerStack>> with_layer(std::shared_ptr<const DiskFile> file,
                                                         std::span<const BlockRun> runs) const;

  // Template save and load. export_layers() writes all layers, merged into one, as a sparse file of
  // size_bytes(): the blocks that the returned runs name, each at its place, zeros as holes.
  // import_layer() puts such a file on top of this stack; it refuses runs that do not ascend or
  // reach outside the disk, and a file that is not exactly the disk's size.
  StatusOr<std::vector<BlockRun>> export_layers(int fd) const;
  StatusOr<std::shared_ptr<const LayerStack>> import_layer(std::shared_ptr<const DiskFile> file,
                                                           std::span<const BlockRun> runs) const;

  uint64_t size_bytes() const { return size_; }
  uint64_t blocks() const { return (size_ + kBlockBytes - 1) / kBlockBytes; }
  size_t depth() const { return layers_.size(); }
  // What another process makes the same stack from: create() with the base, then with_layer() of
  // each layer's file and runs, oldest first.
  const std::shared_ptr<const DiskFile>& base() const { return base_; }
  const DiskFile& layer_file(size_t layer) const { return *layers_.at(layer); }
  std::vector<BlockRun> layer_runs(size_t layer) const {
    return index_.runs_of(static_cast<uint16_t>(layer));
  }

  // As Backend::read, of a range that lies inside the disk.
  Status read(uint64_t offset, uint64_t bytes, virtio::Writer* into) const;
  // One block into host memory; past the end of the disk it is zeros.
  Status read_block(uint64_t block, std::span<std::byte, kBlockBytes> into) const;

  // True when the block is known to be zeros: no layer has it, and it lies past the base's end.
  bool reads_zero(uint64_t block) const;
  // The length of the longest run of blocks from `first`, at most `limit`, that lie in one place.
  uint64_t same_place(uint64_t first, uint64_t limit) const;

 private:
  LayerStack(std::shared_ptr<const DiskFile> base, uint64_t size, BlockIndex index)
      : base_(std::move(base)), size_(size), index_(std::move(index)) {}
  Status read_base(uint64_t offset, uint64_t bytes, virtio::Writer* into) const;

  const std::shared_ptr<const DiskFile> base_;
  const uint64_t size_;
  const BlockIndex index_;
  std::vector<std::shared_ptr<const DiskFile>> layers_;  // oldest first
};

// InvalidArgument unless the runs ascend without touching, are not empty and lie below `blocks`.
Status check_runs(std::span<const BlockRun> runs, uint64_t blocks);

}  // namespace ramet::block

#endif  // RAMET_DEVICES_BLOCK_LAYER_STACK_H_
