#include "vmm/memory/guest_memory.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include <absl/strings/str_format.h>

#include "vmm/memory/guest_access.h"

namespace ramet {
namespace {

// A page of a mapping that lies beyond the end of its file is a SIGBUS at the first touch, so the
// file's size bounds every region.
Status check_regions(std::span<const MemoryRegion> regions, uint64_t file_bytes) {
  uint64_t end = 0;
  for (const MemoryRegion& region : regions) {
    const auto slice = GuestSlice::make(region.start, region.size);
    const bool aligned = (region.start.value | region.size | region.file_offset) % kPageSize == 0;
    if (!slice || region.size == 0 || !aligned || region.start.value < end) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "memory region of %#x bytes at %#x (file offset %#x) is empty, unaligned, wraps or "
          "overlaps the one before it, which ends at %#x",
          region.size, region.start.value, region.file_offset, end));
    }
    if (region.size > file_bytes || region.file_offset > file_bytes - region.size) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "memory region of %#x bytes at %#x starts at %#x of a memory file of %#x bytes",
          region.size, region.start.value, region.file_offset, file_bytes));
    }
    end = region.start.value + region.size;
  }
  return regions.empty() ? absl::InvalidArgumentError("a machine needs at least one memory region")
                         : Status();
}

Status check_parts(const MemoryView& view) {
  if (view.parts.size() > MemoryView::kMaxParts) {
    return absl::InvalidArgumentError(absl::StrFormat("memory of %d parts, at most %d",
                                                      view.parts.size(), MemoryView::kMaxParts));
  }
  uint64_t end = 0;
  for (const MemoryView::Part& part : view.parts) {
    RAMET_ASSIGN_OR_RETURN(const uint64_t bytes, sys::file_size(part.fd, "fstat of a memory file"));
    if ((part.offset | part.size) % kPageSize != 0 || part.size == 0 || part.offset < end ||
        part.offset > bytes || part.size > bytes - part.offset) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "memory part of %#x bytes at %#x is empty, unaligned, overlaps the one before it, which "
          "ends at %#x, or reaches beyond its file's %#x bytes",
          part.size, part.offset, end, bytes));
    }
    end = part.offset + part.size;
  }
  return Status();
}

// What of the parts lies in this region.
std::vector<MappedPart> parts_in(const MemoryView& view, const MemoryRegion& region) {
  std::vector<MappedPart> parts;
  for (const MemoryView::Part& part : view.parts) {
    const uint64_t first = std::max(part.offset, region.file_offset);
    const uint64_t end = std::min(part.offset + part.size, region.file_offset + region.size);
    if (first < end) {
      parts.push_back({.offset = first - region.file_offset,
                       .size = end - first,
                       .fd = part.fd,
                       .file_offset = first});
    }
  }
  return parts;
}

}  // namespace

StatusOr<std::unique_ptr<GuestMemory>> GuestMemory::create(const MemoryView& view,
                                                           std::span<const MemoryRegion> regions,
                                                           MapMode mode) {
  RAMET_ASSIGN_OR_RETURN(const uint64_t file_bytes,
                         sys::file_size(view.fd, "fstat of a memory file"));
  RAMET_RETURN_IF_ERROR(check_regions(regions, file_bytes));
  RAMET_RETURN_IF_ERROR(check_parts(view));
  std::unique_ptr<GuestMemory> memory(new GuestMemory());
  for (const MemoryRegion& region : regions) {
    RAMET_ASSIGN_OR_RETURN(
        Mapping mapping,
        Mapping::map_files(view.fd, region.file_offset, region.size, parts_in(view, region), mode));
    memory->mappings_.push_back(std::move(mapping));
    memory->regions_.push_back(region);
  }
  return memory;
}

uint64_t total_bytes(std::span<const MemoryRegion> regions) {
  uint64_t total = 0;
  for (const MemoryRegion& region : regions) {
    total += region.size;
  }
  return total;
}

std::byte* GuestMemory::locate(GuestSlice slice) const {
  for (size_t i = 0; i < regions_.size(); ++i) {
    const MemoryRegion& region = regions_[i];
    if (slice.start < region.start) {
      continue;
    }
    const uint64_t offset = slice.start.value - region.start.value;
    if (offset < region.size && slice.size <= region.size - offset) {
      return mappings_[i].data() + offset;
    }
  }
  return nullptr;
}

StatusOr<std::byte*> GuestMemory::locate_or_error(GuestAddr start, uint64_t size,
                                                  const char* what) const {
  std::byte* host = locate(GuestSlice{start, size});
  if (host == nullptr) {
    return absl::OutOfRangeError(
        absl::StrFormat("%s %d bytes at guest address %#x: not RAM", what, size, start.value));
  }
  return host;
}

Status GuestMemory::read(GuestAddr from, std::span<std::byte> into) const {
  RAMET_ASSIGN_OR_RETURN(const std::byte* host, locate_or_error(from, into.size(), "read"));
  if (into.empty()) {
    return Status();  // an empty span may have no address, which memcpy must not be given
  }
  const GuestAccess access;
  std::memcpy(into.data(), host, into.size());
  // The guest may write these bytes at this moment; the barrier keeps the compiler from reading
  // them a second time in place of the copy.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return Status();
}

Status GuestMemory::write(GuestAddr to, std::span<const std::byte> from) const {
  RAMET_ASSIGN_OR_RETURN(std::byte * host, locate_or_error(to, from.size(), "write"));
  const GuestAccess access;
  if (!from.empty()) {
    std::memcpy(host, from.data(), from.size());
  }
  return Status();
}

