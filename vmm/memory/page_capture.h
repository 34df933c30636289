// PageCapture: a copy of the pages that a machine made its own, taken while it stands still.
//
// Thread rule: one thread; take() while no vCPU runs and no device writes to memory.
// Invariant: the pages of pages() lie one after the other in fd(), each as it was at take(). What
// can be paid for ahead is: the room for as many pages as the machine had before it was stopped.
#ifndef RAMET_VMM_MEMORY_PAGE_CAPTURE_H_
#define RAMET_VMM_MEMORY_PAGE_CAPTURE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/mapping.h"
#include "vmm/memory/pagemap.h"
#include "vmm/memory/working_set.h"

namespace ramet {

class PageCapture {
 public:
  PageCapture() = default;
  // With room for so many bytes, and for more at take()'s expense. ResourceExhausted where the host
  // has not got it.
  static StatusOr<PageCapture> create(uint64_t expected_bytes);
  // Into this file, which is all the room that there is: it is mapped, and neither grown nor
  // written to by a call.
  static StatusOr<PageCapture> create_in(UniqueFd file, uint64_t expected_bytes);
  // What another process's take() left in a file.
  static PageCapture of(UniqueFd file, std::vector<PageRange> pages);

  // ResourceExhausted where there is no room for them all.
  Status take(const Pagemap& pagemap, const GuestMemory& memory);

  int fd() const { return fd_.get(); }
  const std::vector<PageRange>& pages() const { return pages_; }

 private:
  PageCapture(UniqueFd fd, Mapping warm, bool grows)
      : fd_(std::move(fd)), warm_(std::move(warm)), grows_(grows) {}
  // Into what is mapped already: no call, and no fault.
  Status copy_warm(const GuestMemory& memory, std::span<GuestSlice>* slices,
                   uint64_t* position) const;
  // Of a file that does not grow: what the host has no room for is an error, and not a SIGBUS.
  Status make_ready(uint64_t bytes);
  Status copy(const GuestMemory& memory, std::span<GuestSlice> slices, uint64_t* position) const;

  UniqueFd fd_;
  Mapping warm_;  // of the file's beginning
  bool grows_ = true;
  uint64_t ready_ = 0;  // of warm_: where the host has made room
  std::vector<PageRange> pages_;
};

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_PAGE_CAPTURE_H_
