// boot: from the kernel's hand-over to a machine that can run commands: mounts, modules, the root
// file system.
//
// Thread rule: one thread; called once, as process 1.
// Invariant: afterwards the agent's root is the guest's root, with /proc, /sys, /dev and /run in
// it.
#ifndef RAMET_LIB_AGENT_GUEST_BOOT_H_
#define RAMET_LIB_AGENT_GUEST_BOOT_H_

#include <string>
#include <string_view>

namespace ramet::guest {

// On the kernel command line: the initramfs is the root; no disk is waited for.
inline constexpr std::string_view kRootIsInitramfs = "ramet.root=initramfs";
// In the initramfs: one module file a line, in loading order; '?' in front: may fail.
inline constexpr char kModuleList[] = "/ramet/modules";
inline constexpr char kCgroupParent[] = "/sys/fs/cgroup/ramet";

// Empty, or what failed.
std::string boot();
// True when `word` is one of the blank-separated words of `command_line`.
bool has_word(std::string_view command_line, std::string_view word);

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_BOOT_H_
