// find_kernel: a kernel image and its modules in a folder, as "dpkg -x" of a kernel package leaves
// them, or on this host.
//
// Thread rule: free functions, call from anywhere. Nothing is written.
#ifndef RAMET_LIB_IMAGE_KERNEL_DISCOVERY_H_
#define RAMET_LIB_IMAGE_KERNEL_DISCOVERY_H_

#include <string>

#include "vmm/base/status.h"

namespace ramet {

struct KernelFiles {
  std::string release;         // "6.12.9-cloud-amd64"
  std::string image;           // .../boot/vmlinuz-RELEASE
  std::string modules_folder;  // .../lib/modules/RELEASE; empty where there is none
};

// The newest boot/vmlinuz-RELEASE below `tree` (versions compared as strverscmp(3) does), those
// with modules before those without; its modules in lib/modules or usr/lib/modules. NotFound that
// says where it looked; FailedPrecondition for an image that is empty or cannot be read.
StatusOr<KernelFiles> find_kernel(const std::string& tree);
// The running kernel's files if it has both, else find_kernel("/").
StatusOr<KernelFiles> find_host_kernel();

}  // namespace ramet

#endif  // RAMET_LIB_IMAGE_KERNEL_DISCOVERY_H_
