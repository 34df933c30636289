#include "vmm/memory/memory_image.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"
#include "vmm/memory/page_runs.h"

namespace ramet {
namespace {

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
        append_extent(&extents, {at, kPageSize});
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
  return of_one_file(std::move(memfd), size, std::move(extents));
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
  return of_one_file(std::move(memfd), size, {extents.begin(), extents.end()});
}

uint64_t MemoryImage::stored_bytes() const {
  uint64_t total = 0;
  for (const Extent& extent : extents_) {
    total += extent.size;
  }
  return total;
}

std::shared_ptr<const MemoryImage> MemoryImage::of_one_file(UniqueFd fd, uint64_t size,
                                                            std::vector<Extent> extents) {
  return std::shared_ptr<const MemoryImage>(new MemoryImage(
      {std::make_shared<const UniqueFd>(std::move(fd))}, size, {}, std::move(extents)));
}

MemoryView MemoryImage::view() const {
  MemoryView view = {.fd = fd()};
  for (const LayerPart& part : parts_) {
    view.parts.push_back({part.where.offset, part.where.size, files_[part.layer]->get()});
  }
  return view;
}

StatusOr<std::span<const std::byte>> MemoryImage::bytes() const {
  const std::lock_guard lock(mutex_);
  if (!mapping_) {
    std::vector<MappedPart> parts;
    for (const LayerPart& part : parts_) {
      parts.push_back({.offset = part.where.offset,
                       .size = part.where.size,
                       .fd = files_[part.layer]->get(),
                       .file_offset = part.where.offset});
    }
    RAMET_ASSIGN_OR_RETURN(mapping_, Mapping::map_files(fd(), 0, size_, parts, MapMode::kReadOnly));
  }
  return std::span<const std::byte>(mapping_->data(), mapping_->size());
}

Status MemoryImage::read(uint64_t offset, std::span<std::byte> into) const {
  const auto read_file = [&](size_t file, uint64_t end) -> Status {
    const auto bytes = into.first(std::min<uint64_t>(end - offset, into.size()));
    into = into.subspan(bytes.size());
    const uint64_t at = offset;
    offset += bytes.size();
    return bytes.empty()
               ? Status()
               : sys::pread_exactly(files_[file]->get(), bytes, at, "read template memory");
  };
  for (const LayerPart& part : parts_) {
    if (part.where.end() > offset) {
      RAMET_RETURN_IF_ERROR(read_file(0, std::max(part.where.offset, offset)));
      RAMET_RETURN_IF_ERROR(read_file(part.layer, part.where.end()));
    }
  }
  return read_file(0, offset + into.size());
}

}  // namespace ramet
