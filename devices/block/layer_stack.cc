#include "devices/block/layer_stack.h"

#include <algorithm>
#include <array>

#include <absl/strings/str_format.h>

#include "devices/block/abi.h"
#include "vmm/base/syscall.h"

namespace ramet::block {

Status check_runs(std::span<const BlockRun> runs, uint64_t blocks) {
  uint64_t next = 0;  // the first block that the run may begin at
  for (const BlockRun& run : runs) {
    if (run.count == 0 || run.first < next || run.first >= blocks ||
        run.count > blocks - run.first) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "disk layer: run of %d blocks at %d is empty, out of order or outside the disk's %d",
          run.count, run.first, blocks));
    }
    next = run.first + run.count + 1;
  }
  return Status();
}

StatusOr<std::shared_ptr<const LayerStack>> LayerStack::create(std::shared_ptr<const DiskFile> base,
                                                               uint64_t size) {
  const uint64_t base_size = base != nullptr ? base->size_bytes() : 0;
  if (size == 0 || size % kSectorBytes != 0 || size > kMaxDiskBytes || size < base_size) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "disk of %d bytes over a base of %d: must be a multiple of %d, not less than the base and "
        "at most %d",
        size, base_size, kSectorBytes, kMaxDiskBytes));
  }
  const BlockIndex index((size + kBlockBytes - 1) / kBlockBytes);
  return std::shared_ptr<const LayerStack>(new LayerStack(std::move(base), size, index));
}

StatusOr<std::shared_ptr<const LayerStack>> LayerStack::with_layer(
    std::shared_ptr<const DiskFile> file, std::span<const BlockRun> runs) const {
  if (layers_.size() >= kMaxLayers) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("disk of %d layers, the most there can be", layers_.size()));
  }
  RAMET_RETURN_IF_ERROR(check_runs(runs, blocks()));
  const auto layer = static_cast<uint16_t>(layers_.size());
  std::shared_ptr<LayerStack> result(new LayerStack(base_, size_, index_.with_layer(layer, runs)));
  result->layers_ = layers_;
  result->layers_.push_back(std::move(file));
  return std::shared_ptr<const LayerStack>(std::move(result));
}

StatusOr<std::shared_ptr<const LayerStack>> LayerStack::import_layer(
    std::shared_ptr<const DiskFile> file, std::span<const BlockRun> runs) const {
  if (file->size_bytes() != size_) {
    return absl::DataLossError(
        absl::StrFormat("disk layer file of %d bytes for a disk of %d", file->size_bytes(), size_));
  }
  return with_layer(std::move(file), runs);
}

StatusOr<std::vector<BlockRun>> LayerStack::export_layers(int fd) const {
  RAMET_RETURN_IF_ERROR(sys::ftruncate(fd, size_, "size a disk layer file"));
  std::vector<BlockRun> runs = index_.runs();
  std::array<std::byte, kBlockBytes> buffer;
  for (const BlockRun& run : runs) {
    for (uint64_t block = run.first; block < run.first + run.count; ++block) {
      RAMET_RETURN_IF_ERROR(read_block(block, buffer));
      const bool zero =
          std::all_of(buffer.begin(), buffer.end(), [](std::byte b) { return b == std::byte{0}; });
      if (zero) {
        continue;
      }
      const uint64_t offset = block * kBlockBytes;
      const size_t part = static_cast<size_t>(std::min(kBlockBytes, size_ - offset));
      RAMET_RETURN_IF_ERROR(
          sys::pwrite_all(fd, std::span(buffer).first(part), offset, "write a disk layer file"));
    }
  }
  return runs;
}

bool LayerStack::reads_zero(uint64_t block) const {
  return index_.layer_of(block) == BlockIndex::kNoLayer &&
         (base_ == nullptr || block * kBlockBytes >= base_->size_bytes());
}

uint64_t LayerStack::same_place(uint64_t first, uint64_t limit) const {
  const uint16_t layer = index_.layer_of(first);
  uint64_t count = 1;
  while (count < limit && index_.layer_of(first + count) == layer) {
    ++count;
  }
  return count;
}

Status LayerStack::read_base(uint64_t offset, uint64_t bytes, virtio::Writer* into) const {
  const uint64_t base_size = base_ != nullptr ? base_->size_bytes() : 0;
  const uint64_t inside = offset < base_size ? std::min(bytes, base_size - offset) : 0;
  if (inside > 0) {
    RAMET_RETURN_IF_ERROR(transfer_from_file(base_->fd(), offset, inside, into));
  }
  return into->fill_zero(bytes - inside);
}

Status LayerStack::read(uint64_t offset, uint64_t bytes, virtio::Writer* into) const {
  for (uint64_t done = 0; done < bytes;) {
    const uint64_t at = offset + done;
    const uint64_t block = at / kBlockBytes;
    const uint64_t last = (offset + bytes - 1) / kBlockBytes;
    const uint64_t end = (block + same_place(block, last - block + 1)) * kBlockBytes;
    const uint64_t part = std::min(end, offset + bytes) - at;
    const uint16_t layer = index_.layer_of(block);
    RAMET_RETURN_IF_ERROR(layer == BlockIndex::kNoLayer
                              ? read_base(at, part, into)
                              : transfer_from_file(layers_[layer]->fd(), at, part, into));
    done += part;
  }
  return Status();
}

Status LayerStack::read_block(uint64_t block, std::span<std::byte, kBlockBytes> into) const {
  const uint64_t offset = block * kBlockBytes;
  const uint16_t layer = index_.layer_of(block);
  uint64_t end = size_;
  if (layer == BlockIndex::kNoLayer) {
    end = base_ != nullptr ? base_->size_bytes() : 0;
  }
  const uint64_t inside = offset < end ? std::min(kBlockBytes, end - offset) : 0;
  std::fill(into.begin() + static_cast<ptrdiff_t>(inside), into.end(), std::byte{0});
  if (inside == 0) {
    return Status();
  }
  const int fd = layer == BlockIndex::kNoLayer ? base_->fd() : layers_[layer]->fd();
  return sys::pread_exactly(fd, into.first(static_cast<size_t>(inside)), offset,
                            "read a block to copy it");
}

}  // namespace ramet::block
