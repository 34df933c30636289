// find_kernel: a kernel image and its modules in a folder, as "dpkg -x" of a kernel package leaves
// them, or on this host; read_kernel_image: the image's bytes.
//
// Thread rule: free functions, call from anywhere. Nothing is written.
// Invariant: what find_kernel returns belongs together: the modules are of the image's release.
#ifndef RAMET_LIB_IMAGE_KERNEL_FILES_H_
#define RAMET_LIB_IMAGE_KERNEL_FILES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vmm/base/status.h"

namespace ramet {

inline constexpr uint64_t kMaxKernelBytes = uint64_t{256} * 1024 * 1024;

struct KernelFiles {
  std::string image;    // .../boot/vmlinuz-RELEASE
  std::string modules;  // .../lib/modules/RELEASE
  std::string release;  // "6.12.9-cloud-amd64"
};

// `image` empty: the newest boot/vmlinuz-RELEASE below `tree` that has modules (versions compared
// as strverscmp(3) does). `tree` empty: this host, "/"; with an image, first the tree that the
// image lies in. Modules are looked for in lib/modules/RELEASE and usr/lib/modules/RELEASE; the
// release of a named image is what follows "vmlinuz-" in its name, links followed, or else the only
// one that the tree has modules of. NotFound that says where it looked and what to do.
StatusOr<KernelFiles> find_kernel(const std::string& image, const std::string& tree);

// The whole file. NotFound when it is missing, InvalidArgument when it is empty or no regular file,
// ResourceExhausted beyond kMaxKernelBytes.
StatusOr<std::vector<std::byte>> read_kernel_image(const std::string& path);

}  // namespace ramet

#endif  // RAMET_LIB_IMAGE_KERNEL_FILES_H_