Status GuestMemory::fill_zero(GuestSlice slice) const {
  RAMET_ASSIGN_OR_RETURN(std::byte * host, locate_or_error(slice.start, slice.size, "zero"));
  const GuestAccess access;
  std::memset(host, 0, slice.size);
  return Status();
}

StatusOr<uint16_t> GuestMemory::load_acquire_u16(GuestAddr from) const {
  if (from.value % sizeof(uint16_t) != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("16-bit load at odd guest address %#x", from.value));
  }
  RAMET_ASSIGN_OR_RETURN(std::byte * host, locate_or_error(from, sizeof(uint16_t), "read"));
  return std::atomic_ref<uint16_t>(*reinterpret_cast<uint16_t*>(host))
      .load(std::memory_order_acquire);
}

Status GuestMemory::store_release_u16(GuestAddr to, uint16_t value) const {
  if (to.value % sizeof(uint16_t) != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("16-bit store at odd guest address %#x", to.value));
  }
  RAMET_ASSIGN_OR_RETURN(std::byte * host, locate_or_error(to, sizeof(uint16_t), "write"));
  std::atomic_ref<uint16_t>(*reinterpret_cast<uint16_t*>(host))
      .store(value, std::memory_order_release);
  return Status();
}

namespace {

template <typename Locate, typename Transfer>
sys::Result scatter_gather(std::span<const GuestSlice> slices, Locate locate, Transfer transfer) {
  std::array<iovec, GuestMemory::kMaxSlices> parts;
  if (slices.size() > parts.size()) {
    return {-1, EINVAL};
  }
  for (size_t i = 0; i < slices.size(); ++i) {
    std::byte* host = locate(slices[i]);
    if (host == nullptr) {
      return {-1, EFAULT};
    }
    parts[i] = iovec{host, slices[i].size};
  }
  const GuestAccess access;
  return transfer(std::span<const iovec>(parts.data(), slices.size()));
}

}  // namespace

sys::Result GuestMemory::read_from_file(int fd, uint64_t offset,
                                        std::span<const GuestSlice> into) const {
  return scatter_gather(
      into, [&](GuestSlice slice) { return locate(slice); },
      [&](std::span<const iovec> parts) { return sys::preadv(fd, parts, offset); });
}

sys::Result GuestMemory::write_to_file(int fd, uint64_t offset,
                                       std::span<const GuestSlice> from) const {
  return scatter_gather(
      from, [&](GuestSlice slice) { return locate(slice); },
      [&](std::span<const iovec> parts) { return sys::pwritev(fd, parts, offset); });
}

uint64_t GuestMemory::host_address(size_t region) const {
  return reinterpret_cast<uint64_t>(mappings_.at(region).data());
}

std::vector<GuestSlice> GuestMemory::slices_of(std::span<const PageRange> pages) const {
  std::vector<GuestSlice> slices;
  for (const MemoryRegion& region : regions_) {
    const uint64_t region_first = region.file_offset / kPageSize;
    const uint64_t region_end = region_first + region.size / kPageSize;
    for (const PageRange& range : pages) {
      const uint64_t first = std::max(range.first, region_first);
      const uint64_t end = std::min(range.first + range.count, region_end);
      if (first < end) {
        const uint64_t offset = (first - region_first) * kPageSize;
        slices.push_back({{region.start.value + offset}, (end - first) * kPageSize});
      }
    }
  }
  return slices;
}

Status GuestMemory::for_each_mapped(
    std::span<const GuestSlice> slices,
    const std::function<Status(const Mapping&, uint64_t, uint64_t)>& function) const {
  for (const GuestSlice& slice : slices) {
    for (size_t i = 0; i < regions_.size(); ++i) {
      const MemoryRegion& region = regions_[i];
      if (slice.start >= region.start && slice.start.value - region.start.value < region.size) {
        RAMET_RETURN_IF_ERROR(
            function(mappings_[i], slice.start.value - region.start.value, slice.size));
      }
    }
  }
  return Status();
}

Status GuestMemory::populate_private(std::span<const PageRange> pages) const {
  return for_each_mapped(slices_of(pages),
                         [](const Mapping& mapping, uint64_t offset, uint64_t size) {
                           return mapping.populate_private(offset, size);
                         });
}

Status GuestMemory::drop_private(std::span<const PageRange> pages) const {
  return for_each_mapped(slices_of(pages),
                         [](const Mapping& mapping, uint64_t offset, uint64_t size) {
                           return mapping.drop_private(offset, size);
                         });
}

void GuestMemory::fill_pages(std::span<const PageRange> pages,
                             std::span<const std::byte> file) const {
  for (size_t i = 0; i < regions_.size(); ++i) {
    const uint64_t start = regions_[i].file_offset;
    const uint64_t end = std::min(start + regions_[i].size, file.size());
    for (const PageRange& range : pages) {
      const uint64_t first = std::max(range.first * kPageSize, start);
      const uint64_t last = std::min((range.first + range.count) * kPageSize, end);
      if (first < last) {
        const GuestAccess access;
        std::memcpy(mappings_[i].data() + (first - start), file.data() + first, last - first);
      }
    }
  }
}

Status GuestMemory::drop_private() const {
  for (const Mapping& mapping : mappings_) {
    RAMET_RETURN_IF_ERROR(mapping.drop_private(0, mapping.size()));
  }
  return Status();
}

}  // namespace ramet
