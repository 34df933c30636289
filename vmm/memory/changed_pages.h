// count_changed: how many pages of a machine's memory no longer read as its template's.
//
// Thread rule: from any thread; the guest may run meanwhile, and the count is then of no one
// moment. Invariant: only looks.
#ifndef RAMET_VMM_MEMORY_CHANGED_PAGES_H_
#define RAMET_VMM_MEMORY_CHANGED_PAGES_H_

#include <cstdint>
#include <span>

#include "vmm/base/status.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/memory_image.h"
#include "vmm/memory/working_set.h"

namespace ramet {

// Of `pages` of the image; those that the memory does not have do not count.
StatusOr<uint64_t> count_changed(const GuestMemory& memory, const MemoryImage& image,
                                 std::span<const PageRange> pages);

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_CHANGED_PAGES_H_
