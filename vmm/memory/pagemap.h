// Pagemap: how much of guest memory is this machine's own and no longer its template's, and what
// else of it is mapped.
//
// Thread rule: open() on a thread that may open files; the rest from any thread, several at once.
// Invariant: a page is its own when it is in memory or swapped out and does not belong to the
// file behind it: what a write made of a copy-on-write page (admin-guide/mm/pagemap.rst, bit 61).
// Needs no privilege: of each page only that is asked, never where it lies.
#ifndef RAMET_VMM_MEMORY_PAGEMAP_H_
#define RAMET_VMM_MEMORY_PAGEMAP_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/working_set.h"

namespace ramet {

// The ioctl PAGEMAP_SCAN, for rows of policies.
inline constexpr uint64_t kPagemapScanRequest = 0xc0606610;

// What of guest memory this machine holds. Page tables are this process's own, by the areas in
// which there is a page (2 MiB of a last-level table, 1 GiB of the next); KVM's are nowhere to be
// seen.
struct MemoryUse {
  uint64_t private_bytes = 0;  // in memory or swapped out
  uint64_t swapped_bytes = 0;  // those of them that are swapped out
  uint64_t shared_bytes = 0;   // pages of the file that are mapped
  uint64_t page_table_bytes = 0;

  uint64_t resident_bytes() const { return private_bytes - swapped_bytes + shared_bytes; }
  friend bool operator==(const MemoryUse&, const MemoryUse&) = default;
};

class Pagemap {
 public:
  // Errors of open(2) of /proc/self/pagemap.
  static StatusOr<std::unique_ptr<Pagemap>> open();

  // kBest has the kernel walk its page tables (PAGEMAP_SCAN, Linux 6.7), and where it cannot, reads
  // the entry of every page. The others are for tests; kScan gives Unimplemented where it cannot.
  // Other machines and the guest itself go on meanwhile.
  enum class Way : uint8_t { kBest, kScan, kRead };
  StatusOr<uint64_t> private_bytes(const GuestMemory& memory, Way way = Way::kBest) const;
  StatusOr<MemoryUse> use(const GuestMemory& memory, Way way = Way::kBest) const;
  // Which pages: its own as written, those of the file that are mapped as read. These are more than
  // were read unless FaultAroundOff lives.
  StatusOr<WorkingSet> touched(const GuestMemory& memory, Way way = Way::kBest) const;

  // Its own pages only, in ascending order; as numbers of the memory file's.
  StatusOr<std::vector<PageRange>> private_pages(const GuestMemory& memory,
                                                 Way way = Way::kBest) const;

  bool can_scan() const { return can_scan_.load(std::memory_order_relaxed); }

 private:
  // Pages of one kind, one after the other.
  struct Run {
    uint64_t start = 0;  // host addresses
    uint64_t end = 0;
    bool is_swapped = false;
    bool is_file = false;
  };
  // What is walked for, region after region.
  class Visitor {
   public:
    virtual ~Visitor() = default;
    // Where only private pages matter, the kernel need not tell of others.
    virtual bool only_private() const { return false; }
    virtual void begin_region(const MemoryRegion& /*region*/, uint64_t /*host_start*/) {}
    virtual void add(const Run& run) = 0;
  };
  class Bytes;
  class Tally;
  class Touched;
  class Private;
  explicit Pagemap(UniqueFd fd) : fd_(std::move(fd)) {}
  Status walk(const GuestMemory& memory, Way way, Visitor* visitor) const;
  Status scan(uint64_t start, uint64_t end, Visitor* visitor) const;
  Status read(uint64_t start, uint64_t end, Visitor* visitor) const;

  const UniqueFd fd_;
  mutable std::atomic<bool> can_scan_{true};
};

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_PAGEMAP_H_
