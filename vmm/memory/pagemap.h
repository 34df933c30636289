// Pagemap: how much of guest memory is this machine's own and no longer its template's.
//
// Thread rule: open() on a thread that may open files; private_bytes() from any thread, several at
// once. Invariant: a page counts when it is in memory or swapped out and does not belong to the
// file behind it: what a write made of a copy-on-write page (admin-guide/mm/pagemap.rst, bit 61).
// Needs no privilege: of each page only that is asked, never where it lies.
#ifndef RAMET_VMM_MEMORY_PAGEMAP_H_
#define RAMET_VMM_MEMORY_PAGEMAP_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"
#include "vmm/memory/guest_memory.h"

namespace ramet {

// The ioctl PAGEMAP_SCAN, for rows of policies.
inline constexpr uint64_t kPagemapScanRequest = 0xc0606610;

class Pagemap {
 public:
  // Errors of open(2) of /proc/self/pagemap.
  static StatusOr<std::unique_ptr<Pagemap>> open();

  // Asks the kernel to walk its page tables (PAGEMAP_SCAN, Linux 6.7); where it cannot, reads the
  // entry of every page. Other machines and the guest itself go on meanwhile.
  StatusOr<uint64_t> private_bytes(const GuestMemory& memory) const;
  // By the one or the other of these ways. For tests; Unimplemented where the kernel has no scan.
  StatusOr<uint64_t> scan(const GuestMemory& memory) const;
  StatusOr<uint64_t> read_entries(const GuestMemory& memory) const;

  bool can_scan() const { return can_scan_.load(std::memory_order_relaxed); }

 private:
  explicit Pagemap(UniqueFd fd) : fd_(std::move(fd)) {}
  StatusOr<uint64_t> scan_range(uint64_t start, uint64_t end) const;
  StatusOr<uint64_t> read_range(uint64_t start, uint64_t end) const;

  const UniqueFd fd_;
  mutable std::atomic<bool> can_scan_{true};
};

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_PAGEMAP_H_
