// FaultAroundOff: while it lives, a read of guest memory maps the page that is read and not its
// neighbours too, so that what was read can be told from what lies beside it.
//
// Thread rule: one thread; not for memory that a machine uses meanwhile from another process.
// Invariant: nothing is ever reported: the memory is registered with a userfaultfd for write
// protection (userfaultfd(2), UFFDIO_REGISTER_MODE_WP) of which no page is under any, and the
// kernel maps around a fault only where no such watch is kept (uffd_disable_fault_around(),
// include/linux/userfaultfd_k.h). Needs Linux 5.19 and no privilege.
#ifndef RAMET_VMM_MEMORY_FAULT_AROUND_H_
#define RAMET_VMM_MEMORY_FAULT_AROUND_H_

#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"
#include "vmm/memory/guest_memory.h"

namespace ramet {

class FaultAroundOff {
 public:
  // Unimplemented, or what else the kernel said, where it cannot be had.
  static StatusOr<FaultAroundOff> create(const GuestMemory& memory);

 private:
  explicit FaultAroundOff(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_FAULT_AROUND_H_
