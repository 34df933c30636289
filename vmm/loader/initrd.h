// The initrd: is it one, is it whole, and where in memory does it go.
//
// Thread rule: pure functions.
// Invariant: a placed initrd is page-aligned and lies between the two bounds given.
#ifndef RAMET_VMM_LOADER_INITRD_H_
#define RAMET_VMM_LOADER_INITRD_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/base/status.h"

namespace ramet {

// Checks that Linux will recognise `file`: a newc cpio archive, or a compression format that it
// unpacks. A cpio archive is walked to its trailer: cut short is DataLoss, naming the member. What
// a compressed one holds is not looked at. Anything else is InvalidArgument.
Status check_initrd(std::span<const std::byte> file);

// The highest page-aligned address such that `size` bytes lie in [floor, ceiling);
// ResourceExhausted where they do not fit. `size` 0 is InvalidArgument.
StatusOr<uint64_t> place_initrd(uint64_t size, uint64_t floor, uint64_t ceiling);

}  // namespace ramet

#endif  // RAMET_VMM_LOADER_INITRD_H_
