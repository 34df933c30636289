// GuestMemory: the machine's RAM, reached by checked copies only.
//
// Thread rule: every method may be called from any thread at any time; the guest changes the bytes
// while they are read, so a value is copied out once and the copy is checked. Invariant: no pointer
// or reference into guest memory leaves this class, and no access reaches outside its regions.
#ifndef RAMET_VMM_MEMORY_GUEST_MEMORY_H_
#define RAMET_VMM_MEMORY_GUEST_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/base/syscall.h"
#include "vmm/memory/guest_addr.h"
#include "vmm/memory/mapping.h"
#include "vmm/memory/working_set.h"

namespace ramet {

// One contiguous range of RAM: `size` bytes at guest address `start`, from `file_offset` of the
// memory file.
struct MemoryRegion {
  GuestAddr start;
  uint64_t size = 0;
  uint64_t file_offset = 0;

  friend bool operator==(const MemoryRegion&, const MemoryRegion&) = default;
};

// Of all of them together.
uint64_t total_bytes(std::span<const MemoryRegion> regions);

// What a machine's memory is mapped from: one file, and over some of it others: each part of
// theirs lies where it lies in memory. Descriptors are the caller's.
struct MemoryView {
  // The most parts: each is one more call at a fork, and up to two more of the process's mappings
  // (vm.max_map_count is 65,530 for all forks together) and of the kernel's memory for them.
  static constexpr size_t kMaxParts = 8;

  struct Part {
    uint64_t offset = 0;
    uint64_t size = 0;
    int fd = -1;
  };
  int fd = -1;
  std::vector<Part> parts = {};  // ascending, apart from each other
};

class GuestMemory {
 public:
  // The most buffers one scatter-gather transfer takes (the kernel's IOV_MAX).
  static constexpr size_t kMaxSlices = 1024;

  // Maps the regions (ascending, page-aligned, apart from each other, inside the file) of `fd`.
  static StatusOr<std::unique_ptr<GuestMemory>> create(int fd,
                                                       std::span<const MemoryRegion> regions,
                                                       MapMode mode) {
    return create(MemoryView{.fd = fd}, regions, mode);
  }
  // The same of several files. InvalidArgument for parts that are not as MemoryView says, or reach
  // beyond the end of their file.
  static StatusOr<std::unique_ptr<GuestMemory>> create(const MemoryView& view,
                                                       std::span<const MemoryRegion> regions,
                                                       MapMode mode);

  const std::vector<MemoryRegion>& regions() const { return regions_; }
  uint64_t total_bytes() const { return ramet::total_bytes(regions_); }

  // True when all of `slice` is RAM of one region. An empty slice is contained where its start is.
  bool contains(GuestSlice slice) const { return locate(slice) != nullptr; }

  // Copies out of or into guest memory. OutOfRange, and nothing copied, unless all of it is RAM.
  Status read(GuestAddr from, std::span<std::byte> into) const;
  Status write(GuestAddr to, std::span<const std::byte> from) const;
  Status fill_zero(GuestSlice slice) const;

  template <typename T>
  StatusOr<T> read_object(GuestAddr from) const {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    if (Status status = read(from, std::as_writable_bytes(std::span<T, 1>(&value, 1)));
        !status.ok()) {
      return status;
    }
    return value;
  }
  template <typename T>
  Status write_object(GuestAddr to, const T& value) const {
    static_assert(std::is_trivially_copyable_v<T>);
    return write(to, std::as_bytes(std::span<const T, 1>(&value, 1)));
  }

  // Single accesses that order what is around them (virtio 1.2, 2.7.13: ring indices).
  // InvalidArgument when the address is not a multiple of 2.
  StatusOr<uint16_t> load_acquire_u16(GuestAddr from) const;
  Status store_release_u16(GuestAddr to, uint16_t value) const;

  // One preadv / pwritev between a file and guest memory; may be short, like the calls. At most
  // kMaxSlices slices; error EFAULT unless all of them are RAM.
  sys::Result read_from_file(int fd, uint64_t offset, std::span<const GuestSlice> into) const;
  sys::Result write_to_file(int fd, uint64_t offset, std::span<const GuestSlice> from) const;

  // Where the region with this index begins in this process, as the number
  // KVM_SET_USER_MEMORY_REGION wants.
  uint64_t host_address(size_t region) const;

  // Drops every private page: the memory reads as its file again. Only while no vCPU runs.
  Status drop_private() const;
  // The same of these pages of the file. Pages that it does not have are left out.
  Status drop_private(std::span<const PageRange> pages) const;
  // Writes these pages of the file, whose bytes are `file`, over with them. Pages that it does not
  // have are left out. Only while no vCPU runs.
  void fill_pages(std::span<const PageRange> pages, std::span<const std::byte> file) const;
  // Makes these pages of a copy-on-write view the machine's own, as writes to them would, but all
  // at once. Pages that it does not have are left out.
  Status populate_private(std::span<const PageRange> pages) const;
  // Where these pages of the file lie in the guest. Pages that it does not have are left out.
  std::vector<GuestSlice> slices_of(std::span<const PageRange> pages) const;

 private:
  GuestMemory() = default;
  // Calls `function` with the mapping of each slice and where in it the slice begins.
  Status for_each_mapped(
      std::span<const GuestSlice> slices,
      const std::function<Status(const Mapping&, uint64_t offset, uint64_t size)>& function) const;
  // The host bytes of `slice`; nullptr unless all of it lies in one region.
  std::byte* locate(GuestSlice slice) const;
  StatusOr<std::byte*> locate_or_error(GuestAddr start, uint64_t size, const char* what) const;

  std::vector<MemoryRegion> regions_;
  std::vector<Mapping> mappings_;
};

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_GUEST_MEMORY_H_
