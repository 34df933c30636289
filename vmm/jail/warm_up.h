// What the C library does once, and then a filter would refuse.
//
// Thread rule: on a thread that is about to install its filter.
#ifndef RAMET_VMM_JAIL_WARM_UP_H_
#define RAMET_VMM_JAIL_WARM_UP_H_

namespace ramet::jail {

// Gives this thread its malloc arena, for which glibc may read /sys/devices/system/cpu/online
// (arena_get2), and gives memory of it back, for which it reads /proc/sys/vm/overcommit_memory at
// the first time in a process (shrink_heap). Refused later, these would look like a break-out.
void warm_up_allocator();

}  // namespace ramet::jail

#endif  // RAMET_VMM_JAIL_WARM_UP_H_
