// enter_disk_root: the guest's root as an overlay: the image on /dev/vda below, read-only; the
// scratch disk /dev/vdb above, or memory where there is none.
//
// Thread rule: one thread; called once, during boot.
#ifndef RAMET_LIB_AGENT_GUEST_ROOT_MOUNT_H_
#define RAMET_LIB_AGENT_GUEST_ROOT_MOUNT_H_

#include <string>

namespace ramet::guest {

inline constexpr char kRootDisk[] = "/dev/vda";
inline constexpr char kScratchDisk[] = "/dev/vdb";
inline constexpr int kDiskWaitMs = 10'000;

// Mounts the root, moves the kernel's file systems into it and makes it this process's root. Empty,
// or what failed.
std::string enter_disk_root();

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_ROOT_MOUNT_H_
