#include "devices/block/cow_backend.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"
#include "vmm/memory/mapping.h"

namespace ramet::block {
namespace {

uint64_t block_of(uint64_t offset) { return offset / kBlockBytes; }

}  // namespace

CowBackend::CowBackend(std::shared_ptr<const LayerStack> below, OverlayOptions options)
    : size_(below->size_bytes()), options_(std::move(options)), below_(std::move(below)) {}

Status CowBackend::read(uint64_t offset, uint64_t bytes, virtio::Writer* into) {
  const std::shared_lock lock(mutex_);
  if (overlay_ == nullptr) {
    return below_->read(offset, bytes, into);
  }
  const uint64_t end = offset + bytes;
  while (offset < end) {
    const bool above = overlay_->blocks.contains(block_of(offset));
    uint64_t next = block_of(offset) + 1;
    while (next * kBlockBytes < end && overlay_->blocks.contains(next) == above) {
      ++next;
    }
    const uint64_t part = std::min(next * kBlockBytes, end) - offset;
    RAMET_RETURN_IF_ERROR(above ? transfer_from_file(overlay_->file.get(), offset, part, into)
                                : below_->read(offset, part, into));
    offset += part;
  }
  return Status();
}

StatusOr<CowBackend::Overlay*> CowBackend::writable_overlay() {
  if (overlay_ == nullptr) {
    auto file =
        options_.make_file ? options_.make_file(size_) : create_memfd("ramet-overlay", size_);
    if (!file.ok()) {
      return annotate(file.status(), "make a disk overlay");
    }
    overlay_ = std::make_unique<Overlay>(Overlay{*std::move(file), BlockSet(below_->blocks())});
  }
  return overlay_.get();
}

Status CowBackend::reserve(uint64_t first_block, uint64_t last_block) const {
  uint64_t wanted = overlay_->blocks.count();
  for (uint64_t block = first_block; block <= last_block; ++block) {
    wanted += overlay_->blocks.contains(block) ? 0 : 1;
  }
  if (wanted * kBlockBytes > options_.max_bytes) {
    if (options_.on_full) {
      options_.on_full(wanted * kBlockBytes);
    }
    return absl::ResourceExhaustedError(
        absl::StrFormat("disk overlay: %d bytes wanted, the limit is %d", wanted * kBlockBytes,
                        options_.max_bytes));
  }
  return Status();
}

Status CowBackend::copy_up(uint64_t block) {
  if (overlay_->blocks.contains(block)) {
    return Status();
  }
  std::array<std::byte, kBlockBytes> buffer;
  RAMET_RETURN_IF_ERROR(below_->read_block(block, buffer));
  const uint64_t offset = block * kBlockBytes;
  const auto inside = static_cast<size_t>(std::min(kBlockBytes, size_ - offset));
  return sys::pwrite_all(overlay_->file.get(), std::span(buffer).first(inside), offset,
                         "copy a block to the disk overlay");
}

// The first and the last block of a write, where it covers only a part of them.
Status CowBackend::copy_up_edges(uint64_t offset, uint64_t bytes) {
  const uint64_t end = offset + bytes;
  if (offset % kBlockBytes != 0) {
    RAMET_RETURN_IF_ERROR(copy_up(block_of(offset)));
  }
  const bool same = block_of(end) == block_of(offset) && offset % kBlockBytes != 0;
  if (end % kBlockBytes != 0 && end != size_ && !same) {
    RAMET_RETURN_IF_ERROR(copy_up(block_of(end)));
  }
  return Status();
}

void CowBackend::add_blocks(uint64_t offset, uint64_t bytes) {
  for (uint64_t block = block_of(offset); block <= block_of(offset + bytes - 1); ++block) {
    overlay_->blocks.add(block);
  }
}

Status CowBackend::write(uint64_t offset, uint64_t bytes, virtio::Reader* from) {
  if (bytes == 0) {
    return Status();
  }
  const std::unique_lock lock(mutex_);
  RAMET_ASSIGN_OR_RETURN(const Overlay* overlay, writable_overlay());
  RAMET_RETURN_IF_ERROR(reserve(block_of(offset), block_of(offset + bytes - 1)));
  RAMET_RETURN_IF_ERROR(copy_up_edges(offset, bytes));
  RAMET_RETURN_IF_ERROR(transfer_to_file(overlay->file.get(), offset, bytes, from));
  add_blocks(offset, bytes);
  return Status();
}

Status CowBackend::store_zeroes(uint64_t offset, uint64_t bytes) {
  RAMET_ASSIGN_OR_RETURN(const Overlay* overlay, writable_overlay());
  RAMET_RETURN_IF_ERROR(reserve(block_of(offset), block_of(offset + bytes - 1)));
  RAMET_RETURN_IF_ERROR(copy_up_edges(offset, bytes));
  RAMET_RETURN_IF_ERROR(sys::punch_hole(overlay->file.get(), offset, bytes));
  add_blocks(offset, bytes);
  return Status();
}

// Takes the blocks out of the overlay, so that the disk reads as below there.
Status CowBackend::give_up(uint64_t first_block, uint64_t end_block) {
  if (overlay_ == nullptr || first_block >= end_block) {
    return Status();
  }
  const uint64_t before = overlay_->blocks.count();
  for (uint64_t block = first_block; block < end_block; ++block) {
    overlay_->blocks.remove(block);
  }
  return overlay_->blocks.count() == before
             ? Status()
             : sys::punch_hole(overlay_->file.get(), first_block * kBlockBytes,
                               (end_block - first_block) * kBlockBytes);
}

// The first block that a range ending at `end` does not cover to its end. The disk's last block may
// be a part only.
uint64_t CowBackend::end_of_whole_blocks(uint64_t end) const {
  return end == size_ ? below_->blocks() : block_of(end);
}

Status CowBackend::write_zeroes(uint64_t offset, uint64_t bytes) {
  const std::unique_lock lock(mutex_);
  const uint64_t end = offset + bytes;
  const uint64_t whole_end = end_of_whole_blocks(end);
  while (offset < end) {
    const uint64_t block = block_of(offset);
    const bool whole = offset % kBlockBytes == 0 && block < whole_end;
    const bool zero_below = whole && below_->reads_zero(block);
    uint64_t next = block + 1;
    while (whole && next < whole_end && below_->reads_zero(next) == zero_below) {
      ++next;
    }
    const uint64_t part = std::min(next * kBlockBytes, end) - offset;
    RAMET_RETURN_IF_ERROR(zero_below ? give_up(block, next) : store_zeroes(offset, part));
    offset += part;
  }
  return Status();
}

Status CowBackend::discard(uint64_t offset, uint64_t bytes) {
  const std::unique_lock lock(mutex_);
  return give_up(block_of(offset + kBlockBytes - 1), end_of_whole_blocks(offset + bytes));
}

StatusOr<std::shared_ptr<const LayerStack>> CowBackend::freeze() {
  const std::unique_lock lock(mutex_);
  if (overlay_ == nullptr || overlay_->blocks.count() == 0) {
    return below_;
  }
  // The stack takes a descriptor of its own, so that a failure leaves this disk as it was.
  const sys::Result copy = sys::fcntl(overlay_->file.get(), F_DUPFD_CLOEXEC, 0);
  RAMET_RETURN_IF_ERROR(copy.status("duplicate a disk overlay's descriptor"));
  RAMET_ASSIGN_OR_RETURN(auto layer, DiskFile::adopt(UniqueFd(static_cast<int>(copy.value)),
                                                     "disk overlay", Access::kReadOnly));
  RAMET_ASSIGN_OR_RETURN(below_, below_->with_layer(std::move(layer), overlay_->blocks.runs()));
  overlay_.reset();
  return below_;
}

uint64_t CowBackend::overlay_bytes() const {
  const std::shared_lock lock(mutex_);
  return overlay_ == nullptr ? 0 : overlay_->blocks.count() * kBlockBytes;
}

}  // namespace ramet::block
