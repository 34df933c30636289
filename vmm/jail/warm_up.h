// What the C library does once, and then a filter would refuse.
//
// Thread rule: on a thread that is about to install its filter.
#ifndef RAMET_VMM_JAIL_WARM_UP_H_
#define RAMET_VMM_JAIL_WARM_UP_H_

namespace ramet::jail {

// Gives this thread its malloc arena, for which glibc reads /sys/devices/system/cpu/online at the
// first time in a process (arena_get2), and gives memory of it back, for which it reads
// /proc/sys/vm/overcommit_memory at the first time (shrink_heap). Refused later, these would look
// like a break-out. False where the arena is the main one, which does neither: then another thread
// has to do it. Not for every thread: giving memory back costs a walk over all machines of the
// process, for KVM listens to each change of its address space (docs/adr/0013-growth.md).
bool warm_up_allocator();

// Has this thread's arena grow at once by what some threads need: glibc grows all but the main one
// by a page at a time (sysmalloc), each of them a change of the address space as above.
void make_allocator_room();

}  // namespace ramet::jail

#endif  // RAMET_VMM_JAIL_WARM_UP_H_
