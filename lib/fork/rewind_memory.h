// rewind_memory: a used machine's memory becomes the template's again, and what its next run
// touches stays where it is.
//
// Thread rule: one caller for a machine of which nothing runs: no vCPU, no device.
// Invariant: afterwards every page reads as the template's. A page that stays private was written
// over with the template's bytes: making it anew costs many times as much (docs/adr/0011).
#ifndef RAMET_LIB_FORK_REWIND_MEMORY_H_
#define RAMET_LIB_FORK_REWIND_MEMORY_H_

#include "vmm/base/status.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/memory_image.h"
#include "vmm/memory/pagemap.h"
#include "vmm/memory/working_set.h"

namespace ramet {

// For Machine::prefetch(): what of set.written has no copy, and what of set.read was unmapped by
// this. What the last run never read of it stays for the guest's faults: to look for it costs as
// much as the rest. After an error some pages may still be the last run's.
StatusOr<WorkingSet> rewind_memory(const GuestMemory& memory, const MemoryImage& image,
                                   const WorkingSet& set, const Pagemap& pagemap);

}  // namespace ramet

#endif  // RAMET_LIB_FORK_REWIND_MEMORY_H_
