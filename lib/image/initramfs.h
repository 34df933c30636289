// build_initramfs: the archive that a Ramet guest boots from: the agent as /init, the kernel
// modules that it loads, and, where the guest has no disk, the whole root.
//
// Thread rule: free function, call from anywhere.
// Invariant: the same inputs give the same bytes.
#ifndef RAMET_LIB_IMAGE_INITRAMFS_H_
#define RAMET_LIB_IMAGE_INITRAMFS_H_

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/status.h"

namespace ramet {

struct InitramfsSpec {
  // ramet::agent_binary(); an ELF program, run as process 1.
  std::span<const std::byte> agent;
  // KernelFiles::modules; empty for a kernel with everything built in.
  std::string modules_folder;
  // The guest cannot do without these: as modules or built in.
  std::vector<std::string> needed_modules = {"virtio_mmio", "virtio_blk",
                                             "vmw_vsock_virtio_transport", "overlay"};
  // Taken where the kernel has them: one of these reads the root disk, ext4 the scratch disk.
  std::vector<std::string> wanted_modules = {"erofs", "ext4"};
  // A folder to be the guest's root, with "ramet.root=initramfs" on the kernel's command line;
  // empty: the root is on a disk.
  std::string root_tree = {};
};

// Uncompressed newc. InvalidArgument without an agent, NotFound for a missing module or folder,
// DataLoss for a module that is none, ResourceExhausted over kMaxArchiveBytes.
StatusOr<std::vector<std::byte>> build_initramfs(const InitramfsSpec& spec);

}  // namespace ramet

#endif  // RAMET_LIB_IMAGE_INITRAMFS_H_
