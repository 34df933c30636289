// The kernel calls of the agent that are ioctls: the one file of the guest program that includes
// <sys/ioctl.h>.
//
// Thread rule: free functions.
#ifndef RAMET_LIB_AGENT_GUEST_KERNEL_H_
#define RAMET_LIB_AGENT_GUEST_KERNEL_H_

#include <cstddef>
#include <span>

namespace ramet::guest {

// Bytes that a pipe holds now; 0 on failure.
size_t readable_bytes(int fd);
// Adds `entropy`, counted in full, to the kernel's pool and makes its generator take a new key from
// it (random(4): RNDADDENTROPY, RNDRESEEDCRNG). 0, or the errno of the step that failed.
int reseed_kernel(std::span<const std::byte> entropy);
// Brings the loopback interface up. 0 or an errno.
int bring_up_loopback();

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_KERNEL_H_
