#include "vmm/memory/memory_image.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"
#include "vmm/memory/mapping.h"

namespace ramet {
namespace {

bool is_zero_page(const std::byte* page) {
  // A page is zero when its first byte is and every byte equals the one before it.
  return page[0] == std::byte{0} && std::memcmp(page, page + 1, kPageSize - 1) == 0;
}

void append_page(std::vector<Extent>* extents, uint64_t offset) {
  if (!extents->empty() && extents->back().offset + extents->back().size == offset) {
    extents->back().size += kPageSize;
  } else {
    extents->push_back({offset, kPageSize});
  }
}

// Extents of the pages that hold something, found inside the file's data ranges; reads no hole.
StatusOr<std::vector<Extent>> scan(int fd, uint64_t size) {
  RAMET_ASSIGN_OR_RETURN(const Mapping view, Mapping::map_file(fd, 0, size, MapMode::kReadOnly));
  std::vector<Extent> extents;
  uint64_t position = 0;
  while (position < size) {
    const sys::Result data = sys::lseek(fd, static_cast<int64_t>(position), SEEK_DATA);
    if (data.error == ENXIO) {
      break;
    }
    RAMET_RETURN_IF_ERROR(data.status("lseek(SEEK_DATA) in guest memory"));
    const sys::Result hole = sys::lseek(fd, data.value, SEEK_HOLE);
    RAMET_RETURN_IF_ERROR(hole.status("lseek(SEEK_HOLE) in guest memory"));
    const uint64_t end = std::min(static_cast<uint64_t>(hole.value), size);
    for (uint64_t at = static_cast<uint64_t>(data.value); at < end; at += kPageSize) {
      if (!is_zero_page(view.data() + at)) {
        append_page(&extents, at);
      }
    }
    position = std::max(end, static_cast<uint64_t>(data.value) + kPageSize);
  }
  return extents;
}

Status punch_between(int fd, uint64_t size, std::span<const Extent> extents) {
  uint64_t position = 0;
  for (const Extent& extent : extents) {
    if (extent.offset > position) {
      RAMET_RETURN_IF_ERROR(sys::punch_hole(fd, position, extent.offset - position));
    }
    position = extent.offset + extent.size;
  }
  return position < size ? sys::punch_hole(fd, position, size - position) : Status();
}

}  // namespace

Status check_extents(uint64_t size, std::span<const Extent> extents) {
  uint64_t end = 0;
  bool first = true;
  for (const Extent& extent : extents) {
    const bool aligned = (extent.offset | extent.size) % kPageSize == 0;
    const bool inside = extent.offset <= size && extent.size <= size - extent.offset;
    const bool apart = first || extent.offset > end;
    if (!aligned || !inside || !apart || extent.size == 0) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "memory extent of %#x bytes at %#x is empty, unaligned, outside the %#x bytes of memory "
          "or touches the extent before it, which ends at %#x",
          extent.size, extent.offset, size, end));
    }
    end = extent.offset + extent.size;
    first = false;
  }
  return Status();
}

StatusOr<std::shared_ptr<const MemoryImage>> MemoryImage::freeze(UniqueFd memfd, uint64_t size) {
  RAMET_ASSIGN_OR_RETURN(std::vector<Extent> extents, scan(memfd.get(), size));
  RAMET_RETURN_IF_ERROR(punch_between(memfd.get(), size, extents));
  RAMET_RETURN_IF_ERROR(seal_memfd(memfd.get()));
  return std::shared_ptr<const MemoryImage>(
      new MemoryImage(std::move(memfd), size, std::move(extents)));
}

StatusOr<std::shared_ptr<const MemoryImage>> MemoryImage::from_extents(
    uint64_t size, std::span<const Extent> extents, const Fill& fill) {
  RAMET_RETURN_IF_ERROR(check_extents(size, extents));
  RAMET_ASSIGN_OR_RETURN(UniqueFd memfd, create_memfd("ramet-template", size));
  for (const Extent& extent : extents) {
    RAMET_ASSIGN_OR_RETURN(const Mapping part, Mapping::map_file(memfd.get(), extent.offset,
                                                                 extent.size, MapMode::kShared));
    RAMET_RETURN_IF_ERROR(fill(extent.offset, {part.data(), extent.size}));
  }
  RAMET_RETURN_IF_ERROR(seal_memfd(memfd.get()));
  return std::shared_ptr<const MemoryImage>(
      new MemoryImage(std::move(memfd), size, {extents.begin(), extents.end()}));
}

uint64_t MemoryImage::stored_bytes() const {
  uint64_t total = 0;
  for (const Extent& extent : extents_) {
    total += extent.size;
  }
  return total;
}

Status MemoryImage::read(uint64_t offset, std::span<std::byte> into) const {
  return sys::pread_exactly(fd(), into, offset, "read template memory");
}

}  // namespace ramet
